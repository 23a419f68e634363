"""Equal bodies that users wrote on different lines (floor 3).

Each distinct body is optimized once.  What comes of it stands on the lines of the one that was
taken; the others get a copy on theirs, so that an error names the line of the body that it is in.
Copies are equal, so they are lowered and compiled once.
"""

from __future__ import annotations

from graphc.autodiff.substitution import replaced, substitutes
from graphc.ir import provenance
from graphc.ir.graph import Graph, interned
from graphc.ir.node import Node
from graphc.ops.state import placeholder


def on_lines_of(body: Graph, taken: Graph, result: Graph) -> Graph:
    """`result`, which came of `taken`, as it would have come of `body`, which is equal to that."""
    if result == body:
        return body
    lines = {} if body is taken or result.bindings else _lines(taken, body)
    if not lines:
        return result
    fresh = [placeholder(t.shape, t.dtype) for _, t in result.inputs]
    mapping: dict[int, Node] = {
        id(t): place for (_, t), place in zip(result.inputs, fresh, strict=True)
    }
    outputs = [t for _, t in result.outputs]
    new = substitutes([*outputs, *result.names.values()], mapping)
    copy = Graph.build(
        tuple((name, t) for (name, _), t in zip(result.inputs, fresh, strict=True)),
        tuple(zip((name for name, _ in result.outputs), replaced(outputs, new), strict=True)),
        (),
        result.name,
        {name: new.get(id(node), node) for name, node in result.names.items()},
    )
    shared = {id(n) for n in result.nodes}
    provenance.copy_lines((n for n in copy.nodes if id(n) not in shared), lines)
    return interned(copy)


def _lines(old: Graph, new: Graph) -> dict[provenance.Line, provenance.Line]:
    """From the lines of one body to those of an equal one, node by node; empty where all agree."""
    pairs = zip(provenance.lines_of(old.nodes), provenance.lines_of(new.nodes), strict=True)
    found: dict[provenance.Line, provenance.Line] = {}
    for before, after in pairs:
        for a, b in zip(before, after, strict=False):
            found.setdefault(a, b)
    return {a: b for a, b in found.items() if a != b}
