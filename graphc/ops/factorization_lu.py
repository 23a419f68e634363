"""LU factorization with partial pivoting, and what stands on it (floor 2): systems, determinants.

`lu` is factored once per matrix: `solve`, `det` and `logabsdet` are composites over it, and so are
their gradients, which use the same factors transposed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dims import Size, product
from graphc.base.dtypes import Array, DType, int64
from graphc.base.errors import ExecutionError
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, shape_error
from graphc.ops import elementwise, elementwise_math, logical, rounding
from graphc.ops.contraction import matmul
from graphc.ops.creation import eye, filled, iota, tril, triu
from graphc.ops.factorization import (
    FACTORED,
    OBLONG,
    SQUARE,
    blocks,
    check_alike,
    check_matrices,
    matrix_op,
    on_each_matrix,
    one_matrix,
    regular,
    smaller,
    substitute,
    subtract_product,
    subtract_rows,
    whole_work,
)
from graphc.ops.factorization_triangular import TRIANGULAR_SOLVE, substituted
from graphc.ops.families import Composite, Opaque
from graphc.ops.indexing import take_along_axis
from graphc.ops.joining import concat, padded, take_slice
from graphc.ops.promotion import cast
from graphc.ops.reduction import MAX, accurate
from graphc.ops.reduction import prod as prod_of
from graphc.ops.reduction import sum as sum_of
from graphc.ops.reshape import to_shape
from graphc.ops.sampling import draw
from graphc.ops.sorting import ARGSORT
from graphc.ops.view import EMBED_DIAGONAL, broadcast_to, diagonal, matrix_transpose

# -- the factorization ----------------------------------------------------------------------------


def _lu_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    x = check_matrices("lu", inputs[0])
    return TensorType((*x.shape[:-1], x.shape[-1] + 2), x.dtype)


class _Elimination:
    """Loops of one matrix: blocked right-looking elimination with row exchanges (Golub and Van
    Loan, Matrix Computations, 4th ed., section 3.4).
    """

    def __init__(self, b: Any, node: Tensor) -> None:
        x = node.inputs[0]
        self.b, self.dtype = b, node.dtype
        self.m, self.n = x.shape[-2:]
        self.matrix = b.local((self.m, self.n), node.dtype)
        self.order = b.local((self.m,), int64)
        self.pivots = b.local((self.m,), int64)
        self.steps = b.minimum(b.size(self.m), b.size(self.n))

    def run(self, index: tuple[Any, ...]) -> None:
        """Factor the matrix of a batch index and write the result."""
        b, columns = self.b, self.b.size(self.n)

        def fill(i: Any) -> None:
            b.put(self.order, i, (i,))
            b.put(self.pivots, i, (i,))
            self._lanes(self.n, lambda j: b.put(self.matrix, b.load(0, (*index, i, j)), (i, j)))

        b.loop(self.m, fill)
        blocks(b, self.steps, self._block)

        def write(i: Any) -> None:
            self._lanes(self.n, lambda j: b.store((*index, i, j), self.at(i, j)))
            order, pivot = b.get(self.order, (i,)), b.get(self.pivots, (i,))
            b.store((*index, i, columns), b.cast(order, self.dtype))
            b.store((*index, i, b.add(columns, b.size(1))), b.cast(pivot, self.dtype))

        b.loop(self.m, write)

    def at(self, i: Any, j: Any) -> Any:
        return self.b.get(self.matrix, (i, j))

    def _set(self, i: Any, j: Any, x: Any) -> None:
        self.b.put(self.matrix, x, (i, j))

    def _lanes(self, extent: Any, body: Any, vectors: int = 1) -> None:
        self.b.lanes(extent, self.dtype, body, vectors)

    def _block(self, first: Any, many: Any) -> None:
        """Columns first … first + many - 1, then what they take from the rest."""
        b = self.b
        end = b.add(first, many)
        b.loop(many, lambda p: self._column(b.add(first, p), end))
        right = b.sub(b.size(self.n), end)
        shifted = (
            lambda i, j: self.at(i, b.add(end, j)),
            lambda i, j, x: self._set(i, b.add(end, j), x),
        )

        def upper(p: Any) -> None:
            row = b.add(first, p)
            subtract_rows(
                b,
                self.dtype,
                [row],
                right,
                p,
                lambda i, q: self.at(i, b.add(first, q)),
                lambda q, j: self.at(b.add(first, q), b.add(end, j)),
                shifted,
            )

        b.loop(many, upper)
        subtract_product(
            b,
            self.dtype,
            b.sub(b.size(self.m), end),
            right,
            many,
            lambda i, p: self.at(b.add(end, i), b.add(first, p)),
            lambda p, j: self.at(b.add(first, p), b.add(end, j)),
            (
                lambda i, j: self.at(b.add(end, i), b.add(end, j)),
                lambda i, j, x: self._set(b.add(end, i), b.add(end, j), x),
            ),
        )

    def _column(self, c: Any, end: Any) -> None:
        """One column of a block: its pivot, its multipliers, and their share of the block."""
        b = self.b
        self._exchange(c, self._pivot(c))
        pivot = self.at(c, c)
        regular_ = b.ne(pivot, b.constant(0.0, self.dtype))
        after = b.add(c, b.size(1))

        def row(t: Any) -> None:
            i = b.add(after, t)
            x = self.at(i, c)
            # Under a pivot of 0 the whole column is 0 already.
            factor = b.select(regular_, b.div(x, pivot), x)
            self._set(i, c, factor)

            def element(j: Any) -> None:
                place = b.add(after, j)
                share = b.mul(factor, self.at(c, place))
                self._set(i, place, b.sub(self.at(i, place), share))

            self._lanes(b.sub(end, after), element)

        b.loop(b.sub(b.size(self.m), after), row)

    def _pivot(self, c: Any) -> Any:
        """The row at or below c with the largest element of the column, the first of equals."""
        b = self.b
        best, place = b.local((), self.dtype), b.local((), int64)
        b.put(best, b.abs(self.at(c, c)))
        b.put(place, c)

        def look(t: Any) -> None:
            i = b.add(c, t)
            x = b.abs(self.at(i, c))
            larger = b.gt(x, b.get(best))
            b.put(best, b.select(larger, x, b.get(best)))
            b.put(place, b.select(larger, i, b.get(place)))

        b.loop(b.sub(b.size(self.m), c), look)
        return b.get(place)

    def _exchange(self, c: Any, pivot: Any) -> None:
        b = self.b
        b.put(self.pivots, pivot, (c,))

        def swap() -> None:
            def element(j: Any) -> None:
                x, y = self.at(c, j), self.at(pivot, j)
                self._set(c, j, y)
                self._set(pivot, j, x)

            self._lanes(self.n, element)
            here, there = b.get(self.order, (c,)), b.get(self.order, (pivot,))
            b.put(self.order, there, (c,))
            b.put(self.order, here, (pivot,))

        b.when(b.ne(c, pivot), swap)


def _lu_reference(x: Array) -> Array:
    work = np.array(accurate(x))
    *batch, m, n = work.shape
    flat = work.reshape(int(np.prod(batch)), m, n)
    result = np.zeros((len(flat), m, n + 2))
    for a, out in zip(flat, result, strict=True):
        order, pivots = np.arange(m), np.arange(m)
        for c in range(min(m, n)):
            p = c + int(np.argmax(np.abs(a[c:, c])))
            pivots[c] = p
            a[[c, p]], order[[c, p]] = a[[p, c]], order[[p, c]]
            if a[c, c] != 0:
                a[c + 1 :, c] /= a[c, c]
            a[c + 1 :, c + 1 :] -= np.outer(a[c + 1 :, c], a[c, c + 1 :])
        out[:, :n], out[:, n], out[:, n + 1] = a, order, pivots
    return result.reshape(*batch, m, n + 2)


def _lu_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    """With the rows of A in order, A = L U, the cotangent of a square A is
    L^-T (tril(L^T dL, -1) + triu(dU U^T)) U^-T (S. F. Walter and L. Lehmann, Algorithmic
    differentiation of linear algebra functions, 2010, section 3). Columns beyond the square are
    L^-1 A2, rows below it A2 U^-1; what they send to L and U joins in.
    """
    x = node.inputs[0]
    m, n = x.shape[-2:]
    k = smaller("lu", x)
    factors, order, _ = unpacked(node)
    g = take_slice(g, -1, 0, n)
    top, upper_g = _rows(factors, 0, k), _rows(triu(g), 0, k)
    square, lower_g = take_slice(top, -1, 0, k), tril(take_slice(g, -1, 0, k), k=-1)
    below = tril(square, k=-1)
    own = _rows(lower_g, 0, k)
    from_l = elementwise.add(own, matmul(matrix_transpose(below), own))
    ahead = take_slice(upper_g, -1, 0, k)
    from_u = matmul(ahead, matrix_transpose(triu(square)))
    if n != k:
        rest, known = take_slice(upper_g, -1, k, n - k), take_slice(top, -1, k, n - k)
        from_l = elementwise.subtract(from_l, matmul(rest, matrix_transpose(known)))
    if m != k:
        known = matrix_transpose(_rows(factors, k, m - k))
        from_u = elementwise.subtract(from_u, matmul(known, _rows(lower_g, k, m - k)))
    inner = elementwise.add(tril(from_l, k=-1), triu(from_u))
    if n != k:
        inner = concat([_over_upper(inner, square), rest], axis=-1)
    else:
        inner = _over_upper(inner, square)
    inner = TRIANGULAR_SOLVE(square, inner, lower=True, transpose=True, unit_diagonal=True)
    if m != k:
        inner = concat([inner, _over_upper(_rows(lower_g, k, m - k), square)], axis=-2)
    places = to_shape(ARGSORT(order, axis=order.ndim - 1, descending=False), (*order.shape, 1))
    return [take_along_axis(inner, broadcast_to(places, inner.shape), axis=-2)]


def _rows(x: Tensor, first: Size, count: Size) -> Tensor:
    return take_slice(x, -2, first, count)


def _over_upper(x: Tensor, factors: Tensor) -> Tensor:
    """x U^-T."""
    solved = TRIANGULAR_SOLVE(
        factors, matrix_transpose(x), lower=False, transpose=False, unit_diagonal=False
    )
    return matrix_transpose(solved)


def unpacked(packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """L and U in one matrix; the rows of A in their order; the row exchanges."""
    n = packed.shape[-1] - 2
    order = take_slice(packed, -1, n, 1)
    pivots = take_slice(packed, -1, n + 1, 1)
    shape = packed.shape[:-1]
    return (
        take_slice(packed, -1, 0, n),
        cast(to_shape(order, shape), int64),
        cast(to_shape(pivots, shape), int64),
    )


LU = matrix_op(
    "lu",
    _lu_type,
    _lu_reference,
    _lu_gradient,
    Opaque(on_each_matrix(lambda b, node, index: _Elimination(b, node).run(index)), whole_work),
    doc="L (below the diagonal, which is 1) and U of A with its rows in order, then a column "
    "with that order, and one with the row that each step exchanged with its own.",
    samples=one_matrix(regular, OBLONG),
)


# -- systems --------------------------------------------------------------------------------------


def _lu_solve_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    packed, x = check_matrices("lu_solve", inputs[0]), check_matrices("lu_solve", inputs[1])
    check_alike("lu_solve", packed, x)
    m, n = packed.shape[-2:]
    if m + 2 != n or x.shape[-2] != m:
        hint = "factors of n unknowns are n rows of n + 2"
        shape_error("lu_solve: the factors do not fit the right sides", inputs, hint)
    return x.type


def _lu_solve_lower(b: Any, node: Tensor) -> None:
    (transpose,) = node.attrs
    n, columns = node.shape[-2:]
    dtype = node.dtype
    sizes = (b.size(n), b.size(columns))

    def one(index: tuple[Any, ...]) -> None:
        x = b.local((n, columns), dtype)
        matrix = (lambda i, j: b.get(x, (i, j)), lambda i, j, v: b.put(x, v, (i, j)))

        def factor(i: Any, q: Any) -> Any:
            return b.load(0, (*index, q, i) if transpose else (*index, i, q))

        def order(i: Any) -> Any:
            """The row of A that is row i of L U; factors from elsewhere may say anything."""
            place = b.cast(b.load(0, (*index, i, b.size(n))), int64)
            inside = b.minimum(b.maximum(place, b.size(0)), b.size(n - 1))
            b.check(b.eq(place, inside))
            return inside

        def read(i: Any) -> None:
            pivot = b.load(0, (*index, i, i))
            b.check(b.ne(pivot, b.constant(0.0, dtype)))
            origin = i if transpose else order(i)
            b.lanes(columns, dtype, lambda j: matrix[1](i, j, b.load(1, (*index, origin, j))))

        def write(i: Any) -> None:
            goal = order(i) if transpose else i
            b.lanes(columns, dtype, lambda j: b.store((*index, goal, j), matrix[0](i, j)))

        b.loop(n, read)
        substitute(b, dtype, sizes, factor, matrix, backward=False, unit=not transpose)
        substitute(b, dtype, sizes, factor, matrix, backward=True, unit=transpose)
        b.loop(n, write)

    b.parallel(node.shape[:-2], one)


_SINGULAR = "the matrix is singular: a pivot of its LU factorization is 0"


def _lu_solve_reference(packed: Array, x: Array, transpose: bool) -> Array:
    packed, x = accurate(packed), accurate(x)
    factors, order = packed[..., :-2], packed[..., -2].astype(np.int64)
    if np.any(np.diagonal(factors, axis1=-2, axis2=-1) == 0):
        raise ExecutionError(f"lu_solve: {_SINGULAR}")
    places = np.broadcast_to(order[..., None], x.shape)
    if not transpose:
        x = substituted(factors, np.take_along_axis(x, places, -2), True, False, True)
        return substituted(factors, x, False, False, False)
    x = substituted(factors, x, False, True, False)
    x = substituted(factors, x, True, True, True)
    result = np.empty_like(x)
    np.put_along_axis(result, places, x, -2)
    return result


def _systems(dtype: DType) -> list[tuple[Array, Array]]:
    return [
        (regular(shape, dtype, k), draw((*shape[:-1], columns), dtype, k))
        for k, (shape, columns) in enumerate(zip(SQUARE, (3, 5), strict=True))
    ]


def _lu_solve_samples(dtype: DType) -> list[Sample]:
    return [
        Sample((_lu_reference(a).astype(dtype.numpy), x), {"transpose": transpose})
        for transpose in (False, True)
        for a, x in _systems(dtype)
    ]


LU_SOLVE = REGISTRY.add(
    OpDef(
        "lu_solve",
        ("transpose",),
        _lu_solve_type,
        _lu_solve_reference,
        None,
        Opaque(_lu_solve_lower, lambda node: product(node.shape) * node.shape[-2] * 2),
        doc="X with A X = B (A^T X = B with transpose) from the result of lu; an error at the call "
        "for a pivot of 0.",
        samples=_lu_solve_samples,
        dtypes=FACTORED,
        not_differentiable="it has factors for an operand; differentiate solve",
        refuses=_SINGULAR,
    )
)


def _solve_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    a, x = check_matrices("solve", inputs[0], square=True), check_matrices("solve", inputs[1])
    check_alike("solve", a, x)
    if x.shape[-2] != a.shape[-1]:
        hint = "a x = b: b has as many rows as a"
        shape_error("solve: as many rows of right sides as unknowns", inputs, hint)
    return x.type


def _solve_reference(a: Array, x: Array, transpose: bool) -> Array:
    a = accurate(a)
    try:
        return np.linalg.solve(a.swapaxes(-1, -2) if transpose else a, accurate(x))
    except np.linalg.LinAlgError as error:
        raise ExecutionError(f"solve: {_SINGULAR}") from error


def _solve_expand(node: Tensor) -> Tensor:
    a, x = node.inputs
    return LU_SOLVE(LU(a), x, transpose=node.attr("transpose"))


def _solve_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    # As of a triangular system, with the same factors transposed.
    a, transpose = node.inputs[0], node.attr("transpose")
    right = SOLVE(a, g, transpose=not transpose)
    left, other = (node, right) if transpose else (right, node)
    return [elementwise.negative(matmul(left, matrix_transpose(other))), right]


SOLVE = REGISTRY.add(
    OpDef(
        "solve",
        ("transpose",),
        _solve_type,
        _solve_reference,
        _solve_gradient,
        Composite(_solve_expand),
        doc="X with A X = B (A^T X = B with transpose); an error at the call for a singular A.",
        samples=lambda dtype: [
            Sample(pair, {"transpose": transpose})
            for transpose in (False, True)
            for pair in _systems(dtype)
        ],
        dtypes=FACTORED,
    )
)


# -- determinants ---------------------------------------------------------------------------------


def _scalar_type(name: str) -> Any:
    def infer(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
        x = check_matrices(name, inputs[0], square=True)
        return TensorType(x.shape[:-2], x.dtype)

    return infer


def exchange_sign(pivots: Tensor, like: Tensor) -> Tensor:
    """-1 for an odd number of row exchanges, else 1, of the dtype of `like`."""
    moved = logical.not_equal(pivots, iota((pivots.shape[-1],)))
    minus, plus = filled(-1.0, (), like.dtype), filled(1.0, (), like.dtype)
    return prod_of(elementwise.where(moved, minus, plus), axis=-1)


def _det_expand(node: Tensor) -> Tensor:
    factors, _, pivots = unpacked(LU(node.inputs[0]))
    return elementwise.multiply(exchange_sign(pivots, node), prod_of(diagonal(factors), axis=-1))


def _det_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    return [elementwise.multiply(_spread(g), COFACTOR(node.inputs[0]))]


def _spread(g: Tensor) -> Tensor:
    return to_shape(g, (*g.shape, 1, 1))


DET = matrix_op(
    "det",
    _scalar_type("det"),
    lambda x: np.linalg.det(accurate(x)),
    _det_gradient,
    Composite(_det_expand),
    doc="The determinant, from the LU factorization.",
    samples=one_matrix(regular, SQUARE[:-1]),
)


def _cofactor_expand(node: Tensor) -> Tensor:
    """det(A) A^-T. Pivots of 0 become ones of the size of a rounding error: the cofactors are
    polynomials in A, so they move by no more than that.
    """
    x = node.inputs[0]
    packed = LU(x)
    factors, _, pivots = unpacked(packed)
    found = diagonal(factors)
    size = MAX(rounding.abs(found), axes=(found.ndim - 1,), keepdims=True)
    unit = float(np.finfo(x.dtype.numpy).eps)
    size = elementwise.where(logical.equal(size, 0.0), 1.0, size)
    zero = logical.equal(found, 0.0)
    extra = elementwise.where(
        zero, elementwise.multiply(size, unit), elementwise.multiply(size, 0.0)
    )
    n = x.shape[-1]
    last = x.ndim - 1
    added = EMBED_DIAGONAL(extra, axes=(last - 1, last), offset=0, sizes=(n, n))
    none = (0,) * last
    patched = elementwise.add(packed, padded(added, (*none, 0), (*none, 2)))
    whole = elementwise.multiply(
        exchange_sign(pivots, x), prod_of(elementwise.add(found, extra), axis=-1)
    )
    inverse = LU_SOLVE(patched, identity_like(x), transpose=True)
    return elementwise.multiply(_spread(whole), inverse)


def identity_like(x: Tensor) -> Tensor:
    """Identity matrices of the type of x."""
    return broadcast_to(eye(x.shape[-1], dtype=x.dtype), x.shape)


def _cofactor_reference(x: Array) -> Array:
    x = accurate(x)
    n = x.shape[-1]
    result = np.empty_like(x)
    for i in range(n):
        for j in range(n):
            minor = np.delete(np.delete(x, i, -2), j, -1)
            result[..., i, j] = (-1.0) ** (i + j) * np.linalg.det(minor)
    return result


def _cofactor_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    # C = det(A) X, X = A^-T: dC = <C, dA> X - X dA^T C.
    x = node.inputs[0]
    inverse = SOLVE(x, identity_like(x), transpose=True)
    along = sum_of(elementwise.multiply(g, inverse), axis=(-2, -1), keepdims=True)
    back = matmul(matmul(inverse, matrix_transpose(g)), node)
    return [elementwise.subtract(elementwise.multiply(along, node), back)]


COFACTOR = matrix_op(
    "cofactor",
    lambda inputs, attrs: check_matrices("cofactor", inputs[0], square=True).type,
    _cofactor_reference,
    _cofactor_gradient,
    Composite(_cofactor_expand),
    doc="The derivative of the determinant: for a regular A, det(A) times its inverse transposed.",
    samples=one_matrix(regular, SQUARE[:-1]),
)


def _logabsdet_expand(node: Tensor) -> Tensor:
    factors, _, _ = unpacked(LU(node.inputs[0]))
    return sum_of(elementwise_math.log(rounding.abs(diagonal(factors))), axis=-1)


def _logabsdet_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    x = node.inputs[0]
    return [elementwise.multiply(_spread(g), SOLVE(x, identity_like(x), transpose=True))]


LOGABSDET = matrix_op(
    "logabsdet",
    _scalar_type("logabsdet"),
    lambda x: np.linalg.slogdet(accurate(x))[1],
    _logabsdet_gradient,
    Composite(_logabsdet_expand),
    doc="The logarithm of the absolute value of the determinant: -inf for a singular matrix.",
    samples=one_matrix(regular, SQUARE),
)
