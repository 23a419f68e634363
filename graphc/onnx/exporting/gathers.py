"""Reading and writing at computed places in ONNX (floor 8).

Indices that count from the end are ONNX's as well; what lies outside is an error of the runtime.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.base.dims import Shape
from graphc.base.dtypes import int32, int64
from graphc.ir.node import Tensor
from graphc.onnx.exporting.table import Making, exports
from graphc.onnx.exporting.writer import Value
from graphc.ops.promotion import broadcast_shapes
from graphc.ops.view import inverse_permutation

_REDUCTIONS = {"set": "none", "add": "add", "multiply": "mul", "min": "min", "max": "max"}


def _index(m: Making, x: Value) -> Value:
    return x if x.dtype in (int32, int64) else m.writer.cast(x, int64)


def _stacked(m: Making, indices: Sequence[Tensor], values: Sequence[Value]) -> tuple[Value, Shape]:
    """Indices of several axes as vectors along a last dim, and the shape in front of it."""
    w = m.writer
    shape = broadcast_shapes("gather", [i.shape for i in indices], indices)
    columns = []
    for tensor, value in zip(indices, values, strict=True):
        wide = w.cast(value, int64)
        if tensor.shape != shape:
            wide = m.sizes.expand(wide, shape)
        columns.append(w.unsqueeze(wide, [len(shape)]))
    if len(columns) == 1:
        return columns[0], shape
    return w.op("Concat", *columns, dtype=int64, axis=len(shape)), shape


def _moved(rank: int, start: int, inner: int) -> list[int]:
    """The order that brings `inner` leading dims of `rank` to the place `start` of the others."""
    rest = list(range(inner, rank))
    return [*rest[:start], *range(inner), *rest[start:]]


@exports("gather")
def _gather(m: Making, node: Tensor, xs: list[Value]) -> Value:
    axes, position = node.attrs
    w = m.writer
    source, *indices = node.inputs
    if len(axes) == 1:
        (axis,) = axes
        found = w.op("Gather", xs[0], _index(m, xs[1]), dtype=node.dtype, axis=axis)
        rank = indices[0].ndim
        if axis == position or not rank:
            return found
        order = [a for a in range(node.ndim) if not axis <= a < axis + rank]
        inner = range(axis, axis + rank)
        return w.transpose(found, (*order[:position], *inner, *order[position:]))
    rest = [a for a in range(source.ndim) if a not in axes]
    x = w.transpose(xs[0], (*axes, *rest))
    index, shape = _stacked(m, indices, xs[1:])
    found = w.op("GatherND", x, index, dtype=node.dtype)
    return w.transpose(found, _moved(node.ndim, position, len(shape)))


@exports("take_along_axis")
def _along(m: Making, node: Tensor, xs: list[Value]) -> Value:
    index = _index(m, xs[1])
    return m.writer.op("GatherElements", xs[0], index, dtype=node.dtype, axis=node.attr("axis"))


@exports("scatter")
def _scatter(m: Making, node: Tensor, xs: list[Value]) -> Value:
    axes, position, mode = node.attrs
    w = m.writer
    source, updates, *indices = node.inputs
    # Truths add up and multiply as numbers.
    dtype = int32 if node.dtype.is_bool and mode != "set" else node.dtype
    rest = [a for a in range(source.ndim) if a not in axes]
    order = (*axes, *rest)
    x = w.transpose(w.cast(xs[0], dtype), order)
    index, shape = _stacked(m, indices, xs[2:])
    back = inverse_permutation(_moved(updates.ndim, position, len(shape)))
    new = w.transpose(w.cast(xs[1], dtype), back)
    reduction = _REDUCTIONS[mode]
    found = w.op("ScatterND", x, index, new, dtype=dtype, reduction=reduction)
    return w.cast(w.transpose(found, inverse_permutation(order)), node.dtype)
