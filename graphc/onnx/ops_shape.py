"""Operators on shapes (floor 8): reshape, slice, join, pad, repeat, and tensors made of shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import graphc
from graphc.base.dims import Dim, Size, bounds, divide, product
from graphc.base.errors import ShapeError
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, Result, op
from graphc.onnx.exact_sizes import filled
from graphc.onnx.values import TensorValue, Value, object_array, of_array, of_sizes
from graphc.ops.axes import same_size
from graphc.ops.reshape import checked_reshape


@op("Constant", "ConstantFill")
def constant(c: Context) -> Value:
    """A tensor that the node itself holds."""
    if c.op == "ConstantFill":
        c.refuse("the experimental operator ConstantFill")
    for name, dtype in (
        ("value_float", "float32"),
        ("value_int", "int64"),
        ("value_floats", "float32"),
        ("value_ints", "int64"),
    ):
        found = c.attribute(name)
        if found is not None:
            return of_array(np.array(found, dtype), getattr(graphc, dtype))
    if c.attribute("value_string") is not None or c.attribute("value_strings") is not None:
        c.refuse("strings")
    value = c.attribute("value")
    value = c.attribute("sparse_value") if value is None else value
    if not isinstance(value, Value):
        c.bad("it has no value")
    return value


@op("Shape")
def shape(c: Context) -> Value:
    """The sizes of the operand, from one axis to another."""
    sizes = _any_shape(c)
    start = int(c.attribute("start", 0))
    end = c.attribute("end")
    return of_sizes(object_array(list(sizes[start:end])), graphc.int64)


@op("Size")
def size(c: Context) -> Value:
    """The number of elements."""
    return of_sizes(object_array(product(_any_shape(c))), graphc.int64)


def _any_shape(c: Context) -> tuple[Size, ...]:
    found = c.any_value(0)
    if isinstance(found, TensorValue):
        return found.shape
    return c.value(0).shape


# -- reshapes -------------------------------------------------------------------------------------


@op("Reshape")
def reshape_attribute(c: Context) -> Tensor:
    """The elements in a shape that is an attribute."""
    return _reshaped(c, tuple(c.attribute("shape", ())))


@op("Reshape", since=5)
def reshape(c: Context) -> Tensor:
    """The elements in a shape that is an operand; 0 keeps a size, -1 is computed."""
    if c.is_known(1):
        return _reshaped(c, c.sizes(1, "the shape"))
    return _reshaped_by_data(c)


def _reshaped_by_data(c: Context) -> Tensor:
    """The elements in a shape that is computed from data."""
    x = c.tensor(0)
    rest_of = _by_quotient(c, x)
    if rest_of is not None:
        return rest_of
    wanted = [graphc.astype(s, "int64") for s in c.elements(1, "the shape")]
    if not c.attribute("allowzero", 0):
        kept = [graphc.where(graphc.equal(s, 0), n, s) for s, n in zip(wanted, x.shape)]
        wanted = [*kept, *wanted[x.ndim :]]
    total, known = graphc.asarray(x.size), graphc.asarray(1)
    for s in wanted:
        known = known * graphc.where(graphc.equal(s, -1), 1, s)
    rest = graphc.floor_divide(total, graphc.maximum(known, 1))
    numbers = [graphc.where(graphc.equal(s, -1), rest, s) for s in wanted]
    product_ = graphc.asarray(1)
    for n in numbers:
        product_ = product_ * n
    # That both shapes have equally many elements shows when the sizes are there: a size of -1 is
    # an error then.
    fits = graphc.equal(product_, total)
    sizes = tuple(graphc.as_dim(graphc.where(fits, n, -1)) for n in numbers)
    places = graphc.reshape(graphc.arange(product(sizes)), sizes)
    return graphc.take(graphc.reshape(x, (-1,)), places, axis=0)


def _by_quotient(c: Context, x: Tensor) -> Tensor | None:
    """x in a shape of which one size alone is data: that is what the others leave of x.

    None where more is data, or the others do not surely divide x. Exporters write sizes such as
    16 * min(16, n) // n, which are plain numbers in every call that is valid.
    """
    found: list[Size | None] = []
    for k in range(len(c.elements(1, "the shape"))):
        element = _element(c.tensor(1), k)
        size_: Size | None = None
        if element.op.name in ("constant", "size"):
            size_ = graphc.as_dim(element, min=0) if element.op.name == "size" else _number(element)
        found.append(size_)
    others = [s for s in found if s is not None]
    if len(others) != len(found) - 1 or any(isinstance(s, int) and s <= 0 for s in others):
        return None
    rest = divide(x.size, product(others))
    if not same_size(rest * product(others), x.size):
        return None
    return graphc.reshape(x, tuple(rest if s is None else s for s in found))


def _number(x: Tensor) -> int:
    return int(x.attr("value").values.reshape(()))


def _element(x: Tensor, k: int) -> Tensor:
    """Element k of x in row-major order, looked for in what x was joined of."""
    while True:
        if x.op.name == "reshape":
            x = x.inputs[0]
        elif x.op.name == "concat" and x.ndim == 1:
            for part in x.inputs:
                if not isinstance(part.shape[0], int) or k < part.shape[0]:
                    break
                k -= part.shape[0]
            x = part
        elif x.size == 1:
            return x
        else:
            return graphc.reshape(x, (-1,))[k]


def _reshaped(c: Context, wanted: Sequence[Size]) -> Tensor:
    x = c.tensor(0)
    sizes: list[Size] = []
    for k, size_ in enumerate(wanted):
        if size_ == 0 and not c.attribute("allowzero", 0):
            if k >= x.ndim:
                c.bad(f"size {k} of the shape is 0, and the operand has {x.ndim} dims")
            size_ = x.shape[k]
        sizes.append(size_)
    try:
        return graphc.reshape(x, tuple(sizes))
    except ShapeError:
        even = filled(x.shape, sizes)
        if even is None:
            raise
        return checked_reshape(x, even)


@op("Flatten")
def flatten(c: Context) -> Tensor:
    """A matrix: the axes before one, and the others."""
    x = c.tensor(0)
    axis = c.attribute("axis")
    if not -x.ndim <= axis <= x.ndim:
        c.bad(f"axis {axis} is out of bounds for {x.ndim} dims")
    axis = axis + x.ndim if axis < 0 else axis
    return graphc.reshape(x, (product(x.shape[:axis]), product(x.shape[axis:])))


def _axes(c: Context, ndim: int, axes: Sequence[int]) -> tuple[int, ...]:
    """Axes counted from the front. Raises FormatError."""
    for axis in axes:
        if not -ndim <= axis < ndim:
            c.bad(f"axis {axis} is out of bounds for {ndim} dims")
    found = tuple(a % ndim for a in axes)
    if len(set(found)) != len(found):
        c.bad(f"an axis is given twice: {list(axes)}")
    return found


def _squeezed(c: Context, axes: Sequence[int] | None) -> Tensor:
    x = c.tensor(0)
    if axes is None:
        axes = [a for a, s in enumerate(x.shape) if s == 1]
    places = _axes(c, x.ndim, axes)
    for a in places:
        if isinstance(x.shape[a], int) and x.shape[a] != 1:
            c.bad(f"axis {a} has size {x.shape[a]}, expected 1")
    return graphc.reshape(x, tuple(s for a, s in enumerate(x.shape) if a not in places))


@op("Squeeze")
def squeeze_attribute(c: Context) -> Tensor:
    """The operand without some axes of size 1, which are an attribute."""
    return _squeezed(c, c.attribute("axes"))


@op("Squeeze", since=13)
def squeeze(c: Context) -> Tensor:
    """The operand without some axes of size 1, all by default."""
    return _squeezed(c, c.ints(1, "the axes") if c.has(1) else None)


def _unsqueezed(c: Context, axes: Sequence[int]) -> Tensor:
    x = c.tensor(0)
    places = _axes(c, x.ndim + len(axes), axes)
    rest = iter(x.shape)
    sizes = tuple(1 if a in places else next(rest) for a in range(x.ndim + len(axes)))
    return graphc.reshape(x, sizes)


@op("Unsqueeze")
def unsqueeze_attribute(c: Context) -> Tensor:
    """The operand with more axes of size 1, which are an attribute."""
    return _unsqueezed(c, c.attribute("axes"))


@op("Unsqueeze", since=13)
def unsqueeze(c: Context) -> Tensor:
    """The operand with more axes of size 1."""
    return _unsqueezed(c, c.ints(1, "the axes"))


@op("Transpose")
def transpose(c: Context) -> Tensor:
    """The axes in another order, reversed by default."""
    x = c.tensor(0)
    axes = c.attribute("perm")
    return graphc.permute_dims(x, tuple(reversed(range(x.ndim))) if axes is None else tuple(axes))


@op("Expand")
def expand(c: Context) -> Tensor:
    """The operand broadcast together with a shape."""
    x = c.tensor(0)
    wanted = c.sizes(1, "the shape")
    return graphc.broadcast_to(x, _broadcast(c, x.shape, wanted))


def _broadcast(c: Context, a: Sequence[Size], b: Sequence[Size]) -> tuple[Size, ...]:
    """The common shape of a tensor and a shape given by numbers. Raises FormatError."""
    ndim = max(len(a), len(b))
    left = (*[1] * (ndim - len(a)), *a)
    right = (*[1] * (ndim - len(b)), *b)
    found: list[Size] = []
    for p, q in zip(left, right):
        if isinstance(p, int) and isinstance(q, int) and p != q and 1 not in (p, q):
            c.bad(f"shapes {tuple(map(str, a))} and {tuple(map(str, b))} do not broadcast")
        # A size that is computed beside a known one is that one, or 1.
        found.append(p if q == 1 or (isinstance(p, int) and p != 1) else q)
    return tuple(found)


# -- parts ----------------------------------------------------------------------------------------


@op("Slice")
def slice_attributes(c: Context) -> Tensor:
    """Ranges along axes; all are attributes."""
    starts, ends = c.attribute("starts"), c.attribute("ends")
    axes = c.attribute("axes", list(range(len(starts))))
    return _sliced(c, starts, ends, axes, [1] * len(starts))


@op("Slice", since=10)
def slice_inputs(c: Context) -> Tensor:
    """Ranges along axes, with steps; all are operands."""
    count = c.value(1).shape[0] if c.value(1).ndim == 1 else 0
    if not isinstance(count, int):
        raise c.needed(c.value(1), "the starts")
    axes = c.ints(3, "the axes") if c.has(3) else tuple(range(count))
    steps = c.ints(4, "the steps") if c.has(4) else (1,) * count
    if c.is_known(1) and c.is_known(2):
        return _sliced(c, c.sizes(1, "the starts"), c.sizes(2, "the ends"), axes, steps)
    x = c.tensor(0)
    starts, ends = c.elements(1, "the starts"), c.elements(2, "the ends")
    if not len(starts) == len(ends) == len(axes) == len(steps):
        c.bad(f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes, {len(steps)} steps")
    for start, end, axis, step in zip(starts, ends, _axes(c, x.ndim, axes), steps):
        x = _sliced_by_data(c, x, axis, start, end, step)
    return x


def _sliced_by_data(
    c: Context, x: Tensor, axis: int, start: Tensor, end: Tensor, step: int
) -> Tensor:
    """A range along one axis whose ends are computed from data."""
    if step == 0:
        c.bad("a step is 0")
    size_ = graphc.asarray(x.shape[axis])
    # Counted from the front, and cut to what there is, before the count is computed.
    low, high = (0, size_) if step > 0 else (-1, size_ - 1)
    ends = []
    for bound in (graphc.astype(start, "int64"), graphc.astype(end, "int64")):
        place = graphc.where(bound < 0, bound + size_, bound)
        ends.append(graphc.minimum(graphc.maximum(place, low), high))
    distance = ends[1] - ends[0] if step > 0 else ends[0] - ends[1]
    count = graphc.maximum(graphc.floor_divide(distance + (abs(step) - 1), abs(step)), 0)
    places = graphc.arange(graphc.as_dim(count)) * step + ends[0]
    return graphc.take(x, places, axis=axis)


def _sliced(
    c: Context,
    starts: Sequence[Size],
    ends: Sequence[Size],
    axes: Sequence[int],
    steps: Sequence[int],
) -> Tensor:
    x = c.tensor(0)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        c.bad(f"{len(starts)} starts, {len(ends)} ends, {len(axes)} axes, {len(steps)} steps")
    index: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, _axes(c, x.ndim, axes), steps):
        if step == 0:
            c.bad("a step is 0")
        range_of = _range_of(start, end, step, x.shape[axis])
        if range_of is None:  # what is cut depends on what the size turns out to be
            first, last = (graphc.asarray(b) for b in (start, end))
            x = _sliced_by_data(c, x, axis, first, last, step)
        else:
            index[axis] = range_of
    return x[tuple(index)]


_FAR = 1 << 31  # what exporters write for "to the end": the largest int32 or int64, or near it


def _range_of(start: Size, end: Size, step: int, size_: Size) -> slice | None:
    """A slice by Python's rules; None where only the size itself tells which it is."""
    if isinstance(size_, int) and isinstance(start, int) and isinstance(end, int):
        # ONNX counts a bound below -size as before the first element, which Python writes as None.
        return slice(start, None if step < 0 and end < -size_ else end, step)
    forward = step > 0
    at_start = start == 0 if forward else start == -1
    far = _is_far(start, forward)
    first: Any = None if at_start or far else start
    last: Any = None if _is_far(end, not forward) or (forward and end == size_) else end
    if first is None and last is None:
        return slice(None, None, step)
    if not forward or any(isinstance(b, int) and not _is_near(b, size_) for b in (first, last)):
        return None
    if isinstance(first, int) and first < -1 and not _is_within(-first, size_):
        return None
    if isinstance(last, int) and last > 0 and not _is_within(last, size_):
        return None
    # The rest, such as [1:] and [:-1], takes what its bounds say: a size too small for them is an
    # error at the call.
    return slice(first, last, step)


def _is_far(bound: Size, before: bool) -> bool:
    """Whether a bound lies before all elements (or behind them) for every size."""
    return isinstance(bound, int) and (bound <= -_FAR if before else bound >= _FAR - 1)


def _is_near(bound: int, size_: Size) -> bool:
    return abs(bound) < _FAR


def _is_within(bound: int, size_: Size) -> bool:
    """Whether there are surely as many elements."""
    low = bounds(size_)[0]
    return low is not None and low >= bound


def _split(c: Context, sizes: Sequence[Size]) -> Result:
    x = c.tensor(0)
    (axis,) = _axes(c, x.ndim, [c.attribute("axis", 0)])
    total: Size = sum(sizes)
    if isinstance(total, int) and isinstance(x.shape[axis], int) and total != x.shape[axis]:
        c.bad(f"parts of {total} elements together, axis {axis} has {x.shape[axis]}")
    if any(isinstance(s, int) and s < 0 for s in sizes):
        c.bad(f"a part has a negative size: {sizes}")
    parts: list[Tensor] = []
    start: Size = 0
    for part in sizes:
        index: list[slice] = [slice(None)] * x.ndim
        index[axis] = slice(start, start + part)
        parts.append(x[tuple(index)])
        start = start + part
    return parts


def _even_parts(c: Context, count: int) -> list[Size]:
    """Sizes of equal parts, the last one smaller where the axis does not divide."""
    x = c.tensor(0)
    (axis,) = _axes(c, x.ndim, [c.attribute("axis", 0)])
    total = x.shape[axis]
    if count < 1:
        c.bad(f"a split into {count} parts")
    each = (total + (count - 1)) // count
    if isinstance(total, int) and isinstance(each, int):
        last = total - each * (count - 1)
        if last < 0:
            c.bad(f"axis {axis} of size {total} does not split into {count} parts")
        return [*[each] * (count - 1), last]
    return [*[each] * (count - 1), total - each * (count - 1)]


@op("Split")
def split_attribute(c: Context) -> Result:
    """Parts along an axis, of sizes that are an attribute, or equal."""
    sizes = c.attribute("split")
    if c.has(1):  # opset 1
        sizes = c.ints(1, "the sizes")
    return _split(c, _even_parts(c, len(c.outputs)) if sizes is None else sizes)


@op("Split", since=13)
def split(c: Context) -> Result:
    """Parts along an axis, of sizes that are an operand, or equal."""
    if c.has(1):
        return _split(c, c.sizes(1, "the sizes"))
    return _split(c, _even_parts(c, int(c.attribute("num_outputs", len(c.outputs)))))


@op("Concat")
def concat(c: Context) -> Tensor:
    """The operands one after the other along an axis."""
    return graphc.concat(c.tensors(), axis=c.attribute("axis", 1))


@op("Tile")
def tile_counts(c: Context) -> Tensor:
    """The operand repeated along one axis."""
    x = c.tensor(0)
    counts = [1] * x.ndim
    counts[_axes(c, x.ndim, [int(c.number(2, "the axis"))])[0]] = int(c.number(1, "the tiles"))
    return graphc.tile(x, counts)


@op("Tile", since=6)
def tile(c: Context) -> Tensor:
    """The operand repeated along each axis."""
    x = c.tensor(0)
    counts = c.sizes(1, "the repeats")
    if len(counts) != x.ndim:
        c.bad(f"{len(counts)} repeats for {x.ndim} dims")
    if all(isinstance(n, int) for n in counts):
        return graphc.tile(x, [int(n) for n in counts])
    lines = [s for n, size_ in zip(counts, x.shape) for s in (1, size_)]
    wide = [s for n, size_ in zip(counts, x.shape) for s in (n, size_)]
    repeated = graphc.broadcast_to(graphc.reshape(x, tuple(lines)), tuple(wide))
    return graphc.reshape(repeated, tuple(n * size_ for n, size_ in zip(counts, x.shape)))


# -- padding --------------------------------------------------------------------------------------


@op("Pad")
def pad_attributes(c: Context) -> Tensor:
    """More elements around the operand; widths are an attribute."""
    widths = c.attribute("pads", c.attribute("paddings"))
    if widths is None:
        c.bad("the attribute 'pads' is missing")
    return _padded(c, widths, c.attribute("value", 0.0))


@op("Pad", since=11)
def pad(c: Context) -> Tensor:
    """More elements around the operand; widths and value are operands."""
    widths = list(c.sizes(1, "the pads"))
    value = c.number(2, "the value") if c.has(2) else 0
    if not c.has(3):
        return _padded(c, widths, value)
    ndim = c.tensor(0).ndim
    axes = _axes(c, ndim, c.ints(3, "the axes"))
    if len(widths) != 2 * len(axes):
        c.bad(f"{len(widths)} pads for {len(axes)} axes")
    full: list[Size] = [0] * (2 * ndim)
    for k, axis in enumerate(axes):
        full[axis], full[axis + ndim] = widths[k], widths[k + len(axes)]
    return _padded(c, full, value)


def _padded(c: Context, widths: Sequence[Size], value: Any) -> Tensor:
    x = c.tensor(0)
    mode = c.attribute("mode")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        c.bad(f"the mode {mode!r} is unknown")
    if len(widths) != 2 * x.ndim:
        c.bad(f"{len(widths)} pads for {x.ndim} dims")
    index: list[slice] = []
    pairs: list[tuple[Size, Size]] = []
    for axis in range(x.ndim):
        low, high = widths[axis], widths[axis + x.ndim]
        cut = [0 if isinstance(w, Dim) else max(0, -w) for w in (low, high)]
        pairs.append((low if not cut[0] else 0, high if not cut[1] else 0))
        index.append(slice(cut[0], x.shape[axis] - cut[1]))
    if mode == "constant":
        x = graphc.pad(x, pairs, value=value)
        # A negative width cuts after the others have padded: the elements that are left are the
        # same ones.
        return _cut(x, widths)
    return graphc.pad(x[tuple(index)] if any(_is_cut(w) for w in widths) else x, pairs, mode=mode)


def _is_cut(width: Size) -> bool:
    return isinstance(width, int) and width < 0


def _cut(x: Tensor, widths: Sequence[Size]) -> Tensor:
    if not any(_is_cut(w) for w in widths):
        return x
    index = []
    for axis in range(x.ndim):
        low, high = widths[axis], widths[axis + x.ndim]
        first = -low if isinstance(low, int) and low < 0 else 0
        last = x.shape[axis] + high if isinstance(high, int) and high < 0 else x.shape[axis]
        index.append(slice(first, last))
    return x[tuple(index)]
