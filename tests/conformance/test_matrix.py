"""Every op × every dtype × the shape matrix: compiled against the NumPy meaning.

Each (op, dtype) is one graph whose outputs are all its cases. It is compiled twice: exact and
without optimization, and optimized in standard mode; and its text is read back at every stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from graphc.base.dtypes import Array, DType
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.ir.opdef import REGISTRY, OpDef, Sample
from graphc.ir.parse import parse
from graphc.ops.families import Elementwise
from tests.conformance.exclusions import NO_VALUE, NOT_EMPTY, POSITIVE_ONLY
from tests.conformance.matrix import (
    Symbolic,
    all_cases,
    graph_of,
    reference,
    symbolic_elementwise,
    symbolic_samples,
)
from tests.conformance.policy import difference
from tests.conformance.running import Compiled
from tests.ops.cases import Case, cases, ops_with_samples

MODES = {"plain": (False, "exact"), "optimized": (True, "standard")}
PAIRS: list[Any] = [
    pytest.param(op, dtype, id=f"{op.name}-{dtype.name}")
    for op in ops_with_samples()
    for dtype in op.dtypes
]


def assert_reads_back(graphs: Iterable[Graph]) -> None:
    """`parse(str(g)) == g`."""
    for graph in graphs:
        assert parse(str(graph)) == graph


def run_all(found: Sequence[Case], mode: str, problems: list[str]) -> Compiled:
    """Compile and run the graph of all cases, adding what is wrong to `problems`."""
    optimize, numerics = MODES[mode]
    graph, feeds = graph_of(found)
    compiled = Compiled(graph, optimize=optimize, numerics=numerics)
    got = compiled(feeds)
    for k, case in enumerate(found):
        node = graph.outputs[k][1]
        expected = reference(node, case.arrays)
        problem = difference(case, got[f"o{k}"], expected, node.dtype)
        if problem:
            shapes = [a.shape for a in case.arrays]
            problems.append(f"{mode} {case} {case.sample.attrs} {shapes}: {problem}")
    return compiled


@pytest.mark.parametrize(("op", "dtype"), PAIRS)
def test_static(op: OpDef, dtype: DType) -> None:
    problems: list[str] = []
    found = all_cases(op, dtype)
    for mode in MODES:
        compiled = run_all(found, mode, problems)
        stages = compiled.compilation
        assert_reads_back({stages.graph, stages.optimized, stages.lowered.graph})
    assert not problems, "\n".join(problems)


def _symbolic(op: OpDef, dtype: DType) -> list[Symbolic]:
    if isinstance(op.form, Elementwise):
        return [symbolic_elementwise(op, dtype)]
    return [s for _, s in symbolic_samples(op, dtype)]


@pytest.mark.parametrize("op", ops_with_samples(), ids=lambda op: op.name)
def test_symbolic(op: OpDef) -> None:
    """One compile, several sizes. Two dtypes: sizes and dtypes are independent of each other."""
    problems: list[str] = []
    for dtype in dict.fromkeys((op.dtypes[0], op.dtypes[-1])):
        for k, built in enumerate(_symbolic(op, dtype)):
            outputs: dict[str, Any] = {f"o{j}": n for j, n in enumerate(built.nodes)}
            graph = Graph(list(built.inputs), outputs)
            assert_reads_back([graph])
            optimize, numerics = MODES["optimized" if k % 2 else "plain"]
            compiled = Compiled(graph, optimize=optimize, numerics=numerics)
            for feeds in built.feeds:
                problems += _compare_symbolic(op, dtype, built, compiled(feeds), feeds)
    assert not problems, "\n".join(problems)


def _compare_symbolic(
    op: OpDef, dtype: DType, built: Symbolic, got: dict[str, Array], feeds: dict[Any, Array]
) -> Iterable[str]:
    for j, node in enumerate(built.nodes):
        arrays = [feeds[x] for x in node.inputs]
        attrs = dict(zip(op.attributes, node.attrs, strict=True))
        case = Case(op, dtype, Sample(tuple(arrays), attrs), j)
        assert isinstance(node, Tensor)
        problem = difference(case, got[f"o{j}"], _evaluate(node, feeds), node.dtype)
        if problem:
            yield f"{case} {attrs} {[a.shape for a in arrays]}: {problem}"


def _evaluate(node: Tensor, feeds: dict[Any, Array]) -> Array:
    graph = Graph(list(node.inputs), {"y": node})
    return graph.evaluate({x: feeds[x] for x in node.inputs})["y"]


def test_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """How much the matrix holds, and what it leaves out."""
    ops = ops_with_samples()
    pairs = [(op, d) for op in ops for d in op.dtypes]
    total = sum(1 for op, d in pairs for _ in cases(op, d))
    with capsys.disabled():
        print(f"\nconformance: {len(ops)} ops, {len(pairs)} ops × dtypes, {total} cases", end="")
        print(f" and the large ones, in {len(MODES)} modes; left out:")
        for name, reason in (NO_VALUE | POSITIVE_ONLY | NOT_EMPTY).items():
            print(f"  {name}: {reason}")
    assert {op.name for op in REGISTRY} - {op.name for op in ops} == set(NO_VALUE)
