"""Handler `NumpyScalar` (floor 1): the values that the scalar language means, on NumPy arrays.

References, constant folding and tests evaluate scalar bodies with it. A value is an array in the
reference form (`DType.numpy`) together with its DType, because bfloat16 travels as float32.
Integer results are exactly those that ir/scalar.py promises; arithmetic on floats is IEEE;
functions such as exp are computed in float64 and rounded, so that float32 has nearly no error.
Operands broadcast. Nothing here warns or raises because of a value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from graphc.base.dtypes import (
    Array,
    DType,
    bfloat16,
    bool_,
    from_storage,
    round_bfloat16,
    to_storage,
)
from graphc.ir.scalar import COMPARE, DOTS, PREDICATE, ScalarLanguage


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """An array in the reference form of `dtype`."""

    array: Array
    dtype: DType


def value(array: Any, dtype: DType) -> Value:
    """A `Value` of anything that NumPy makes an array of; bfloat16 is rounded."""
    data = np.asarray(array, dtype.numpy)
    return Value(round_bfloat16(data) if dtype is bfloat16 else data, dtype)


def evaluate(body: Callable[..., Value], operands: Sequence[tuple[Array, DType]]) -> Array:
    """`body(s, *operands)` on arrays: the array of the result, in its reference form."""
    return body(NumpyScalar(), *(value(a, d) for a, d in operands)).array


class NumpyScalar(ScalarLanguage[Value]):
    """The scalar language on arrays. `has_fma=False`: what fma means on targets without it."""

    def __init__(self, has_fma: bool = True) -> None:
        self.has_fma = has_fma

    def op(self, name: str, *operands: Value) -> Value:
        """Any regular method by name; operands have one dtype and broadcast."""
        dtype = operands[0].dtype
        assert all(o.dtype is dtype for o in operands), (name, [o.dtype.name for o in operands])
        arrays = [o.array for o in operands]
        with np.errstate(all="ignore"):
            if name in COMPARE or name in PREDICATE:
                return Value(np.asarray(_TESTS[name](*arrays)), bool_)
            if name == "fma":
                return self.fma(*operands)
            if name in DOTS:
                return self.dot(name, *operands)
            if dtype.is_float:
                return Value(_float_op(name, arrays, dtype), dtype)
            function = _INTEGER.get(name)
            if function is None:
                raise KeyError(f"the scalar language has no method {name!r} on {dtype.name}")
            return Value(np.asarray(function(*arrays), dtype.numpy), dtype)

    def constant(self, value: bool | int | float, dtype: DType) -> Value:
        """A 0-d array; floats are rounded to `dtype`, integers must fit."""
        with np.errstate(all="ignore"):
            if dtype.is_float:
                return Value(_round(np.asarray(value, np.float64), dtype), dtype)
            return Value(np.asarray(value, dtype.numpy), dtype)

    def dtype_of(self, x: Value) -> DType:
        """The dtype that the value carries."""
        return x.dtype

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """`np.where` on operands of one dtype."""
        assert condition.dtype is bool_, condition.dtype
        assert a.dtype is b.dtype, (a.dtype, b.dtype)
        return Value(np.where(condition.array, a.array, b.array), a.dtype)

    def cast(self, x: Value, dtype: DType) -> Value:
        """Convert; float to int saturates, NaN becomes 0, float64 to bfloat16 goes by float32."""
        if x.dtype is dtype:
            return x
        with np.errstate(all="ignore"):
            if dtype.is_float:
                return Value(_round(x.array, dtype), dtype)
            if x.dtype.is_float and dtype.is_integer:
                return Value(_saturate(x.array, dtype), dtype)
            return Value(x.array.astype(dtype.numpy), dtype)

    def bitcast(self, x: Value, dtype: DType) -> Value:
        """Reinterpret the stored bits."""
        assert x.dtype.bits == dtype.bits, (x.dtype, dtype)
        stored = np.ascontiguousarray(to_storage(x.array, x.dtype)).reshape(x.array.shape)
        return Value(from_storage(stored.view(dtype.storage), dtype), dtype)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, rounded once if `has_fma`."""
        with np.errstate(all="ignore"):
            compute = a.dtype.compute
            x, y, z = (v.array.astype(compute.numpy) for v in (a, b, c))
            # One method, one rounding to a 16-bit dtype, on every target.
            total = fused(x, y, z) if self.has_fma else x * y + z
            return Value(_round(total, a.dtype), a.dtype)


def _round(array: Array, dtype: DType) -> Array:
    if dtype is bfloat16:
        return round_bfloat16(array.astype(np.float32))
    return array.astype(dtype.numpy)


def _saturate(array: Array, dtype: DType) -> Array:
    info = np.iinfo(dtype.numpy)
    whole = np.trunc(array.astype(np.float64))
    # max + 1 is a power of two, hence exact in float64, where max itself may not be.
    above, below = whole >= math.ldexp(1.0, info.max.bit_length()), whole < float(info.min)
    inside = np.where(above | below | np.isnan(whole), 0.0, whole).astype(dtype.numpy)
    limits = np.array([info.max, info.min], dtype.numpy)
    return np.where(above, limits[0], np.where(below, limits[1], inside))


# -- floats --------------------------------------------------------------------------------------


def _float_op(name: str, arrays: list[Array], dtype: DType) -> Array:
    if name == "nextafter":
        return _nextafter(arrays[0], arrays[1], dtype)
    exact = _ARITHMETIC.get(name)
    if exact is not None:
        compute = dtype.compute.numpy
        return _round(np.asarray(exact(*(a.astype(compute, copy=False) for a in arrays))), dtype)
    function = _FUNCTIONS.get(name)
    if function is None:
        raise KeyError(f"the scalar language has no method {name!r} on {dtype.name}")
    wide = np.asarray(function(*(a.astype(np.float64, copy=False) for a in arrays)))
    # 16-bit floats round by way of float32, as compiled code does.
    return _round(wide.astype(dtype.compute.numpy, copy=False), dtype)


def _nextafter(x: Array, towards: Array, dtype: DType) -> Array:
    if dtype is not bfloat16:
        # NumPy's float16 keeps the first of two zeros, its other floats take the second, as C does.
        return np.asarray(np.where(x == towards, towards, np.nextafter(x, towards)))
    x, towards = np.broadcast_arrays(x, towards)
    bits = to_storage(x, bfloat16).astype(np.int32)
    up = towards > x
    step = np.where(up == (bits < 0x8000), 1, -1)
    stepped = np.where(x == 0, np.where(up, 0x0001, 0x8001), bits + step)
    result = from_storage(stepped.astype(np.uint16), bfloat16)
    same = np.where(x == towards, towards, result)
    return np.where(np.isnan(x) | np.isnan(towards), np.float32(np.nan), same)


def _is_odd(x: Array, bits: int) -> Array:
    mantissa, _ = np.frexp(x)
    return np.asarray(np.fmod(np.ldexp(mantissa, bits), 2) != 0)


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _add_to_odd(a: Array, b: Array, bits: int) -> Array:
    """a + b rounded to odd: a second rounding to at most bits - 2 bits is then a single one."""
    total, error = _two_sum(a, b)
    move = (error != 0) & np.isfinite(total) & ~_is_odd(total, bits)
    towards = np.where(error > 0, np.inf, -np.inf).astype(total.dtype)
    return np.asarray(np.where(move, np.nextafter(total, towards), total))


_WIDE_BITS: Final = np.finfo(np.longdouble).nmant + 1


def fused(a: Array, b: Array, c: Array) -> Array:
    """a * b + c of float32 or float64 arrays, rounded once."""
    if a.dtype == np.float32:
        wide = [v.astype(np.float64) for v in (a, b, c)]
        return _add_to_odd(wide[0] * wide[1], wide[2], 53).astype(np.float32)
    if _WIDE_BITS < 64:
        return np.asarray(np.frompyfunc(_fused_exactly, 3, 1)(a, b, c)).astype(np.float64)
    a, b, c = (v.astype(np.longdouble) for v in (a, b, c))
    high = a * b
    low = _product_error(a, b, high)
    plain = high + c
    t, t_error = _two_sum(c, low)
    v, v_error = _two_sum(high, t)
    odd = _add_to_odd(v, _add_to_odd(t_error, v_error, _WIDE_BITS), _WIDE_BITS)
    # The error terms are NaN where anything is infinite; exact zeros keep the plain sum's sign.
    keep_plain = ~np.isfinite(plain) | ((plain == 0) & (low == 0))
    return np.where(keep_plain, plain, odd).astype(np.float64)


def _product_error(a: Array, b: Array, product: Array) -> Array:
    """a * b - product, exactly (Dekker's product with Veltkamp's splitting)."""
    factor = np.longdouble(2) ** ((_WIDE_BITS + 1) // 2) + 1
    halves = []
    for x in (a, b):
        scaled = factor * x
        high = scaled - (scaled - x)
        halves.append((high, x - high))
    (ah, al), (bh, bl) = halves
    return np.asarray(((ah * bh - product) + ah * bl + al * bh) + al * bl)


def _fused_exactly(a: float, b: float, c: float) -> float:
    plain = float(np.float64(a) * np.float64(b) + np.float64(c))
    if not (math.isfinite(a) and math.isfinite(b)):
        return plain
    if not math.isfinite(c):
        return c
    (p, q), (r, s), (t, u) = a.as_integer_ratio(), b.as_integer_ratio(), c.as_integer_ratio()
    exact = p * r * u + t * q * s
    if exact == 0:
        return plain
    try:
        return exact / (q * s * u)  # of whole numbers: rounded once
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _elementwise(function: Callable[[float], float]) -> Callable[[Array], Array]:
    """A function of `math` on float64 arrays; where it raises, the infinity that C99 gives."""

    def one(x: float) -> float:
        try:
            return function(x)
        except (OverflowError, ValueError):
            return math.inf

    apply = np.frompyfunc(one, 1, 1)

    def on_array(x: Array) -> Array:
        return np.asarray(apply(x)).astype(np.float64)

    return on_array


def _digamma(x: Array) -> Array:
    """The logarithmic derivative of the gamma function, by recurrence and the asymptotic series."""
    original = x
    x = x.astype(np.longdouble)
    pi = np.longdouble("3.14159265358979323846264338327950288")
    negative = x < 0.5
    fraction = x - np.rint(x)
    reflected = np.where(negative, -pi / np.tan(pi * fraction), 0)
    x = np.where(negative, 1 - x, x)
    total = np.zeros_like(x)
    for _ in range(16):
        small = x < 16
        total = total - np.where(small, 1 / x, 0)
        x = np.where(small, x + 1, x)
    inverse = 1 / (x * x)
    series = np.zeros_like(x)
    # Bernoulli numbers B_2k / 2k, highest first.
    for top, bottom in ((-3617, 8160), (1, 12), (-691, 32760), (1, 132), (-1, 240), (1, 252)):
        series = (series + np.longdouble(top) / bottom) * inverse
    series = ((series - np.longdouble(1) / 120) * inverse + np.longdouble(1) / 12) * inverse
    result = (np.log(x) - 0.5 / x - series + total + reflected).astype(np.float64)
    pole = (original <= 0) & (original == np.floor(original))
    result = np.where(pole, np.nan, result)
    result = np.where(original == 0, np.copysign(np.inf, -original), result)
    return np.where(original == np.inf, np.inf, np.where(original == -np.inf, np.nan, result))


def _reciprocal_sqrt(x: Array) -> Array:
    return np.asarray(1 / np.sqrt(x))


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "neg": np.negative,
    "abs": np.abs,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round_even": np.rint,
    "sqrt": np.sqrt,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "copysign": np.copysign,
}

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "reciprocal_sqrt": _reciprocal_sqrt,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": _elementwise(math.erf),
    "erfc": _elementwise(math.erfc),
    "lgamma": _elementwise(math.lgamma),
    "digamma": _digamma,
    "pow": np.power,
    "atan2": np.arctan2,
    "hypot": np.hypot,
}


# -- integers and bool ---------------------------------------------------------------------------


def _integer_power(x: Array, n: Array) -> Array:
    """Wrapping power; for a negative exponent the exact power truncated toward zero."""
    positive = np.power(x, np.where(n < 0, 0, n).astype(n.dtype))
    if x.dtype.kind == "u":
        return np.asarray(positive)
    odd = np.where(n & 1, x, np.ones_like(x))
    inverse = np.where(x == 1, 1, np.where(x == -1, odd, 0))
    return np.where(n < 0, inverse, positive)


def _count_ones(x: Array) -> Array:
    # NumPy counts the bits of the absolute value: ask for those of the pattern.
    return np.asarray(
        np.bitwise_count(x.view(f"u{x.dtype.itemsize}") if x.dtype.kind == "i" else x)
    )


def _identity(x: Array) -> Array:
    return x


_INTEGER: dict[str, Callable[..., Any]] = {
    "neg": np.negative,
    "abs": np.abs,
    "floor": _identity,
    "ceil": _identity,
    "trunc": _identity,
    "round_even": _identity,
    "bit_not": np.invert,
    "count_ones": _count_ones,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "pow": _integer_power,
    "bit_and": np.bitwise_and,
    "bit_or": np.bitwise_or,
    "bit_xor": np.bitwise_xor,
    "shift_left": np.left_shift,
    "shift_right": np.right_shift,
}

_TESTS: dict[str, Callable[..., Any]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "signbit": np.signbit,
}
