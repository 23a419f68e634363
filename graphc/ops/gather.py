"""Reading and writing at computed places (floor 2): slice, gather, take_along_axis, scatter.

`slice` is a view; `gather` reads at indices that are data; `scatter` is its transpose, a serial
loop in row-major order of the updates, so that the result never depends on threads. Negative
indices count from the end; indices out of bounds are errors: at declaration where the numbers are
known, at the call else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Quotient, Size, bounds, shape_text
from graphc.base.dtypes import ALL, Array, DType, float32, int64
from graphc.base.errors import ExecutionError
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, shape_error
from graphc.ops.creation import IOTA, filled
from graphc.ops.elementwise import where
from graphc.ops.families import Map
from graphc.ops.logical import bitwise_and, equal
from graphc.ops.promotion import broadcast_shapes, cast
from graphc.ops.reshape import to_shape
from graphc.ops.sampling import draw, strided
from graphc.ops.view import flip

# -- slice ----------------------------------------------------------------------------


def _slice_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,), (starts, steps, shape) = inputs, attrs
    assert isinstance(x, Tensor)
    if not len(starts) == len(steps) == len(shape) == x.ndim or 0 in steps:
        shape_error("slice: starts, steps and shape must have one entry per dim, steps not 0", [x])
    for axis, (start, step, size, n) in enumerate(zip(starts, steps, shape, x.shape, strict=True)):
        if isinstance(start, int) and isinstance(size, int) and isinstance(n, int):
            last = start + (size - 1) * step
            if size < 0 or (size > 0 and not (0 <= start < n and 0 <= last < n)):
                shape_error(
                    f"slice: {size} elements from {start} with step {step} are not within axis "
                    f"{axis} of size {n}",
                    [x],
                )
    return TensorType(shape, x.dtype)


def _slice_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    starts, steps, shape = node.attrs
    places = []
    inside = None
    for i, start, step, size, n in zip(
        index, starts, steps, shape, node.inputs[0].shape, strict=True
    ):
        place = i if step == 1 else e.mul(i, e.size(step))
        if isinstance(start, Dim) or start:
            place = e.add(place, e.size(start))
        if not surely_inside(start, step, size, n):
            ok = e.bit_and(e.ge(place, e.size(0)), e.lt(place, e.size(n)))
            inside = ok if inside is None else e.bit_and(inside, ok)
        places.append(place)
    if inside is None:
        return e.element(0, places)
    e.check(inside)
    return e.element(0, places, where=inside)


def surely_inside(start: Size, step: int, size: Size, n: Size) -> bool:
    """Whether every index start + i * step, i < size, is within [0, n) whatever the symbols are."""
    if size == 0:
        return True
    last = start + _most((size - 1) * step) if step > 0 else start
    first = start if step > 0 else start - _most((size - 1) * -step)
    low, high = bounds(first)[0], bounds(n - 1 - last)[0]
    return low is not None and low >= 0 and high is not None and high >= 0


def _most(size: Size) -> Size:
    """A bound from above: d * (a // d) is at most a."""
    if not isinstance(size, Dim):
        return size
    total: Size = size
    for monomial, coefficient in size.terms:
        if len(monomial) == 1 and isinstance(monomial[0], Quotient):
            atom = monomial[0]
            if isinstance(atom.denominator, int) and coefficient > 0:
                whole, rest = divmod(coefficient, atom.denominator)
                if not rest:
                    quotient = atom.numerator // atom.denominator
                    total = total - quotient * coefficient + atom.numerator * whole
    return total


def _slice_reference(
    x: Array, starts: Sequence[int], steps: Sequence[int], shape: Sequence[int]
) -> Array:
    for axis, (start, step, size, n) in enumerate(zip(starts, steps, shape, x.shape, strict=True)):
        last = start + (size - 1) * step
        if size < 0 or (size > 0 and not (0 <= start < n and 0 <= last < n)):
            raise ExecutionError(
                f"slice: {size} elements from {start} with step {step} are not within axis {axis} "
                f"of size {n}"
            )
    lines = [
        start + step * np.arange(size)
        for start, step, size in zip(starts, steps, shape, strict=True)
    ]
    return np.asarray(x[np.ix_(*lines)]) if lines else x


def _slice_gradient(g: Tensor, node: Tensor) -> Sequence[Tensor | None]:
    return (unslice(g, node.inputs[0].shape, node.attr("starts"), node.attr("steps")),)


def unslice(
    g: Tensor,
    shape: Sequence[Size],
    starts: Sequence[Size],
    steps: Sequence[int],
    value: bool | int | float = 0,
) -> Tensor:
    """The transpose of slice: `g` at its places in a tensor of `shape`, `value` elsewhere."""
    backwards = tuple(axis for axis, step in enumerate(steps) if step < 0)
    if backwards:
        g = flip(g, axis=backwards)
    low: list[Size] = []
    high: list[Size] = []
    for start, step, size, n in zip(starts, steps, g.shape, shape, strict=True):
        begin = start + (size - 1) * step if step < 0 else start
        spread = size if abs(step) == 1 else (size - 1) * abs(step) + 1
        low.append(begin)
        high.append(n - begin - spread)
    interior = tuple(abs(step) - 1 for step in steps)
    if not any(isinstance(w, Dim) or w for w in (*low, *high, *interior)):
        return g
    number = bool(value) if g.dtype.is_bool else float(value) if g.dtype.is_float else value
    return REGISTRY["pad"](g, low=tuple(low), high=tuple(high), interior=interior, value=number)


def _slice_samples(dtype: DType) -> Sequence[Sample]:
    cases: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = [
        ((), (), (), ()),
        ((5,), (1,), (1,), (3,)),
        ((5,), (4,), (-1,), (5,)),
        ((9,), (7,), (-3,), (3,)),
        ((5,), (2,), (1,), (0,)),
        ((0, 3), (0, 1), (1, 1), (0, 2)),
        ((4, 70), (1, 3), (2, 2), (2, 33)),
        ((3, 4, 5), (2, 0, 4), (-1, 2, -2), (2, 2, 3)),
    ]
    found = [
        Sample((draw(shape, dtype),), {"starts": a, "steps": b, "shape": c})
        for shape, a, b, c in cases
    ]
    backwards = strided(draw((4, 6), dtype))
    return [*found, Sample((backwards,), {"starts": (0, 5), "steps": (1, -1), "shape": (4, 6)})]


SLICE = REGISTRY.add(
    OpDef(
        "slice",
        ("starts", "steps", "shape"),
        _slice_type,
        _slice_reference,
        _slice_gradient,
        Map(_slice_element),
        doc="out[i...] = x[start + i * step ...]; `shape` is the result's.",
        samples=_slice_samples,
        dtypes=ALL,
    )
)


# -- gather ---------------------------------------------------------------------------


def check_indices(op: str, operands: Sequence[Tensor], indices: Sequence[Tensor]) -> None:
    """Raise DTypeError unless all indices are integers."""
    for index in indices:
        if not index.dtype.is_integer:
            dtype_error(
                f"{op}: indices must be integers, got {index.dtype}",
                operands,
                'convert them: graphc.astype(indices, "int64")',
            )


def gathered_shape(
    op: str, x: Tensor, indices: Sequence[Tensor], axes: Sequence[int], position: int
) -> tuple[Size, ...]:
    """The shape of `gather`: the indexed dims gone, the indices' dims at `position`."""
    rest = [n for axis, n in enumerate(x.shape) if axis not in axes]
    inner = broadcast_shapes(op, [i.shape for i in indices], indices)
    return (*rest[:position], *inner, *rest[position:])


def _gather_type(inputs: tuple[Any, ...], attrs: tuple[Any, ...]) -> TensorType:
    x, *indices = inputs
    axes, position = attrs
    check_indices("gather", inputs, indices)
    return TensorType(gathered_shape("gather", x, indices, axes, position), x.dtype)


def wrapped(s: Any, value: Any, size: Any) -> tuple[Any, Any]:
    """(place, whether it is one) of an index that may count from the end; `size` an int64 value."""
    value = s.cast(value, int64)
    zero = s.constant(0, int64)
    place = s.select(s.lt(value, zero), s.add(value, size), value)
    return place, s.bit_and(s.ge(place, zero), s.lt(place, size))


def _at_broadcast(index: Sequence[Any], shape: Sequence[Size], zero: Any) -> list[Any]:
    """The index into an operand of `shape` that broadcasts to where `index` points."""
    tail = index[len(index) - len(shape) :]
    return [zero if isinstance(n, int) and n == 1 else i for i, n in zip(tail, shape, strict=True)]


def targets(
    s: Any,
    index: Sequence[Any],
    node: Tensor,
    first: int,
    read: Callable[[int, Sequence[Any]], Any],
) -> tuple[list[Any], Any]:
    """The place in operand 0 that result (or update) `index` stands for, and whether it exists."""
    x, indices = node.inputs[0], node.inputs[first:]
    axes, position = node.attr("axes"), node.attr("position")
    rank = max(i.ndim for i in indices)
    inner = index[position : position + rank]
    rest = iter((*index[:position], *index[position + rank :]))
    places: dict[int, Any] = {}
    inside = None
    for k, (axis, operand) in enumerate(zip(axes, indices, strict=True)):
        value = read(first + k, _at_broadcast(inner, operand.shape, s.size(0)))
        places[axis], ok = wrapped(s, value, s.size(x.shape[axis]))
        inside = ok if inside is None else s.bit_and(inside, ok)
    return [places[a] if a in places else next(rest) for a in range(x.ndim)], inside


def _gather_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    places, inside = targets(e, index, node, 1, e.element)
    e.check(inside)
    return e.element(0, places, where=inside)


def front(x: Array, axes: Sequence[int]) -> Array:
    """A view of `x` with `axes` first."""
    return np.moveaxis(x, axes, range(len(axes)))


def _gather_reference(x: Array, *indices: Array, axes: Sequence[int], position: int) -> Array:
    found = np.asarray(front(x, axes)[tuple(signed(i) for i in indices)])
    rank = max(i.ndim for i in indices)
    return np.moveaxis(found, range(rank), range(position, position + rank))


def signed(index: Array) -> Array:
    """Indices as int64: NumPy refuses uint64."""
    return index.astype(np.int64)


def _gather_gradient(g: Tensor, node: Tensor) -> Sequence[Tensor | None]:
    x, *indices = node.inputs
    axes, position = node.attr("axes"), node.attr("position")
    nothing = [None] * len(indices)
    if all(i.ndim == 0 for i in indices):
        kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
        return (_one_hot(to_shape(g, kept), x, axes, indices), *nothing)
    return (scatter_add(x, g, indices, axes, position), *nothing)


def _one_hot(g: Tensor, x: Tensor, axes: Sequence[int], indices: Sequence[Tensor]) -> Tensor:
    """`g` (size 1 along `axes`) where the position along each axis is the index, 0 elsewhere.

    For one index per axis this fuses with what reads it, where a scatter would not.
    """
    here = None
    for axis, index in zip(axes, indices, strict=True):
        shape = tuple(n if a == axis else 1 for a, n in enumerate(x.shape))
        place = IOTA(shape=shape, axis=axis, dtype=int64)
        index = cast(index, int64)
        match = equal(place, where(index < 0, index + x.shape[axis], index))
        here = match if here is None else bitwise_and(here, match)
    assert here is not None
    return where(here, g, filled(0, (), g.dtype))


def scatter_add(
    x: Tensor, g: Tensor, indices: Sequence[Tensor], axes: Sequence[int], position: int
) -> Tensor:
    """The transpose of gather: zeros of the shape of `x` with `g` added at the indices."""
    wide = float32 if g.dtype.bits == 16 and g.dtype.is_float else g.dtype  # many small terms
    start = filled(0, x.shape, wide)
    added = REGISTRY["scatter"](
        start, cast(g, wide), *indices, axes=tuple(axes), position=position, mode="add"
    )
    return cast(added, g.dtype)


def _gather_samples(dtype: DType) -> Sequence[Sample]:
    i, j = np.array([2, 0, -1, 2]), np.array([[1], [-2]])
    return [
        Sample((draw((5,), dtype), i), {"axes": (0,), "position": 0}),
        Sample((draw((5,), dtype), np.array(3)), {"axes": (0,), "position": 0}),
        Sample((draw((5,), dtype), i.astype(np.int8)), {"axes": (0,), "position": 0}),
        Sample((draw((5,), dtype), np.zeros(0, np.int64)), {"axes": (0,), "position": 0}),
        Sample((draw((4, 6), dtype), i), {"axes": (1,), "position": 1}),
        Sample((draw((4, 6), dtype), j, i), {"axes": (0, 1), "position": 0}),
        Sample((draw((4, 3, 5), dtype), i, j), {"axes": (0, 2), "position": 0}),
        Sample((draw((2, 4, 3, 5), dtype), j, i), {"axes": (1, 2), "position": 1}),
        Sample((strided(draw((4, 6), dtype)), i), {"axes": (0,), "position": 0}),
        Sample((draw((70, 3), dtype), np.arange(69, -1, -1)), {"axes": (0,), "position": 0}),
    ]


GATHER = REGISTRY.add(
    OpDef(
        "gather",
        ("axes", "position"),
        _gather_type,
        _gather_reference,
        _gather_gradient,
        Map(_gather_element, kind="gather"),
        doc="x indexed along `axes` by integer tensors that broadcast together; "
        "their dims come at `position`.",
        samples=_gather_samples,
        dtypes=ALL,
    )
)


# -- take_along_axis --------------------------------------------------------------------


def _along_type(inputs: tuple[Any, ...], attrs: tuple[Any, ...]) -> TensorType:
    x, index = inputs
    (axis,) = attrs
    check_indices("take_along_axis", inputs, [index])
    others = [tuple(n for a, n in enumerate(t.shape) if a != axis) for t in inputs]
    if x.ndim != index.ndim or others[0] != others[1]:
        shape_error(
            f"take_along_axis: shapes {shape_text(x.shape)} and {shape_text(index.shape)} differ "
            f"outside of axis {axis}",
            inputs,
        )
    return TensorType(index.shape, x.dtype)


def _along_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    axis = node.attr("axis")
    place, inside = wrapped(e, e.element(1, index), e.size(node.inputs[0].shape[axis]))
    e.check(inside)
    return e.element(0, [place if a == axis else i for a, i in enumerate(index)], where=inside)


def _along_reference(x: Array, index: Array, axis: int) -> Array:
    return np.take_along_axis(x, signed(index), axis)


def along_indices(index: Tensor, axis: int) -> list[Tensor]:
    """The indices of every axis that `take_along_axis` stands for."""
    found = []
    for a, n in enumerate(index.shape):
        shape = tuple(n if a == b else 1 for b in range(index.ndim))
        found.append(index if a == axis else IOTA(shape=shape, axis=a, dtype=int64))
    return found


def _along_gradient(g: Tensor, node: Tensor) -> Sequence[Tensor | None]:
    x, index = node.inputs
    axis = node.attr("axis")
    if index.shape[axis] == 1:
        return (_one_hot(g, x, [axis], [index]), None)
    return (scatter_add(x, g, along_indices(index, axis), range(x.ndim), 0), None)


def _along_samples(dtype: DType) -> Sequence[Sample]:
    one = np.array([[2], [-1], [0]])
    return [
        Sample((draw((5,), dtype), np.array([4, -5, 1])), {"axis": 0}),
        Sample((draw((3, 4), dtype), one), {"axis": 1}),
        Sample((draw((3, 4), dtype), np.array([[2, 2, -3, 0]])), {"axis": 0}),
        Sample((draw((0, 4), dtype), np.zeros((0, 2), np.int64)), {"axis": 1}),
        Sample((draw((2, 3, 4), dtype), draw((2, 5, 4), int64, low=0, high=2)), {"axis": 1}),
    ]


TAKE_ALONG_AXIS = REGISTRY.add(
    OpDef(
        "take_along_axis",
        ("axis",),
        _along_type,
        _along_reference,
        _along_gradient,
        Map(_along_element, kind="gather"),
        doc="out[..., i, ...] = x[..., indices[..., i, ...], ...] along one axis.",
        samples=_along_samples,
        dtypes=ALL,
    )
)
