"""Reading and writing at computed places (floor 2): slice, gather, take_along_axis, scatter.

`slice` is a view; `gather` reads at indices that are data; `scatter` is its transpose, a serial loop in
row-major order of the updates, so that the result never depends on threads. Negative indices count from
the end; indices out of bounds are errors: at declaration where the numbers are known, at the call else.
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
from graphc.ops.elementwise import multiply, where
from graphc.ops.families import Map, Opaque
from graphc.ops.logical import bitwise_and, equal, not_equal
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
                    f"slice: {size} elements from {start} with step {step} are not within axis {axis} "
                    f"of size {n}",
                    [x],
                )
    return TensorType(shape, x.dtype)


def _slice_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    starts, steps, shape = node.attrs
    places = []
    inside = None
    for i, start, step, size, n in zip(index, starts, steps, shape, node.inputs[0].shape, strict=True):
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
    total = size
    for monomial, coefficient in size.terms:
        if len(monomial) == 1 and isinstance(monomial[0], Quotient):
            atom = monomial[0]
            if isinstance(atom.denominator, int) and coefficient > 0:
                whole, rest = divmod(coefficient, atom.denominator)
                if not rest:
                    quotient = atom.numerator // atom.denominator
                    total = total - quotient * coefficient + atom.numerator * whole  # type: ignore[assignment]
    return total


def _slice_reference(
    x: Array, starts: Sequence[int], steps: Sequence[int], shape: Sequence[int]
) -> Array:
    for axis, (start, step, size, n) in enumerate(zip(starts, steps, shape, x.shape, strict=True)):
        last = start + (size - 1) * step
        if size < 0 or (size > 0 and not (0 <= start < n and 0 <= last < n)):
            raise ExecutionError(
                f"slice: {size} elements from {start} with step {step} are not within axis {axis} of "
                f"size {n}"
            )
    lines = [start + step * np.arange(size) for start, step, size in zip(starts, steps, shape, strict=True)]
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
        spread = size if abs(step) == 1 or size == 0 else (size - 1) * abs(step) + 1
        begin = 0 if size == 0 else begin
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
        Sample((draw(shape, dtype),), {"starts": a, "steps": b, "shape": c}) for shape, a, b, c in cases
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


def _check_indices(op: str, operands: Sequence[Tensor], indices: Sequence[Tensor]) -> None:
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
    _check_indices("gather", inputs, indices)
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


def _targets(
    s: Any, index: Sequence[Any], node: Tensor, first: int, read: Callable[[int, Sequence[Any]], Any]
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
    places, inside = _targets(e, index, node, 1, e.element)
    e.check(inside)
    return e.element(0, places, where=inside)


def _front(x: Array, axes: Sequence[int]) -> Array:
    return np.moveaxis(x, axes, range(len(axes)))


def _gather_reference(
    x: Array, *indices: Array, axes: Sequence[int], position: int
) -> Array:
    found = np.asarray(_front(x, axes)[tuple(_signed(i) for i in indices)])
    rank = max(i.ndim for i in indices)
    return np.moveaxis(found, range(rank), range(position, position + rank))


def _signed(index: Array) -> Array:
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
    added = SCATTER(
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
        doc="x indexed along `axes` by integer tensors that broadcast together; their dims come at `position`.",
        samples=_gather_samples,
        dtypes=ALL,
    )
)


# -- take_along_axis --------------------------------------------------------------------


def _along_type(inputs: tuple[Any, ...], attrs: tuple[Any, ...]) -> TensorType:
    x, index = inputs
    (axis,) = attrs
    _check_indices("take_along_axis", inputs, [index])
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
    return np.take_along_axis(x, _signed(index), axis)


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


# -- scatter ----------------------------------------------------------------------------


def _scatter_type(inputs: tuple[Any, ...], attrs: tuple[Any, ...]) -> TensorType:
    x, updates, *indices = inputs
    axes, position, mode = attrs
    _check_indices("scatter", inputs, indices)
    if mode not in _COMBINE:
        shape_error(f"scatter: mode must be one of {', '.join(_COMBINE)}, got {mode!r}", inputs)
    if updates.dtype is not x.dtype:
        dtype_error(f"scatter: updates of {updates.dtype} into {x.dtype}", inputs)
    expected = gathered_shape("scatter", x, indices, axes, position)
    if updates.shape != expected:
        shape_error(
            f"scatter: updates have shape {shape_text(updates.shape)}, the indices select "
            f"{shape_text(expected)}",
            inputs,
        )
    return TensorType(x.shape, x.dtype)


def _combined(name: str, on_bool: str) -> Callable[[Any, Any, Any], Any]:
    def combine(s: Any, old: Any, new: Any) -> Any:
        return s.op(on_bool if s.dtype_of(old).is_bool else name, old, new)

    return combine


def _replaced(s: Any, old: Any, new: Any) -> Any:
    return new


_COMBINE: dict[str, Callable[[Any, Any, Any], Any]] = {
    "set": _replaced,
    "add": _combined("add", "bit_or"),
    "multiply": _combined("mul", "bit_and"),
    "min": _combined("minimum", "bit_and"),
    "max": _combined("maximum", "bit_or"),
}


def _nest(b: Any, shape: Sequence[Size], body: Callable[[tuple[Any, ...]], None]) -> None:
    """Serial loops over `shape`, in row-major order."""

    def level(index: tuple[Any, ...]) -> None:
        if len(index) == len(shape):
            body(index)
        else:
            b.loop(shape[len(index)], lambda i: level((*index, i)))

    level(())


def _scatter_lower(b: Any, node: Tensor) -> None:
    x, updates = node.inputs[:2]
    combine = _COMBINE[node.attr("mode")]
    _nest(b, x.shape, lambda index: b.store(index, b.load(0, index)))

    def update(index: tuple[Any, ...]) -> None:
        places, inside = _targets(b, index, node, 2, b.load)
        b.check(inside)
        b.when(
            inside,
            lambda: b.store(places, combine(b, b.read_result(places), b.load(1, index))),
        )

    _nest(b, updates.shape, update)


_UFUNCS: dict[str, Any] = {
    "add": np.add,
    "multiply": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}


def _scatter_reference(
    x: Array,
    updates: Array,
    *indices: Array,
    axes: Sequence[int],
    position: int,
    mode: str,
) -> Array:
    result = np.array(x)
    places = _front(result, axes)
    rank = max(i.ndim for i in indices)
    values = np.moveaxis(updates, range(position, position + rank), range(rank))
    where_to = tuple(_signed(i) for i in np.broadcast_arrays(*indices))
    if mode == "set":
        places[where_to] = values
    else:
        _UFUNCS[mode].at(places, where_to, values)
    return result


def _scatter_gradient(g: Tensor, node: Tensor) -> Sequence[Tensor | None]:
    indices = node.inputs[2:]
    attrs = {"axes": node.attr("axes"), "position": node.attr("position")}

    def read(t: Tensor) -> Tensor:
        return GATHER(t, *indices, **attrs)

    def write(t: Tensor, u: Tensor, mode: str) -> Tensor:
        return SCATTER(t, u, *indices, mode=mode, **attrs)

    parts = _SCATTER_GRADIENTS[node.attr("mode")](g, node, read, write)
    return (*parts, *([None] * len(indices)))


_Read = Callable[[Tensor], Tensor]
_Write = Callable[[Tensor, Tensor, str], Tensor]
_Pair = tuple[Tensor, Tensor]


def _add_gradient(g: Tensor, node: Tensor, read: _Read, write: _Write) -> _Pair:
    return g, read(g)


def _set_gradient(g: Tensor, node: Tensor, read: _Read, write: _Write) -> _Pair:
    updates = node.inputs[1]
    # Where several updates meet, the last one stays: it alone has a gradient.
    number = to_shape(IOTA(shape=(updates.size,), axis=0, dtype=int64), updates.shape)
    last = read(write(filled(0, node.shape, int64), number, "set"))
    zero = filled(0, (), g.dtype)
    gx = write(g, filled(0, updates.shape, g.dtype), "set")
    return gx, where(equal(last, number), read(g), zero)


def _multiply_gradient(g: Tensor, node: Tensor, read: _Read, write: _Write) -> _Pair:
    x, updates = node.inputs[:2]
    zero, one = filled(0, (), g.dtype), filled(1, (), g.dtype)
    is_zero = equal(updates, zero)
    # Products of the updates that are not zero, and how many are: every exclusive product follows.
    product = write(filled(1, x.shape, g.dtype), where(is_zero, one, updates), "multiply")
    zeros = write(filled(0, x.shape, g.dtype), cast(is_zero, g.dtype), "add")
    gx = g * where(equal(zeros, zero), product, zero)
    others = where(
        is_zero,
        where(equal(read(zeros), one), read(product), zero),
        where(equal(read(zeros), zero), read(product) / where(is_zero, one, updates), zero),
    )
    return gx, multiply(read(g * x), others)


def _extremum_gradient(g: Tensor, node: Tensor, read: _Read, write: _Write) -> _Pair:
    x, updates = node.inputs[:2]
    zero = filled(0, (), g.dtype)
    chosen_x, chosen_u = equal(x, node), equal(updates, read(node))
    # Equal winners share the cotangent.
    count = write(cast(chosen_x, g.dtype), cast(chosen_u, g.dtype), "add")
    share = g / where(not_equal(count, zero), count, filled(1, (), g.dtype))
    return where(chosen_x, share, zero), where(chosen_u, read(share), zero)


_SCATTER_GRADIENTS: dict[str, Callable[[Tensor, Tensor, _Read, _Write], _Pair]] = {
    "set": _set_gradient,
    "add": _add_gradient,
    "multiply": _multiply_gradient,
    "min": _extremum_gradient,
    "max": _extremum_gradient,
}


def _scatter_samples(dtype: DType) -> Sequence[Sample]:
    i, j = np.array([2, 0, -1, 2]), np.array([[1], [-2]])
    cases: list[tuple[tuple[int, ...], tuple[Array, ...], tuple[int, ...], int, tuple[int, ...]]] = [
        ((5,), (i,), (0,), 0, (4,)),
        ((5,), (np.array(3),), (0,), 0, ()),
        ((4, 6), (i,), (1,), 1, (4, 4)),
        ((4, 6), (j, i), (0, 1), 0, (2, 4)),
        ((4, 3, 5), (i, j), (0, 2), 0, (2, 4, 3)),
        ((5,), (np.zeros(0, np.int64),), (0,), 0, (0,)),
    ]
    return [
        Sample(
            (draw(shape, dtype), draw(updates, dtype, seed=1), *indices),
            {"axes": axes, "position": position, "mode": mode},
        )
        for shape, indices, axes, position, updates in cases
        for mode in _COMBINE
    ]


SCATTER = REGISTRY.add(
    OpDef(
        "scatter",
        ("axes", "position", "mode"),
        _scatter_type,
        _scatter_reference,
        _scatter_gradient,
        Opaque(_scatter_lower),
        doc="x with updates combined in at the places that `gather` would read, one after another.",
        samples=_scatter_samples,
        dtypes=ALL,
    )
)
