"""Inverses of the error functions (floor 2): `erfinv` and `erfcinv`, hence normal quantiles.

A closed form that is right to three digits (Winitzki, 2008: log(1 - erf(x)²) is nearly a rational
function of x²) is polished by Halley's steps on `erf` or `erfc`, whichever keeps its digits there.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.base.dtypes import float64
from graphc.ops.declaration import Domain, Unary, by_scalar, in_compute_dtype, unary
from graphc.ops.elementwise import chain_multiply
from graphc.ops.elementwise_math import exp, square

_SHARE = 0.147  # Winitzki's constant, which makes the largest relative error 2e-3


def _guess(s: Any, log_both: Any) -> Any:
    """The closed form, from log(1 - erf(x)²); written as a quotient, which does not cancel."""
    half = s.add(s.like(log_both, 2 / (math.pi * _SHARE)), s.mul(log_both, s.like(log_both, 0.5)))
    part = s.mul(log_both, s.like(log_both, -1 / _SHARE))
    return s.sqrt(s.div(part, s.add(s.sqrt(s.add(s.mul(half, half), part)), half)))


def _solve(s: Any, y: Any, q: Any, steps: int) -> Any:
    """The x >= 0 with erf(x) = y and erfc(x) = q, where y + q = 1 and each is given in full."""
    central = s.lt(y, s.like(y, 0.5))
    log_q = s.select(central, s.op("log1p", s.neg(y)), s.log(q))
    x = _guess(s, s.add(log_q, s.op("log1p", y)))
    tiny = s.like(x, 1e-300 if s.dtype_of(x) is float64 else 1e-37)
    for _ in range(steps):
        short = s.select(central, s.sub(y, s.op("erf", x)), s.sub(s.op("erfc", x), q))
        slope = s.mul(s.exp(s.neg(s.mul(x, x))), s.like(x, 2 / math.sqrt(math.pi)))
        newton = s.div(short, s.maximum(slope, tiny))
        x = s.add(x, s.div(newton, s.sub(s.like(x, 1.0), s.mul(x, newton))))
    # Where q is 0 the steps are NaN; y = 0 is its own inverse (the sign is given back later).
    x = s.select(s.eq(q, s.like(q, 0.0)), s.like(x, math.inf), x)
    return s.select(s.eq(y, s.like(y, 0.0)), y, x)


def _erfinv(s: Any, y: Any) -> Any:
    size = s.abs(y)
    steps = 3 if s.dtype_of(y) is float64 else 2
    return s.op("copysign", _solve(s, size, s.sub(s.like(y, 1.0), size), steps), y)


def _erfcinv(s: Any, q: Any) -> Any:
    """By the symmetry erfc(-x) = 2 - erfc(x), from q or 2 - q, the smaller one, which is exact."""
    one, two = s.like(q, 1.0), s.like(q, 2.0)
    right = s.le(q, one)
    nearer = s.select(right, q, s.sub(two, q))
    steps = 5 if s.dtype_of(q) is float64 else 4
    x = _solve(s, s.sub(one, nearer), nearer, steps)
    return s.select(right, x, s.neg(x))


erfinv: Unary = unary(
    "erfinv",
    in_compute_dtype(_erfinv),
    by_scalar(in_compute_dtype(_erfinv)),
    lambda g, out, y: chain_multiply(g, exp(square(out)) * (math.sqrt(math.pi) / 2)),
    doc="The x with erf(x) = y: -inf at -1, inf at 1, NaN outside of [-1, 1].",
    domain=Domain(-0.9, 0.9),
)
erfcinv: Unary = unary(
    "erfcinv",
    in_compute_dtype(_erfcinv),
    by_scalar(in_compute_dtype(_erfcinv)),
    lambda g, out, q: chain_multiply(g, exp(square(out)) * (-math.sqrt(math.pi) / 2)),
    doc="The x with erfc(x) = y: inf at 0, -inf at 2, NaN outside of [0, 2].",
    domain=Domain(0.1, 1.9),
)
