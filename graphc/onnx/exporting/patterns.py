"""Groups of graphc nodes that are one operator of ONNX (floor 8).

Nodes are interned: a group is recognized by building it again out of its parts and asking whether
that is the same node. What lies inside a group is not exported on its own, unless something else
needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.base.dtypes import int64
from graphc.ir.node import Tensor
from graphc.nn.pooling import avg_pool
from graphc.onnx.exporting.activations import activation
from graphc.onnx.exporting.group import Asked, Match
from graphc.onnx.exporting.normalization import batch_normalization, layer_normalization
from graphc.onnx.exporting.products import convolved, letters_of
from graphc.onnx.exporting.reductions import top_k
from graphc.onnx.exporting.table import Making
from graphc.onnx.exporting.writer import Value, takes
from graphc.ops.reduction import lowest
from graphc.ops.selection import true_positions
from graphc.ops.windows import split_windows


def match(node: Any, asked: Asked) -> Match | None:
    """The group that ends in a node, None where the node is written by itself."""
    for finder in _FINDERS.get(node.op.name, ()):
        found = finder(node, asked)
        if found is not None:
            return found
    return None


# -- sums with a bias -----------------------------------------------------------------------------


def _biased(node: Tensor, asked: Asked) -> Match | None:
    for first, second in (node.inputs, node.inputs[::-1]):
        if asked.alone(first) and node.dtype.compute is node.dtype and node.shape == first.shape:
            found = _conv_bias(node, first, second) or _gemm_bias(node, first, second)
            if found is not None:
                return found
    return None


def _conv_bias(node: Tensor, first: Tensor, second: Tensor) -> Match | None:
    if first.op.name != "conv" or second.op.name != "reshape" or not node.dtype.is_float:
        return None
    bias, channels = second.inputs[0], first.shape[1]
    if bias.shape != (channels,) or second.shape != (channels, *(1,) * (first.ndim - 2)):
        return None

    def write(m: Making, xs: list[Value]) -> Value:
        return convolved(m, first, *xs)

    return Match((*first.inputs, bias), write)


def _gemm_bias(node: Tensor, first: Tensor, second: Tensor) -> Match | None:
    found = _matrices(first)
    if found is None or second.ndim > 2:
        return None
    operands, turns = found
    return _gemm(node, (*operands, second), turns)


def _gemm(node: Tensor, operands: tuple[Tensor, ...], turns: dict[str, int]) -> Match:
    def write(m: Making, xs: list[Value]) -> Value:
        return m.writer.op("Gemm", *xs, dtype=node.dtype, **turns)

    return Match(operands, write)


def _turned_product(node: Tensor, asked: Asked) -> Match | None:
    """A product of two matrices of which one is turned."""
    found = _matrices(node)
    return None if found is None or not any(found[1].values()) else _gemm(node, *found)


def _matrices(node: Tensor) -> tuple[tuple[Tensor, Tensor], dict[str, int]] | None:
    """The operands of a product of two float matrices, and which of them are turned."""
    wide = node.dtype.is_float and node.dtype.compute is node.dtype
    if node.op.name != "einsum" or not wide:
        return None
    letters = letters_of(node.attr("spec"))
    plain = len(letters.summed) == len(letters.rows) == len(letters.columns) == 1
    if not plain or letters.batch or letters.result != letters.rows + letters.columns:
        return None
    if len(letters.left) != 2 or len(letters.right) != 2:
        return None
    a, b = node.inputs
    turn_a = letters.left != letters.rows + letters.summed
    turn_b = letters.right != letters.summed + letters.columns
    if a.op.name == "permute_dims" and a.attr("axes") == (1, 0):
        a, turn_a = a.inputs[0], not turn_a
    if b.op.name == "permute_dims" and b.attr("axes") == (1, 0):
        b, turn_b = b.inputs[0], not turn_b
    return (a, b), {"transA": int(turn_a), "transB": int(turn_b)}


# -- pools ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Windows:
    """What a pool reads: windows over the spatial axes of x."""

    x: Tensor
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]


def _windows(view: Tensor, inner: tuple[int, ...]) -> _Windows | None:
    """The windows that a view is, their elements along the axes `inner`: the op, or reshapes where
    they lie side by side.
    """
    rank = len(inner)
    axes = tuple(range(2, 2 + rank))
    if view.ndim != 2 * rank + 2:
        return None
    if view.op.name == "windows":
        at, size, stride, dilation = view.attrs
        trailing = inner == tuple(range(2 + rank, 2 + 2 * rank))
        return _Windows(view.inputs[0], size, stride, dilation) if trailing and at == axes else None
    size = tuple(n for a in inner if isinstance(n := view.shape[a], int) and n > 0)
    if len(size) < rank:
        return None
    ones = (1,) * rank
    x = view
    while x.op.name in ("reshape", "slice"):
        x = x.inputs[0]
        fits = x.ndim == rank + 2 and all(
            isinstance(n, int) and n >= k for n, k in zip(x.shape[2:], size, strict=True)
        )
        if fits and split_windows(x, axes, size) == (view, inner):
            return _Windows(x, size, size, ones)
    return None


def _padding(x: Tensor, value: bool | int | float) -> tuple[Tensor, tuple[int, ...]] | None:
    """The tensor that is padded by a value over its spatial axes, and the widths, low ones first;
    x itself where it is no such pad.
    """
    rank = x.ndim - 2
    if x.op.name != "pad":
        return x, (0,) * (2 * rank)
    low, high, interior, fill = x.attrs
    widths = (*low[2:], *high[2:])
    whole = all(isinstance(n, int) and n >= 0 for n in widths)
    if any(interior) or fill != value or not whole or any((*low[:2], *high[:2])):
        return None
    return x.inputs[0], widths


def _pool(node: Tensor, asked: Asked) -> Match | None:
    view, axes = node.inputs[0], node.attr("axes")
    rank = len(axes)
    if not rank or node.attr("keepdims"):
        return None
    found = _windows(view, axes)
    largest = node.op.name == "max"
    if found is None or (not largest and any(d != 1 for d in found.dilation)):
        return None
    padding = _padding(found.x, lowest(node.dtype) if largest else 0.0)
    x, pads = padding or (found.x, (0,) * (2 * rank))
    reach = [(k - 1) * d + 1 for k, d in zip(found.size, found.dilation, strict=True)]
    if any(p >= r for p, r in zip(pads, (*reach, *reach), strict=True)):
        x, pads = found.x, (0,) * (2 * rank)
    op_type = "MaxPool" if largest else "AveragePool"
    dtype = node.dtype if largest else node.dtype.compute
    if not takes(op_type, asked.opset, 0, dtype):
        return None
    attrs: dict[str, Any] = {"kernel_shape": list(found.size), "strides": list(found.stride)}
    attrs["pads"] = list(pads)
    more: dict[str, Any] = (
        {"dilations": list(found.dilation)} if largest else {"count_include_pad": 1}
    )

    def write(m: Making, xs: list[Value]) -> Value:
        return m.writer.apply(op_type, xs[0], compute=dtype, **attrs, **more)

    return Match((x,), write)


def _average_of_real(node: Tensor, asked: Asked) -> Match | None:
    """An average pool that leaves padding out: a sum over windows divided by a count."""
    total = node.inputs[0]
    if total.op.name != "sum" or total.ndim < 3 or not node.dtype.is_float:
        return None
    found = _windows(total.inputs[0], total.attr("axes"))
    padding = None if found is None else _padding(found.x, 0.0)
    if found is None or padding is None or any(d != 1 for d in found.dilation):
        return None
    x, pads = padding
    rank = len(found.size)
    reach = (*found.size, *found.size)
    if not any(pads) or any(p >= k for p, k in zip(pads, reach, strict=True)):
        return None
    pairs = list(zip(pads[:rank], pads[rank:], strict=True))
    again = avg_pool(x, found.size, found.stride, pairs, count_include_pad=False)
    if again is not node:
        return None
    attrs: dict[str, Any] = {"kernel_shape": list(found.size), "strides": list(found.stride)}
    attrs["pads"] = list(pads)

    def write(m: Making, xs: list[Value]) -> Value:
        compute = node.dtype.compute
        return m.writer.apply("AveragePool", xs[0], compute=compute, count_include_pad=0, **attrs)

    return Match((x,), write)


# -- the first elements in order ------------------------------------------------------------------


def _first_places(node: Tensor) -> tuple[Tensor, int, int, bool] | None:
    """(x, axis, count, descending) of the first elements of an argsort."""
    if node.op.name == "top_k_positions":
        axis, count, descending = node.attrs
        return node.inputs[0], axis, count, descending
    if node.op.name != "slice" or node.inputs[0].op.name != "argsort":
        return None
    order = node.inputs[0]
    axis, descending = order.attrs
    starts, steps, shape = node.attrs
    count = shape[axis]
    same = all(n == m for a, (n, m) in enumerate(zip(shape, order.shape)) if a != axis)
    if not same or any(s != 0 for s in starts) or any(s != 1 for s in steps):
        return None
    if not isinstance(count, int):
        return None
    return order.inputs[0], axis, count, descending


def _top_places(node: Tensor, asked: Asked) -> Match | None:
    found = _first_places(node)
    return None if found is None else _top(found, 1)


def _top_values(node: Tensor, asked: Asked) -> Match | None:
    x, places = node.inputs
    found = _first_places(places)
    if found is None or found[0] is not x or found[1] != node.attr("axis"):
        return None
    return _top(found, 0)


def _top(found: tuple[Tensor, int, int, bool], which: int) -> Match:
    x, axis, count, descending = found

    def write(m: Making, xs: Sequence[Value]) -> Value:
        return top_k(m, xs[0], axis, m.writer.ints([count]), descending)[which]

    return Match((x,), write)


def _true_positions(node: Tensor, asked: Asked) -> Match | None:
    """The positions of all true elements of a vector."""
    (mask,) = node.inputs
    if true_positions(mask) is not node:
        return None

    def write(m: Making, xs: list[Value]) -> Value:
        return m.writer.squeeze(m.writer.op("NonZero", xs[0], dtype=int64), [0])

    return Match((mask,), write)


_FINDERS: dict[str, tuple[Callable[[Tensor, Asked], Match | None], ...]] = {
    "add": (_biased, batch_normalization, layer_normalization),
    "einsum": (_turned_product,),
    "divide": (_average_of_real, activation),
    "max": (_pool,),
    "mean": (_pool,),
    "multiply": (activation, layer_normalization),
    "slice": (_top_places,),
    "take_along_axis": (_top_values,),
    "true_positions": (_true_positions,),
    "where": (activation,),
}
