"""Edges (floor 5): at which indices a node reads its producers, through any views in between.

Sizes of 1 do not count: an index is compared with the reader's own by its *effective* dims, those
whose size is not the literal 1. An edge is `exact` when the producer is read at a prefix of the
reader's own index: at the same element, or at the element of the reader's row. Exact reads never
compute a producer's element twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from graphc.base.dims import Shape
from graphc.ir.node import Node, Tensor
from graphc.loops.build import ZERO
from graphc.loops.nodes import Const, Expr, Op, var
from graphc.lower.elements import Elements, Index
from graphc.ops.families import (
    Alias,
    Contraction,
    Elementwise,
    Map,
    Opaque,
    Reduction,
    Reshape,
)

# Longer chains of views are cut by materialising one, so that index expressions stay short.
MAX_VIEW_DEPTH = 8
# Unions, made anew at each question, took a third of the time of finding edges.
_SHARING = (Reshape, Alias)


class Edge(NamedTuple):
    """One read of `producer`: `depth` leading effective dims agree with the reader's; `exact`: all
    of the producer's do; `offset`: all of them and the reader's are the same but for constants.
    """

    producer: Tensor
    depth: int
    exact: bool
    offset: bool = False


def effective(shape: Shape) -> Shape:
    """The dims whose size is not the literal 1."""
    return tuple(s for s in shape if not (isinstance(s, int) and s == 1))


def is_view(node: Node) -> bool:
    """Nodes that cost nothing by themselves: index arithmetic, generators, shared memory."""
    return is_view_form(node.op.form)


def is_view_form(form: object) -> bool:
    """Whether nodes of ops of that form are views."""
    return isinstance(form, _SHARING) or (isinstance(form, Map) and form.kind != "gather")


def own_index(shape: Shape, prefix: str = "v") -> Index:
    """Index variables for a shape; size-1 dims have index 0."""
    return tuple(
        ZERO if isinstance(s, int) and s == 1 else var(f"{prefix}{d}") for d, s in enumerate(shape)
    )


class EdgeFinder:
    """Finds the edges of nodes; `is_producer(node)` says where a walk through views ends."""

    def __init__(self, is_producer: Callable[[Tensor], bool]) -> None:
        self.is_producer = is_producer

    def edges(self, node: Tensor) -> list[Edge]:
        """Every read of a producer by `node` (sources included, literals not)."""
        form = node.op.form
        if isinstance(form, Elementwise):
            if all(self.is_producer(i) for i in node.inputs):
                return [_direct(i, node.shape) for i in node.inputs]
            return self._recorded(node, own_index(node.shape), node)
        if isinstance(form, Map) or isinstance(form, _SHARING):
            return self._recorded(node, own_index(node.shape), node)
        if isinstance(form, Reduction):
            return self._recorded(node.inputs[0], own_index(node.inputs[0].shape), node)
        if isinstance(form, Contraction | Opaque):
            found = []
            for operand in node.inputs:
                if self.is_producer(operand):
                    found.append(Edge(operand, 0, False))
                else:
                    found += [
                        Edge(e.producer, 0, False)
                        for e in self._recorded(operand, own_index(operand.shape), operand)
                    ]
            return found
        return []

    def _recorded(self, start: Tensor, index: Index, reader: Tensor) -> list[Edge]:
        found: list[Edge] = []
        own = _own(start.shape, index) if start is not reader else _own(reader.shape, index)

        def leaf(node: Tensor, at: Index, predicate: Expr | None) -> Expr:
            found.append(_classify(node, at, own, predicate is not None))
            # A value of its own, so that no two leaves fold into one.
            return var(f"leaf{len(found)}", node.dtype)

        elements = Elements(
            lambda n: n is reader or not self.is_producer(n), leaf, lambda node, ok: None
        )
        elements.value(start, index)
        return found


def _own(shape: Shape, index: Index) -> tuple[Expr, ...]:
    return tuple(
        i for s, i in zip(shape, index, strict=True) if not (isinstance(s, int) and s == 1)
    )


def _classify(node: Tensor, at: Index, own: tuple[Expr, ...], predicated: bool) -> Edge:
    theirs = _own(node.shape, at)
    depth = 0
    while depth < min(len(theirs), len(own)) and theirs[depth] is own[depth]:
        depth += 1
    exact = depth == len(theirs) and not predicated
    offset = (
        not predicated
        and len(theirs) == len(own)
        and all(constant_offset(t, o) is not None for t, o in zip(theirs, own, strict=True))
    )
    return Edge(node, depth, exact, offset)


def constant_offset(index: Expr, own: Expr) -> int | None:
    """What is added to the index `own` to make `index`, None where that is no constant."""
    if index is own:
        return 0
    if isinstance(index, Op) and index.name == "add" and index.args[0] is own:
        added = index.args[1]
        return int(added.value) if isinstance(added, Const) else None
    return None


def _direct(operand: Tensor, shape: Shape) -> Edge:
    if operand.shape == shape:
        rank = len(effective(shape))
        return Edge(operand, rank, True)
    offset = len(shape) - len(operand.shape)
    theirs = [
        d + offset for d, s in enumerate(operand.shape) if not (isinstance(s, int) and s == 1)
    ]
    own = [d for d, s in enumerate(shape) if not (isinstance(s, int) and s == 1)]
    depth = 0
    while depth < len(theirs) and theirs[depth] == own[depth]:
        depth += 1
    return Edge(operand, depth, depth == len(theirs))


def view_depth(node: Tensor, known: dict[int, int], is_producer: Callable[[Tensor], bool]) -> int:
    """How many views lie between `node` (a view) and its producers, at most; operands must be in
    `known` already.
    """
    return 1 + max((known.get(id(i), 0) for i in node.inputs if not is_producer(i)), default=0)
