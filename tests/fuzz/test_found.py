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


def placeholders(**arrays: Any) -> list[graphc.Tensor]:
    """An input per array."""
    return [graphc.placeholder(a.shape, a.dtype.name, name=name) for name, a in arrays.items()]


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


@pytest.mark.parametrize("name", sorted(CASES))
def test_found(name: str) -> None:
    graph, feeds = CASES[name]()
    assert check(graph, feeds) == []
