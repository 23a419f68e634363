"""Continuous distributions (floor 8): location and scale are differentiable, by reparameterization.

Each is an elementwise function of uniform words, so that a draw fuses with what reads it. Values
are computed in float32 for the 16-bit dtypes and rounded at the end.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.base.dims import shape_text
from graphc.base.dtypes import DType, DTypeLike, float64
from graphc.ir.node import Tensor
from graphc.ir.opdef import shape_error
from graphc.ops import elementwise, elementwise_math, inverse_erf, logical, rounding, special
from graphc.ops.promotion import TensorLike, as_tensor, broadcast_shapes, cast
from graphc.random.keys import Key, asked, inner_unit, split, unit, words

add, multiply, where = elementwise.add, elementwise.multiply, elementwise.where


def parameter(op: str, value: TensorLike, drawn: Tensor) -> Tensor:
    """A parameter in the dtype of the draws, which it must not be larger than."""
    tensor = cast(as_tensor(value, like=drawn, op=op), drawn.dtype)
    if tensor.ndim and broadcast_shapes(op, [drawn.shape, tensor.shape], [tensor]) != drawn.shape:
        shape_error(
            f"{op}: a parameter {tensor.type} is larger than what is drawn, "
            f"{shape_text(drawn.shape)}",
            [tensor],
            "elements would share one draw: give shape=… with a draw for each",
        )
    return tensor


def placed(
    op: str, standard: Tensor, location: TensorLike, scale: TensorLike, dtype: DType
) -> Tensor:
    """standard * scale + location, in `dtype`."""
    if type(scale) is not float or scale != 1.0:
        standard = multiply(standard, parameter(op, scale, standard))
    if type(location) is not float or location != 0.0:
        standard = add(standard, parameter(op, location, standard))
    return cast(standard, dtype)


def uniform(
    key: Key,
    shape: Any = (),
    low: TensorLike = 0.0,
    high: TensorLike = 1.0,
    *,
    dtype: DTypeLike = "float32",
) -> Tensor:
    """Uniform numbers in [low, high): `high` itself never comes, also where a rounding would give
    it; where high = low, `low`.

    In [0, 1) every value is a multiple of 2**-24 (float64: 2**-53, float16: 2**-11, bfloat16:
    2**-8). high - low must be finite, low at most high. Differentiable by low and high. Raises
    DTypeError for a dtype that is not float.

    graphc.random.uniform(graphc.random.key(0), (n, 3))
    """
    source, sizes, kind = asked("random.uniform", key, shape, dtype)
    drawn = unit(source, sizes, kind)
    if (type(low), low, type(high), high) == (float, 0.0, float, 1.0):
        return drawn
    start, stop = (parameter("random.uniform", t, drawn) for t in (low, high))
    placed = drawn * elementwise.subtract(stop, start) + start
    return where(logical.less(placed, stop), placed, rounding.nextafter(stop, start))


def normal(
    key: Key,
    shape: Any = (),
    mean: TensorLike = 0.0,
    stddev: TensorLike = 1.0,
    *,
    dtype: DTypeLike = "float32",
) -> Tensor:
    """Normal numbers of a mean and a standard deviation, by Box and Muller's method.

    Tails reach 5.7 standard deviations (float64: 8.5). Differentiable by mean and stddev. Raises
    DTypeError for a dtype that is not float.
    """
    source, sizes, kind = asked("random.normal", key, shape, dtype)
    return placed("random.normal", standard_normal(source, sizes, kind), mean, stddev, kind)


def standard_normal(key: Tensor, sizes: Any, kind: DType) -> Tensor:
    """Normal numbers of mean 0 and deviation 1, in the dtype that `kind` computes in."""
    first, second = split(key, 2)
    # 1 - u lies in (0, 1]: its logarithm is finite.
    logarithm = elementwise_math.log1p(elementwise.negative(unit(first, sizes, kind.compute)))
    angle = (2.0 * math.pi) * unit(second, sizes, kind.compute)
    return multiply(elementwise_math.sqrt(-2.0 * logarithm), elementwise_math.cos(angle))


def truncated_normal(
    key: Key,
    shape: Any = (),
    low: TensorLike = -2.0,
    high: TensorLike = 2.0,
    mean: TensorLike = 0.0,
    stddev: TensorLike = 1.0,
    *,
    dtype: DTypeLike = "float32",
) -> Tensor:
    """Normal numbers that lie from `low` to `high`, counted in standard deviations from the mean.

    By inversion of the distribution function; ranges far out in a tail are drawn as well as central
    ones, up to 12 deviations (float64: 37; of what lies farther out comes the nearer end). An end
    may be infinite. Differentiable by mean and stddev, low and high. Raises DTypeError for a dtype
    that is not float.

    graphc.random.truncated_normal(key, (64, 10), stddev=0.05)
    """
    name = "random.truncated_normal"
    source, sizes, kind = asked(name, key, shape, dtype)
    share = inner_unit(source, sizes, kind.compute)
    start, stop = (parameter(name, t, share) for t in (low, high))
    # Above the mean the mirrored range is drawn: the mass below a point that is far below the mean
    # is a small number with all its digits.
    above = logical.greater(start, 0)
    near = where(above, elementwise.negative(stop), start)
    far = where(above, elementwise.negative(start), stop)
    below, whole = _twice_below(near), _twice_below(far)
    mass = add(below, multiply(share, elementwise.subtract(whole, below)))
    least = 2.0**-1020 if kind is float64 else 2.0**-124
    reachable = logical.greater(mass, least)
    drawn = inverse_erf.erfcinv(where(reachable, mass, 1.0)) * -math.sqrt(2.0)
    drawn = where(reachable, drawn, far)
    inside = rounding.clip(where(above, elementwise.negative(drawn), drawn), start, stop)
    return placed(name, inside, mean, stddev, kind)


def _twice_below(x: Tensor) -> Tensor:
    """Twice the probability that a standard normal is below x."""
    return special.erfc(x * -math.sqrt(0.5))


def exponential(
    key: Key, shape: Any = (), scale: TensorLike = 1.0, *, dtype: DTypeLike = "float32"
) -> Tensor:
    """Positive numbers of density exp(-x / scale) / scale; `scale` is the mean.

    The standard ones lie in [2**-33, 16.7] (float64: [2**-54, 36.8]). Differentiable by scale.
    Raises DTypeError for a dtype that is not float.
    """
    source, sizes, kind = asked("random.exponential", key, shape, dtype)
    return placed("random.exponential", standard_exponential(source, sizes, kind), 0.0, scale, kind)


def standard_exponential(key: Tensor, sizes: Any, kind: DType) -> Tensor:
    """Exponential numbers of mean 1, never 0, in the dtype that `kind` computes in."""
    share = inner_unit(key, sizes, kind.compute)
    return elementwise.negative(elementwise_math.log1p(elementwise.negative(share)))


def gumbel(
    key: Key,
    shape: Any = (),
    location: TensorLike = 0.0,
    scale: TensorLike = 1.0,
    *,
    dtype: DTypeLike = "float32",
) -> Tensor:
    """location - scale * log(E) with E exponential: what the maximum of many samples looks like.

    The standard ones lie in [-2.9, 22.9] (float64: [-3.7, 37.5]). Differentiable by location and
    scale. Raises DTypeError for a dtype that is not float.
    """
    source, sizes, kind = asked("random.gumbel", key, shape, dtype)
    return placed("random.gumbel", standard_gumbel(source, sizes, kind), location, scale, kind)


def standard_gumbel(key: Tensor, sizes: Any, kind: DType) -> Tensor:
    """Gumbel numbers of location 0 and scale 1, in the dtype that `kind` computes in."""
    return elementwise.negative(elementwise_math.log(standard_exponential(key, sizes, kind)))


def laplace(
    key: Key,
    shape: Any = (),
    location: TensorLike = 0.0,
    scale: TensorLike = 1.0,
    *,
    dtype: DTypeLike = "float32",
) -> Tensor:
    """Numbers of density exp(-|x - location| / scale) / (2 * scale): exponential on both sides.

    Differentiable by location and scale. Raises DTypeError for a dtype that is not float.
    """
    source, sizes, kind = asked("random.laplace", key, shape, dtype)
    sides, lengths = split(source, 2)
    drawn = standard_exponential(lengths, sizes, kind)
    left = logical.less(words(sides, sizes), 1 << 31)
    both = where(left, elementwise.negative(drawn), drawn)
    return placed("random.laplace", both, location, scale, kind)
