"""Activation functions (floor 8): elementwise compositions whose values and gradients stay finite.

Each takes anything that can be a tensor and keeps its shape and float dtype; functions that need a
float give float64 for bool and integers. The gated ones halve an axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from graphc.autodiff.custom import custom_gradient
from graphc.base.dims import shape_text
from graphc.ir.node import Tensor
from graphc.ir.opdef import shape_error
from graphc.ops import elementwise, elementwise_math, logical, rounding, special
from graphc.ops.axes import normalize_axis
from graphc.ops.elementwise_math import sigmoid, softplus, tanh
from graphc.ops.joining import take_slice
from graphc.ops.promotion import TensorLike, as_tensor, cast
from graphc.ops.reduction import MAX, as_float
from graphc.ops.reshape import to_shape
from graphc.ops.softmax import SOFTMAX, log_softmax, softmax
from graphc.random import keys
from graphc.random.continuous import standard_gumbel

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


def prelu(x: TensorLike, slope: TensorLike, *, axis: int = 1) -> Tensor:
    """x where x > 0, else slope * x, with a slope that is learned.

    slope: one number (shape () or (1,)), or one per channel, (channels,) along `axis` of x. Raises
    ShapeError for another shape.
    """
    x = as_float("prelu", x)
    weight = cast(as_tensor(slope, like=x, op="prelu"), x.dtype)
    if weight.shape in ((), (1,)):
        weight = to_shape(weight, ())
    else:
        channel = normalize_axis("prelu", x, axis)
        if weight.shape != (x.shape[channel],):
            shape_error(
                f"prelu: slope must have shape {shape_text((x.shape[channel],))} or be one number, "
                f"got {weight.type}",
                [x, weight],
                f"there is one slope per channel, axis {channel} of x",
            )
        weight = to_shape(weight, tuple(n if i == channel else 1 for i, n in enumerate(x.shape)))
    return where(logical.greater(x, 0), x, multiply(x, weight))


def rrelu(
    x: TensorLike,
    key: TensorLike,
    low: float = 1.0 / 8.0,
    high: float = 1.0 / 3.0,
    *,
    training: bool = True,
) -> Tensor:
    """x where x > 0, else x times a slope drawn for each element, uniform in [low, high).

    key: of graphc.random.key. Without training the slope is the mean, (low + high) / 2. Raises
    ShapeError where low exceeds high.
    """
    x = as_float("rrelu", x)
    if low > high:
        shape_error(f"rrelu: low {low} exceeds high {high}", [x], "slopes lie from low to high")
    if not training:
        return leaky_relu(x, (low + high) / 2)
    drawn = keys.unit(keys.checked("rrelu", key), x.shape, x.dtype)
    return where(logical.greater(x, 0), x, multiply(x, drawn * (high - low) + low))


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
        shape_error("celu: alpha must not be 0", [x], "1.0 makes it elu; see graphc.nn.relu for 0")
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
        hint = '"none" is the definition, "tanh" the approximation of the first models'
        shape_error(f'gelu: approximate must be "none" or "tanh", got {approximate!r}', [x], hint)
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


def hard_shrink(x: TensorLike, threshold: float = 0.5) -> Tensor:
    """x where |x| > threshold, else 0."""
    x = as_float("hard_shrink", x)
    return where(logical.less_equal(rounding.abs(x), threshold), 0.0, x)


def soft_shrink(x: TensorLike, threshold: float = 0.5) -> Tensor:
    """x moved towards 0 by `threshold`, 0 where |x| is not larger: sign(x) * max(|x| - threshold,
    0).

    Raises ShapeError for a negative threshold.
    """
    x = as_float("soft_shrink", x)
    if threshold < 0:
        hint = "it is how far elements move towards 0; 0.5 by default"
        shape_error(f"soft_shrink: threshold must not be negative, got {threshold}", [x], hint)
    small = logical.less_equal(rounding.abs(x), threshold)
    return where(small, 0.0, where(logical.greater(x, 0), x - threshold, x + threshold))


def tanh_shrink(x: TensorLike) -> Tensor:
    """x - tanh(x)."""
    x = as_float("tanh_shrink", x)
    return elementwise.subtract(x, tanh(x))


def threshold(x: TensorLike, limit: float, value: float = 0.0) -> Tensor:
    """x where x > limit, else `value`; NaN stays NaN."""
    x = as_tensor(x, op="threshold")
    return where(logical.less_equal(x, limit), value, x)


def softsign(x: TensorLike) -> Tensor:
    """x / (1 + |x|)."""
    x = as_float("softsign", x)
    return elementwise.divide(x, 1.0 + rounding.abs(x))


def log_sigmoid(x: TensorLike) -> Tensor:
    """log(sigmoid(x)) = -softplus(-x), finite where sigmoid underflows."""
    return elementwise.negative(softplus(elementwise.negative(as_float("log_sigmoid", x))))


def softmin(x: TensorLike, /, *, axis: int = -1) -> Tensor:
    """softmax(-x) along `axis`: the smallest element weighs most."""
    return softmax(elementwise.negative(as_float("softmin", x)), axis=axis)


def gumbel_softmax(
    logits: TensorLike,
    key: TensorLike,
    temperature: TensorLike = 1.0,
    *,
    hard: bool = False,
    axis: int = -1,
) -> Tensor:
    """softmax((logits + Gumbel noise) / temperature) along `axis`: a differentiable draw of classes
    (Jang, Gu and Poole, 2017).

    hard: one-hot values (ones for all that tie), with the gradient of the soft ones. key: of
    graphc.random.key; draw a new one per step.
    """
    x = as_float("gumbel_softmax", logits)
    axis = normalize_axis("gumbel_softmax", x, axis)
    noise = cast(standard_gumbel(keys.checked("gumbel_softmax", key), x.shape, x.dtype), x.dtype)
    scores = elementwise.divide(
        elementwise.add(x, noise), cast(as_tensor(temperature, like=x), x.dtype)
    )
    soft = SOFTMAX(scores, axis=axis)
    if not hard:
        return soft
    top = MAX(soft, axes=(axis,), keepdims=True)
    chosen = cast(logical.equal(soft, top), x.dtype)
    straight: Tensor = custom_gradient(lambda t: (chosen, lambda g: g))(soft)
    return straight


# -- gates ----------------------------------------------------------------------------------------


def _gated(op: str, x: TensorLike, axis: int, gate: Callable[[Tensor], Tensor]) -> Tensor:
    x = as_float(op, x)
    axis = normalize_axis(op, x, axis)
    half = x.shape[axis] // 2
    if half * 2 != x.shape[axis]:
        shape_error(
            f"{op}: axis {axis} of size {x.shape[axis]} does not split into halves",
            [x],
            "values come first along the axis, then as many gates",
        )
    return multiply(take_slice(x, axis, 0, half), gate(take_slice(x, axis, half, half)))


def glu(x: TensorLike, axis: int = -1) -> Tensor:
    """The first half of x along `axis` times the sigmoid of the second.

    Raises ShapeError for an odd size.
    """
    return _gated("glu", x, axis, sigmoid)


def reglu(x: TensorLike, axis: int = -1) -> Tensor:
    """The first half of x along `axis` times the relu of the second (Shazeer, 2020)."""
    return _gated("reglu", x, axis, relu)


def geglu(x: TensorLike, axis: int = -1, approximate: str = "none") -> Tensor:
    """The first half of x along `axis` times the gelu of the second (Shazeer, 2020)."""
    return _gated("geglu", x, axis, lambda gate: gelu(gate, approximate))


def swiglu(x: TensorLike, axis: int = -1) -> Tensor:
    """The first half of x along `axis` times the silu of the second (Shazeer, 2020).

    Where weights put the gate first: silu(gate) * values is as short to write.
    """
    return _gated("swiglu", x, axis, silu)


__all__ = [
    "celu",
    "elu",
    "geglu",
    "gelu",
    "glu",
    "gumbel_softmax",
    "hard_shrink",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "prelu",
    "reglu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softmin",
    "softplus",
    "softsign",
    "swiglu",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
]
