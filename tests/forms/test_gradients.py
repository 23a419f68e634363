"""Gradients of every op that has one, first and second order, against central differences in
float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphc
import graphc.nn
from graphc.base.dtypes import Array, float64
from graphc.ir.node import Tensor
from graphc.ir.opdef import REGISTRY, OpDef, Sample
from graphc.ops.families import Composite, Contraction, Map, Opaque, Reduction, Reshape
from tests.forms.test_forms import declared

FAMILIES = (Composite, Contraction, Map, Opaque, Reduction, Reshape)
DIFFERENTIABLE = [
    op for op in REGISTRY if op.gradient and isinstance(op.form, FAMILIES) and float64 in op.dtypes
]
MOST_ELEMENTS = 48
STEP = 1e-5
# Elements that tie have no derivative there.
NO_TIES = {"sort", "max", "min", "cumulative_max", "cumulative_min"}


def usable(sample: Sample) -> bool:
    """Small, not empty, everything finite."""
    arrays = [np.asarray(x) for x in sample.inputs]
    return 0 < sum(a.size for a in arrays) <= MOST_ELEMENTS and all(
        np.all(np.isfinite(a)) for a in arrays
    )


def differences(value: Callable[[list[Array]], float], arrays: list[Array], which: int) -> Array:
    """Central differences of a scalar by the elements of one array."""
    result = np.zeros(arrays[which].shape)
    for place in np.ndindex(result.shape):
        sides = []
        for step in (STEP, -STEP):
            moved = [a.copy() for a in arrays]
            moved[which][place] += step
            sides.append(value(moved))
        result[place] = (sides[0] - sides[1]) / (2 * STEP)
    return result


def weighted(x: Tensor, seed: int) -> Tensor:
    """A scalar in which every element of x has a weight of its own."""
    shape = tuple(int(n) for n in x.shape)
    weights = np.random.default_rng(seed).uniform(0.5, 1.5, shape)
    return graphc.sum(x * weights)


def check(cost: Tensor, inputs: list[Tensor], arrays: list[Array]) -> list[Tensor]:
    """The gradients of `cost`, after comparing them with differences."""
    floats = [x for x in inputs if x.dtype.is_float]
    gradients = graphc.grad(cost, floats, allow_unused=True)
    value_graph = graphc.Graph(inputs, {"cost": cost})
    gradient_graph = graphc.Graph(inputs, {f"g{i}": g for i, g in enumerate(gradients)})

    def value(moved: list[Array]) -> float:
        return float(value_graph.evaluate(dict(zip(inputs, moved, strict=True)))["cost"])

    found = gradient_graph.evaluate(dict(zip(inputs, arrays, strict=True)))
    for i, x in enumerate(floats):
        expected = differences(value, arrays, next(k for k, t in enumerate(inputs) if t is x))
        np.testing.assert_allclose(found[f"g{i}"], expected, rtol=2e-5, atol=2e-6)
    return list(gradients)


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_gradients_of_both_orders(op: OpDef) -> None:
    assert op.samples is not None
    count = 0
    for sample in op.samples(float64):
        if not usable(sample):
            continue
        if op.name in NO_TIES and np.unique(sample.inputs[0]).size < sample.inputs[0].size:
            continue
        node, arrays = declared(op, sample, float64)
        if node.size == 0:
            continue
        inputs = list(node.inputs)
        gradients = check(weighted(node, 1), inputs, arrays)
        # The square of the first result makes the second order depend on the values of linear ops
        # too.
        parts = [weighted(g * g, 2 + i) for i, g in enumerate(gradients)]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        check(total + weighted(node * node, 9), inputs, arrays)
        count += 1
        if count == 7:
            break
    assert count, "no sample is small enough"
