"""Verification of graphs (floor 1): the invariants that construction cannot make impossible by
itself.

Run at stage boundaries, and between all passes in the tests. A failure is a bug of a pass or a bad
file.
"""

from __future__ import annotations

from graphc.base.errors import VerifyError
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor
from graphc.ir.opdef import REGISTRY


def verify(graph: Graph, after: str = "") -> None:
    """Raise VerifyError where the graph, or a graph inside it, breaks an invariant; `after` names
    the pass that just ran.

    Checked: every op is registered; every type is what the op's `infer` computes; attributes are
    complete and hashable; placeholders are declared inputs; updates assign variables values of
    their type; names belong to nodes of the graph.
    """
    for part in (*graph.bodies, graph):
        _verify_one(part, after)


def _verify_one(graph: Graph, after: str) -> None:
    inputs = {id(t) for _, t in graph.inputs}
    live: set[int] = set()
    for node in graph.nodes:
        live.add(id(node))
        problem = _problem(node, inputs)
        if problem:
            raise VerifyError(
                f"graph {graph.name!r}{f' after {after}' if after else ''}: {node.op.name}: "
                f"{problem}"
            )
    for variable, value in graph.updates:
        if variable.op.name != "variable" or variable.type != value.type:
            raise VerifyError(
                f"graph {graph.name!r}{f' after {after}' if after else ''}: update of "
                f"{variable!r} by {value!r}"
            )
    for name, node in graph.names.items():
        if id(node) not in live:
            raise VerifyError(f"graph {graph.name!r}: the name {name!r} belongs to no node")


def _problem(node: Node, inputs: set[int]) -> str | None:
    if node.op.name not in REGISTRY or REGISTRY[node.op.name] is not node.op:
        return "the op is not registered"
    if len(node.attrs) != len(node.op.attributes):
        return f"expected attributes {node.op.attributes}, got {len(node.attrs)} values"
    if node.op.name == "placeholder":
        return None if id(node) in inputs else "a placeholder that is not an input"
    inferred = node.op.infer(node.inputs, node.attrs)
    if inferred != node.type:
        return f"its type is {node.type}, its op computes {inferred}"
    if not all(isinstance(i, Node) for i in node.inputs):
        return "an input is no node"
    if isinstance(node, Tensor) != hasattr(node.type, "shape"):
        return "a tensor node without a tensor type"
    return None
