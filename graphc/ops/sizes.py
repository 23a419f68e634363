"""Sizes that the graph computes (floor 2): `as_dim`, from a scalar to a dim.

The dim is a symbol that is bound while the graph runs, once its count is known; memory is found
then.  Counts that are arithmetic on known sizes give those sizes themselves, so that shape
arithmetic costs nothing at run time and types stay comparable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Shape, Size, bounds, divide
from graphc.base.dtypes import int64
from graphc.base.errors import GraphError
from graphc.ir.bindings import computed_symbols, size_symbol
from graphc.ir.node import HOOKS, Node, Tensor, TensorType, as_index
from graphc.ir.opdef import dtype_error, fail, shape_error
from graphc.ops.promotion import SIZE, TensorLike, as_tensor, cast

_MOST_NODES = 64  # of an expression that is looked at

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "maximum": lambda a, b: _larger(a, b),
    "minimum": lambda a, b: _smaller(a, b),
}


def as_dim(
    count: TensorLike,
    /,
    name: str | None = None,
    *,
    min: int = 0,
    max: int | None = None,
    multiple_of: int = 1,
) -> Size:
    """The size that `count`, an integer scalar which the graph computes, holds: for shapes.

    The result is a dim like others: it may stand in `graphc.zeros((n, 3))`, in slices and in
    arithmetic. It is bound while the graph runs; memory is found then. A count outside of
    the bounds raises ExecutionError at the call. The same count with the same bounds gives the same
    dim; known counts and arithmetic on other sizes give these.

    Raises DTypeError for a count that is no integer, ShapeError for one that is no scalar or
    bounds that leave no size, GraphError for a name that is no identifier.

        n = graphc.as_dim(graphc.sum(x > 0))
    """
    return computed_size(count, name, min, max, multiple_of)


def computed_size(
    count: TensorLike,
    name: str | None = None,
    min: int = 0,
    max: int | None = None,
    multiple_of: int = 1,
    what: str = "",
) -> Size:
    """`as_dim`; what: what is wrong where the count is out of its bounds, for the error."""
    if name is not None and not (isinstance(name, str) and name.isidentifier()):
        fail(
            GraphError,
            f"as_dim: a dim's name must be an identifier, got {name!r}",
            hint='for example "boxes"',
        )
    Dim(name or "size", min, max, multiple_of)  # raises where the bounds leave no size
    if isinstance(count, Dim) or as_index(count) is not None:
        tensor, known = None, count if isinstance(count, Dim) else as_index(count)
    else:
        tensor = as_tensor(count, op="as_dim")
        if not tensor.dtype.is_integer:
            dtype_error(
                f"as_dim: a count must be an integer, got {tensor.dtype}",
                [tensor],
                'convert it: graphc.astype(count, "int64")',
            )
        if tensor.shape != ():
            shape_error(
                f"as_dim: a count is a scalar, got {tensor.type}",
                [tensor],
                "one dim per element: graphc.as_dim(shape[0]), graphc.as_dim(shape[1])",
            )
        known = known_size(tensor)
    if known is not None:
        _check_known(known, min, max, multiple_of, what)
        if isinstance(known, int) or (min, max, multiple_of) == (0, None, 1):
            return known
    if tensor is None:
        tensor = as_tensor(count, op="as_dim")
    whole = tensor if tensor.dtype is int64 else cast(tensor, int64)
    return Dim.of(size_symbol(whole, name, min, max, multiple_of, what))


def _check_known(known: Any, min: int, max: int | None, multiple_of: int, what: str) -> None:
    if isinstance(known, int) and (
        known < min or (max is not None and known > max) or known % multiple_of
    ):
        shape_error(
            what
            or f"as_dim: the size {known} is not within its bounds min={min}, max={max}, "
            f"multiple_of={multiple_of}"
        )


def known_size(tensor: Tensor) -> Size | None:
    """The size that an integer scalar surely holds: a constant, or arithmetic on sizes."""
    found: dict[int, Size | None] = {}
    stack: list[Node] = [tensor]
    while stack:
        node = stack[-1]
        if id(node) in found:
            stack.pop()
            continue
        if len(found) > _MOST_NODES:
            return None
        parts = _parts(node)
        waiting = [i for i in parts if id(i) not in found]
        if waiting:
            stack += waiting
            continue
        found[id(node)] = _known(node, [found[id(i)] for i in parts])
        stack.pop()
    return found[id(tensor)]


def _parts(node: Node) -> tuple[Node, ...]:
    known = node.op.name in _ARITHMETIC or node.op.name in ("floor_divide", "cast", "reshape")
    return node.inputs if known and _is_count(node) else ()


def _is_count(node: Node) -> bool:
    return (
        isinstance(node.type, TensorType)
        and node.type.dtype.is_integer
        and all(isinstance(s, int) and s == 1 for s in node.type.shape)
    )


def _known(node: Node, parts: list[Size | None]) -> Size | None:
    if not _is_count(node):
        return None
    name = node.op.name
    if node.op is SIZE and node.attr("dtype") is int64:
        size: Size = node.attr("size")
        return size
    if name == "constant":
        return int(np.asarray(node.attr("value").values).reshape(-1)[0])
    if None in parts or not parts or not isinstance(node, Tensor) or node.dtype is not int64:
        return None
    if name in ("cast", "reshape"):
        return parts[0]
    a, b = parts
    if name == "floor_divide":
        return divide(a, b) if isinstance(b, int) and b > 0 and a is not None else None
    result: Size | None = _ARITHMETIC[name](a, b)
    return result


def _larger(a: Size, b: Size) -> Size | None:
    low = bounds(a - b)[0]
    high = bounds(a - b)[1]
    return a if low is not None and low >= 0 else b if high is not None and high <= 0 else None


def _smaller(a: Size, b: Size) -> Size | None:
    larger = _larger(a, b)
    return None if larger is None else a + b - larger


def size_tensor(size: Size) -> Tensor:
    """A size as an int64 scalar."""
    return as_tensor(size, like=int64) if isinstance(size, int) else SIZE(size=size, dtype=int64)


def is_computed(sizes: Shape) -> bool:
    """Whether the graph computes one of the sizes."""
    return bool(computed_symbols(sizes))


HOOKS["size"] = computed_size
