"""Powers, roots and steps between floats (floor 6), in the scalar language.

x**y = 2**(y log2 x), log2 x by the series of log((1 + s) / (1 - s)). float32 computes it in
float64. float64 needs log2 x to about 2**-66: its leading terms are sums of two floats (the scheme
of fdlibm's e_pow.c). Whether y is an odd integer, and C99's special values, are settled at the end.
"""

from __future__ import annotations

from typing import TypeVar

from graphc.backend import math_coefficients as fits
from graphc.backend.math_exponential import LN2, LOG2_E, clamp
from graphc.backend.math_language import (
    Term,
    copy_sign,
    fast_two_sum,
    fma,
    nearest,
    polynomial,
    scale,
    sign_mask,
    split,
    two_sum,
    where,
    with_sign_of,
)
from graphc.backend.math_logarithm import separate, separate_all
from graphc.base.dtypes import float32, float64
from graphc.ir.scalar import ScalarLanguage

V = TypeVar("V")

# 2 / (3 ln 2) and ln 2 in two parts; high parts of 26 bits make products with halves exact.
THIRD_LOG2_E = (0.9617967009544373, -7.028461650952758e-09)
LN2_HALVES = (0.6931471824645996, -1.904654299957768e-09)


def log2_of(size: Term[V]) -> tuple[Term[V], Term[V]]:
    """log2 of a positive finite float64 as a sum of two floats."""
    e, m = separate_all(size)
    f = m - 1.0
    below, below_rest = two_sum(m, m.like(1.0))
    inverse = 1.0 / below
    s = f * inverse
    s_high, _ = split(s)
    below_high, below_low = split(below)
    s_low = inverse * ((f - s_high * below_high) - s_high * (below_low + below_rest))
    z = s * s
    square = s_high * s_high
    rest = fma(z * z, polynomial(z, fits.POW_LOG_64), s_low * (s_high + s))
    # log(m) = 2/3 s (3 + s**2 + rest)
    sum_high, _ = split((square + 3.0) + rest)
    sum_low = rest - ((sum_high - 3.0) - square)
    product = s_high * sum_high
    product_rest = s_low * sum_high + sum_low * s
    high, _ = split(product + product_rest)
    low = product_rest - (high - product)
    scaled = high * THIRD_LOG2_E[0]
    scaled_rest = high * THIRD_LOG2_E[1] + low * (THIRD_LOG2_E[0] + THIRD_LOG2_E[1])
    total, lost = two_sum(e, scaled)
    return fast_two_sum(total, lost + scaled_rest)


def times(y: Term[V], high: Term[V], low: Term[V]) -> tuple[Term[V], Term[V]]:
    """y * (high + low) as a sum of two floats."""
    y_high, y_low = split(y)
    upper, lower = split(high)
    return fast_two_sum(y_high * upper, y_low * upper + y * (lower + low))


def exp2_of(high: Term[V], low: Term[V]) -> Term[V]:
    """2**(high + low) in float64."""
    bounded = clamp(high, -1080.0, 1030.0)
    inside = bounded.equals(high)
    n = nearest(bounded)
    r = where(inside, high - n, 0.0)
    tail = where(inside, low, 0.0)
    r_high, r_low = split(r)
    exact = r_high * LN2_HALVES[0]
    bend = r_low * LN2_HALVES[0] + r * LN2_HALVES[1] + tail * LN2
    t = exact + bend
    q = polynomial(t, fits.EXP_64)
    top, lost = fast_two_sum(t.like(1.0), exact)
    return scale(top + (lost + fma(t * t, q, bend)), n)


def magnitude(x: Term[V], y: Term[V]) -> Term[V]:
    """|x|**y for finite nonzero x and y."""
    # A larger exponent would only overflow further, and products of its halves are not to.
    bounded = clamp(y, -(2.0**64), 2.0**64)
    if x.wide:
        return exp2_of(*times(bounded, *log2_of(x)))
    return narrow_magnitude(x.cast(float64), bounded.cast(float64)).cast(float32)


def narrow_magnitude(x: Term[V], y: Term[V]) -> Term[V]:
    """x**y in float64 to the accuracy that a float32 result needs, in float32's range."""
    e, m = separate(x)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    series = fma(z, polynomial(z, fits.POW_LOG_NARROW_64), 2.0 * LOG2_E)
    power = clamp(y * fma(s, series, e.cast(float64)), -160.0, 140.0)
    n = nearest(power)
    r = power - n
    q = polynomial(r, fits.POW_EXP2_NARROW_64)
    return scale(fma(r * r, q, r * LN2) + 1.0, n)


def pow_(s: ScalarLanguage[V], base: V, exponent: V) -> V:
    """x**y with C99's special values (1 for y = 0 and for x = 1, even with NaN)."""
    x, y = Term(s, base), Term(s, exponent)
    size = abs(x)
    infinite = size.equals(float("inf"))
    zero = size.equals(0.0)
    plain = magnitude(where(zero | infinite, 1.0, size), y)
    at_limit = where(zero ^ (y < 0.0), x.like(0.0), float("inf"))
    result = where(zero | infinite, at_limit, plain)
    half = y * 0.5
    whole = y.call("round_even").equals(y)
    odd = whole & half.call("round_even").differs(half)
    invalid = (x < 0.0) & ~whole & ~infinite
    result = where(invalid & (abs(y) < float("inf")), float("nan"), result)
    result = where(odd, with_sign_of(result, x), result)
    result = where(x.differs(x) | y.differs(y), x + y, result)
    one = y.equals(0.0) | x.equals(1.0) | (x.equals(-1.0) & abs(y).equals(float("inf")))
    return where(one, 1.0, result).value


def hypot(s: ScalarLanguage[V], first: V, second: V) -> V:
    """sqrt(x**2 + y**2) without overflow or underflow on the way."""
    x, y = abs(Term(s, first)), abs(Term(s, second))
    if x.wide:
        larger, smaller = where(x > y, x, y), where(x > y, y, x)
        big, small = larger > 2.0**500, larger < 2.0**-450
        factor = where(big, x.like(2.0**-600), where(small, x.like(2.0**600), 1.0))
        inverse = where(big, x.like(2.0**600), where(small, x.like(2.0**-600), 1.0))
        a, b = larger * factor, smaller * factor
        result = fma(a, a, b * b).sqrt() * inverse
    else:
        a, b = x.cast(float64), y.cast(float64)
        result = fma(a, a, b * b).sqrt().cast(float32)
    infinite = x.equals(float("inf")) | y.equals(float("inf"))
    return where(infinite, float("inf"), result).value


def reciprocal_sqrt(s: ScalarLanguage[V], operand: V) -> V:
    """1 / sqrt(x)."""
    return (1.0 / Term(s, operand).sqrt()).value


def copysign(s: ScalarLanguage[V], size: V, sign: V) -> V:
    """The first operand with the sign of the second; any float dtype."""
    return copy_sign(Term(s, size), Term(s, sign)).value


def nextafter(s: ScalarLanguage[V], start: V, direction: V) -> V:
    """The next float from x towards y; any float dtype."""
    x, y = Term(s, start), Term(s, direction)
    pattern = x.bits()
    away = (y > x).equals(x > 0.0)
    stepped = pattern + where(away, pattern.like(1), -1)
    smallest = (y.bits() & sign_mask(x)) | 1
    result = where(x.equals(0.0), smallest, stepped).bitcast(x.dtype)
    result = where(x.equals(y), y, result)
    return where(x.differs(x) | y.differs(y), x + y, result).value
