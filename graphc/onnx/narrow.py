"""Element types of 8 bits and less that graphc has no dtype for (floor 8), carried exactly.

Floats of 8 and 4 bits are carried as their codes in uint8, integers of 4 and 2 bits as numbers in
int8 and uint8. What leaves or enters a graph is these; inside, a few operators (Cast, Quantize,
Dequantize) know them, and all others refuse them by name.

The codes of one sign are ordered like the numbers, so rounding to the nearest is a search among the
middles of neighbours: a number right in the middle goes to the even code.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

import graphc
from graphc.base.dtypes import Array, DType, int8, uint8
from graphc.ir.node import Tensor
from graphc.onnx.values import TensorValue


@dataclass(frozen=True)
class Format:
    """A float of few bits. last: the code of the largest number; nan, infinity: codes, if any;
    unsigned_zero: there is no -0 (its code is the NaN).
    """

    exponent_bits: int
    mantissa_bits: int
    bias: int
    last: int
    nan: int
    infinity: int | None = None
    unsigned_zero: bool = False

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.exponent_bits + self.mantissa_bits)


# The limits are those of the OCP and the "fnuz" formats that ONNX names; a 4-bit float has no NaN,
# and what is none becomes -0.
FORMATS = {
    17: Format(4, 3, 7, 0x7E, 0x7F),
    18: Format(4, 3, 8, 0x7F, 0x80, unsigned_zero=True),
    19: Format(5, 2, 15, 0x7B, 0x7E, infinity=0x7C),
    20: Format(5, 2, 16, 0x7F, 0x80, unsigned_zero=True),
    23: Format(2, 1, 1, 0x07, 0x08),
}
POWERS = 24  # float8e8m0: powers of two alone
INTEGERS = {21: (uint8, 4), 22: (int8, 4), 25: (uint8, 2), 26: (int8, 2)}
CARRIED: dict[int, DType] = {
    **dict.fromkeys(FORMATS, uint8),
    POWERS: uint8,
    **{element: dtype for element, (dtype, _) in INTEGERS.items()},
}


def limits_of(element: int) -> tuple[int, int]:
    """The least and the largest number of an integer type of few bits."""
    dtype, bits = INTEGERS[element]
    if dtype is uint8:
        return 0, (1 << bits) - 1
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


@functools.cache
def _magnitudes(element: int) -> Array:
    """The numbers of the codes without sign, in float64."""
    kind = FORMATS[element]
    codes = np.arange(kind.last + 1)
    exponent, mantissa = codes >> kind.mantissa_bits, codes & ((1 << kind.mantissa_bits) - 1)
    part = mantissa / 2.0**kind.mantissa_bits
    found: Array = np.where(
        exponent == 0,
        part * 2.0 ** (1 - kind.bias),
        (1 + part) * 2.0 ** (exponent - kind.bias),
    )
    return found


@functools.cache
def _table(element: int) -> Array:
    """The number of every code, in float32."""
    if element == POWERS:
        with np.errstate(over="ignore"):
            powers = (2.0 ** (np.arange(256) - 127.0)).astype(np.float32)
        powers[255] = np.nan
        return powers
    kind = FORMATS[element]
    found = np.full(2 * kind.sign, np.nan, np.float32)
    for sign, start in ((1, 0), (-1, kind.sign)):
        numbers = sign * _magnitudes(element)
        found[start : start + numbers.size] = numbers
        if kind.infinity is not None:
            found[start + kind.infinity] = sign * np.inf
    if kind.unsigned_zero:
        found[kind.nan] = np.nan
    return found


def numbers_of(value: TensorValue) -> Tensor:
    """What a value holds, as numbers of a dtype of graphc: floats of few bits in float32."""
    if value.element in FORMATS or value.element == POWERS:
        return graphc.take(_table(value.element), value.tensor, axis=0)
    return value.tensor


def carried(
    x: Tensor, element: int, *, saturate: bool = True, round_mode: str = "up"
) -> TensorValue:
    """Numbers as a type of few bits.

    Floats are rounded to the nearest, halves to even; what is too large becomes the largest number
    (saturate), else an infinity or NaN. Integers keep their low bits.
    """
    if element in INTEGERS:
        return TensorValue(_low_bits(x, element), element=element)
    x = x if x.dtype.name in ("float32", "float64") else graphc.astype(x, "float32")
    if element == POWERS:
        code = _power(graphc.astype(x, "float32"), saturate, round_mode)
    else:
        code = _rounded(x, element, saturate or element == 23)
    return TensorValue(graphc.astype(code, "uint8"), element=element)


def carried_array(array: Array, element: int) -> Array:
    """An array of the `ml_dtypes` type (or already of what carries it) as it is carried."""
    if element in INTEGERS:
        return np.array(array.astype(INTEGERS[element][0].numpy))
    return np.array(array).view(np.uint8) if array.dtype.itemsize == 1 else np.array(array, "u1")


def _low_bits(x: Tensor, element: int) -> Tensor:
    dtype, bits = INTEGERS[element]
    low = graphc.bitwise_and(graphc.astype(x, "int32"), (1 << bits) - 1)
    if dtype is int8:
        half = 1 << (bits - 1)
        low = graphc.bitwise_xor(low, half) - half
    return graphc.astype(low, dtype)


def _rounded(x: Tensor, element: int, saturate: bool) -> Tensor:
    kind = FORMATS[element]
    numbers = _magnitudes(element)
    beyond = 2 * numbers[-1] - numbers[-2]
    middles = ((np.append(numbers, beyond)[1:] + numbers) / 2).astype(x.dtype.numpy)
    size = graphc.abs(x)
    below = graphc.searchsorted(middles, size, side="left")
    above = graphc.searchsorted(middles, size, side="right")
    odd = graphc.not_equal(graphc.bitwise_and(below, 1), 0)
    code = graphc.where(graphc.not_equal(above, below) & odd, above, below)
    negative = graphc.signbit(x)
    if saturate:
        code = graphc.minimum(code, kind.last)
    elif kind.infinity is not None:
        code = graphc.where(code > kind.last, kind.infinity, code)
    is_nan = graphc.isnan(x)
    if not saturate and kind.infinity is None:
        is_nan = is_nan | (code > kind.last)
    if kind.unsigned_zero:
        negative = negative & (code > 0)
    signed = graphc.where(negative, code + kind.sign, code)
    return graphc.where(is_nan, kind.nan, signed)


def _power(x: Tensor, saturate: bool, round_mode: str) -> Tensor:
    """The exponent of a float32, rounded up, down or to the nearest power of two."""
    bits = graphc.astype(graphc.bitcast(x, "uint32"), "int64")
    exponent = graphc.bitwise_and(graphc.bitwise_right_shift(bits, 23), 0xFF)
    fraction = graphc.bitwise_and(bits, 0x7FFFFF)
    if round_mode == "up":
        more = fraction > 0
    elif round_mode == "nearest":
        # A half goes up, but for the smallest power, whose code is even.
        more = (fraction > 0x400000) | (graphc.equal(fraction, 0x400000) & (exponent > 0))
    else:
        more = graphc.zeros_like(fraction, dtype="bool")
    if saturate:
        more = more & (exponent < 0xFE)
    special = graphc.equal(exponent, 0xFF)
    return graphc.where(special, 0xFF, exponent + graphc.astype(more, "int64"))
