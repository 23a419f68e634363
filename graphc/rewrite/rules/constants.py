"""Constants gathered (floor 3): several constants in a chain of sums or products become one.

ROUNDING: the order of two roundings changes. Overflow must not: so only constants whose partial
results stay on the same side of 1 (products), or far below the rounding unit of the largest number
(sums), are gathered.
"""

from __future__ import annotations

import math

from graphc.base.dtypes import FLOAT, INTEGER, DType
from graphc.ir.node import Tensor
from graphc.ops.elementwise import add, divide, multiply, subtract
from graphc.ops.promotion import as_tensor
from graphc.rewrite.pattern import (
    DOMAIN,
    EXACT,
    ROUNDING,
    Match,
    rule,
    rules_of,
    uniform,
    wildcards,
)
from graphc.rewrite.rules.algebra import SMALLEST_NORMAL

(x,) = wildcards("x")
a, c = wildcards("a c", constant=True)


def _pair(m: Match) -> tuple[float, float] | None:
    p, q = uniform(m.a), uniform(m.c)
    if p is None or q is None or not (math.isfinite(p) and math.isfinite(q)):
        return None
    return float(p), float(q)


def _small_terms(m: Match) -> bool:
    """Whether no sum with these constants can overflow where another order does not."""
    pair = _pair(m)
    if pair is None:
        return False
    # A quarter of the unit in the last place of the largest finite number: 2 ** (max exponent -
    # digits - 1).
    limit = {"float16": 2.0**3, "bfloat16": 2.0**118, "float32": 2.0**102, "float64": 2.0**969}
    return abs(pair[0]) + abs(pair[1]) < limit[m.x.dtype.name]


def _same_side(m: Match) -> bool:
    """Whether both factors enlarge or both shrink, and their product is a normal number."""
    pair = _pair(m)
    if pair is None:
        return False
    p, q = abs(pair[0]), abs(pair[1])
    return ((p >= 1 and q >= 1) or (0 < p <= 1 and 0 < q <= 1)) and _is_normal(p * q, m.x.dtype)


def _normal_product(m: Match) -> bool:
    pair = _pair(m)
    if pair is None:
        return False
    p, q = abs(pair[0]), abs(pair[1])
    return all(_is_normal(v, m.x.dtype) for v in (p, q, p * q))


def _is_normal(number: float, dtype: DType) -> bool:
    lowest = SMALLEST_NORMAL[dtype.name]
    return 2.0**lowest <= number < 2.0 ** (-lowest + 1)


@rule((x + a) + c, cls=ROUNDING, dtypes=FLOAT, where=_small_terms)
def gather_sum(m: Match) -> Tensor:
    """(x + a) + c = x + (a + c)"""
    return add(m.x, add(m.a, m.c))


@rule((x - a) + c, cls=ROUNDING, dtypes=FLOAT, where=_small_terms)
def gather_difference_sum(m: Match) -> Tensor:
    """(x - a) + c = x + (c - a)"""
    return add(m.x, subtract(m.c, m.a))


@rule((x + a) - c, cls=ROUNDING, dtypes=FLOAT, where=_small_terms)
def gather_sum_difference(m: Match) -> Tensor:
    """(x + a) - c = x + (a - c)"""
    return add(m.x, subtract(m.a, m.c))


@rule((x - a) - c, cls=ROUNDING, dtypes=FLOAT, where=_small_terms)
def gather_difference(m: Match) -> Tensor:
    """(x - a) - c = x - (a + c)"""
    return subtract(m.x, add(m.a, m.c))


@rule((x * a) * c, cls=ROUNDING, dtypes=FLOAT, where=_same_side)
def gather_product(m: Match) -> Tensor:
    """(x * a) * c = x * (a * c)"""
    return multiply(m.x, multiply(m.a, m.c))


@rule((x * a) * c, cls=DOMAIN, dtypes=FLOAT, where=_normal_product)
def gather_any_product(m: Match) -> Tensor:
    """(x * a) * c = x * (a * c), unless x * a overflows or underflows"""
    return multiply(m.x, multiply(m.a, m.c))


@rule((x / a) / c, cls=ROUNDING, dtypes=FLOAT, where=_same_side)
def gather_quotient(m: Match) -> Tensor:
    """(x / a) / c = x / (a * c)"""
    return divide(m.x, multiply(m.a, m.c))


@rule((x + a) + c, cls=EXACT, dtypes=INTEGER)
def gather_integer_sum(m: Match) -> Tensor:
    """(x + a) + c = x + (a + c): integers wrap"""
    return add(m.x, add(m.a, m.c))


@rule((x - a) - c, cls=EXACT, dtypes=INTEGER)
def gather_integer_difference(m: Match) -> Tensor:
    """(x - a) - c = x - (a + c): integers wrap"""
    return subtract(m.x, add(m.a, m.c))


@rule((x * a) * c, cls=EXACT, dtypes=INTEGER)
def gather_integer_product(m: Match) -> Tensor:
    """(x * a) * c = x * (a * c): integers wrap"""
    return multiply(m.x, multiply(m.a, m.c))


@rule(x / a, cls=ROUNDING, dtypes=FLOAT, ulps=2)
def divide_by_constant(m: Match) -> Tensor | None:
    """x / k = x * (1 / k) where k and 1 / k are ordinary numbers"""
    number = uniform(m.a)
    if number is None or not math.isfinite(number) or not 1e-3 <= abs(number) <= 1e3:
        return None
    return multiply(m.x, as_tensor(1.0 / float(number), like=m.a))


RULES = rules_of(globals())
