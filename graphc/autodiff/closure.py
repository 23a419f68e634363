"""Closure conversion (floor 3): computations from formal placeholders become closed bodies.

What a body needs from outside becomes an operand; what does not depend on the formals stays
outside, so loop-invariant code is never in a loop.  Constants and generated values (an iota, a
size) go inside: they cost no operand.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from graphc.autodiff.substitution import substitute
from graphc.base.errors import GraphError
from graphc.base.order import topological
from graphc.ir import provenance
from graphc.ir.bindings import children
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor
from graphc.ir.opdef import fail
from graphc.ops.control import closed_body
from graphc.ops.state import placeholder


def close_bodies(
    formals: Sequence[Tensor],
    groups: Sequence[Sequence[Tensor]],
    names: Sequence[str],
    inside: Container[int] = (),
) -> tuple[list[Graph], list[Tensor]]:
    """One body per group of outputs, and the outer tensors that they capture.

    The inputs of every body are the formals and then the captured tensors. inside: ids of nodes
    that belong inside though they do not depend on a formal (the code of a branch). names: of the
    bodies.
    """
    cut = {id(f) for f in formals}

    def below(node: Node) -> tuple[Node, ...]:
        return () if id(node) in cut else children(node)

    outputs = [t for group in groups for t in group]
    order = topological(list[Node](outputs), below)
    within = set(cut)
    for node in order:
        if _is_source(node) or id(node) in cut:
            continue
        own = id(node) in inside and node.op.name != "get"  # an item is where its tuple is
        if own or any(id(i) in within for i in children(node)):
            within.add(id(node))
    captured: dict[int, Tensor] = {}
    for node in order:
        if id(node) in within and id(node) not in cut:
            captured.update({id(i): i for i in node.inputs if _is_outside(i, within)})
    captured.update({id(o): o for o in outputs if _is_outside(o, within)})
    fresh = [placeholder(t.shape, t.dtype) for t in captured.values()]
    mapping: dict[int, Node] = dict(zip(captured, fresh, strict=True))
    named = [n for n in order if id(n) in within and isinstance(n, Tensor) and provenance.names(n)]
    inner = substitute([*outputs, *named], mapping) if mapping else [*outputs, *named]
    labels = _labels(named, inner[len(outputs) :])
    bodies, rest = [], iter(inner)
    for group, name in zip(groups, names, strict=True):
        own_outputs = [next(rest) for _ in group]
        bodies.append(closed_body([*formals, *fresh], own_outputs, name, labels))
    return bodies, list(captured.values())


def _is_source(node: Node) -> bool:
    return node.op.name in ("placeholder", "variable")


def _is_outside(node: Node, within: set[int]) -> bool:
    return id(node) not in within and (bool(node.inputs) or _is_source(node))


def _labels(named: Sequence[Tensor], inner: Sequence[Tensor]) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for outer, node in zip(named, inner, strict=True):
        for name in provenance.names(outer):
            if found.setdefault(name, node) is not node:
                fail(
                    GraphError,
                    f"two tensors of one body are named {name!r}",
                    (found[name], node),
                    "give each a name of its own, or wrap one in `with graphc.name_scope(...)`",
                )
    return found
