"""Indexing against NumPy: random keys on static and symbolic shapes, updates, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dims import Dim
from graphc.base.errors import DTypeError, ExecutionError, ShapeError, UnsupportedError
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.ops.indexing import IndexUpdater, getitem, take, take_along_axis
from graphc.ops.state import placeholder

SHAPE = (4, 5, 3)


def value(tensor: Tensor, feeds: dict[Tensor, Any]) -> Any:
    """The reference meaning."""
    return Graph(list(feeds), {"y": tensor}).evaluate(feeds)["y"]


def random_entry(rng: np.random.Generator, n: int) -> Any:
    kind = rng.integers(0, 8)
    if kind == 0:
        return int(rng.integers(-n, n))
    if kind < 5:
        ends = [None if rng.random() < 0.4 else int(rng.integers(-n - 2, n + 3)) for _ in range(2)]
        return slice(*ends, [None, 1, 2, -1, -2][rng.integers(0, 5)])
    if kind == 5:
        return rng.integers(-n, n, 2)
    if kind == 6:
        return rng.integers(-n, n, (3, 1))
    return rng.random(n) < 0.6


def random_key(rng: np.random.Generator) -> tuple[Any, ...]:
    entries = [random_entry(rng, n) for n in SHAPE[: rng.integers(0, 4)]]
    masks = [e for e in entries if isinstance(e, np.ndarray) and e.dtype == bool]
    if masks:  # masks only broadcast with index arrays of their own length: keep one, alone
        entries = [
            slice(None) if isinstance(e, np.ndarray) and e is not masks[0] else e for e in entries
        ]
    if rng.random() < 0.4:
        entries.insert(int(rng.integers(0, len(entries) + 1)), None)
    if rng.random() < 0.3 and len(entries) <= 3:
        entries.insert(len(entries), Ellipsis)
    return tuple(entries)


@pytest.mark.parametrize("seed", range(400))
def test_random_keys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    key = random_key(rng)
    x = placeholder(SHAPE, "float32")
    array = rng.normal(size=SHAPE).astype(np.float32)
    expected = array[key]
    result = x[key]
    assert result.shape == expected.shape, key
    np.testing.assert_array_equal(value(result, {x: array}), expected)


@pytest.mark.parametrize("seed", range(200))
@pytest.mark.parametrize("mode", ["set", "add", "multiply", "min", "max"])
def test_random_updates(seed: int, mode: str) -> None:
    rng = np.random.default_rng(seed)
    key = random_key(rng)
    x = placeholder(SHAPE, "float64")
    array = rng.normal(size=SHAPE)
    shape = array[key].shape
    values = rng.normal(size=shape if rng.random() < 0.7 else shape[len(shape) // 2 :])
    expected = array.copy()
    if mode == "set":
        expected[key] = values
    else:
        ufuncs: dict[str, Any] = {
            "add": np.add, "multiply": np.multiply, "min": np.minimum, "max": np.maximum
        }  # fmt: skip
        ufuncs[mode].at(expected, key, np.broadcast_to(values, shape))
    v = placeholder(values.shape, "float64")
    result = getattr(x.at[key], mode)(v)
    np.testing.assert_array_equal(value(result, {x: array, v: values}), expected)


SYMBOLIC_KEYS = [
    np.s_[0], np.s_[-1], np.s_[1:], np.s_[:-1], np.s_[2:-1], np.s_[::2], np.s_[1::3], np.s_[::-1],
    np.s_[::-2], np.s_[-3:], np.s_[:3], np.s_[None, 1:, :2], np.s_[..., -1], np.s_[1:, [0, -1]],
    np.s_[[0, 2]], np.s_[-2::-1], np.s_[:, ::-1], np.s_[3:3], np.s_[-2:, None, 0],
]  # fmt: skip


@pytest.mark.parametrize("key", SYMBOLIC_KEYS, ids=str)
@pytest.mark.parametrize("n", [3, 4, 7, 8])
def test_symbolic_dims(key: Any, n: int) -> None:
    x = placeholder(("n", 3), "float32")
    array = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    np.testing.assert_array_equal(value(x[key], {x: array}), array[key])
    updated = array.copy()
    updated[key] = 7
    np.testing.assert_array_equal(value(x.at[key].set(7), {x: array}), updated)


def test_symbolic_bounds() -> None:
    x = placeholder(("n", 3), "float32")
    n = x.shape[0]
    assert isinstance(n, Dim)
    array = np.arange(18, dtype=np.float32).reshape(6, 3)
    for got, expected in [
        (x[: n // 2], array[:3]),
        (x[n // 2 :], array[3:]),
        (x[n - 1], array[5]),
        (x[n - 2 : n], array[4:]),
        (x[-1 : -n - 1 : -1], array[::-1]),
        (x[: n - 1 : 2], array[:5:2]),
    ]:
        np.testing.assert_array_equal(value(got, {x: array}), expected)


def test_symbolic_ranges_are_checked() -> None:
    x = placeholder(("n", 3), "float32")
    for result in (x[:5], x[3], x[-3:]):
        with pytest.raises((ExecutionError, ShapeError)):
            value(result, {x: np.zeros((2, 3), np.float32)})


def test_dynamic_indices() -> None:
    x = placeholder(("n", "m"), "float32")
    i = placeholder(("k",), "int32")
    j = placeholder((), "int64")
    array = np.arange(20, dtype=np.float32).reshape(4, 5)
    rows = np.array([1, -1, 0], np.int32)
    feeds: dict[Tensor, Any] = {x: array, i: rows, j: np.int64(-2)}
    for result, expected in [
        (x[i], array[rows]),
        (x[:, i], array[:, rows]),
        (x[j], array[-2]),
        (x[j, 1:], array[-2, 1:]),
        (x[i, j], array[rows, -2]),
        (x[i[:, None], i], array[rows[:, None], rows]),
        (take(x, i, axis=-1), array[:, rows]),
        (take(graphc.reshape(x, (-1,)), i), array.ravel()[rows]),
    ]:
        got = Graph([x, i, j], {"y": result}).evaluate(feeds)["y"]
        np.testing.assert_array_equal(got, expected)
    with pytest.raises(IndexError):
        value(x[i], {x: array, i: np.array([0, 4], np.int32)})


def test_take_along_axis_broadcasts() -> None:
    x = placeholder((3, 4), "float32")
    array = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    order = np.argsort(array, axis=1)
    np.testing.assert_array_equal(
        value(take_along_axis(x, order), {x: array}), np.take_along_axis(array, order, -1)
    )
    first = np.array([[1, 0, 2, -1]])
    np.testing.assert_array_equal(
        value(take_along_axis(x, first, axis=0), {x: array}), np.take_along_axis(array, first, 0)
    )


def test_masks_computed_by_the_graph() -> None:
    x = placeholder((3, 4), "float32")
    array = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        value(x.at[x < 0].set(0), {x: array}), np.where(array < 0, 0, array)
    )
    np.testing.assert_array_equal(
        value(x.at[x < 0].add(2), {x: array}), np.where(array < 0, array + 2, array)
    )
    np.testing.assert_array_equal(value(x[x < 0], {x: array}), array[array < 0])


@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        (4, ShapeError, r"4 is out of bounds for axis 0 of size 4 \(-4 to 3\)"),
        ((0, -6), ShapeError, "-6 is out of bounds for axis 1"),
        ((0, 0, 0, 0), ShapeError, "too many indices: 4 for 3 dims"),
        ((..., 0, ...), ShapeError, "at most one"),
        (1.5, DTypeError, "got float 1.5"),
        ("a", DTypeError, "got str 'a'"),
        (np.array([0.5]), DTypeError, "must be integers, got float64"),
        ([0, 4], ShapeError, "4 is out of bounds"),
        (np.zeros(3, bool), ShapeError, "mask of shape"),
        (True, UnsupportedError, "single bool"),
        (slice(None, None, 0), ShapeError, "step"),
        (slice(0.5, None), ShapeError, "bounds of a slice"),
    ],
)
def test_errors(key: Any, error: type[Exception], text: str) -> None:
    x = placeholder(SHAPE, "float32", name="x")
    with pytest.raises(error, match=text) as caught:
        getitem(x, key)
    assert "test_indexing.py" in str(caught.value)


def test_update_errors() -> None:
    x = placeholder((4,), "int32")
    with pytest.raises(DTypeError, match="values of float64 do not fit"):
        IndexUpdater(x)[0].set(0.5)
    with pytest.raises(ShapeError, match="do not fit the selection"):
        IndexUpdater(x)[1:3].set(np.zeros(3, np.int32))
