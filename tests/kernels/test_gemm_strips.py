"""Products in strips against generic lowering: the same bits for all sizes, known or not; nothing
is read or written beside its place; the loops mean what the native code does.
"""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc import compiler
from graphc.base.dims import evaluate
from graphc.base.dtypes import Array
from graphc.base.target import Target
from graphc.ir.graph import Graph
from graphc.kernels import gemm_strips
from graphc.kernels.gemm_strips import Strips, StripTemplate
from graphc.loops.interpret import interpret
from graphc.loops.nodes import Prefetch
from graphc.loops.walk import statements
from graphc.lower.template import KernelTemplate
from tests.conformance.running import HOST, RUNNABLE, Compiled

# Sizes so small that every product has many blocks, with remainders; and those of the machine.
CHOICES = {"machine": None, "small": Strips(3, 16, 2, 6, 40), "one vector": Strips(4, 16, 1, 8, 16)}
PRODUCTS: dict[str, dict[str, int]] = {
    "mk,kn->mn": {"m": 33, "k": 300, "n": 75},
    "km,kn->mn": {"m": 20, "k": 37, "n": 64},
    "kn,mk->mn": {"m": 9, "k": 530, "n": 17},
    "k,kn->n": {"k": 270, "n": 65},
    "bmk,bkn->bmn": {"b": 3, "m": 11, "k": 40, "n": 50},
    "mbk,bkn->mbn": {"b": 3, "m": 7, "k": 40, "n": 50},
    "bti,bto->io": {"b": 3, "t": 130, "i": 9, "o": 40},
    "mk,khw->mhw": {"m": 18, "k": 40, "h": 9, "w": 14},
    "mk,bkhw->bmhw": {"b": 2, "m": 7, "k": 300, "h": 5, "w": 15},
}


def _graph(spec: str, sizes: dict[str, int], unknown: str, dtype: str) -> tuple[Graph, list[Array]]:
    """A product whose letters in `unknown` have sizes that run time knows, and its operands."""
    rng = np.random.default_rng(3)
    dims = {c: graphc.Dim(c.upper()) if c in unknown else sizes[c] for c in sizes}
    inputs, arrays = [], []
    for name, letters in zip("xy", spec.split("->")[0].split(","), strict=True):
        inputs.append((name, graphc.placeholder([dims[c] for c in letters], dtype, name=name)))
        arrays.append(rng.standard_normal([sizes[c] for c in letters]).astype(dtype))
    out = graphc.einsum(spec, *(t for _, t in inputs))
    # Cheap work is done in registers, other work in a loop of its own.
    out = graphc.maximum(out, -1) if "h" in spec else graphc.tanh(out) * 2
    return Graph.build(inputs, [("out", out)], (), "product", {}), arrays


def _compiled(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, strips: Strips | None, generic: bool = False
) -> Compiled:
    templates: tuple[KernelTemplate, ...] = () if generic else (StripTemplate(0, 0, strips),)
    monkeypatch.setattr(compiler, "TEMPLATES", templates)
    return Compiled(graph, optimize=True, numerics="standard", target=HOST)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("spec", PRODUCTS)
def test_strips_do_not_change_bits(monkeypatch: pytest.MonkeyPatch, spec: str, choice: str) -> None:
    graph, arrays = _graph(spec, PRODUCTS[spec], "", "float32")
    feeds = dict(zip("xy", arrays, strict=True))
    strips = _compiled(monkeypatch, graph, CHOICES[choice])
    generic = _compiled(monkeypatch, graph, None, generic=True)
    stages = [c.compilation.stage("loops") for c in (strips, generic)]
    assert stages[0] != stages[1], "the template was not used"
    expected = generic(feeds)["out"]
    np.testing.assert_array_equal(strips(feeds)["out"], expected, strict=True)
    np.testing.assert_array_equal(strips(feeds, threads=2)["out"], expected, strict=True)
    value = graph.evaluate(feeds)["out"]
    np.testing.assert_allclose(expected, value, rtol=0, atol=2e-4)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda t: t.name)
def test_float64_on_every_target(monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    graph, arrays = _graph("mk,kn->mn", PRODUCTS["mk,kn->mn"], "mk", "float64")
    feeds = dict(zip("xy", arrays, strict=True))
    found = []
    for templates in ((), (StripTemplate(),)):
        monkeypatch.setattr(compiler, "TEMPLATES", templates)
        program = Compiled(graph, optimize=True, numerics="standard", target=target)
        found.append(program(feeds)["out"])
    np.testing.assert_array_equal(found[1], found[0], strict=True)


@pytest.mark.parametrize("unknown", ["m", "k", "n", "mkn"])
def test_sizes_that_run_time_knows(monkeypatch: pytest.MonkeyPatch, unknown: str) -> None:
    """One compilation for all sizes gives the bits of compilations for each."""
    sizes = {"m": 21, "k": 300, "n": 45}
    graph, _ = _graph("mk,kn->mn", sizes, unknown, "float32")
    any_size = _compiled(monkeypatch, graph, None)
    for letter in unknown:
        for size in (0, 1, 2, 7, 8, 9, 256, 257):
            here = sizes | {letter: size}
            known, arrays = _graph("mk,kn->mn", here, "", "float32")
            feeds = dict(zip("xy", arrays, strict=True))
            expected = known.evaluate(feeds)["out"]
            found = any_size(feeds)["out"]
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)
    for size in (2, 33):
        here = sizes | dict.fromkeys(unknown, size)
        known, arrays = _graph("mk,kn->mn", here, "", "float32")
        feeds = dict(zip("xy", arrays, strict=True))
        expected = _compiled(monkeypatch, known, None, generic=True)(feeds)["out"]
        np.testing.assert_array_equal(any_size(feeds)["out"], expected, strict=True)


def test_images_whose_height_run_time_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = "mk,khw->mhw"
    graph, arrays = _graph(spec, PRODUCTS[spec], "h", "float32")
    feeds = dict(zip("xy", arrays, strict=True))
    strips, generic = (_compiled(monkeypatch, graph, None, generic) for generic in (False, True))
    assert "c_block" not in strips.compilation.stage("loops"), "results leave the registers at once"
    np.testing.assert_array_equal(strips(feeds)["out"], generic(feeds)["out"], strict=True)


LOOPS = {
    "few rows": ("mk,kn->mn", {"m": 8, "k": 290, "n": 37}),
    "one row": ("mk,kn->mn", {"m": 1, "k": 290, "n": 37}),
    "image": ("mk,khw->mhw", {"m": 12, "k": 40, "h": 5, "w": 11}),
}


@pytest.mark.parametrize("unknown", ["", "mknh"])
@pytest.mark.parametrize("name", LOOPS)
def test_loops_mean_what_runs(monkeypatch: pytest.MonkeyPatch, name: str, unknown: str) -> None:
    """Also: no read of memory that was not written, no place written twice at once."""
    spec, sizes = LOOPS[name]
    graph, arrays = _graph(spec, sizes, unknown, "float32")
    strips = _compiled(monkeypatch, graph, CHOICES["small"])
    (lowered,) = strips.compilation.lowered.kernels
    out = np.zeros([sizes[c] for c in spec.split("->")[1]], np.float32)
    shaped = dict(zip("xy", arrays, strict=True))
    known = {c.upper(): sizes[c] for c in unknown if c in sizes}
    views = {}
    for buffer in lowered.kernel.params:
        source = out if buffer in lowered.kernel.outputs else shaped[buffer.name]
        views[buffer.name] = source.reshape([evaluate(d, known) for d in buffer.shape])
    assert interpret(lowered.kernel, views, known) == 0
    np.testing.assert_allclose(out, strips(shaped)["out"], rtol=1e-6)


@pytest.mark.parametrize("unknown", ["", "m"])
def test_large_operands_are_asked_for_ahead(monkeypatch: pytest.MonkeyPatch, unknown: str) -> None:
    spec, sizes = "mk,kn->mn", {"m": 20, "k": 530, "n": 75}
    graph, arrays = _graph(spec, sizes, unknown, "float32")
    feeds = dict(zip("xy", arrays, strict=True))
    small = _compiled(monkeypatch, graph, CHOICES["small"])
    monkeypatch.setattr(gemm_strips, "AHEAD_BYTES", 0)
    large = _compiled(monkeypatch, graph, CHOICES["small"])
    (lowered,) = large.compilation.lowered.kernels
    assert "prefetch" not in small.compilation.stage("loops")
    asked = [s for s in statements(lowered.kernel.body) if isinstance(s, Prefetch)]
    (y,) = {s.buffer for s in asked}
    assert len(asked) == 3 and y.name == "y", "lines of 32 columns that begin anywhere"
    np.testing.assert_array_equal(large(feeds)["out"], small(feeds)["out"], strict=True)


def test_what_is_not_asked_for_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm_strips, "AHEAD_BYTES", 0)
    one_panel = "mk,kn->mn", {"m": 20, "k": 200, "n": 75}
    unknown = "mk,kn->mn", {"m": 20, "k": 530, "n": 75}
    for (spec, sizes), letters in ((one_panel, ""), (unknown, "kn")):
        graph, _ = _graph(spec, sizes, letters, "float32")
        compiled = _compiled(monkeypatch, graph, CHOICES["small"])
        assert "b_block" in compiled.compilation.stage("loops")
        assert "prefetch" not in compiled.compilation.stage("loops")


def test_which_products_are_taken() -> None:
    def takes(m: int | str, k: int | str, n: int | str) -> bool:
        x, y = graphc.placeholder((m, k), name="x"), graphc.placeholder((k, n), name="y")
        return StripTemplate().problem(graphc.matmul(x, y), HOST) is not None

    def takes_image(spec: str) -> bool:
        x, y = graphc.placeholder((64, 64), name="x"), graphc.placeholder((64, 56, 48), name="y")
        return StripTemplate().problem(graphc.einsum(spec, x, y), HOST) is not None

    assert takes(8, 1024, 1024)
    assert takes("m", 128, 256)
    assert takes(64, "k", 64)
    assert takes_image("mk,khw->mhw")
    assert not takes_image("mk,khw->mwh"), "columns are not neighbours"
    assert not takes("m", 16, 16)
    assert not takes(1000, 100, 10)
    assert not takes(100, 1000, 1)


def test_pixels_are_neighbours_in_memory_whatever_the_image() -> None:
    image, residual = (
        graphc.placeholder((1, c, 28, 28), name=n) for n, c in (("x", 128), ("r", 256))
    )
    weights = graphc.constant(np.ones((256, 128, 1, 1), np.float32))
    out = graphc.nn.relu(graphc.nn.conv(image, weights) + residual)
    graph = Graph.build([("x", image), ("r", residual)], [("out", out)], (), "conv", {})
    compiled = Compiled(graph, optimize=True, numerics="standard", target=HOST)
    assert "let start" in compiled.compilation.stage("loops"), "strips of pixels"
    assert not {"scatter", "gather"} & set(compiled.compilation.stage("llvm").split("."))
