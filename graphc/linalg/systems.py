"""Linear systems, inverses, determinants (floor 8): compositions of the ops over LU and Cholesky.

A singular matrix has no solution and no inverse: the call raises ExecutionError with the user's
line. Gradients are those of Giles, Collected matrix derivative results (2008), of any order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from graphc.base.errors import GraphError, ShapeError
from graphc.ir.node import Tensor, as_index
from graphc.ir.opdef import fail
from graphc.linalg.arguments import floats, matrices, system
from graphc.ops.contraction import matmul
from graphc.ops.creation import eye, iota, tril, triu
from graphc.ops.elementwise import add, multiply
from graphc.ops.factorization import check_matrices, smaller
from graphc.ops.factorization_lu import (
    DET,
    LOGABSDET,
    LU,
    SOLVE,
    exchange_sign,
    identity_like,
    unpacked,
)
from graphc.ops.factorization_triangular import CHOLESKY, TRIANGULAR_SOLVE
from graphc.ops.joining import take_slice
from graphc.ops.logical import equal
from graphc.ops.matrix_exponential import EXPM
from graphc.ops.promotion import as_tensor, cast
from graphc.ops.reduction import prod
from graphc.ops.reshape import expand_dims, squeeze
from graphc.ops.rounding import sign as sign_of
from graphc.ops.view import broadcast_to, diagonal, matrix_transpose


class SlogdetResult(NamedTuple):
    """sign: -1, 0 or 1; logabsdet: the logarithm of the absolute value of the determinant."""

    sign: Tensor
    logabsdet: Tensor


class LUResult(NamedTuple):
    """x = P @ L @ U: a permutation matrix, a unit lower and an upper triangle."""

    P: Tensor
    L: Tensor
    U: Tensor


class LUFactorResult(NamedTuple):
    """LU: both triangles in one matrix, without the ones; pivots: int64, counted from 0."""

    LU: Tensor
    pivots: Tensor


def symmetric(x: Tensor) -> Tensor:
    """The symmetric part of matrices: themselves where they are symmetric."""
    return add(multiply(x, 0.5), multiply(matrix_transpose(x), 0.5))


def cholesky(x: Any, /, *, upper: bool = False) -> Tensor:
    """The lower triangle L with x = L @ L.T, or with `upper` U = L.T, of symmetric positive
    definite matrices (..., n, n), float32 or float64.

    Of a matrix that is not symmetric the symmetric part is taken; so the gradient is symmetric.
    Raises ShapeError, DTypeError; at the call ExecutionError where a matrix is not positive
    definite (NaN included).
    """
    lower = CHOLESKY(symmetric(matrices(x, "cholesky", square=True)))
    return matrix_transpose(lower) if upper else lower


def triangular_solve(
    a: Any, b: Any, /, *, upper: bool = False, transpose: bool = False, unit_diagonal: bool = False
) -> Tensor:
    """The x with a @ x = b (a.T @ x = b with `transpose`) for triangular matrices a (..., n, n).

    b: (n,) or (..., n, k); batches broadcast. Only the lower triangle of a is read, or the `upper`
    one; with `unit_diagonal` its diagonal is taken as 1. A 0 on the diagonal gives infinities or
    NaN. Raises ShapeError, DTypeError.
    """
    a, b, vector = system("triangular_solve", a, b)
    check_matrices("triangular_solve", a, square=True)
    x = TRIANGULAR_SOLVE(
        a, b, lower=not upper, transpose=bool(transpose), unit_diagonal=bool(unit_diagonal)
    )
    return squeeze(x, axis=-1) if vector else x


def solve(x1: Any, x2: Any, /) -> Tensor:
    """The x with x1 @ x = x2, for square matrices x1 (..., n, n) and x2 of (n,) or (..., n, k);
    batches broadcast.

    By LU factorization with partial pivoting. Raises ShapeError, DTypeError; at the call
    ExecutionError for a singular matrix, that is one whose factorization has a pivot of 0.
    """
    a, b, vector = system("solve", x1, x2)
    check_matrices("solve", a, square=True)
    x = SOLVE(a, b, transpose=False)
    return squeeze(x, axis=-1) if vector else x


def inv(x: Any, /) -> Tensor:
    """The inverses of square matrices (..., n, n). `solve(x, b)` is faster and more accurate than
    `inv(x) @ b`. Raises ShapeError, DTypeError; at the call ExecutionError for a singular matrix.
    """
    x = matrices(x, "inv", square=True)
    return SOLVE(x, identity_like(x), transpose=False)


def lu_factor(x: Any, /) -> LUFactorResult:
    """The LU factorization of matrices (..., m, n) with partial pivoting: L below the diagonal and
    U in one matrix (..., m, n), and pivots (..., min(m, n)): step i exchanged row i with row
    pivots[i].

    Raises ShapeError (also where it depends on the call which size is smaller), DTypeError.
    """
    x = matrices(x, "lu_factor")
    factors, _, pivots = unpacked(LU(x))
    return LUFactorResult(factors, take_slice(pivots, -1, 0, smaller("lu_factor", x)))


def lu(x: Any, /) -> LUResult:
    """P (..., m, m), L (..., m, k), U (..., k, n) with x = P @ L @ U and k = min(m, n), for
    matrices (..., m, n). No gradient flows through P. Raises as `lu_factor`.
    """
    x = matrices(x, "lu")
    m, k = x.shape[-2], smaller("lu", x)
    factors, order, _ = unpacked(LU(x))
    lower = tril(take_slice(factors, -1, 0, k), k=-1)
    ones = broadcast_to(eye(m, k, dtype=x.dtype), lower.shape)
    upper = triu(take_slice(factors, -2, 0, k))
    places = iota((m,))
    permuted = equal(expand_dims(order, axis=-2), expand_dims(places, axis=-1))
    return LUResult(cast(permuted, x.dtype), add(lower, ones), upper)


def det(x: Any, /) -> Tensor:
    """The determinants (...) of square matrices (..., n, n); 1 for n = 0.

    The gradient, the cofactors, is finite for singular matrices too; the second derivative there is
    an ExecutionError. Raises ShapeError, DTypeError.
    """
    return DET(matrices(x, "det", square=True))


def slogdet(x: Any, /) -> SlogdetResult:
    """The sign (...) and the logarithm of the absolute value (...) of determinants: 0 and -inf for
    a singular matrix, whose gradient is an ExecutionError at the call. Raises ShapeError,
    DTypeError.
    """
    x = matrices(x, "slogdet", square=True)
    factors, _, pivots = unpacked(LU(x))
    signs = prod(sign_of(diagonal(factors)), axis=-1)
    return SlogdetResult(multiply(exchange_sign(pivots, x), signs), LOGABSDET(x))


def expm(x: Any, /) -> Tensor:
    """The exponential of square matrices (..., n, n), float32 or float64: the sum of x^k / k!.

    By scaling and squaring with a Padé approximant (Higham 2005); the derivative is a block of the
    exponential of a matrix of twice the size. NaN or infinities in a matrix give NaN. Raises
    ShapeError, DTypeError.
    """
    return EXPM(matrices(x, "expm", square=True))


def matrix_power(x: Any, n: int, /) -> Tensor:
    """The square matrices in the last two dims multiplied n times; n = 0 gives the identity, a
    negative n the power of the inverse.

    Raises ShapeError for matrices that are not square; at the call ExecutionError for a negative
    power of a singular matrix.
    """
    x = as_tensor(x, op="matrix_power")
    count = as_index(n)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        hint = "the last two dims must be equal"
        fail(ShapeError, f"matrix_power: expected square matrices, got {x.type}", [x], hint)
    if count is None:
        hint = "for x ** n by elements use graphc.pow"
        fail(GraphError, f"matrix_power: n must be an int, got {n!r:.60}", [x], hint)
    if count < 0:
        x, count = inv(floats(x, "matrix_power")), -count
    result: Tensor | None = None
    while count:  # by squaring: the number of products grows with the digits of n
        if count & 1:
            result = x if result is None else matmul(result, x)
        count >>= 1
        x = matmul(x, x) if count else x
    return identity_like(x) if result is None else result
