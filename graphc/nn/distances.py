"""Distances and similarities of vectors (floor 8), with gradients that are finite at zero."""

from __future__ import annotations

import functools
import math

from graphc.base.dims import shape_text
from graphc.ir.node import Tensor
from graphc.ir.opdef import shape_error
from graphc.ops import elementwise, elementwise_math, logical, rounding
from graphc.ops.axes import normalize_axis
from graphc.ops.norm import NORM
from graphc.ops.promotion import TensorLike, promoted
from graphc.ops.reduction import MAX, SUM, as_float
from graphc.ops.reduction import sum as sum_
from graphc.ops.reshape import expand_dims

multiply, subtract, where = elementwise.multiply, elementwise.subtract, elementwise.where


def _pair(op: str, x1: TensorLike, x2: TensorLike) -> tuple[Tensor, Tensor]:
    a, b = promoted(op, x1, x2)
    return as_float(op, a), as_float(op, b)


def cosine_similarity(
    x1: TensorLike, x2: TensorLike, *, axis: int = -1, epsilon: float = 1e-8
) -> Tensor:
    """sum(x1 * x2) / max(|x1| * |x2|, epsilon) along `axis`.

    The gradient at a zero vector is finite.
    """
    a, b = _pair("cosine_similarity", x1, x2)
    lengths = [
        NORM(t, axes=(normalize_axis("cosine_similarity", t, axis),), keepdims=True) for t in (a, b)
    ]
    # Unit vectors first: the products of large vectors overflow, those of small ones vanish.
    units = [
        elementwise.divide(t, where(logical.equal(n, 0), 1.0, n))
        for t, n in zip((a, b), lengths, strict=True)
    ]
    if epsilon > 0:
        share = elementwise.divide(multiply(*lengths), epsilon)
        units.append(elementwise.minimum(share, 1.0))
    return sum_(functools.reduce(multiply, units), axis=axis)


def norm_of(x: Tensor, p: float, axis: int, keepdims: bool = False) -> Tensor:
    """(sum |x|**p)**(1/p) along an axis, p > 0 or infinite; at the zero vector 0, and so is its
    gradient.
    """
    if p == 2:
        return NORM(x, axes=(axis,), keepdims=keepdims)
    size = rounding.abs(x)
    if math.isinf(p):
        return MAX(size, axes=(axis,), keepdims=keepdims)
    if p == 1:
        return SUM(size, axes=(axis,), keepdims=keepdims)
    total = SUM(elementwise_math.pow(size, float(p)), axes=(axis,), keepdims=keepdims)
    nothing = logical.equal(total, 0)
    root = elementwise_math.pow(where(nothing, 1.0, total), 1.0 / p)
    return where(nothing, 0.0, root)


def _checked_p(op: str, p: float, x: Tensor) -> None:
    if not p > 0:
        shape_error(
            f"{op}: p must be positive, got {p}", [x], "2 is Euclid's; math.inf the largest"
        )


def pairwise_distance(
    x1: TensorLike,
    x2: TensorLike,
    *,
    p: float = 2.0,
    epsilon: float = 1e-6,
    axis: int = -1,
    keepdims: bool = False,
) -> Tensor:
    """The p-norm of x1 - x2 + epsilon along `axis`: distances of vectors one by one.

    epsilon: added to every difference, as is common; with 0 the distance of equal vectors is 0, and
    so is its gradient. Raises ShapeError unless p is positive.
    """
    op = "pairwise_distance"
    a, b = _pair(op, x1, x2)
    _checked_p(op, p, a)
    difference = subtract(a, b)
    if epsilon:
        difference = difference + epsilon
    return norm_of(difference, p, normalize_axis(op, difference, axis), keepdims)


def cdist(x1: TensorLike, x2: TensorLike, *, p: float = 2.0) -> Tensor:
    """The p-norm of every difference of rows: (…, n, features), (…, m, features) -> (…, n, m).

    Computed from the differences, so that near points keep their distance; the value needs no
    memory of the size n * m * features, its gradient may. Raises ShapeError where features differ
    or p is not positive.
    """
    a, b = _pair("cdist", x1, x2)
    _checked_p("cdist", p, a)
    if min(a.ndim, b.ndim) < 2 or a.shape[-1] != b.shape[-1]:
        shape_error(
            f"cdist: rows of {shape_text(a.shape)} and {shape_text(b.shape)} do not fit",
            [a, b],
            "both are (…, rows, features) with equal features",
        )
    difference = subtract(expand_dims(a, axis=-2), expand_dims(b, axis=-3))
    return norm_of(difference, p, difference.ndim - 1)


__all__ = ["cdist", "cosine_similarity", "norm_of", "pairwise_distance"]
