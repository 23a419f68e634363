"""Gradients at points where a chain rule of textbooks makes NaN: kinks, poles behind `where`, zeros
of products, rows of infinities. Each has its expected value, in float32 and float64; and second
derivatives must not be NaN either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array

INF = float("inf")


@dataclass(frozen=True)
class Point:
    """A function of one array, where it is differentiated, and the gradient of its sum."""

    function: Callable[[Any], Any]
    at: Any
    gradient: Any
    twice: bool = True  # whether a second derivative exists, finite or not


def _second(f: Callable[[Any, Any], Any], first: float) -> Callable[[Any], Any]:
    return lambda x: f(graphc.astype(x * 0 + first, x.dtype), x)


POINTS: dict[str, Point] = {
    "where, log of a negative number": Point(
        lambda x: graphc.where(x > 0, graphc.log(x), 0.0), [-1.0, 0.0, 2.0], [0, 0, 0.5]),
    "where, sqrt at 0": Point(
        lambda x: graphc.where(x > 0, graphc.sqrt(x), 0.0), [-1.0, 0.0, 4.0], [0, 0, 0.25]),
    "where, 0 / 0": Point(
        lambda x: graphc.where(x == 0, 1.0, graphc.sin(x) / x), [0.0], [0]),
    "where, overflow": Point(
        lambda x: graphc.where(x < 10, graphc.exp(x), 0.0), [0.0, 1e4], [1, 0]),
    "where, twice": Point(
        lambda x: graphc.where(x > 0, graphc.where(x > 1, graphc.log(x - 1), x), 0.0),
        [-1.0, 0.5, 3.0], [0, 1, 0.5]),
    "norm at 0": Point(lambda x: graphc.linalg.vector_norm(x), [0.0, 0.0], [0, 0]),
    "norm at 0, naive": Point(lambda x: graphc.sqrt(graphc.sum(x * x)), [0.0, 0.0], [0, 0]),
    "x / norm(x) at 0": Point(
        lambda x: x / graphc.maximum(graphc.linalg.vector_norm(x), 1e-3), [0.0, 0.0], [1e3, 1e3]),
    "cosine similarity at 0": Point(
        lambda x: graphc.nn.cosine_similarity(x, np.ones((1, 2), np.float32)),
        [[0.0, 0.0]], [[0, 0]]),
    "abs at 0": Point(lambda x: graphc.abs(x), [-2.0, 0.0, 2.0], [-1, 0, 1]),
    "sqrt(x ** 2) at 0": Point(lambda x: graphc.sqrt(x**2), [-2.0, 0.0, 2.0], [-1, 0, 1]),
    "max, ties": Point(lambda x: graphc.max(x), [3.0, 3.0, 1.0], [0.5, 0.5, 0]),
    "maximum, ties": Point(lambda x: graphc.maximum(x, 1.0), [1.0, 2.0], [0.5, 1]),
    "relu at 0": Point(lambda x: graphc.nn.relu(x), [-1.0, 0.0, 1.0], [0, 0, 1]),
    "0 ** 2": Point(lambda x: x**2, [0.0], [0]),
    "0 ** 3": Point(lambda x: graphc.pow(x, 3.0), [0.0, -1.0], [0, 3]),
    "0 ** 1": Point(lambda x: graphc.pow(x, 1.0), [0.0], [1]),
    "x ** 0 at 0": Point(lambda x: graphc.pow(x, 0.0), [0.0, 2.0], [0, 0]),
    "0 ** y": Point(_second(graphc.pow, 0.0), [2.0, 1.0, 0.5], [0, 0, 0]),
    "x ** x": Point(lambda x: graphc.pow(x, x), [1.0, 2.0], [1, 4 * (1 + np.log(2))]),
    "x ** 0.5 at 0 behind where": Point(
        lambda x: graphc.where(x > 0, x**0.5, 0.0), [0.0, 4.0], [0, 0.25]),
    "hypot(0, 0)": Point(lambda x: graphc.hypot(x, x * 0), [0.0, 3.0], [0, 1]),
    "atan2(0, 0)": Point(lambda x: graphc.atan2(x, x * 0), [0.0], [0]),
    "prod with one zero": Point(lambda x: graphc.prod(x), [2.0, 0.0, 3.0], [0, 6, 0]),
    "prod with two zeros": Point(lambda x: graphc.prod(x), [2.0, 0.0, 0.0], [0, 0, 0]),
    "cumulative prod with zeros": Point(
        lambda x: graphc.cumulative_prod(x, axis=0), [2.0, 0.0, 3.0], [1, 2 + 2 * 3, 0]),
    "std of constants": Point(lambda x: graphc.std(x), [3.0, 3.0, 3.0], [0, 0, 0], twice=False),
    "var of constants": Point(lambda x: graphc.var(x), [3.0, 3.0, 3.0], [0, 0, 0]),
    "log_softmax, one class wins": Point(
        lambda x: graphc.nn.log_softmax(x)[:, 0], [[1e4, -1e4], [-1e4, 1e4]], [[0, 0], [1, -1]]),
    "softmax with masks": Point(
        lambda x: graphc.nn.softmax(x)[:, 0], [[1.0, -INF], [-INF, 0.0]], [[0, 0], [0, 0]]),
    "logsumexp of nothing but -inf": Point(
        lambda x: graphc.logsumexp(x, axis=1), [[-INF, -INF], [0.0, 0.0]], [[0, 0], [0.5, 0.5]]),
    "logsumexp over two axes": Point(
        lambda x: graphc.logsumexp(x), [[1e4, 1e4], [-INF, -1e4]], [[0.5, 0.5], [0, 0]]),
    "logaddexp(-inf, -inf)": Point(lambda x: graphc.logaddexp(x, -INF), [-INF, 1.0], [0.5, 1]),
    "cross entropy at ±1e4": Point(
        lambda x: graphc.nn.softmax_cross_entropy(x, np.array([0, 1])),
        [[1e4, -1e4], [1e4, -1e4]], [[0, 0], [1, -1]]),
    "binary cross entropy at ±1e4": Point(
        lambda x: graphc.nn.binary_cross_entropy_with_logits(x, np.float32([1, 1, 0])),
        [1e4, -1e4, 1e4], [0, -1, 1]),
    "attention that may see nothing": Point(
        lambda x: graphc.nn.scaled_dot_product_attention(
            x, x, x, mask=np.array([[False, False], [True, False]])),
        [[1.0, 2.0], [3.0, 4.0]], [[1, 1], [0, 0]]),
    "layer norm of a constant row": Point(
        lambda x: graphc.nn.layer_norm(x), [[5.0, 5.0, 5.0]], [[0, 0, 0]]),
    "kl divergence with a zero": Point(
        lambda x: graphc.nn.kl_divergence(np.array([[-1.0, -2.0]], np.float32), x),
        [[1.0, 0.0]], [[2, 0]]),
    "clip at its limits": Point(lambda x: graphc.clip(x, -1.0, 1.0), [-2.0, 0.5, 2.0], [0, 1, 0]),
    "sigmoid, tanh, softplus at ±1e4": Point(
        lambda x: graphc.nn.sigmoid(x) + graphc.tanh(x) + graphc.nn.softplus(x),
        [-1e4, 1e4], [0, 1]),
    "gelu, silu, elu, mish at ±1e4": Point(
        lambda x: graphc.nn.gelu(x) + graphc.nn.silu(x) + graphc.nn.elu(x) + graphc.nn.mish(x),
        [-1e4, 1e4], [0, 4]),
}  # fmt: skip


def derivatives(point: Point, dtype: str, numerics: str) -> tuple[Array, Array]:
    """The gradient of the sum of the function, and the gradient of a weighted sum of that."""
    array = np.asarray(point.at, dtype)
    x = graphc.placeholder(array.shape, dtype, name="x")
    first = graphc.grad(graphc.sum(point.function(x)), x)
    weights = np.arange(1, array.size + 1, dtype=dtype).reshape(array.shape)
    second = graphc.grad(graphc.sum(first * weights), x, allow_unused=True)
    with graphc.Session(numerics=numerics, threads=1) as session:
        a, b = session.run([first, second], {x: array})
    return a, b


@pytest.mark.parametrize("numerics", ["exact", "standard", "fast"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", POINTS)
def test_gradient(name: str, dtype: str, numerics: str) -> None:
    point = POINTS[name]
    first, second = derivatives(point, dtype, numerics)
    epsilon = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(
        first, np.asarray(point.gradient, dtype), rtol=8 * epsilon, atol=8 * epsilon
    )
    assert not (point.twice and np.isnan(second).any()), second


def test_sqrt_at_zero_is_infinite_as_documented() -> None:
    assert "derivative is infinite" in (graphc.sqrt.__doc__ or "")
    for function in (graphc.sqrt, lambda x: x**0.5):
        (first, _) = derivatives(Point(function, [0.0, 4.0], None), "float64", "standard")
        np.testing.assert_array_equal(first, [INF, 0.25])
