"""Digests of graphs, which find compiled programs again: equal for equal texts, and only for those
(but for first values of variables).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.order import topological
from graphc.ir.digest import graph_digest
from tests.fuzz.random_graphs import RandomGraph


def test_equal_texts_and_equal_digests_are_the_same() -> None:
    texts: dict[str, str] = {}
    digests: dict[str, str] = {}
    for seed in range(60):
        for graph in (RandomGraph(seed).graph, RandomGraph(seed).graph):
            text, digest = str(graph), graph_digest(graph)
            assert texts.setdefault(digest, text) == text, seed
            assert digests.setdefault(text, digest) == digest, seed
        again = graphc.parse(text)
        assert graph_digest(again) == digest, seed
    assert len(digests) > 50


def model(
    *,
    name: str = "model",
    size: graphc.Dim | int = 4,
    dtype: str = "float32",
    scale: float = 2.0,
    swap: bool = False,
    first: float = 0.0,
    trainable: bool = True,
    axis: int = 0,
    output: str = "y",
    label: str = "inner",
    update: float | None = 1.0,
    inside: float = 1.0,
    twice: bool = False,
) -> graphc.Graph:
    """A graph with one of everything that a digest tells apart."""
    x = graphc.placeholder((size, 3), dtype, name="x")
    w = graphc.variable(np.full((3,), first, dtype), name="w", trainable=trainable)
    body = graphc.function(lambda t: graphc.exp(t) + inside)
    a, b = body(x), graphc.sum(body(x * 2) * scale, axis=axis, keepdims=True)
    y = (b - a if swap else a - b).named(label)
    outputs = {output: y * w, "more": y} if twice else {output: y * w}
    updates = {} if update is None else {w: w + update}
    return graphc.Graph([x], outputs, updates, name=name)


CHANGES: dict[str, dict[str, Any]] = {
    "the graph's name": {"name": "other"},
    "a size": {"size": 5},
    "a symbol": {"size": graphc.Dim("n")},
    "a bound of it": {"size": graphc.Dim("n", max=9)},
    "a dtype": {"dtype": "float64"},
    "a constant": {"scale": 3.0},
    "the order of operands": {"swap": True},
    "whether a variable is trained": {"trainable": False},
    "an attribute": {"axis": 1},
    "an output's name": {"output": "z"},
    "a name inside": {"label": "other"},
    "a new value": {"update": 2.0},
    "no update": {"update": None},
    "a constant in a body": {"inside": 2.0},
    "one more output": {"twice": True},
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_changes_the_digest(change: str) -> None:
    digests = {graph_digest(model(**CHANGES[name])) for name in CHANGES if name != change}
    assert graph_digest(model()) not in digests
    assert graph_digest(model(**CHANGES[change])) not in digests | {graph_digest(model())}


def test_first_values_of_variables_do_not_count() -> None:
    assert str(model()) != str(model(first=1.0))
    assert graph_digest(model()) == graph_digest(model(first=1.0))


def test_children_come_before_parents_in_the_order_of_a_recursion() -> None:
    def recursive(node: tuple[Any, ...], found: list[Any]) -> list[Any]:
        for child in node:
            recursive(child, found)
        if not any(node is f for f in found):
            found.append(node)
        return found

    draw = np.random.default_rng(0)
    for _ in range(100):
        nodes: list[tuple[Any, ...]] = [()]
        for _ in range(12):
            # Lists would not be equal by chance; tuples of nothing are one object.
            nodes.append(tuple(nodes[k] for k in draw.integers(0, len(nodes), draw.integers(1, 4))))
        wanted: list[Any] = []
        for root in nodes[-3:]:
            recursive(root, wanted)
        found = topological(nodes[-3:], lambda node: node)
        assert [id(n) for n in found] == [id(n) for n in wanted]


def test_a_cycle_ends() -> None:
    """A file may say that a size is computed from itself; who reads it finds that out later."""
    below = {"a": ["b"], "b": ["a", "c"], "c": []}
    assert topological(["a"], below.__getitem__) == ["c", "b", "a"]
