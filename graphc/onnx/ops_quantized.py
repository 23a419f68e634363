"""Quantized operators (floor 8): integers with a scale and a zero point, bit by bit as ONNX says.

Quotients are computed in float64 and rounded to the scale's dtype. That is the correctly rounded
quotient whatever the compiler makes of the division (x / k as x * (1 / k) is off by 2**-52): a
quotient of two 24-bit numbers never comes closer to the middle of two float32 than 2**-49.
"""

from __future__ import annotations

import numpy as np

from graphc.base.dims import Dim, Shape
from graphc.base.dtypes import DType, float32, float64, int32, uint8
from graphc.ir.node import Tensor
from graphc.nn.convolution import conv
from graphc.onnx.context import Context, op
from graphc.onnx.elements import ELEMENTS, name_of
from graphc.onnx.narrow import CARRIED, INTEGERS, carried, limits_of, numbers_of
from graphc.onnx.values import TensorValue, Value
from graphc.onnx.windows import kernel_of, windows_of
from graphc.ops import elementwise, logical, rounding
from graphc.ops.axes import normalize_axis
from graphc.ops.contraction import matmul
from graphc.ops.joining import take_slice
from graphc.ops.promotion import cast
from graphc.ops.reduction import max as greatest
from graphc.ops.reduction import min as least
from graphc.ops.reshape import to_shape
from graphc.ops.view import broadcasted


def _quotient(x: Tensor, scale: Tensor | float, dtype: DType) -> Tensor:
    """x / scale rounded to a dtype."""
    divisor = cast(scale, float64) if isinstance(scale, Tensor) else scale
    return cast(elementwise.divide(cast(x, float64), divisor), dtype)


def _quantized(
    x: Tensor,
    zero_point: Tensor | None,
    dtype: DType,
    low: int | None = None,
    high: int | None = None,
) -> Tensor:
    """Floats rounded (halves to even), moved by a zero point, and cut to an integer dtype, or to a
    part of it.
    """
    limits = np.iinfo(dtype.numpy)
    whole = rounding.round(x if x.dtype.bits >= 32 else cast(x, float32))
    least_ = float(limits.min if low is None else low)
    greatest_ = float(limits.max if high is None else high)
    if zero_point is None:
        return cast(rounding.clip(whole, least_, greatest_), dtype)
    # Cut before the zero point is added: floats hold all these numbers exactly.
    at = cast(zero_point, whole.dtype)
    least_at, greatest_at = (elementwise.subtract(end, at) for end in (least_, greatest_))
    whole = cast(rounding.clip(whole, least_at, greatest_at), int32)
    return cast(elementwise.add(whole, cast(zero_point, int32)), dtype)


def _spread(c: Context, k: int, x: Tensor) -> Tensor:
    """Operand k (one number, one per place of an axis, or one per block) so that it broadcasts."""
    found = numbers_of(c.carried(k))
    block = c.attribute("block_size", 0)
    if found.shape in ((), (1,)) and not block:
        return to_shape(found, ())
    axis = normalize_axis(c.op, x, c.attribute("axis", 1))
    n = x.shape[axis]
    if not block:
        if found.shape != (n,):
            c.bad(f"operand {k} is {found.type}, expected [{n}]: one per place of axis {axis}")
        return to_shape(found, (n, *(1,) * (x.ndim - 1 - axis)))
    if isinstance(n, Dim):
        c.refuse(f"block_size with axis {axis} of the symbolic size {n}")
    count = -(-n // block)
    shape: Shape = tuple(count if a == axis else m for a, m in enumerate(x.shape))
    if found.shape != shape:
        c.bad(f"operand {k} is {found.type}, expected {list(shape)}: one per block of {block}")
    apart = to_shape(found, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    wide = broadcasted(apart, (*shape[: axis + 1], block, *shape[axis + 1 :]))
    wide = to_shape(wide, tuple(count * block if a == axis else m for a, m in enumerate(shape)))
    return take_slice(wide, axis, 0, n)


@op("QuantizeLinear")
def quantize_linear(c: Context) -> Tensor | Value:
    """round(x / scale) + zero point, saturated."""
    x = c.tensor(0)
    scale = _spread(c, 1, x)
    zero_point = _spread(c, 2, x) if c.has(2) else None
    wanted = c.attribute("output_dtype", 0)
    element = c.carried(2).element if c.has(2) else wanted or ELEMENTS[uint8]
    if wanted not in (0, element):
        c.bad(f"output_dtype is {name_of(wanted)}, and the zero point is {name_of(element)}")
    precision = c.attribute("precision", 0)
    work = c.dtype(precision, "precision") if precision else scale.dtype
    if precision:
        x, scale = cast(x, work), cast(scale, work)
    quotient = _quotient(x, scale, work)
    if element in INTEGERS:
        low, high = limits_of(element)
        found = _quantized(quotient, zero_point, CARRIED[element], low, high)
        return TensorValue(found, element=element)
    if element in CARRIED:  # a float: its zero point is 0
        return carried(quotient, element, saturate=bool(c.attribute("saturate", 1)))
    dtype = c.dtype(element, "what it quantizes to")
    if not dtype.is_integer or dtype.bits > 16:
        c.bad(f"it quantizes to {dtype}, expected an integer of at most 16 bits")
    return _quantized(quotient, zero_point, dtype)


@op("DequantizeLinear")
def dequantize_linear(c: Context) -> Tensor:
    """(x - zero point) * scale."""
    x = numbers_of(c.carried(0))
    scale = _spread(c, 1, x)
    wanted = c.attribute("output_dtype", 0)
    dtype = c.dtype(wanted, "output_dtype") if wanted else scale.dtype
    if c.has(2):
        zero_point = _spread(c, 2, x)
        if zero_point.dtype is not x.dtype:
            c.bad(f"the zero point is {zero_point.dtype}, and operand 0 is {x.dtype}")
        wide = float32 if x.dtype.is_float else int32
        x = elementwise.subtract(cast(x, wide), cast(zero_point, wide))
    return cast(elementwise.multiply(cast(x, float32), cast(scale, float32)), dtype)


@op("DynamicQuantizeLinear")
def dynamic_quantize_linear(c: Context) -> list[Tensor]:
    """x as uint8 over the range of its own values, which takes in 0."""
    x = c.tensor(0)
    high = elementwise.maximum(greatest(x), 0.0)
    low = elementwise.minimum(least(x), 0.0)
    span = elementwise.subtract(high, low)
    span = elementwise.where(logical.equal(high, low), 1.0, span)
    scale = _quotient(span, 255.0, x.dtype)
    start = elementwise.negative(_quotient(low, scale, x.dtype))
    zero_point = cast(rounding.round(rounding.clip(start, 0.0, 255.0)), uint8)
    return [_quantized(_quotient(x, scale, x.dtype), zero_point, uint8), scale, zero_point]


# -- products of integers -------------------------------------------------------------------------


def _centered(c: Context, k: int, zero: int, axis: int | None) -> Tensor:
    """Operand k less its zero point, in int32. axis: where a zero point per row or column lies,
    counted from the end.
    """
    x = c.tensor(k)
    wide = cast(x, int32)
    if not c.has(zero):
        return wide
    point = c.tensor(zero)
    if point.dtype is not x.dtype:
        c.bad(f"the zero point is {point.dtype}, and operand {k} is {x.dtype}")
    return elementwise.subtract(wide, cast(_aligned(c, point, x, zero, axis), int32))


def _aligned(c: Context, point: Tensor, x: Tensor, k: int, axis: int | None) -> Tensor:
    """A scale or zero point (operand k) so shaped that it broadcasts with x."""
    if point.shape in ((), (1,)):
        return to_shape(point, ())
    if axis is not None and point.ndim == 1 and point.shape[0] == x.shape[axis]:
        return to_shape(point, (point.shape[0], *(1,) * (-axis - 1)))
    if point.ndim == x.ndim:
        return point
    c.bad(f"operand {k} is {point.type}, which does not fit {x.type}")


@op("MatMulInteger")
def matmul_integer(c: Context) -> Tensor:
    """The product of two integer matrices, each less its zero point, in int32."""
    return matmul(_centered(c, 0, 2, -2), _centered(c, 1, 3, -1))


@op("ConvInteger")
def conv_integer(c: Context) -> Tensor:
    """The convolution of integers, each less its zero point, in int32."""
    return _convolved(c, 0, 2, 1, 3, None)


def _convolved(c: Context, x: int, x_zero: int, w: int, w_zero: int, bias: int | None) -> Tensor:
    """The convolution in int32 of operands x and w with their zero points."""
    data, kernel = c.tensor(x), c.tensor(w)
    at = windows_of(c, data, kernel_of(c, kernel))
    return conv(
        _centered(c, x, x_zero, None),
        _centered(c, w, w_zero, -kernel.ndim),
        at.stride,
        at.padding,
        at.dilation,
        c.attribute("group"),
        bias=None if bias is None else c.optional(bias),
    )


def _requantized(x: Tensor, factor: Tensor, zero_point: Tensor) -> Tensor:
    """int32 times a factor, in float64, which holds the product of both exactly."""
    product = elementwise.multiply(cast(x, float64), cast(factor, float64))
    return _quantized(product, zero_point, zero_point.dtype)


@op("QLinearMatMul")
def qlinear_matmul(c: Context) -> Tensor:
    """The product of two quantized matrices, quantized."""
    a, b = c.tensor(0), c.tensor(3)
    product = matmul(_centered(c, 0, 2, -2), _centered(c, 3, 5, -1))
    a_scale = _aligned(c, c.tensor(1), a, 1, -2)
    b_scale = _aligned(c, c.tensor(4), b, 4, -1)
    factor = elementwise.multiply(a_scale, b_scale)
    y_scale = _aligned(c, c.tensor(6), product, 6, -2)
    zero_point = _aligned(c, c.tensor(7), product, 7, -2)
    return _requantized(product, _quotient(factor, y_scale, y_scale.dtype), zero_point)


@op("QLinearConv")
def qlinear_conv(c: Context) -> Tensor:
    """The convolution of a quantized tensor by a quantized kernel, quantized."""
    out = _convolved(c, 0, 2, 3, 5, 8)
    scale = c.tensor(4)
    if scale.shape not in ((), (1,)):
        if scale.shape != (out.shape[1],):
            c.bad(f"w_scale is {scale.type}, expected one per channel ({out.shape[1]})")
        scale = to_shape(scale, (out.shape[1], *(1,) * (out.ndim - 2)))
    else:
        scale = to_shape(scale, ())
    factor = elementwise.multiply(to_shape(c.tensor(1), ()), scale)
    y_scale = to_shape(c.tensor(6), ())
    return _requantized(out, _quotient(factor, y_scale, float32), to_shape(c.tensor(7), ()))
