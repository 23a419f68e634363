"""Encodings of positions (floor 8): sinusoids, rotations, and biases of attention scores.

Positions are counts (ints or dims: 0, 1, … below them) or tensors; sizes may be symbolic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dims import Dim, Size, shape_text
from graphc.base.dtypes import DTypeLike, int64
from graphc.ir.node import Tensor, as_index
from graphc.ir.opdef import dtype_error, shape_error
from graphc.nn.embedding import embedding
from graphc.ops import elementwise, elementwise_math, logical, rounding
from graphc.ops.axes import as_size
from graphc.ops.creation import iota
from graphc.ops.joining import concat, stack, take_slice
from graphc.ops.promotion import TensorLike, as_tensor, cast, to_dtype
from graphc.ops.reduction import as_float
from graphc.ops.reshape import expand_dims, to_shape
from graphc.ops.sorting import searchsorted
from graphc.ops.view import moveaxis

add, multiply, subtract = elementwise.add, elementwise.multiply, elementwise.subtract
where = elementwise.where


def _positions(op: str, given: Any) -> Tensor:
    """0 to given - 1 for a size; positions themselves for a tensor or an array."""
    if isinstance(given, Dim) or as_index(given) is not None:
        return iota((as_size(op, given),))
    tensor = as_tensor(given, op=op)
    if tensor.dtype.is_bool:
        hint = "positions are counted from 0: graphc.arange(n)"
        dtype_error(f"{op}: positions must be numbers, got bool", [tensor], hint)
    return tensor


def _frequencies(features: int, base: float) -> np.ndarray[Any, Any]:
    return np.asarray(base ** (-np.arange(0, features, 2) / features))


def sinusoidal_positions(
    positions: TensorLike | Size,
    features: int,
    *,
    base: float = 10000.0,
    interleaved: bool = True,
    dtype: DTypeLike = "float32",
) -> Tensor:
    """sin(p / base**(2 i / features)) and cos(…) of each position p: positions.shape + (features,)
    (Vaswani et al., 2017).

    positions: a count, or any numbers (steps of a diffusion, say). interleaved: the sine at feature
    2 i, the cosine at 2 i + 1; else all sines, then all cosines. Raises ShapeError for an odd
    number of features.
    """
    op = "sinusoidal_positions"
    kind = to_dtype(dtype, op)
    if not kind.is_float:
        dtype_error(f"{op}: expected a float dtype, got {kind}", hint='use "float32"')
    if features < 2 or features % 2:
        hint = "half of the features are sines, half are cosines"
        shape_error(f"{op}: features must be even and positive, got {features}", hint=hint)
    wide = kind.compute
    places = expand_dims(cast(_positions(op, positions), wide), axis=-1)
    angles = multiply(places, cast(as_tensor(_frequencies(features, base)), wide))
    waves = [elementwise_math.sin(angles), elementwise_math.cos(angles)]
    if not interleaved:
        return cast(concat(waves, axis=-1), kind)
    pairs = stack(waves, axis=-1)
    return cast(to_shape(pairs, (*pairs.shape[:-2], features)), kind)


def rotary_embedding(
    x: TensorLike,
    positions: TensorLike | None = None,
    *,
    base: float = 10000.0,
    features: int | None = None,
    interleaved: bool = False,
) -> Tensor:
    """Queries or keys (..., places, size) with pairs of features turned by angles proportional to
    the position (Su et al., 2021): the scores then depend on distances alone.

    positions: numbers that broadcast to (..., places); 0, 1, … by default; add the length of a
    cache while decoding. Pair i turns by position * base**(-2 i / features). features: how many of
    the first ones turn, all by default. interleaved: pairs are neighbours (2 i, 2 i + 1); else
    (i, i + features / 2), as in most published weights. Raises ShapeError for odd features.
    """
    op = "rotary_embedding"
    x = as_float(op, x)
    size = x.shape[-1] if x.ndim >= 2 else 0
    count = size if features is None else features
    known = isinstance(count, int) and isinstance(size, int) and 0 < count <= size
    if not known or not isinstance(count, int) or count % 2:
        shape_error(
            f"{op}: cannot turn {count} features of {shape_text(x.shape)}",
            [x],
            "x is (..., places, size); an even number of its features turns",
        )
    wide = x.dtype.compute
    places = _positions(op, x.shape[-2] if positions is None else positions)
    angles = multiply(
        expand_dims(cast(places, wide), axis=-1), cast(as_tensor(_frequencies(count, base)), wide)
    )
    cosine, sine = elementwise_math.cos(angles), elementwise_math.sin(angles)
    turned = cast(take_slice(x, x.ndim - 1, 0, count), wide)
    half = count // 2
    if interleaved:
        pairs = to_shape(turned, (*turned.shape[:-1], half, 2))
        first, second = (
            to_shape(take_slice(pairs, pairs.ndim - 1, i, 1), pairs.shape[:-1]) for i in (0, 1)
        )
    else:
        first, second = (take_slice(turned, x.ndim - 1, i * half, half) for i in (0, 1))
    parts = [
        subtract(multiply(first, cosine), multiply(second, sine)),
        add(multiply(second, cosine), multiply(first, sine)),
    ]
    if interleaved:
        out = to_shape(stack(parts, axis=-1), turned.shape)
    else:
        out = concat(parts, axis=-1)
    out = cast(out, x.dtype)
    if count == size:
        return out
    return concat([out, take_slice(x, x.ndim - 1, count, size - count)], axis=-1)


def _distances(op: str, queries: Any, keys: Any, offset: TensorLike) -> Tensor:
    """Position of the key minus that of the query, int64 (queries, keys)."""
    line = expand_dims(cast(_positions(op, queries), int64), axis=-1)
    start = cast(as_tensor(offset, like=int64, op=op), int64)
    return subtract(cast(_positions(op, keys), int64), add(line, start))


def _alibi_slopes(heads: int) -> list[float]:
    """2**(-8 k / n) for n heads, n a power of two; between powers, every second one of the next."""
    whole = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8.0 * k / whole) for k in range(1, whole + 1)]
    return slopes + [2.0 ** (-4.0 * k / whole) for k in range(1, 2 * (heads - whole), 2)]


def alibi_bias(
    heads: int,
    queries: TensorLike | Size,
    keys: TensorLike | Size,
    *,
    query_offset: TensorLike = 0,
    dtype: DTypeLike = "float32",
) -> Tensor:
    """A mask to be added to attention scores, (heads, queries, keys): -slope * |distance|, with a
    slope per head (Press, Smith and Lewis, 2022).

    queries, keys: counts or positions. query_offset: the position of the first query (the length of
    a cache). With causal attention only the past is seen, and the distance is how far back.
    """
    if heads < 1:
        hint = "there is one slope per head of the attention"
        shape_error(f"alibi_bias: heads must be positive, got {heads}", hint=hint)
    kind = to_dtype(dtype, "alibi_bias")
    far = cast(rounding.abs(_distances("alibi_bias", queries, keys, query_offset)), kind)
    slopes = cast(as_tensor(np.array(_alibi_slopes(heads)).reshape(heads, 1, 1)), kind)
    return elementwise.negative(multiply(slopes, far))


def relative_position_bias(
    table: TensorLike,
    queries: TensorLike | Size,
    keys: TensorLike | Size,
    *,
    bidirectional: bool = True,
    max_distance: int = 128,
    query_offset: TensorLike = 0,
) -> Tensor:
    """A learned mask to be added to attention scores, (heads, queries, keys), by distance (Raffel
    et al., 2020).

    table: (buckets, heads). Half of the buckets of a direction stand for one distance each, the
    others for ranges that grow by a constant factor up to max_distance, and for all beyond.
    bidirectional: half of all buckets are for keys after the query; else those count as distance 0.
    queries, keys: counts or positions; query_offset: the position of the first query. Raises
    ShapeError for a table that has not enough buckets.
    """
    op = "relative_position_bias"
    rows = as_float(op, table)
    buckets = rows.shape[0] if rows.ndim == 2 else 0
    side = buckets // 2 if isinstance(buckets, int) and bidirectional else buckets
    if not isinstance(side, int) or side < 2 or max_distance <= side // 2:
        shape_error(
            f"{op}: table {rows.type} has no buckets for distances up to {max_distance}",
            [rows],
            "table is (buckets, heads), with 4 buckets or more, and max_distance exceeds a quarter "
            "of them (half, in one direction)",
        )
    distance = _distances(op, queries, keys, query_offset)
    if bidirectional:
        after = where(logical.greater(distance, 0), side, 0)
        far = rounding.abs(distance)
    else:
        after = None
        far = elementwise.maximum(elementwise.negative(distance), 0)
    exact = side // 2
    # Where each wider bucket starts, as whole numbers: logarithms would round at the borders.
    growth = (max_distance / exact) ** (1.0 / (side - exact))
    starts = np.ceil(exact * growth ** np.arange(1, side - exact) - 1e-6).astype(np.int64)
    wide = searchsorted(starts, far, side="right") + exact
    bucket = where(logical.less(far, exact), far, wide)
    return moveaxis(embedding(rows, bucket if after is None else add(bucket, after)), -1, 0)


__all__ = ["alibi_bias", "relative_position_bias", "rotary_embedding", "sinusoidal_positions"]
