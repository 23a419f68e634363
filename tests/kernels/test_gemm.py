"""Blocked products against generic lowering: the same bits, whatever the blocks; nothing is read
or written beside its place; the loops mean what the native code does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphc
import graphc.nn
from graphc import compiler
from graphc.base.dims import evaluate
from graphc.base.dtypes import Array
from graphc.base.target import Target
from graphc.ir.graph import Graph
from graphc.kernels.gemm_cpu import GemmTemplate, Limits
from graphc.kernels.gemm_problem import Blocks, Problem
from graphc.loops.interpret import interpret
from graphc.lower.regions import Region
from graphc.schedule.panels import cut
from tests.conformance.running import HOST, RUNNABLE, Compiled

ANY = Limits(0, 0, 0, 0, 0)
# Blocks so small that every product has many, with remainders; and those of the machine.
SMALL = Blocks(height=3, width=16, vectors=2, rows=7, lines=2, columns=40)
CHOICES: dict[str, Blocks | None] = {
    "machine": None,
    "small": SMALL,
    "shared": replace(SMALL, columns=64, shared=True),
    "in place": replace(SMALL, pack_rows=False, vectors=1),
    "wide": replace(SMALL, narrow=False, rows=50, lines=9, columns=96, height=8),
}
# spec: sizes of the letters
PRODUCTS: dict[str, dict[str, int]] = {
    "mk,kn->mn": {"m": 33, "k": 300, "n": 75},
    "km,kn->mn": {"m": 20, "k": 37, "n": 64},
    "mk,nk->mn": {"m": 20, "k": 37, "n": 64},
    "kn,mk->mn": {"m": 9, "k": 530, "n": 17},
    "bmk,bkn->bmn": {"b": 3, "m": 11, "k": 40, "n": 50},
    "mbk,bkn->mbn": {"b": 3, "m": 11, "k": 40, "n": 50},
    "btd,dhk->bthk": {"b": 2, "t": 5, "d": 30, "h": 3, "k": 20},
    "bthk,dhk->btd": {"b": 2, "t": 5, "d": 30, "h": 3, "k": 20},
    "bti,bto->io": {"b": 3, "t": 130, "i": 9, "o": 40},
    "nchw,oc->nohw": {"n": 2, "c": 12, "h": 5, "w": 7, "o": 10},
    "nohw,nchw->oc": {"n": 2, "c": 12, "h": 9, "w": 70, "o": 10},
}


def _product(spec: str, sizes: dict[str, int], dtype: str) -> tuple[Graph, dict[str, Array]]:
    rng = np.random.default_rng(3)
    operands, arrays = [], {}
    for name, letters in zip("xy", spec.split("->")[0].split(","), strict=True):
        shape = tuple(sizes[c] for c in letters)
        operands.append(graphc.placeholder(shape, dtype, name=name))
        arrays[name] = rng.standard_normal(shape).astype(dtype)
    out = graphc.tanh(graphc.einsum(spec, *operands)) * 2
    inputs = list(zip("xy", operands, strict=True))
    return Graph.build(inputs, [("out", out)], (), "product", {}), arrays


class _Forced(GemmTemplate):
    """The template with given blocks, made to fit each problem."""

    def configs(self, problem: tuple[Region, Problem], target: Target) -> Iterable[Blocks]:
        (blocks,) = super().configs(problem, target)
        found = problem[1]
        if len(found.columns) > 1:
            last = found.sizes[found.columns[-1]]
            assert isinstance(last, int)
            blocks = replace(blocks, columns=last, shared=False)
        else:
            blocks = replace(blocks, lines=1)
        yield blocks


def _compiled(
    monkeypatch: pytest.MonkeyPatch,
    graph: Graph,
    templates: tuple[GemmTemplate, ...],
    target: Target = HOST,
) -> Compiled:
    monkeypatch.setattr(compiler, "TEMPLATES", templates)
    return Compiled(graph, optimize=True, numerics="standard", target=target)


def _both(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, choice: str, target: Target = HOST
) -> tuple[Compiled, Compiled]:
    """The graph by generic lowering and by the template."""
    plain = _compiled(monkeypatch, graph, (), target)
    forced = _Forced(ANY, ANY, ANY, CHOICES[choice])
    blocked = _compiled(monkeypatch, graph, (forced,), target)
    assert "c_block" in blocked.compilation.stage("loops"), "the template was not used"
    return plain, blocked


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("spec", PRODUCTS)
def test_blocks_do_not_change_bits(monkeypatch: pytest.MonkeyPatch, spec: str, choice: str) -> None:
    graph, arrays = _product(spec, PRODUCTS[spec], "float32")
    plain, blocked = _both(monkeypatch, graph, choice)
    np.testing.assert_array_equal(blocked(arrays)["out"], plain(arrays)["out"], strict=True)
    graph_value = graph.evaluate(arrays)["out"]
    np.testing.assert_allclose(blocked(arrays, threads=2)["out"], graph_value, rtol=0, atol=2e-4)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda t: t.name)
def test_float64_on_every_target(monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    spec = "mk,kn->mn"
    graph, arrays = _product(spec, PRODUCTS[spec], "float64")
    plain, blocked = _both(monkeypatch, graph, "machine", target)
    np.testing.assert_array_equal(blocked(arrays)["out"], plain(arrays)["out"], strict=True)


@pytest.mark.parametrize("m,k,n", [(1, 1, 1), (40, 300, 33), (8, 256, 64), (7, 700, 5)])
def test_sizes_that_run_time_knows(monkeypatch: pytest.MonkeyPatch, m: int, k: int, n: int) -> None:
    dims = [graphc.Dim(c) for c in "mkn"]
    x, y = graphc.placeholder(dims[:2], name="x"), graphc.placeholder(dims[1:], name="y")
    graph = Graph.build([("x", x), ("y", y)], [("out", graphc.matmul(x, y) + 1)], (), "product", {})
    rng = np.random.default_rng(4)
    arrays = {
        "x": rng.standard_normal((m, k)).astype(np.float32),
        "y": rng.standard_normal((k, n)).astype(np.float32),
    }
    plain, blocked = _both(monkeypatch, graph, "small")
    np.testing.assert_array_equal(blocked(arrays)["out"], plain(arrays)["out"], strict=True)
    fixed, arrays_fixed = _product("mk,kn->mn", {"m": m, "k": k, "n": n}, "float32")
    known = _compiled(monkeypatch, fixed, ())(arrays_fixed)["out"]
    p, q = (graphc.placeholder(s, name=c) for c, s in (("x", dims[:2]), ("y", dims[1:])))
    same = Graph.build(
        [("x", p), ("y", q)], [("out", graphc.tanh(graphc.matmul(p, q)) * 2)], (), "product", {}
    )
    unknown = _compiled(monkeypatch, same, ())(arrays_fixed)["out"]
    np.testing.assert_array_equal(known, unknown, strict=True)


# channels, results, size, kernel, stride, padding, dilation
IMAGES = [
    (3, 5, 9, 3, 1, 1, 1),
    (40, 9, 7, 3, 1, 1, 1),
    (5, 8, 11, 3, 2, 0, 1),
    (4, 7, 12, (3, 2), 1, 1, 2),
    (70, 9, 8, 1, 1, 0, 1),
    (12, 5, 9, 1, 2, 0, 1),
]


@pytest.mark.parametrize("choice", ["machine", "small"])
@pytest.mark.parametrize("case", IMAGES, ids=str)
def test_convolutions(monkeypatch: pytest.MonkeyPatch, case: tuple[Any, ...], choice: str) -> None:
    channels, results, size, kernel, stride, padding, dilation = case
    x = graphc.placeholder((2, channels, size, size), name="x")
    ks = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    w = graphc.placeholder((results, channels, *ks), name="w")
    out = graphc.nn.conv(x, w, stride=stride, padding=padding, dilation=dilation)
    inputs, loss = [("x", x), ("w", w)], graphc.sum(out * out)
    gx, gw = graphc.grad(loss, [x, w])
    graph = Graph.build(inputs, [("out", out), ("gx", gx), ("gw", gw)], (), "conv", {})
    rng = np.random.default_rng(6)
    arrays = {n: rng.standard_normal(t.shape).astype(np.float32) for n, t in inputs}
    plain, blocked = _both(monkeypatch, graph, choice)
    expected, found = plain(arrays), blocked(arrays)
    for name in ("out", "gx", "gw"):
        np.testing.assert_array_equal(found[name], expected[name], strict=True)


def test_windows_are_read_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = (
        graphc.placeholder((1, 64, 30, 30), name="x"),
        graphc.placeholder((64, 64, 3, 3), name="w"),
    )
    graph = Graph.build([("x", x), ("w", w)], [("out", graphc.nn.conv(x, w))], (), "conv", {})
    (kernel,) = _compiled(monkeypatch, graph, (GemmTemplate(),)).compilation.lowered.kernels
    assert [p.shape for p in kernel.kernel.params[:1]] == [(1, 64, 30, 30)]


def test_gradients_of_kernels_run_along_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    x, g = graphc.placeholder((2, 40, 9, 9), name="x"), graphc.placeholder((2, 5, 7, 7), name="g")
    w = graphc.placeholder((5, 40, 3, 3), name="w")
    (gw,) = graphc.vjp([graphc.nn.conv(x, w)], [w], [g])
    graph = Graph.build([("x", x), ("g", g)], [("gw", gw)], (), "kernels", {})
    compiled = _compiled(monkeypatch, graph, ())
    assert "out %einsum: f32[5, 3, 3, 40]" in compiled.compilation.stage("loops")
    rng = np.random.default_rng(7)
    arrays = {n: rng.standard_normal(t.shape).astype(np.float32) for n, t in graph.inputs}
    expected = graph.evaluate(arrays)["gw"]
    np.testing.assert_allclose(compiled(arrays)["gw"], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("choice", ["small", "shared", "in place"])
def test_loops_mean_what_runs(monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    """Also: no read of memory that was not written, no place written twice at once."""
    graph, arrays = _product("mk,kn->mn", {"m": 8, "k": 290, "n": 37}, "float32")
    _, blocked = _both(monkeypatch, graph, choice)
    memory: dict[int, Array] = {}
    for name, tensor in graph.inputs:
        memory[id(tensor)] = arrays[name]
    out: dict[str, Array] = {}
    for lowered in blocked.compilation.lowered.kernels:
        out = {}
        for buffer, stored in zip(lowered.kernel.params, lowered.args, strict=True):
            shape = tuple(evaluate(d, {}) for d in buffer.shape)
            array = memory.setdefault(id(stored), np.zeros(shape, buffer.dtype.numpy))
            out[buffer.name] = array.reshape(shape)
        assert interpret(lowered.kernel, out) == 0
    (result,) = [out[b.name] for b in lowered.kernel.outputs]
    np.testing.assert_allclose(result, blocked(arrays)["out"], rtol=1e-6)


def test_only_large_products_are_blocked() -> None:
    def takes(m: int, k: int, n: int, spec: str = "mk,kn->mn") -> bool:
        sizes = {"m": m, "k": k, "n": n}
        left, right = spec.split("->")[0].split(",")
        x = graphc.placeholder([sizes[c] for c in left], name="x")
        y = graphc.placeholder([sizes[c] for c in right], name="y")
        return GemmTemplate().problem(graphc.einsum(spec, x, y), HOST) is not None

    assert takes(2048, 2048, 2048)
    assert not takes(1024, 1024, 1024)  # left to strips, unless an operand is turned
    assert takes(1024, 1024, 1024, "km,kn->mn")
    assert takes(128, 768, 3072, "mk,nk->mn")
    assert not takes(256, 256, 256, "km,kn->mn")
    assert not takes(8, 4096, 4096)


def test_panels_are_not_packed_again() -> None:
    x = graphc.placeholder((64, 1024), name="x")

    def takes(shape: tuple[int, ...], spec: str) -> bool:
        w = graphc.placeholder(shape, name="w")
        return GemmTemplate().problem(graphc.einsum(spec, x, w), HOST) is not None

    assert not takes((32, 1024, 32), "mk,pkn->mpn")
    assert not takes((1024, 32, 32), "mk,kpn->mpn")  # one line of columns: left to strips
    assert takes((32, 1024, 64), "mk,pkn->mpn")


@pytest.mark.parametrize(
    "sizes,expected",
    [
        ((5,), (0, 5)),
        ((300,), (0, 256)),
        ((64, 3, 3), (0, 252)),
        ((8, 56, 56), (1, 224)),
        ((8, 7, 7), (0, 245)),
        ((4, 300), (1, 256)),
        ((2, 256), (0, 256)),
    ],
)
def test_panels(sizes: tuple[int, ...], expected: tuple[int, int]) -> None:
    assert cut(sizes) == expected


def test_long_sums_are_accurate() -> None:
    rng = np.random.default_rng(5)
    a = rng.standard_normal((64, 4096)).astype(np.float32)
    b = rng.standard_normal((4096, 64)).astype(np.float32)
    x, y = graphc.placeholder(a.shape, name="x"), graphc.placeholder(b.shape, name="y")
    with graphc.Session() as session:
        found = session.function([x, y], x @ y)(a, b)
    true = a.astype(np.float64) @ b.astype(np.float64)
    # One chain of 4096 has an error of 1.2e-6 of the largest result, panels of 256 a quarter.
    assert np.abs(found - true).max() / np.abs(true).max() < 6e-7
