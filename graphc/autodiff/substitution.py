"""Substitution (floor 3): expressions rebuilt with some nodes replaced, and `barrier`, which sets a
node apart.

`barrier` is an Alias op: at run time the value of input 0.  As a node of its own it is not interned
with that value, so
what is computed from it is computed again.  Its other inputs only order it: it is not needed before
they are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graphc.base.order import topological
from graphc.ir import provenance
from graphc.ir.bindings import children, moved_sizes
from graphc.ir.node import Node, Tensor, Type, make
from graphc.ir.opdef import REGISTRY, OpDef
from graphc.ops.families import Alias


def first_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> Type:
    """The type rule of aliases."""
    return inputs[0].type


def first_value(x: Any, *others: Any, **attrs: Any) -> Any:
    """The meaning of aliases."""
    return x


def ordered(roots: Sequence[Node]) -> list[Node]:
    """Every node below `roots`, inputs first, and what computes sizes before what has them."""
    return topological(roots, children)


def _barrier_gradient(g: Tensor, node: Tensor) -> Sequence[Tensor | None]:
    return [g, *[None] * (len(node.inputs) - 1)]


BARRIER = REGISTRY.add(
    OpDef(
        name="barrier",
        attributes=(),
        infer=first_type,
        reference=first_value,
        gradient=_barrier_gradient,
        form=Alias(),
        doc="Input 0 as a node of its own, not before the other inputs are known.",
    )
)


def substitute(outputs: Sequence[Tensor], mapping: Mapping[int, Node]) -> list[Tensor]:
    """The outputs with nodes replaced: `mapping` goes from id(node) to its replacement.

    A size that is computed from what is replaced becomes a size of its own. Linear, iterative.
    """
    return replaced(outputs, substitutes(outputs, mapping))


def substitutes(roots: Sequence[Node], mapping: Mapping[int, Node]) -> dict[int, Node]:
    """`mapping`, with what becomes of all nodes up to `roots` that are above what it replaces."""
    new = dict(mapping)

    def below(node: Node) -> tuple[Node, ...]:
        return () if id(node) in mapping else children(node)

    with provenance.derived_from(*roots[:1]):
        for node in topological(roots, below):
            if id(node) in new:
                continue
            inputs = tuple(new.get(id(i), i) for i in node.inputs)
            attrs = moved_sizes(node, new)
            same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
            if not same or attrs is not node.attrs:
                provenance.set_derived(node)
                new[id(node)] = make(node.op, inputs, attrs)
    return new


def replaced(tensors: Sequence[Tensor], mapping: Mapping[int, Node]) -> list[Tensor]:
    """For each tensor what `mapping` has for its id, or else the tensor itself."""
    found = []
    for tensor in tensors:
        new = mapping.get(id(tensor), tensor)
        assert isinstance(new, Tensor)  # only a tensor stands for a tensor
        found.append(new)
    return found
