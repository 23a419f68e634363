"""Convolutions in strips of lines against generic lowering: the same bits whatever the sizes, also
with a batch that run time knows, on every target; the loops mean what the native code does.
"""

from __future__ import annotations

import numpy as np
import pytest

import graphc
import graphc.nn
from graphc import compiler
from graphc.base.target import Target
from graphc.ir.graph import Graph
from graphc.kernels import TEMPLATES
from graphc.kernels.line_strips import Lines, LineTemplate
from graphc.ops.families import Contraction
from tests.conformance.running import HOST, RUNNABLE, Compiled
from tests.kernels.convolutions import Case, convolution
from tests.kernels.interpreted import interpreted

ANY = LineTemplate(Lines(places=1, filled=0, results=1, work=0))


CASES = {
    "every second place": Case(3, 16, 7, 99, stride=2),
    "a large window": Case(3, 24, 15, 96, kernel=(7, 7), stride=2, padding=3),
    "a last tile of fewer results": Case(2, 13, 4, 50, padding=1),
    "one vector": Case(4, 8, 3, 18, dilation=2, padding=1),
    "several images": Case(1, 16, 5, 70, kernel=(2, 5), batch=3),
    "few results": Case(3, 5, 6, 40),
}


def _compiled(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, *, generic: bool = False, target: Target = HOST
) -> Compiled:
    monkeypatch.setattr(compiler, "TEMPLATES", () if generic else (ANY,))
    compiled = Compiled(graph, optimize=True, numerics="standard", target=target)
    constants = compiled.compilation.lowered.plan.constants
    assert any(c.shape[0] == 1 < c.shape[-1] for c in constants) != generic, "results are last"
    return compiled


@pytest.mark.parametrize("name", CASES)
def test_bits_are_those_of_generic_lowering(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    graph, arrays = convolution(CASES[name])
    expected = _compiled(monkeypatch, graph, generic=True)(arrays)["out"]
    lines = _compiled(monkeypatch, graph)
    np.testing.assert_array_equal(lines(arrays, threads=2)["out"], expected, strict=True)
    np.testing.assert_allclose(expected, graph.evaluate(arrays)["out"], rtol=0, atol=2e-4)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda t: t.name)
def test_tiles_of_every_target(monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    graph, arrays = convolution(CASES["every second place"])
    expected = _compiled(monkeypatch, graph, generic=True, target=target)(arrays)["out"]
    found = _compiled(monkeypatch, graph, target=target)(arrays)["out"]
    np.testing.assert_array_equal(found, expected, strict=True)


def test_batches_that_run_time_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, arrays = convolution(CASES["several images"], graphc.Dim("n"))
    expected = _compiled(monkeypatch, graph, generic=True)(arrays)["out"]
    found = _compiled(monkeypatch, graph)(arrays)["out"]
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("name", ["every second place", "a last tile of fewer results"])
def test_loops_mean_what_runs(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    graph, arrays = convolution(CASES[name])
    lines = _compiled(monkeypatch, graph)
    result = interpreted(lines, graph, arrays)
    np.testing.assert_allclose(result, lines(arrays)["out"], rtol=1e-5, atol=1e-6)


def test_what_goes_by_lines() -> None:
    def takes(
        x: tuple[int, ...], w: tuple[int, ...], *, groups: int = 1, constant: bool = True
    ) -> bool:
        weights = graphc.constant(np.ones(w, np.float32))
        kernel = weights if constant else graphc.placeholder(w, name="w")
        out = graphc.nn.conv(graphc.placeholder(x, name="x"), kernel, groups=groups)
        graph = Graph.build([], [("out", out)], (), "conv", {})
        graph = compiler.optimize(graph, "standard")
        (node,) = [n for n in graph.nodes if isinstance(n.op.form, Contraction)]
        return LineTemplate().packed(node, HOST) is not None

    assert takes((1, 3, 114, 114), (64, 3, 3, 3))
    assert takes((1, 3, 118, 118), (64, 3, 7, 7))
    assert not takes((1, 3, 114, 114), (64, 3, 3, 3), constant=False)
    assert not takes((1, 32, 114, 114), (64, 32, 3, 3)), "long sums"
    assert not takes((1, 3, 34, 34), (64, 3, 3, 3)), "short lines"
    assert not takes((1, 3, 67, 67), (64, 3, 3, 3)), "a line whose last vector is nearly empty"
    assert not takes((1, 6, 114, 114), (64, 3, 3, 3), groups=2)
    assert not takes((1, 3, 56, 56), (8, 3, 3, 3)), "few results"
    assert LineTemplate in map(type, TEMPLATES)
