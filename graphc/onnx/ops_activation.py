"""Activation functions, softmax and its relatives, dropout (floor 8)."""

from __future__ import annotations

import numpy as np

from graphc.base.dims import product
from graphc.base.dtypes import bool_, float32, int64
from graphc.ir.node import Tensor
from graphc.nn import activations
from graphc.onnx.context import Context, op
from graphc.ops import elementwise, elementwise_math, logical, rounding
from graphc.ops.axes import normalize_axis
from graphc.ops.creation import IOTA, filled
from graphc.ops.promotion import as_tensor, cast
from graphc.ops.reduction import ARGMAX, MAX, SUM
from graphc.ops.reshape import to_shape
from graphc.ops.softmax import log_softmax, softmax
from graphc.random import key as random_key
from graphc.random import uniform

where = elementwise.where


@op("LeakyRelu")
def leaky_relu(c: Context) -> Tensor:
    """x where x >= 0, else alpha * x."""
    x = c.tensor(0)
    return where(logical.less(x, 0), x * c.attribute("alpha"), x)


@op("PRelu")
def prelu(c: Context) -> Tensor:
    """x where x >= 0, else slope * x; the slope broadcasts."""
    x, slope = c.tensor(0), c.tensor(1)
    if c.version < 7 and slope.shape == x.shape[1:2]:  # one per channel, without broadcasting
        slope = to_shape(slope, (*slope.shape, *(1,) * (x.ndim - 2)))
    return where(logical.less(x, 0), elementwise.multiply(x, slope), x)


@op("Elu")
def elu(c: Context) -> Tensor:
    """ELU."""
    return activations.elu(c.tensor(0), c.attribute("alpha"))


@op("Celu")
def celu(c: Context) -> Tensor:
    """CELU."""
    return activations.celu(c.tensor(0), c.attribute("alpha"))


@op("Selu")
def selu(c: Context) -> Tensor:
    """gamma * elu(x, alpha)."""
    x = activations.elu(c.tensor(0), c.attribute("alpha"))
    return elementwise.multiply(x, c.attribute("gamma"))


@op("Gelu")
def gelu(c: Context) -> Tensor:
    """GELU, exact or by tanh."""
    return activations.gelu(c.tensor(0), c.attribute("approximate"))


@op("Mish")
def mish(c: Context) -> Tensor:
    """x * tanh(softplus(x))."""
    return activations.mish(c.tensor(0))


@op("Swish")
def swish(c: Context) -> Tensor:
    """x * sigmoid(alpha * x)."""
    x = c.tensor(0)
    return elementwise.multiply(x, elementwise_math.sigmoid(x * c.attribute("alpha")))


@op("HardSigmoid")
def hard_sigmoid(c: Context) -> Tensor:
    """alpha * x + beta, within 0 and 1."""
    x = c.tensor(0) * c.attribute("alpha") + c.attribute("beta")
    return rounding.clip(x, 0.0, 1.0)


@op("HardSwish")
def hard_swish(c: Context) -> Tensor:
    """x * min(max(x / 6 + 1 / 2, 0), 1)."""
    return activations.hard_swish(c.tensor(0))


@op("Softplus")
def softplus(c: Context) -> Tensor:
    """log(1 + exp(x))."""
    return elementwise_math.softplus(c.tensor(0))


@op("Softsign")
def softsign(c: Context) -> Tensor:
    """x / (1 + |x|)."""
    return activations.softsign(c.tensor(0))


@op("ThresholdedRelu")
def thresholded_relu(c: Context) -> Tensor:
    """x where x > alpha, else 0."""
    x = c.tensor(0)
    return where(logical.greater(x, c.attribute("alpha")), x, 0)


@op("Shrink")
def shrink(c: Context) -> Tensor:
    """x + bias below -lambd, x - bias above lambd, 0 between; integers by way of float32."""
    x = c.tensor(0)
    bias, limit = c.attribute("bias"), c.attribute("lambd")
    value = x if x.dtype.is_float else cast(x, float32)
    high = where(logical.greater(value, limit), value - bias, 0.0)
    return cast(where(logical.less(value, -limit), value + bias, high), x.dtype)


# -- softmax and its relatives --------------------------------------------------------------------


def _last(c: Context, x: Tensor) -> tuple[Tensor, int]:
    """x and the axis of an operator of the softmax family; one matrix before version 13."""
    axis = normalize_axis(c.op, x, c.attribute("axis"))
    if c.version >= 13:
        return x, axis
    return to_shape(x, (product(x.shape[:axis]), product(x.shape[axis:]))), 1


def stepwise_softmax(x: Tensor, axis: int) -> Tensor:
    """Softmax. For the 16-bit floats each step of the operator's function body (maximum,
    difference, exp, sum, quotient) is rounded to their dtype, which is what ONNX says it is; one
    rounding at the end would give the neighbouring number now and then.
    """
    if x.dtype.bits != 16:
        return softmax(x, axis=axis)
    distance = elementwise.subtract(x, MAX(x, axes=(axis,), keepdims=True))
    powers = elementwise_math.exp(distance)
    return elementwise.divide(powers, SUM(powers, axes=(axis,), keepdims=True))


@op("Softmax")
def softmax_(c: Context) -> Tensor:
    """Softmax along an axis."""
    x = c.tensor(0)
    flat, axis = _last(c, x)
    return to_shape(stepwise_softmax(flat, axis), x.shape)


@op("LogSoftmax")
def log_softmax_(c: Context) -> Tensor:
    """The logarithm of softmax along an axis."""
    x = c.tensor(0)
    flat, axis = _last(c, x)
    return to_shape(log_softmax(flat, axis=axis), x.shape)


@op("Hardmax")
def hardmax(c: Context) -> Tensor:
    """1 at the first maximum along an axis, 0 elsewhere."""
    x = c.tensor(0)
    flat, axis = _last(c, x)
    best = ARGMAX(flat, axes=(axis,), keepdims=True)
    line = tuple(n if a == axis else 1 for a, n in enumerate(flat.shape))
    ones = logical.equal(best, IOTA(shape=line, axis=axis, dtype=int64))
    return to_shape(cast(ones, x.dtype), x.shape)


# -- dropout --------------------------------------------------------------------------------------


@op("Dropout")
def dropout(c: Context) -> list[Tensor]:
    """x itself, and a mask of ones; a random one where training_mode says so."""
    x = c.tensor(0)
    if c.version < 12:
        # The mask has been bool since version 10.
        return [x, filled(1, x.shape, bool_ if c.version >= 10 else x.dtype)]
    training = c.has(2) and bool(c.number(2, "training_mode"))
    rate = float(c.number(1, "ratio")) if c.has(1) else 0.5
    if not training or rate == 0.0:
        return [x, filled(True, x.shape, bool_)]
    if not 0.0 <= rate < 1.0:
        c.bad(f"ratio is {rate}, expected 0 to below 1")
    kept = _kept(c, x, rate)
    scale = 1.0 / (1.0 - rate)
    return [where(kept, x * scale, 0.0), kept]


def _kept(c: Context, x: Tensor, rate: float) -> Tensor:
    """Which elements stay: the numbers of a seed are those of ONNX's reference implementation,
    the Mersenne Twister's, where the shape is known; else a generator of graphc draws them.
    """
    seed = c.attribute("seed")
    shape = tuple(n for n in x.shape if isinstance(n, int))
    if seed is not None and len(shape) == x.ndim:
        generator = np.random.RandomState(int(seed) % 2**32)
        return as_tensor(generator.uniform(0.0, 1.0, shape) >= rate)
    if seed is None:
        c.importer.randoms += 1
        seed = c.importer.randoms
    return logical.greater_equal(uniform(random_key(int(seed)), x.shape), rate)
