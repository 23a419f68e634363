"""Bodies of control flow under a change of graphs (floor 3): each distinct one changed once."""

from __future__ import annotations

from collections.abc import Callable

from graphc.ir import provenance
from graphc.ir.graph import Graph, interned
from graphc.ir.node import Node, Tensor, make


def with_bodies(graph: Graph, change: Callable[[Graph], Graph]) -> Graph:
    """The graph with every body changed, inner ones first; equal bodies stay one."""
    changed: dict[Graph, Graph] = {}
    for body in graph.bodies:
        changed[body] = interned(change(_replaced(body, changed)))
    return _replaced(graph, changed) if changed else graph


def _replaced(graph: Graph, changed: dict[Graph, Graph]) -> Graph:
    """The graph with its own bodies replaced."""

    def visit(node: Node, inputs: tuple[Tensor, ...]) -> Node:
        attrs = tuple(changed[a] if isinstance(a, Graph) else a for a in node.attrs)
        same = all(a is b for a, b in zip((*inputs, *attrs), (*node.inputs, *node.attrs)))
        if same:
            return node
        with provenance.derived_from(node):
            return make(node.op, inputs, attrs)

    return graph.map(visit) if graph.own_bodies else graph
