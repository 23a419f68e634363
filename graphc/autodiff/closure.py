"""Closure conversion (floor 3): computations from formal placeholders become closed bodies.

What a body needs from outside becomes an operand; what does not depend on the formals stays
outside, so loop-invariant code is never in a loop.  Constants and generated values (an iota, a
size) go inside: they cost no operand.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Extent:
    """What a computation from formals consists of.

    order: every node below its outputs, operands first. within: ids of those that belong inside,
    the formals among them. captured: the tensors that come from outside.
    """

    order: list[Node]
    within: set[int]
    captured: list[Tensor]


def extent(
    outputs: Sequence[Tensor], formals: Sequence[Tensor], inside: Container[int] = ()
) -> Extent:
    """What belongs inside a body: all that depends on a formal, and the nodes with ids `inside`."""
    cut = {id(f) for f in formals}

    def below(node: Node) -> tuple[Node, ...]:
        return () if id(node) in cut else children(node)

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
    return Extent(order, within, list(captured.values()))


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
    outputs = [t for group in groups for t in group]
    found = extent(outputs, formals, inside)
    fresh = [placeholder(t.shape, t.dtype) for t in found.captured]
    mapping: dict[int, Node] = {id(t): f for t, f in zip(found.captured, fresh, strict=True)}
    own = (n for n in found.order if id(n) in found.within)
    named = [n for n in own if isinstance(n, Tensor) and provenance.names(n)]
    inner = substitute([*outputs, *named], mapping) if mapping else [*outputs, *named]
    labels = _labels(named, inner[len(outputs) :])
    bodies, rest = [], iter(inner)
    for group, name in zip(groups, names, strict=True):
        own_outputs = [next(rest) for _ in group]
        bodies.append(closed_body([*formals, *fresh], own_outputs, name, labels))
    return bodies, found.captured


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
