"""Steps of random graphs: elementwise work on floats, integers and bools, casts, selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import graphc
from graphc.base.dtypes import FLOAT, INTEGER, bool_, float32, float64
from tests.fuzz.building import Builder, Value, fits

Unary = tuple[Callable[[Any], Any], bool, float]


def unary(b: Builder) -> int:
    """One function of a float."""
    v = b.pick_float()
    if v is None:
        return 0
    e, m = v.exact, v.bound
    options: list[Unary] = [
        (graphc.tanh, False, 1),
        (graphc.sin, False, 1),
        (graphc.cos, False, 1),
        (graphc.sigmoid, False, 1),
        (lambda t: graphc.exp(graphc.minimum(t, 2.0)), False, 8),
        (lambda t: graphc.log1p(abs(t)), False, 4),
        (lambda t: graphc.sqrt(abs(t) + 0.5), False, m),
        (graphc.negative, e, m),
        (graphc.abs, e, m),
        (graphc.square, False, m**2),
        (lambda t: t * 0.5, False, m),
        (lambda t: 1.0 - t, False, m + 1),
        (lambda t: t + t, e, m * 2),
        (graphc.softplus, False, m + 1),
        (graphc.erf, False, 1),
        (lambda t: graphc.log(abs(t) + 1.0), False, 4),
        (lambda t: graphc.expm1(graphc.minimum(t, 3.0)), False, 20),
        (lambda t: graphc.maximum(t, 0.0), e, m),
        (graphc.atan, False, 2),
        (lambda t: t / 3.0, False, m),
        (lambda t: graphc.clip(t, -1.0, 1.5), e, 1.5),
        (lambda t: graphc.rsqrt(t * t + 0.25), False, 2),
        (graphc.erfc, False, 2),
        (lambda t: t**3, False, m**3),
        (lambda t: 1.0 / (t * t + 1.0), False, 1),
        (lambda t: graphc.reciprocal(abs(t) + 0.5), False, 2),
        (lambda t: t * 3 - t, False, 4 * m),
        (lambda t: graphc.exp(-abs(t)), False, 1),
        (lambda t: graphc.log(graphc.exp(-t * t) + 1), False, 1),
        (lambda t: graphc.asinh(t), False, 10),
        (lambda t: graphc.exp2(graphc.minimum(t, 3.0)), False, 8),
        (lambda t: (t + 1.0) + 2.0, False, m + 3),
        (lambda t: -(t * -2.0), False, 2 * m),
    ]
    function, exact, bound = b.choose(options if b.chance(0.75) else _rarer(e, m))
    return b.add(function(v.tensor), exact, bound)


def _rarer(exact: bool, bound: float) -> list[Unary]:
    """Functions that most graphs do without, kept away from their singularities."""
    found: list[Unary] = [
        (lambda t: graphc.log2(abs(t) + 0.5), False, 8),
        (lambda t: graphc.log10(t * t + 0.5), False, 8),
        (lambda t: graphc.tan(graphc.tanh(t)), False, 2),
        (lambda t: graphc.asin(0.9 * graphc.tanh(t)), False, 2),
        (lambda t: graphc.acos(graphc.sin(t) * 0.8), False, 4),
        (lambda t: graphc.sinh(graphc.clip(t, -3, 3)), False, 11),
        (lambda t: graphc.cosh(graphc.clip(t, -3, 3)), False, 11),
        (lambda t: graphc.acosh(abs(t) + 1.5), False, 9),
        (lambda t: graphc.atanh(graphc.tanh(t) * 0.7), False, 2),
        (lambda t: graphc.lgamma(abs(t) + 0.5), False, bound**2),
        (lambda t: graphc.digamma(abs(t) + 0.5), False, 10),
        (lambda t: graphc.pow(abs(t) + 0.5, 1.5), False, bound**2),
        (lambda t: 2.0 ** graphc.minimum(t, 3.0), False, 8),
        (lambda t: graphc.remainder(graphc.tanh(t) + 2.0, 7.0), False, 3),
        (lambda t: graphc.isfinite(t), True, 1),
        (lambda t: graphc.isinf(t), True, 1),
        (lambda t: graphc.isnan(t), True, 1),
    ]
    if exact:
        found += [
            (graphc.floor, True, bound + 1),
            (graphc.ceil, True, bound + 1),
            (graphc.trunc, True, bound),
            (graphc.round, True, bound + 1),
            (lambda t: graphc.nextafter(t, t * 0), True, bound),
            (graphc.signbit, True, 1),
            (lambda t: t % 2.0, True, 2),
            (lambda t: t // 0.5, True, 2 * bound),
        ]
    return found


def partner(b: Builder, v: Value) -> Value:
    """A second operand for v: same dtype, a shape that broadcasts to its shape."""
    t = v.tensor
    return b.pick(lambda o: o.tensor.dtype is t.dtype and fits(o.tensor.shape, t.shape)) or v


def binary(b: Builder) -> int:
    """One function of two floats."""
    v = b.pick_float()
    if v is None:
        return 0
    o = partner(b, v)
    bound, both = v.bound + o.bound, v.exact and o.exact
    options: list[tuple[Callable[[Any, Any], Any], bool, float]] = [
        (lambda p, q: p + q, False, bound),
        (lambda p, q: p - q, False, bound),
        (lambda p, q: p * q, False, v.bound * o.bound),
        (lambda p, q: q - p, False, bound),
        (lambda p, q: p / (abs(q) + 1.0), False, v.bound),
        (lambda p, q: p * q + p, False, v.bound * bound),
        (graphc.maximum, both, bound),
        (graphc.minimum, both, bound),
        (graphc.hypot, False, bound),
        (graphc.logaddexp, False, bound),
        (lambda p, q: graphc.atan2(p, abs(q) + 0.5), False, 4),
        (lambda p, q: p + -q, False, bound),
        (lambda p, q: graphc.copysign(p, q) if q.dtype and both else p - 2 * q, both, 2 * bound),
        (lambda p, q: p * q - q * p, False, bound),
    ]
    function, exact, size = b.choose(options)
    return b.add(function(v.tensor, o.tensor), exact, size)


def integer(b: Builder) -> int:
    """Integer arithmetic, which wraps around."""
    v = b.pick(lambda w: w.tensor.dtype.is_integer and w.exact)
    if v is None:
        return 0
    o = partner(b, v)
    o = o if o.exact and o.tensor.dtype is v.tensor.dtype else v
    options: list[Callable[[Any, Any], Any]] = [
        lambda p, q: p + q,
        lambda p, q: p * q,
        lambda p, q: p - q,
        lambda p, q: p & q,
        lambda p, q: p ^ q,
        lambda p, q: p | q,
        lambda p, q: p // q,
        lambda p, q: p % q,
        lambda p, q: p << 1,
        lambda p, q: p >> 1,
        lambda p, q: ~p,
        graphc.maximum,
        graphc.minimum,
        lambda p, q: abs(p),
        lambda p, q: p // 3,
        lambda p, q: p % 5,
        lambda p, q: p << (q & 7),
        lambda p, q: p >> (q & 7),
        lambda p, q: -p,
        lambda p, q: p**3,
        lambda p, q: graphc.sign(p),
        lambda p, q: graphc.bitwise_count(p),
        lambda p, q: graphc.clip(p, 0, 100),
        lambda p, q: p * 5 + 3,
        lambda p, q: (p + 7) - q,
        lambda p, q: p // 4,
        lambda p, q: p % 8,
    ]
    bound = 2.0**v.tensor.dtype.bits if b.full_range else 1e3
    return b.add(b.choose(options)(v.tensor, o.tensor), True, bound)


def boolean(b: Builder) -> int:
    """Logic of bools."""
    v = b.pick(lambda w: w.tensor.dtype.is_bool)
    if v is None:
        return compare(b)
    o = partner(b, v)
    function = b.choose(
        [
            graphc.logical_and,
            graphc.logical_or,
            graphc.logical_xor,
            lambda p, q: graphc.logical_not(p),
            lambda p, q: p == q,
        ]
    )
    return b.add(function(v.tensor, o.tensor), True)


def compare(b: Builder) -> int:
    """A comparison of exact values."""
    v = b.pick(lambda w: w.exact and not w.tensor.dtype.is_bool)
    if v is None:
        return 0
    t = v.tensor
    o = (
        b.pick(lambda w: w.exact and w.tensor.dtype is t.dtype and fits(w.tensor.shape, t.shape))
        or v
    )
    functions = [
        graphc.less,
        graphc.greater_equal,
        graphc.equal,
        graphc.not_equal,
        graphc.greater,
        graphc.less_equal,
        lambda p, q: p > 1,
        lambda p, q: q <= p,
    ]
    return b.add(b.choose(functions)(t, o.tensor), True)


def where(b: Builder) -> int:
    """A selection."""
    condition = b.pick(lambda w: w.tensor.dtype.is_bool)
    if condition is None:
        return compare(b)
    c = condition.tensor

    def related(w: Value) -> bool:
        return fits(w.tensor.shape, c.shape) or fits(c.shape, w.tensor.shape)

    v = b.pick(lambda w: related(w) and not w.tensor.dtype.is_bool)
    if v is None:
        return 0
    o = partner(b, v)
    o = o if related(o) else v
    if b.chance(0.3):
        return b.add(graphc.where(c, v.tensor, 0), v.exact, v.bound)
    return b.add(graphc.where(c, v.tensor, o.tensor), v.exact and o.exact, max(v.bound, o.bound))


def cast(b: Builder) -> int:
    """A change of dtype."""
    v = b.pick(lambda w: True)
    if v is None:
        return 0
    small = v.exact and (v.tensor.dtype.is_integer or v.bound < 100)
    targets = [float32, float64, float32, *FLOAT] + ([*INTEGER, bool_] if small else [])
    target = b.choose(targets)
    whole = not v.tensor.dtype.is_float
    exact = v.exact and (target.is_integer or target.is_bool or (whole and target.bits >= 32))
    if whole and v.bound > 2.0**20:
        exact = exact and not target.is_float
    return b.add(graphc.astype(v.tensor, target), exact, v.bound)
