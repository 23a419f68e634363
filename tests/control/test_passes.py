"""Passes over control flow, by what is left: loops merged, pruned, dissolved; bodies optimized."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc.ir.graph import Graph
from graphc.ir.verify import verify
from graphc.passes.context import Context
from graphc.passes.control import DissolveControl, MergeControl, PruneControl
from graphc.passes.pipeline import GRAPH_PIPELINE, lowerable, optimize

f32 = np.float32


def count(graph: Graph, op: str) -> int:
    return sum(n.op.name == op for n in graph.nodes)


def inside(graph: Graph, op: str) -> int:
    return sum(count(b, op) for b in graph.bodies)


def same(a: Graph, b: Graph, **feeds: Any) -> None:
    verify(b)
    one, two = a.evaluate(feeds), b.evaluate(feeds)
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, atol=1e-6)


X = np.linspace(-1, 1, 12, dtype=f32).reshape(4, 3)
W = np.linspace(-0.5, 0.7, 9, dtype=f32).reshape(3, 3)


def tensors() -> tuple[Any, Any]:
    return graphc.placeholder((4, 3), name="x"), graphc.placeholder((3, 3), name="w")


def recurrent(x: Any, w: Any) -> Any:
    return graphc.scan(lambda c, r: (graphc.tanh(c @ w + r), c * 2), x[0], x)


@pytest.mark.parametrize("order", [1, 2])
def test_a_training_step_runs_the_loop_once_in_each_direction(order: int) -> None:
    x, w = tensors()
    last, rows = recurrent(x, w)
    cost = graphc.sum(last**2) + graphc.sum(rows**2)
    for _ in range(order - 1):
        cost = graphc.sum(graphc.grad(cost, w) ** 2)
    graph = Graph([x, w], {"cost": cost, "gw": graphc.grad(cost, w), "last": last})
    merged = MergeControl().run(graph, Context())
    forward = [n for n in merged.nodes if n.op.name == "scan" and not n.attr("reverse")]
    assert count(graph, "scan") > count(merged, "scan")
    # The second order adds one loop each way: the derivative of the way back, and its own way back.
    assert count(merged, "scan") == 2 * order and len(forward) == order
    same(graph, merged, x=X, w=W)
    optimized = graph.optimize()
    assert count(optimized, "scan") == 2 * order
    same(graph, optimized, x=X, w=W)


def test_calls_and_branches_merge() -> None:
    x, w = tensors()

    @graphc.function
    def layer(y: Any, w: Any) -> Any:
        return graphc.tanh(y @ w) * 2 + y

    y = x
    for _ in range(5):
        y = layer(y, w)
    graph = Graph([x, w], {"y": y, "g": graphc.grad(graphc.sum(y**2), w)})
    merged = MergeControl().run(graph, Context())
    assert count(graph, "call") == 15 and count(merged, "call") == 10
    # One body forward, one backward; the first layer needs no cotangent of its input.
    assert len(merged.bodies) == 2
    same(graph, merged, x=X, w=W)
    same(graph, graph.optimize(), x=X, w=W)


def test_unused_results_and_dead_carries_go() -> None:
    x, w = tensors()
    (a, _, c), (p, _) = graphc.scan(
        lambda s, r: ((s[0] + r, graphc.exp(s[1]) * w[0], s[2]), (s[0] * 2, s[1])),
        (x[0], x[0], x[1]),
        x,
    )
    graph = Graph([x, w], {"a": a, "c": c, "p": p})
    pruned = PruneControl().run(graph, Context())
    (scan,) = [n for n in pruned.nodes if n.op.name == "scan"]
    assert scan.attr("carries") == 1 and len(scan.inputs) == 2 and inside(pruned, "exp") == 0
    assert pruned.outputs[1][1].op.name != "get", "a carry that stays is its init"
    same(graph, pruned, x=X, w=W)


def test_rows_that_are_handed_through_are_the_sequence() -> None:
    x, _ = tensors()
    _, (one, two, again) = graphc.scan(lambda s, r: (s, (r, r * 2, r * 2)), x[0], x)
    graph = Graph([x], {"one": one, "two": two, "again": again})
    pruned = PruneControl().run(graph, Context())
    assert pruned.outputs[0][1] is x and pruned.outputs[1][1] is pruned.outputs[2][1]
    same(graph, pruned, x=X)


def test_loops_keep_what_their_condition_needs() -> None:
    x, w = tensors()
    (a, _, _), turns = graphc.while_loop(
        lambda s: s[2] < 5,
        lambda s: (s[0] + x[0], s[1] * 2, s[2] + 1),
        (x[1], x[2], 0),
        return_turns=True,
    )
    graph = Graph([x, w], {"a": a, "turns": turns})
    pruned = PruneControl().run(graph, Context())
    (loop,) = [n for n in pruned.nodes if n.op.name == "while_loop"]
    assert loop.attr("carries") == 2
    same(graph, pruned, x=X, w=W)


def test_branches_and_calls_lose_what_nobody_uses() -> None:
    x, w = tensors()
    y, _, same_one = graphc.cond(
        x[0, 0] > 0, lambda: (x * 2, w @ w, x), lambda: (x * 3, graphc.exp(w), x)
    )
    graph = Graph([x, w], {"y": y, "x": same_one})
    pruned = PruneControl().run(graph, Context())
    (cond,) = [n for n in pruned.nodes if n.op.name == "cond"]
    assert len(cond.inputs) == 2 and inside(pruned, "exp") == 0
    assert pruned.outputs[1][1] is x
    same(graph, pruned, x=X, w=W)


def test_what_decides_nothing_dissolves() -> None:
    x, w = tensors()

    @graphc.function
    def once(a: Any) -> Any:
        return graphc.exp(a) @ w + a

    known = graphc.cond(True, lambda: x * 2, lambda: graphc.exp(x))
    one, rows = graphc.scan(lambda c, r: (c + r, c), x[0], x[:1])
    none, nothing = graphc.scan(lambda c, r: (c + r, c), x[0], x[:0])
    graph = Graph(
        [x, w],
        {"c": known, "o": one, "r": rows, "n": none, "e": nothing, "f": once(x)},
    )
    plain = DissolveControl().run(graph, Context())
    assert not plain.bodies
    same(graph, plain, x=X, w=W)


def test_a_body_is_optimized_once() -> None:
    x, w = tensors()

    @graphc.function
    def layer(a: Any) -> Any:
        return graphc.log(1 + graphc.exp(a @ w)) + a * 1.0

    y = x
    for _ in range(4):
        y = layer(y)
    graph = Graph([x, w], {"y": y})
    optimized = optimize(graph)
    assert len(optimized.bodies) == 1 and inside(optimized, "softplus") == 1
    assert inside(optimized, "multiply") == 0
    same(graph, optimized, x=X, w=W)


def test_lowerable_reaches_bodies() -> None:
    x, _ = tensors()
    last, _ = graphc.scan(lambda c, r: (graphc.nn.softmax(c + r), None), x[0], x)
    graph = lowerable(Graph([x], {"y": last}))
    assert inside(graph, "softmax") == 0
    same(Graph([x], {"y": last}), graph, x=X)


def test_every_pass_leaves_a_graph_that_verifies() -> None:
    x, w = tensors()
    last, rows = recurrent(x, w)
    cost = graphc.sum(last**2) + graphc.sum(rows)
    graph = Graph([x, w], {"g": graphc.grad(graphc.sum(graphc.grad(cost, w) ** 2), w)})
    after: list[str] = []
    optimize(graph, after=lambda p, g: (verify(g, p.name), after.append(p.name))[1])
    assert len(after) == len(GRAPH_PIPELINE)


def test_of_a_cell_its_last_cheap_value_is_kept() -> None:
    """tanh(c @ w + r @ w): the gradient needs 1 - tanh², neither the products nor the sum."""
    x, w = tensors()
    last, _ = graphc.scan(lambda c, r: (graphc.tanh(c @ w + r @ w), None), x[0], x)
    graph = Graph([x, w], {"g": graphc.grad(graphc.sum(last**2), w)})
    scans = [n for n in graph.nodes if n.op.name == "scan"]
    forward = max((n for n in scans if not n.attr("reverse")), key=lambda n: len(n.type.items))
    kept = [t.op.name for _, t in forward.attr("body").outputs[1:]]
    assert kept == ["placeholder", "subtract"]  # the first one is the carry before the turn
    (backward,) = [n for n in scans if n.attr("reverse")]
    assert count(backward.attr("body"), "tanh") == 0
    same(graph, graph.optimize(), x=X, w=W)
