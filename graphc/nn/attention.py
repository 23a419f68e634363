"""Attention (floor 8): scaled dot products as two contractions and a softmax."""

from __future__ import annotations

import math

import numpy as np

from graphc.base.dtypes import DType, bfloat16, bool_
from graphc.ir.node import Tensor
from graphc.ir.opdef import dtype_error, shape_error
from graphc.ops import elementwise, elementwise_math, logical
from graphc.ops.contraction import matmul
from graphc.ops.creation import iota
from graphc.ops.promotion import TensorLike, as_tensor, cast, promoted
from graphc.ops.reduction import as_float
from graphc.ops.softmax import SOFTMAX
from graphc.ops.view import matrix_transpose


def scaled_dot_product_attention(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    mask: TensorLike | None = None,
    *,
    causal: bool = False,
    scale: TensorLike | None = None,
) -> Tensor:
    """softmax(query @ key.mT * scale + mask) @ value.

    query (..., L, E), key (..., S, E), value (..., S, V) -> (..., L, V); leading dims broadcast.
    mask: bool (True: may be attended to) or added to the scores, broadcast to (..., L, S). causal:
    place i sees places up to i. scale: 1 / sqrt(E) by default. A row that may attend to nothing
    gives zeros. Raises ShapeError where sizes do not fit.
    """
    name = "scaled_dot_product_attention"
    q, k, v = (as_float(name, t) for t in promoted(name, query, key, value))
    for what, tensor in (("query", q), ("key", k), ("value", v)):
        if tensor.ndim < 2:
            shape_error(
                f"{name}: {what} needs at least 2 dims, (..., places, features), got {tensor.ndim}",
                [q, k, v],
                f"use {what}[None] for a single place",
            )
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        shape_error(
            f"{name}: query and key need equal features ({q.shape[-1]}, {k.shape[-1]}), "
            f"key and value equal places ({k.shape[-2]}, {v.shape[-2]})",
            [q, k, v],
            "shapes are (..., n, features), (..., m, features) and (..., m, values)",
        )
    scores = matmul(elementwise.multiply(q, _scale(q, scale)), matrix_transpose(k))
    allowed, scores = _masked(name, scores, mask, causal)
    if allowed is None:
        return matmul(SOFTMAX(scores, axis=scores.ndim - 1), v)
    # A finite floor, not -inf: rows without any place keep finite values and gradients.
    scores = elementwise.where(allowed, scores, lowest_score(scores.dtype))
    weights = elementwise.where(allowed, SOFTMAX(scores, axis=scores.ndim - 1), 0.0)
    return matmul(weights, v)


def _scale(q: Tensor, scale: TensorLike | None) -> Tensor:
    if scale is not None:
        return cast(as_tensor(scale, like=q), q.dtype)
    size = q.shape[-1]
    if isinstance(size, int):
        return as_tensor(1.0 / math.sqrt(max(size, 1)), like=q)
    return elementwise_math.rsqrt(as_tensor(size, like=q))


def _masked(
    name: str, scores: Tensor, mask: TensorLike | None, causal: bool
) -> tuple[Tensor | None, Tensor]:
    """The bool mask (None: everything is allowed) and the scores with an additive mask."""
    allowed: Tensor | None = None
    if mask is not None:
        given = as_tensor(mask, op=name)
        if given.dtype is bool_:
            allowed = given
        elif given.dtype.is_float:
            scores = elementwise.add(scores, cast(given, scores.dtype))
        else:
            dtype_error(f"{name}: mask must be bool or float, got {given.dtype}", [scores, given])
    if causal:
        square = scores.shape[-2:]
        past = logical.greater_equal(iota(square, 0), iota(square, 1))
        allowed = past if allowed is None else logical.logical_and(allowed, past)
    return allowed, scores


def lowest_score(dtype: DType) -> float:
    """A score that weighs nothing beside any usual one, far enough from overflow."""
    if dtype is bfloat16:
        return -1e38
    return float(np.finfo(dtype.numpy).min) / 2
