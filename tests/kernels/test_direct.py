"""Products with constant weights in panels against generic lowering: the same bits, whatever the
tile; the loops mean what the native code does and read nothing that was not written.
"""

from __future__ import annotations

import numpy as np
import pytest

import graphc
import graphc.nn
from graphc import compiler
from graphc.base.target import Target
from graphc.ir.graph import Graph
from graphc.kernels.direct_cpu import DirectTemplate
from graphc.kernels.direct_problem import Least, found_direct
from graphc.loops.nodes import Const, For, Prefetch
from graphc.loops.walk import statements
from graphc.ops.families import Contraction
from tests.conformance.running import HOST, RUNNABLE, Compiled
from tests.kernels.convolutions import Case, convolution
from tests.kernels.interpreted import interpreted

ANY = DirectTemplate(Least(work=0, filled=0, summed=2, places=2, alone=0, many=0))


CASES = {
    "one tile": Case(5, 16, 6, 14, padding=1),
    "a narrower last tile": Case(4, 32, 5, 17, padding=1),
    "blocks of the sum": Case(30, 48, 2, 6, padding=1),
    "sums longer than a block": Case(3, 16, 20, 21, kernel=(17, 17)),
    "stride": Case(6, 32, 11, 15, stride=2, padding=1),
    "dilation and batch": Case(3, 16, 9, 12, dilation=2, padding=2, batch=3),
    "groups": Case(12, 64, 7, 7, groups=2, padding=1),
    "blocks of lines": Case(2, 16, 50, 31, padding=1),
    "blocks that differ by a line": Case(2, 16, 27, 64, padding=1),
    "pixels in a row": Case(24, 64, 7, 7, kernel=(1, 1)),
    "blocks of pixels": Case(16, 16, 21, 23, kernel=(1, 1), batch=2),
    "long sums of pixels": Case(600, 32, 4, 5, kernel=(1, 1)),
    "results that fill no vector": Case(4, 41, 5, 11, padding=1),
    "groups that fill no vector": Case(12, 40, 7, 7, groups=2, padding=1),
    "pixels of few results": Case(24, 7, 6, 6, kernel=(1, 1)),
    "pixels apart": Case(24, 32, 9, 9, kernel=(1, 1), stride=2),
}


def _both(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, target: Target = HOST
) -> tuple[Compiled, Compiled]:
    """The graph by generic lowering and by the template."""
    compiled = []
    for templates in ((), (ANY,)):
        monkeypatch.setattr(compiler, "TEMPLATES", templates)
        one = Compiled(graph, optimize=True, numerics="standard", target=target)
        assert ("turned" in one.compilation.stage("loops")) == bool(templates)
        compiled.append(one)
    return compiled[0], compiled[1]


@pytest.mark.parametrize("name", CASES)
def test_bits_are_those_of_generic_lowering(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    graph, arrays = convolution(CASES[name])
    plain, direct = _both(monkeypatch, graph)
    found = direct(arrays, threads=2)["out"]
    np.testing.assert_array_equal(found, plain(arrays)["out"], strict=True)
    np.testing.assert_allclose(found, graph.evaluate(arrays)["out"], rtol=0, atol=2e-4)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda t: t.name)
def test_tiles_of_every_target(monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    graph, arrays = convolution(CASES["a narrower last tile"])
    plain, direct = _both(monkeypatch, graph, target)
    np.testing.assert_array_equal(direct(arrays)["out"], plain(arrays)["out"], strict=True)


def test_batches_that_run_time_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["dilation and batch"]
    graph, arrays = convolution(case, batch=graphc.Dim("n"))
    plain, direct = _both(monkeypatch, graph)
    np.testing.assert_array_equal(direct(arrays)["out"], plain(arrays)["out"], strict=True)


@pytest.mark.parametrize(
    "name",
    [
        "a narrower last tile",
        "blocks of the sum",
        "blocks that differ by a line",
        "pixels in a row",
        "pixels of few results",
        "blocks of pixels",
    ],
)
def test_loops_mean_what_runs(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    graph, arrays = convolution(CASES[name])
    _, direct = _both(monkeypatch, graph)
    result = interpreted(direct, graph, arrays)
    np.testing.assert_allclose(result, direct(arrays)["out"], rtol=1e-5, atol=1e-6)


def test_every_thread_finds_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = convolution(Case(8, 32, 14, 14, padding=1))
    _, direct = _both(monkeypatch, graph)
    kernel = direct.compilation.lowered.kernels[-1].kernel
    steps = next(s for s in kernel.body if isinstance(s, For) and s.kind == "parallel")
    assert isinstance(steps.extent, Const)
    assert steps.extent.value in (4, 8), "14 lines, one panel: equal parts for 2 and 4 threads"


def test_the_next_weights_are_prefetched(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = convolution(CASES["blocks of the sum"])
    _, direct = _both(monkeypatch, graph)
    kernel = direct.compilation.lowered.kernels[-1].kernel
    asked = {s.buffer.shape for s in statements(kernel.body) if isinstance(s, Prefetch)}
    assert asked == {(1, 30, 3, 3, 48)}
    assert "@llvm.prefetch" in direct.compilation.stage("llvm")


@pytest.mark.parametrize(("name", "copies"), [("stride", 0), ("pixels apart", 1)])
def test_strided_windows_are_not_copied_but_single_pixels(
    monkeypatch: pytest.MonkeyPatch, name: str, copies: int
) -> None:
    graph, _ = convolution(CASES[name])
    plain, direct = _both(monkeypatch, graph)
    copied, read = (
        [k.kernel.name for k in one.compilation.lowered.kernels].count("permute_dims")
        for one in (plain, direct)
    )
    assert (copied, read) == (1, copies)


def test_weights_are_put_in_panels_when_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = convolution(CASES["one tile"])
    _, direct = _both(monkeypatch, graph)
    shapes = [c.shape for c in direct.compilation.lowered.plan.constants]
    assert shapes == [(1, 5, 3, 3, 16), (16, 1, 1)]


def test_what_direct_loops_leave_to_others() -> None:
    def takes(x: tuple[int, ...], w: tuple[int, ...], *, constant: bool = True) -> bool:
        weights = graphc.constant(np.ones(w, np.float32))
        kernel = weights if constant else graphc.placeholder(w, name="w")
        image = graphc.placeholder(x, name="x")
        graph = Graph.build([], [("out", graphc.nn.conv(image, kernel))], (), "conv", {})
        graph = compiler.optimize(graph, "standard")
        (node,) = [n for n in graph.nodes if isinstance(n.op.form, Contraction)]
        packed = DirectTemplate().packed(node, HOST)
        if packed is None:
            return False
        return found_direct(packed, HOST, Least()) is not None

    assert takes((1, 64, 30, 30), (64, 64, 3, 3))
    assert takes((1, 512, 7, 7), (512, 512, 1, 1))
    assert not takes((1, 64, 30, 30), (64, 64, 3, 3), constant=False)
    assert takes((1, 512, 13, 13), (1000, 512, 1, 1))
    assert not takes((1, 64, 30, 30), (20, 64, 3, 3)), "results that leave much of a vector empty"
    assert not takes((1, 64, 56, 56), (256, 64, 1, 1)), "short sums over many places"
    assert takes((1, 480, 14, 14), (128, 480, 1, 1)), "few results of longer sums"
    assert not takes((1, 256, 14, 14), (1024, 256, 1, 1)), "many results of short sums"
    assert not takes((1, 8, 9, 9), (16, 8, 3, 3)), "too small"
