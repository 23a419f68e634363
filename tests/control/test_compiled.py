"""Compiled control flow and its gradients against the reference meaning."""

from __future__ import annotations

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
