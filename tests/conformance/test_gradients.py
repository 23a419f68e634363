"""Compiled gradients: every differentiable op, first and second order, forward and reverse.

tests/ops holds the gradients' graphs against differences; here the same graphs are compiled, whole
and optimized, and must give what they mean. Forward and reverse mode must agree:
u · (J v) = (Jᵀ u) · v.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array, float64
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.ir.opdef import OpDef
from graphc.ir.parse import parse
from tests.conformance.exclusions import JUMPS, NO_DIFFERENCES
from tests.conformance.matrix import rng_for
from tests.conformance.running import Compiled
from tests.ops.cases import Case, cases, ops_with_samples

DIFFERENTIABLE = [
    op for op in ops_with_samples() if op.gradient is not None and float64 in op.dtypes
]
# Relative to the largest element: sums of a few hundred terms, each within some ulps.
TOLERANCE = 1e-11
_MOST_ELEMENTS = 700
STEP = 1e-5


def smooth_cases(op: OpDef) -> list[Case]:
    """Cases of ordinary values at which the op is finite and differentiable."""
    found = []
    for case in cases(op, float64):
        floats = [a for a in case.arrays if a.dtype == np.float64]
        ordinary = all(
            a.size <= _MOST_ELEMENTS and np.all(np.abs(np.nan_to_num(a, nan=99.0)) < 50.0)
            for a in floats
        )
        tied = op.name in JUMPS and any(np.unique(a).size < a.size for a in floats)
        if floats and ordinary and not tied and _is_finite(case):
            found.append(case)
    return found


def _is_finite(case: Case) -> bool:
    node = case.node(case.placeholders())
    if not isinstance(node, Tensor) or node.dtype is not float64:
        return False
    inputs = node.inputs
    value = Graph(list(inputs), {"y": node}).evaluate(dict(zip(inputs, case.arrays, strict=True)))
    return bool(np.all(np.isfinite(value["y"])))


class _Built:
    """The derivatives of one case: a graph's outputs, and what must hold between them."""

    def __init__(self, case: Case, number: int) -> None:
        rng = rng_for(case, number)
        self.case = case
        self.inputs = case.placeholders(f"c{number}_")
        node = case.node(self.inputs)
        assert isinstance(node, Tensor)
        self.wrt = [x for x in self.inputs if x.dtype is float64]
        self.feeds: dict[Any, Array] = dict(zip(self.inputs, case.arrays, strict=True))
        self.along = [rng.uniform(-1.0, 1.0, self.feeds[x].shape) for x in self.wrt]
        weights = rng.uniform(0.5, 1.5, tuple(int(n) for n in node.shape))
        loss = graphc.sum(node * weights)
        gradients = graphc.grad(loss, self.wrt, allow_unused=True)
        self.slope = _dot(gradients, self.along)
        second = graphc.grad(self.slope, self.wrt, allow_unused=True)
        again = [rng.uniform(-1.0, 1.0, a.shape) for a in self.along]
        self.again = again
        curve = _dot(second, again)
        tangent = graphc.jvp(node, self.wrt, [graphc.constant(v) for v in self.along])
        self.outputs: dict[str, Tensor] = {
            "loss": loss,
            "slope": self.slope,
            "curve": curve,
            "tangent": graphc.sum(tangent * weights),
        }
        for k, g in enumerate((*gradients, *second)):
            self.outputs[f"gradient{k}"] = g


def _dot(tensors: Sequence[Tensor], along: Sequence[Array]) -> Tensor:
    total = graphc.sum(tensors[0] * along[0])
    for t, v in zip(tensors[1:], along[1:], strict=True):
        total = total + graphc.sum(t * v)
    return total


def _difference(
    program: Compiled, built: _Built, feeds: dict[Any, Array], name: str, along: Sequence[Array]
) -> float:
    """The derivative of an output in a direction, by central differences of compiled values."""

    def at(step: float) -> float:
        moved = dict(feeds)
        for x, v in zip(built.wrt, along, strict=True):
            moved[x] = feeds[x] + step * v
        return float(program(moved)[name])

    def slope(step: float) -> float:
        return (at(step) - at(-step)) / (2.0 * step)

    return (4.0 * slope(STEP) - slope(2.0 * STEP)) / 3.0


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_compiled_gradients(op: OpDef) -> None:
    found = [_Built(case, k) for k, case in enumerate(smooth_cases(op))]
    assert found, f"{op.name}: no case for gradients"
    feeds: dict[Any, Array] = {}
    outputs: dict[str, Tensor] = {}
    for k, built in enumerate(found):
        feeds |= built.feeds
        outputs |= {f"{name}_{k}": t for name, t in built.outputs.items()}
    graph = Graph(list(feeds), outputs)
    expected = graph.evaluate(feeds)
    for optimize, numerics in ((False, "exact"), (True, "standard")):
        program = Compiled(graph, optimize=optimize, numerics=numerics)
        stages = program.compilation
        for stage in {stages.graph, stages.optimized, stages.lowered.graph}:
            assert parse(str(stage)) == stage
        got = program(feeds)
        for name, wanted in expected.items():
            scale = max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
            np.testing.assert_allclose(
                got[name],
                wanted,
                rtol=TOLERANCE,
                atol=TOLERANCE * scale,
                err_msg=f"{op.name} {name}",
            )
        for k, built in enumerate(found):
            slope, tangent = float(got[f"slope_{k}"]), float(got[f"tangent_{k}"])
            assert abs(slope - tangent) <= TOLERANCE * max(1.0, abs(slope)), str(built.case)


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_differences_of_compiled_values(op: OpDef) -> None:
    """First and second order of the largest smooth case, by differences."""
    if op.name in NO_DIFFERENCES:
        pytest.skip(NO_DIFFERENCES[op.name])
    candidates = smooth_cases(op)
    case = max(candidates, key=lambda c: sum(a.size for a in c.arrays))
    built = _Built(case, 0)
    program = Compiled(Graph(list(built.feeds), built.outputs), optimize=True, numerics="standard")
    got = program(built.feeds)
    for value, of, along in (("slope", "loss", built.along), ("curve", "slope", built.again)):
        wanted = _difference(program, built, built.feeds, of, along)
        size = max(1.0, abs(wanted), *(float(np.abs(v).sum()) for v in along))
        assert abs(float(got[value]) - wanted) < 2e-6 * size, f"{case} {value}"


def test_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """How much is tested, and what is not."""
    total = sum(len(smooth_cases(op)) for op in DIFFERENTIABLE)
    with capsys.disabled():
        print(f"\nconformance: gradients of {len(DIFFERENTIABLE)} ops, {total} cases; left out:")
        for name, reason in NO_DIFFERENCES.items():
            print(f"  {name}: {reason}")
    assert total > 500
