"""Orthogonal factorizations, eigenvalues, singular values and what they give (floor 8).

Gradients are the usual closed forms (Giles 2008; Townsend 2016). Through the vectors of equal
eigenvalues or singular values they are infinite or NaN, as no derivative exists there; through the
values themselves they are right.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from graphc.base.errors import GraphError, message
from graphc.ir.node import Tensor
from graphc.linalg.arguments import matrices, system
from graphc.linalg.systems import symmetric
from graphc.ops.contraction import matmul
from graphc.ops.elementwise import multiply, subtract
from graphc.ops.factorization import smaller
from graphc.ops.factorization_eigh import EIGH, EIGVALSH
from graphc.ops.factorization_eigh import unpacked as eigh_parts
from graphc.ops.factorization_pinv import PINV
from graphc.ops.factorization_qr import QR, QR_COMPLETE
from graphc.ops.factorization_qr import unpacked as qr_parts
from graphc.ops.factorization_svd import SVD, SVDVALS
from graphc.ops.factorization_svd import unpacked as svd_parts
from graphc.ops.joining import concat, take_slice
from graphc.ops.logical import greater
from graphc.ops.promotion import as_tensor, astype, cast
from graphc.ops.reduction import MAX
from graphc.ops.reduction import sum as sum_of
from graphc.ops.reshape import expand_dims, squeeze
from graphc.ops.view import broadcast_to, matrix_transpose


class EighResult(NamedTuple):
    """eigenvalues (..., n) in ascending order; eigenvectors (..., n, n) in columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class QRResult(NamedTuple):
    """x = Q @ R: orthonormal columns, and an upper triangle."""

    Q: Tensor
    R: Tensor


class SVDResult(NamedTuple):
    """x = (U * S) @ Vh: orthonormal columns, values in descending order, orthonormal rows."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class LstsqResult(NamedTuple):
    """x; the sums of squares of b - a x; the int64 ranks and the singular values of a."""

    x: Tensor
    residuals: Tensor
    rank: Tensor
    s: Tensor


def qr(x: Any, /, *, mode: str = "reduced") -> QRResult:
    """The QR factorization of matrices (..., m, n), by Householder reflections: Q (..., m, k) and R
    (..., k, n) with k = min(m, n), or k = m for mode="complete".

    The signs are LAPACK's. For m > n the complete Q has no gradient, and the reduced one needs
    linearly independent columns. Raises GraphError for another mode, ShapeError (also where it
    depends on the call which size is smaller), DTypeError.
    """
    if mode not in ("reduced", "complete"):
        hint = 'mode is "reduced" or "complete"'
        raise GraphError(message(f"qr: unknown mode {mode!r:.40}", hint=hint))
    x = matrices(x, "qr")
    m = x.shape[-2]
    whole = mode == "complete" and smaller("qr", x) != m
    return QRResult(*qr_parts((QR_COMPLETE if whole else QR)(x), m))


def eigh(x: Any, /) -> EighResult:
    """The eigenvalues and eigenvectors of symmetric matrices (..., n, n).

    Of a matrix that is not symmetric the symmetric part is taken; so the gradient is symmetric.
    Each eigenvector v has the sign for which the sum of v[i] / (i + 1) is not negative. NaN or
    infinities in a matrix give NaN. Raises ShapeError, DTypeError; ExecutionError at the call
    should the iteration not converge.
    """
    return EighResult(*eigh_parts(EIGH(symmetric(matrices(x, "eigh", square=True)))))


def eigvalsh(x: Any, /) -> Tensor:
    """The eigenvalues (..., n) of symmetric matrices in ascending order, as `eigh` gives them. Its
    gradient computes the eigenvectors.
    """
    return EIGVALSH(symmetric(matrices(x, "eigvalsh", square=True)))


def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """The singular value decomposition of matrices (..., m, n): U (..., m, m), S (..., min(m, n)),
    Vh (..., n, n); without `full_matrices` only the first min(m, n) columns of U and rows of Vh.

    Each pair of vectors has the sign for which the sum of u[i] / (i + 1) is not negative. What
    full_matrices adds has no gradient. NaN or infinities in a matrix give NaN. Raises ShapeError
    (also where it depends on the call which size is smaller), DTypeError; ExecutionError at the
    call should the iteration not converge.
    """
    x = matrices(x, "svd")
    m, n = x.shape[-2:]
    u, s, vh = svd_parts(SVD(x), m)
    if full_matrices and s.shape[-1] != m:
        u = _completed(u)
    if full_matrices and s.shape[-1] != n:
        vh = matrix_transpose(_completed(matrix_transpose(vh)))
    return SVDResult(u, s, vh)


def _completed(u: Tensor) -> Tensor:
    """Orthonormal columns and further ones, to a square."""
    m, k = u.shape[-2:]
    basis, _ = qr_parts(QR_COMPLETE(u), m)
    return concat([u, take_slice(basis, -1, k, m - k)], axis=-1)


def svdvals(x: Any, /) -> Tensor:
    """The singular values (..., min(m, n)) of matrices in descending order. Their gradient computes
    the vectors. Raises as `svd`.
    """
    return SVDVALS(matrices(x, "svdvals"))


def _relative(x: Tensor, rtol: Any) -> Tensor:
    """rtol per matrix (...) or for all (), max(m, n) times the epsilon where it is None."""
    if rtol is not None:
        given = cast(as_tensor(rtol, like=x), x.dtype)
        return given if not given.ndim else broadcast_to(given, x.shape[:-2])
    m, n = x.shape[-2:]
    larger = m if smaller("rtol", x) == n else n
    return multiply(as_tensor(larger, like=x), float(np.finfo(x.dtype.numpy).eps))


def matrix_rank(x: Any, /, *, rtol: Any = None) -> Tensor:
    """The int64 number (...) of singular values above rtol times the largest one.

    rtol: a number or an array (...) per matrix, max(m, n) times the dtype's epsilon by default.
    Raises as `svd`.
    """
    x = matrices(x, "matrix_rank")
    return _rank(x, SVDVALS(x), rtol)


def _rank(x: Tensor, values: Tensor, rtol: Any) -> Tensor:
    top = MAX(values, axes=(values.ndim - 1,), keepdims=True)  # -inf of nothing
    limit = multiply(top, expand_dims(_relative(x, rtol), axis=-1))
    return sum_of(astype(greater(values, limit), "int64"), axis=-1)


def pinv(x: Any, /, *, rtol: Any = None) -> Tensor:
    """The pseudoinverses (..., n, m) of matrices (..., m, n) (Moore and Penrose), by singular
    values; those up to rtol times the largest one count as 0.

    rtol: as of `matrix_rank`. The gradient holds where the rank stays (G. H. Golub and V. Pereyra,
    1973). Raises as `svd`.
    """
    x = matrices(x, "pinv")
    return PINV(x, _relative(x, rtol))


def lstsq(a: Any, b: Any, /, *, rtol: Any = None) -> LstsqResult:
    """The x of smallest norm of those that minimize the norm of a @ x - b, for matrices a (..., m,
    n) and b of (m,) or (..., m, k); batches broadcast.

    rtol: singular values of a up to it times the largest one count as 0, max(m, n) times the
    dtype's epsilon by default. The residuals (k per matrix) are always computed. Raises as `svd`.
    """
    a, b, vector = system("lstsq", a, b)
    x = matmul(PINV(a, _relative(a, rtol)), b)
    off = subtract(b, matmul(a, x))
    residuals = sum_of(multiply(off, off), axis=-2)
    values = svd_parts(SVD(a), a.shape[-2])[1]
    if vector:
        x, residuals = squeeze(x, axis=-1), squeeze(residuals, axis=-1)
    return LstsqResult(x, residuals, _rank(a, values, rtol), values)
