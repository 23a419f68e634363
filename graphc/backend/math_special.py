"""Error and gamma functions (floor 6), in the scalar language."""

from __future__ import annotations

from typing import TypeVar

from graphc.backend import math_coefficients as fits
from graphc.backend.math_exponential import exp_parts
from graphc.backend.math_language import (
    Term,
    choose,
    fma,
    polynomial,
    power_of_two,
    where,
    with_sign_of,
)
from graphc.ir.scalar import ScalarLanguage

V = TypeVar("V")


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
    large = 1.0 - p * power_of_two(n, x)
    return with_sign_of(where(size < 1.0, small, large), x).value
