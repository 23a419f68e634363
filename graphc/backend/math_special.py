"""Error and gamma functions (floor 6), in the scalar language.

erf and erfc are native in both float widths. lgamma and digamma of float32 are computed in float64.
Fits cover one interval each; recurrences and reflections (Abramowitz and Stegun, chapters 6 and 7)
lead there. Sums of logarithms become one logarithm of a product, sums of reciprocals one quotient.
"""

from __future__ import annotations

from typing import TypeVar

from graphc.backend import math_coefficients as fits
from graphc.backend.math_exponential import exp_excess, exp_parts
from graphc.backend.math_language import (
    Term,
    choose,
    fma,
    nearest_integer,
    polynomial,
    scale,
    split,
    two_product,
    where,
    with_sign_of,
)
from graphc.backend.math_logarithm import log_of, separate_all
from graphc.backend.math_trigonometric import HALF_PI, sin_cos
from graphc.base.dtypes import float64
from graphc.ir.scalar import ScalarLanguage

V = TypeVar("V")

PI = 3.141592653589793
HALF_LOG_2PI = 0.9189385332046727
ERFC_LOW_32 = 0.078125  # below 1 / (x + 2) for every x up to 10.25
DIGAMMA_ROOT = (1.4616321449683622, 9.549995429965697e-17)
# From here on the asymptotic series are used.
STIRLING_FROM = 7.5
DIGAMMA_TAIL_FROM = 3.5


def erf(s: ScalarLanguage[V], operand: V) -> V:
    """An odd polynomial up to 1, else 1 - e**-p(x) with p fitted to -log(erfc)."""
    x = Term(s, operand)
    size = abs(x)
    z = size * size
    small = fma(size, polynomial(z, choose(x, fits.ERF_32, fits.ERF_64)), size)
    # Where the result rounds to 1 the polynomial need not follow.
    limit = 6.0 if x.wide else 4.0
    bounded = where(size > limit, limit, size)
    p, n = exp_parts(-polynomial(bounded, choose(x, fits.LOG_ERFC_32, fits.LOG_ERFC_64)))
    large = 1.0 - scale(p, n)
    return with_sign_of(where(size < 1.0, small, large), x).value


def erfc(s: ScalarLanguage[V], operand: V) -> V:
    """e**(-x**2) times a polynomial in a quotient that maps the range to a short interval."""
    x = Term(s, operand)
    return (wide_erfc(x) if x.wide else narrow_erfc(x)).value


def wide_erfc(x: Term[V]) -> Term[V]:
    """erfc of a float64; 1 - erf(x) for small x."""
    size = abs(x)
    z, z_rest = two_product(size, size)
    small = fma(size, polynomial(z, fits.ERF_64), size)
    # Beyond 27.3 the result rounds to 0; e**-x**2 must stay above the clamp of its scaling.
    limit = 27.5
    beyond = size > limit
    bounded = where(beyond, limit, size)
    ratio = (bounded - 4.0) / (bounded + 4.0)
    quotient = polynomial(ratio, fits.ERFC_64) / fma(bounded, 2.0, 1.0)
    exponent = where(beyond, -(limit * limit), -z)
    excess, n = exp_excess(exponent, where(beyond, 0.0, -z_rest))
    tail = scale(fma(quotient, excess, quotient), n)
    negative = x < 0.0
    inner = where(negative, 1.0 + small, 1.0 - small)
    outer = where(negative, 2.0 - tail, tail)
    return where(size < 0.47, inner, outer)


def narrow_erfc(x: Term[V]) -> Term[V]:
    """erfc of a float32, all of the range by one polynomial in 1 / (|x| + 2).

    The result is twice as sensitive to that quotient as the quotient to its rounding, so it is
    taken to more digits than a float has: with high and low parts by `split`, products of high
    parts are exact, on targets without fma as well.
    """
    size = abs(x)
    bounded = where(size > 10.2, 10.2, size)  # from 10.1 on the result rounds to 0
    total = bounded + 2.0
    total_high, _ = split(total)
    high = total_high - 2.0
    low = bounded - high  # with what the sum lost
    ratio, _ = split(1.0 / total)
    # 1 / total = ratio (1 + e + e**2 + ...), |e| <= 2**-11.
    e = (1.0 - ratio * total_high) - ratio * low
    quotient = polynomial(fma(ratio, fma(e, e, e), ratio - ERFC_LOW_32), fits.ERFC_32)
    # x**2 = high**2 + (x + high) (x - high), the first product exact.
    excess, n = exp_excess(-(high * high), (bounded + high) * -low)
    tail = scale(fma(quotient, excess, quotient), n)
    return where(x < 0.0, 2.0 - tail, tail)


def log_positive(x: Term[V]) -> Term[V]:
    """log x for finite positive x, denormals included."""
    e, m = separate_all(x)
    return log_of(e, m - 1.0)


def lgamma_positive(x: Term[V]) -> Term[V]:
    """lgamma for finite x > 0."""
    stirling = x >= STIRLING_FROM
    # x = 7/4 + steps + t: the fit at 7/4 + t, then one logarithm for the steps from there to x.
    # The zeros at 1 and 2 stay exact: `zero` is x - 1 or x - 2 next to them.
    steps = (where(stirling, 1.75, x) - 1.75).call("round_even")
    zero = x - (steps + 2.0)
    near = zero * polynomial(zero + 0.25, fits.LGAMMA_64)
    product = x.like(1.0)
    for k in range(1, 7):
        product = where(steps >= float(k), product * (x - float(k)), product)
    below = steps < 0.0
    product = where(below, where(steps < -1.0, x * (x + 1.0), x), product)
    logarithm = log_positive(where(stirling, x, product))
    low = where(below, near - logarithm, near + logarithm)
    inverse = 1.0 / x
    series = inverse * polynomial(inverse * inverse, fits.STIRLING_64)
    # (x - 1/2) log x - x + log(2 pi) / 2 + series, with the two large terms joined first.
    high = (x - 0.5) * (logarithm - 1.0) + (series + (HALF_LOG_2PI - 0.5))
    return where(stirling, high, low)


def sin_cos_pi(x: Term[V]) -> tuple[Term[V], Term[V]]:
    """(|sin pi x|, the tangent of pi x) of a finite float64."""
    d = x - x.call("round_even")
    twice = d + d
    steps, n = nearest_integer(twice)
    rest = twice - steps
    r = rest * HALF_PI[0]
    sine, cosine = sin_cos(r, rest * HALF_PI[1])
    odd = (n & 1).differs(0)
    return abs(where(odd, cosine, sine)), where(odd, -cosine, sine) / where(odd, sine, cosine)


def lgamma(s: ScalarLanguage[V], operand: V) -> V:
    """log |gamma(x)|; infinite at 0, -1, -2 … and at both infinities."""
    x = Term(s, operand)
    wide = x.cast(float64)
    size = abs(wide)
    finite = size < float("inf")
    usable = where(finite & (size > 0.0), size, 1.0)
    positive = lgamma_positive(usable)
    # gamma(x) gamma(-x) = -pi / (x sin(pi x)); next to 0 it is 1 / x**2, which would overflow.
    sine, _ = sin_cos_pi(usable)
    reflected = log_positive(PI / where(sine.equals(0.0), 1.0, usable * sine)) - positive
    reflected = where(size < 2.0**-60, positive, reflected)
    reflected = where(size.equals(size.call("round_even")), float("inf"), reflected)
    result = where(wide < 0.0, reflected, positive)
    result = where(finite & (size > 0.0), result, where(wide.differs(wide), wide, float("inf")))
    return result.cast(x.dtype).value


def digamma_positive(x: Term[V]) -> Term[V]:
    """digamma for finite x > 0."""
    asymptotic = x >= DIGAMMA_TAIL_FROM
    # x = 3/2 + steps + t: the fit at 3/2 + t, then one quotient for the reciprocals on the way.
    steps = (where(asymptotic, 1.5, x) - 1.5).call("round_even")
    base = x - steps
    t = base - 1.5
    near = ((base - DIGAMMA_ROOT[0]) - DIGAMMA_ROOT[1]) * polynomial(t, fits.DIGAMMA_64)
    numerator, denominator = x.like(0.0), x.like(1.0)
    for k in (1, 2):
        term = x - float(k)
        reached = steps >= float(k)
        numerator = where(reached, fma(numerator, term, denominator), numerator)
        denominator = where(reached, denominator * term, denominator)
    below, twice_below = steps < 0.0, steps < -1.0
    numerator = where(below, where(twice_below, -(x + x + 1.0), -1.0), numerator)
    denominator = where(below, where(twice_below, x * (x + 1.0), x), denominator)
    inverse = 1.0 / x
    z = inverse * inverse
    high = log_positive(x) - (inverse * 0.5 + z * polynomial(z, fits.DIGAMMA_TAIL_64))
    return where(asymptotic, high, near + numerator / denominator)


def digamma(s: ScalarLanguage[V], operand: V) -> V:
    """The derivative of lgamma; NaN at negative integers, an infinity of the other sign at 0."""
    x = Term(s, operand)
    wide = x.cast(float64)
    size = abs(wide)
    negative = wide < 0.0
    finite = size < float("inf")
    usable = where(finite & (size > 0.0), wide, 1.0)
    positive = digamma_positive(where(negative, 1.0 - usable, usable))
    _, tangent = sin_cos_pi(usable)
    result = where(negative, positive - PI / tangent, positive)
    pole = negative & wide.equals(wide.call("round_even"))
    result = where(pole, float("nan"), result)
    result = where(size.equals(0.0), with_sign_of(size.like(float("inf")), -wide), result)
    result = where(finite, result, where(negative, float("nan"), wide))
    return result.cast(x.dtype).value
