"""Selection by masks (floor 2): the positions of True elements, whose number the graph computes.

The j-th True element stands where the running count reaches j + 1: a search in sorted numbers, so
that positions are found in parallel, and no loop writes at places that depend on others.
"""

from __future__ import annotations

from graphc.base.dims import Shape, Size, product
from graphc.base.dtypes import int64
from graphc.ir.node import Tensor
from graphc.ir.opdef import REGISTRY, shape_error
from graphc.ops.creation import IOTA
from graphc.ops.elementwise import maximum, minimum
from graphc.ops.promotion import cast
from graphc.ops.reshape import to_shape
from graphc.ops.sizes import computed_size, size_tensor
from graphc.ops.view import broadcasted


def true_positions(mask: Tensor) -> Tensor:
    """The int64 positions of the True elements of a bool vector, in order; their number is a
    computed size.
    """
    (n,) = mask.shape
    ones = cast(mask, int64)
    count = REGISTRY["sum"](ones, axes=(0,), keepdims=False)
    size = computed_size(count, max=n if isinstance(n, int) else None)
    running = REGISTRY["cumulative_sum"](ones, axis=0, reverse=False)
    return REGISTRY["searchsorted"](running, counted(size) + 1, side="left")


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
