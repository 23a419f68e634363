"""Singular values (floor 2): bidiagonal by reflections, then implicit QR steps.

`svd` packs row i: left singular vector i, the i-th singular value in descending order, right
singular vector i. `svdvals` has the values alone, without the work of the vectors. The sign of each
pair is the one for which the sum of u[i] / (i + 1) is not negative, so that equal matrices have
equal vectors on every machine. A matrix with NaN or infinities gives NaN.

Vectors of equal singular values are any basis, of which no derivative exists: a gradient that comes
in through them is infinite or NaN, and so it is through the vectors of a value of 0 of an oblong
matrix. One that comes in through the values alone, or through other vectors, is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.dims import Size
from graphc.base.dtypes import Array, float64, int64
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ops import elementwise
from graphc.ops.contraction import matmul
from graphc.ops.factorization import (
    OBLONG,
    check_matrices,
    matrix_op,
    on_each_matrix,
    one_matrix,
    smaller,
    spread,
    whole_work,
    with_a_broken_one,
)
from graphc.ops.factorization_eigh import as_column, as_diagonal, as_row, gaps
from graphc.ops.factorization_reflectors import (
    chase,
    form_rows,
    largest,
    load_scaled,
    reflect_column,
    reflector,
    rotate_rows,
    rotation,
    settle,
    sort_values,
    start_of_block,
    weighted_sign,
    weighted_signs,
)
from graphc.ops.families import Opaque
from graphc.ops.joining import take_slice
from graphc.ops.reduction import accurate
from graphc.ops.reshape import to_shape
from graphc.ops.view import matrix_transpose

# Steps that a singular value may take on average; two are usual, LAPACK allows 6 per row of each.
STEPS = 40


class _Bidiagonal:
    """Loops of one matrix X with as many rows as columns or more: a wide matrix is transposed.

    `columns` holds X by columns, later the reflections of its rows; `turns` those of its columns.
    With vectors, the rows of `long` and `short` become the singular vectors.
    """

    def __init__(self, b: Any, node: Tensor, vectors: bool) -> None:
        self.b, self.dtype, self.vectors = b, node.dtype, vectors
        self.m, self.n = x_shape = node.inputs[0].shape[-2:]
        self.q = q = smaller("svd", node.inputs[0])
        self.wide = q != self.n
        self.p = p = x_shape[1] if self.wide else x_shape[0]
        self.columns = b.local((q, p), node.dtype)
        self.turns = b.local((q, q), node.dtype)
        self.taus = b.local((q,), node.dtype)
        self.turn_taus = b.local((q,), node.dtype)
        self.work = b.local((p,), node.dtype)
        self.diagonal, self.beside = b.local((q,), float64), b.local((q,), float64)
        self.order = b.local((q,), int64)
        self.long = b.local((q, p), node.dtype) if vectors else None
        self.short = b.local((q, q), node.dtype) if vectors else None
        self.least, self.most = b.local((), float64), b.local((), float64)

    def run(self, index: tuple[Any, ...]) -> None:
        """Find and store the singular values of the matrix of a batch index."""
        b, q = self.b, self.b.size(self.q)

        def given(r: Any, i: Any) -> Any:
            return b.load(0, (*index, r, i) if self.wide else (*index, i, r))

        most = largest(b, self.m, self.n, lambda i, j: b.load(0, (*index, i, j)))
        sound, unit = load_scaled(b, self.columns, (self.q, self.p), given, most)
        b.loop(self.q, self._reduce)
        if self.vectors:
            p, count = b.size(self.p), b.maximum(b.sub(q, b.size(1)), b.size(0))
            form_rows(b, self.long, (q, p), (q, self.columns, self.taus), 0)
            form_rows(b, self.short, (q, q), (count, self.turns, self.turn_taus), 1)
        settle(b, self.q, STEPS, self._work)
        self._write(index, sound, unit)

    # -- to a bidiagonal matrix -------------------------------------------------------------------
    def _reduce(self, c: Any) -> None:
        """Column c to its diagonal, row c to the element beside it (G. H. Golub and W. Kahan, 1965;
        Golub and Van Loan, algorithm 5.4.2).
        """
        b = self.b
        reflect_column(b, self.columns, self.p, self.q, (self.diagonal, self.taus), c)
        after = b.add(c, b.size(1))
        left = b.sub(b.size(self.q), after)
        b.when(b.gt(left, b.size(0)), lambda: self._turn(c, after, left))

    def _turn(self, c: Any, after: Any, left: Any) -> None:
        """Reflect row c beyond its diagonal to one element, and the later rows likewise."""
        b, dtype, columns = self.b, self.dtype, self.columns

        def vector(j: Any) -> Any:
            return b.get(self.turns, (c, b.add(after, j)))

        def put(j: Any, x: Any) -> None:
            b.put(self.turns, x, (c, b.add(after, j)))

        b.loop(left, lambda r: put(r, b.get(columns, (b.add(after, r), c))))
        beta, wide = reflector(b, dtype, left, vector, put)
        tau = b.cast(wide, dtype)
        b.put(self.beside, beta, (c,))
        b.put(self.turn_taus, tau, (c,))
        count = b.sub(b.size(self.p), after)

        def at(r: Any, i: Any) -> Any:
            return b.get(columns, (b.add(after, r), b.add(after, i)))

        def gather(i: Any) -> None:
            total = b.running(dtype, "products")
            b.loop(left, lambda r: b.accumulate(total, vector(r), at(r, i)))
            b.put(self.work, b.mul(tau, b.total(total)), (i,))

        def update(r: Any) -> None:
            x = vector(r)

            def element(i: Any) -> None:
                changed = b.sub(at(r, i), b.mul(x, b.get(self.work, (i,))))
                b.put(columns, changed, (b.add(after, r), b.add(after, i)))

            b.lanes(count, dtype, element)

        b.lanes(count, dtype, gather, vectors=4)
        b.loop(left, update)

    # -- to a diagonal one ------------------------------------------------------------------------
    def _work(self, high: Any) -> Any:
        """One step on the block that ends with row `high`; its first row."""
        b = self.b
        b.put(self.least, b.abs(b.get(self.diagonal, (high,))))
        b.put(self.most, b.get(self.least))

        def look(k: Any) -> None:
            x, beside = b.abs(b.get(self.diagonal, (k,))), b.abs(b.get(self.beside, (k,)))
            b.put(self.least, b.minimum(b.get(self.least), x))
            b.put(self.most, b.maximum(b.get(self.most), b.maximum(x, beside)))

        low = start_of_block(b, self.dtype, (self.diagonal, self.beside), high, look)
        b.when(b.lt(low, high), lambda: self._step(low, high))
        return low

    def _shift(self, low: Any, high: Any) -> Any:
        """The smaller singular value of the last two rows of a block; 0 where a value is nothing to
        the block's largest one: the step then settles the last row at once (J. Demmel and W. Kahan,
        Accurate singular values of bidiagonal matrices, 1990).
        """
        b, one = self.b, self.b.constant(1.0, float64)
        zero = b.constant(0.0, float64)
        before = b.sub(high, b.size(1))
        f, h = b.abs(b.get(self.diagonal, (before,))), b.abs(b.get(self.diagonal, (high,)))
        g = b.abs(b.get(self.beside, (before,)))
        less, more = b.minimum(f, h), b.maximum(f, h)
        eps = b.constant(float(np.finfo(self.dtype.numpy).eps), float64)
        nothing = b.le(b.get(self.least), b.mul(eps, b.get(self.most)))
        # 2 / (sqrt((1 + less/more)^2 + (g/more)^2) + sqrt((1 - less/more)^2 + (g/more)^2)) * less
        top = b.maximum(b.maximum(more, g), b.constant(2.0**-1000, float64))
        first = b.op("hypot", b.div(b.add(more, less), top), b.div(g, top))
        second = b.op("hypot", b.div(b.sub(more, less), top), b.div(g, top))
        both = b.add(first, second)
        safe = b.select(b.gt(both, zero), both, one)
        twice = b.mul(b.constant(2.0, float64), b.div(more, top))
        shift = b.mul(less, b.div(twice, safe))
        start = b.abs(b.get(self.diagonal, (low,)))
        ratio = b.div(shift, b.select(b.gt(start, zero), start, one))
        small = b.bit_or(nothing, b.lt(b.mul(ratio, ratio), eps))
        return b.select(b.bit_or(small, b.le(start, zero)), zero, shift)

    def _step(self, low: Any, high: Any) -> None:
        """An implicit QR step of B^T B (Golub and Van Loan, algorithm 8.6.1)."""
        b, one = self.b, self.b.size(1)
        zero = b.constant(0.0, float64)
        shift, start = self._shift(low, high), b.get(self.diagonal, (low,))
        safe = b.select(b.eq(start, zero), b.constant(1.0, float64), start)
        sign = b.op("copysign", b.constant(1.0, float64), start)
        x, z = b.local((), float64), b.local((), float64)
        b.put(x, b.mul(b.sub(b.abs(start), shift), b.add(sign, b.div(shift, safe))))
        b.put(z, b.get(self.beside, (low,)))

        def turn(k: Any, after: Any, c: Any, s: Any) -> tuple[Any, Any]:
            d, e = b.get(self.diagonal, (k,)), b.get(self.beside, (k,))
            following = b.get(self.diagonal, (after,))
            beside = b.sub(b.mul(c, e), b.mul(s, d))
            if self.vectors:
                rotate_rows(b, self.short, self.q, k, after, c, s)
            lower = b.mul(c, following)
            c, s, r = rotation(b, b.add(b.mul(c, d), b.mul(s, e)), b.mul(s, following))
            b.put(self.diagonal, r, (k,))
            b.put(x, b.add(b.mul(c, beside), b.mul(s, lower)))
            b.put(self.diagonal, b.sub(b.mul(c, lower), b.mul(s, beside)), (after,))
            return c, s

        def rotate_long(k: Any, after: Any, c: Any, s: Any) -> None:
            if self.vectors:
                rotate_rows(b, self.long, self.p, k, after, c, s)

        chase(b, self.beside, (low, high), (x, z), turn, rotate_long)
        b.put(self.beside, b.get(x), (b.sub(high, one),))

    # -- results ----------------------------------------------------------------------------------
    def _write(self, index: tuple[Any, ...], sound: Any, unit: Any) -> None:
        b, dtype = self.b, self.dtype
        nan, one = b.constant(float("nan"), dtype), b.constant(1.0, dtype)
        signs = b.local((self.q,), dtype)

        def make_positive(i: Any) -> None:
            x = b.get(self.diagonal, (i,))
            negative = b.lt(x, b.constant(0.0, float64))
            b.put(signs, b.select(negative, b.neg(one), one), (i,))
            b.put(self.diagonal, b.abs(x), (i,))

        b.loop(self.q, make_positive)
        sort_values(b, self.q, self.diagonal, self.order, descending=True)

        def value(i: Any) -> Any:
            x = b.cast(b.mul(b.get(self.diagonal, (i,)), unit), dtype)
            return b.select(sound, x, nan)

        if not self.vectors:
            b.lanes(self.q, dtype, lambda i: b.store((*index, i), value(i)))
            return
        left, right = (self.short, self.long) if self.wide else (self.long, self.short)

        def row(i: Any) -> None:
            place = b.get(self.order, (i,))
            sign = weighted_sign(b, dtype, self.m, lambda j: b.get(left, (place, j)))
            other = b.mul(sign, b.get(signs, (place,)))

            def put(origin: Any, times: Any, column: Size, count: Size) -> None:
                def element(j: Any) -> None:
                    x = b.mul(times, b.get(origin, (place, j)))
                    goal = b.add(b.size(column), j)
                    b.store((*index, i, goal), b.select(sound, x, nan))

                b.lanes(count, dtype, element)

            put(left, sign, 0, self.m)
            b.store((*index, i, b.size(self.m)), value(i))
            put(right, other, self.m + 1, self.n)

        b.loop(self.q, row)


def _loops(vectors: bool) -> Callable[[Any, Tensor], None]:
    return on_each_matrix(lambda b, node, index: _Bidiagonal(b, node, vectors).run(index))


def _reference(x: Array) -> Array:
    """NumPy's, with the signs of vectors that this module gives."""
    x = accurate(x)
    sound = np.isfinite(x).all((-1, -2), keepdims=True)
    u, s, v = np.linalg.svd(np.where(sound, x, 0.0), full_matrices=False)
    signs = weighted_signs(u)[..., None]
    packed = np.concatenate([u.swapaxes(-1, -2) * signs, s[..., None], v * signs], -1)
    return np.where(sound, packed, np.nan)


def unpacked(packed: Tensor, m: Size) -> tuple[Tensor, Tensor, Tensor]:
    """U, the singular values, and V transposed."""
    n = packed.shape[-1] - m - 1
    values = to_shape(take_slice(packed, -1, m, 1), packed.shape[:-1])
    return (
        matrix_transpose(take_slice(packed, -1, 0, m)),
        values,
        take_slice(packed, -1, m + 1, n),
    )


def _gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    """U ((F o (U^T dU - dU^T U)) S + S (F o (V^T dV - dV^T V)) + diag(dS)) V^T, and what moves the
    spaces of U and V; F has 1 / (s_j^2 - s_i^2) (J. Townsend, Differentiating the singular value
    decomposition, 2016).
    """
    m, n = node.inputs[0].shape[-2:]
    k = node.shape[-2]
    (u, s, vh), (du, ds, dvh) = unpacked(node, m), unpacked(g, m)
    v, dv = matrix_transpose(vh), matrix_transpose(dvh)
    inverse_gaps = gaps(s, squares=True)
    row, column = as_row(s), as_column(s)

    def turned(w: Tensor, dw: Tensor) -> Tensor:
        product = matmul(matrix_transpose(w), dw)
        return elementwise.chain_multiply(
            inverse_gaps, elementwise.subtract(product, matrix_transpose(product))
        )

    inner = elementwise.add(
        elementwise.multiply(turned(u, du), row), elementwise.multiply(column, turned(v, dv))
    )
    inner = elementwise.add(inner, as_diagonal(ds))
    inverse = elementwise.divide(1.0, row)
    result = matmul(matmul(u, inner), vh)
    if m != k:
        result = elementwise.add(result, matmul(_outside(u, du, inverse), vh))
    if n != k:
        moved = matrix_transpose(_outside(v, dv, inverse))
        result = elementwise.add(result, matmul(u, moved))
    return [result]


def _outside(w: Tensor, dw: Tensor, inverse: Tensor) -> Tensor:
    """(I - W W^T) dW S^-1."""
    inside = matmul(w, matmul(matrix_transpose(w), dw))
    return elementwise.chain_multiply(elementwise.subtract(dw, inside), inverse)


def _values_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    x = node.inputs[0]
    u, _, vh = unpacked(SVD(x), x.shape[-2])
    return [matmul(elementwise.multiply(u, as_row(g)), vh)]


def _type(name: str, vectors: bool) -> Any:
    def infer(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
        x = check_matrices(name, inputs[0])
        (m, n), k = x.shape[-2:], smaller(name, x)
        return TensorType((*x.shape[:-2], k, *((m + n + 1,) if vectors else ())), x.dtype)

    return infer


_samples = with_a_broken_one(one_matrix(spread, OBLONG))


def _values_reference(x: Array) -> Array:
    return _reference(x)[..., x.shape[-2]]


_FAILED = f"the singular values did not converge in {STEPS} steps each"
SVD = matrix_op(
    "svd",
    _type("svd", True),
    _reference,
    _gradient,
    Opaque(_loops(True), lambda node: whole_work(node, 16)),
    doc="The singular value decomposition: min(m, n) rows, each a left singular vector, its "
    "value, in descending order, and its right singular vector.",
    samples=_samples,
    refuses=_FAILED,
)
SVDVALS = matrix_op(
    "svdvals",
    _type("svdvals", False),
    _values_reference,
    _values_gradient,
    Opaque(_loops(False), lambda node: whole_work(node, 4)),
    doc="The singular values of matrices in descending order.",
    samples=_samples,
    refuses=_FAILED,
)
