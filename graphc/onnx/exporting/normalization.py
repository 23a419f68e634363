"""Normalizations as operators of ONNX (floor 8): BatchNormalization and LayerNormalization.

As activations are: the function is built again on what it may have been applied to.
"""

from __future__ import annotations

from graphc.ir.node import Tensor
from graphc.nn.normalization import batch_norm, layer_norm
from graphc.onnx.exporting.group import Asked, Match, fits_attribute
from graphc.onnx.exporting.table import Making
from graphc.onnx.exporting.writer import Value


def batch_normalization(node: Tensor, asked: Asked) -> Match | None:
    """A batch normalization by given statistics, with scale and bias:
    (x + -mean) * rsqrt(variance + epsilon) * scale + bias, each per channel.
    """
    scaled, bias = _parts(node, "add")
    normal, scale = _parts(scaled, "multiply")
    centered, inverse = _parts(normal, "multiply")
    x, shift = _parts(centered, "add")
    found = [_per_channel(t, x) for t in (bias, scale, inverse, shift)]
    if x is None or x.ndim < 2 or any(t is None for t in found):
        return None
    bias, scale, inverse, shift = found
    spread = _statistics(inverse)
    if spread is None or shift is None or shift.op.name != "negative" or not _wide(x):
        return None
    (variance, epsilon), mean = spread, shift.inputs[0]
    again = batch_norm(x, scale, bias, mean, variance, epsilon=epsilon)
    if again is not node or scale is None or bias is None:
        return None

    def write(m: Making, xs: list[Value]) -> Value:
        return m.writer.op("BatchNormalization", *xs, dtype=node.dtype, epsilon=epsilon)

    return Match((x, scale, bias, mean, variance), write)


def layer_normalization(node: Tensor, asked: Asked) -> Match | None:
    """A layer normalization over the last axes with scale, and bias where there is one:
    (x - mean) * rsqrt(variance + epsilon) * scale + bias.
    """
    if node.op.name == "add":
        scaled, bias = _parts(node, "add")
    else:
        scaled, bias = node, None
    normal, scale = _parts(scaled, "multiply")
    centered, inverse = _parts(normal, "multiply")
    if centered is None or centered.op.name != "subtract" or scale is None:
        return None
    x, mean = centered.inputs
    spread = _statistics(inverse)
    if spread is None or mean.op.name != "mean" or not _wide(x):
        return None
    axes, epsilon = mean.attr("axes"), spread[1]
    if not axes or axes != tuple(range(axes[0], x.ndim)):
        return None
    own = [None if t is None else _own_shape(t, x.ndim - axes[0]) for t in (scale, bias)]
    if own[0] is None or layer_norm(x, *own, axis=axes, epsilon=epsilon) is not node:
        return None
    operands = (x, *(t for t in own if t is not None))

    def write(m: Making, xs: list[Value]) -> Value:
        return m.writer.op(
            "LayerNormalization", *xs, dtype=node.dtype, axis=axes[0], epsilon=epsilon
        )

    return Match(operands, write)


def _wide(x: Tensor) -> bool:
    """float32 and float64: 16-bit floats would be rounded elsewhere."""
    return x.dtype.is_float and x.dtype.compute is x.dtype


def _parts(node: Tensor | None, op: str) -> tuple[Tensor, Tensor] | tuple[None, None]:
    if node is None or node.op.name != op:
        return None, None
    first, second = node.inputs
    return first, second


def _per_channel(t: Tensor | None, x: Tensor | None) -> Tensor | None:
    """The vector that was shaped to stand at the channels of x."""
    if t is None or x is None or t.op.name != "reshape" or t.inputs[0].ndim != 1:
        return None
    return t.inputs[0]


def _own_shape(t: Tensor, rank: int) -> Tensor:
    """A parameter before it was given leading dims of size 1."""
    return t.inputs[0] if t.op.name == "reshape" and t.inputs[0].ndim == rank else t


def _statistics(inverse: Tensor | None) -> tuple[Tensor, float] | None:
    """(variance, epsilon) of rsqrt(variance + epsilon), epsilon as an attribute can say it."""
    if inverse is None or inverse.op.name != "rsqrt" or inverse.inputs[0].op.name != "add":
        return None
    variance, number = inverse.inputs[0].inputs
    if number.op.name != "constant" or number.ndim:
        return None
    epsilon = float(number.attr("value").values)
    return (variance, epsilon) if fits_attribute(epsilon) else None
