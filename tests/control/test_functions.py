"""The public functions: what they compute by the reference, and errors at the user's line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc.ir.parse import parse

f32 = np.float32


def value(tensor: Any, **feeds: Any) -> Any:
    inputs = [
        n for n in graphc.autodiff.substitution.ordered([tensor]) if n.op.name == "placeholder"
    ]
    return graphc.Graph(inputs, {"y": tensor}).evaluate(feeds)["y"]


# -- cond -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [4.0, -4.0])
def test_cond_runs_one_branch(x: float) -> None:
    t = graphc.placeholder((), "float64", name="x")
    y = graphc.cond(t > 0, lambda: graphc.sqrt(t), lambda: t * 10)
    graph = graphc.Graph([t], {"y": y})
    assert [n.op.name for n in graph.nodes].count("sqrt") == 0, "the branch's code is inside"
    assert graph.evaluate({"x": x})["y"] == (2.0 if x > 0 else -40.0)


def test_cond_of_nests_and_operands() -> None:
    t = graphc.placeholder((2,), name="x")
    flag = graphc.placeholder((), "bool", name="flag")
    found = graphc.cond(
        flag,
        lambda a, b: {"sum": a["v"] + b, "none": None, "pair": (a["v"], 1.0)},
        lambda a, b: {"sum": a["v"] - b, "none": None, "pair": (b, 2.0)},
        {"v": t},
        t * 2,
    )
    assert found["none"] is None
    graph = graphc.Graph([t, flag], {"sum": found["sum"], "one": found["pair"][1]})
    up = graph.evaluate({"x": [1.0, 2.0], "flag": True})
    down = graph.evaluate({"x": [1.0, 2.0], "flag": False})
    np.testing.assert_array_equal(up["sum"], [3, 6])
    np.testing.assert_array_equal(down["sum"], [-1, -2])
    assert up["one"] == 1.0 and down["one"] == 2.0


# -- while_loop -----------------------------------------------------------------------------------


def test_while_loop_counts_its_turns() -> None:
    x = graphc.placeholder((), "float64", name="x")
    (y, k), turns = graphc.while_loop(
        lambda c: c[0] < 100, lambda c: (c[0] * 2, c[1] + 1), (x, 0), return_turns=True
    )
    graph = graphc.Graph([x], {"y": y, "k": k, "turns": turns})
    assert {k: float(v) for k, v in graph.evaluate({"x": 3.0}).items()} == {
        "y": 192.0,
        "k": 6.0,
        "turns": 6.0,
    }
    assert graph.evaluate({"x": 300.0})["turns"] == 0


def test_while_loop_with_a_maximum() -> None:
    x = graphc.placeholder((), "float64", name="x")
    y, turns = graphc.while_loop(
        lambda c: c < 1e9, lambda c: c + 1, x, maximum=5, return_turns=True
    )
    assert graphc.Graph([x], {"y": y, "t": turns}).evaluate({"x": 0.0}) == {"y": 5.0, "t": 5}


# -- scan -----------------------------------------------------------------------------------------


def running(xs: Any, **options: Any) -> Any:
    return graphc.scan(lambda c, x: (c + x, {"c": c, "x": x * 2}), np.float32(0), xs, **options)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2, 7])
@pytest.mark.parametrize("checkpoint", [None, 1, 2, 3, 10])
@pytest.mark.parametrize("symbolic", [False, True])
def test_scan_stacks_and_carries(
    reverse: bool, n: int, checkpoint: int | None, symbolic: bool
) -> None:
    x = graphc.placeholder(("n" if symbolic else n,), name="x")
    total, rows = running(x, reverse=reverse, checkpoint=checkpoint)
    graph = graphc.Graph([x], {"total": total, **rows})
    assert graph["c"].shape == x.shape
    data = np.arange(1, n + 1, dtype=f32)
    found = graph.evaluate({"x": data})
    assert parse(str(graph)) == graph
    order = data[::-1] if reverse else data
    before = np.concatenate([[0], np.cumsum(order)])[:-1].astype(f32)
    assert found["total"] == data.sum()
    np.testing.assert_array_equal(found["c"], before[::-1] if reverse else before)
    np.testing.assert_array_equal(found["x"], data * 2)


def test_scan_of_a_length_without_sequences() -> None:
    n = graphc.Dim("n")
    x = graphc.placeholder((n,), name="x")
    last, _ = graphc.scan(lambda c, _: (c * 2 + x[0], None), np.float32(1), length=n)
    assert value(last, x=np.zeros(5, f32)) == 32


def test_truncate_keeps_the_values() -> None:
    x = graphc.placeholder(("n",), name="x")
    for k in (1, 2, 3):
        total, rows = running(x, truncate=k)
        graph = graphc.Graph([x], {"total": total, "c": rows["c"]})
        found = graph.evaluate({"x": np.arange(5, dtype=f32)})
        assert found["total"] == 10
        np.testing.assert_array_equal(found["c"], [0, 0, 1, 3, 6])


def test_what_no_turn_changes_stays_outside() -> None:
    x = graphc.placeholder((4, 3), name="x")
    w = graphc.placeholder((3, 3), name="w")
    last, _ = graphc.scan(lambda c, row: (c @ (w.T * 2) + row, None), x[0], x)
    graph = graphc.Graph([x, w], {"y": last})
    inside = [n.op.name for n in graph.bodies[0].nodes]
    assert "permute_dims" not in inside and "multiply" not in inside
    assert len(graph.bodies[0].inputs) == 3


def test_names_inside_stay() -> None:
    x = graphc.placeholder((4,), name="x")
    w = graphc.placeholder((), name="w")
    last, _ = graphc.scan(lambda c, r: (graphc.tanh((c * w).named("h") + r), None), x[0], x)
    body = graphc.Graph([x, w], {"y": last}).bodies[0]
    assert body["h"].op.name == "multiply"


# -- function -------------------------------------------------------------------------------------


def test_calls_share_one_body_and_trace_once() -> None:
    runs = []

    @graphc.function
    def layer(x: Any, w: Any, scale: float = 1.0) -> Any:
        runs.append(1)
        return {"y": graphc.tanh(x @ w) * scale}

    x = graphc.placeholder((2, 3), name="x")
    y = x
    for k in range(10):
        y = layer(y, graphc.variable(np.eye(3, dtype=f32) * k))["y"]
    graph = graphc.Graph([x], {"y": y})
    assert len(runs) == 1 and len(graph.bodies) == 1
    other = layer(y, np.eye(3, dtype=f32), scale=2.0)["y"]
    assert len(runs) == 2
    assert value(other, x=np.ones((2, 3), f32)).shape == (2, 3)


# -- errors ---------------------------------------------------------------------------------------

X = graphc.placeholder((4, 3), name="x")
V = graphc.placeholder((3,), name="v")
D = graphc.placeholder((3,), "float64", name="d")

WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "the dtype of a carry changes": (
        lambda: graphc.scan(lambda c, x: (c + D, None), V, X),
        graphc.DTypeError,
        r"the carry must keep f32\[3\], got f64\[3\]",
    ),
    "the shape of a carry changes": (
        lambda: graphc.scan(lambda c, x: (graphc.sum(c), None), V, X),
        graphc.ShapeError,
        r"the carry must keep f32\[3\], got f32\[\]",
    ),
    "the carry changes its structure": (
        lambda: graphc.scan(lambda c, x: ((c, c), None), V, X),
        graphc.GraphError,
        r"the carry must keep its structure \*, got \(\*, \*\)",
    ),
    "no pair": (lambda: graphc.scan(lambda c, x: c, V, X), graphc.GraphError, "must return a pair"),
    "different lengths": (
        lambda: graphc.scan(lambda c, x: (c, None), V, (X, D)),
        graphc.ShapeError,
        "different lengths: 3, 4",
    ),
    "length differs": (
        lambda: graphc.scan(lambda c, x: (c, None), V, X, length=5),
        graphc.ShapeError,
        "different lengths: 4, 5",
    ),
    "no length": (
        lambda: graphc.scan(lambda c, x: (c, None), V),
        graphc.GraphError,
        "number of turns is unknown",
    ),
    "no sequence": (
        lambda: graphc.scan(lambda c, x: (c, None), V, X[0, 0]),
        graphc.ShapeError,
        "needs a first axis",
    ),
    "outputs that are no tensors": (
        lambda: graphc.scan(lambda c, x: (c, "text"), V, X),
        graphc.GraphError,
        "outputs must be tensors .* got str",
    ),
    "a bad checkpoint": (
        lambda: graphc.scan(lambda c, x: (c, None), V, X, checkpoint=0),
        graphc.GraphError,
        "checkpoint must be an integer from 1, got 0",
    ),
    "branches of other types": (
        lambda: graphc.cond(V[0] > 0, lambda: V, lambda: D),
        graphc.DTypeError,
        r"the other branch must give f32\[3\], got f64\[3\]",
    ),
    "branches of other structures": (
        lambda: graphc.cond(V[0] > 0, lambda: (V, V), lambda: [V, V]),
        graphc.GraphError,
        r"same structure, got \(\*, \*\) and \[\*, \*\]",
    ),
    "a predicate of several": (
        lambda: graphc.cond(V > 0, lambda: V, lambda: V),
        graphc.ShapeError,
        r"the predicate must be bool\[\], got bool\[3\]",
    ),
    "a predicate of floats": (
        lambda: graphc.cond(V[0], lambda: V, lambda: V),
        graphc.DTypeError,
        r"the predicate must be bool\[\], got f32\[\]",
    ),
    "a condition of several": (
        lambda: graphc.while_loop(lambda c: c < 3, lambda c: c + 1, V),
        graphc.ShapeError,
        r"the condition must be bool\[\], got bool\[3\]",
    ),
    "a condition of Python": (
        lambda: graphc.while_loop(lambda c: "yes", lambda c: c + 1, V),
        graphc.GraphError,
        "the condition must be tensors",
    ),
    "an if on a tensor": (
        lambda: graphc.scan(lambda c, x: (c if c[0] > 0 else x, None), V, X),
        graphc.GraphError,
        "graphc.cond",
    ),
    "an argument that is not hashable": (
        lambda: graphc.function(lambda a, b: a)(V, {1, 2}),
        graphc.GraphError,
        "tensor or hashable, got set",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_errors_at_the_users_line(what: str) -> None:
    call, error, text = WRONG[what]
    with pytest.raises(error, match=text) as caught:
        call()
    assert "test_functions.py" in str(caught.value), caught.value
