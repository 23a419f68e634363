"""Writing at computed places (floor 2): scatter, the transpose of gather.

A serial loop over the updates in row-major order: the result never depends on threads, and where
updates meet at one element, `set` keeps the last one and the other modes combine all in order.
Where whole rows are written, threads share the columns and vectors run along them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Size, shape_text
from graphc.base.dtypes import ALL, Array, DType, int64
from graphc.ir.node import Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, shape_error
from graphc.ops.creation import IOTA, filled
from graphc.ops.elementwise import multiply, where
from graphc.ops.families import Opaque
from graphc.ops.gather import GATHER, check_indices, front, gathered_shape, signed, targets
from graphc.ops.logical import equal, not_equal
from graphc.ops.promotion import cast
from graphc.ops.reshape import to_shape
from graphc.ops.sampling import draw

# -- scatter ----------------------------------------------------------------------------


def _scatter_type(inputs: tuple[Any, ...], attrs: tuple[Any, ...]) -> TensorType:
    x, updates, *indices = inputs
    axes, position, mode = attrs
    check_indices("scatter", inputs, indices)
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
    if x.dtype is not x.dtype.compute and node.attr("mode") in _ROUNDING:
        _scatter_wide(b, node, combine)
        return
    if _writes_rows(node):
        _scatter_rows(b, node, combine)
        return
    _nest(b, x.shape, lambda index: b.store(index, b.load(0, index)))

    def update(index: tuple[Any, ...]) -> None:
        places, inside = targets(b, index, node, 2, b.load)
        b.check(inside)
        b.when(
            inside,
            lambda: b.store(places, combine(b, b.read_result(places), b.load(1, index))),
        )

    _nest(b, updates.shape, update)


_COLUMNS = 64  # per parallel step: four vectors of float32, whole cache lines


def _writes_rows(node: Tensor) -> bool:
    """Whether the last axis of the updates is the last one of the result, element by element."""
    x, _, *indices = node.inputs
    rank = max(i.ndim for i in indices)
    behind = node.attr("position") + rank < node.inputs[1].ndim
    return behind and x.ndim - 1 not in node.attr("axes") and x.shape[-1] != 1


def _scatter_rows(b: Any, node: Tensor, combine: Callable[[Any, Any, Any], Any]) -> None:
    x, updates = node.inputs[:2]
    columns = x.shape[-1]

    def step(block: tuple[Any, ...]) -> None:
        start = b.mul(block[0], b.size(_COLUMNS))
        count = b.minimum(b.size(_COLUMNS), b.sub(b.size(columns), start))

        def along(body: Callable[[Any], None]) -> None:
            b.lanes(count, x.dtype, lambda j: body(b.add(start, j)))

        def copy(index: tuple[Any, ...]) -> None:
            along(lambda j: b.store((*index, j), b.load(0, (*index, j))))

        def update(index: tuple[Any, ...]) -> None:
            places, inside = targets(b, (*index, b.size(0)), node, 2, b.load)
            row = places[:-1]

            def element(j: Any) -> None:
                new = b.load(1, (*index, j))
                b.store((*row, j), combine(b, b.read_result((*row, j)), new))

            b.check(inside)
            b.when(inside, lambda: along(element))

        _nest(b, x.shape[:-1], copy)
        _nest(b, updates.shape[:-1], update)

    b.parallel(((columns + (_COLUMNS - 1)) // _COLUMNS,), step)


def _scatter_wide(b: Any, node: Tensor, combine: Callable[[Any, Any, Any], Any]) -> None:
    """16-bit floats in float32 memory, rounded once: many small updates must not be lost."""
    x, updates = node.inputs[:2]
    wide = x.dtype.compute
    memory = b.local(x.shape, wide)
    _nest(b, x.shape, lambda index: b.put(memory, b.cast(b.load(0, index), wide), index))

    def update(index: tuple[Any, ...]) -> None:
        places, inside = targets(b, index, node, 2, b.load)
        b.check(inside)
        new = b.cast(b.load(1, index), wide)
        b.when(inside, lambda: b.put(memory, combine(b, b.get(memory, places), new), places))

    _nest(b, updates.shape, update)
    _nest(b, x.shape, lambda index: b.store(index, b.cast(b.get(memory, index), x.dtype)))


_ROUNDING = ("add", "multiply")  # the modes that round
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
    if x.dtype == np.float16 and mode in _ROUNDING:
        x, updates = x.astype(np.float32), updates.astype(np.float32)
    result = np.array(x)
    places = front(result, axes)
    rank = max(i.ndim for i in indices)
    values = np.moveaxis(updates, range(position, position + rank), range(rank))
    where_to = tuple(signed(i) for i in np.broadcast_arrays(*indices))
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
    cases: list[
        tuple[tuple[int, ...], tuple[Array, ...], tuple[int, ...], int, tuple[int, ...]]
    ] = [
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
