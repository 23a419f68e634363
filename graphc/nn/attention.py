"""Attention (floor 8): scaled dot products as two contractions and a softmax; several heads; a
cache of keys and values for decoding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from graphc.base.dtypes import DType, bfloat16, bool_
from graphc.ir.node import Tensor
from graphc.ir.opdef import dtype_error, shape_error
from graphc.nn.dropout import dropout
from graphc.nn.embedding import linear
from graphc.ops import elementwise, elementwise_math, logical
from graphc.ops.contraction import matmul
from graphc.ops.creation import iota
from graphc.ops.indexing import take, take_along_axis
from graphc.ops.promotion import TensorLike, as_tensor, cast, promoted
from graphc.ops.reduction import as_float
from graphc.ops.reshape import expand_dims, to_shape
from graphc.ops.rounding import clip
from graphc.ops.softmax import SOFTMAX
from graphc.ops.view import broadcasted, matrix_transpose, moveaxis


def scaled_dot_product_attention(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    mask: TensorLike | None = None,
    *,
    causal: bool = False,
    scale: TensorLike | None = None,
    query_offset: TensorLike = 0,
    dropout_rate: float = 0.0,
    dropout_key: TensorLike | None = None,
) -> Tensor:
    """softmax(query @ key.mT * scale + mask) @ value.

    query (..., L, E), key (..., S, E), value (..., S, V) -> (..., L, V); leading dims broadcast.
    Grouped queries: where query has a multiple of the heads of key and value, (..., heads, L, E)
    and (..., groups, S, E), each group of neighbouring query heads shares one head of keys.
    mask: bool (True: may be attended to) or added to the scores, broadcast to (..., L, S). causal:
    place i of the queries sees places up to i + query_offset of the keys; query_offset is an
    integer, a dim, or an integer tensor that broadcasts to (..., L, 1), such as the number of keys
    in a cache. scale: 1 / sqrt(E) by default. dropout_rate: the share of weights set to 0, with a
    key of graphc.random.key as dropout_key. A row that may attend to nothing gives zeros. Raises
    ShapeError where sizes do not fit.
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
    heads, places = q.shape[:-1], q.shape[-2]
    shared = _shared_heads(q, k, v)
    if shared > 1:
        # The heads of a group are neighbours: their places line up as those of one head.
        q = to_shape(q, (*k.shape[:-2], shared * places, q.shape[-1]))
    scores = matmul(elementwise.multiply(q, _scale(q, scale)), matrix_transpose(k))
    together = scores.shape
    if shared > 1:
        scores = to_shape(scores, (*heads, k.shape[-2]))
    allowed, scores = _masked(name, scores, mask, causal, query_offset)
    weights = _attention_weights(scores, allowed)
    if dropout_rate:
        if dropout_key is None:
            hint = "pass dropout_key=graphc.random.fold_in(key, step)"
            shape_error(f"{name}: dropout_rate {dropout_rate} needs a dropout_key", [q, k, v], hint)
        weights = dropout(weights, dropout_rate, dropout_key)
    if shared == 1:
        return matmul(weights, v)
    return to_shape(matmul(to_shape(weights, together), v), (*heads, v.shape[-1]))


def _attention_weights(scores: Tensor, allowed: Tensor | None) -> Tensor:
    last = scores.ndim - 1
    if allowed is None:
        return SOFTMAX(scores, axis=last)
    # A finite floor, not -inf: rows without any place keep finite values and gradients.
    scores = elementwise.where(allowed, scores, lowest_score(scores.dtype))
    return elementwise.where(allowed, SOFTMAX(scores, axis=scores.ndim - 1), 0.0)


def _shared_heads(q: Tensor, k: Tensor, v: Tensor) -> int:
    """How many heads of queries share a head of keys; 1 where leading dims simply broadcast."""
    if not q.ndim == k.ndim == v.ndim >= 3 or q.shape[:-3] != k.shape[:-3]:
        return 1
    many, few = q.shape[-3], k.shape[-3]
    if v.shape[:-2] != k.shape[:-2] or not isinstance(many, int) or not isinstance(few, int):
        return 1
    return many // few if few > 0 and many > few and many % few == 0 else 1


def _scale(q: Tensor, scale: TensorLike | None) -> Tensor:
    if scale is not None:
        return cast(as_tensor(scale, like=q), q.dtype)
    size = q.shape[-1]
    if isinstance(size, int):
        return as_tensor(1.0 / math.sqrt(max(size, 1)), like=q)
    return elementwise_math.rsqrt(as_tensor(size, like=q))


def _masked(
    name: str, scores: Tensor, mask: TensorLike | None, causal: bool, offset: TensorLike
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
            dtype_error(
                f"{name}: mask must be bool or float, got {given.dtype}",
                [scores, given],
                "True means may be attended to; floats are added to the scores: mask != 0",
            )
    if causal:
        square = scores.shape[-2:]
        seen = iota(square, 0)
        if type(offset) is not int or offset:
            start = as_tensor(offset, like=seen, op=name)
            if not start.dtype.is_integer:
                hint = "it is the number of keys before the first query"
                dtype_error(
                    f"{name}: query_offset must be an integer, got {start.dtype}", [start], hint
                )
            seen = elementwise.add(seen, cast(start, seen.dtype))
        past = logical.greater_equal(seen, iota(square, 1))
        allowed = past if allowed is None else logical.logical_and(allowed, past)
    return allowed, scores


def lowest_score(dtype: DType) -> float:
    """A score that weighs nothing beside any usual one, far enough from overflow."""
    if dtype is bfloat16:
        return -1e38
    return float(np.finfo(dtype.numpy).min) / 2


# -- several heads --------------------------------------------------------------------------------


class AttentionWeights(NamedTuple):
    """The weights of a layer of attention with several heads of `size` features.

    query: (features, heads * size). key, value: (features, groups * size), groups being the heads
    of keys and values, equal to heads but for grouped queries; value may have heads of another
    size. output: (heads * value size, features out). Biases: (columns,) each, or None.
    """

    query: TensorLike
    key: TensorLike
    value: TensorLike
    output: TensorLike
    query_bias: TensorLike | None = None
    key_bias: TensorLike | None = None
    value_bias: TensorLike | None = None
    output_bias: TensorLike | None = None


def split_heads(x: TensorLike, heads: int) -> Tensor:
    """(..., places, heads * size) -> (..., heads, places, size). Raises ShapeError where the last
    dim does not split.
    """
    tensor = as_tensor(x, op="split_heads")
    if tensor.ndim < 2 or heads < 1 or tensor.shape[-1] // heads * heads != tensor.shape[-1]:
        shape_error(
            f"split_heads: {tensor.type} does not split into {heads} heads",
            [tensor],
            "x is (..., places, features), the number of heads divides its features",
        )
    apart = to_shape(tensor, (*tensor.shape[:-1], heads, tensor.shape[-1] // heads))
    return moveaxis(apart, -2, -3)


def merge_heads(x: TensorLike) -> Tensor:
    """(..., heads, places, size) -> (..., places, heads * size): the inverse of `split_heads`."""
    tensor = as_tensor(x, op="merge_heads")
    if tensor.ndim < 3:
        hint = "x is what split_heads gives; a single head needs none"
        shape_error(
            f"merge_heads: needs (..., heads, places, size), got {tensor.type}", [tensor], hint
        )
    back = moveaxis(tensor, -3, -2)
    return to_shape(back, (*back.shape[:-2], back.shape[-2] * back.shape[-1]))


def multi_head_attention(
    query: TensorLike,
    weights: AttentionWeights,
    heads: int,
    *,
    key: TensorLike | None = None,
    value: TensorLike | None = None,
    groups: int | None = None,
    mask: TensorLike | None = None,
    causal: bool = False,
    scale: TensorLike | None = None,
    dropout_rate: float = 0.0,
    dropout_key: TensorLike | None = None,
) -> Tensor:
    """Attention of several heads between learned projections (Vaswani et al., 2017).

    query (..., L, features) -> (..., L, features out). key: (..., S, features), query itself by
    default; value: key by default. groups: heads of keys and values, `heads` by default. mask: as
    of `scaled_dot_product_attention`, broadcast to (..., heads, L, S). Raises ShapeError where
    sizes do not fit.
    """
    source = query if key is None else key
    content = source if value is None else value
    count = heads if groups is None else groups
    if count < 1 or heads % count:
        shape_error(
            f"multi_head_attention: {heads} heads do not split into {count} groups",
            [as_tensor(query)],
            "the number of groups divides the number of heads; without groups they are equal",
        )
    out = scaled_dot_product_attention(
        split_heads(linear(query, weights.query, weights.query_bias), heads),
        split_heads(linear(source, weights.key, weights.key_bias), count),
        split_heads(linear(content, weights.value, weights.value_bias), count),
        mask,
        causal=causal,
        scale=scale,
        dropout_rate=dropout_rate,
        dropout_key=dropout_key,
    )
    return linear(merge_heads(out), weights.output, weights.output_bias)


# -- decoding -------------------------------------------------------------------------------------


def kv_cache_update(cache: TensorLike, new: TensorLike, position: TensorLike) -> Tensor:
    """A cache of keys or values with `new` written at `position` and the places behind it.

    cache (..., capacity, features), new (..., t, features) with the same leading dims; position: an
    integer tensor of shape (), or of the first dims of cache: one per example. What does not fit
    raises ExecutionError at the call. Declared as the update of a variable, it is written in place:

        k_now = graphc.nn.kv_cache_update(keys, k, position)
        v_now = graphc.nn.kv_cache_update(values, v, position)
        out = graphc.nn.scaled_dot_product_attention(
            q, k_now, v_now, causal=True, query_offset=position)
        step = session.function([token, position], out, updates={keys: k_now, values: v_now})

    Raises ShapeError, DTypeError where operands do not fit.
    """
    name = "kv_cache_update"
    old, fresh = as_tensor(cache, op=name), as_tensor(new, op=name)
    if old.ndim < 2 or fresh.ndim != old.ndim or not _same_but_places(old, fresh):
        shape_error(
            f"{name}: {fresh.type} does not fit a cache {old.type}",
            [old, fresh],
            "cache is (..., capacity, features), new (..., t, features) with equal other dims",
        )
    fresh = cast(fresh, old.dtype)
    start = as_tensor(position, op=name)
    rows = start.ndim
    if not start.dtype.is_integer or rows > old.ndim - 2 or start.shape != old.shape[:rows]:
        dtype_error(
            f"{name}: position must be an integer, or one per row of the first dims, "
            f"got {start.type}",
            [old, start],
            "it is the number of places that the cache holds",
        )
    capacity, count = old.shape[-2], fresh.shape[-2]
    first = cast(start, iota((1,)).dtype)
    # Reading the last place that is written, of a list of places, is what raises where it is not.
    last = take(iota((capacity,)), elementwise.add(first, count - 1), axis=0)
    first, last = (to_shape(t, (*t.shape, *(1,) * (old.ndim - t.ndim))) for t in (first, last))
    place = expand_dims(iota((capacity,)), axis=-1)
    inside = logical.logical_and(
        logical.greater_equal(place, first), logical.less_equal(place, last)
    )
    source = clip(elementwise.subtract(place, first), 0, count - 1)
    if rows:
        moved = take_along_axis(fresh, broadcasted(source, old.shape), axis=-2)
    else:
        moved = take(fresh, to_shape(source, (capacity,)), axis=-2)
    return elementwise.where(inside, moved, old)


def _same_but_places(a: Tensor, b: Tensor) -> bool:
    return a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-1]
