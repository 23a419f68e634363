"""The Euclidean norm (floor 2): a composite that neither overflows nor loses small vectors.

Attributes: `axes` and `keepdims`, as of reductions. Floats up to 32 bits sum their squares in
float64, whose range holds them; float64 is scaled by a power of two, which is exact, where its
largest element asks for it. The gradient is x / norm, and 0 at the zero vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dtypes import FLOAT, Array, DType, float64
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error
from graphc.ops import elementwise, elementwise_math, logical, rounding
from graphc.ops.families import Composite
from graphc.ops.promotion import cast
from graphc.ops.reduction import MAX, SUM, accurate, reduced_shape, restored
from graphc.ops.reshape import to_shape
from graphc.ops.sampling import draw, over_axes

# Squares of numbers between these limits stay normal, and so do sums of very many.
_HIGH, _LOW, _SCALE = 2.0**480, 2.0**-480, 2.0**600


def _type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,) = inputs
    assert isinstance(x, Tensor)
    if not x.dtype.is_float:
        dtype_error(f"norm: expected a float dtype, got {x.dtype}", [x])
    return TensorType(reduced_shape(x.shape, *attrs), x.dtype)


def _expand(node: Tensor) -> Tensor:
    (x,), (axes, _) = node.inputs, node.attrs
    if x.dtype is not float64:
        total = SUM(elementwise_math.square(cast(x, float64)), axes=axes, keepdims=True)
        return to_shape(cast(elementwise_math.sqrt(total), x.dtype), node.shape)
    top = MAX(rounding.abs(x), axes=axes, keepdims=True)
    down = elementwise.where(logical.greater(top, _HIGH), 1.0 / _SCALE, 1.0)
    scale = elementwise.where(logical.less(top, _LOW), _SCALE, down)
    total = SUM(elementwise_math.square(elementwise.multiply(x, scale)), axes=axes, keepdims=True)
    return to_shape(elementwise.divide(elementwise_math.sqrt(total), scale), node.shape)


def _reference(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    x = accurate(x)
    top = np.max(np.abs(x), axis=axes, keepdims=True, initial=0.0)
    scale = np.where(top > _HIGH, 1.0 / _SCALE, np.where(top < _LOW, _SCALE, 1.0))
    result = np.sqrt(np.sum(np.square(x * scale), axis=axes, keepdims=True)) / scale
    return np.asarray(result if keepdims else np.squeeze(result, axes))


def _gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    share = elementwise.chain_divide(node.inputs[0], restored(node, node))
    return [elementwise.chain_multiply(restored(g, node), share)]


def _samples(dtype: DType) -> list[Sample]:
    limits = np.finfo(np.float16 if dtype.bits == 16 else dtype.numpy)
    big, small = float(limits.max) / 4, float(limits.tiny)
    rows = np.asarray([[big, big], [small, -small], [0.0, 0.0], [np.inf, 1.0], [big, small]])
    return [
        Sample((draw((2, 0), dtype),), {"axes": (1,), "keepdims": False}),
        *over_axes(dtype, rows.astype(dtype.numpy)),
    ]


NORM = REGISTRY.add(
    OpDef(
        "norm",
        ("axes", "keepdims"),
        _type,
        _reference,
        _gradient,
        Composite(_expand),
        doc="sqrt(sum(x * x)) over axes, without overflow or underflow.",
        samples=_samples,
        dtypes=FLOAT,
    )
)
