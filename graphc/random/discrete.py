"""Discrete distributions and orders (floor 8): coins, classes, integers, permutations."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dims import Shape, Size, shape_text
from graphc.base.dtypes import DType, DTypeLike, float32, float64, int64, uint64
from graphc.ir.node import Tensor, as_index
from graphc.ir.opdef import dtype_error, shape_error
from graphc.ops import elementwise, logical
from graphc.ops.axes import as_shape, as_size, normalize_axis
from graphc.ops.cumulative import cumulative_sum
from graphc.ops.elementwise_math import log
from graphc.ops.indexing import take, take_along_axis
from graphc.ops.joining import take_slice
from graphc.ops.promotion import TensorLike, as_tensor, broadcast_shapes, cast, is_weak, to_dtype
from graphc.ops.reduction import argmax
from graphc.ops.reshape import to_shape
from graphc.ops.rounding import nextafter
from graphc.ops.sorting import ARGSORT, searchsorted
from graphc.ops.view import moveaxis
from graphc.random.continuous import parameter, standard_gumbel
from graphc.random.keys import Key, checked, integers, long_words, split, unit

add, multiply, where = elementwise.add, elementwise.multiply, elementwise.where
_HALF = 0xFFFFFFFF


def bernoulli(key: Key, probability: TensorLike = 0.5, shape: Any = None) -> Tensor:
    """True with the given probability (a number, or a tensor that broadcasts to `shape`, its own
    shape by default).

    The chance is exact to 2**-24, in float64 to 2**-53. Raises ShapeError where shapes do not fit.
    """
    chance = as_tensor(probability, op="random.bernoulli")
    kind = chance.dtype if chance.dtype.is_float else float64
    sizes = chance.shape if shape is None else as_shape("random.bernoulli", shape)
    drawn = unit(checked("random.bernoulli", key), sizes, kind.compute)
    return logical.less(drawn, parameter("random.bernoulli", chance, drawn))


# -- integers -------------------------------------------------------------------------------------


def randint(
    key: Key, low: TensorLike, high: TensorLike, shape: Any = (), *, dtype: DTypeLike = "int64"
) -> Tensor:
    """Integers in [low, high), uniform up to a bias below 2**-32; `low` where the range is empty.

    low and high: ints (high up to one more than the dtype holds), or integer tensors that
    broadcast with `shape`. Raises DTypeError for a dtype that is not an integer one, ShapeError
    for ints that leave no range or do not fit the dtype.

    graphc.random.randint(key, 1, 7, (n,), dtype="int32")
    """
    kind = to_dtype(dtype, "random.randint")
    if not kind.is_integer:
        hint = 'draw integers and convert them, or use graphc.random.uniform(key, dtype="float32")'
        dtype_error(f"random.randint: expected an integer dtype, got {kind}", hint=hint)
    sizes = as_shape("random.randint", shape)
    source = checked("random.randint", key)
    span = _known_span(low, high, kind)
    start = _whole(low)
    if span is None:
        stop = _whole(high)
        if kind is not uint64:
            start, stop = (cast(cast(t, int64), uint64) for t in (start, stop))
        open_range = logical.less(start, stop)
        if kind is not uint64:
            open_range = logical.less(cast(start, int64), cast(stop, int64))
        width = where(open_range, elementwise.subtract(stop, start), 0)
        offset = _scaled_wide(source, sizes, width)
    elif span == 1 << 64:
        offset = long_words(source, sizes)
    elif span > 1 << 32:
        offset = _scaled_wide(source, sizes, as_tensor(span, like=uint64))
    else:
        offset = _scaled(long_words(source, sizes), as_tensor(span, like=uint64))
    return cast(add(offset, start), kind)


def _whole(number: TensorLike) -> Tensor:
    """An int or integers as uint64, modulo 2**64."""
    index = as_index(number)
    if index is not None:
        return as_tensor(np.uint64(index % (1 << 64)))
    return cast(integers("random.randint", number, "low and high must be integers", "high"), uint64)


def _known_span(low: TensorLike, high: TensorLike, kind: DType) -> int | None:
    """high - low of two ints, checked; None where one is computed by the graph."""
    first, last = as_index(low), as_index(high)
    if first is None or last is None:
        return None
    limits = np.iinfo(kind.numpy)
    if not limits.min <= first < last <= limits.max + 1:
        shape_error(
            f"random.randint: no range of {kind}: low {first}, high {last}",
            hint=f"low is below high, both from {limits.min} to {int(limits.max) + 1}",
        )
    return last - first


def _scaled(word: Tensor, span: Tensor) -> Tensor:
    """floor(w * span / 2**64) for a 64-bit word w and a span of at most 2**32."""
    low, high = _digits(word)
    carried = logical.bitwise_right_shift(multiply(low, span), 32)
    return logical.bitwise_right_shift(add(multiply(high, span), carried), 32)


def _digits(word: Tensor) -> list[Tensor]:
    """The lower and the upper 32 bits, as uint64."""
    return [logical.bitwise_and(word, _HALF), logical.bitwise_right_shift(word, 32)]


def _scaled_wide(key: Tensor, sizes: Shape, span: Tensor) -> Tensor:
    """floor(w * span / 2**128) for 128-bit words w: a schoolbook product in digits of 32 bits."""
    upper, lower = (long_words(k, sizes) for k in split(key, 2))
    digits = [*_digits(lower), *_digits(upper)]
    low, high = logical.bitwise_and(span, _HALF), logical.bitwise_right_shift(span, 32)
    carry_low = carry_high = as_tensor(0, like=uint64)
    for digit in digits:
        # Each column: the digit times the lower half, what the digit before gave times the upper
        # half, and the carry; (2**32 - 1)**2 + 2 * (2**32 - 1) is the largest, which just fits.
        column = add(multiply(digit, low), carry_low)
        upper = add(multiply(digit, high), add(logical.bitwise_right_shift(column, 32), carry_high))
        carry_low = logical.bitwise_and(upper, _HALF)
        carry_high = logical.bitwise_right_shift(upper, 32)
    return logical.bitwise_or(logical.bitwise_left_shift(carry_high, 32), carry_low)


# -- classes --------------------------------------------------------------------------------------


def categorical(key: Key, logits: TensorLike, *, axis: int = -1, shape: Any = None) -> Tensor:
    """Classes (int64) with probabilities softmax(logits) along `axis`: the argmax of logits plus
    Gumbel noise.

    shape: of the result, to which the shape of logits without `axis` broadcasts (that shape by
    default): (n, *batch) draws n times. A class of logit -inf never comes. Raises ShapeError where
    shapes do not fit.

    graphc.random.categorical(key, logits, shape=(10, *logits.shape[:-1]))
    """
    name = "random.categorical"
    scores = as_tensor(logits, op=name)
    if not scores.dtype.is_float:
        scores = cast(scores, float32)
    axis = normalize_axis(name, scores, axis)
    scores = moveaxis(scores, axis, -1)
    batch, classes = scores.shape[:-1], scores.shape[-1]
    if isinstance(classes, int) and classes == 0:
        shape_error(f"{name}: there is no class to draw", [scores], "logits need a class or more")
    sizes = batch if shape is None else as_shape(name, shape, [scores])
    if broadcast_shapes(name, [sizes, batch], [scores]) != sizes:
        shape_error(
            f"{name}: shape {shape_text(sizes)} does not hold the batch {shape_text(batch)}",
            [scores],
            "the shape of logits without the axis of classes must broadcast to shape",
        )
    noise = standard_gumbel(checked(name, key), (*sizes, classes), scores.dtype)
    return argmax(add(cast(scores, noise.dtype), noise), axis=-1)


# -- orders ---------------------------------------------------------------------------------------


def permutation(
    key: Key, x: TensorLike | Size, *, axis: int = 0, independent: bool = False
) -> Tensor:
    """x in random order along `axis`; for a size n, the numbers 0 to n - 1 (int64) in random order.

    All orders are equally likely up to n**2 / 2**65, the probability that two of the 64-bit words
    that are sorted are equal (equal ones keep their order). independent: every line along the axis
    gets an order of its own; else whole slices move. Raises ShapeError for a 0-d tensor.
    """
    name = "random.permutation"
    source = checked(name, key)
    if is_weak(x):
        return random_order(source, as_size(name, x))
    tensor = as_tensor(x, op=name)
    axis = normalize_axis(name, tensor, axis)
    if source.ndim > 1:
        dtype_error(
            f"{name}: of a tensor takes one key, got {source.type}",
            [source, tensor],
            "permute numbers with several keys, then graphc.take_along_axis",
        )
    if not independent:
        return take(tensor, random_order(source, tensor.shape[axis]), axis=axis)
    draws = long_words(source, tensor.shape)
    order = ARGSORT(draws, axis=axis, descending=False)
    return take_along_axis(tensor, order, axis=axis)


def random_order(key: Tensor, size: Size) -> Tensor:
    """The positions 0 to size - 1 in random order, (*batch of keys, size)."""
    draws = long_words(key, (size,))
    return ARGSORT(draws, axis=draws.ndim - 1, descending=False)


def choice(
    key: Key,
    x: TensorLike | Size,
    shape: Any = (),
    *,
    replace: bool = True,
    probabilities: TensorLike | None = None,
    axis: int = 0,
) -> Tensor:
    """Elements of x along `axis` (for a size n: of 0 to n - 1) drawn at random, with the dims
    `shape` in place of the axis.

    replace=False: none comes twice. probabilities: of the elements, proportional (they need not sum
    to 1); uniform by default. Raises ShapeError where more are asked for than there are, or
    probabilities do not fit.

    graphc.random.choice(key, data, (32,), replace=False)
    """
    name = "random.choice"
    source = checked(name, key)
    sizes = as_shape(name, shape)
    if is_weak(x):
        count: Size = as_size(name, x)
        tensor = None
    else:
        tensor = as_tensor(x, op=name)
        axis = normalize_axis(name, tensor, axis)
        count = tensor.shape[axis]
    _enough(name, count, sizes, replace)
    weights = None
    if probabilities is not None:
        weights = as_tensor(probabilities, op=name)
        if weights.shape != (count,):
            shape_error(
                f"{name}: probabilities must have shape {shape_text((count,))}, got {weights.type}",
                [weights],
                "there is one for each element of the axis",
            )
        weights = weights if weights.dtype.is_float else cast(weights, float32)
    places = _places(source, count, sizes, replace, weights)
    return places if tensor is None else take(tensor, places, axis=axis)


def _enough(op: str, count: Size, sizes: Shape, replace: bool) -> None:
    """Raise ShapeError where a draw without replacement asks for more than there is."""
    if isinstance(count, int) and count == 0 and 0 not in sizes:
        shape_error(f"{op}: there is nothing to choose from", hint="the axis has size 0")
    if replace:
        return
    total: Size = 1
    for size in sizes:
        total = total * size
    if isinstance(total, int) and isinstance(count, int) and total > count:
        shape_error(
            f"{op}: cannot choose {total} of {count} without replacement",
            hint="ask for fewer, or replace=True",
        )


def _places(
    key: Tensor, count: Size, sizes: Shape, replace: bool, weights: Tensor | None
) -> Tensor:
    if not replace:
        if weights is None:
            order = random_order(key, count)
        else:
            # Gumbel's noise on logarithms: the order in which elements come without replacement.
            noise = standard_gumbel(key, (count,), weights.dtype)
            scores = add(cast(log(weights), noise.dtype), noise)
            order = ARGSORT(scores, axis=scores.ndim - 1, descending=True)
        total: Size = 1
        for size in sizes:
            total = total * size
        first = take_slice(order, order.ndim - 1, 0, total)
        return to_shape(first, (*key.shape[:-1], *sizes))
    if weights is None:
        return randint(key, 0, count, sizes)
    shares = cumulative_sum(cast(weights, weights.dtype.compute), axis=0)
    last = take_slice(shares, 0, count - 1, 1)
    last = to_shape(last, ())
    # A rounding up to the last share itself would lie behind the end.
    point = elementwise.minimum(multiply(unit(key, sizes, shares.dtype), last), nextafter(last, 0))
    return searchsorted(shares, point, side="right")


__all__ = ["bernoulli", "categorical", "choice", "permutation", "randint", "random_order"]
