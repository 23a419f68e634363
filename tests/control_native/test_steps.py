"""Calls, branches and loops as native code: every kind against its reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from tests.control_native.checking import body, call, cond, graph_of, place, same, scan, while_loop

RNG = np.random.default_rng(1)


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.standard_normal(shape).astype(np.float32)


def recurrence() -> graphc.Graph:
    c, x, k = place(3), place(3), place(3)
    # The last outputs are an input, a captured operand and a constant: copies in rows of their own.
    constant = graphc.constant(np.arange(2, dtype=np.float32))
    return body([c, x, k], [graphc.tanh(c + x * k), c * x, x, k, constant])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("symbolic", [False, True])
def test_scan(reverse: bool, symbolic: bool) -> None:
    first, k = place(3, "first"), place(3, "k")
    for length in (0, 1, 2, 7):
        rows = place(("n" if symbolic else length, 3), "rows")
        graph = graph_of(
            [first, rows, k], scan(recurrence(), [first], [rows], [k], reverse=reverse)
        )
        same(graph, {"first": floats(3), "rows": floats(length, 3), "k": floats(3)})


def test_carries_change_places() -> None:
    a, b, c = place((2,)), place((2,)), place((2,))
    starts = [place((2,), n) for n in "abc"]
    for length in range(5):
        graph = graph_of(starts, scan(body([a, b, c], [b, c, a + 1]), starts, length=length))
        same(graph, {n: floats(2) for n in "abc"})


def test_one_start_for_two_carries() -> None:
    a, b = place(2), place(2)
    start = place(2, "start")
    for length in (0, 1, 4):
        graph = graph_of([start], scan(body([a, b], [a + b, b * 2]), [start, start], length=length))
        same(graph, {"start": floats(2)})


def test_several_sequences_and_outputs() -> None:
    c, x, y = place((), dtype="float64"), place(2, dtype="int32"), place((2, 3), dtype="float64")
    outputs = [c + graphc.sum(y), x * 2, y.T, graphc.astype(c, "float32")]
    start = place((), "c", "float64")
    xs, ys = place(("n", 2), "x", "int32"), place(("n", 2, 3), "y", "float64")
    graph = graph_of([start, xs, ys], scan(body([c, x, y], outputs), [start], [xs, ys]))
    feeds = {"c": np.float64(0.5), "x": np.arange(8, dtype=np.int32).reshape(4, 2)}
    same(graph, feeds | {"y": RNG.standard_normal((4, 2, 3))}, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "bfloat16", "float64"])
def test_carries_of_every_kind(dtype: str) -> None:
    c, x = place(5, dtype=dtype), place(5, dtype=dtype)
    new = (c ^ x) if dtype == "bool" else c + x
    start, rows = place(5, "c", dtype), place(("n", 5), "x", dtype)
    graph = graph_of([start, rows], scan(body([c, x], [new, new]), [start], [rows]))
    values = RNG.integers(0, 2, (6, 5))
    host = np.float32 if dtype == "bfloat16" else np.dtype(dtype)
    for length in (0, 3, 4):
        feeds = {"c": values[5].astype(host), "x": values[:length].astype(host)}
        same(graph, feeds)


def test_scan_without_carries_and_without_sequences() -> None:
    x = place(3)
    rows = place(("n", 3), "rows")
    same(graph_of([rows], scan(body([x], [graphc.exp(x)]), [], [rows])), {"rows": floats(4, 3)})
    c = place((), dtype="int64")
    start = place((), "start", "int64")
    graph = graph_of([start], scan(body([c], [c * 3 + 1, c]), [start], length=9))
    same(graph, {"start": np.int64(1)})


def test_a_long_scan() -> None:
    """As many turns as anybody needs; the stack does not grow with them."""
    c, x = place((), dtype="int64"), place((), dtype="int64")
    start, rows = place((), "start", "int64"), place(("n",), "rows", "int64")
    graph = graph_of([start, rows], scan(body([c, x], [c + x, c]), [start], [rows]))
    values = np.arange(100_000)
    with graphc.Session(cache_dir="") as session:
        found = session.function([start, rows], dict(graph.outputs))(np.int64(0), values)
    assert found["r0"] == values.sum()
    np.testing.assert_array_equal(found["r1"], np.cumsum(values) - values)


def test_cond() -> None:
    a, b = place(4), place(4)
    p, x, y = place((), "p", "bool"), place(4, "x"), place(4, "y")
    # Both give an operand as it is.
    graph = graph_of([p, x, y], cond(p, body([a, b], [a + b, a]), body([a, b], [a - b, b]), x, y))
    for value in (True, False):
        same(graph, {"p": np.bool_(value), "x": floats(4), "y": floats(4)})


def test_only_the_chosen_branch_runs() -> None:
    i, table = place((), dtype="int64"), place(3)
    p, at, rows = place((), "p", "bool"), place((), "at", "int64"), place(3, "rows")
    take, leave = body([i, table], [graphc.take(table, i)]), body([i, table], [table[0]])
    graph = graph_of([p, at, rows], cond(p, take, leave, at, rows))
    same(graph, {"p": np.bool_(False), "at": np.int64(99), "rows": floats(3)})


def test_while() -> None:
    i, v, stop = place((), dtype="int64"), place(3), place((), dtype="int64")
    condition, step = body([i, v, stop], [i < stop]), body([i, v, stop], [i + 1, v * 2])
    starts = [place((), "i", "int64"), place(3, "v"), place((), "stop", "int64")]
    graph = graph_of(starts, while_loop(condition, step, starts[:2], starts[2:]))
    for turns in (0, 1, 2, 5):
        same(graph, {"i": np.int64(0), "v": floats(3), "stop": np.int64(turns)})


def test_a_while_without_carries() -> None:
    p = place((), dtype="bool")
    given = place((), "p", "bool")
    loop = while_loop(body([p], [p & ~p]), body([p], []), [], [given])
    same(graph_of([given], loop), {"p": np.bool_(True)})


def layer(width: int) -> graphc.Graph:
    x, w = place((2, width)), place((width, width))
    return body([x, w], [graphc.nn.relu(x @ w) + x])


@pytest.mark.parametrize("count", [1, 3, 40])
def test_calls(count: int) -> None:
    """Few calls are written out, many are a loop over a table."""
    x = y = place((2, 4), "x")
    for k in range(count):
        value = (RNG.standard_normal((4, 4)) * 0.3).astype(np.float32)
        (y,) = call(layer(4), y, graphc.variable(value, name=f"w{k}"))
    same(graphc.Graph([x], {"y": y}), {"x": floats(2, 4)}, rtol=1e-4)


def test_calls_of_symbolic_sizes() -> None:
    """Each call keeps its result for the end: places in the arena that depend on a size."""
    a, b = place(("n", 3)), place(3)
    add = body([a, b], [a + b])
    x = place(("n", 3), "x")
    kept = [x]
    for k in range(30):
        row = graphc.constant(np.full(3, k, np.float32))
        kept += call(add, kept[-1], row)
    graph = graph_of([x], [kept[-1], graphc.concat([k[:1] for k in kept])])
    same(graph, {"x": floats(4, 3)})


def test_nested() -> None:
    """A scan in a scan, a branch in it, a call in the branch, a loop in the branch."""
    v = place(3)
    double = body([v], [v + v])
    a = place(3)
    twice = body([a], call(double, *call(double, a)))
    i, w, b = place((), dtype="int64"), place(3), place(3)
    zero = graphc.constant(np.int64(0))
    halved = while_loop(body([i, w], [i < 3]), body([i, w], [i + 1, w * 0.5]), [zero, b])
    c, x = place(3), place(3)
    chosen = cond(graphc.sum(c) > 0, twice, body([b], halved[1:2]), c)
    inner = body([c, x], [chosen[0] + x, chosen[0]])
    c2, rows, k = place(3), place(("m", 3)), place(3)
    last, stacked = scan(inner, [c2], [rows], reverse=True)
    outer = body([c2, rows, k], [last * k, graphc.sum(stacked, axis=0)])
    start, every, scale = place(3, "start"), place(("n", "m", 3), "every"), place(3, "scale")
    graph = graph_of([start, every, scale], scan(outer, [start], [every], [scale]))
    for n, m in ((0, 2), (3, 0), (4, 5)):
        feeds = {"start": floats(3), "every": floats(n, m, 3), "scale": floats(3)}
        same(graph, feeds, rtol=1e-4)


def test_views_are_operands() -> None:
    """Transposes, slices, broadcasts, constants and generators are put into memory."""
    a, b, c, d = place((2, 3)), place(3), place((), dtype="float32"), place(4, dtype="int64")
    f = body([a, b, c, d], [a + b * c, graphc.sum(d)])
    x = place((3, 2), "x")
    four = graphc.constant(np.float32(4))
    graph = graph_of([x], call(f, x.T, x[:, 0], four, graphc.arange(4)))
    same(graph, {"x": floats(3, 2)})


def test_results_fuse_with_what_comes_after() -> None:
    a = place(8)
    f = body([a], [a + 1, a * 2])
    x = place(8, "x")
    one, two = call(f, x)
    graph = graph_of([x], [graphc.exp(one) * two + x, one, two + one])
    same(graph, {"x": floats(8)})
