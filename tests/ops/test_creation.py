"""Creation functions against NumPy, with static and symbolic sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dims import Size
from graphc.base.errors import DTypeError, ShapeError
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.ops.state import placeholder

FEED = placeholder(("n",), "float32", name="sized")
SIZE = 4


def check(tensor: Tensor, expected: Any) -> None:
    """The reference meaning with n = 4 is the array, bit for bit, dtype included."""
    feed = np.zeros(SIZE, np.float32)
    got = Graph([FEED], {"y": tensor}).evaluate({FEED: feed})["y"]
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("n", [SIZE, FEED.shape[0]], ids=["static", "symbolic"])
def test_against_numpy(n: Size) -> None:
    check(graphc.zeros((n, 2)), np.zeros((4, 2)))
    check(graphc.ones(n, dtype="int8"), np.ones(4, np.int8))
    check(graphc.empty((2, n), dtype=bool), np.zeros((2, 4), bool))
    check(graphc.full((n,), 3), np.full(4, 3))
    check(graphc.full((n,), True), np.full(4, True))
    check(graphc.full((n,), 0.1, dtype="float32"), np.full(4, 0.1, np.float32))
    check(graphc.arange(n), np.arange(4))
    check(graphc.arange(1, n + 1, dtype="float32"), np.arange(1, 5, dtype=np.float32))
    check(graphc.arange(n, 0, -3), np.arange(4, 0, -3))
    check(graphc.linspace(0, 1, n), np.linspace(0, 1, 4))
    check(graphc.linspace(-2, 3, n, endpoint=False), np.linspace(-2, 3, 4, endpoint=False))
    check(graphc.eye(n), np.eye(4))
    check(graphc.eye(n, 6, k=-2, dtype="int16"), np.eye(4, 6, k=-2, dtype=np.int16))
    array = np.arange(24.0).reshape(2, 4, 3)
    x = graphc.reshape(graphc.arange(6 * n, dtype="float64"), (2, n, 3))
    for k in (-5, -1, 0, 2, 5):
        check(graphc.tril(x, k=k), np.tril(array, k=k))
        check(graphc.triu(x, k=k), np.triu(array, k=k))
    for indexing in ("xy", "ij"):
        ours = graphc.meshgrid(graphc.arange(3), graphc.arange(n), indexing=indexing)
        theirs = np.meshgrid(np.arange(3), np.arange(4), indexing=indexing)
        for a, b in zip(ours, theirs, strict=True):
            check(a, b)


@pytest.mark.parametrize(
    "limits",
    [(0.0, 1.0, 0.1), (1, 2, 0.3), (5.0, 0.0, -0.5), (0.0, -1.0, 1.0), (0, 0.35, 0.1), (3,)],
)
def test_float_ranges(limits: tuple[Any, ...]) -> None:
    check(graphc.arange(*limits), np.arange(*limits))


@pytest.mark.parametrize("num", [0, 1, 2, 50])
def test_linspace_counts(num: int) -> None:
    check(graphc.linspace(1, 2, num), np.linspace(1, 2, num))
    check(graphc.linspace(1, 2, num, endpoint=False), np.linspace(1, 2, num, endpoint=False))


def test_like() -> None:
    check(graphc.zeros_like(FEED), np.zeros(4, np.float32))
    check(graphc.ones_like(FEED, dtype="int64"), np.ones(4, np.int64))
    check(graphc.full_like(FEED, 7), np.full(4, 7, np.float32))
    check(graphc.full((2,), graphc.sum(FEED) + 2), np.full(2, 2, np.float32))


def test_from_outside() -> None:
    check(graphc.asarray([1, 2.5], dtype="float32"), np.array([1, 2.5], np.float32))
    check(graphc.from_dlpack(np.arange(3)), np.arange(3))
    assert graphc.asarray(FEED) is FEED
    with pytest.raises(DTypeError, match="__dlpack__"):
        graphc.from_dlpack(3)


def test_nothing_is_stored() -> None:
    """A million zeros are a node, not a million numbers."""
    assert graphc.zeros((1000, 1000)).op.name == "full"
    assert graphc.ones(10) is graphc.ones((10,))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: graphc.zeros((-1,)), "cannot be negative"),
        (lambda: graphc.arange(0, 1, 0), "must not be 0"),
        (lambda: graphc.tril(FEED), "at least 2 dims"),
        (lambda: graphc.meshgrid(FEED, indexing="yx"), 'must be "xy" or "ij"'),
        (lambda: graphc.iota((2,), axis=1), "out of bounds for 1 dims"),
        (lambda: graphc.linspace(0, 1, -1), "cannot be negative"),
    ],
)
def test_errors(call: Any, text: str) -> None:
    with pytest.raises(ShapeError, match=text) as caught:
        call()
    assert "test_creation.py:" in str(caught.value)
