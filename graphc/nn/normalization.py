"""Normalization (floor 8): batch, layer, group, instance and root-mean-square.

Variances are two-pass (mean of squared distances), so that large means do not cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.autodiff.custom import stop_gradient
from graphc.base.dims import product, shape_text
from graphc.ir.node import Tensor
from graphc.ir.opdef import shape_error
from graphc.ops import elementwise, elementwise_math, reduction, statistical
from graphc.ops.axes import Axes, normalize_axes, normalize_axis
from graphc.ops.contraction import matmul
from graphc.ops.joining import padded
from graphc.ops.norm import NORM
from graphc.ops.promotion import TensorLike, as_tensor, cast
from graphc.ops.reduction import MEAN, as_float
from graphc.ops.reshape import split_axis, to_shape
from graphc.ops.view import moveaxis
from graphc.ops.windows import window_view

multiply, subtract = elementwise.multiply, elementwise.subtract


def _normalized(x: Tensor, axes: tuple[int, ...], epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(variance + epsilon) over axes; and mean and variance with those dims of
    size 1.
    """
    mean = MEAN(x, axes=axes, keepdims=True)
    centered = subtract(x, mean)
    variance = MEAN(elementwise_math.square(centered), axes=axes, keepdims=True)
    return multiply(centered, elementwise_math.rsqrt(variance + epsilon)), mean, variance


def _affine(op: str, x: Tensor, scale: Any, bias: Any, axes: Sequence[int]) -> Tensor:
    """x * scale + bias, each of the shape of x at `axes` (neighbours or not), 1 elsewhere."""
    for what, value in (("scale", scale), ("bias", bias)):
        if value is None:
            continue
        tensor = as_tensor(value, like=x, op=op)
        tensor = cast(tensor, x.dtype)
        shape = tuple(x.shape[a] for a in sorted(axes))
        if tensor.shape not in ((), shape):
            shape_error(
                f"{op}: {what} must have shape {shape_text(shape)}, got {tensor.type}",
                [x, tensor],
                f"{what} has the sizes of x along the axes that it belongs to, or is 0-d",
            )
        if tensor.ndim:
            tensor = to_shape(tensor, tuple(s if i in axes else 1 for i, s in enumerate(x.shape)))
        x = multiply(x, tensor) if what == "scale" else elementwise.add(x, tensor)
    return x


def layer_norm(
    x: TensorLike,
    scale: TensorLike | None = None,
    bias: TensorLike | None = None,
    *,
    axis: Axes = -1,
    epsilon: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, mean and variance over `axis` (an int
    or several).

    scale and bias have the shape of x at those axes. Raises ShapeError where they do not.
    """
    x = as_float("layer_norm", x)
    axes = tuple(sorted(normalize_axes("layer_norm", x, axis)))
    return _affine("layer_norm", _normalized(x, axes, epsilon)[0], scale, bias, axes)


def rms_norm(
    x: TensorLike,
    scale: TensorLike | None = None,
    *,
    axis: Axes = -1,
    epsilon: float = 1e-6,
) -> Tensor:
    """x / sqrt(mean(x**2) + epsilon) * scale, the mean over `axis`."""
    x = as_float("rms_norm", x)
    axes = tuple(sorted(normalize_axes("rms_norm", x, axis)))
    squares = MEAN(elementwise_math.square(x), axes=axes, keepdims=True)
    normal = multiply(x, elementwise_math.rsqrt(squares + epsilon))
    return _affine("rms_norm", normal, scale, None, axes)


def batch_norm(
    x: TensorLike,
    scale: TensorLike | None = None,
    bias: TensorLike | None = None,
    mean: TensorLike | None = None,
    variance: TensorLike | None = None,
    *,
    axis: int = 1,
    epsilon: float = 1e-5,
) -> Any:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, per channel of `axis`.

    With `mean` and `variance` given (inference): the normalized tensor. Without (training): a tuple
    of it and the batch's own mean and (biased) variance, from which running averages are kept as
    updates:

        y, m, v = graphc.nn.batch_norm(x, scale, bias)
        updates[running_mean] = 0.9 * running_mean + 0.1 * m

    All four have the shape (channels,). Raises ShapeError where one has not, or only one of mean
    and variance is given.
    """
    x = as_float("batch_norm", x)
    channel = normalize_axis("batch_norm", x, axis)
    if (mean is None) != (variance is None):
        shape_error(
            "batch_norm: one of mean and variance is missing",
            [x],
            "give both mean and variance (inference) or neither (training)",
        )
    if mean is None or variance is None:
        axes = tuple(i for i in range(x.ndim) if i != channel)
        normal, batch_mean, batch_variance = _normalized(x, axes, epsilon)
        shape = (x.shape[channel],)
        out = _affine("batch_norm", normal, scale, bias, (channel,))
        return out, to_shape(batch_mean, shape), to_shape(batch_variance, shape)
    spread = cast(as_tensor(variance, like=x, op="batch_norm"), x.dtype)
    inverse = elementwise_math.rsqrt(spread + epsilon)
    shift = elementwise.negative(cast(as_tensor(mean, like=x, op="batch_norm"), x.dtype))
    normal = _affine(
        "batch_norm", _affine("batch_norm", x, None, shift, (channel,)), inverse, None, (channel,)
    )
    return _affine("batch_norm", normal, scale, bias, (channel,))


def group_norm(
    x: TensorLike,
    groups: int,
    scale: TensorLike | None = None,
    bias: TensorLike | None = None,
    *,
    axis: int = 1,
    epsilon: float = 1e-5,
) -> Tensor:
    """Normalization over groups of channels and all spatial dims, per example (dim 0).

    scale and bias have the shape (channels,). Raises ShapeError unless groups divides the channels.
    """
    x = as_float("group_norm", x)
    channel = normalize_axis("group_norm", x, axis)
    size = x.shape[channel]
    if groups < 1 or size // groups * groups != size:
        shape_error(
            f"group_norm: {size} channels do not split into {groups} groups",
            [x],
            "the number of groups must divide the number of channels",
        )
    if channel == 0:
        shape_error(
            "group_norm: the axis of channels must not be the batch, dim 0",
            [x],
            "channels are axis 1 by default, axis=-1 where they come last",
        )
    apart = split_axis(x, channel, (groups, size // groups))
    axes = tuple(i for i in range(apart.ndim) if i not in (0, channel))
    normal = to_shape(_normalized(apart, axes, epsilon)[0], x.shape)
    return _affine("group_norm", normal, scale, bias, (channel,))


def instance_norm(
    x: TensorLike,
    scale: TensorLike | None = None,
    bias: TensorLike | None = None,
    *,
    axis: int = 1,
    epsilon: float = 1e-5,
) -> Tensor:
    """Normalization over the spatial dims, per example and channel."""
    x = as_float("instance_norm", x)
    channel = normalize_axis("instance_norm", x, axis)
    axes = tuple(i for i in range(x.ndim) if i not in (0, channel))
    return _affine("instance_norm", _normalized(x, axes, epsilon)[0], scale, bias, (channel,))


def local_response_norm(
    x: TensorLike,
    size: int,
    *,
    alpha: float = 1e-4,
    beta: float = 0.75,
    bias: float = 1.0,
    axis: int = 1,
) -> Tensor:
    """x / (bias + alpha / size * s)**beta, s the sum of squares of `size` neighbours along `axis`.

    Neighbours lie around each element, (size - 1) // 2 before it; outside of x they are 0
    (Krizhevsky et al., 2012, with alpha divided by the size). Raises ShapeError for size < 1.
    """
    x = as_float("local_response_norm", x)
    channel = normalize_axis("local_response_norm", x, axis)
    if size < 1:
        shape_error(f"local_response_norm: size must be positive, got {size}", [x])
    before = (size - 1) // 2
    low = tuple(before if i == channel else 0 for i in range(x.ndim))
    high = tuple(size - 1 - before if i == channel else 0 for i in range(x.ndim))
    squares = padded(elementwise_math.square(x), low, high)
    view = window_view(squares, (channel,), (size,), (1,), (1,))
    total = reduction.SUM(view, axes=(x.ndim,), keepdims=False)
    spread = bias + (alpha / size) * total
    return multiply(x, elementwise_math.pow(spread, -beta))


def weight_norm(direction: TensorLike, magnitude: TensorLike, *, axis: int | None = 0) -> Tensor:
    """direction * magnitude / |direction|, the norm over all axes but `axis` (None: over all).

    A weight as its length and its direction (Salimans and Kingma, 2016). magnitude: of shape
    (rows,) along `axis`, of direction's shape with size 1 elsewhere, or a number for axis=None.
    Raises ShapeError for another shape.
    """
    op = "weight_norm"
    v = as_float(op, direction)
    kept = () if axis is None else (normalize_axis(op, v, axis),)
    axes = tuple(i for i in range(v.ndim) if i not in kept)
    shape = tuple(n if i in kept else 1 for i, n in enumerate(v.shape))
    g = cast(as_tensor(magnitude, like=v, op=op), v.dtype)
    if g.shape not in (shape, tuple(v.shape[i] for i in kept)):
        shape_error(
            f"{op}: magnitude must have shape {shape_text(shape)}, got {g.type}",
            [v, g],
            "there is one length per slice along the axis",
        )
    return multiply(v, elementwise.divide(to_shape(g, shape), NORM(v, axes=axes, keepdims=True)))


def spectral_norm(
    w: TensorLike,
    u: TensorLike,
    *,
    iterations: int = 1,
    axis: int = 0,
    epsilon: float = 1e-12,
) -> tuple[Tensor, Tensor]:
    """A weight divided by its largest singular value, and the new vector u (Miyato et al., 2018).

    w is taken as a matrix of (rows along `axis`, all the rest). u: (rows,), an estimate of the
    left singular vector, kept as a variable and improved by `iterations` steps of the power method,
    through which no gradient flows:

        normal, better = graphc.nn.spectral_norm(w, u)
        updates[u] = better

    Raises ShapeError where u does not fit or iterations are negative.
    """
    op = "spectral_norm"
    weight = as_float(op, w)
    axis = normalize_axis(op, weight, axis)
    rows = weight.shape[axis]
    left = cast(as_tensor(u, like=weight, op=op), weight.dtype)
    if left.shape != (rows,) or iterations < 0:
        shape_error(
            f"{op}: u must have shape {shape_text((rows,))}, got {left.type}; iterations "
            f"{iterations}",
            [weight, left],
            "u has one element per row; iterations is 0 or more",
        )
    front = moveaxis(weight, axis, 0)
    matrix = to_shape(front, (rows, product(front.shape[1:])))
    fixed = stop_gradient(matrix)
    right = _unit_vector(matmul(left, fixed), epsilon)
    for _ in range(iterations):
        left = _unit_vector(matmul(fixed, right), epsilon)
        right = _unit_vector(matmul(left, fixed), epsilon)
    left, right = stop_gradient(left), stop_gradient(right)
    largest = matmul(left, matmul(matrix, right))
    return elementwise.divide(weight, largest), left


def _unit_vector(x: Tensor, epsilon: float) -> Tensor:
    return elementwise.divide(x, elementwise.maximum(NORM(x, axes=(0,), keepdims=True), epsilon))


def moments(x: TensorLike, *, axis: Axes = None, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """The mean and the (biased, two-pass) variance over `axis`."""
    tensor = as_float("moments", x)
    mean = reduction.mean(tensor, axis=axis, keepdims=keepdims)
    return mean, statistical.var(tensor, axis=axis, keepdims=keepdims)
