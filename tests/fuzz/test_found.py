"""The smallest graphs of bugs that random graphs found: each must stay right in every mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from tests.fuzz.checking import check

Case = tuple[graphc.Graph, dict[str, Any]]
CASES: dict[str, Callable[[], Case]] = {}


def found(build: Callable[[], Case]) -> Callable[[], Case]:
    """Declare a case: its name is the function's."""
    CASES[build.__name__] = build
    return build


def values(*shape: int, dtype: str = "float32", seed: int = 0) -> Any:
    """Reproducible elements."""
    return np.random.default_rng(seed).normal(0, 1, shape).astype(dtype)


@found
def small_sum_within_a_large_one() -> Case:
    """Two sums to one element in a region whose rows are not small."""
    n = graphc.Dim("n")
    x = graphc.placeholder((4, n), name="x")
    w = graphc.placeholder((4,), name="w")
    y = graphc.sum(graphc.tanh(x - graphc.sum(w, keepdims=True)))
    return graphc.Graph([x, w], {"y": y}), {"x": values(4, 5), "w": values(4)}


@found
def position_beside_an_empty_dim() -> Case:
    """argmax over one dim of an array whose other dim is 0."""
    n = graphc.Dim("n")
    x = graphc.placeholder((n, 4), name="x")
    return graphc.Graph([x], {"y": graphc.argmax(x, axis=1)}), {"x": values(0, 4)}


@found
def second_gradient_of_every_other_element() -> Case:
    """Every second element of an axis that may be empty, differentiated twice."""
    n = graphc.Dim("n")
    x = graphc.placeholder((n, 3), name="x")
    first = graphc.grad(graphc.sum(graphc.sin(x[::2])), x)
    second = graphc.grad(graphc.sum(graphc.exp(first)), x)
    return graphc.Graph([x], {"g": first, "h": second}), {"x": values(0, 3)}


@found
def long_sums_across_rows() -> Case:
    """Alike elements summed across many rows and along long ones: roundings must not pile up."""
    x = graphc.placeholder((40_000, 3), name="x")
    y = graphc.placeholder((3, 40_000), name="y")
    sums = {
        "a": graphc.sum(x, axis=0),
        "b": graphc.sum(y, axis=1),
        "c": graphc.sum(x * y.T, axis=0),
    }
    feeds = {"x": np.full((40_000, 3), 0.7, np.float32), "y": np.full((3, 40_000), 0.3, np.float32)}
    return graphc.Graph([x, y], sums), feeds


@found
def slice_of_what_the_kernel_computes() -> Case:
    """A slice between two nodes of one region is no memory."""
    n = graphc.Dim("n")
    x = graphc.placeholder((n, 3, 3), name="x")
    limit = graphc.variable(np.float32(0.5), name="limit")
    cut = graphc.reshape(graphc.minimum(x, limit)[:, :, :2], (n, 3, 1, 2))
    return graphc.Graph([x], {"y": graphc.mean(cut, axis=3)}), {"x": values(5, 3, 3)}


@pytest.mark.parametrize("name", sorted(CASES))
def test_found(name: str) -> None:
    graph, feeds = CASES[name]()
    assert check(graph, feeds) == []


def test_long_sums_are_accurate() -> None:
    """Closer than the random graphs' tolerance asks: 1e-5 of the sum of a million float32."""
    x = graphc.placeholder((1_000_000, 2), name="x")
    graph = graphc.Graph([x], {"y": graphc.sum(x, axis=0)})
    feeds = {"x": np.full((1_000_000, 2), 0.7, np.float32)}
    with graphc.Session(cache_dir="") as session:
        got = session.run(dict(graph.outputs), feeds)["y"]
    assert np.abs(got / (1e6 * np.float64(np.float32(0.7))) - 1).max() < 2e-5
