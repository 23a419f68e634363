"""Products by blocks of rows against products that store what lies between: the same bits for all
sizes, known or not; nothing is read or written beside its place; what must be stored is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphc
from graphc import compiler, nn
from graphc.base.dims import evaluate
from graphc.base.dtypes import Array
from graphc.base.target import Target
from graphc.ir.graph import Graph
from graphc.kernels import TEMPLATES
from graphc.kernels.cascade_cpu import CascadeTemplate
from graphc.loops.interpret import interpret
from graphc.loops.nodes import Alloc, Stmt
from graphc.loops.walk import statements
from graphc.lower.kernel_builder import Shifted
from tests.conformance.running import HOST, RUNNABLE, Compiled

T = graphc.Tensor
Form = Callable[[T, T, T], T]


def _attention(q: T, k: T, v: T) -> T:
    return nn.scaled_dot_product_attention(q, k, v)


def _causal(q: T, k: T, v: T) -> T:
    return nn.scaled_dot_product_attention(q, k, v, causal=True)


def _added(q: T, k: T, v: T) -> T:
    mask = graphc.cos(q[..., :1]) + graphc.permute_dims(k[..., :1], (*range(q.ndim - 2), -1, -2))
    return graphc.tanh(nn.scaled_dot_product_attention(q, k, v, mask, scale=0.3))


def _means(q: T, k: T, v: T) -> T:
    """Rows of another kind: each score beside the mean of its row."""
    scores = q @ k.mT
    return (scores - graphc.mean(scores, axis=-1, keepdims=True)) @ v * 0.1


def _hidden(q: T, k: T, v: T) -> T:
    """No reduction between: a layer that is wider than those around it."""
    return graphc.tanh(q @ k.mT + 0.5) @ v + q[..., :1]


FORMS: dict[str, Form] = {
    "attention": _attention,
    "causal": _causal,
    "added": _added,
    "means": _means,
    "hidden": _hidden,
}
# (..., queries, features), keys, values' features
SIZES: list[tuple[tuple[int, ...], int, int]] = [
    ((2, 3, 37, 20), 45, 33),
    ((40, 16), 64, 40),
    ((3, 16, 8), 300, 64),
    ((2, 9, 270), 530, 17),
]


def _graph(
    form: Form, queries: tuple[int, ...], keys: int, values: int, dtype: str = "float32"
) -> tuple[Graph, dict[str, Array]]:
    rng = np.random.default_rng(5)
    outer, features = queries[:-2], queries[-1]
    shapes = {"q": queries, "k": (*outer, keys, features), "v": (*outer, keys, values)}
    arrays = {n: rng.standard_normal(s).astype(dtype) for n, s in shapes.items()}
    inputs = [(n, graphc.placeholder(s, dtype, name=n)) for n, s in shapes.items()]
    return Graph.build(inputs, [("out", form(*(t for _, t in inputs)))], (), "g", {}), arrays


def _compiled(
    monkeypatch: pytest.MonkeyPatch, graph: Graph, rows: int | None, target: Target = HOST
) -> Compiled:
    """rows: of a block, 0 for the machine's number; None: what lies between is stored."""
    others = tuple(t for t in TEMPLATES if not isinstance(t, CascadeTemplate))
    templates = others if rows is None else (CascadeTemplate(0, 0, 1000, rows), *others)
    monkeypatch.setattr(compiler, "TEMPLATES", templates)
    return Compiled(graph, optimize=True, numerics="standard", target=target)


def _is_cascade(compiled: Compiled) -> bool:
    return "(cascade, " in compiled.compilation.stage("regions")


def _is_between(stmt: Stmt) -> bool:
    return isinstance(stmt, Alloc) and stmt.buffer.name == "between"


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", FORMS)
def test_blocks_of_rows_do_not_change_bits(
    monkeypatch: pytest.MonkeyPatch, name: str, sizes: tuple[tuple[int, ...], int, int]
) -> None:
    graph, feeds = _graph(FORMS[name], *sizes)
    stored = _compiled(monkeypatch, graph, None)
    assert not _is_cascade(stored)
    expected = stored(feeds)["out"]
    for rows in (0, 5):
        blocks = _compiled(monkeypatch, graph, rows)
        assert _is_cascade(blocks)
        for threads in (1, 2, 3, 7):
            found = blocks(feeds, threads=threads)["out"]
            np.testing.assert_array_equal(found, expected, strict=True)
    np.testing.assert_allclose(expected, graph.evaluate(feeds)["out"], rtol=0, atol=1e-3)


GRADIENTS: list[tuple[tuple[int, ...], int, int]] = [
    ((2, 3, 37, 20), 45, 33),
    ((4, 300, 16), 70, 40),
    ((4, 512, 9), 33, 16),
]


@pytest.mark.parametrize("sizes", GRADIENTS, ids=str)
@pytest.mark.parametrize("name", ["attention", "causal"])
def test_gradients_compute_again(
    monkeypatch: pytest.MonkeyPatch, name: str, sizes: tuple[tuple[int, ...], int, int]
) -> None:
    """They wait for the result: two kernels compute what lies between, and none stores it."""
    forward, feeds = _graph(FORMS[name], *sizes)
    inputs = [t for _, t in forward.inputs]
    (out,) = (t for _, t in forward.outputs)
    gradients = graphc.grad(graphc.sum(out * out), inputs)
    outputs = [("out", out), *zip(("dq", "dk", "dv"), gradients, strict=True)]
    graph = Graph.build(forward.inputs, outputs, (), "g", {})
    stored = _compiled(monkeypatch, graph, None)
    expected = stored(feeds)
    for rows in (0, 5):
        blocks = _compiled(monkeypatch, graph, rows)
        assert blocks.compilation.stage("regions").count("(cascade, ") == 2
        for threads in (1, 2, 3, 7):
            found = blocks(feeds, threads=threads)
            for key, value in expected.items():
                np.testing.assert_array_equal(found[key], value, strict=True, err_msg=key)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda t: t.name)
def test_float64_on_every_target(monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    graph, feeds = _graph(_causal, *SIZES[0], "float64")
    stored, blocks = (_compiled(monkeypatch, graph, rows, target) for rows in (None, 0))
    assert _is_cascade(blocks)
    np.testing.assert_array_equal(blocks(feeds)["out"], stored(feeds)["out"], strict=True)


@pytest.mark.parametrize("name", ["attention", "causal"])
def test_sizes_that_run_time_knows(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    n, m, b = graphc.Dim("n"), graphc.Dim("m"), graphc.Dim("b")
    inputs = [
        ("q", graphc.placeholder((b, n, 16), name="q")),
        ("k", graphc.placeholder((b, m, 16), name="k")),
        ("v", graphc.placeholder((b, m, 40), name="v")),
    ]
    graph = Graph.build(inputs, [("out", FORMS[name](*(t for _, t in inputs)))], (), "g", {})
    blocks = _compiled(monkeypatch, graph, 0)
    assert _is_cascade(blocks)
    for b_, n_, m_ in [(2, 37, 45), (1, 1, 1), (1, 32, 33), (3, 65, 7), (0, 4, 4), (2, 0, 3)]:
        known, feeds = _graph(FORMS[name], (b_, n_, 16), m_, 40)
        expected = known.evaluate(feeds)["out"]
        np.testing.assert_allclose(blocks(feeds)["out"], expected, rtol=0, atol=1e-5)
    known, feeds = _graph(FORMS[name], (2, 37, 16), 45, 40)
    expected = _compiled(monkeypatch, known, None)(feeds)["out"]
    np.testing.assert_array_equal(blocks(feeds, threads=3)["out"], expected, strict=True)


@pytest.mark.parametrize("name", ["causal", "hidden"])
def test_loops_mean_what_runs(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also: no read of memory that was not written, no place written twice at once."""
    graph, feeds = _graph(FORMS[name], (2, 11, 8), 35, 33)
    blocks = _compiled(monkeypatch, graph, 5)
    every = blocks.compilation.lowered.kernels
    (lowered,) = [k for k in every if any(map(_is_between, statements(k.kernel.body)))]
    expected = blocks(feeds)["out"]
    views: dict[str, Array] = {}
    for buffer, stored in zip(lowered.kernel.params, lowered.args, strict=True):
        shape = [evaluate(d, {}) for d in buffer.shape]
        if buffer in lowered.kernel.outputs:
            views[buffer.name] = np.zeros(shape, np.float32)
            continue
        source = stored.root if isinstance(stored, Shifted) else stored
        assert isinstance(source, graphc.Tensor)
        value = Graph.build(graph.inputs, [("x", source)], (), "x", {}).evaluate(feeds)["x"]
        views[buffer.name] = np.ascontiguousarray(value).reshape(shape)
    assert interpret(lowered.kernel, views, {}) == 0
    (out,) = lowered.kernel.outputs
    np.testing.assert_allclose(views[out.name].reshape(expected.shape), expected, atol=1e-6)


def _mirrored(scores: T) -> T:
    return graphc.flip(scores, axis=1) - graphc.mean(scores, axis=1, keepdims=True)


def test_what_others_read_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (graphc.placeholder((64, 32), name=n) for n in "qkv")
    weights = graphc.softmax(q @ k.mT)
    out = weights @ v
    several: dict[str, list[tuple[str, T]]] = {
        "an output": [("out", out), ("weights", weights)],
        "another reader": [("out", out), ("sums", graphc.sum(weights, axis=0))],
        "both operands": [("out", weights @ weights)],
        "columns of rows": [("out", graphc.softmax(q @ k.mT, axis=0) @ v)],
        "other elements of the row": [("out", _mirrored(q @ k.mT) @ v)],
        "turned": [("out", weights.mT @ v)],
    }
    for name, outputs in several.items():
        graph = Graph.build([("q", q), ("k", k), ("v", v)], outputs, (), "g", {})
        assert not _is_cascade(_compiled(monkeypatch, graph, 0)), name


def test_operands_may_be_large_products_too(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, k, v = (graphc.placeholder((64, 32), name=n) for n in "xwkv")
    out = nn.scaled_dot_product_attention(x @ w[:32], k, v)
    graph = Graph.build([("x", x), ("w", w), ("k", k), ("v", v)], [("out", out)], (), "g", {})
    rng = np.random.default_rng(1)
    feeds = {n: rng.standard_normal((64, 32)).astype(np.float32) * 0.3 for n in "xwkv"}
    blocks, stored = (_compiled(monkeypatch, graph, rows) for rows in (0, None))
    (cascade,) = [r for r in blocks.compilation.lowered.regions if r.kind == "cascade"]
    assert [stage.domain for stage in cascade.stages] == [(64, 64), (64, 64), (64, 32)]
    np.testing.assert_array_equal(blocks(feeds)["out"], stored(feeds)["out"], strict=True)


def test_numerics_are_watched_between(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (graphc.placeholder((1024, 16), name=n) for n in "qkv")
    out = graphc.exp(q @ k.mT) @ v
    with graphc.Session(threads=2, check_numerics=True) as session:
        step = session.function([q, k, v], out)
        assert "(cascade, " in step.explain("regions")
        arrays = [np.ones((1024, 16), np.float32) for _ in range(3)]
        step(*arrays)
        with pytest.raises(graphc.NumericsError, match="exp"):
            step(arrays[0] * 100, *arrays[1:])


def test_small_matrices_and_wide_products_stay_apart() -> None:
    with graphc.Session(threads=2) as session:
        for queries, width, joined in [(1024, 64, True), (128, 64, False), (1024, 1024, False)]:
            shape = (queries, width)
            q, k, v = (graphc.placeholder(shape, name=n) for n in "qkv")
            step = session.function([q, k, v], nn.scaled_dot_product_attention(q, k, v))
            assert ("(cascade, " in step.explain("regions")) == joined, shape
