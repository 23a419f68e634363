"""Exponentials and hyperbolic functions (floor 6), in the scalar language.

Reduction x = n ln 2 + r with a two-part ln 2 (Cody and Waite), a polynomial in r, and scaling by
2**n in two steps, so that results round once into the denormals. No operand needs a branch: NaN
falls through the comparisons, and operands beyond the range are clamped to where the result is 0
or infinity.
"""

from __future__ import annotations

from typing import TypeVar

from graphc.backend import math_coefficients as fits
from graphc.backend.math_language import (
    Term,
    choose,
    fma,
    nearest,
    polynomial,
    scale,
    two_to,
    where,
    with_sign_of,
)
from graphc.ir.scalar import ScalarLanguage

V = TypeVar("V")

LOG2_E = 1.4426950408889634
LN2 = 0.6931471805599453
# High parts with so few bits that n * high is exact for every n that occurs; low is the rest.
LN2_PARTS_32 = (0.693145751953125, 1.428606765330187e-06)
LN2_PARTS_64 = (0.6931471805601177, -1.7239444525614835e-13)


def ln2_parts(x: Term[V]) -> tuple[float, float]:
    """(high, low): ln 2 in two parts, n * high exact."""
    return LN2_PARTS_64 if x.wide else LN2_PARTS_32


def reduce_by_ln2(x: Term[V]) -> tuple[Term[V], Term[V], float]:
    """(n, near, low): x = n ln 2 + r with r = near - n * low; near is exact."""
    n = nearest(x * LOG2_E)
    high, low = ln2_parts(x)
    return n, fma(n, -high, x), low


def clamp(x: Term[V], low: float, high: float) -> Term[V]:
    """x within [low, high]; NaN stays."""
    x = where(x > high, high, x)
    return where(x < low, low, x)


def exp_parts(x: Term[V]) -> tuple[Term[V], Term[V]]:
    """(p, n): exp(x) = p * 2**n with p near 1, for finite x whose result is in range."""
    excess, n = exp_excess(x)
    return excess + 1.0, n


def exp_excess(x: Term[V], rest: Term[V] | None = None) -> tuple[Term[V], Term[V]]:
    """(q, n): exp(x + rest) = (1 + q) * 2**n, for the same x; the caller adds the 1."""
    n, near, low = reduce_by_ln2(x)
    r = fma(n, -low, near) if rest is None else near + (n * -low + rest)
    q = polynomial(r, choose(x, fits.EXP_32, fits.EXP_64))
    return fma(r * r, q, r), n


def exp(s: ScalarLanguage[V], operand: V) -> V:
    """e**x."""
    x = Term(s, operand)
    p, n = exp_parts(clamp(x, -746.0, 710.0) if x.wide else clamp(x, -105.0, 89.0))
    return scale(p, n).value


def exp2(s: ScalarLanguage[V], operand: V) -> V:
    """2**x; exact for integers."""
    x = Term(s, operand)
    x = clamp(x, -1076.0, 1025.0) if x.wide else clamp(x, -151.0, 129.0)
    n = nearest(x)
    r = x - n
    q = polynomial(r, choose(x, fits.EXP2_32, fits.EXP2_64))
    return scale(fma(r * r, q, r * LN2) + 1.0, n).value


def expm1_of(x: Term[V]) -> Term[V]:
    """e**x - 1."""
    reduced = clamp(x, -40.0, 710.0) if x.wide else clamp(x, -20.0, 89.0)
    n, near, low = reduce_by_ln2(reduced)
    correction = n * -low
    r = near + correction
    lost = (near - r) + correction
    q = polynomial(r, choose(x, fits.EXPM1_32, fits.EXPM1_64))
    rest = fma(r * r, q, lost)
    # (r + rest) 2**n + 2**n - 1, with 2**n in two factors: it may overflow before the sum does.
    half = nearest(n * 0.5)
    first, second = two_to(half), two_to(n - half)
    one = two_to(half - n)
    result = ((first - one) + (r + rest) * first) * second
    return where(x.equals(0.0), x, result)


def expm1(s: ScalarLanguage[V], operand: V) -> V:
    """e**x - 1, accurate near 0."""
    return expm1_of(Term(s, operand)).value


def tanh(s: ScalarLanguage[V], operand: V) -> V:
    """t / (t + 2) with t = e**2x - 1."""
    x = Term(s, operand)
    size = abs(x)
    # From here on the result rounds to 1.
    limit = 22.0 if x.wide else 11.0
    size = where(size > limit, limit, size)
    n, near, low = reduce_by_ln2(size + size)
    r = fma(n, -low, near)
    q = polynomial(r, choose(x, fits.EXPM1_32, fits.EXPM1_64))
    power = two_to(n)
    t = fma(fma(r * r, q, r), power, power - 1.0)
    return with_sign_of(t / (t + 2.0), x).value


def half_exp(size: Term[V]) -> Term[V]:
    """e**size / 2 for size >= 0, infinite only where the half is."""
    limit = 712.0 if size.wide else 91.0
    p, n = exp_parts(where(size > limit, limit, size))
    return scale(p, n - 1.0)


def sinh(s: ScalarLanguage[V], operand: V) -> V:
    """An odd polynomial below 1, else (e**x - e**-x) / 2."""
    x = Term(s, operand)
    size = abs(x)
    z = size * size
    small = fma(size * z, polynomial(z, choose(x, fits.SINH_32, fits.SINH_64)), size)
    half = half_exp(size)
    large = half - 0.25 / half
    return with_sign_of(where(size < 1.0, small, large), x).value


def cosh(s: ScalarLanguage[V], operand: V) -> V:
    """(e**x + e**-x) / 2."""
    half = half_exp(abs(Term(s, operand)))
    return (half + 0.25 / half).value
