"""Conditions on sizes inside a graph: found from the graph, checked before anything runs."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.ops.conditions import size_conditions


def graph(x: graphc.Tensor, y: graphc.Tensor) -> graphc.Graph:
    return graphc.Graph([x], {"y": y})


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_a_position_needs_an_element(name: str) -> None:
    x = graphc.placeholder(("n", 3), name="x")
    y = getattr(graphc, name)(x, axis=0)
    (condition,) = size_conditions(graph(x, y))
    assert (str(condition.size), condition.op) == ("n - 1", name)
    empty = np.zeros((0, 3), np.float32)
    with graphc.Session() as session:
        function = session.function([x], y)
        with pytest.raises(graphc.ShapeError, match=f"{name}: there is no position") as caught:
            function(empty)
        assert "test_conditions.py" in str(caught.value)
        np.testing.assert_array_equal(
            function(np.eye(3, dtype=np.float32)),
            graph(x, y).evaluate({"x": np.eye(3, dtype=np.float32)})["y"],
        )
    with pytest.raises(graphc.ShapeError, match="no position"):
        graph(x, y).evaluate({"x": empty})


def test_bounds_answer_beforehand() -> None:
    x = graphc.placeholder((graphc.Dim("n", min=2), 3), name="x")
    assert size_conditions(graph(x, graphc.argmax(x, axis=0) + x[1:, 0].size)) == ()
    plain = graphc.placeholder(("m", 3), name="plain")
    (condition,) = size_conditions(graph(plain, plain[2:] * 2))
    assert (str(condition.size), condition.op) == ("m - 2", "")
    assert "m - 2 = -1 elements" in condition.says(-1)
