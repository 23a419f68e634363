"""Indexing (floor 2): `x[key]`, `x.at[key].add(values)`, `take`, `take_along_axis`.

A key is read once into a `_Plan`: a slice of x, a reshape that drops integers and adds new dims,
and a gather for integer arrays. Reading applies the three; updating undoes them from the inside
out. Result shapes are NumPy's. Masks become integer arrays, whose length is a dim that the graph
computes unless the mask is known now; writing through a mask is a `where`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import EllipsisType
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Shape, Size, bounds, shape_text
from graphc.base.dtypes import bool_, promote
from graphc.base.errors import UnsupportedError
from graphc.ir.node import Tensor, as_index
from graphc.ir.opdef import dtype_error, fail, shape_error
from graphc.ops.axes import is_count, normalize_axis
from graphc.ops.creation import filled
from graphc.ops.elementwise import add, maximum, minimum, multiply, where
from graphc.ops.gather import (
    GATHER,
    SLICE,
    TAKE_ALONG_AXIS,
    gathered_shape,
    unslice,
)
from graphc.ops.promotion import TensorLike, as_tensor, broadcast_shapes, cast, is_weak
from graphc.ops.reshape import to_shape
from graphc.ops.scatter import SCATTER
from graphc.ops.selection import computed_range, mask_indices
from graphc.ops.sizes import known_size
from graphc.ops.state import array_constant, constant_node
from graphc.ops.view import broadcasted

Key = Any


@dataclass(frozen=True)
class _Plan:
    """What a key means for a tensor of `shape`.

    starts, steps, sizes: the slice, every axis kept. middle: its shape without the integers' axes,
    with new dims. indices: integer tensors for `axes` of the middle; their dims come at `position`
    of the result.
    """

    shape: Shape
    starts: Shape
    steps: tuple[int, ...]
    sizes: Shape
    middle: Shape
    indices: tuple[Tensor, ...]
    axes: tuple[int, ...]
    position: int

    @property
    def is_whole(self) -> bool:
        return self.sizes == self.shape and all(s == 1 for s in self.steps)

    def sliced(self, x: Tensor) -> Tensor:
        """The elements that the slices and integers select, in the shape `middle`."""
        if not self.is_whole:
            x = SLICE(x, starts=self.starts, steps=self.steps, shape=self.sizes)
        return to_shape(x, self.middle)

    def result(self, x: Tensor) -> Shape:
        """The shape of the selection."""
        if not self.indices:
            return self.middle
        return gathered_shape("indexing", x, self.indices, self.axes, self.position)


# -- reading keys -----------------------------------------------------------------------


def _expanded(x: Tensor, key: Key) -> list[Any]:
    """One entry per consumed axis (masks as several arrays), None for new dims, the ellipsis
    gone.
    """
    entries = [_entry(x, e) for e in (key if isinstance(key, tuple) else (key,))]
    flat: list[Any] = []
    for entry in entries:
        flat += _mask_indices(x, entry, flat) if _is_mask(entry) else [entry]
    dots = [i for i, e in enumerate(flat) if e is Ellipsis]
    if len(dots) > 1:
        shape_error(
            "indexing: an index holds at most one `...`", [x], "leave one; write `:` for the others"
        )
    consumed = sum(e is not None and e is not Ellipsis for e in flat)
    if consumed > x.ndim:
        hint = (
            f"x has {x.ndim} dims: give at most {x.ndim} indices"
            if x.ndim
            else "x is a scalar already"
        )
        shape_error(f"indexing: too many indices: {consumed} for {x.ndim} dims", [x], hint)
    fill = [slice(None)] * (x.ndim - consumed)
    if not dots:
        return flat + fill
    return flat[: dots[0]] + fill + flat[dots[0] + 1 :]


def _entry(x: Tensor, entry: Any) -> Any:
    """A key's entry as None, Ellipsis, a slice, an int, a Dim, or an integer or bool tensor."""
    if entry is None or isinstance(entry, slice | EllipsisType | Dim):
        return entry
    if isinstance(entry, bool | np.bool_):
        fail(
            UnsupportedError,
            f"indexing: the index {entry} is a single bool",
            [x],
            "use graphc.where, or index with None for a new dim",
        )
    number = as_index(entry)
    if number is not None:
        return number
    if isinstance(entry, list) and not entry:
        entry = np.zeros(0, np.int64)
    if isinstance(entry, str | float) or not (
        isinstance(entry, Tensor | list | tuple) or hasattr(entry, "__array__")
    ):
        dtype_error(
            "indexing: an index is an int, a slice, `...`, None or an integer array, "
            f"got {type(entry).__name__} {entry!r:.60}",
            [x],
            "give an int or a slice; divide sizes with //",
        )
    index = as_tensor(entry, op="indexing")
    if index.dtype.is_float:
        dtype_error(
            f"indexing: indices must be integers, got {index.dtype}",
            [x, index],
            'convert them: graphc.astype(indices, "int64")',
        )
    if index.op.name == "constant" and not index.shape and index.dtype.is_integer:
        return int(index.attr("value").values)
    return index


def _is_mask(entry: Any) -> bool:
    return isinstance(entry, Tensor) and entry.dtype is bool_


def _mask_indices(x: Tensor, mask: Tensor, before: Sequence[Any]) -> list[Any]:
    if not mask.shape:
        fail(
            UnsupportedError, "indexing: the index is a single bool", [x, mask], "use graphc.where"
        )
    if any(e is Ellipsis for e in before):
        first = x.ndim - mask.ndim  # an ellipsis before: the mask belongs to the last dims
    else:
        first = sum(e is not None for e in before)
    if x.shape[first : first + mask.ndim] != mask.shape:
        shape_error(
            f"indexing: a mask of shape {shape_text(mask.shape)} does not fit the dims "
            f"{shape_text(x.shape[first : first + mask.ndim])}",
            [x, mask],
            "a mask has the sizes of the dims that it indexes",
        )
    if mask.op.name != "constant":
        return list(mask_indices(mask))
    return [constant_node(array_constant(i)) for i in mask.attr("value").values.nonzero()]


def _plan(x: Tensor, key: Key) -> _Plan:
    entries = _expanded(x, key)
    has_arrays = any(isinstance(e, Tensor) for e in entries)
    starts: list[Size] = []
    steps: list[int] = []
    sizes: list[Size] = []
    middle: list[Size] = []
    indices: list[Tensor] = []
    axes: list[int] = []
    advanced: list[int] = []  # places of integers and arrays among the entries
    kept_before: list[int] = []
    axis = 0
    for place, entry in enumerate(entries):
        if entry is None:
            middle.append(1)
            continue
        n = x.shape[axis]
        start, step, size = _range(x, axis, n, entry)
        starts.append(start)
        steps.append(step)
        sizes.append(size)
        if isinstance(entry, slice):
            middle.append(size)
        else:
            advanced.append(place)
            kept_before.append(len(middle) - len(axes))
            if isinstance(entry, Tensor):
                _check_static(x, axis, n, entry)
                indices.append(entry)
                axes.append(len(middle))
                middle.append(n)
        axis += 1
    together = all(b == a + 1 for a, b in pairwise(advanced))
    position = kept_before[0] if has_arrays and together else 0
    return _Plan(
        x.shape,
        tuple(starts),
        tuple(steps),
        tuple(sizes),
        tuple(middle),
        tuple(indices),
        tuple(axes),
        position,
    )


def _range(x: Tensor, axis: int, n: Size, entry: Any) -> tuple[Size, int, Size]:
    """(start, step, size) of one entry."""
    if isinstance(entry, Tensor):
        return 0, 1, n
    if isinstance(entry, slice):
        return _slice_range(x, axis, n, entry)
    start = _from_end(entry, n)
    low, high = bounds(n - 1 - start)[1], bounds(start)[1]
    if (low is not None and low < 0) or (high is not None and high < 0):
        largest = bounds(n)[1]
        limits = f" ({-largest} to {largest - 1})" if largest else ""
        hint = f"indices of this axis are in the range{limits}" if limits else "the axis is empty"
        what = f"indexing: {entry} is out of bounds for axis {axis} of size {n}{limits}"
        shape_error(what, [x], hint)
    return start, 1, 1


def _from_end(value: Size, n: Size) -> Size:
    """Negative positions count from the end; a dim does where it is surely not positive."""
    if isinstance(value, int):
        return value + n if value < 0 else value
    low, high = bounds(value)
    return n + value if high is not None and high <= 0 and (low is None or low < 0) else value


def _slice_range(x: Tensor, axis: int, n: Size, key: slice) -> tuple[Size, int, Size]:
    if key.start is None and key.stop is None and key.step is None:
        return 0, 1, n
    step = 1 if key.step is None else as_index(key.step)
    if step is None or step == 0:
        shape_error(
            f"indexing: the step of a slice must be an int other than 0, got {key.step!r:.60}",
            [x],
            "a step of -1 reverses, as graphc.flip does",
        )
    if any(isinstance(b, Tensor) for b in (key.start, key.stop)):
        limits = [_computed_bound(x, n, b) for b in (key.start, key.stop)]
        if any(isinstance(b, Tensor) for b in limits):
            return computed_range(n, limits[0], limits[1], step)
        key = slice(limits[0], limits[1], key.step)
    start, stop = _bound(x, key.start), _bound(x, key.stop)
    if isinstance(n, int) and not isinstance(start, Dim) and not isinstance(stop, Dim):
        first, last, _ = slice(start, stop, step).indices(n)
        return first, step, len(range(first, last, step))
    return _symbolic_range(n, start, stop, step)


def _symbolic_range(
    n: Size, start: Size | None, stop: Size | None, step: int
) -> tuple[Size, int, Size]:
    # Sizes are assumed to hold the range that is written; where that is not sure, the slice op
    # checks it.
    if step > 0:
        first = 0 if start is None else _from_end(start, n)
        last = n if stop is None else _from_end(stop, n)
        if _surely_below(n, last):
            last = n
        distance = last - first
    else:
        first = n - 1 if start is None else _from_end(start, n)
        if _surely_below(n - 1, first):
            first = n - 1
        last = -1 if stop is None else _from_end(stop, n)
        distance = first - last
    if isinstance(distance, int):
        return first, step, max(0, -(-distance // abs(step)))
    if _surely_below(distance, 1):
        return first, step, 0
    return first, step, (distance + (abs(step) - 1)) // abs(step)


def _surely_below(a: Size, b: Size) -> bool:
    low = bounds(b - a)[0]
    return low is not None and low > 0


def _bound(x: Tensor, value: Any) -> Size | None:
    if value is None or isinstance(value, Dim):
        return value
    number = as_index(value)
    if number is None:
        shape_error(
            f"indexing: the bounds of a slice are ints or sizes, got {value!r:.60}",
            [x],
            "divide sizes with //, which gives an int",
        )
    return number


def _computed_bound(x: Tensor, n: Size, value: Any) -> Any:
    """A bound of a slice; a scalar of the graph stays one unless it is a size, or all is known."""
    if not isinstance(value, Tensor):
        return value
    if not is_count(value):
        dtype_error(
            f"indexing: a computed bound of a slice is an integer scalar, got {value.type}",
            [x, value],
            "take rows at several places with graphc.take(x, indices, axis=0)",
        )
    known = known_size(value)
    return known if isinstance(known, Dim) or (known is not None and isinstance(n, int)) else value


def _check_static(x: Tensor, axis: int, n: Size, index: Tensor) -> None:
    if index.op.name != "constant" or not isinstance(n, int):
        return
    values = index.attr("value").values
    if values.size and (int(values.min()) < -n or int(values.max()) >= n):
        worst = int(values.min()) if int(values.min()) < -n else int(values.max())
        hint = (
            f"indices of this axis are in the range {-n} to {n - 1}" if n else "the axis is empty"
        )
        what = f"indexing: {worst} is out of bounds for axis {axis} of size {n}"
        shape_error(what, [x, index], hint)


# -- reading ----------------------------------------------------------------------------


def getitem(x: TensorLike, key: Key, /) -> Tensor:
    """`x[key]` with ints, sizes, slices, `...`, None, integer arrays and tensors, and masks.

    Bounds of slices may be computed by the graph, and masks: sizes that follow are computed dims.
    Slices and ints are views; shapes follow NumPy's rules, for several index arrays too. Negative
    indices count from the end. Indices that are data and out of bounds raise ExecutionError at the
    call.

    Raises ShapeError for indices out of bounds or too many of them, DTypeError for indices that
    are no integers.

        x[:, -1]; x[::2, None]; x[rows, columns]
    """
    tensor = as_tensor(x, op="indexing")
    plan = _plan(tensor, key)
    middle = plan.sliced(tensor)
    if not plan.indices:
        return middle
    return GATHER(middle, *plan.indices, axes=plan.axes, position=plan.position)


def take(x: TensorLike, indices: TensorLike, /, *, axis: int | None = None) -> Tensor:
    """The elements (or slices) of `x` at integer `indices` along `axis`.

    The shape is that of `x` with the axis replaced by the shape of `indices`; one dim needs no
    axis. Negative indices count from the end.

    Raises ShapeError for a bad axis or known indices out of bounds, DTypeError for indices that
    are no integers; the call raises ExecutionError for others out of bounds.

        graphc.take(table, ids, axis=0)
    """
    tensor = as_tensor(x, op="take")
    if axis is None:
        if tensor.ndim != 1:
            hint = "give axis=0, or flatten x first: graphc.reshape(x, (-1,))"
            shape_error(f"take: a tensor of {tensor.ndim} dims needs an axis", [tensor], hint)
        axis = 0
    place = normalize_axis("take", tensor, axis)
    index = _integers("take", indices, tensor)
    _check_static(tensor, place, tensor.shape[place], index)
    return GATHER(tensor, index, axes=(place,), position=place)


def take_along_axis(x: TensorLike, indices: TensorLike, /, *, axis: int = -1) -> Tensor:
    """out[..., i, ...] = x[..., indices[..., i, ...], ...]: one index per result, along `axis`.

    `indices` has as many dims as `x`; outside of the axis both broadcast.

    Raises ShapeError for shapes that do not fit, DTypeError for indices that are no integers.

        graphc.take_along_axis(x, graphc.argsort(x, axis=1), axis=1)
    """
    tensor = as_tensor(x, op="take_along_axis")
    index = _integers("take_along_axis", indices, tensor)
    if tensor.ndim != index.ndim:
        shape_error(
            f"take_along_axis: x has {tensor.ndim} dims, the indices {index.ndim}",
            [tensor, index],
            "add dims with None, for example indices[:, None]",
        )
    place = normalize_axis("take_along_axis", tensor, axis)
    _check_static(tensor, place, tensor.shape[place], index)
    flat = [tuple(1 if a == place else n for a, n in enumerate(t.shape)) for t in (tensor, index)]
    common = broadcast_shapes("take_along_axis", flat, [tensor, index])
    own = tuple(tensor.shape[place] if a == place else n for a, n in enumerate(common))
    wanted = tuple(index.shape[place] if a == place else n for a, n in enumerate(common))
    return TAKE_ALONG_AXIS(_broadcast(tensor, own), _broadcast(index, wanted), axis=place)


def _broadcast(x: Tensor, shape: Shape) -> Tensor:
    return x if x.shape == shape else broadcasted(x, shape)


def _integers(op: str, indices: TensorLike, x: Tensor) -> Tensor:
    if isinstance(indices, list) and not indices:
        indices = np.zeros(0, np.int64)
    index = as_tensor(indices, op=op)
    if not index.dtype.is_integer:
        dtype_error(
            f"{op}: indices must be integers, got {index.dtype}",
            [x, index],
            "choose elements by a mask with graphc.where"
            if index.dtype is bool_
            else 'convert them: graphc.astype(indices, "int64")',
        )
    return index


# -- updating ---------------------------------------------------------------------------

_Combine = Callable[[Tensor, Tensor], Tensor]


def _second(old: Tensor, new: Tensor) -> Tensor:
    return new


_COMBINE: dict[str, _Combine] = {
    "set": _second,
    "add": add,
    "multiply": multiply,
    "min": minimum,
    "max": maximum,
}


@dataclass(frozen=True)
class IndexUpdate:
    """`x.at[key]`: each method gives a new tensor, equal to x but for the selected elements.

    Values broadcast to the selection and take the dtype of x. Where an index array selects an
    element more than once, `set` keeps the last value and the others combine all of them, in
    order. Gradients flow to x and to the values.
    """

    x: Tensor
    key: Key

    def set(self, values: TensorLike) -> Tensor:
        """The selected elements replaced."""
        return _update(self.x, self.key, values, "set")

    def add(self, values: TensorLike) -> Tensor:
        """`values` added to the selected elements."""
        return _update(self.x, self.key, values, "add")

    def multiply(self, values: TensorLike) -> Tensor:
        """The selected elements multiplied by `values`."""
        return _update(self.x, self.key, values, "multiply")

    def min(self, values: TensorLike) -> Tensor:
        """The smaller of the selected elements and `values`."""
        return _update(self.x, self.key, values, "min")

    def max(self, values: TensorLike) -> Tensor:
        """The larger of the selected elements and `values`."""
        return _update(self.x, self.key, values, "max")


@dataclass(frozen=True)
class IndexUpdater:
    """`x.at`: index it as x itself, then call `set`, `add`, `multiply`, `min` or `max`."""

    x: Tensor

    def __getitem__(self, key: Key) -> IndexUpdate:
        return IndexUpdate(self.x, key)


def _values(x: Tensor, values: TensorLike, mode: str) -> Tensor:
    """Values in the dtype of x; a change of kind is an error, as in NumPy's in-place operations."""
    found = as_tensor(values, like=x, op=f"at[].{mode}")
    order = {"b": 0, "u": 1, "i": 1, "f": 2}
    if order[found.dtype.kind] > order[x.dtype.kind] or (
        not is_weak(values) and promote(found.dtype, x.dtype).kind != x.dtype.kind
    ):
        dtype_error(
            f"at[].{mode}: values of {found.dtype} do not fit a tensor of {x.dtype}",
            [x, found],
            f'convert them: graphc.astype(values, "{x.dtype}")',
        )
    return cast(found, x.dtype)


def _fits(shape: Shape, target: Shape) -> bool:
    tail = target[len(target) - len(shape) :] if len(shape) <= len(target) else ()
    return len(tail) == len(shape) and all(
        a == b or (isinstance(a, int) and a == 1) for a, b in zip(shape, tail, strict=True)
    )


def _update(x: Tensor, key: Key, values: TensorLike, mode: str) -> Tensor:
    new = _values(x, values, mode)
    if mode == "multiply" and x.dtype is bool_:
        mode = "min"
    masked = _masked_update(x, key, new, mode)
    if masked is not None:
        return masked
    plan = _plan(x, key)
    middle = plan.sliced(x)
    target = plan.result(middle)
    if not _fits(new.shape, target):
        shape_error(
            f"at[].{mode}: values of shape {shape_text(new.shape)} do not fit the selection "
            f"{shape_text(target)}",
            [x, new],
            "values must broadcast to the selection's shape; use graphc.reshape",
        )
    new = _broadcast(new, target)
    if plan.indices:
        new = SCATTER(middle, new, *plan.indices, axes=plan.axes, position=plan.position, mode=mode)
        mode = "set"
    return _put_slice(x, plan, new, _COMBINE[mode])


def _masked_update(x: Tensor, key: Key, values: Tensor, mode: str) -> Tensor | None:
    """An update through a mask that the graph computes: a `where`, for values that are one
    number.
    """
    entries = key if isinstance(key, tuple) else (key,)
    masks = [e for e in entries if _is_mask(e) and e.op.name != "constant"]
    if not masks:
        return None
    mask: Tensor = masks[0]
    others = [e for e in entries if e is not mask and e is not Ellipsis]
    if others or (len(entries) > 1 and entries[0] is Ellipsis) or values.shape:
        fail(
            UnsupportedError,
            f"at[].{mode}: through a mask computed by the graph only one number can be written, "
            "and the mask must be the only index",
            [x, mask, values],
            "use graphc.where(mask, values, x), which broadcasts",
        )
    if mask.shape != x.shape[: mask.ndim]:
        shape_error(
            f"at[].{mode}: a mask of shape {shape_text(mask.shape)} does not fit the dims "
            f"{shape_text(x.shape[: mask.ndim])}",
            [x, mask],
        )
    mask = to_shape(mask, (*mask.shape, *[1] * (x.ndim - mask.ndim)))
    return where(mask, _COMBINE[mode](x, values), x)


def _put_slice(x: Tensor, plan: _Plan, new: Tensor, combine: _Combine) -> Tensor:
    """x with the elements that the plan's slice selects combined with `new` (of shape `middle`)."""
    new = to_shape(new, plan.sizes)
    if plan.is_whole:
        return combine(x, new)
    mask = filled(True, plan.sizes, bool_)
    here = unslice(mask, x.shape, plan.starts, plan.steps, False)
    spread = unslice(new, x.shape, plan.starts, plan.steps)
    return where(here, combine(x, spread), x)


__all__ = ["IndexUpdate", "IndexUpdater", "getitem", "take", "take_along_axis"]
