"""Sums of float32: one rounding's error, and bits that sizes alone decide."""

from __future__ import annotations

import numpy as np
import pytest

import graphc

# The error of rounding the true sum is 2.6e-8 of the sum's size; decision 0044 allows twice that.
MOST = 5.5e-8
SHAPES = [
    ((1000, 777), (1,)),
    ((600, 1500), (0,)),
    ((40, 4000), (0,)),
    ((3, 300, 500), (1,)),
    ((16, 700, 9, 9), (0, 2, 3)),
]


@pytest.fixture(scope="module")
def session() -> graphc.Session:
    return graphc.Session(threads=2)


@pytest.mark.parametrize(("shape", "axes"), SHAPES)
@pytest.mark.parametrize("op", ("sum", "mean"))
def test_error(
    session: graphc.Session, op: str, shape: tuple[int, ...], axes: tuple[int, ...]
) -> None:
    x = np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    p = graphc.placeholder(shape, name="x")
    f = session.function([p], getattr(graphc, op)(p, axis=axes))
    true = getattr(np, op)(x.astype(np.float64), axis=axes)
    error = np.sqrt(np.mean((f(x) - true) ** 2) / np.mean(true**2))
    assert error < MOST, error


@pytest.mark.parametrize("length", (5, 11, 16, 17, 33, 48, 63, 64, 65, 100, 1030))
def test_bits_do_not_tell_what_was_known(session: graphc.Session, length: int) -> None:
    """A row's sum has the same bits whether the types tell its length, and whatever is fused."""
    x = np.random.default_rng(length).standard_normal((300, length)).astype(np.float32)
    known = graphc.placeholder(x.shape, name="x")
    unknown = graphc.placeholder(("n", "m"), name="x")
    expected = session.function([known], graphc.sum(known * 3, axis=1))(x)
    alone = session.function([known], graphc.sum(known, axis=1))(x * np.float32(3))
    at_the_call = session.function([unknown], graphc.sum(unknown * 3, axis=1))(x)
    np.testing.assert_array_equal(alone, expected)
    np.testing.assert_array_equal(at_the_call, expected)


def test_a_sum_overflows_only_where_its_result_does(session: graphc.Session) -> None:
    x = np.zeros((2, 1000), np.float32)
    x[:, [0, 100, 200, 300]] = np.float32([3e38, 3e38, -3e38, -3e38])
    p = graphc.placeholder(x.shape, name="x")
    np.testing.assert_array_equal(session.function([p], graphc.sum(p, axis=1))(x), [0, 0])


def test_zeros_keep_the_sign_that_sums_have(session: graphc.Session) -> None:
    p = graphc.placeholder((3, "n"), name="x")
    f = session.function([p], graphc.sum(p, axis=1))
    for length in (0, 3, 20, 100):
        assert not np.signbit(f(np.full((3, length), -0.0, np.float32))).any()
