"""Convolutions by Winograd's F(2 x 2, 3 x 3): within the bound of the rule, with the infinities and
NaN of the sum of products, the same bits for every number of threads, block and machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import graphc
import graphc.nn
from graphc import compiler
from graphc.base.dims import Size
from graphc.base.dtypes import Array
from graphc.base.target import Target
from graphc.ir.graph import Graph
from graphc.kernels.winograd_cpu import WinogradTemplate
from graphc.kernels.winograd_problem import Blocks
from graphc.ops.winograd import ACROSS, PANEL, WINOGRAD, chain_of, panel_of
from graphc.passes.pipeline import optimize
from graphc.rewrite.rules import convolution
from graphc.rewrite.trace import Trace
from tests.conformance.running import HOST, RUNNABLE, Compiled
from tests.kernels.interpreted import interpreted


@dataclass(frozen=True)
class Case:
    """A convolution of 3 x 3 windows: channels, results, height, width, zeros before and after
    (rows, then columns), batch.
    """

    channels: int
    results: int
    height: int
    width: int
    low: tuple[int, int] = (1, 1)
    high: tuple[int, int] = (1, 1)
    batch: int = 1


CASES = {
    "whole tiles": Case(5, 8, 6, 8),
    "one tile": Case(3, 16, 2, 2),
    "a tile that is cut off": Case(4, 8, 7, 9),
    "rows share their ends": Case(4, 16, 7, 7, batch=2),
    "no zeros": Case(6, 24, 9, 12, (0, 0), (0, 0)),
    "zeros on one side": Case(6, 8, 5, 7, (2, 0), (0, 1)),
    "elements cut off": Case(6, 8, 9, 9, (-1, 1), (1, -2)),
    "blocks of channels": Case(144, 16, 5, 6),
    "blocks of tiles": Case(2, 8, 13, 90),
    "many rows in a step": Case(2, 16, 60, 4, batch=3),
    "vectors across results": Case(3, 64, 13, 13),
    "across, no zeros": Case(8, 96, 8, 14, (0, 0), (0, 0), batch=2),
    "across, blocks of channels": Case(80, 64, 5, 14),
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small convolutions are computed so too."""
    for name in ("CHANNELS", "RESULTS", "TILES", "WORK", "ELEMENTS", "FEW"):
        monkeypatch.setattr(convolution, name, 1)


def _weights(case: Case, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((case.results, case.channels, 3, 3))
    weights[rng.random(weights.shape) < 0.2] = 0.0
    return weights.astype(np.float32)


def _graph(
    case: Case, weights: Array, *, batch: int | graphc.Dim | None = None, work: bool = True
) -> Graph:
    """The convolution; with `work` a bias, a further operand and a rectifier."""
    first = case.batch if batch is None else batch
    x = graphc.placeholder((first, case.channels, case.height, case.width), name="x")
    padding = tuple(zip(case.low, case.high, strict=True))
    widths = ((0, 0), (0, 0), *padding)
    inside = x[:, :, max(0, -case.low[0]) :, max(0, -case.low[1]) :]
    if min(case.high) < 0:
        inside = inside[:, :, :, : case.high[1]]
    widths = tuple((max(a, 0), max(b, 0)) for a, b in widths)
    out = graphc.nn.conv(graphc.pad(inside, widths), graphc.constant(weights))
    inputs = [("x", x)]
    if work:
        skip = graphc.placeholder(out.shape, name="skip")
        bias = graphc.constant(weights[:, 0, 0, 0].reshape(-1, 1, 1))
        out = graphc.maximum(out + bias + skip, 0)
        inputs.append(("skip", skip))
    return Graph.build(inputs, [("out", out)], (), "conv", {})


def _arrays(graph: Graph, case: Case, seed: int = 1) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal((case.batch, *t.shape[1:])).astype(np.float32)
        for name, t in graph.inputs
    }


def _compiled(graph: Graph, numerics: str = "standard", target: Target = HOST) -> Compiled:
    compiled = Compiled(graph, optimize=True, numerics=numerics, target=target)
    fast = any(n.op is WINOGRAD for n in compiled.compilation.optimized.nodes)
    assert fast == (numerics != "exact")
    return compiled


def _padded(case: Case, x: Array) -> Array:
    for axis, (low, high) in enumerate(zip(case.low, case.high, strict=True), 2):
        x = np.take(x, range(max(0, -low), x.shape[axis] + min(0, high)), axis)
    widths = [(max(a, 0), max(b, 0)) for a, b in zip(case.low, case.high, strict=True)]
    return np.pad(x, [(0, 0), (0, 0), *widths])


def _bound(case: Case, x: Array, weights: Array) -> Array:
    """What the rule allows: by the largest finite element of each tile."""
    wide = np.abs(np.where(np.isfinite(x), x, 0)).astype(np.float64).max(1)
    wide = _padded(case, wide[:, None])[:, 0]
    rows, columns = wide.shape[1] - 2, wide.shape[2] - 2
    wide = np.pad(wide, [(0, 0), (0, 2), (0, 2)])
    view = np.lib.stride_tricks.sliding_window_view(wide, (4, 4), (1, 2))[:, ::2, ::2]
    largest = view.max((-1, -2)).repeat(2, 1).repeat(2, 2)[:, None, :rows, :columns]
    sums = np.abs(weights).astype(np.float64).sum((1, 2, 3))[None, :, None, None]
    return np.asarray(convolution.ULPS * 2.0**-24 * 9 * case.channels * largest * sums)


def _true(case: Case, x: Array, weights: Array) -> Array:
    wide = _padded(case, x.astype(np.float64))
    view = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), (2, 3))
    return np.einsum("nchwij,kcij->nkhw", view, weights.astype(np.float64), optimize=True)


@pytest.mark.parametrize("name", CASES)
def test_results_keep_the_bound(name: str) -> None:
    case = CASES[name]
    weights = _weights(case)
    graph = _graph(case, weights, work=False)
    run = _compiled(graph)
    for seed in range(3):
        arrays = _arrays(graph, case, seed)
        x = arrays["x"] * np.float32(10.0) ** (12 * seed)
        got = run({"x": x})["out"]
        wrong = np.abs(got - _true(case, x, weights))
        assert (wrong <= _bound(case, x, weights)).all()


@pytest.mark.parametrize("name", CASES)
def test_work_behind_and_threads(name: str) -> None:
    case = CASES[name]
    graph = _graph(case, _weights(case))
    arrays, run = _arrays(graph, case), _compiled(graph)
    got = run(arrays, threads=1)["out"]
    np.testing.assert_allclose(got, graph.evaluate(arrays)["out"], rtol=0, atol=2e-4)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(run(arrays, threads=threads)["out"], got, strict=True)


SPECIAL = {
    "infinities": [np.inf, -np.inf],
    "NaN": [np.nan],
    "all": [np.inf, -np.inf, np.nan, 0.0],
    "overflow of the transforms": [3e38, -3e38],
    "tiny": [1e-42, -1e-38],
}


@pytest.mark.parametrize("share", [0.01, 0.3])
@pytest.mark.parametrize("special", SPECIAL)
@pytest.mark.parametrize(
    "name",
    ["a tile that is cut off", "rows share their ends", "no zeros", "vectors across results"],
)
def test_the_same_infinities_and_nan(name: str, special: str, share: float) -> None:
    case = CASES[name]
    weights = _weights(case) * np.float32(0.02)
    graph = _graph(case, weights, work=False)
    fast, exact = _compiled(graph), _compiled(graph, "exact")
    rng = np.random.default_rng(5)
    x = _arrays(graph, case)["x"]
    chosen = rng.choice(np.array(SPECIAL[special], np.float32), x.shape)
    x = np.where(rng.random(x.shape) < share, chosen, x)
    got, expected = fast({"x": x})["out"], exact({"x": x})["out"]
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(got), finite)
    np.testing.assert_array_equal(got[~finite], expected[~finite])
    wrong = np.abs(got[finite].astype(np.float64) - expected[finite])
    assert (wrong <= 2 * _bound(case, x, weights)[finite]).all()


def test_weights_that_are_not_finite() -> None:
    case = CASES["rows share their ends"]
    weights = _weights(case)
    weights[3, 1, 1, 1], weights[4, 0, 2, 2], weights[5, 2] = np.inf, np.nan, 3e38
    weights[6, 1, 0] = np.inf  # transformed, they are differences of infinities
    graph = _graph(case, weights, work=False)
    arrays = _arrays(graph, case)
    got, expected = _compiled(graph)(arrays)["out"], _compiled(graph, "exact")(arrays)["out"]
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))
    np.testing.assert_array_equal(got[:, 3:7], expected[:, 3:7])


# Parts of one size and of two, register tiles that fill them and that do not.
PARTS = {
    "blocks of channels": (Blocks(1, 1, (8, 1)), Blocks(1, 2, (4, 2))),
    "many rows in a step": (
        Blocks(6, 1, (8, 1)),
        Blocks(1, 2, (4, 1)),
        Blocks(2, 1, (8, 2)),
        Blocks(4, 2, (8, 2)),
        Blocks(3, 2, (8, 2)),
        Blocks(1, 1, (8, 3)),
    ),
    "vectors across results": tuple(Blocks(n, 1, (7, 2)) for n in (1, 2, 7)),
    "across, blocks of channels": (Blocks(1, 1, (4, 2)), Blocks(2, 1, (3, 2))),
}


@pytest.mark.parametrize("name", list(PARTS))
def test_blocks_do_not_change_bits(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    case = CASES[name]
    graph = _graph(case, _weights(case))
    arrays = _arrays(graph, case)
    usual = _compiled(graph)(arrays)["out"]
    for blocks in PARTS[name]:
        monkeypatch.setattr(compiler, "TEMPLATES", (WinogradTemplate(blocks),))
        np.testing.assert_array_equal(_compiled(graph)(arrays)["out"], usual, strict=True)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda t: t.name)
@pytest.mark.parametrize("name", ["a tile that is cut off", "vectors across results"])
def test_every_target(target: Target, name: str) -> None:
    case = CASES[name]
    graph = _graph(case, _weights(case))
    arrays = _arrays(graph, case)
    got = _compiled(graph, target=target)(arrays)["out"]
    expected = _compiled(graph)(arrays)["out"]
    if target.has_fma == HOST.has_fma:
        np.testing.assert_array_equal(got, expected, strict=True)
    else:
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["many rows in a step", "across, no zeros"])
def test_batches_that_run_time_knows(name: str) -> None:
    case = CASES[name]
    weights = _weights(case)
    known, graph = _graph(case, weights), _graph(case, weights, batch=graphc.Dim("n"))
    arrays = _arrays(known, case)
    got = _compiled(graph)(arrays)["out"]
    np.testing.assert_array_equal(got, _compiled(known)(arrays)["out"], strict=True)


@pytest.mark.parametrize("spoilt", [False, True])
@pytest.mark.parametrize(
    "name", ["a tile that is cut off", "rows share their ends", "vectors across results"]
)
def test_loops_mean_what_runs(name: str, spoilt: bool) -> None:
    case = replace(CASES[name], batch=1)
    graph = _graph(case, _weights(case))
    arrays, run = _arrays(graph, case), _compiled(graph)
    if spoilt:
        arrays["x"][0, 1, 2, 3] = np.inf
    result = interpreted(run, graph, arrays)
    np.testing.assert_allclose(result, run(arrays)["out"], rtol=1e-5, atol=1e-5)


def test_the_log_names_the_rule() -> None:
    case = CASES["whole tiles"]
    trace = Trace()
    optimize(_graph(case, _weights(case)), "standard", trace)
    assert trace.counts()["winograd"] == 1
    assert "winograd (rounding)" in str(trace)


@pytest.mark.parametrize(
    ("channels", "chain"), [(64, 64), (65, None), (96, 48), (512, 64), (80, 40), (5, 5), (67, None)]
)
def test_blocks_of_channels_are_equal(channels: int, chain: int | None) -> None:
    assert chain_of(channels) == chain


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ((64, 64, 56, 56), True),
        ((256, 256, 14, 14), True),
        ((64, 256, 13, 13), True),
        ((128, 32, 14, 14), True),
        ((48, 192, 13, 13), True),
        ((16, 48, 14, 14), False),
        ((512, 512, 7, 7), False),
        ((64, 100, 56, 56), False),
        ((3, 64, 224, 224), False),
        ((64, 64, graphc.Dim("h"), 56), False),
    ],
)
def test_sizes_decide(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int, int, int], found: bool
) -> None:
    monkeypatch.undo()  # the sizes that were measured
    assert convolution.pays(*sizes) == found


def test_what_stays() -> None:
    """Strides, dilation, groups, weights that are variables, results that fill no panel."""
    x = graphc.placeholder((1, 8, 9, 9), name="x")
    w = graphc.constant(np.ones((8, 8, 3, 3), np.float32))
    kept = [
        graphc.nn.conv(x, w, stride=2),
        graphc.nn.conv(x, w, dilation=2),
        graphc.nn.conv(x, w[:, :4], groups=2),
        graphc.nn.conv(x, w[:7]),
        graphc.nn.conv(x, graphc.placeholder((8, 8, 3, 3), name="w")),
        graphc.nn.conv(x.astype("float64"), w.astype("float64")),
    ]
    for one in kept:
        optimized = optimize(Graph.build([], [("out", one)], (), "conv", {}))
        assert not any(n.op is WINOGRAD for n in optimized.nodes)


@pytest.mark.parametrize(
    ("results", "height", "width", "panel"),
    [
        (64, 13, 13, ACROSS),
        (256, 14, 14, ACROSS),
        (32, 14, 14, PANEL),  # one panel
        (80, 14, 14, PANEL),  # no multiple of a panel
        (64, 16, 16, PANEL),  # tiles fill vectors
        (64, 30, 9, PANEL),  # short rows of tiles
        (64, graphc.Dim("h"), 13, PANEL),
    ],
)
def test_vectors_run_across_results(results: int, height: Size, width: Size, panel: int) -> None:
    assert panel_of(results, height, width) == panel
