"""Values that are computed again by every kernel that reads them (floor 5), rather than stored.

One addition or multiplication by a constant costs less than a store and a load. It saves memory
where what it is computed from lies in memory anyway, or is stored in place of several such values:
gelu keeps its argument, not half of it and the multiple of it that `erfc` wants.
"""

from __future__ import annotations

from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor
from graphc.lower.elements import ARITHMETIC
from graphc.ops.families import Constant, Elementwise, Source


def computed_again(graph: Graph) -> frozenset[int]:
    """The ids of the nodes for which that is worth while if several regions read them."""
    ops = {op for op in graph.ops if op.name in ARITHMETIC and isinstance(op.form, Elementwise)}
    found: dict[int, list[Node]] = {}  # by id of what they are computed from
    kept: set[int] = set()
    for node in graph.nodes if ops else ():
        if node.op not in ops or not isinstance(node, Tensor):
            continue
        operands = [i for i in node.inputs if not _is_number(i)]
        if len(operands) != 1 or operands[0].shape != node.shape:
            continue
        found.setdefault(id(operands[0]), []).append(node)
        if isinstance(operands[0].op.form, Source):
            kept.add(id(operands[0]))
    worth = [nodes for k, nodes in found.items() if k in kept or len(nodes) > 1]
    return frozenset(id(node) for nodes in worth for node in nodes)


def _is_number(node: Tensor) -> bool:
    return isinstance(node.op.form, Constant) and node.attr("value").stored.size == 1
