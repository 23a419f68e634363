"""Dear results of rows: blocks of rows, whose results are computed side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import graphc

Rows = Callable[[graphc.Tensor], graphc.Tensor]
STEP = "for r in "  # the loop over the rows of a block


@pytest.fixture(scope="module")
def session() -> Iterator[graphc.Session]:
    with graphc.Session(threads=2) as session:
        yield session


OF_ROWS: dict[str, Rows] = {
    "logsumexp": lambda x: graphc.logsumexp(x, axis=-1),
    "deviation": lambda x: graphc.std(x, axis=-1),
    "length": lambda x: graphc.sqrt(graphc.sum(x * x, axis=-1, keepdims=True)),
    "entropy": lambda x: graphc.log(graphc.max(x, axis=-1) + 9.0) / graphc.argmax(x, axis=-1),
}


def _function(session: graphc.Session, of: Rows, shape: tuple[int | str, ...]) -> graphc.Function:
    x = graphc.placeholder(shape, name="x")
    return session.function([x], of(x))


@pytest.mark.parametrize("name", OF_ROWS)
@pytest.mark.parametrize("columns", [7, 17, 129])
def test_rows_are_rows(session: graphc.Session, name: str, columns: int) -> None:
    """The bits are those of a few rows, which are not blocks."""
    x = np.random.default_rng(0).standard_normal((73, columns)).astype(np.float32)
    blocks, few = (_function(session, OF_ROWS[name], (n, columns)) for n in (73, 8))
    assert STEP in blocks.explain("loops")
    assert STEP not in few.explain("loops")
    with np.errstate(divide="ignore"):
        expected = np.concatenate([few(x[k : k + 8]) for k in range(0, 72, 8)])
        np.testing.assert_array_equal(blocks(x)[:72], expected)


@pytest.mark.parametrize("shape", [(3, 40, 9), (2, 16, 33), (2, 3, 17, 20)])
def test_dims_around_rows(session: graphc.Session, shape: tuple[int, ...]) -> None:
    f = _function(session, OF_ROWS["logsumexp"], shape)
    assert STEP in f.explain("loops")
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    expected = np.log(np.exp(x.astype(np.float64)).sum(-1))
    np.testing.assert_allclose(f(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 33, 700])
def test_rows_that_run_time_counts(session: graphc.Session, count: int) -> None:
    f = _function(session, OF_ROWS["logsumexp"], ("rows", 11))
    assert STEP in f.explain("loops")
    x = np.random.default_rng(2).standard_normal((count, 11)).astype(np.float32)
    expected = np.log(np.exp(x.astype(np.float64)).sum(-1))
    np.testing.assert_allclose(f(x), expected, rtol=1e-6, atol=1e-6)


def test_what_stays_row_by_row(session: graphc.Session) -> None:
    """Long rows that are few, results that fill rows, results that are cheap."""
    assert STEP not in _function(session, OF_ROWS["logsumexp"], (100, 3000)).explain("loops")
    assert STEP not in _function(session, graphc.softmax, (100, 30)).explain("loops")
    total = _function(session, lambda x: 2 * graphc.sum(x, axis=-1), (100, 30))
    assert STEP not in total.explain("loops")
