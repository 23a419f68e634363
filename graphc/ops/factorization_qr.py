"""QR factorization by Householder reflections (floor 2).

Results are packed: row i of the result is column i of Q, then row i of R. Of the complete Q of a
tall matrix the last columns are any basis of what is left, so that no derivative exists: it is an
op of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dims import Size
from graphc.base.dtypes import Array
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ops import elementwise
from graphc.ops.contraction import matmul
from graphc.ops.creation import tril, triu
from graphc.ops.factorization import (
    OBLONG,
    check_matrices,
    matrix_op,
    one_matrix,
    regular,
    smaller,
    whole_work,
)
from graphc.ops.factorization_reflectors import (
    form_rows,
    largest,
    power_of_two,
    reflect_column,
    scaled,
)
from graphc.ops.factorization_triangular import TRIANGULAR_SOLVE
from graphc.ops.families import Opaque
from graphc.ops.joining import concat, take_slice
from graphc.ops.reduction import accurate
from graphc.ops.view import matrix_transpose


def _type(name: str) -> Any:
    def infer(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
        x = check_matrices(name, inputs[0])
        m, n = x.shape[-2:]
        rows = m if name == "qr_complete" else smaller(name, x)
        return TensorType((*x.shape[:-2], rows, m + n), x.dtype)

    return infer


def _lower(b: Any, node: Tensor) -> None:
    x, dtype = node.inputs[0], node.dtype
    (m, n), rows = x.shape[-2:], node.shape[-2]
    steps = b.minimum(b.size(m), b.size(n))

    def one(index: tuple[Any, ...]) -> None:
        columns = b.local((n, m), dtype)  # row j is column j of the matrix
        q = b.local((rows, m), dtype)
        most = largest(b, m, n, lambda i, j: b.load(0, (*index, i, j)))
        unit = power_of_two(b, most)

        def fill(j: Any) -> None:
            def element(i: Any) -> None:
                b.put(columns, scaled(b, b.load(0, (*index, i, j)), unit, divide=True), (j, i))

            b.lanes(m, dtype, element)

        b.loop(n, fill)
        taus, diagonal = b.local((n,), dtype), b.local((n,), dtype)
        b.loop(steps, lambda c: reflect_column(b, columns, m, n, (diagonal, taus), c))
        form_rows(b, q, (b.size(rows), b.size(m)), (steps, columns, taus), 0)
        b.loop(steps, lambda c: b.put(columns, b.get(diagonal, (c,)), (c, c)))
        zero = b.constant(0.0, dtype)

        def write(i: Any) -> None:
            b.lanes(m, dtype, lambda j: b.store((*index, i, j), b.get(q, (i, j))))

            def element(j: Any) -> None:
                value = scaled(b, b.get(columns, (j, i)), unit)
                place = (*index, i, b.add(b.size(m), j))
                b.store(place, b.select(b.ge(j, i), value, zero))

            b.lanes(n, dtype, element)

        b.loop(rows, write)

    b.parallel(node.shape[:-2], one)


def _reference(mode: str) -> Any:
    def reference(x: Array) -> Array:
        q, r = np.linalg.qr(accurate(x), mode=mode)  # type: ignore[call-overload]  # mode is a str
        return np.concatenate([q.swapaxes(-1, -2), r], -1)

    return reference


def unpacked(packed: Tensor, m: Size) -> tuple[Tensor, Tensor]:
    """Q and R."""
    n = packed.shape[-1] - m
    return matrix_transpose(take_slice(packed, -1, 0, m)), take_slice(packed, -1, m, n)


def _gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    """For a tall or square A: (dQ + Q C) R^-T, where C is the symmetric matrix with the lower
    triangle of R dR^T - dQ^T Q (S. F. Walter and L. Lehmann, Algorithmic differentiation of linear
    algebra functions, 2010, section 3). The columns of a wide A beyond its square are Q times those
    of R.
    """
    x = node.inputs[0]
    m, n = x.shape[-2:]
    (q, r), (dq, dr) = unpacked(node, m), unpacked(g, m)
    k = node.shape[-2]
    extra: list[Tensor] = []
    if n != k:
        rest, beyond = take_slice(x, -1, k, n - k), take_slice(dr, -1, k, n - k)
        dq = elementwise.add(dq, matmul(rest, matrix_transpose(beyond)))
        extra.append(matmul(q, beyond))
        r, dr = take_slice(r, -1, 0, k), take_slice(dr, -1, 0, k)
    dr = triu(dr)
    both = elementwise.subtract(matmul(r, matrix_transpose(dr)), matmul(matrix_transpose(dq), q))
    whole = elementwise.add(tril(both), matrix_transpose(tril(both, k=-1)))
    moved = elementwise.add(dq, matmul(q, whole))
    solved = TRIANGULAR_SOLVE(
        r, matrix_transpose(moved), lower=False, transpose=False, unit_diagonal=False
    )
    return [concat([matrix_transpose(solved), *extra], axis=-1)]


QR = matrix_op(
    "qr",
    _type("qr"),
    _reference("reduced"),
    _gradient,
    Opaque(_lower, lambda node: whole_work(node, 4)),
    doc="The QR factorization with min(m, n) columns in Q: rows of Q transposed, each with its "
    "row of R behind it.",
    samples=one_matrix(regular, OBLONG),
)
QR_COMPLETE = matrix_op(
    "qr_complete",
    _type("qr_complete"),
    _reference("complete"),
    None,
    Opaque(_lower, lambda node: whole_work(node, 4)),
    doc="The QR factorization with a square Q: rows of Q transposed, each with its row of R "
    "behind it.",
    samples=one_matrix(regular, OBLONG),
    not_differentiable="the columns of Q beyond those of the matrix are any orthonormal basis "
    'of what is left; qr with mode="reduced" is differentiable',
)
