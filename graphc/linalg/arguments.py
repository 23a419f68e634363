"""Arguments of `graphc.linalg` (floor 8): matrices as floats, batches lined up."""

from __future__ import annotations

from typing import Any

from graphc.base.dims import Size
from graphc.base.dtypes import float64
from graphc.ir.node import Tensor
from graphc.ir.opdef import shape_error
from graphc.ops.factorization import check_matrices
from graphc.ops.promotion import as_tensor, astype, broadcast_shapes, promoted
from graphc.ops.view import broadcast_to


def floats(x: Any, op: str) -> Tensor:
    """x as a tensor of a float dtype: integers become float64."""
    x = as_tensor(x, op=op)
    return x if x.dtype.is_float else astype(x, float64)


def matrices(x: Any, op: str, square: bool = False) -> Tensor:
    """x as float32 or float64 matrices; DTypeError or ShapeError otherwise."""
    return check_matrices(op, floats(x, op), square)


def system(op: str, a: Any, b: Any) -> tuple[Tensor, Tensor, bool]:
    """The matrices and right sides of a x = b with equal dtypes and batches, and whether b was one
    vector. Raises DTypeError, ShapeError.
    """
    a, b = promoted(op, a, b)
    a, b = floats(a, op), floats(b, op)
    check_matrices(op, a)
    vector = b.ndim == 1
    right = b[:, None] if vector else b
    check_matrices(op, right)
    if right.shape[-2] != a.shape[-2]:
        hint = "a is (..., m, n), b is (m,) or (..., m, k)"
        shape_error(f"{op}: the rows of a and b differ in number", [a, b], hint)
    batch = broadcast_shapes(op, [a.shape[:-2], right.shape[:-2]], [a, b])
    return lined_up(a, batch), lined_up(right, batch), vector


def lined_up(x: Tensor, batch: tuple[Size, ...]) -> Tensor:
    """The matrices of x repeated along a batch."""
    shape = (*batch, *x.shape[-2:])
    return x if x.shape == shape else broadcast_to(x, shape)
