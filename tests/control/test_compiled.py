"""Compiled control flow and its gradients against the reference meaning."""

from __future__ import annotations

import re
import time
from typing import Any

import numpy as np
import pytest

import graphc
from tests.control.test_gradients import COSTS, FEEDS, derivative, leaves


def compiled(graph: Any, **options: Any) -> list[Any]:
    with graphc.Session(**options) as session:
        inputs = [t for _, t in graph.inputs]
        function = session.function(inputs, [t for _, t in graph.outputs])
        return [np.array(v) for v in function(*FEEDS.values())]


def graph_of(name: str, order: int) -> Any:
    tensors = leaves()
    wrt = list(tensors.values())
    cost, found = derivative(COSTS[name](**tensors), wrt, order)
    return graphc.Graph(wrt, {"cost": cost, **{f"d{k}": g for k, g in enumerate(found)}})


ORDERS = [
    *((name, 1) for name in COSTS),
    *((name, 2) for name in ("scan", "nested", "then", "while", "call")),
]


@pytest.mark.parametrize(("name", "order"), ORDERS)
def test_gradients_compile(name: str, order: int) -> None:
    graph = graph_of(name, order)
    expected = graph.evaluate(FEEDS)
    optimized = graph.optimize("standard")
    for (what, value), found in zip(expected.items(), compiled(graph), strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-11, err_msg=what)
    again = optimized.evaluate(FEEDS)
    for what, value in expected.items():
        np.testing.assert_allclose(again[what], value, rtol=1e-9, atol=1e-11, err_msg=what)


@pytest.mark.parametrize("name", ["checkpoint", "nested", "cond in scan", "call", "while"])
def test_exact_means_the_same_bits(name: str) -> None:
    graph = graph_of(name, 1)
    one = compiled(graph, numerics="exact")
    two = compiled(graph, numerics="exact", optimize=False)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def arena_bytes(**options: Any) -> int:
    x = graphc.placeholder((1024, 4, 32), name="x")
    w = graphc.variable(np.eye(32, dtype=np.float32) * np.float32(0.1))
    init = graphc.zeros((4, 32), dtype="float32")
    last, _ = graphc.scan(lambda h, r: (graphc.tanh(h @ w + r), None), init, x, **options)
    with graphc.Session() as session:
        function = session.function([x], graphc.grad(graphc.sum(last**2), w))
        text = str(function.explain("memory"))
    return sum(int(n) for n in re.findall(r"slot \d+: (\d+) bytes", text))


def test_checkpoints_save_memory() -> None:
    """1,024 turns keep 1,024 carries and products; in 32 segments of 32 it is a small part."""
    assert arena_bytes(checkpoint=32) < arena_bytes() / 8


def test_many_equal_layers_compile_like_few() -> None:
    """Stages of the compiler that see every call do little for each."""

    def seconds(layers: int) -> float:
        h = graphc.placeholder((4, 16), name="h")

        @graphc.function
        def layer(t: Any, w: Any) -> Any:
            return graphc.nn.relu(t @ w) + t

        y = h
        for k in range(layers):
            y = layer(y, graphc.constant(np.full((16, 16), k, np.float32)))
        graph = graphc.Graph([h], y)
        start = time.process_time()
        optimized = graph.optimize()
        assert len(optimized.bodies) == 1
        return time.process_time() - start

    seconds(2)
    assert seconds(400) < 40 * max(seconds(10), 0.01)
