"""Views in ONNX (floor 8): reshapes, transposes, slices, pads, rolls, diagonals, windows.

Index arithmetic that ONNX has no operator for becomes a Gather at constant places (computed ones
where sizes are symbolic).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.base.dims import Dim, Shape, Size, bounds
from graphc.base.dtypes import bool_, int64
from graphc.ir.node import Tensor
from graphc.onnx.exporting.sizes import LOWEST
from graphc.onnx.exporting.table import Making, exports
from graphc.onnx.exporting.writer import Value
from graphc.ops.view import inverse_permutation


@exports("reshape")
def _reshape(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return m.sizes.reshape(xs[0], node.inputs[0].shape, node.shape)


@exports("permute_dims")
def _permute(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return m.writer.transpose(xs[0], node.attr("axes"))


@exports("broadcast_to")
def _broadcast(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return m.sizes.expand(xs[0], node.shape)


@exports("concat")
def _concat(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return m.writer.op("Concat", *xs, dtype=node.dtype, axis=node.attr("axis"))


@exports("flip")
def _flip(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return flipped(m, xs[0], node.attr("axes"))


def flipped(m: Making, x: Value, axes: Sequence[int]) -> Value:
    """x in reverse order along axes."""
    n = len(axes)
    if not n:
        return x
    w = m.writer
    ranges = (w.ints([-1] * n), w.ints([LOWEST] * n), w.ints(axes), w.ints([-1] * n))
    return w.op("Slice", x, *ranges, dtype=x.dtype)


@exports("roll")
def _roll(m: Making, node: Tensor, xs: list[Value]) -> Value:
    (x,), w = xs, m.writer
    for axis, shift in zip(node.attr("axes"), node.attr("shift"), strict=True):
        size = node.shape[axis]
        if isinstance(size, int) and isinstance(shift, int):
            cut = w.ints([-shift % size if size else 0])
        else:
            # Modulo of nothing is not defined: an empty axis is cut anywhere.
            whole = w.op("Max", m.sizes.vector(size), w.ints([1]), dtype=int64)
            cut = w.op("Mod", m.sizes.vector(-1 * shift), whole, dtype=int64)
        along, end = w.ints([axis]), w.ints([(1 << 63) - 1])
        tail = w.op("Slice", x, cut, end, along, dtype=x.dtype)
        head = w.op("Slice", x, w.ints([0]), cut, along, dtype=x.dtype)
        x = w.op("Concat", tail, head, dtype=x.dtype, axis=axis)
    return x


# -- slice, pad -----------------------------------------------------------------------------------


@exports("slice")
def _slice(m: Making, node: Tensor, xs: list[Value]) -> Value:
    starts, steps, shape = node.attrs
    axes = [
        a
        for a, (start, step, size, n) in enumerate(
            zip(starts, steps, shape, node.inputs[0].shape, strict=True)
        )
        if not (step == 1 and size == n and not isinstance(start, Dim) and start == 0)
    ]
    if not axes:
        return xs[0]
    w = m.writer
    ends = [_end(m, starts[a], steps[a], shape[a], node.inputs[0].shape[a]) for a in axes]
    end = _joined(m, ends)
    start = m.sizes.shape(tuple(starts[a] for a in axes))
    by = w.ints([steps[a] for a in axes])
    return w.op("Slice", xs[0], start, end, w.ints(axes), by, dtype=node.dtype)


def _end(m: Making, start: Size, step: int, size: Size, n: Size) -> int | Value:
    """Where a slice ends. Going down past the first element is written as the lowest number:
    ONNX counts from the end what is negative.
    """
    end = start + size * step
    if isinstance(end, int):
        return LOWEST if end < 0 else end
    low = bounds(end)[0]
    if end == n and step == 1:
        return (1 << 63) - 1
    value = m.sizes.vector(end)
    if step > 0 or (low is not None and low >= 0):
        return value
    w = m.writer
    below = w.op("Less", value, w.ints([0]), dtype=bool_)
    return w.op("Where", below, w.ints([LOWEST]), value, dtype=int64)


@exports("pad")
def _pad(m: Making, node: Tensor, xs: list[Value]) -> Value:
    low, high, interior, value = node.attrs
    x = spread(m, xs[0], node.inputs[0].shape, interior, value)
    # Behind each of the spread elements, the last one too, lie `interior` more.
    ends = tuple(h - gap for h, gap in zip(high, interior, strict=True))
    return padded(m, x, node.inputs[0].ndim, low, ends, value)


def spread(
    m: Making, x: Value, shape: Shape, interior: Sequence[int], value: bool | int | float
) -> Value:
    """x with each element followed by `interior` more of the value, along each axis."""
    old = list(shape)
    for axis, gap in enumerate(interior):
        if not gap:
            continue
        rank = len(old) + 1
        apart = m.writer.unsqueeze(x, [axis + 1])
        zeros = (0,) * rank
        behind = tuple(gap if a == axis + 1 else 0 for a in range(rank))
        apart = padded(m, apart, rank, zeros, behind, value)
        new = (*old[:axis], old[axis] * (gap + 1), *old[axis + 1 :])
        x = m.sizes.reshape(apart, (*old[: axis + 1], gap + 1, *old[axis + 1 :]), new)
        old = list(new)
    return x


def padded(
    m: Making, x: Value, rank: int, low: Shape, high: Shape, value: bool | int | float
) -> Value:
    """x with constants around it; negative widths cut off."""
    w = m.writer
    grown = [_part(m, n, 1) for n in (*low, *high)]
    if any(isinstance(n, Value) or n for n in grown):
        x = w.op("Pad", x, _joined(m, grown), w.number(value, x.dtype), dtype=x.dtype)
    # What is cut off may be padding: an empty axis can be cut after it was padded only.
    cuts = [(_part(m, low[a], -1), _part(m, high[a], -1)) for a in range(rank)]
    axes = [a for a, pair in enumerate(cuts) if any(isinstance(n, Value) or n for n in pair)]
    if not axes:
        return x
    ends: list[int | Value] = []
    for a in axes:
        last = cuts[a][1]
        if isinstance(last, int):
            ends.append(-last if last else (1 << 63) - 1)
            continue
        axis = w.op("Shape", x, dtype=int64, start=a, end=a + 1)
        ends.append(w.op("Sub", axis, last, dtype=int64))
    starts = _joined(m, [cuts[a][0] for a in axes])
    return w.op("Slice", x, starts, _joined(m, ends), w.ints(axes), dtype=x.dtype)


def _part(m: Making, width: Size, sign: int) -> int | Value:
    """max(sign * width, 0): what a width adds (1) or cuts off (-1)."""
    size = sign * width
    if isinstance(size, int):
        return max(size, 0)
    low, high = bounds(size)
    if high is not None and high <= 0:
        return 0
    value = m.sizes.vector(size)
    if low is not None and low >= 0:
        return value
    return m.writer.op("Max", value, m.writer.ints([0]), dtype=int64)


def _joined(m: Making, parts: Sequence[int | Value]) -> Value:
    """Numbers and vectors of one element as one vector."""
    w = m.writer
    numbers = [n for n in parts if isinstance(n, int)]
    if len(numbers) == len(parts):
        return w.ints(numbers)
    values = [n if isinstance(n, Value) else w.ints([n]) for n in parts]
    return values[0] if len(values) == 1 else w.op("Concat", *values, dtype=int64, axis=0)


# -- diagonals ------------------------------------------------------------------------------------


@exports("diagonal")
def _diagonal(m: Making, node: Tensor, xs: list[Value]) -> Value:
    (row, column), offset = node.attrs
    w = m.writer
    places = m.sizes.arange(node.shape[-1])
    rest = [a for a in range(node.inputs[0].ndim) if a not in (row, column)]
    x = w.transpose(xs[0], (row, column, *rest))
    both = [
        w.op("Add", places, w.ints([shift]), dtype=int64) if shift else places
        for shift in (max(0, -offset), max(0, offset))
    ]
    index = w.op("Concat", *(w.unsqueeze(p, [1]) for p in both), dtype=int64, axis=1)
    found = w.op("GatherND", x, index, dtype=x.dtype)
    return w.transpose(found, (*range(1, node.ndim), 0))


@exports("embed_diagonal")
def _embed_diagonal(m: Making, node: Tensor, xs: list[Value]) -> Value:
    (row, column), offset, (rows, columns) = node.attrs
    w, source = m.writer, node.inputs[0]
    last = source.ndim - 1
    # One more element, so that there is something to read where the diagonal is empty.
    x = padded(m, xs[0], source.ndim, (0,) * source.ndim, (*(0,) * last, 1), 0)
    r = w.unsqueeze(m.sizes.arange(rows), [1])
    c = w.unsqueeze(m.sizes.arange(columns), [0])
    here = w.op("Equal", w.op("Sub", c, r, dtype=int64), w.ints([offset]), dtype=bool_)
    place = w.op("Sub", m.sizes.arange(rows), w.ints([max(0, -offset)]), dtype=int64)
    place = w.op("Max", place, w.ints([0]), dtype=int64)
    place = w.op("Min", place, m.sizes.vector(source.shape[-1]), dtype=int64)
    x = w.unsqueeze(w.op("Gather", x, place, dtype=x.dtype, axis=last), [last + 1])
    found = w.op("Where", here, x, w.number(0, x.dtype), dtype=x.dtype)
    order = [a for a in range(node.ndim) if a not in (row, column)]
    return w.transpose(found, inverse_permutation((*order, row, column)))


# -- windows --------------------------------------------------------------------------------------


@exports("windows")
def _windows(m: Making, node: Tensor, xs: list[Value]) -> Value:
    axes, sizes, strides, dilations = node.attrs
    w, x = m.writer, xs[0]
    source = node.inputs[0]
    found: dict[int, tuple[int, int]] = {}  # axis -> places of the windows and of what is inside
    moved = 0
    for a, size, stride, dilation in sorted(zip(axes, sizes, strides, dilations, strict=True)):
        first = w.op("Mul", m.sizes.arange(node.shape[a]), w.ints([stride]), dtype=int64)
        inner = w.ints(np.arange(size) * dilation)
        index = w.op("Add", w.unsqueeze(first, [1]), w.unsqueeze(inner, [0]), dtype=int64)
        x = w.op("Gather", x, index, dtype=x.dtype, axis=a + moved)
        found[a] = (a + moved, a + moved + 1)
        moved += 1
    places: list[int] = []
    shift = 0
    for a in range(source.ndim):
        places.append(a + shift)
        shift += a in found
    return w.transpose(x, (*places, *(found[a][1] for a in axes)))


@exports("align_windows", "unalign_windows")
def _aligned(m: Making, node: Tensor, xs: list[Value]) -> Value:
    axes, strides, dilations, _ = node.attrs
    w, x = m.writer, xs[0]
    source, rank = node.inputs[0], node.ndim
    shape = list(source.shape)
    for j, (a, stride, dilation) in enumerate(zip(axes, strides, dilations, strict=True)):
        inner = rank - len(axes) + j
        kernel, old, new = shape[inner], shape[a], node.shape[a]
        along = w.unsqueeze(m.sizes.arange(new), [1])
        within = w.op("Mul", m.sizes.arange(kernel), w.ints([dilation]), dtype=int64)
        place, inside = _places(m, node.op.name, along, w.unsqueeze(within, [0]), stride, old)
        # A place outside reads the element behind the last one, which is zero.
        place = w.op("Where", inside, place, m.sizes.vector(old), dtype=int64)
        wide = tuple(1 if b == a else 0 for b in range(rank))
        x = padded(m, x, rank, (0,) * rank, wide, 0)
        shape[a] = new
        between = [b for b in range(rank) if b not in (a, inner)]
        index = m.sizes.expand(w.unsqueeze(place, between), tuple(shape))
        x = w.op("GatherElements", x, index, dtype=x.dtype, axis=a)
    return x


def _places(
    m: Making, op: str, along: Value, within: Value, stride: int, old: Size
) -> tuple[Value, Value]:
    """The places that are read, and whether each exists."""
    w = m.writer
    by = w.ints([stride])
    if op == "unalign_windows":
        place = w.op("Add", w.op("Mul", along, by, dtype=int64), within, dtype=int64)
        return place, w.op("Less", place, m.sizes.vector(old), dtype=bool_)
    start = w.op("Sub", along, within, dtype=int64)
    rest = w.op("Mod", start, by, dtype=int64)
    place = w.op("Div", w.op("Sub", start, rest, dtype=int64), by, dtype=int64)
    inside = w.op("Equal", rest, w.ints([0]), dtype=bool_)
    for test, limit in (("GreaterOrEqual", w.ints([0])), ("Less", m.sizes.vector(old))):
        inside = w.op("And", inside, w.op(test, place, limit, dtype=bool_), dtype=bool_)
    return place, inside


# -- generated ------------------------------------------------------------------------------------


@exports("full")
def _full(m: Making, node: Tensor, xs: list[Value]) -> Value:
    w = m.writer
    value = w.number(node.attr("value"), node.dtype)
    return m.sizes.expand(value, node.shape) if node.shape else value


@exports("iota")
def _iota(m: Making, node: Tensor, xs: list[Value]) -> Value:
    axis = node.attr("axis")
    w = m.writer
    line = w.cast(m.sizes.arange(node.shape[axis]), node.dtype)
    line = w.unsqueeze(line, range(1, node.ndim - axis))
    alone = all(n == 1 for a, n in enumerate(node.shape) if a != axis)
    if alone and axis == 0:
        return line
    return m.sizes.expand(line, node.shape)


@exports("size")
def _size(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return m.writer.cast(m.sizes.scalar(node.attr("size")), node.dtype)
