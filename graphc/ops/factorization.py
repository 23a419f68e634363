"""What factorizations share (floor 2): declarations, types, loops of blocked algorithms, samples.

Matrices are the last two dims, every other dim is a batch; one parallel iteration per matrix. The
loops are row-oriented: the innermost one always runs along memory, in vectors. Blocked algorithms
spend their time in `subtract_product`, whose sums are chains in index order, so that results depend
on neither threads nor blocks of other matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Size, bounds, product
from graphc.base.dtypes import Array, DType, float32, float64
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, Gradient, OpDef, Sample, dtype_error, shape_error
from graphc.ops.families import Composite, Opaque
from graphc.ops.sampling import strided

FACTORED = (float32, float64)
# Columns that are factored one by one before the rest of the matrix takes them in, as one product:
# 32 x 512 float64 are 128 KiB, an eighth of a second-level cache.
BLOCK = 32
# Rows of a product that share what they load; with two vectors each, eight chains are in flight.
ROWS = 4


# -- declarations and types -----------------------------------------------------------------------


def matrix_op(
    name: str,
    infer: Callable[[tuple[Node, ...], tuple[Any, ...]], TensorType],
    reference: Callable[..., Array],
    gradient: Gradient | None,
    form: Opaque | Composite,
    *,
    doc: str,
    samples: Callable[[DType], Sequence[Sample]],
    not_differentiable: str = "",
    refuses: str = "",
) -> OpDef:
    """Declare an op without attributes on float32 or float64 matrices; what the arguments are:
    OpDef.
    """
    return REGISTRY.add(
        OpDef(
            name,
            (),
            infer,
            reference,
            gradient,
            form,
            doc=doc,
            samples=samples,
            dtypes=FACTORED,
            not_differentiable=not_differentiable,
            refuses=refuses,
        )
    )


def check_matrices(op: str, x: Node, square: bool = False) -> Tensor:
    """Raise DTypeError, ShapeError unless x holds float32 or float64 matrices (square ones)."""
    assert isinstance(x, Tensor)
    if x.dtype not in FACTORED:
        hint = 'convert it first: graphc.astype(x, "float32")'
        dtype_error(f"{op}: expected float32 or float64, got {x.dtype}", [x], hint)
    if x.ndim < 2:
        hint = "matrices are the last two dims; x[None, :] is a matrix of one row"
        shape_error(f"{op}: expected matrices of 2 or more dims, got {x.type}", [x], hint)
    if square and x.shape[-1] != x.shape[-2]:
        hint = "the last two dims must be equal"
        shape_error(f"{op}: expected square matrices, got {x.type}", [x], hint)
    return x


def check_alike(op: str, a: Tensor, b: Tensor) -> None:
    """Raise DTypeError, ShapeError unless two operands have one dtype and one batch."""
    if a.dtype is not b.dtype:
        dtype_error(f"{op}: operands of different dtypes: {a.dtype} and {b.dtype}", [a, b])
    if a.shape[:-2] != b.shape[:-2]:
        shape_error(f"{op}: the dims before the last two differ", [a, b])


def smaller(op: str, x: Tensor) -> Size:
    """The smaller one of the last two dims; ShapeError where that depends on the call."""
    m, n = x.shape[-2:]
    low, high = bounds(m - n)
    if high is not None and high <= 0:
        return m
    if low is not None and low >= 0:
        return n
    shape_error(
        f"{op}: which of the sizes {m} and {n} is smaller must be known when it is declared",
        [x],
        f'bound the dims: graphc.Dim("{m}", min=…), max=…',
    )


def whole_work(node: Tensor, factor: int = 1) -> Size:
    """Scalar operations of a cubic algorithm on each matrix of operand 0."""
    x = node.inputs[0]
    return product(x.shape) * x.shape[-1] * factor


# -- loops ----------------------------------------------------------------------------------------


def on_each_matrix(
    one: Callable[[Any, Tensor, tuple[Any, ...]], None],
) -> Callable[[Any, Tensor], None]:
    """The loops of an op: one(builder, node, batch index) for each matrix of operand 0."""

    def lower(b: Any, node: Tensor) -> None:
        b.parallel(node.inputs[0].shape[:-2], lambda index: one(b, node, index))

    return lower


def in_rows(b: Any, count: Any, body: Callable[[Any, int], None]) -> None:
    """body(first row, how many) over `count` rows: `ROWS` at a time, then one by one."""
    high = ROWS
    groups = b.op("floordiv", count, b.size(high))
    b.loop(groups, lambda k: body(b.mul(k, b.size(high)), high))
    done = b.mul(groups, b.size(high))
    b.loop(b.sub(count, done), lambda k: body(b.add(done, k), 1))


def blocks(b: Any, count: Any, body: Callable[[Any, Any], None]) -> None:
    """body(first, how many) over `count` rows or columns in blocks."""
    wide = b.size(BLOCK)
    parts = b.op("floordiv", b.add(count, b.size(BLOCK - 1)), wide)

    def block(k: Any) -> None:
        first = b.mul(k, wide)
        body(first, b.minimum(wide, b.sub(count, first)))

    b.loop(parts, block)


def subtract_rows(
    b: Any,
    dtype: DType,
    rows: Sequence[Any],
    columns: Any,
    inner: Any,
    left: Callable[[Any, Any], Any],
    right: Callable[[Any, Any], Any],
    matrix: tuple[Callable[[Any, Any], Any], Callable[[Any, Any, Any], None]],
) -> None:
    """x[i, j] -= sum over p < inner of left(i, p) * right(p, j), for the given rows and all j <
    columns. matrix: how to read and write x.
    """
    read, write = matrix

    def column(j: Any) -> None:
        sums = [b.running(dtype, "products") for _ in rows]

        def step(p: Any) -> None:
            x = right(p, j)
            for i, total in zip(rows, sums, strict=True):
                b.accumulate(total, left(i, p), x)

        b.loop(inner, step)
        for i, total in zip(rows, sums, strict=True):
            write(i, j, b.sub(read(i, j), b.total(total)))

    b.lanes(columns, dtype, column, vectors=2 if len(rows) > 1 else 4)


def subtract_product(
    b: Any,
    dtype: DType,
    rows: Any,
    columns: Any,
    inner: Any,
    left: Callable[[Any, Any], Any],
    right: Callable[[Any, Any], Any],
    matrix: tuple[Callable[[Any, Any], Any], Callable[[Any, Any, Any], None]],
) -> None:
    """`subtract_rows` for all i < rows."""

    def group(first: Any, many: int) -> None:
        chosen = [b.add(first, b.size(r)) for r in range(many)]
        subtract_rows(b, dtype, chosen, columns, inner, left, right, matrix)

    in_rows(b, rows, group)


def substitute(
    b: Any,
    dtype: DType,
    sizes: tuple[Any, Any],
    coefficient: Callable[[Any, Any], Any],
    matrix: tuple[Callable[[Any, Any], Any], Callable[[Any, Any, Any], None]],
    *,
    backward: bool,
    unit: bool,
) -> None:
    """Solve a triangular system in place of its right sides: forward for a lower triangle.

    sizes: unknowns, right sides. coefficient(i, q): of unknown q in equation i. unit: the diagonal
    is 1. In blocks of unknowns, each of which first takes in the earlier ones (Golub and Van Loan,
    Matrix Computations, 4th ed., section 3.1).
    """
    count, columns = sizes

    def place(i: Any) -> Any:
        return b.sub(b.sub(count, b.size(1)), i) if backward else i

    def at(i: Any, q: Any) -> Any:
        return coefficient(place(i), place(q))

    def read(i: Any, j: Any) -> Any:
        return matrix[0](place(i), j)

    def write(i: Any, j: Any, x: Any) -> None:
        matrix[1](place(i), j, x)

    def block(first: Any, many: Any) -> None:
        def shifted(i: Any, p: Any) -> Any:
            return at(b.add(first, i), p)

        def own(i: Any, j: Any) -> Any:
            return read(b.add(first, i), j)

        ours = (own, lambda i, j, x: write(b.add(first, i), j, x))
        subtract_product(b, dtype, many, columns, first, shifted, read, ours)

        def equation(p: Any) -> None:
            row = b.add(first, p)
            pivot = None if unit else at(row, row)

            def column(j: Any) -> None:
                total = b.running(dtype, "products")

                def step(q: Any) -> None:
                    known = b.add(first, q)
                    b.accumulate(total, at(row, known), read(known, j))

                b.loop(p, step)
                x = b.sub(read(row, j), b.total(total))
                write(row, j, x if pivot is None else b.div(x, pivot))

            b.lanes(columns, dtype, column, vectors=4)

        b.loop(many, equation)

    blocks(b, count, block)


# -- samples --------------------------------------------------------------------------------------


def orthogonal(shape: Sequence[int], seed: int = 0) -> Array:
    """Square matrices with orthonormal columns; shape: batch, then the size twice."""
    rng = np.random.default_rng((seed, *shape))
    return np.linalg.qr(rng.standard_normal(tuple(shape)))[0]


def regular(shape: Sequence[int], dtype: DType, seed: int = 0) -> Array:
    """Matrices whose pivots are plain and whose condition is small: one strong element per row and
    column.
    """
    rng = np.random.default_rng((seed, *shape))
    m, n = shape[-2:]
    x = rng.uniform(-1.0, 1.0, tuple(shape))
    steps = min(m, n)
    rows = rng.permutation(m)[:steps]
    x[..., rows, np.arange(steps)] += 2.0 + np.sqrt(max(m, n))
    return np.asarray(x, dtype.numpy)


def positive_definite(shape: Sequence[int], dtype: DType, seed: int = 0) -> Array:
    """Symmetric matrices with eigenvalues from 1 to 3."""
    q = orthogonal(shape, seed)
    n = shape[-1]
    x = (q * np.linspace(1.0, 3.0, n)) @ q.swapaxes(-1, -2)
    return np.asarray((x + x.swapaxes(-1, -2)) / 2, dtype.numpy)


def separated(shape: Sequence[int], dtype: DType, seed: int = 0) -> Array:
    """Symmetric matrices with eigenvalues 1, -2, 3 …: apart by 2 of each sign, singular values by
    1.
    """
    q = orthogonal(shape, seed)
    values = np.arange(1.0, shape[-1] + 1.0) * np.where(np.arange(shape[-1]) % 2, -1.0, 1.0)
    x = (q * values) @ q.swapaxes(-1, -2)
    return np.asarray((x + x.swapaxes(-1, -2)) / 2, dtype.numpy)


def spread(shape: Sequence[int], dtype: DType, seed: int = 0) -> Array:
    """Matrices with singular values 1, 2, 3 …"""
    *batch, m, n = shape
    k = min(m, n)
    left, right = orthogonal((*batch, m, m), seed), orthogonal((*batch, n, n), seed + 1)
    return np.asarray((left[..., :k] * np.arange(1.0, k + 1.0)) @ right[..., :k, :], dtype.numpy)


# Few shapes: each is a kernel of its own. Empty matrices come with symbolic sizes.
SQUARE: tuple[tuple[int, ...], ...] = ((2, 3, 3), (37, 37))
OBLONG: tuple[tuple[int, ...], ...] = ((2, 5, 3), (3, 5), (37, 20))


def one_matrix(
    make: Callable[..., Array], shapes: Sequence[tuple[int, ...]]
) -> Callable[[DType], list[Sample]]:
    """Samples of an op of one operand, the first not contiguous."""

    def samples(dtype: DType) -> list[Sample]:
        found = [Sample((make(shape, dtype, k),)) for k, shape in enumerate(shapes)]
        return [Sample((strided(found[0].inputs[0]),)), *found[1:]]

    return samples


def with_a_broken_one(
    samples: Callable[[DType], list[Sample]],
) -> Callable[[DType], list[Sample]]:
    """The samples, and the first batch again with a NaN in its first matrix."""

    def broken(dtype: DType) -> list[Sample]:
        found = samples(dtype)
        x = np.array(found[0].inputs[0])
        x[0, 2, 1] = np.nan
        return [*found, Sample((x,))]

    return broken
