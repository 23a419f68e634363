"""Expansion (floor 3): what lowering does not know disappears just before it.

Composite ops become the ops they stand for, alias ops (stop_gradient, with_gradient, barrier) the value that they pass on.
Both only matter to differentiation and rewriting, which are over by now.
"""

from __future__ import annotations

from graphc.base.errors import CompileError
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, make
from graphc.ir.provenance import set_derived
from graphc.ops.families import Alias, Composite

_MAX_ROUNDS = 16  # composites may expand to composites, this deep


def expand(graph: Graph) -> Graph:
    """The graph without composite and alias ops. Raises CompileError where an expansion does not end."""
    for _ in range(_MAX_ROUNDS):
        if not any(isinstance(n.op.form, Composite | Alias) for n in graph.nodes):
            return graph
        graph = graph.map(_expand_node)
    raise CompileError(f"graph {graph.name!r}: composite ops still expand after {_MAX_ROUNDS} rounds")


def _expand_node(node: Node, inputs: tuple[Tensor, ...]) -> Node:
    form = node.op.form
    if isinstance(form, Alias):
        return inputs[0]
    same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
    if same and not isinstance(form, Composite):
        return node
    set_derived(node)
    try:
        fresh = node if same else make(node.op, inputs, node.attrs)
        if isinstance(form, Composite):
            assert isinstance(fresh, Tensor)
            return form.expand(fresh)
        return fresh
    finally:
        set_derived(None)
