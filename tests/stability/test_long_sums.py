"""Sums too long for exact arithmetic in Python: against NumPy in float64, gradients included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array


def run(function: Callable[[Any], Any], array: Array) -> Array:
    """The value of a compiled function of one array."""
    x = graphc.placeholder(array.shape, array.dtype, name="x")
    with graphc.Session() as session:
        return np.asarray(session.run(function(x), {x: array}))


@pytest.mark.parametrize("offset", [0.1, 1000.0])
def test_mean_and_sum_of_ten_million_float32(offset: float) -> None:
    x = np.random.default_rng(0).normal(offset, 0.1, 10_000_000).astype(np.float32)
    true = x.mean(dtype=np.float64)
    # 4 roundings of the mean magnitude; a naive float32 sum is off by thousands of them.
    bound = 4 * np.finfo(np.float32).eps * np.abs(x).mean(dtype=np.float64)
    assert abs(run(graphc.mean, x) - true) <= bound
    assert abs(run(graphc.sum, x) / x.size - true) <= bound


def test_variance_of_a_million_float32_far_from_zero() -> None:
    x = np.random.default_rng(0).normal(1e4, 1.0, 1_000_000).astype(np.float32)
    true = x.var(dtype=np.float64)
    for function in (graphc.var, lambda x: graphc.mean(x * x) - graphc.mean(x) ** 2):
        assert abs(run(function, x) - true) <= 8 * np.finfo(np.float32).eps * true


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_mean_near_the_largest_number(dtype: str) -> None:
    # The sum of float16 is beyond its range; its mean is not.
    top = 60000.0 if dtype == "float16" else 3e33
    x = np.full(5000, top, dtype)
    assert run(graphc.mean, x) == pytest.approx(float(x[0]), rel=float(np.finfo(dtype).eps))


def test_mean_of_many_float16() -> None:
    x = np.random.default_rng(0).uniform(0, 1, 100_000).astype(np.float16)
    true = x.mean(dtype=np.float64)
    assert abs(run(graphc.mean, x) - true) <= np.finfo(np.float16).eps * true
    y = graphc.placeholder(x.shape, "float16", name="y")
    with graphc.Session() as session:
        g = session.run(graphc.grad(graphc.mean(y), y), {y: x})
    np.testing.assert_allclose(g, 1e-5, rtol=0.01)
