"""A convolution and its pool by bands of lines against generic lowering: the same bits whatever the
sizes and the height of bands, also with a batch that run time knows; the loops mean what the native
code does; what is not made one kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import graphc
import graphc.nn as nn
from graphc import compiler
from graphc.base.dtypes import Array
from graphc.base.target import Target
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.kernels import TEMPLATES
from graphc.kernels.line_bands import BandTemplate
from graphc.kernels.line_strips import Lines, LineTemplate
from tests.conformance.running import HOST, RUNNABLE, Compiled
from tests.kernels.interpreted import interpreted

LINES = LineTemplate(Lines(places=1, filled=0, results=1, work=0))


def _max(size: int, stride: int, dilation: int = 1) -> Callable[[Tensor], Tensor]:
    return lambda y: nn.max_pool(y, size, stride, dilation=dilation)


@dataclass(frozen=True)
class Case:
    """An image (batch, channels, height, width), the convolution's results and stride, the pool,
    lines of the pool in a band.
    """

    image: tuple[int, int, int, int]
    pool: Callable[[Tensor], Tensor]
    rows: int
    results: int = 16
    stride: int = 1


CASES = {
    "overlapping windows": Case((1, 3, 19, 75), _max(3, 2), 3, stride=2),
    "one band": Case((1, 2, 9, 40), _max(3, 2), 9),
    "several images": Case((2, 3, 12, 38), _max(3, 2), 2),
    "lines between windows": Case((1, 3, 17, 50), _max(2, 3), 2, results=5),
    "every line": Case((3, 2, 10, 36), lambda y: nn.avg_pool(y, 3, 1), 4),
    "apart": Case((1, 2, 15, 41), _max(3, 1, dilation=2), 4),
    "work on the results": Case((1, 3, 13, 40), lambda y: nn.max_pool(y, 3, 2) * 2 + 1, 2),
    "lines alone": Case(
        (1, 2, 11, 20), lambda y: graphc.max(graphc.windows(y, 3, axes=3), axis=-1), 4
    ),
}


def _graph(case: Case, batch: int | graphc.Dim | None = None) -> tuple[Graph, dict[str, Array]]:
    rng = np.random.default_rng(7)
    images, *size = case.image
    x = graphc.placeholder((images if batch is None else batch, *size), name="x")
    weights = rng.standard_normal((case.results, size[0], 3, 3)).astype(np.float32)
    bias = graphc.constant(rng.standard_normal(case.results).astype(np.float32))
    y = graphc.maximum(nn.conv(x, graphc.constant(weights), case.stride, bias=bias), 0)
    graph = Graph.build([("x", x)], [("out", case.pool(y))], (), "layer", {})
    return graph, {"x": rng.standard_normal(case.image).astype(np.float32)}


def _compiled(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, rows: int, *, target: Target = HOST
) -> Compiled:
    """The graph by bands of `rows` lines of the pool, by generic lowering with 0."""
    bands = (BandTemplate(LINES, least=0, rows=rows), LINES) if rows else ()
    monkeypatch.setattr(compiler, "TEMPLATES", bands)
    compiled = Compiled(graph, optimize=True, numerics="standard", target=target)
    assert _is_banded(compiled) == bool(rows)
    return compiled


def _is_banded(compiled: Compiled) -> bool:
    return "(bands, " in compiled.compilation.stage("regions")


@pytest.mark.parametrize("name", CASES)
def test_bits_are_those_of_generic_lowering(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    case = CASES[name]
    graph, arrays = _graph(case)
    arrays["x"][0, 0, 3, 5] = np.nan
    expected = _compiled(monkeypatch, graph, 0)(arrays)["out"]
    assert np.isnan(expected).any()
    for rows in (1, case.rows):
        found = _compiled(monkeypatch, graph, rows)(arrays, threads=2)["out"]
        np.testing.assert_array_equal(found, expected, strict=True)
    np.testing.assert_allclose(expected, graph.evaluate(arrays)["out"], rtol=0, atol=2e-4)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda t: t.name)
def test_vectors_of_every_target(monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    graph, arrays = _graph(CASES["overlapping windows"])
    expected = _compiled(monkeypatch, graph, 0, target=target)(arrays)["out"]
    found = _compiled(monkeypatch, graph, 2, target=target)(arrays)["out"]
    np.testing.assert_array_equal(found, expected, strict=True)


def test_batches_that_run_time_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, arrays = _graph(CASES["several images"], graphc.Dim("n"))
    expected = _compiled(monkeypatch, graph, 0)(arrays)["out"]
    found = _compiled(monkeypatch, graph, 2)(arrays)["out"]
    np.testing.assert_array_equal(found, expected, strict=True)


def test_loops_mean_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, arrays = _graph(CASES["overlapping windows"])
    bands = _compiled(monkeypatch, graph, 3)
    result = interpreted(bands, graph, arrays)
    np.testing.assert_allclose(result, bands(arrays)["out"], rtol=1e-5, atol=1e-6)


def test_a_first_layer_goes_by_bands_of_few_lines() -> None:
    """SqueezeNet's: eight steps of seven lines, eight lines of 111 twice, half a second-level cache
    at most.
    """
    rng = np.random.default_rng(1)
    x = graphc.placeholder((1, 3, 224, 224), name="x")
    w = graphc.constant(rng.standard_normal((64, 3, 3, 3)).astype(np.float32))
    y = graphc.maximum(nn.conv(x, w, 2), 0)

    def kernels(*outputs: Tensor) -> str:
        with graphc.Session() as session:
            return session.function([x], list(outputs)).explain("loops")

    text = kernels(nn.max_pool(y, 3, 2))
    assert "for i in 8 parallel" in text
    assert "alloc local %lines: f32[64, 15, 112]" in text
    for kept_apart in (
        (nn.max_pool(y, 3, 2), y),
        (nn.max_pool(y, 3, 2), nn.avg_pool(y, 2, 2)),
        (nn.max_pool(y, 3, 2, padding=1),),
        (graphc.max(y, axis=(2, 3)),),
        (nn.max_pool(graphc.permute_dims(y, (0, 1, 3, 2)), 3, 2),),
    ):
        assert "%lines" not in kernels(*kept_apart)
    assert BandTemplate in map(type, TEMPLATES)
