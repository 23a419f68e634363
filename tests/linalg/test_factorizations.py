"""Factorizations, compiled, of easy and hard matrices: residuals and orthogonality in units of the
dtype's epsilon, as LAPACK's own tests measure them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import linalg
from graphc.base.dtypes import Array

SIZES = (1, 2, 3, 21, 70)
DTYPES = ("float32", "float64")


def orthogonal(n: int, seed: int = 0) -> Array:
    return np.linalg.qr(np.random.default_rng((n, seed)).standard_normal((n, n)))[0]


def matrices(n: int) -> Iterator[tuple[str, Array]]:
    """Square matrices that algorithms stumble over, with their names."""
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, n))
    u, v = orthogonal(n), orthogonal(n, 1)
    k = np.arange(n)
    yield "random", x
    yield "identity", np.eye(n)
    yield "zero", np.zeros((n, n))
    yield "ones", np.ones((n, n))
    yield "graded", (u * np.logspace(0, -18, n)) @ v
    yield "graded rows", np.logspace(0, -12, n)[:, None] * x * np.logspace(0, -12, n)
    yield "graded up", np.logspace(-12, 0, n)[:, None] * x * np.logspace(-12, 0, n)
    yield "two values", (u * np.where(k < n // 2, 1.0, 2.0)) @ v
    yield "half rank", (u * np.where(k < n // 2, 1.0, 0.0)) @ v
    yield "shift", np.eye(n, k=1)
    yield "zeros on the diagonal", np.diag(np.where(k % 3 == 1, 0.0, k + 1.0)) + np.eye(n, k=1)
    yield "Hilbert", 1.0 / (k[:, None] + k + 1.0)
    yield "Wilkinson", np.diag(np.abs(k - (n - 1) / 2)) + np.eye(n, k=1) + np.eye(n, k=-1)
    yield "huge", x * 1e300
    yield "tiny", x * 1e-300
    yield "tiny for float32", x * 1e-36


def cases(dtype: str, symmetric: bool = False) -> Iterator[tuple[str, Array]]:
    for n in SIZES:
        for name, x in matrices(n):
            with np.errstate(over="ignore", under="ignore"):
                given = (x + x.T if symmetric else x).astype(dtype)
            if np.isfinite(given).all():
                yield f"{name} {n}", given


def compiled(function: Callable[[graphc.Tensor], Any], dtype: str) -> Callable[[Array], Any]:
    """One program for all sizes."""
    x = graphc.placeholder(("n", "n"), dtype)
    return graphc.Session(threads=1).function([x], function(x))


def excess(difference: Array, scale: float, eps: float) -> float:
    return float(np.abs(difference).max(initial=0.0)) / (eps * max(scale, 1e-305))


def units(x: Array) -> tuple[Array, float]:
    """The matrix in float64, its largest element about 1, and what it was divided by."""
    wide = x.astype(np.float64)
    factor = float(2.0 ** np.floor(np.log2(np.abs(wide).max()))) if np.any(wide) else 1.0
    return wide / factor, factor


@pytest.mark.parametrize("dtype", DTYPES)
def test_eigh(dtype: str) -> None:
    eps = float(np.finfo(dtype).eps)
    run = compiled(lambda x: (*linalg.eigh(x), linalg.eigvalsh(x)), dtype)
    for name, x in cases(dtype, symmetric=True):
        given, factor = units(x)
        w, v, alone = (a.astype(np.float64) for a in run(x))
        n, scale = len(w), float(np.linalg.norm(given, 2))
        w, alone = w / factor, alone / factor
        bound = 2.0 * n + 20.0
        assert excess(given @ v - v * w, scale, eps) < bound, name
        assert excess(v.T @ v - np.eye(n), 1.0, eps) < bound, name
        assert excess(w - np.linalg.eigvalsh(given), scale, eps) < bound, name
        assert excess(w - alone, scale, eps) < bound, name
        assert np.all(np.diff(w) >= 0.0), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_svd(dtype: str) -> None:
    eps = float(np.finfo(dtype).eps)
    run = compiled(lambda x: (*linalg.svd(x), linalg.svdvals(x)), dtype)
    for name, x in cases(dtype):
        given, factor = units(x)
        u, s, vh, alone = (a.astype(np.float64) for a in run(x))
        s, alone = s / factor, alone / factor
        n, scale = len(s), float(np.linalg.norm(given, 2))
        bound = 2.0 * n + 20.0
        assert excess((u * s) @ vh - given, scale, eps) < bound, name
        assert excess(u.T @ u - np.eye(n), 1.0, eps) < bound, name
        assert excess(vh @ vh.T - np.eye(n), 1.0, eps) < bound, name
        assert excess(s - np.linalg.svd(given, compute_uv=False), scale, eps) < bound, name
        assert excess(s - alone, scale, eps) < bound, name
        assert np.all(np.diff(s) <= 0.0) and np.all(s >= 0.0), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_qr(dtype: str) -> None:
    eps = float(np.finfo(dtype).eps)
    run = compiled(lambda x: linalg.qr(x), dtype)
    for name, x in cases(dtype):
        given, factor = units(x)
        q, r = (a.astype(np.float64) for a in run(x))
        n = len(q)
        bound = 2.0 * n + 20.0
        column = np.abs(given).max(0)  # small columns are as accurate as large ones
        off = np.abs(q @ (r / factor) - given).max(0)
        tiny = float(np.finfo(dtype).tiny) * 1e3 / factor if factor > 0 else 0.0
        assert np.all(off <= bound * eps * column + tiny), name
        assert excess(q.T @ q - np.eye(n), 1.0, eps) < bound, name
        assert not np.any(np.tril(r, -1)), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_lu(dtype: str) -> None:
    eps = float(np.finfo(dtype).eps)
    run = compiled(lambda x: (*linalg.lu(x), *linalg.lu_factor(x)), dtype)
    for name, x in cases(dtype):
        given, factor = units(x)
        p, lower, upper, both, pivots = run(x)
        n = len(p)
        product = p.astype(np.float64) @ lower.astype(np.float64) @ (upper / factor)
        scale = float(np.abs(upper.astype(np.float64) / factor).max(initial=0.0))
        tiny = float(np.finfo(dtype).tiny) / factor / eps
        assert excess(product - given, max(scale, tiny), eps) < n + 4.0, name
        assert np.abs(lower).max() <= 1.0 and np.all(np.diag(lower) == 1.0), name
        rows = np.arange(n)
        for i, k in enumerate(pivots):
            rows[[i, k]] = rows[[k, i]]
        np.testing.assert_array_equal(np.eye(n)[:, rows], p, name)
        np.testing.assert_array_equal(np.tril(both, -1) + np.triu(both), both)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cholesky_and_solve(dtype: str) -> None:
    eps = float(np.finfo(dtype).eps)
    a, b = graphc.placeholder(("n", "n"), dtype), graphc.placeholder(("n", 3), dtype)
    outputs = [linalg.cholesky(a), linalg.solve(a, b), linalg.inv(a), linalg.det(a)]
    run = graphc.Session(threads=1).function([a, b], outputs)
    for n in (*SIZES, 129):
        u = orthogonal(n)
        given = ((u * np.linspace(1.0, 40.0, n)) @ u.T).astype(dtype)
        given = (given + given.T) / 2
        right = np.random.default_rng(n).standard_normal((n, 3)).astype(dtype)
        lower, x, inverse, det = run(given, right)
        wide = given.astype(np.float64)
        bound = n + 20.0
        assert excess(lower.astype(np.float64) @ lower.T - wide, 40.0, eps) < bound
        assert not np.any(np.triu(lower, 1))
        size = 40.0 * float(np.abs(x).max())
        assert excess(wide @ x - right, size, eps) < bound
        assert excess(wide @ inverse - np.eye(n), 40.0 * 1.0, eps) < bound
        expected = np.linalg.slogdet(wide)[1]
        if expected < np.log(np.finfo(dtype).max):
            assert abs(np.log(float(det)) - expected) < 4 * n * eps * 40.0


def test_oblong_matrices() -> None:
    rng = np.random.default_rng(3)
    for shape in ((5, 3), (3, 5), (2, 40, 7), (7, 40), (1, 6), (6, 1), (0, 4), (4, 0)):
        x = rng.standard_normal(shape)
        (m, n), k = shape[-2:], min(shape[-2:])
        outputs = [
            *linalg.qr(x), *linalg.qr(x, mode="complete"), *linalg.svd(x),
            *linalg.svd(x, full_matrices=False), *linalg.lu(x), linalg.pinv(x),
        ]  # fmt: skip
        q, r, qc, rc, u, s, vh, ut, st, vt, p, lower, upper, inverse = graphc.Session().run(outputs)
        np.testing.assert_allclose(q @ r, x, atol=1e-13)
        np.testing.assert_allclose(qc @ rc, x, atol=1e-13)
        np.testing.assert_allclose((u[..., :k] * s[..., None, :]) @ vh[..., :k, :], x, atol=1e-13)
        np.testing.assert_allclose((ut * st[..., None, :]) @ vt, x, atol=1e-13)
        np.testing.assert_allclose(p @ lower @ upper, x, atol=1e-13)
        np.testing.assert_allclose(inverse, np.linalg.pinv(x), atol=1e-12)
        for square, size in ((qc, m), (u, m), (vh, n)):
            assert square.shape[-2:] == (size, size)
            turned = square.swapaxes(-1, -2) @ square
            np.testing.assert_allclose(
                turned, np.broadcast_to(np.eye(size), turned.shape), atol=1e-13
            )
        expected = np.linalg.qr(x)
        np.testing.assert_allclose(q, expected[0], atol=1e-12)  # LAPACK's signs
        np.testing.assert_allclose(r, expected[1], atol=1e-12)


def test_only_the_triangle_that_is_asked_for_is_read() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 4)) + 4 * np.eye(4), rng.standard_normal((4, 2))
    for upper in (False, True):
        clean = np.triu(a) if upper else np.tril(a)
        dirty = clean + (np.tril if upper else np.triu)(np.full((4, 4), np.nan), -1 if upper else 1)
        found = linalg.triangular_solve(dirty, b, upper=upper).eval()
        np.testing.assert_allclose(clean @ found, b, atol=1e-13)
        turned = linalg.triangular_solve(dirty, b, upper=upper, transpose=True).eval()
        np.testing.assert_allclose(clean.T @ turned, b, atol=1e-13)


def test_nan_and_infinity_give_nan() -> None:
    for bad in (np.nan, np.inf):
        x = np.stack([np.eye(3), np.diag([1.0, 2.0, 3.0])])
        x[0, 2, 0] = x[0, 0, 2] = bad
        for function in (linalg.eigvalsh, linalg.svdvals, linalg.pinv):
            found = function(x).eval()
            assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()
        q, _ = (t.eval() for t in linalg.qr(x))
        assert np.isnan(q[0]).any() and np.isfinite(q[1]).all()


def test_batches_have_the_same_bits_on_any_number_of_threads() -> None:
    x = np.random.default_rng(1).standard_normal((64, 24, 24))
    x = x @ x.swapaxes(-1, -2) + np.eye(24)
    p = graphc.placeholder(x.shape, "float64")
    outputs = [
        linalg.cholesky(p), linalg.inv(p), *linalg.eigh(p), *linalg.svd(p), *linalg.qr(p),
    ]  # fmt: skip
    one = graphc.Session(threads=1).function([p], outputs)(x)
    two = graphc.Session(threads=2).function([p], outputs)(x)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    alone = graphc.Session(threads=1).run(linalg.eigh(x[7])[1])
    np.testing.assert_array_equal(one[3][7], alone)
