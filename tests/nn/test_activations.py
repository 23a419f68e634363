"""Activations against their formulas, at extreme inputs, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import graphc
from graphc import nn
from tests.nn.evaluation import check_gradients, evaluate, gradients

mpmath.mp.dps = 100


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def _tanh_gelu(x: Any) -> Any:
    return (
        x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)))
    )


def _elu(x: Any, alpha: Any = 1) -> Any:
    return x if x > 0 else alpha * mpmath.expm1(x)


ALPHA, SCALE = nn.activations.SELU_ALPHA, nn.activations.SELU_SCALE
FORMULAS: dict[str, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "relu": (nn.relu, lambda x: max(x, 0)),
    "relu6": (nn.relu6, lambda x: min(max(x, 0), 6)),
    "leaky_relu": (nn.leaky_relu, lambda x: x if x > 0 else x * mpmath.mpf(0.01)),
    "elu": (nn.elu, _elu),
    "selu": (nn.selu, lambda x: SCALE * _elu(x, ALPHA)),
    "celu": (lambda x: nn.celu(x, 2.0), lambda x: x if x > 0 else 2 * mpmath.expm1(x / 2)),
    "gelu": (nn.gelu, lambda x: x / 2 * mpmath.erfc(-x / mpmath.sqrt(2))),
    "gelu tanh": (lambda x: nn.gelu(x, "tanh"), _tanh_gelu),
    "silu": (nn.silu, lambda x: x * _sigmoid(x)),
    "mish": (nn.mish, lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x)))),
    "hard_sigmoid": (nn.hard_sigmoid, lambda x: min(max(x / 6 + 0.5, 0), 1)),
    "hard_swish": (nn.hard_swish, lambda x: x * min(max(x / 6 + 0.5, 0), 1)),
    "hard_tanh": (nn.hard_tanh, lambda x: min(max(x, -1), 1)),
    "softsign": (nn.softsign, lambda x: x / (1 + abs(x))),
    "softplus": (nn.softplus, lambda x: mpmath.log1p(mpmath.exp(x)) if x < 500 else x),
    "sigmoid": (nn.sigmoid, _sigmoid),
    "tanh": (nn.tanh, mpmath.tanh),
    "log_sigmoid": (nn.log_sigmoid, lambda x: -mpmath.log1p(mpmath.exp(-x)) if x > -500 else x),
}
POINTS = np.array(
    [-700.0, -37.0, -10.0, -3.5, -1.0, -1e-3, 1e-9, 0.2, 0.9, 2.5, 5.0, 9.0, 40.0, 700.0]
)


@pytest.mark.parametrize("name", FORMULAS)
def test_values(name: str) -> None:
    ours, truth = FORMULAS[name]
    expected = np.array([float(truth(mpmath.mpf(float(p)))) for p in POINTS])
    np.testing.assert_allclose(evaluate(ours, POINTS), expected, rtol=4e-14, atol=1e-300)


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients(name: str) -> None:
    check_gradients(FORMULAS[name][0], np.array([-3.4, -1.3, -0.4, 0.3, 0.7, 1.6, 4.1, 7.0]))


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_are_finite_at_extremes(name: str, dtype: str) -> None:
    points = np.array([-1e4, -200.0, -90.0, 0.0, 90.0, 200.0, 1e4], dtype)
    (found,) = gradients(FORMULAS[name][0], points)
    assert np.all(np.isfinite(found)), found


def test_relu_keeps_nan_and_has_no_gradient_at_zero() -> None:
    x = np.array([np.nan, 0.0, -0.0, 1.0])
    np.testing.assert_array_equal(evaluate(nn.relu, x), [np.nan, 0, 0, 1])
    (found,) = gradients(nn.relu, x)
    assert found[1] == found[2] == 0.0


def test_glu() -> None:
    x = np.random.default_rng(0).normal(size=(3, 6))
    expected = x[:, :3] / (1 + np.exp(-x[:, 3:]))
    np.testing.assert_allclose(evaluate(nn.glu, x), expected, rtol=1e-12)
    with pytest.raises(graphc.ShapeError, match="does not split into halves"):
        nn.glu(np.zeros((2, 5)))


def test_integers_give_floats_and_dtypes_stay() -> None:
    assert nn.gelu(np.arange(3)).dtype == graphc.float64
    assert nn.relu(np.arange(3, dtype=np.int8)).dtype == graphc.int8
    for dtype in ("float16", "bfloat16", "float32"):
        x = graphc.placeholder((3,), dtype)
        for ours, _ in FORMULAS.values():
            assert ours(x).dtype == x.dtype


def test_selu_constants() -> None:
    assert math.isclose(ALPHA * SCALE, 1.7580993408473766)
