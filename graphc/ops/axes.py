"""Axes and shapes as arguments (floor 2): normalized once, with the errors that users see.

Every attribute that names axes is a tuple of non-negative ints; every size is an int or a `Dim`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from graphc.base.dims import Dim, Shape, Size, product, shape_text, substitute, symbols
from graphc.ir.node import HOOKS, Node, Tensor, as_index
from graphc.ir.opdef import shape_error

Axes = int | Sequence[int] | None


def normalize_axis(op: str, x: Node, axis: Any, ndim: int | None = None, what: str = "axis") -> int:
    """`axis` as a non-negative int, for a tensor of `ndim` (default: that of x) dimensions.

    Raises ShapeError.
    """
    count = x.ndim if ndim is None and isinstance(x, Tensor) else ndim or 0
    index = as_index(axis)
    if index is None:
        shape_error(
            f"{op}: {what} must be an int, got {type(axis).__name__} {axis!r:.60}",
            [x],
            "dims are counted from 0, or from -1 backwards",
        )
    if not -count <= index < count:
        hint = (
            f"axes go from {-count} to {count - 1}"
            if count
            else "a 0-d tensor has no axes; use axis=None where that is allowed"
        )
        shape_error(f"{op}: {what} {index} is out of bounds for {count} dims", [x], hint)
    return index % count


def normalize_axes(op: str, x: Node, axis: Any, ndim: int | None = None) -> tuple[int, ...]:
    """`axis` (an int, a sequence of ints, None for all) as a tuple in the given order.

    Raises ShapeError for a repetition.
    """
    count = x.ndim if ndim is None and isinstance(x, Tensor) else ndim or 0
    if axis is None:
        return tuple(range(count))
    if not isinstance(axis, list | tuple | range):
        return (normalize_axis(op, x, axis, count),)
    found = tuple(normalize_axis(op, x, a, count) for a in axis)
    if len(set(found)) != len(found):
        hint = f"name each axis once; {count} dims are numbered 0 to {count - 1}"
        shape_error(f"{op}: an axis is given twice in {tuple(axis)}", [x], hint)
    return found


def as_size(op: str, size: Any, operands: Sequence[Node] = (), negative: bool = False) -> Size:
    """A size as an int or a Dim; an integer scalar of the graph as a dim that it computes.

    Raises ShapeError for anything else, and for negative ints unless allowed.
    """
    if isinstance(size, Dim):
        return size
    if is_count(size):
        found: Size = HOOKS["size"](size, what=f"{op}: a size cannot be negative")
        return found
    index = as_index(size)
    if index is None:
        hint = (
            "use the size itself, for example x.shape[0], or a graphc.Dim"
            if isinstance(size, str | Node)
            else "sizes are whole numbers; use // to divide them"
        )
        shape_error(f"{op}: a size must be an int or a Dim, got {size!r:.60}", operands, hint)
    if index < 0 and not negative:
        hint = "sizes are 0 or more; -1 stands for an unknown one in graphc.reshape only"
        shape_error(f"{op}: a size cannot be negative, got {index}", operands, hint)
    return index


def is_count(value: Any) -> bool:
    """Whether a value is an integer scalar of the graph, which can be a size."""
    return isinstance(value, Tensor) and value.ndim == 0 and value.dtype.is_integer


def as_shape(op: str, shape: Any, operands: Sequence[Node] = (), negative: bool = False) -> Shape:
    """A shape given as one size or a sequence of sizes. Raises ShapeError."""
    if isinstance(shape, Dim) or as_index(shape) is not None or is_count(shape):
        return (as_size(op, shape, operands, negative),)
    if isinstance(shape, str | Node) or not isinstance(shape, Iterable):
        shape_error(
            f"{op}: a shape must be a sequence of sizes, got {shape!r:.60}",
            operands,
            "give a sequence of sizes; a computed one is a dim: graphc.as_dim(count)",
        )
    return tuple(as_size(op, s, operands, negative) for s in shape)


def canonical_size(size: Size) -> Size:
    """The size with each symbol written as multiple_of times another one, so that exact quotients
    cancel.

    Two sizes are surely equal if their canonical sizes are; n // 4 * 4 is n where n is a multiple
    of 4.
    """
    scaled: dict[str, Size] = {
        s.name: s.multiple_of * Dim(s.name) for s in symbols((size,)) if s.multiple_of > 1
    }
    return substitute(size, scaled) if scaled else size


def same_size(a: Size, b: Size) -> bool:
    """Whether two sizes are surely equal."""
    return a == b or canonical_size(a) == canonical_size(b)


def same_elements(a: Shape, b: Shape) -> bool:
    """Whether two shapes surely have equally many elements."""
    return same_size(product(a), product(b))


def per_axis(
    op: str, what: str, value: Any, count: int, operands: Sequence[Node] = ()
) -> tuple[int, ...]:
    """An int for all of `count` axes, or a sequence with one each. Raises ShapeError."""
    index = as_index(value)
    if index is not None:
        return (index,) * count
    if not isinstance(value, list | tuple) or any(as_index(v) is None for v in value):
        shape_error(
            f"{op}: {what} must be an int or a sequence of ints, got {value!r:.60}",
            operands,
            f"one int for all axes, or {count} ints, one per axis",
        )
    if len(value) != count:
        shape_error(
            f"{op}: {what} needs {count} values, one per axis, got {len(value)}: {value!r:.60}",
            operands,
            f"give {count} ints, one per axis, or one int for all",
        )
    return tuple(int(v) for v in value)


__all__ = [
    "Axes",
    "as_shape",
    "as_size",
    "canonical_size",
    "normalize_axes",
    "normalize_axis",
    "per_axis",
    "same_elements",
    "same_size",
    "shape_text",
]
