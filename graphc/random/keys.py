"""Keys and the words drawn with them (floor 8): what every distribution starts from."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dims import Shape
from graphc.base.dtypes import DType, DTypeLike, float64, uint32, uint64
from graphc.ir.node import Tensor, as_index
from graphc.ir.opdef import dtype_error
from graphc.ops import elementwise, logical
from graphc.ops.axes import as_shape
from graphc.ops.joining import stack, take_slice
from graphc.ops.promotion import TensorLike, as_tensor, cast, to_dtype
from graphc.ops.random import RANDOM_BITS, RANDOM_LONG_BITS
from graphc.ops.reshape import to_shape

Key = TensorLike


def key(seed: int | TensorLike, /) -> Tensor:
    """The key of a seed: an int, or integers (a step counter, say): shape seed.shape + (2,).

    Of an int the lower 64 bits count. Raises DTypeError for what is no integer.
    """
    number = as_index(seed)
    if number is not None:
        words = np.array([number & 0xFFFFFFFF, (number >> 32) & 0xFFFFFFFF], np.uint32)
        return as_tensor(words)
    tensor = integers("random.key", seed, "expected an int or integers", "seed")
    return stack(_halves(tensor), axis=-1)


def integers(op: str, value: TensorLike, expectation: str, argument: str) -> Tensor:
    """Integers that the user gave. Raises DTypeError, which starts with the expectation, for
    others.
    """
    tensor = as_tensor(value, op=op)
    if not tensor.dtype.is_integer:
        dtype_error(
            f"{op}: {expectation}, got {tensor.type}",
            [tensor],
            f'convert them: graphc.astype({argument}, "int64")',
        )
    return tensor


def _halves(number: Tensor) -> list[Tensor]:
    """The lower and the upper 32 bits of integers."""
    wide = cast(number, uint64)
    return [cast(wide, uint32), cast(logical.bitwise_right_shift(wide, 32), uint32)]


def checked(op: str, key: Key) -> Tensor:
    """A key or an array of keys as a tensor. Raises DTypeError for anything else."""
    tensor = as_tensor(key, op=op)
    if not tensor.ndim or tensor.shape[-1] != 2 or tensor.dtype is not uint32:
        hint = "make a key with graphc.random.key(seed)"
        dtype_error(f"{op}: a key must be u32[2], or u32[…, 2], got {tensor.type}", [tensor], hint)
    return tensor


def words(key: Tensor, sizes: Shape) -> Tensor:
    """uint32 words of shape (*batch of keys, *sizes)."""
    return RANDOM_BITS(key, shape=sizes)


def long_words(key: Tensor, sizes: Shape) -> Tensor:
    """uint64 words of shape (*batch of keys, *sizes)."""
    return RANDOM_LONG_BITS(key, shape=sizes)


def bits(key: Key, shape: Any = ()) -> Tensor:
    """Uniform uint32 words of a shape, whose sizes may be symbolic."""
    return words(checked("random.bits", key), as_shape("random.bits", shape))


def split(key: Key, count: int = 2, /) -> tuple[Tensor, ...]:
    """`count` new keys out of one; do not use the old one any more."""
    drawn = words(checked("random.split", key), (count, 2))
    axis = drawn.ndim - 2
    shape = (*drawn.shape[:axis], 2)
    return tuple(to_shape(take_slice(drawn, axis, i, 1), shape) for i in range(count))


def fold_in(key: Key, data: TensorLike, /) -> Tensor:
    """New keys out of a key and integers (a step counter, a layer's number, rows of a data set).

    The shape is data.shape + (2,): one key per integer. An array of keys broadcasts with `data`.
    Raises DTypeError for data that are no integers.
    """
    number = integers("random.fold_in", data, "data must be integers", "data")
    both = stack(_halves(number), axis=-1)
    mixed = logical.bitwise_xor(words(checked("random.fold_in", key), (2,)), both)
    return words(mixed, (2,))


def float_kind(op: str, dtype: DTypeLike) -> DType:
    """A float dtype that the user named. Raises DTypeError for others."""
    kind = to_dtype(dtype, op)
    if not kind.is_float:
        dtype_error(
            f"{op}: expected a float dtype, got {kind}",
            hint="for integers use graphc.random.randint",
        )
    return kind


def asked(op: str, key: Key, shape: Any, dtype: DTypeLike) -> tuple[Tensor, Shape, DType]:
    """The key, the sizes and the float dtype of the draws that the user asked for, checked."""
    kind = float_kind(op, dtype)
    sizes = as_shape(op, shape)
    return checked(op, key), sizes, kind


def unit(key: Tensor, sizes: Shape, dtype: DType) -> Tensor:
    """Uniform in [0, 1), every value a multiple of 2**-24 (float64: 2**-53, from a 64-bit word)."""
    if dtype is float64:
        whole = logical.bitwise_right_shift(long_words(key, sizes), 11)
        return cast(whole, float64) * 2.0**-53
    # As many bits as the dtype holds exactly: a rounding could give 1.
    digits = {"float16": 11, "bfloat16": 8}.get(dtype.name, 24)
    whole = logical.bitwise_right_shift(words(key, sizes), 32 - digits)
    return cast(whole, dtype) * 2.0**-digits


def inner_unit(key: Tensor, sizes: Shape, dtype: DType) -> Tensor:
    """Uniform strictly between 0 and 1, in float32 or float64, with small values down to 2**-33
    (2**-54): tails that begin at 0 reach far.
    """
    if dtype is float64:
        middle = unit(key, sizes, dtype) + 2.0**-54
    else:
        middle = (cast(words(key, sizes), dtype) + 0.5) * 2.0**-32
    # The largest values round to 1: one step below it is as near.
    return elementwise.minimum(middle, 1.0 - (2.0**-53 if dtype is float64 else 2.0**-24))
