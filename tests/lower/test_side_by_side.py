"""Lines and rows that are worked on side by side: more of them than fit one step, and tails."""

from __future__ import annotations

import numpy as np
import pytest

import graphc

RNG = np.random.default_rng(11)


@pytest.mark.parametrize("shape", [(5, 300), (2, 9, 257), (4, 3, 64)], ids=str)
@pytest.mark.parametrize("backwards", [False, True])
def test_running_sums_of_columns(shape: tuple[int, ...], backwards: bool) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    p, weights = (graphc.placeholder(shape, name=name) for name in ("x", "weights"))
    y = graphc.cumulative_sum(p, axis=-2)
    if backwards:  # the gradient sums from the last row to the first
        y = graphc.grad(graphc.sum(y * weights), p)
    f = graphc.Session(threads=2).function([p, weights], (y, weights))
    found, _ = f(x, x)
    step = -1 if backwards else 1
    expected = np.cumsum(x[..., ::step, :], axis=-2, dtype=np.float32)[..., ::step, :]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("columns", [3, 64, 130])
def test_rows_are_added_in_order(columns: int) -> None:
    table = RNG.standard_normal((50, columns)).astype(np.float32)
    rows = RNG.integers(-50, 50, 400)
    new = RNG.standard_normal((400, columns)).astype(np.float32)
    t = graphc.placeholder(table.shape, name="t")
    i = graphc.placeholder((400,), "int64", name="i")
    u = graphc.placeholder(new.shape, name="u")
    f = graphc.Session(threads=2).function([t, i, u], graphc.grad(graphc.sum(t[i] * u), t) + t)
    expected = np.zeros_like(table)
    np.add.at(expected, rows, new)
    np.testing.assert_array_equal(f(table, rows, new), expected + table)


def _long(x: graphc.Tensor) -> graphc.Tensor:
    return graphc.tanh(x) * graphc.exp(-x * x) * graphc.sin(x)


@pytest.mark.parametrize("count", [2047, 2048, 4999, 8193])
def test_long_functions_go_in_short_steps(count: int) -> None:
    """Some thousand elements are several steps, with the bits of one."""
    p, q = graphc.placeholder((count,), name="x"), graphc.placeholder((1024,), name="x")
    with graphc.Session(threads=2) as session:
        f, few = (session.function([v], _long(v)) for v in (p, q))
        light = session.function([p], p * p + p)
        assert "i * 2048" in f.explain("loops")
        assert "i * 2048" not in light.explain("loops")
        x = RNG.standard_normal(count).astype(np.float32)
        parts = [few(np.resize(x[k : k + 1024], 1024)) for k in range(0, count, 1024)]
        np.testing.assert_array_equal(f(x), np.concatenate(parts)[:count])
