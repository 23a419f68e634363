"""Reductions along an axis that is not the innermost: right in every form that lowering gives them,
each result in the declared order.
"""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.schedule import policy_cpu as policy

# Shapes of each form: registers only, one chain, several chains, few columns, tails everywhere.
SHAPES = (
    (40, 1000),
    (300, 130),
    (1024, 2048),
    (1300, 300),
    (2049, 7),
    (700, 64),
    (3, 600, 130),
    (40_000, 3),
    (2, 3, 70, 100),
)


def _chained(x: np.ndarray, axis: int) -> np.ndarray:
    """The sum along `axis` as decision 0044 orders it: a few rows in their own dtype, groups of
    these and the groups in float64.
    """
    parts = list(np.moveaxis(x, axis, 0))
    like = np.moveaxis(x, axis, 0)[:1]
    few = policy.WIDE_ROWS
    parts = [_in_turn(parts[k : k + few], x) for k in range(0, len(parts), few)]
    wide = [part.astype(np.float64) for part in parts]
    group = policy.COLUMN_GROUP // few
    wide = [_in_turn(wide[k : k + group], wide[0]) for k in range(0, len(wide), group)]
    return _in_turn(wide, like.astype(np.float64)).astype(np.float32)


def _chained_float64(x: np.ndarray, axis: int) -> np.ndarray:
    """The sum along `axis` as decision 0011 orders it: chains of rows, groups of chains, and so
    on."""
    parts = list(np.moveaxis(x, axis, 0))
    for length in (*policy.COLUMN_CHAINS, len(parts) + 1):
        parts = [_in_turn(parts[k : k + length], x) for k in range(0, len(parts), length)]
    return _in_turn(parts, np.moveaxis(x, axis, 0)[:1])


def _in_turn(parts: list[np.ndarray], like: np.ndarray) -> np.ndarray:
    total = np.zeros(parts[0].shape if parts else like.shape[1:], like.dtype)
    for part in parts:
        total = total + part
    return total


@pytest.fixture(scope="module")
def session() -> graphc.Session:
    return graphc.Session(threads=2)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sum_keeps_its_order(session: graphc.Session, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    p = graphc.placeholder(shape, name="x")
    f = session.function([p], graphc.sum(p, axis=-2))
    np.testing.assert_array_equal(f(x), _chained(x, -2), strict=True)


@pytest.mark.parametrize("shape", SHAPES[:5], ids=str)
def test_float64_keeps_its_order(session: graphc.Session, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape)
    p = graphc.placeholder(shape, "float64", name="x")
    f = session.function([p], graphc.sum(p, axis=-2))
    np.testing.assert_array_equal(f(x), _chained_float64(x, -2), strict=True)


@pytest.mark.parametrize("shape", SHAPES[2:6], ids=str)
def test_positions_and_what_is_fused(session: graphc.Session, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    x[shape[0] // 2, ::3] = x.max() + 1
    p = graphc.placeholder(shape, name="x")
    f = session.function([p], {"at": graphc.argmax(p, axis=0), "of": -graphc.max(abs(p), axis=0)})
    found = f(x)
    np.testing.assert_array_equal(found["at"], x.argmax(axis=0))
    np.testing.assert_array_equal(found["of"], -np.abs(x).max(axis=0))


@pytest.mark.parametrize("rows", (0, 1, 511, 512, 513, 1600))
def test_rows_known_at_the_call(session: graphc.Session, rows: int) -> None:
    x = np.random.default_rng(3).standard_normal((rows, 33)).astype(np.float32)
    p = graphc.placeholder(("n", 33), name="x")
    f = session.function([p], graphc.sum(p, axis=0) * 2)
    np.testing.assert_array_equal(f(x), _chained(x, 0) * np.float32(2))


@pytest.mark.parametrize("rows", (0, 1, 512, 1600))
def test_rows_of_many_columns_known_at_the_call(session: graphc.Session, rows: int) -> None:
    x = np.random.default_rng(3).standard_normal((rows, 133)).astype(np.float32)
    p = graphc.placeholder(("n", 133), name="x")
    f = session.function([p], graphc.sum(p, axis=0) * 2)
    np.testing.assert_array_equal(f(x), _chained(x, 0) * np.float32(2))


def test_both_sizes_known_at_the_call(session: graphc.Session) -> None:
    p = graphc.placeholder(("n", "m"), name="x")
    f = session.function([p], graphc.sum(p, axis=0))
    for shape in ((5, 3), (600, 5000), (1100, 17), (33_000, 4)):
        x = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
        np.testing.assert_array_equal(f(x), _chained(x, 0))


def test_steps_are_shared_among_threads() -> None:
    """Few columns do not leave all rows to one thread."""
    p = graphc.placeholder((100_000, 64), name="x")
    f = graphc.Session(threads=1).function([p], graphc.sum(p, axis=0))
    assert "for i in 196 parallel" in f.explain("loops")


def test_an_axis_of_one_element() -> None:
    x = np.random.default_rng(5).standard_normal((3, 1, 4)).astype(np.float32)
    p = graphc.placeholder(x.shape, name="x")
    f = graphc.Session(threads=1, optimize=False).function([p], graphc.sum(p, axis=1))
    np.testing.assert_array_equal(f(x), x[:, 0])
