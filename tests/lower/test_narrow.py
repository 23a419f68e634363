"""Rows of a few elements: side by side in vectors, in the order of all short reductions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array

Rows = Callable[[graphc.Tensor], graphc.Tensor]


@pytest.fixture(scope="module")
def session() -> Iterator[graphc.Session]:
    with graphc.Session(threads=2) as session:
        yield session


def _normalized(x: graphc.Tensor) -> graphc.Tensor:
    centred = x - graphc.mean(x, axis=-1, keepdims=True)
    return centred * graphc.rsqrt(graphc.mean(centred * centred, axis=-1, keepdims=True) + 1e-5)


OF_ROWS: dict[str, Rows] = {
    "softmax": lambda x: graphc.softmax(x, axis=-1),
    "logsumexp": lambda x: graphc.logsumexp(x, axis=-1),
    "normalized": _normalized,
    "sum": lambda x: graphc.sum(x, axis=-1),
    "largest": lambda x: graphc.argmax(x, axis=-1),
    "shifted": lambda x: graphc.exp(x - graphc.max(x, axis=-1, keepdims=True)) * x,
}


def _function(session: graphc.Session, of: Rows, shape: tuple[int | str, ...]) -> graphc.Function:
    x = graphc.placeholder(shape, name="x")
    return session.function([x], of(x))


@pytest.mark.parametrize("name", OF_ROWS)
@pytest.mark.parametrize("columns", [2, 3, 4])
def test_rows_are_rows(session: graphc.Session, name: str, columns: int) -> None:
    """The bits are those of a few rows, which are computed one after another."""
    x = np.random.default_rng(0).standard_normal((1093, columns)).astype(np.float32)
    together = _function(session, OF_ROWS[name], x.shape)
    assert "for j in minimum(512, " in together.explain("loops")
    few = _function(session, OF_ROWS[name], (7, columns))
    assert "minimum(512" not in few.explain("loops")
    found, expected = together(x), [few(x[k : k + 7]) for k in range(0, len(x) - 6, 7)]
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[: 7 * len(expected)], np.concatenate(expected))


@pytest.mark.parametrize("shape", [(3, 40, 4), (17, 3, 1), (16, 2, 2)])
def test_dims_around_rows(session: graphc.Session, shape: tuple[int, ...]) -> None:
    axes = (1, 2) if len(shape) == 3 and shape[1] < 4 else (-1,)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    p = graphc.placeholder(shape, name="x")
    f = session.function([p], p - graphc.sum(p, axis=axes, keepdims=True))
    expected = x - x.astype(np.float64).sum(axes, keepdims=True)
    np.testing.assert_allclose(f(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 15, 513, 2000])
def test_rows_that_run_time_counts(session: graphc.Session, count: int) -> None:
    f = _function(session, OF_ROWS["softmax"], ("rows", 3))
    x = np.random.default_rng(2).standard_normal((count, 3)).astype(np.float32)
    expected: Array = np.exp(x.astype(np.float64))
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(f(x), expected, rtol=1e-6)


def test_the_order_is_that_of_short_reductions(session: graphc.Session) -> None:
    """Long rows around a short sum do not change it."""
    x = np.random.default_rng(3).standard_normal((64, 4)).astype(np.float32)
    y = np.random.default_rng(3).standard_normal((64, 100)).astype(np.float32)
    a, b = graphc.placeholder(x.shape, name="a"), graphc.placeholder(y.shape, name="b")
    wide = session.function([a, b], graphc.sum(a, axis=1, keepdims=True) + b * 0)
    alone = _function(session, OF_ROWS["sum"], x.shape)
    np.testing.assert_array_equal(wide(x, y)[:, 0], alone(x))
    in_order = ((x[:, 0] + x[:, 1]) + x[:, 2]) + x[:, 3]
    np.testing.assert_array_equal(alone(x), in_order)
