"""Special functions (floor 2): error function, gamma family.

`polygamma` is written in the scalar language by recurrence and asymptotic series, so every
derivative of `lgamma` exists; its accuracy is tested against mpmath.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from graphc.base.dtypes import FLOAT, DType, float32
from graphc.base.errors import ShapeError
from graphc.ir.node import Node, Tensor, TensorType, as_index
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, fail
from graphc.ops.declaration import (
    Domain,
    ElementwiseSamples,
    Unary,
    by_scalar,
    gradient_of,
    method,
    unary,
)
from graphc.ops.elementwise import chain_multiply
from graphc.ops.elementwise_math import exp, square
from graphc.ops.families import Elementwise
from graphc.ops.promotion import TensorLike, as_tensor, cast, float_dtype

erf = unary(
    "erf",
    "erf",
    by_scalar(method("erf")),
    lambda g, out, x: chain_multiply(g, exp(-square(x)) * (2.0 / math.sqrt(math.pi))),
    doc="The error function.",
    traits=("monotone",),
)
erfc = unary(
    "erfc",
    "erfc",
    by_scalar(method("erfc")),
    lambda g, out, x: chain_multiply(g, exp(-square(x)) * (-2.0 / math.sqrt(math.pi))),
    doc="1 - erf(x), accurate for large x.",
)
lgamma = unary(
    "lgamma",
    "lgamma",
    by_scalar(method("lgamma")),
    lambda g, out, x: chain_multiply(g, digamma(x)),
    doc="The logarithm of the absolute value of the gamma function.",
    domain=Domain(0.2, 6.0),
)
digamma: Unary = unary(
    "digamma",
    "digamma",
    by_scalar(method("digamma")),
    lambda g, out, x: chain_multiply(g, polygamma(1, x)),
    doc="The derivative of lgamma: NaN at negative whole numbers.",
    domain=Domain(0.2, 6.0),
)

_SHIFT = 16  # the series is used from here on: x + 16 > 16
# Bernoulli's numbers B2, B4, …, B20: numerators and denominators.
_BERNOULLI = (
    (1, 6),
    (-1, 30),
    (1, 42),
    (-1, 30),
    (5, 66),
    (-691, 2730),
    (7, 6),
    (-3617, 510),
    (43867, 798),
    (-174611, 330),
)
_TERMS = len(_BERNOULLI)


def _cotangent_derivative(n: int) -> list[int]:
    """Coefficients in c = cot(t) of the n-th derivative of cot(t) by t."""
    polynomial = [0, 1]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(polynomial)][1:]
        polynomial = [0] * (len(slope) + 2)
        for k, c in enumerate(slope):
            polynomial[k] -= c
            polynomial[k + 2] -= c
    return polynomial


def _polygamma_scalar(s: Any, x: Any, n: int) -> Any:
    """psi_n(x) for x >= 0.5 by recurrence up to the asymptotic series; below by reflection."""
    dtype = s.dtype_of(x)
    wide = float32 if dtype.bits == 16 else dtype
    x = s.cast(x, wide)
    one, half = s.like(x, 1.0), s.like(x, 0.5)
    reflected = s.lt(x, half)
    y = s.select(reflected, s.sub(one, x), x)
    value = _polygamma_right(s, y, n)
    fraction = s.sub(x, s.op("round_even", x))
    angle = s.mul(fraction, s.like(x, math.pi))
    cotangent = s.div(s.op("cos", angle), s.op("sin", angle))
    turned = s.like(x, 0.0)
    for coefficient in reversed(_cotangent_derivative(n)):
        turned = s.add(s.mul(turned, cotangent), s.like(x, float(coefficient)))
    turned = s.mul(turned, s.like(x, math.pi ** (n + 1)))
    mirrored = s.sub(value if n % 2 == 0 else s.neg(value), turned)
    pole = s.bit_and(s.le(x, s.like(x, 0.0)), s.eq(fraction, s.like(x, 0.0)))
    # Even orders have poles of both signs: NaN, as digamma gives; odd orders rise to +inf on both
    # sides.
    at_pole = s.like(x, math.inf if n % 2 else math.nan)
    result = s.select(reflected, s.select(pole, at_pole, mirrored), value)
    return s.cast(result, dtype)


def _polygamma_right(s: Any, y: Any, n: int) -> Any:
    total = s.like(y, 0.0)
    for k in range(_SHIFT):
        # Smallest terms first: the sum loses nothing.
        total = s.add(total, _inverse_power(s, s.add(y, s.like(y, float(_SHIFT - 1 - k))), n + 1))
    total = s.mul(total, s.like(y, float(math.factorial(n))))
    z = s.add(y, s.like(y, float(_SHIFT)))
    inverse = s.div(s.like(y, 1.0), z)
    squared = s.mul(inverse, inverse)
    series = s.like(y, 0.0)
    for k in range(_TERMS, 0, -1):
        above, below = _BERNOULLI[k - 1]
        factor = above * math.factorial(2 * k + n - 1) / (below * math.factorial(2 * k))
        series = s.mul(s.add(series, s.like(y, factor)), squared)
    series = s.add(series, s.mul(inverse, s.like(y, math.factorial(n) / 2)))
    series = s.add(series, s.like(y, float(math.factorial(n - 1))))
    result = s.add(s.mul(series, _inverse_power(s, z, n)), total)
    return result if n % 2 else s.neg(result)


def _inverse_power(s: Any, x: Any, n: int) -> Any:
    inverse = s.div(s.like(x, 1.0), x)
    power = inverse
    for _ in range(n - 1):
        power = s.mul(power, inverse)
    return power


def _polygamma_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,) = inputs
    assert isinstance(x, Tensor)
    if not x.dtype.is_float:
        dtype_error(f"polygamma: expected a float dtype, got {x.dtype}", inputs)
    return x.type


_SAMPLES = ElementwiseSamples(1, Domain(0.2, 6.0))


def _polygamma_samples(dtype: DType) -> Sequence[Sample]:
    # Infinity and the largest values are no matter of interest for the series; they are in
    # mpmath's test.
    return [Sample(c.inputs, {"n": n}) for n in (1, 2) for c in _SAMPLES(dtype)[:7]]


POLYGAMMA = REGISTRY.add(
    OpDef(
        "polygamma",
        ("n",),
        _polygamma_type,
        by_scalar(_polygamma_scalar),
        gradient_of((lambda g, out, x: chain_multiply(g, polygamma(out.attr("n") + 1, x)),)),
        Elementwise(_polygamma_scalar),
        doc="The n-th derivative of digamma.",
        samples=_polygamma_samples,
        dtypes=FLOAT,
    )
)


def polygamma(n: int, x: TensorLike, /) -> Tensor:
    """The n-th derivative of `digamma` (n = 0: digamma itself), elementwise.

    Dtypes: floats; integers are converted. Raises ShapeError unless `n` is an int of at least 0.

        graphc.polygamma(1, x)
    """
    tensor = as_tensor(x, op="polygamma")
    order = as_index(n)
    if order is None or order < 0:
        fail(
            ShapeError,
            f"polygamma: the order must be an int of at least 0, got {n!r:.60}",
            [tensor],
        )
    tensor = cast(tensor, float_dtype(tensor.dtype))
    return POLYGAMMA(tensor, n=order) if order else digamma(tensor)
