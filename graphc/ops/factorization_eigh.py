"""Eigenvalues of symmetric matrices (floor 2): tridiagonal by reflections, then implicit QR steps.

`eigh` packs row 0, the eigenvalues in ascending order, above the matrix whose columns are the
eigenvectors; `eigvalsh` has the values alone, without the work of the vectors. Both read the lower
triangle. The sign of each eigenvector v is the one for which the sum of v[i] / (i + 1) is not
negative, so that equal matrices have equal vectors on every machine. A matrix with NaN or
infinities gives NaN.

Eigenvectors of equal eigenvalues are any basis, of which no derivative exists: a gradient that
comes in through them is infinite or NaN. One that comes in through eigenvalues alone, or through
other vectors, is right, since 0 wins over infinity in the chain rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.dims import Size
from graphc.base.dtypes import Array, float64, int64
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ops import elementwise, logical
from graphc.ops.contraction import matmul
from graphc.ops.creation import iota
from graphc.ops.factorization import (
    SQUARE,
    check_matrices,
    matrix_op,
    on_each_matrix,
    one_matrix,
    separated,
    whole_work,
    with_a_broken_one,
)
from graphc.ops.factorization_reflectors import (
    chase,
    form_rows,
    largest,
    load_scaled,
    product_of_rows,
    reflector,
    rotate_rows,
    settle,
    sort_values,
    start_of_block,
    weighted_sign,
    weighted_signs,
)
from graphc.ops.factorization_triangular import of_lower_triangle
from graphc.ops.families import Opaque
from graphc.ops.joining import take_slice
from graphc.ops.reduction import accurate
from graphc.ops.reshape import to_shape
from graphc.ops.view import EMBED_DIAGONAL, matrix_transpose

# Steps that an eigenvalue may take on average; two are usual, LAPACK allows 30.
STEPS = 30


class _Symmetric:
    """Loops of one matrix. With vectors, `q` holds the transposed product of all reflections and
    rotations: its rows become the eigenvectors.
    """

    def __init__(self, b: Any, node: Tensor, vectors: bool) -> None:
        self.b, self.dtype, self.vectors = b, node.dtype, vectors
        self.n = n = node.inputs[0].shape[-1]
        self.matrix = b.local((n, n), node.dtype)
        self.q = b.local((n, n), node.dtype) if vectors else None
        self.taus = b.local((n,), node.dtype)
        self.work = b.local((n,), node.dtype)
        self.diagonal, self.beside = b.local((n,), float64), b.local((n,), float64)
        self.order = b.local((n,), int64)

    def run(self, index: tuple[Any, ...]) -> None:
        """Find and store the eigenvalues of the matrix of a batch index."""
        b, n = self.b, self.n

        def lower(i: Any, j: Any) -> Any:
            return b.load(0, (*index, b.maximum(i, j), b.minimum(i, j)))

        most = largest(b, n, n, lower)
        sound, unit = load_scaled(b, self.matrix, (n, n), lower, most)
        self._tridiagonal()
        if self.vectors:
            count = b.maximum(b.sub(b.size(n), b.size(2)), b.size(0))
            size = b.size(n)
            form_rows(b, self.q, (size, size), (count, self.matrix, self.taus), 1)
        self._iterate()
        sort_values(b, n, self.diagonal, self.order, descending=False)
        self._write(index, sound, unit)

    # -- to a tridiagonal matrix ------------------------------------------------------------------
    def _tridiagonal(self) -> None:
        """Householder's reduction (Golub and Van Loan, algorithm 8.3.1): row c keeps v_c."""
        b, n, one = self.b, self.n, self.b.size(1)
        steps = b.maximum(b.sub(b.size(n), b.size(2)), b.size(0))
        b.loop(steps, self._reduce)

        def corner(i: Any) -> None:
            b.put(self.diagonal, b.cast(b.get(self.matrix, (i, i)), float64), (i,))

        b.loop(n, corner)
        last = b.sub(b.size(n), one)

        def final() -> None:
            i = b.sub(last, one)
            b.put(self.beside, b.cast(b.get(self.matrix, (i, last)), float64), (i,))

        b.when(b.ge(last, one), final)

    def _reduce(self, c: Any) -> None:
        b, dtype, matrix = self.b, self.dtype, self.matrix
        start = b.add(c, b.size(1))
        count = b.sub(b.size(self.n), start)

        def vector(j: Any) -> Any:
            return b.get(matrix, (c, b.add(start, j)))

        beta, wide = reflector(
            b, dtype, count, vector, lambda j, x: b.put(matrix, x, (c, b.add(start, j)))
        )
        tau = b.cast(wide, dtype)
        b.put(self.taus, tau, (c,))
        b.put(self.beside, beta, (c,))

        def times_vector(j: Any) -> None:  # the matrix is symmetric: columns as well as rows
            total = b.running(dtype, "products")
            b.loop(
                count,
                lambda i: b.accumulate(
                    total, vector(i), b.get(matrix, (b.add(start, i), b.add(start, j)))
                ),
            )
            b.put(self.work, b.mul(tau, b.total(total)), (j,))

        def share(j: Any) -> Any:
            return b.get(self.work, (j,))

        b.lanes(count, dtype, times_vector, vectors=4)
        along = product_of_rows(b, dtype, count, share, vector)
        half = b.mul(b.mul(b.constant(0.5, dtype), tau), along)
        b.lanes(
            count,
            dtype,
            lambda j: b.put(self.work, b.sub(share(j), b.mul(half, vector(j))), (j,)),
        )

        def update(i: Any) -> None:
            row = b.add(start, i)
            v, w = vector(i), share(i)

            def element(j: Any) -> None:
                place = b.add(start, j)
                both = b.add(b.mul(v, share(j)), b.mul(w, vector(j)))
                b.put(matrix, b.sub(b.get(matrix, (row, place)), both), (row, place))

            b.lanes(count, dtype, element)

        b.loop(count, update)

    # -- to a diagonal one ------------------------------------------------------------------------
    def _iterate(self) -> None:
        """Implicit QR steps with Wilkinson's shift (Golub and Van Loan, algorithms 8.3.2, 8.3.3)
        on the last block whose off-diagonal elements are not negligible; a block of one row is
        settled.
        """
        b, bands = self.b, (self.diagonal, self.beside)

        def work(high: Any) -> Any:
            low = start_of_block(b, self.dtype, bands, high, lambda k: None)
            b.when(b.lt(low, high), lambda: self._step(low, high))
            return low

        settle(b, self.n, STEPS, work)

    def _step(self, low: Any, high: Any) -> None:
        b, one = self.b, self.b.size(1)
        before = b.sub(high, one)
        last, off = b.get(self.diagonal, (high,)), b.get(self.beside, (before,))
        half = b.mul(b.constant(0.5, float64), b.sub(b.get(self.diagonal, (before,)), last))
        far = b.op("copysign", b.op("hypot", half, off), half)
        shift = b.sub(last, b.mul(off, b.div(off, b.add(half, far))))
        x, z = b.local((), float64), b.local((), float64)
        b.put(x, b.sub(b.get(self.diagonal, (low,)), shift))
        b.put(z, b.get(self.beside, (low,)))

        def turn(k: Any, after: Any, c: Any, s: Any) -> tuple[Any, Any]:
            a, d, e = (
                b.get(self.diagonal, (k,)),
                b.get(self.diagonal, (after,)),
                b.get(self.beside, (k,)),
            )
            twice = b.mul(b.mul(b.constant(2.0, float64), c), e)
            w = b.add(twice, b.mul(b.sub(d, a), s))
            b.put(self.diagonal, b.add(a, b.mul(s, w)), (k,))
            b.put(self.diagonal, b.sub(d, b.mul(s, w)), (after,))
            turned = b.sub(b.mul(c, w), e)
            b.put(self.beside, turned, (k,))
            b.put(x, turned)
            return c, s

        def rotate_vectors(k: Any, after: Any, c: Any, s: Any) -> None:
            if self.vectors:
                rotate_rows(b, self.q, self.n, k, after, c, s)

        chase(b, self.beside, (low, high), (x, z), turn, rotate_vectors)

    # -- results ----------------------------------------------------------------------------------
    def _write(self, index: tuple[Any, ...], sound: Any, unit: Any) -> None:
        b, n, dtype = self.b, self.n, self.dtype
        nan = b.constant(float("nan"), dtype)

        def value(i: Any) -> None:
            x = b.select(sound, b.cast(b.mul(b.get(self.diagonal, (i,)), unit), dtype), nan)
            b.store((*index, b.size(0), i) if self.vectors else (*index, i), x)

        def vector(j: Any) -> None:
            row = b.get(self.order, (j,))

            def at(i: Any) -> Any:
                return b.get(self.q, (row, i))

            sign = weighted_sign(b, dtype, n, at)

            def element(i: Any) -> None:
                x = b.select(sound, b.mul(sign, at(i)), nan)
                b.store((*index, b.add(i, b.size(1)), j), x)

            b.lanes(n, dtype, element)

        b.lanes(n, dtype, value)
        if self.vectors:
            b.loop(n, vector)


def _loops(vectors: bool) -> Callable[[Any, Tensor], None]:
    return on_each_matrix(lambda b, node, index: _Symmetric(b, node, vectors).run(index))


def _reference(x: Array) -> Array:
    """NumPy's, with the signs of vectors that this module gives."""
    x = np.tril(accurate(x))
    x = x + np.tril(x, -1).swapaxes(-1, -2)
    sound = np.isfinite(x).all((-1, -2), keepdims=True)
    values, vectors = np.linalg.eigh(np.where(sound, x, 0.0))
    signs = weighted_signs(vectors)[..., None, :]
    packed = np.concatenate([values[..., None, :], vectors * signs], -2)
    return np.where(sound, packed, np.nan)


def unpacked(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, and eigenvectors in columns."""
    n = packed.shape[-1]
    values = to_shape(take_slice(packed, -2, 0, 1), (*packed.shape[:-2], n))
    return values, take_slice(packed, -2, 1, n)


def gaps(values: Tensor, squares: bool = False) -> Tensor:
    """1 / (values[j] - values[i]), or of their squares, at (i, j): infinite where they are equal, 0
    on the diagonal.
    """
    n = values.shape[-1]
    row, column = as_row(values), as_column(values)
    difference = elementwise.subtract(row, column)
    if squares:
        difference = elementwise.multiply(difference, elementwise.add(row, column))
    itself = logical.equal(iota((n, n)), iota((n, n), axis=1))
    inverse = elementwise.divide(1.0, elementwise.where(itself, 1.0, difference))
    return elementwise.where(itself, 0.0, inverse)


def as_row(values: Tensor) -> Tensor:
    """(…, n) -> (…, 1, n)"""
    return to_shape(values, (*values.shape[:-1], 1, values.shape[-1]))


def as_column(values: Tensor) -> Tensor:
    """(…, n) -> (…, n, 1)"""
    return to_shape(values, (*values.shape, 1))


def as_diagonal(values: Tensor) -> Tensor:
    """Diagonal matrices."""
    n, last = values.shape[-1], values.ndim - 1
    return EMBED_DIAGONAL(values, axes=(last, last + 1), offset=0, sizes=(n, n))


def _eigh_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    """V (diag(dw) + G o (V^T dV)) V^T, G the inverse gaps of the eigenvalues (Giles, section
    3.1).
    """
    values, v = unpacked(node)
    of_values, of_vectors = unpacked(g)
    turned = elementwise.chain_multiply(gaps(values), matmul(matrix_transpose(v), of_vectors))
    inner = elementwise.add(as_diagonal(of_values), turned)
    return [of_lower_triangle(matmul(matmul(v, inner), matrix_transpose(v)))]


def _eigvalsh_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    _, v = unpacked(EIGH(node.inputs[0]))
    weighted = elementwise.multiply(v, as_row(g))
    return [of_lower_triangle(matmul(weighted, matrix_transpose(v)))]


def _type(name: str, vectors: bool) -> Any:
    def infer(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
        x = check_matrices(name, inputs[0], square=True)
        n: Size = x.shape[-1]
        return TensorType((*x.shape[:-2], n + 1, n) if vectors else x.shape[:-1], x.dtype)

    return infer


_samples = with_a_broken_one(one_matrix(separated, SQUARE))


_FAILED = f"the eigenvalues did not converge in {STEPS} steps each"
EIGH = matrix_op(
    "eigh",
    _type("eigh", True),
    _reference,
    _eigh_gradient,
    Opaque(_loops(True), lambda node: whole_work(node, 9)),
    doc="The eigenvalues of symmetric matrices, of which the lower triangle is read, as row 0; "
    "below it a column per eigenvector.",
    samples=_samples,
    refuses=_FAILED,
)
EIGVALSH = matrix_op(
    "eigvalsh",
    _type("eigvalsh", False),
    lambda x: _reference(x)[..., 0, :],
    _eigvalsh_gradient,
    Opaque(_loops(False), lambda node: whole_work(node, 2)),
    doc="The eigenvalues of symmetric matrices, of which the lower triangle is read, in "
    "ascending order.",
    samples=_samples,
    refuses=_FAILED,
)
