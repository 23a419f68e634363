"""Norms and condition numbers (floor 8): compositions with gradients that are 0 at 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.errors import GraphError, message
from graphc.ir.node import Tensor
from graphc.linalg.arguments import floats, matrices
from graphc.linalg.systems import inv
from graphc.ops.axes import normalize_axes
from graphc.ops.elementwise import divide, multiply, where
from graphc.ops.elementwise_math import pow as power
from graphc.ops.factorization_svd import SVDVALS
from graphc.ops.logical import not_equal
from graphc.ops.norm import NORM
from graphc.ops.promotion import astype
from graphc.ops.reduction import max as max_of
from graphc.ops.reduction import min as min_of
from graphc.ops.reduction import sum as sum_of
from graphc.ops.reshape import to_shape
from graphc.ops.rounding import abs as absolute

Axis = int | tuple[int, ...] | None


def _norm(x: Tensor, op: str, axis: Axis, keepdims: bool) -> Tensor:
    axes = tuple(sorted(normalize_axes(op, x, axis)))
    return NORM(x, axes=axes, keepdims=bool(keepdims))


def vector_norm(x: Any, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """The vector norm over `axis` (all by default): ord 2, 1, 0, inf, -inf or any other number p,
    (sum |x|^p)^(1/p).

    The gradient at a zero vector is 0. No vector is too large or too small for ord 2; the powers
    of other p may overflow.
    """
    x = floats(x, "vector_norm")
    if ord == 2:
        return _norm(x, "vector_norm", axis, keepdims)
    if ord == 0:
        return sum_of(astype(not_equal(x, 0.0), x.dtype), axis=axis, keepdims=keepdims)
    size = absolute(x)
    axes = normalize_axes("vector_norm", x, axis)
    if ord == 1 or (ord == np.inf and any(x.shape[a] == 0 for a in axes)):  # of nothing: 0
        return sum_of(size, axis=axis, keepdims=keepdims)
    if ord in (np.inf, -np.inf):
        return (max_of if ord > 0 else min_of)(size, axis=axis, keepdims=keepdims)
    total = sum_of(power(size, float(ord)), axis=axis, keepdims=keepdims)
    zero = total == 0
    at_zero = 0.0 if ord > 0 else np.inf
    return where(zero, at_zero, power(where(zero, 1.0, total), 1.0 / float(ord)))


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: float | str = "fro") -> Tensor:
    """The norm of the matrices in the last two dims: "fro", 1, -1, inf, -inf; by singular values
    "nuc" (their sum), 2 (the largest) and -2 (the smallest).

    Raises GraphError for others; for those by singular values DTypeError for 16-bit floats, and
    ShapeError where it depends on the call which size is smaller.
    """
    x = floats(x, "matrix_norm")
    if ord == "fro":
        return _norm(x, "matrix_norm", (-2, -1), keepdims)
    if ord in ("nuc", 2, -2):
        values = SVDVALS(matrices(x, "matrix_norm"))
        found = _BY_VALUES[ord](values, axis=-1)
        return to_shape(found, (*found.shape, 1, 1)) if keepdims else found
    if ord not in (1, -1, np.inf, -np.inf):
        hint = 'use "fro", "nuc", 1, -1, 2, -2, inf or -inf'
        raise GraphError(message(f"matrix_norm: unknown ord {ord!r}", hint=hint))
    along = -2 if ord in (1, -1) else -1
    sums = sum_of(absolute(x), axis=along, keepdims=True)
    extreme = max_of if isinstance(ord, int | float) and ord > 0 else min_of
    return extreme(sums, axis=(-2, -1), keepdims=keepdims)


_BY_VALUES: dict[float | str, Callable[..., Tensor]] = {"nuc": sum_of, 2: max_of, -2: min_of}


def cond(x: Any, /, p: float | str | None = None) -> Tensor:
    """The condition numbers (...) of matrices: the largest singular value by the smallest (p None
    or 2; inf for a singular matrix), its inverse (-2), or the product of the norms `p` of a square
    matrix and its inverse ("fro", "nuc", 1, -1, inf, -inf).

    Raises as `matrix_norm`; where an inverse is needed, ExecutionError at the call for a singular
    matrix.
    """
    x = matrices(x, "cond")
    if p not in (None, 2, -2):
        return multiply(matrix_norm(x, ord=p), matrix_norm(inv(x), ord=p))
    values = SVDVALS(x)
    high, low = max_of(values, axis=-1), min_of(values, axis=-1)
    return divide(low, high) if p == -2 else divide(high, low)
