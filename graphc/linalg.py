"""Linear algebra (floor 8): the part of the Array API's `linalg` that needs no factorization.

Products are those of the main namespace; norms are compositions with gradients that are 0 at 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any

import numpy as np

from graphc.base.errors import GraphError, ShapeError, UnsupportedError, message
from graphc.ir.node import Tensor, as_index
from graphc.ir.opdef import fail
from graphc.ops.axes import normalize_axes
from graphc.ops.contraction import cross, matmul, outer, tensordot, trace, vecdot
from graphc.ops.creation import eye
from graphc.ops.elementwise import where
from graphc.ops.elementwise_math import pow as power
from graphc.ops.logical import not_equal
from graphc.ops.norm import NORM
from graphc.ops.promotion import as_tensor, astype
from graphc.ops.reduction import max as max_of
from graphc.ops.reduction import min as min_of
from graphc.ops.reduction import sum as sum_of
from graphc.ops.rounding import abs as absolute
from graphc.ops.view import broadcast_to, diagonal, matrix_transpose
from graphc.other_names import missing as _missing

__all__ = [
    "cross",
    "diagonal",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_transpose",
    "outer",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]

Axis = int | tuple[int, ...] | None


def _norm(x: Tensor, op: str, axis: Axis, keepdims: bool) -> Tensor:
    axes = tuple(sorted(normalize_axes(op, x, axis)))
    return NORM(x, axes=axes, keepdims=bool(keepdims))


def _float(x: Any, op: str) -> Tensor:
    x = as_tensor(x, op=op)
    return x if x.dtype.is_float else astype(x, "float64")


def vector_norm(x: Any, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """The vector norm over `axis` (all by default): ord 2, 1, 0, inf, -inf or any other number p,
    (sum |x|^p)^(1/p).

    The gradient at a zero vector is 0. No vector is too large or too small for ord 2; the powers
    of other p may overflow.
    """
    x = _float(x, "vector_norm")
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


def matrix_power(x: Any, n: int, /) -> Tensor:
    """The square matrices in the last two dims multiplied n times; n = 0 gives the identity.

    Raises ShapeError for matrices that are not square, UnsupportedError for a negative n.
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
        what = "matrix_power: a negative power needs an inverse, which graphc does not compute"
        fail(UnsupportedError, what, [x], "feed the inverse: numpy.linalg.inv(a)")
    result: Tensor | None = None
    while count:  # by squaring: the number of products grows with the digits of n
        if count & 1:
            result = x if result is None else matmul(result, x)
        count >>= 1
        x = matmul(x, x) if count else x
    return broadcast_to(eye(x.shape[-1], dtype=x.dtype), x.shape) if result is None else result


def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: float | str = "fro") -> Tensor:
    """The norm of the matrices in the last two dims: "fro", 1, -1, inf or -inf.

    Raises UnsupportedError for the norms that need singular values ("nuc", 2, -2), GraphError for
    unknown ones.
    """
    x = _float(x, "matrix_norm")
    if ord == "fro":
        return _norm(x, "matrix_norm", (-2, -1), keepdims)
    if ord in ("nuc", 2, -2):
        raise UnsupportedError(
            message(
                f"matrix_norm: ord={ord!r} needs singular values, which graphc does not compute yet"
            )
        )
    if ord not in (1, -1, np.inf, -np.inf):
        raise GraphError(
            message(f"matrix_norm: unknown ord {ord!r}", hint='use "fro", 1, -1, inf or -inf')
        )
    along = -2 if ord in (1, -1) else -1
    sums = sum_of(absolute(x), axis=along, keepdims=True)
    extreme = max_of if isinstance(ord, int | float) and ord > 0 else min_of
    return extreme(sums, axis=(-2, -1), keepdims=keepdims)


if not _TYPE_CHECKING:  # a type checker knows which names exist

    def __getattr__(name: str) -> object:
        """Say what to do instead of a factorization."""
        raise AttributeError(_missing("graphc.linalg", name, __all__))
