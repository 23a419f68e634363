"""Samples of the gamma distribution as functions of its concentration (floor 2).

`log_gamma_sample` is the logarithm of a sample, as it was drawn; only its gradient is of interest.
How a sample is drawn is no smooth function of the concentration a, but the sample z of a fixed
quantile is one: F(z, a) stays, so that dz/da = -(dF/da) / (dF/dz) (Figurnov, Mohamed and Mnih,
2018). With the density f that is an integral over the samples below z, or over those above:

    d log z / da = -∫_0^∞ exp(-g(r)) (log z - r - psi(a)) dr,   g(r) = a r - z (1 - exp(-r))
                 =  ∫_0^∞ exp(-g(r)) (log z + r - psi(a)) dr,   g(r) = z (exp(r) - 1) - a r

The first is taken where log z < psi(a), the second elsewhere: then no integrand changes its sign,
and nothing cancels. Both decay from 1 on; they are cut where exp(-g) is below 1e-16 and summed by
Gauss and Legendre's rule. As the sample is itself part of its derivative, higher ones are right.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dtypes import FLOAT, Array, DType, float64
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, shape_error
from graphc.ops.elementwise import (
    chain_multiply,
    divide,
    maximum,
    multiply,
    negative,
    subtract,
    where,
)
from graphc.ops.elementwise_math import exp, expm1, log1p, sqrt, square
from graphc.ops.families import Alias
from graphc.ops.logical import less
from graphc.ops.promotion import cast
from graphc.ops.reduction import SUM
from graphc.ops.reshape import expand_dims
from graphc.ops.sampling import draw
from graphc.ops.special import digamma

_NODES = 40
_DECAY = 38.0  # exp(-38) is 3e-17
_NEWTON = 4


def _cut_left(z: Tensor, a: Tensor) -> Tensor:
    """An r from which on a r - z (1 - exp(-r)) is at least _DECAY, not much larger than needed."""
    # Below r = 1 the function is above (a - z) r + z r² / 3, everywhere above a r - z. From the
    # right Newton's steps of a convex function stay there.
    slope = subtract(a, z)
    root = sqrt(square(slope) + (4 / 3 * _DECAY) * z)
    inner = divide(2.0 * _DECAY, slope + root)
    r = where(less(inner, 1.0), inner, divide(z + _DECAY, a))
    for _ in range(_NEWTON):
        excess = multiply(a, r) + multiply(z, expm1(negative(r))) - _DECAY
        r = subtract(r, divide(excess, subtract(a, multiply(z, exp(negative(r))))))
    return r


def _cut_right(z: Tensor, a: Tensor) -> Tensor:
    """An r from which on z (exp(r) - 1) - a r is at least _DECAY, not much larger than needed."""
    # At least (z - a) r + z r² / 2. From there Newton's steps on the logarithms of both sides,
    # r - log1p((_DECAY + a r) / z), which is convex as well, and does not overflow.
    slope = subtract(z, a)
    r = divide(2.0 * _DECAY, slope + sqrt(square(slope) + (2.0 * _DECAY) * z))
    for _ in range(_NEWTON):
        whole = multiply(a, r) + _DECAY
        excess = subtract(r, log1p(divide(whole, z)))
        r = subtract(r, divide(excess, subtract(1.0, divide(a, whole + z))))
    return r


def _integral(log_z: Tensor, a: Tensor) -> Tensor:
    """d log z / da, in float64: operands of one shape."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    # The least normal number is far below the samples whose logarithm exceeds psi(a), but for
    # concentrations below 0.002.
    z = maximum(exp(log_z), 1e-300)
    bend = digamma(a)
    left = less(log_z, bend)
    cut = where(left, _cut_left(z, a), _cut_right(z, a))
    cut, left, z, a, distance = (
        expand_dims(t, axis=-1) for t in (cut, left, z, a, subtract(log_z, bend))
    )
    r = multiply(cut, (nodes + 1.0) / 2.0)
    towards = where(left, negative(r), r)
    # Both exponents at once: exp(±r) - 1 makes -g(r) = ±(a r) - z expm1(±r).
    density = exp(subtract(multiply(a, towards), multiply(z, expm1(towards))))
    terms = multiply(multiply(density, distance + towards), where(left, negative(cut), cut))
    return SUM(multiply(terms, weights / 2.0), axes=(terms.ndim - 1,), keepdims=False)


def _type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    sample, concentration = inputs
    assert isinstance(sample, Tensor)
    assert isinstance(concentration, Tensor)
    if not sample.dtype.is_float:
        dtype_error(f"log_gamma_sample: expected a float dtype, got {sample.dtype}", inputs)
    if sample.type != concentration.type:
        shape_error(
            f"log_gamma_sample: operands {sample.type} and {concentration.type} differ", inputs
        )
    return sample.type


def _reference(sample: Array, concentration: Array) -> Array:
    return sample


def _gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    slope = _integral(cast(node, float64), cast(node.inputs[1], float64))
    return [None, chain_multiply(g, cast(slope, g.dtype))]


def _samples(dtype: DType) -> list[Sample]:
    shapes: list[tuple[int, ...]] = [(), (0,), (5,), (3, 4)]
    return [Sample((draw(s, dtype), draw(s, dtype, 1, low=0.3, high=6.0))) for s in shapes]


LOG_GAMMA_SAMPLE = REGISTRY.add(
    OpDef(
        "log_gamma_sample",
        (),
        _type,
        _reference,
        _gradient,
        Alias(),
        doc="Input 0, the logarithm of a sample of the gamma distribution of concentration input "
        "1, with the gradient that the sample has by it.",
        samples=_samples,
        dtypes=FLOAT,
    )
)
