"""Values and gradients of compositions, by the reference evaluator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphc
from graphc.base.dtypes import Array
from graphc.ir.node import Tensor


def evaluate(function: Callable[..., Tensor], *arrays: Array) -> Array:
    """The value of a function of placeholders at arrays."""
    inputs = [graphc.placeholder(a.shape, a.dtype) for a in arrays]
    graph = graphc.Graph(inputs, {"out": function(*inputs)})
    return graph.evaluate(dict(zip(inputs, arrays, strict=True)))["out"]


def gradients(function: Callable[..., Tensor], *arrays: Array) -> list[Array]:
    """The gradients of the weighted sum of a function's elements by its float arguments."""
    inputs = [graphc.placeholder(a.shape, a.dtype) for a in arrays]
    out = function(*inputs)
    floats = [x for x in inputs if x.dtype.is_float]
    found = graphc.grad(weighted(out), floats, allow_unused=True)
    graph = graphc.Graph(inputs, {f"g{k}": g for k, g in enumerate(found)})
    values = graph.evaluate(dict(zip(inputs, arrays, strict=True)))
    return [values[f"g{k}"] for k in range(len(floats))]


def weighted(out: Tensor) -> Tensor:
    """A scalar in which each element counts differently."""
    shape = tuple(int(n) for n in out.shape)
    return graphc.sum(out * np.random.default_rng(1).uniform(0.5, 1.5, shape))


def check_gradients(function: Callable[..., Tensor], *arrays: Array, step: float = 1e-5) -> None:
    """Gradients against central differences in float64."""
    inputs = [graphc.placeholder(a.shape, a.dtype) for a in arrays]
    cost = graphc.Graph(inputs, {"cost": weighted(function(*inputs))})

    def value(moved: list[Array]) -> float:
        return float(cost.evaluate(dict(zip(inputs, moved, strict=True)))["cost"])

    found = iter(gradients(function, *arrays))
    for k, array in enumerate(arrays):
        if array.dtype.kind != "f":
            continue
        expected = np.zeros(array.shape)
        for place in np.ndindex(array.shape):
            sides: list[Any] = []
            for sign in (step, -step):
                moved = [a.copy() for a in arrays]
                moved[k][place] += sign
                sides.append(value(moved))
            expected[place] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(next(found), expected, rtol=2e-6, atol=2e-7)
