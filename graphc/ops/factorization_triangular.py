"""Cholesky factorization and triangular systems (floor 2).

`cholesky` reads the lower triangle alone, `triangular_solve` the triangle that it is told. Their
gradients are each other's products, so they can be differentiated any number of times.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dims import Size, product
from graphc.base.dtypes import Array, DType
from graphc.base.errors import ExecutionError
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, shape_error
from graphc.ops import elementwise
from graphc.ops.contraction import matmul
from graphc.ops.creation import tril, triu
from graphc.ops.factorization import (
    FACTORED,
    SQUARE,
    blocks,
    check_alike,
    check_matrices,
    in_rows,
    matrix_op,
    one_matrix,
    positive_definite,
    substitute,
    subtract_rows,
    whole_work,
)
from graphc.ops.families import Opaque
from graphc.ops.reduction import accurate
from graphc.ops.sampling import draw, strided
from graphc.ops.view import matrix_transpose

# -- triangular systems ---------------------------------------------------------------------------


def _solve_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    a = check_matrices("triangular_solve", inputs[0], square=True)
    x = check_matrices("triangular_solve", inputs[1])
    check_alike("triangular_solve", a, x)
    if x.shape[-2] != a.shape[-1]:
        shape_error("triangular_solve: as many rows of right sides as unknowns", inputs)
    return x.type


def _solve_lower(b: Any, node: Tensor) -> None:
    lower, transpose, unit = node.attrs
    n, columns = node.shape[-2:]

    def one(index: tuple[Any, ...]) -> None:
        def copy(i: Any) -> None:
            b.lanes(
                columns,
                node.dtype,
                lambda j: b.store((*index, i, j), b.load(1, (*index, i, j))),
            )

        def coefficient(i: Any, q: Any) -> Any:
            return b.load(0, (*index, q, i) if transpose else (*index, i, q))

        matrix = (
            lambda i, j: b.read_result((*index, i, j)),
            lambda i, j, x: b.store((*index, i, j), x),
        )
        b.loop(n, copy)
        sizes = (b.size(n), b.size(columns))
        backward = lower == transpose
        substitute(b, node.dtype, sizes, coefficient, matrix, backward=backward, unit=unit)

    b.parallel(node.shape[:-2], one)


def substituted(a: Array, x: Array, lower: bool, transpose: bool, unit: bool) -> Array:
    """The solution of triangular systems in NumPy, which has none; only the triangle is read."""
    a = np.tril(a) if lower else np.triu(a)
    a, result = (a.swapaxes(-1, -2) if transpose else a), np.array(x)
    n = a.shape[-1]
    for i in range(n) if lower != transpose else reversed(range(n)):
        known = np.arange(i) if lower != transpose else np.arange(i + 1, n)
        total = a[..., i : i + 1, known] @ result[..., known, :]
        result[..., i, :] -= total[..., 0, :]
        if not unit:
            result[..., i, :] /= a[..., i, i, None]
    return result


def _solve_reference(a: Array, x: Array, lower: bool, transpose: bool, unit: bool) -> Array:
    return substituted(accurate(a), accurate(x), lower, transpose, unit)


def _solve_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    """op(A) X = B: the cotangent of B is op(A)^-T g, that of op(A) minus it times X^T (M. B. Giles,
    Collected matrix derivative results, 2008, section 2.2).
    """
    a, (lower, transpose, unit) = node.inputs[0], node.attrs
    right = TRIANGULAR_SOLVE(a, g, lower=lower, transpose=not transpose, unit_diagonal=unit)
    left, other = (node, right) if transpose else (right, node)
    whole = elementwise.negative(matmul(left, matrix_transpose(other)))
    edge = 1 if unit else 0
    return [tril(whole, k=-edge) if lower else triu(whole, k=edge), right]


def _solve_samples(dtype: DType) -> list[Sample]:
    shapes = {1: (2, 4, 4), 6: (37, 37)}
    found = []
    for k in range(8):
        lower, transpose, unit = bool(k & 1), bool(k & 2), bool(k & 4)
        attrs = {"lower": lower, "transpose": transpose, "unit_diagonal": unit}
        shape = shapes.get(k, (3, 3))
        a = _triangle(shape, dtype)
        found.append(Sample((strided(a) if k == 3 else a, draw((*shape[:-1], 5), dtype, k)), attrs))
    return found


def _triangle(shape: tuple[int, ...], dtype: DType) -> Array:
    """Both triangles hold numbers, so that reading the wrong one shows; small ones, as solutions
    grow with a power of n where the diagonal is 1.
    """
    n = shape[-1]
    x = draw(shape, dtype, 2, low=-1.0, high=1.0) / max(n, 1) + 2.0 * np.eye(n)
    return x.astype(dtype.numpy)


def _solve_work(node: Tensor) -> Size:
    return product(node.shape) * node.shape[-2]


TRIANGULAR_SOLVE = REGISTRY.add(
    OpDef(
        "triangular_solve",
        ("lower", "transpose", "unit_diagonal"),
        _solve_type,
        lambda a, x, lower, transpose, unit_diagonal: _solve_reference(
            a, x, lower, transpose, unit_diagonal
        ),
        _solve_gradient,
        Opaque(_solve_lower, _solve_work),
        doc="X with A X = B (A^T X = B with transpose) for a triangle of A; the other one is not "
        "read, nor the diagonal with unit_diagonal.",
        samples=_solve_samples,
        dtypes=FACTORED,
    )
)


# -- Cholesky -------------------------------------------------------------------------------------


def _square_type(name: str) -> Any:
    def infer(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
        return check_matrices(name, inputs[0], square=True).type

    return infer


def _cholesky_lower(b: Any, node: Tensor) -> None:
    n, dtype = node.shape[-1], node.dtype
    zero = b.constant(0.0, dtype)

    def one(index: tuple[Any, ...]) -> None:
        upper = b.local((n, n), dtype)  # the transposed factor, row by row

        def fill(i: Any) -> None:
            b.lanes(n, dtype, lambda j: b.put(upper, b.load(0, (*index, j, i)), (i, j)))

        b.loop(n, fill)
        blocks(b, b.size(n), lambda first, many: _cholesky_block(b, upper, n, first, many))

        def write(i: Any) -> None:
            def element(j: Any) -> None:
                value = b.select(b.le(j, i), b.get(upper, (j, i)), zero)
                b.store((*index, i, j), value)

            b.lanes(n, dtype, element)

        b.loop(n, write)

    b.parallel(node.shape[:-2], one)


def _cholesky_block(b: Any, upper: Any, n: Size, first: Any, many: Any) -> None:
    """Rows first … first + many - 1 of the upper factor, and their share of all later rows."""
    dtype = upper.dtype

    def factor(p: Any) -> None:
        row = b.add(first, p)
        left = b.sub(b.size(n), row)

        def known(_: Any, q: Any) -> Any:
            return b.get(upper, (b.add(first, q), row))

        def other(q: Any, j: Any) -> Any:
            return b.get(upper, (b.add(first, q), b.add(row, j)))

        matrix = (
            lambda i, j: b.get(upper, (i, b.add(row, j))),
            lambda i, j, x: b.put(upper, x, (i, b.add(row, j))),
        )
        subtract_rows(b, dtype, [row], left, p, known, other, matrix)
        pivot = b.get(upper, (row, row))
        b.check(b.gt(pivot, b.constant(0.0, dtype)))
        root = b.sqrt(pivot)
        b.lanes(left, dtype, lambda j: matrix[1](row, j, b.div(matrix[0](row, j), root)))
        b.put(upper, root, (row, row))

    b.loop(many, factor)
    after = b.add(first, many)

    def rest(group: Any, count: int) -> None:
        top = b.add(after, group)
        rows = [b.add(top, b.size(r)) for r in range(count)]
        matrix = (
            lambda i, j: b.get(upper, (i, b.add(top, j))),
            lambda i, j, x: b.put(upper, x, (i, b.add(top, j))),
        )
        subtract_rows(
            b,
            dtype,
            rows,
            b.sub(b.size(n), top),
            many,
            lambda i, p: b.get(upper, (b.add(first, p), i)),
            lambda p, j: b.get(upper, (b.add(first, p), b.add(top, j))),
            matrix,
        )

    in_rows(b, b.sub(b.size(n), after), rest)


def _cholesky_reference(x: Array) -> Array:
    try:
        return np.linalg.cholesky(accurate(x))
    except np.linalg.LinAlgError as error:
        raise ExecutionError("cholesky: a matrix is not positive definite") from error


def _cholesky_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    """L^-T P(L^T g) L^-1, where P keeps the lower triangle and halves its diagonal, is the
    cotangent for symmetric changes (I. Murray, Differentiation of the Cholesky decomposition,
    2016); what moves the lower triangle alone gets both halves of it.
    """
    half = half_diagonal(matmul(matrix_transpose(node), g))
    solved = _solve_transposed(node, half)
    return [of_lower_triangle(matrix_transpose(_solve_transposed(node, matrix_transpose(solved))))]


def half_diagonal(x: Tensor) -> Tensor:
    """The lower triangle, its diagonal halved."""
    return elementwise.multiply(elementwise.add(tril(x), tril(x, k=-1)), 0.5)


def of_lower_triangle(whole: Tensor) -> Tensor:
    """The cotangent of the lower triangle, which alone is read, from that of all elements of a
    symmetric matrix: both halves come together.
    """
    return half_diagonal(elementwise.add(whole, matrix_transpose(whole)))


def _solve_transposed(lower: Tensor, x: Tensor) -> Tensor:
    return TRIANGULAR_SOLVE(lower, x, lower=True, transpose=True, unit_diagonal=False)


CHOLESKY = matrix_op(
    "cholesky",
    _square_type("cholesky"),
    _cholesky_reference,
    _cholesky_gradient,
    Opaque(_cholesky_lower, whole_work),
    doc="The lower triangle L with L L^T = A, for a symmetric positive definite A of which the "
    "lower triangle is read; an error at the call for any other.",
    samples=one_matrix(positive_definite, SQUARE),
    refuses="the matrix is not positive definite: a pivot is not above 0",
)
