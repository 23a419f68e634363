"""Random numbers (floor 8): functions of a key, the same on every device and for every number of
threads.

A key is a uint32 tensor of shape (2,), made by `key(seed)`. The same key always gives the same
numbers: draw once per key, and make new ones with `split` or `fold_in`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.base.dtypes import DType, DTypeLike, float64, int64, uint32, uint64
from graphc.ir.node import Tensor, as_index
from graphc.ir.opdef import dtype_error, shape_error
from graphc.ops import elementwise, elementwise_math, logical
from graphc.ops.axes import as_shape
from graphc.ops.joining import stack, take_slice
from graphc.ops.promotion import TensorLike, as_tensor, cast, to_dtype
from graphc.ops.random import RANDOM_BITS
from graphc.ops.reshape import to_shape

Key = TensorLike


def key(seed: int | TensorLike, /) -> Tensor:
    """The key of a seed: an int, or an integer tensor of shape () (a step counter, say)."""
    number = as_index(seed)
    if number is not None:
        words = np.array([number & 0xFFFFFFFF, (number >> 32) & 0xFFFFFFFF], np.uint32)
        return as_tensor(words)
    tensor = as_tensor(seed, op="random.key")
    if tensor.ndim or not tensor.dtype.is_integer:
        dtype_error(
            f"random.key: expected an int or an integer tensor of shape [], got {tensor.type}",
            [tensor],
        )
    wide = cast(tensor, uint64)
    high = logical.bitwise_right_shift(wide, 32)
    return stack([cast(wide, uint32), cast(high, uint32)])


def bits(key: Key, shape: Any = ()) -> Tensor:
    """Uniform uint32 words of a shape, whose sizes may be symbolic."""
    return RANDOM_BITS(_key(key), shape=as_shape("random.bits", shape))


def _key(key: Key) -> Tensor:
    tensor = as_tensor(key, op="random")
    if tensor.shape != (2,) or tensor.dtype is not uint32:
        hint = "make a key with graphc.random.key(seed)"
        dtype_error(f"random: a key must be u32[2], got {tensor.type}", [tensor], hint)
    return tensor


def split(key: Key, count: int = 2, /) -> tuple[Tensor, ...]:
    """`count` new keys out of one; do not use the old one any more."""
    words = bits(key, (count, 2))
    return tuple(to_shape(take_slice(words, 0, i, 1), (2,)) for i in range(count))


def fold_in(key: Key, data: TensorLike, /) -> Tensor:
    """A new key out of a key and an integer (a step counter or a layer's number, a tensor of shape
    () too).
    """
    number = cast(as_tensor(data, op="random.fold_in"), uint64)
    if number.ndim:
        shape_error(f"random.fold_in: data must be a single integer, got {number.type}", [number])
    low = cast(number, uint32)
    high = cast(logical.bitwise_right_shift(number, 32), uint32)
    mixed = logical.bitwise_xor(bits(key, (2,)), stack([low, high]))
    return bits(mixed, (2,))


def _float(op: str, dtype: DTypeLike) -> DType:
    kind = to_dtype(dtype, op)
    if not kind.is_float:
        dtype_error(
            f"{op}: expected a float dtype, got {kind}",
            hint="for integers use graphc.random.randint",
        )
    return kind


def _unit(key: Key, shape: Any, dtype: DType) -> Tensor:
    """Uniform in [0, 1), every value a multiple of 2**-24 (float64: 2**-53, from two words)."""
    sizes = as_shape("random.uniform", shape)
    if dtype is float64:
        pair = bits(key, (*sizes, 2))
        last = len(sizes)
        high = to_shape(take_slice(pair, last, 0, 1), sizes)
        low = to_shape(take_slice(pair, last, 1, 1), sizes)
        top = cast(logical.bitwise_right_shift(high, 5), float64)
        rest = cast(logical.bitwise_right_shift(low, 6), float64)
        return (top * 67108864.0 + rest) * 2.0**-53
    # As many bits as the dtype holds exactly: a rounding could give 1.
    digits = {"float16": 11, "bfloat16": 8}.get(dtype.name, 24)
    whole = logical.bitwise_right_shift(bits(key, sizes), 32 - digits)
    return cast(whole, dtype) * 2.0**-digits


def uniform(
    key: Key,
    shape: Any = (),
    low: TensorLike = 0.0,
    high: TensorLike = 1.0,
    *,
    dtype: DTypeLike = "float32",
) -> Tensor:
    """Uniform numbers in [low, high). Raises DTypeError for a dtype that is not float.

    graphc.random.uniform(graphc.random.key(0), (n, 3))
    """
    kind = _float("random.uniform", dtype)
    unit = _unit(key, shape, kind)
    if (type(low), low, type(high), high) == (float, 0.0, float, 1.0):
        return unit
    start = cast(as_tensor(low, like=kind), kind)
    return unit * (cast(as_tensor(high, like=kind), kind) - start) + start


def normal(
    key: Key,
    shape: Any = (),
    mean: TensorLike = 0.0,
    stddev: TensorLike = 1.0,
    *,
    dtype: DTypeLike = "float32",
) -> Tensor:
    """Normal numbers of a mean and a standard deviation, by Box and Muller's method."""
    kind = _float("random.normal", dtype)
    compute = kind.compute
    first, second = split(key, 2)
    # 1 - u lies in (0, 1]: its logarithm is finite.
    radius = elementwise_math.sqrt(-2.0 * elementwise_math.log1p(-_unit(first, shape, compute)))
    angle = (2.0 * math.pi) * _unit(second, shape, compute)
    standard = cast(radius * elementwise_math.cos(angle), kind)
    return standard * cast(as_tensor(stddev, like=kind), kind) + cast(
        as_tensor(mean, like=kind), kind
    )


def bernoulli(key: Key, probability: TensorLike = 0.5, shape: Any = None) -> Tensor:
    """True with the given probability (a number, or a tensor that broadcasts to `shape`, its own
    shape by default).
    """
    chance = as_tensor(probability, op="random.bernoulli")
    kind = chance.dtype if chance.dtype.is_float else float64
    sizes = chance.shape if shape is None else shape
    return logical.less(_unit(key, sizes, kind.compute), cast(chance, kind.compute))


def randint(
    key: Key, low: TensorLike, high: TensorLike, shape: Any = (), *, dtype: DTypeLike = "int64"
) -> Tensor:
    """Integers in [low, high), uniform up to a bias below (high - low) / 2**64."""
    kind = to_dtype(dtype, "random.randint")
    if not kind.is_integer:
        dtype_error(f"random.randint: expected an integer dtype, got {kind}")
    sizes = as_shape("random.randint", shape)
    pair = cast(bits(key, (*sizes, 2)), uint64)
    last = len(sizes)
    top = to_shape(take_slice(pair, last, 0, 1), sizes)
    rest = to_shape(take_slice(pair, last, 1, 1), sizes)
    word = logical.bitwise_or(logical.bitwise_left_shift(top, 32), rest)
    start = cast(as_tensor(low, like=int64), int64)
    span = cast(elementwise.subtract(cast(as_tensor(high, like=int64), int64), start), uint64)
    return cast(cast(elementwise.remainder(word, span), int64) + start, kind)


__all__ = ["bernoulli", "bits", "fold_in", "key", "normal", "randint", "split", "uniform"]
