"""Memory that a loop would fill again at each turn (floor 5): filled once, before the loop.

What `prepare` puts into memory for a kernel, such as the transpose of a matrix that a recurrent
layer multiplies by, may depend on nothing that changes from turn to turn. Such a node becomes one
more operand of the loop. Passes over graphs cannot do it: that memory is needed is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.autodiff.substitution import substitute
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, make
from graphc.ir.provenance import derived_from
from graphc.lower.panels import in_panels
from graphc.ops.control import SCAN, WHILE_LOOP, closed_body
from graphc.ops.families import Constant, Control, Source
from graphc.ops.state import placeholder

Prepare = Callable[[Graph], tuple[Graph, list[Tensor]]]
# Bodies that take more operands; those operands in terms of placeholders; these placeholders.
_Split = tuple[tuple[Graph, ...], list[Tensor], Sequence[Tensor]]
_OWN = ("in_", "out_")  # names of inputs and outputs, which a new body gives anew


def filled_once(graph: Graph, prepare: Prepare) -> Graph:
    """The graph with memory that does not change taken out of its loops, at any depth."""
    changed: dict[Graph, Graph] = {}
    for body in graph.bodies:  # inner ones first: what leaves one loop may leave the next
        changed[body] = _one(body, changed, prepare)
    return _one(graph, changed, prepare)


def _one(graph: Graph, changed: dict[Graph, Graph], prepare: Prepare) -> Graph:
    if not graph.ops & {SCAN, WHILE_LOOP} and all(changed[b] is b for b in graph.own_bodies):
        return graph
    split: dict[tuple[tuple[Graph, ...], int], _Split] = {}

    def visit(node: Node, inputs: tuple[Tensor, ...]) -> Node:
        if not inputs:
            return node
        if not isinstance(node.op.form, Control):
            same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
            return node if same else _made(node, inputs, node.attrs)
        bodies = tuple(changed[a] for a in node.attrs if isinstance(a, Graph))
        if node.op is SCAN or node.op is WHILE_LOOP:
            moving = node.attr("carries") + (node.attr("sequences") if node.op is SCAN else 0)
            key = bodies, moving
            if key not in split:
                split[key] = _split(bodies, moving, prepare)
            bodies, moved, formals = split[key]
            with derived_from(node):
                operands = {id(f): t for f, t in zip(formals, inputs, strict=True)}
                inputs = (*inputs, *substitute(moved, dict(operands)))
        given = iter(bodies)
        attrs = tuple(next(given) if isinstance(a, Graph) else a for a in node.attrs)
        return _made(node, inputs, attrs)  # the same node where nothing changed

    return graph.map(visit)


def _made(node: Node, inputs: tuple[Tensor, ...], attrs: tuple[object, ...]) -> Node:
    with derived_from(node):
        return make(node.op, inputs, attrs)


def _split(bodies: tuple[Graph, ...], moving: int, prepare: Prepare) -> _Split:
    formals = [t for _, t in bodies[-1].inputs]
    if any(body.bindings for body in bodies):
        return bodies, [], formals  # their counts are told by nodes that must stay what they are
    prepared = [_prepared(_over(body, formals), formals[:moving], prepare) for body in bodies]
    moved = {
        id(node): node
        for graph, forced in prepared
        for node in _unchanging(graph, forced, formals[:moving])
    }
    if not moved:
        return bodies, [], formals
    found = list(moved.values())
    fresh = [placeholder(t.shape, t.dtype) for t in found]
    mapping: dict[int, Node] = {id(t): f for t, f in zip(found, fresh, strict=True)}
    new = tuple(
        closed_body(
            [*formals, *fresh],
            substitute([t for _, t in graph.outputs], mapping),
            graph.name,
            {name: node for name, node in graph.names.items() if not name.startswith(_OWN)},
        )
        for graph, _ in prepared
    )
    return new, found, formals


def _prepared(
    body: Graph, moving: Sequence[Tensor], prepare: Prepare
) -> tuple[Graph, list[Tensor]]:
    """A body as lowering wants it, and what needs memory: panels of matrices, and operands."""
    split, panels = in_panels(body, moving)
    graph, forced = prepare(split)
    return graph, [*panels, *forced]


def _over(body: Graph, formals: Sequence[Tensor]) -> Graph:
    """A body over other placeholders of the same types."""
    if all(t is f for (_, t), f in zip(body.inputs, formals, strict=True)):
        return body
    mapping: dict[int, Node] = {id(t): f for (_, t), f in zip(body.inputs, formals, strict=True)}
    outputs = substitute([t for _, t in body.outputs], mapping)
    inputs = tuple((name, f) for (name, _), f in zip(body.inputs, formals, strict=True))
    named = tuple((name, t) for (name, _), t in zip(body.outputs, outputs, strict=True))
    return Graph.build(inputs, named, (), body.name, {})


def _unchanging(graph: Graph, forced: Sequence[Tensor], moving: Sequence[Tensor]) -> list[Tensor]:
    """The forced nodes that depend on no `moving` input."""
    changing = {id(t) for t in moving}
    for node in graph.nodes:
        if any(id(i) in changing for i in node.inputs):
            changing.add(id(node))
    free = dict.fromkeys(forced)
    return [
        t for t in free if id(t) not in changing and not isinstance(t.op.form, Source | Constant)
    ]
