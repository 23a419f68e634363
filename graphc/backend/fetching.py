"""Lines asked for ahead of vector loops (floor 6): which loads of a kernel read memory in order.

Hardware follows such a load, but only some lines ahead, and begins anew at every page: what a core
reads is then bounded by the time that memory takes, not by its rate. A loop that asks for the lines
it will need in 8 KB reads a third more. In the second-level cache there is nothing to wait for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphc.base.dims import product
from graphc.base.order import topological
from graphc.loops.build import ONE
from graphc.loops.index_math import flatten, linear_parts, without_constants
from graphc.loops.nodes import (
    Buffer,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Load,
    Op,
    Prefetch,
    Stmt,
)
from graphc.loops.walk import expressions, statements
from graphc.schedule.policy_cpu import (
    FETCH_AHEAD,
    FETCH_AHEAD_ROWS,
    FETCH_MOST_ROWS,
    FETCHED_BYTES,
    VECTOR_BYTES,
)

_LONG = 4  # distances that a row has at least, where another place of memory follows it
_GAP = 8  # the part of a row that may lie unread behind it


@dataclass(frozen=True, slots=True)
class _Access:
    """A load at `rest` + the variable of its vector loop + `displacement`."""

    load: Load
    rest: Expr
    displacement: int


def fetched_ahead(kernel: Kernel) -> Mapping[Load, int]:
    """Bytes ahead of each load, in a vector loop of 64-byte vectors, at which lines are asked for;
    loads without any left out. None in kernels that place prefetches themselves.
    """
    outputs = frozenset(kernel.outputs)
    large = frozenset(b for b in kernel.params if b not in outputs and _is_large(b))
    if not large or any(isinstance(s, Prefetch) for s in statements(kernel.body)):
        return {}
    found: dict[Load, int] = {}
    for loop, around in _vector_loops(kernel.body, ()):
        rows = _turns_inside(loop)
        distance = FETCH_AHEAD if rows == 1 else FETCH_AHEAD_ROWS
        for access in _leading(loop, large):
            if rows <= FETCH_MOST_ROWS and _lasts(loop, around, access, distance):
                found[access.load] = distance
    return found


def _is_large(buffer: Buffer) -> bool:
    elements = product(buffer.shape)
    return isinstance(elements, int) and elements * buffer.dtype.itemsize >= FETCHED_BYTES


def _vector_loops(
    body: tuple[Stmt, ...], around: tuple[For, ...]
) -> Iterator[tuple[For, tuple[For, ...]]]:
    """Every vector loop and the loops around it, inner ones last."""
    for stmt in body:
        if isinstance(stmt, If):
            yield from _vector_loops(stmt.body + stmt.otherwise, around)
        elif isinstance(stmt, For) and stmt.kind == "vector":
            yield stmt, around
        elif isinstance(stmt, For):
            yield from _vector_loops(stmt.body, (*around, stmt))


def _turns_inside(loop: For) -> int:
    """How often what stands in the loops inside of a vector loop runs, at most, for one vector."""
    turns = 1
    for stmt in statements(loop.body):
        if isinstance(stmt, For):
            extent = stmt.extent
            turns *= int(extent.value) if isinstance(extent, Const) else FETCH_MOST_ROWS + 1
    return turns


def _leading(loop: For, large: frozenset[Buffer]) -> list[_Access]:
    """The contiguous loads of a vector loop; of those that follow each other along one row, or in
    neighbouring rows, the one that goes ahead.
    """
    roots = [root for stmt in statements(loop.body) for root in expressions(stmt)]
    ahead: dict[tuple[Buffer, Expr], _Access] = {}
    for node in topological(roots, lambda e: e.args):
        if not isinstance(node, Load) or node.predicated or node.buffer not in large:
            continue
        buffer = node.buffer
        varying, displacement = without_constants(buffer.shape, node.indices)
        parts = linear_parts(flatten(buffer.shape, varying), loop.var)
        whole = loop.width * buffer.dtype.itemsize == VECTOR_BYTES
        if not whole or parts is None or parts[0] is not ONE:
            continue
        key = (buffer, parts[1])
        if key not in ahead or ahead[key].displacement < displacement:
            ahead[key] = _Access(node, parts[1], displacement)
    return list(ahead.values())


def _lasts(loop: For, around: tuple[For, ...], access: _Access, distance: int) -> bool:
    """Whether memory is read on behind what one run of the loop reads, or not soon elsewhere."""
    extents = _extents(loop.extent)
    if any(e * access.load.buffer.dtype.itemsize >= _LONG * distance for e in extents):
        return True
    for outer in reversed(around):
        parts = linear_parts(access.rest, outer.var)
        if parts is None:
            return False
        step = parts[0]
        if isinstance(step, Const) and step.value:
            return any(e <= int(step.value) <= e + e // _GAP for e in extents)
    return False


def _extents(extent: Expr) -> frozenset[int]:
    """What an extent may come to in most runs of its loop, where that is known."""
    parts = extent.args if isinstance(extent, Op) and extent.name == "minimum" else (extent,)
    return frozenset(int(p.value) for p in parts if isinstance(p, Const))
