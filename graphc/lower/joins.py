"""Joined tensors in memory (floor 5): concatenations that are written part by part.

A large concatenation that has memory of its own is not computed element by element, each choosing
its operand. Where its parts are contiguous in it (no dim before the axis), an operand that a kernel
computes is written in place: the memory of the operand is a part of the concatenation's. Networks
that join the results of all layers before (DenseNet) then keep them in one buffer, because
concatenations of the same operands in a row are parts of the longest one. What cannot be in place
is copied, a kernel for each operand (`join_copies`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from graphc.base.dims import Size, product
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor
from graphc.lower.elements import storage_root
from graphc.ops.families import Contraction, Elementwise, Reduction

# Bytes below which one kernel whose elements choose their operand is quicker than kernels apart.
_SMALLEST = 16384
# Operands of one concatenation that may be copies.
_MOST_COPIES = 64


def known(size_: Size) -> int:
    """A size that was seen to be known."""
    assert isinstance(size_, int)
    return size_


@dataclass(frozen=True, slots=True)
class Joins:
    """nodes: by id, concatenations that are written part by part; parts: by id of a storage root in
    which whole it is, and how many elements after the whole's start.
    """

    nodes: dict[int, Tensor] = field(default_factory=dict)
    parts: dict[int, tuple[Tensor, int]] = field(default_factory=dict)
    roots: list[Tensor] = field(default_factory=list)  # of the parts

    def put(self, root: Tensor, whole: Tensor, at: int) -> None:
        """Make a value a part of another's memory."""
        self.parts[id(root)] = (whole, at)
        self.roots.append(root)

    def memory(self, root: Tensor) -> tuple[Tensor, int]:
        """Whose memory a storage root has: that, and how many elements after its start."""
        at = 0
        while id(root) in self.parts:
            root, more = self.parts[id(root)]
            at += more
        return root, at

    def holds(self, node: Tensor, at: int, operand: Tensor) -> bool:
        """Whether an operand is in the memory of `node`, `at` elements after its start."""
        whole, start = self.memory(node)
        found, place = self.memory(storage_root(operand))
        return found is whole and place == start + at


def is_contiguous_join(node: Node) -> bool:
    """Whether a node is a large concatenation whose operands are contiguous in it."""
    if not _is_large(node) or not isinstance(node, Tensor):
        return False
    return product(node.shape[: node.attr("axis")]) == 1


def _is_large(node: Node) -> bool:
    if node.op.name != "concat" or not isinstance(node, Tensor):
        return False
    count = product(node.shape)
    return isinstance(count, int) and count * node.dtype.itemsize >= _SMALLEST


def find_joins(graph: Graph, forced: Iterable[Tensor], fixed: Iterable[Tensor]) -> Joins:
    """The joins of a graph. forced: nodes that need memory of their own; fixed: storage roots whose
    memory is the caller's, which never move.
    """
    joins = Joins()
    if not any(op.name == "concat" for op in graph.ops):
        return joins
    in_memory, elsewhere = {id(t) for t in forced}, {id(t) for t in fixed}
    wholes: dict[int, list[Tensor]] = {}  # by id of their operands
    for node in reversed(graph.nodes):
        if id(node) in elsewhere or not isinstance(node, Tensor) or not _is_large(node):
            continue
        contiguous = is_contiguous_join(node)
        few = len(node.inputs) <= _MOST_COPIES
        if not contiguous and not (id(node) in in_memory and few):
            continue
        joins.nodes[id(node)] = node
        if not contiguous:
            continue
        place = _within(node, wholes.get(id(node.inputs[0]), ()))
        if place is not None and id(node) not in joins.parts:
            joins.put(node, *place)
        for operand, start in zip(node.inputs, _starts(node), strict=True):
            wholes.setdefault(id(operand), []).append(node)
            root = storage_root(operand)
            if id(root) not in joins.parts and id(root) not in elsewhere and _is_computed(root):
                joins.put(root, node, start)
    return joins


def _is_computed(root: Tensor) -> bool:
    """Whether a node is computed by kernels that write its elements to wherever they are told."""
    return isinstance(root.op.form, Elementwise | Contraction | Reduction) or (
        is_contiguous_join(root)
    )


def _within(node: Tensor, wholes: Iterable[Tensor]) -> tuple[Tensor, int] | None:
    """A longer concatenation that has the operands of `node` in a row, and where they start."""
    for whole in wholes:
        for k, start in enumerate(_starts(whole)):
            part = whole.inputs[k : k + len(node.inputs)]
            if len(part) == len(node.inputs) and all(map(_same, part, node.inputs)):
                return whole, start
    return None


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b


def _starts(node: Tensor) -> list[int]:
    """Where each operand of a contiguous concatenation starts, in elements."""
    found, at = [], 0
    for operand in node.inputs:
        found.append(at)
        at += known(product(operand.shape))
    return found
