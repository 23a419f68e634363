"""Selection by masks (floor 2): the positions of True elements, whose number the graph computes."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dims import Shape, Size, product
from graphc.base.dtypes import Array, DType, bool_, int64
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, shape_error
from graphc.ops.creation import IOTA
from graphc.ops.elementwise import maximum, minimum
from graphc.ops.families import Opaque
from graphc.ops.promotion import cast
from graphc.ops.reshape import to_shape
from graphc.ops.sizes import computed_size, size_tensor
from graphc.ops.view import broadcasted


def _positions_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (mask,) = inputs
    assert isinstance(mask, Tensor)
    if mask.ndim != 1 or mask.dtype is not bool_:
        shape_error(f"true_positions: expected a bool vector, got {mask.type}", inputs)
    return TensorType((attrs[0],), int64)


def _positions_reference(mask: Array, size: int) -> Array:
    found = np.full(size, len(mask), np.int64)
    places = np.flatnonzero(mask)[:size]
    found[: len(places)] = places
    return found


def _positions_lower(b: Any, node: Tensor) -> None:
    """One pass without branches on elements: every index is written where the next one belongs, and
    stays if its element is True.
    """
    size, n = b.size(node.shape[0]), b.size(node.inputs[0].shape[0])
    one = b.size(1)

    def find() -> None:
        count, last = b.local((), int64), b.local((), int64)
        b.put(count, b.size(0))
        b.put(last, n)

        def visit(i: Any) -> None:
            place = b.get(count)
            open_ = b.lt(place, size)
            taken = b.bit_and(b.load(0, (i,)), open_)
            held = b.get(last)
            b.store((b.minimum(place, b.sub(size, one)),), b.select(open_, i, held))
            b.put(last, b.select(taken, i, held))
            b.put(count, b.add(place, b.select(taken, one, b.size(0))))

        b.loop(node.inputs[0].shape[0], visit)
        found = b.get(count)
        b.loop(b.sub(size, found), lambda k: b.store((b.add(found, k),), n))

    b.parallel((), lambda _: b.when(b.gt(size, b.size(0)), find))


def _positions_samples(dtype: DType) -> list[Sample]:
    rng = np.random.default_rng(4)
    found = []
    for n, size in ((7, 3), (7, 0), (0, 0), (0, 2), (40, 40), (100, 20), (5, 9)):
        found.append(Sample((rng.random(n) < 0.5,), {"size": size}))
    return [*found, Sample((np.ones(6, bool),), {"size": 6})]


TRUE_POSITIONS = REGISTRY.add(
    OpDef(
        "true_positions",
        ("size",),
        _positions_type,
        _positions_reference,
        None,
        Opaque(_positions_lower),
        doc="The positions of the first `size` True elements of a vector; where there are fewer, "
        "its length.",
        samples=_positions_samples,
        dtypes=(bool_,),
    )
)


def true_positions(mask: Tensor) -> Tensor:
    """The int64 positions of the True elements of a bool vector, in order; their number is a
    computed size.
    """
    (n,) = mask.shape
    ones = cast(mask, int64)
    count = REGISTRY["sum"](ones, axes=(0,), keepdims=False)
    size = computed_size(count, max=n if isinstance(n, int) else None)
    return TRUE_POSITIONS(mask, size=size)


def counted(size: Size) -> Tensor:
    """0, 1, … below `size`, int64."""
    return IOTA(shape=(size,), axis=0, dtype=int64)


def flattened(x: Tensor) -> Tensor:
    """The elements of x as a vector."""
    return to_shape(x, (product(x.shape),))


def unraveled(positions: Tensor, shape: Shape) -> tuple[Tensor, ...]:
    """Positions in a flattened tensor of `shape` as indices, one tensor per dim."""
    found: list[Tensor] = []
    rest = positions
    for size in reversed(shape[1:]):
        whole = size_tensor(size)
        found.append(rest % whole)
        rest = rest // whole
    return (rest, *reversed(found)) if shape else ()


def repeated_positions(x: Tensor, counts: Tensor, size: Size, axis: int) -> Tensor:
    """Position i as often as the vector `counts` says, for every i below `size`."""
    if not counts.dtype.is_integer or counts.ndim != 1 or counts.shape[0] not in (size, 1):
        shape_error(
            f"repeat: needs a vector of integers, one count for each of the {size} elements of "
            f"axis {axis}",
            [x, counts],
            "one count for all is a scalar",
        )
    each = cast(counts, int64)
    each = each if each.shape == (size,) else broadcasted(each, (size,))
    total = REGISTRY["sum"](each, axes=(0,), keepdims=False)
    wrong = REGISTRY["any"](each < 0, axes=(0,), keepdims=False)
    length = computed_size(
        _where(wrong, size_tensor(-1), total),
        what="repeat: a count cannot be negative",
    )
    ends = REGISTRY["cumulative_sum"](each, axis=0, reverse=False)
    return REGISTRY["searchsorted"](ends, counted(length), side="right")


def mask_indices(mask: Tensor) -> tuple[Tensor, ...]:
    """The indices of the True elements of a mask in row-major order, one vector per dim."""
    return unraveled(true_positions(flattened(mask)), mask.shape)


def computed_range(
    n: Size, start: Tensor | Size | None, stop: Tensor | Size | None, step: int
) -> tuple[Size, int, Size]:
    """(start, step, size) of a slice of `n` elements whose bounds the graph computes: as Python's,
    negative ones count from the end, and what is too far is the end.
    """
    whole = size_tensor(n)
    forward = step > 0

    def place(bound: Tensor | Size | None, default: Tensor) -> Tensor:
        if bound is None:
            return default
        given = cast(bound, int64) if isinstance(bound, Tensor) else size_tensor(bound)
        from_end = _where(given < 0, given + whole, given)
        low, high = (0, whole) if forward else (-1, whole - 1)
        return maximum(minimum(from_end, high), low)

    nothing = size_tensor(-1)
    first = place(start, size_tensor(0) if forward else whole - 1)
    last = place(stop, whole if forward else nothing)
    distance = last - first if forward else first - last
    count = maximum((distance + (abs(step) - 1)) // abs(step), 0)
    most = n if isinstance(n, int) else None
    size = computed_size(count, max=None if most is None else -(-most // abs(step)))
    # Of nothing, where it starts does not matter: 0 is a place.
    begin = computed_size(_where(count > 0, first, size_tensor(0)), max=most)
    return begin, step, size


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return REGISTRY["where"](condition, a, b)
