"""Products of one row: steps of as many vectors as are in flight, and a last one of those left."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc import compiler
from graphc.base.dtypes import float32
from graphc.base.target import Target
from graphc.ir.graph import Graph
from graphc.kernels.gemm_strips import StripTemplate
from graphc.loops.interpret import interpret
from tests.conformance.running import HOST, RUNNABLE, Compiled

# One step, one of few vectors, several alike, several and a last one of whole vectors or of lanes.
COLUMNS = [40, 100, 256, 300, 512, 513, 1000]


def product(
    monkeypatch: pytest.MonkeyPatch, columns: int, *, template: bool = True, dear: bool = False,
    target: Target = HOST, summed: int = 300,
) -> tuple[Compiled, dict[str, np.ndarray]]:  # fmt: skip
    """A row times a matrix, and the operands."""
    monkeypatch.setattr(compiler, "TEMPLATES", (StripTemplate(0, 0),) if template else ())
    x = graphc.placeholder((1, summed), float32, name="x")
    w = graphc.placeholder((summed, columns), float32, name="w")
    out = graphc.tanh(x @ w) if dear else graphc.maximum(x @ w, 0)
    graph = Graph.build([("x", x), ("w", w)], [("out", out)], (), "product", {})
    rng = np.random.default_rng(columns)
    feeds = {k: rng.standard_normal(t.shape).astype(np.float32) for k, t in (("x", x), ("w", w))}
    return Compiled(graph, optimize=True, numerics="standard", target=target), feeds


@pytest.mark.parametrize("columns", COLUMNS)
def test_bits_are_those_of_generic_lowering(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    generic, feeds = product(monkeypatch, columns, template=False)
    expected = generic(feeds)["out"]
    strips, _ = product(monkeypatch, columns)
    np.testing.assert_array_equal(strips(feeds)["out"], expected, strict=True)
    np.testing.assert_array_equal(strips(feeds, threads=2)["out"], expected, strict=True)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda t: t.name)
def test_every_target(monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    strips, feeds = product(monkeypatch, 513, target=target)
    expected = np.maximum(feeds["x"].astype(np.float64) @ feeds["w"], 0)
    np.testing.assert_allclose(strips(feeds)["out"], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("columns", [100, 300])
def test_loops_mean_what_runs(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    strips, feeds = product(monkeypatch, columns, summed=9)
    (step,) = strips.compilation.program.steps
    kernel = step.kernel
    arrays = {p.name: feeds[n] for p, n in zip(kernel.params, ("x", "w"), strict=False)}
    (out,) = kernel.outputs
    arrays[out.name] = np.full((1, columns), np.nan, np.float32)
    interpret(kernel, arrays)
    np.testing.assert_array_equal(arrays[out.name], strips(feeds)["out"])


def test_vectors_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    if HOST.register_bytes < 64:
        pytest.skip("other machines have registers for fewer")
    wide = product(monkeypatch, 1000)[0].compilation.stage("loops")
    assert "in 256 vector(16, 16)" in wide
    assert "in 232 vector(16, 14)" in wide
    few = product(monkeypatch, 512)[0].compilation.stage("loops")
    assert "in 128 vector(16, 8)" in few, "as many steps as threads want"
    # Long functions are written for every vector in flight.
    assert "vector(16, 16)" not in product(monkeypatch, 1000, dear=True)[0].compilation.stage(
        "loops"
    )
