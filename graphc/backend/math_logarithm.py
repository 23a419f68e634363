"""Logarithms and inverse hyperbolic functions (floor 6), in the scalar language.

x = 2**e * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)). float32 uses a polynomial in f; float64 the
series of log((1 + s) / (1 - s)) in s = f / (2 + f), which is half as long (fdlibm's form). e ln 2
is added in two parts, of which e times the first is exact.
"""

from __future__ import annotations

from typing import TypeVar

from graphc.backend import math_coefficients as fits
from graphc.backend.math_exponential import ln2_parts
from graphc.backend.math_language import (
    Term,
    bias,
    choose,
    copy_sign,
    fma,
    mantissa_bits,
    polynomial,
    split,
    two_sum,
    where,
    with_sign_of,
)
from graphc.ir.scalar import ScalarLanguage

V = TypeVar("V")

# Patterns of the floats nearest to sqrt(1/2).
SQRT_HALF_32 = 0x3F3504F3
SQRT_HALF_64 = 0x3FE6A09E667F3BCD
INVERSE_LN2_PARTS = (1.4426950365304947, 4.3584687174185184e-09)
INVERSE_LN10_PARTS = (0.434294480830431, 1.0728208431540585e-09)
LOG10_2_PARTS_32 = (0.301025390625, 4.605039066518657e-06)
LOG10_2_PARTS_64 = (0.3010299956640665, -8.532344317057107e-14)


def separate(x: Term[V]) -> tuple[Term[V], Term[V]]:
    """(e as integer, m): x = 2**e * m, m in [sqrt(1/2), sqrt(2)), for positive normal x."""
    bits = x.bits()
    e = (bits - (SQRT_HALF_64 if x.wide else SQRT_HALF_32)) >> mantissa_bits(x)
    return e, (bits - (e << mantissa_bits(x))).bitcast(x.dtype)


def separate_all(x: Term[V]) -> tuple[Term[V], Term[V]]:
    """(e as float, m) as `separate`, denormals included."""
    shift = mantissa_bits(x) + 1
    tiny = x < 2.0 ** (1 - bias(x))
    e, m = separate(where(tiny, x * 2.0**shift, x))
    exponent = e.cast(x.dtype)
    return where(tiny, exponent - float(shift), exponent), m


def specials(x: Term[V], result: Term[V]) -> Term[V]:
    """log's answers outside (0, inf): -inf at 0, NaN below, +inf at +inf, NaN at NaN."""
    result = where(x < float("inf"), result, x)
    result = where(x.equals(0.0), float("-inf"), result)
    return where(x < 0.0, float("nan"), result)


def log_series(f: Term[V]) -> tuple[Term[V], Term[V]]:
    """(half, series): log(1 + f) = f - (half - series), half = f**2 / 2."""
    square = f * f
    half = square * 0.5
    if not f.wide:
        return half, square * f * polynomial(f, fits.LOG_32)
    quotient = f / (f + 2.0)
    z = quotient * quotient
    return half, quotient * fma(z, polynomial(z, fits.LOG_BY_QUOTIENT_64), half)


def log_of(e: Term[V], f: Term[V]) -> Term[V]:
    """e ln 2 + log(1 + f)."""
    high, low = ln2_parts(f)
    half, series = log_series(f)
    return fma(e, high, f - (half - fma(e, low, series)))


def log_in_base(
    x: Term[V], factor: tuple[float, float], per_octave: tuple[float, float]
) -> Term[V]:
    """log(x) * factor in float64, both numbers in two parts (the scheme of fdlibm's e_log2.c)."""
    e, m = separate_all(x)
    f = m - 1.0
    half, series = log_series(f)
    high, _ = split(f - half)
    low = (f - high) - half + series
    product = high * factor[0]
    rest = fma(low, factor[0], (low + high) * factor[1])
    total, lost = two_sum(e * per_octave[0], product)
    return specials(x, total + (fma(e, per_octave[1], rest) + lost))


def log(s: ScalarLanguage[V], operand: V) -> V:
    """The natural logarithm."""
    x = Term(s, operand)
    e, m = separate_all(x)
    return specials(x, log_of(e, m - 1.0)).value


def log2(s: ScalarLanguage[V], operand: V) -> V:
    """The logarithm to base 2; exact for powers of two."""
    x = Term(s, operand)
    if x.wide:
        return log_in_base(x, INVERSE_LN2_PARTS, (1.0, 0.0)).value
    e, m = separate_all(x)
    f = m - 1.0
    return specials(x, e + fma(f, polynomial(f, fits.LOG2_32), f)).value


def log10(s: ScalarLanguage[V], operand: V) -> V:
    """The logarithm to base 10."""
    x = Term(s, operand)
    if x.wide:
        return log_in_base(x, INVERSE_LN10_PARTS, LOG10_2_PARTS_64).value
    e, m = separate_all(x)
    f = m - 1.0
    high, low = LOG10_2_PARTS_32
    # The polynomial is log10(1 + f) / f - 1/2: f / 2 is exact, and the rest rounds finer.
    rest = fma(f, polynomial(f, fits.LOG10_32), e * low)
    return specials(x, fma(e, high, fma(f, 0.5, rest))).value


def log_of_sum(high: Term[V], low: Term[V], octaves: Term[V] | None = None) -> Term[V]:
    """log(high + low) + octaves * ln 2; high positive, no denormal, low within an ulp of it."""
    n, m = separate(high)
    # The rest in the scale of m. Where 2**-n is no normal number the rest is too small to matter.
    inverse = ((bias(high) - n) << mantissa_bits(high)).bitcast(high.dtype)
    rest = where(high < 2.0 ** (bias(high) - 1), low * inverse, 0.0)
    e = n.cast(high.dtype)
    result = log_of(e if octaves is None else e + octaves, (m - 1.0) + rest)
    return where(high < float("inf"), result, high)


def log1p_of(x: Term[V]) -> Term[V]:
    """log(1 + x)."""
    total, lost = two_sum(x.like(1.0), x)
    result = log_of_sum(total, lost)
    result = where(x <= -1.0, where(x < -1.0, x.like(float("nan")), float("-inf")), result)
    return where(x.equals(0.0), x, result)


def log1p(s: ScalarLanguage[V], operand: V) -> V:
    """log(1 + x), accurate near 0."""
    return log1p_of(Term(s, operand)).value


def asinh(s: ScalarLanguage[V], operand: V) -> V:
    """log(x + sqrt(x**2 + 1)) as log1p(x + x**2 / (1 + sqrt(x**2 + 1))); log 2x for large x."""
    x = Term(s, operand)
    size = abs(x)
    large = size > _doubling(x)
    z = size * size
    total, lost = two_sum(x.like(1.0), size + z / ((z + 1.0).sqrt() + 1.0))
    result = log_or_log_twice(large, size, total, lost)
    return copy_sign(where(x.equals(0.0), size, result), x).value


def acosh(s: ScalarLanguage[V], operand: V) -> V:
    """log(x + sqrt(x**2 - 1)) as log1p(t + sqrt(2t + t**2)), t = x - 1; log 2x for large x."""
    x = Term(s, operand)
    large = x > _doubling(x)
    t = x - 1.0
    total, lost = two_sum(x.like(1.0), t + fma(t, t, t + t).sqrt())
    result = log_or_log_twice(large, x, total, lost)
    return where(x < 1.0, float("nan"), result).value


def log_or_log_twice(large: Term[V], x: Term[V], total: Term[V], lost: Term[V]) -> Term[V]:
    """log(2x) where `large`, else log(total + lost)."""
    octaves = where(large, x.like(1.0), 0.0)
    return log_of_sum(where(large, x, total), where(large, 0.0, lost), octaves)


def _doubling(x: Term[V]) -> float:
    """Beyond it sqrt(x**2 +- 1) + x is 2x."""
    return 2.0**28 if x.wide else 2.0**14


def atanh(s: ScalarLanguage[V], operand: V) -> V:
    """An odd polynomial below 1/2, else log1p(2x / (1 - x)) / 2."""
    x = Term(s, operand)
    size = abs(x)
    z = size * size
    small = fma(size * z, polynomial(z, choose(x, fits.ATANH_32, fits.ATANH_64)), size)
    total, lost = two_sum(x.like(1.0), (size * 2.0) / (1.0 - size))
    large = where(size > 1.0, float("nan"), log_of_sum(total, lost) * 0.5)
    return with_sign_of(where(size < 0.5, small, large), x).value
