"""Activation functions (floor 8): elementwise compositions whose values and gradients stay finite.

Each takes anything that can be a tensor and keeps its shape and float dtype; functions that need a
float give float64 for bool and integers.
"""

from __future__ import annotations

import math

from graphc.ir.node import Tensor
from graphc.ir.opdef import shape_error
from graphc.ops import elementwise, elementwise_math, logical, rounding, special
from graphc.ops.axes import normalize_axis
from graphc.ops.elementwise_math import sigmoid, softplus, tanh
from graphc.ops.joining import take_slice
from graphc.ops.promotion import TensorLike, as_tensor
from graphc.ops.reduction import as_float
from graphc.ops.softmax import log_softmax, softmax

where, multiply = elementwise.where, elementwise.multiply

# Klambauer et al. (2017): the fixed point with mean 0 and variance 1.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def relu(x: TensorLike) -> Tensor:
    """max(x, 0); NaN stays NaN. The gradient at 0 is 0."""
    x = as_tensor(x, op="relu")
    return where(logical.less_equal(x, 0), 0, x)


def relu6(x: TensorLike) -> Tensor:
    """min(max(x, 0), 6). The gradient at 0 and at 6 is 0."""
    x = as_tensor(x, op="relu6")
    return where(logical.greater_equal(x, 6), 6, relu(x))


def leaky_relu(x: TensorLike, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x."""
    x = as_float("leaky_relu", x)
    return where(logical.greater(x, 0), x, x * negative_slope)


def _negative_part(x: Tensor) -> Tensor:
    # expm1 of a large positive number would overflow in the branch that is not chosen.
    return where(logical.greater(x, 0), 0, x)


def elu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1)."""
    x = as_float("elu", x)
    return where(logical.greater(x, 0), x, alpha * elementwise_math.expm1(_negative_part(x)))


def selu(x: TensorLike) -> Tensor:
    """The self-normalizing ELU: scale * elu(x, alpha) with the two constants of Klambauer et al."""
    return SELU_SCALE * elu(x, SELU_ALPHA)


def celu(x: TensorLike, alpha: float = 1.0) -> Tensor:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1)); alpha must not be 0."""
    x = as_float("celu", x)
    if alpha == 0:
        shape_error("celu: alpha must not be 0", [x])
    below = alpha * elementwise_math.expm1(_negative_part(x) / alpha)
    return where(logical.greater(x, 0), x, below)


def gelu(x: TensorLike, approximate: str = "none") -> Tensor:
    """x times the probability that a standard normal is below x: x / 2 * erfc(-x / sqrt(2)).

    approximate="tanh": x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))), computed as x *
    sigmoid(2 * …), which does not cancel for negative x. Raises ShapeError for another word.
    """
    x = as_float("gelu", x)
    if approximate == "none":
        # erfc keeps its digits where 1 + erf(x) would cancel.
        return multiply(x * 0.5, special.erfc(x * -math.sqrt(0.5)))
    if approximate != "tanh":
        shape_error(f'gelu: approximate must be "none" or "tanh", got {approximate!r}', [x])
    slope = 2.0 * math.sqrt(2.0 / math.pi)
    inner = multiply(x, 1.0 + 0.044715 * elementwise_math.square(x))
    return multiply(x, sigmoid(slope * inner))


def silu(x: TensorLike) -> Tensor:
    """x * sigmoid(x), also called swish."""
    x = as_float("silu", x)
    return multiply(x, sigmoid(x))


swish = silu


def mish(x: TensorLike) -> Tensor:
    """x * tanh(softplus(x))."""
    x = as_float("mish", x)
    return multiply(x, tanh(softplus(x)))


def hard_sigmoid(x: TensorLike) -> Tensor:
    """min(max(x / 6 + 1 / 2, 0), 1)."""
    x = as_float("hard_sigmoid", x)
    return rounding.clip(x * (1.0 / 6.0) + 0.5, 0.0, 1.0)


def hard_swish(x: TensorLike) -> Tensor:
    """x * hard_sigmoid(x)."""
    x = as_float("hard_swish", x)
    return multiply(x, hard_sigmoid(x))


def hard_tanh(x: TensorLike) -> Tensor:
    """min(max(x, -1), 1)."""
    return rounding.clip(as_tensor(x, op="hard_tanh"), -1, 1)


def softsign(x: TensorLike) -> Tensor:
    """x / (1 + |x|)."""
    x = as_float("softsign", x)
    return elementwise.divide(x, 1.0 + rounding.abs(x))


def log_sigmoid(x: TensorLike) -> Tensor:
    """log(sigmoid(x)) = -softplus(-x), finite where sigmoid underflows."""
    return elementwise.negative(softplus(elementwise.negative(as_float("log_sigmoid", x))))


def glu(x: TensorLike, axis: int = -1) -> Tensor:
    """The first half of x along `axis` times the sigmoid of the second.

    Raises ShapeError for an odd size.
    """
    x = as_float("glu", x)
    axis = normalize_axis("glu", x, axis)
    half = x.shape[axis] // 2
    if half * 2 != x.shape[axis]:
        shape_error(f"glu: axis {axis} of size {x.shape[axis]} does not split into halves", [x])
    return multiply(take_slice(x, axis, 0, half), sigmoid(take_slice(x, axis, half, half)))


__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "swish",
    "tanh",
]
