"""What the sizes of a call must satisfy inside a graph (floor 2), beyond the bounds of its dims.

A slice `x[3:]` of a symbolic dim has a size that is negative for small feeds; a position among no
elements does not exist. Such conditions are known when a graph is compiled, and checked at every
call before anything runs; those of a body, whether or not it will run.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from graphc.base.dims import Dim, Size, product
from graphc.ir import provenance
from graphc.ir.graph import Graph
from graphc.ir.node import Node, TensorType
from graphc.ops.reduction import ARGMAX, ARGMIN

_POSITIONS = frozenset((ARGMAX, ARGMIN))


@dataclass(frozen=True, slots=True)
class Condition:
    """`size` must not be negative. where: the user's line; op: of a node that needs an element;
    node: the first one that wants it.
    """

    size: Dim
    where: str
    op: str = ""
    node: Node | None = field(default=None, repr=False, compare=False)

    def says(self, value: int) -> str:
        """What is wrong where the size is `value`."""
        if self.op:
            return f"{self.op}: there is no position among no elements"
        return f"a value inside would have {self.size} = {value} elements in one dim"


def size_conditions(graph: Graph) -> tuple[Condition, ...]:
    """The conditions of a graph, each once, without those that the dims' bounds imply."""
    found: dict[Dim, Condition | None] = {}

    def want(size: Size, node: Node, op: str = "") -> None:
        if isinstance(size, Dim) and size not in found:
            low, _ = size.bounds()
            sure = low is not None and low >= 0
            found[size] = None if sure else Condition(size, provenance.where(node), op, node)

    parts = (graph, *graph.bodies)
    for node in itertools.chain(*(g.typed for g in parts)):
        for t in (node.type,) if isinstance(node.type, TensorType) else node.type.items:
            for size in t.shape:
                want(size, node)
    for node in itertools.chain(*(g.nodes for g in parts if g.ops & _POSITIONS)):
        if node.op in _POSITIONS:
            operand = node.inputs[0].type
            assert isinstance(operand, TensorType)
            want(product(operand.shape[a] for a in node.attr("axes")) - 1, node, node.op.name)
    return tuple(condition for condition in found.values() if condition is not None)
