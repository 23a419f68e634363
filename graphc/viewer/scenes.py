"""What a viewer shows (floor 8): a graph as plain data, once per view of it.

A scene is a list of nodes with their inputs, facts and group. Groups nest: they are the scopes of
the names (`encoder/hidden` is in `encoder`), or the kernels of the compiled program. A node that
nobody named belongs to the innermost scope that holds all its users of any scope.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphc.compiler import Compilation
from graphc.ir import provenance
from graphc.ir.constant import ConstantValue
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.ir.text import LITERAL_ELEMENTS, value_text

_LONGEST = 400  # letters of an attribute


@dataclass(frozen=True)
class SceneNode:
    """One node. inputs: positions of its operands; group: outermost first; facts: label and text.

    kind: "input", "variable", "constant", "output" or "op".
    """

    label: str
    op: str
    kind: str
    type: str
    inputs: tuple[int, ...]
    group: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Scene:
    """One view of a graph.

    title: for people; groups: what groups are ("scope", "kernel"); notes: facts of groups.
    """

    title: str
    groups: str
    nodes: tuple[SceneNode, ...]
    notes: tuple[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], ...] = ()


def scenes(compilation: Compilation) -> tuple[Scene, ...]:
    """The graph as declared, after optimization, and by kernels."""
    return (
        scene("declared", compilation.graph),
        scene("optimized", compilation.optimized),
        kernel_scene(compilation),
    )


def scene(title: str, graph: Graph) -> Scene:
    """A graph grouped by the scopes of its names."""
    return Scene(title, "scope", _nodes(graph, scopes(graph)))


def kernel_scene(compilation: Compilation) -> Scene:
    """The lowered graph grouped by kernels; what no kernel computes stands outside."""
    lowered = compilation.lowered
    groups: dict[int, tuple[str, ...]] = {}
    notes = []
    for k, region in enumerate(lowered.regions):
        group = (f"{k}: {region.name}",)
        for node in region.nodes:
            groups.setdefault(id(node), group)
        domain = ", ".join(map(str, region.domain))
        facts = [("kind", region.kind), ("domain", f"[{domain}]")]
        notes.append((group, (*facts, *(("decision", r) for r in region.reasons))))
    return Scene("kernels", "kernel", _nodes(lowered.graph, groups), tuple(notes))


def scopes(graph: Graph) -> dict[int, tuple[str, ...]]:
    """The scope of each node, by id: of its first name, or shared by its users that have one."""
    found: dict[int, tuple[str, ...]] = {}
    wanted: dict[int, tuple[str, ...]] = {}
    outputs = {id(t) for _, t in graph.outputs} | {id(t) for _, t in graph.updates}
    for node in reversed(graph.nodes):
        name = graph._first_names.get(id(node))
        if name is not None:
            found[id(node)] = tuple(part for part in name.split("/")[:-1] if part)
        elif id(node) in outputs:
            found[id(node)] = ()
        else:
            found[id(node)] = wanted.get(id(node), ())
        for operand in node.inputs:
            old = wanted.get(id(operand))
            own = found[id(node)]
            if (
                own
            ):  # gradients, which have no scope, do not pull the rest of the model out of its own
                wanted[id(operand)] = own if old is None else _shared(old, own)
    return found


def _shared(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    count = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    return a[:count]


def _nodes(graph: Graph, groups: dict[int, tuple[str, ...]]) -> tuple[SceneNode, ...]:
    numbers = {id(node): k for k, node in enumerate(graph.nodes)}
    outputs: dict[int, list[str]] = {}
    for name, tensor in graph.outputs:
        outputs.setdefault(id(tensor), []).append(name)
    for variable, tensor in graph.updates:
        outputs.setdefault(id(tensor), []).append(f"new value of {graph.name_of(variable)}")
    return tuple(
        SceneNode(
            label=graph.name_of(node),
            op=node.op.name,
            kind=_kind(node, id(node) in outputs),
            type=str(node.type),
            inputs=tuple(numbers[id(i)] for i in node.inputs),
            group=groups.get(id(node), ()),
            facts=tuple(_facts(graph, node, outputs.get(id(node), []))),
        )
        for node in graph.nodes
    )


def _kind(node: Node, is_output: bool) -> str:
    kinds = {"placeholder": "input", "variable": "variable", "constant": "constant"}
    return "output" if is_output else kinds.get(node.op.name, "op")


def _facts(graph: Graph, node: Node, outputs: list[str]) -> list[tuple[str, str]]:
    names = graph._names_of.get(id(node), [])
    found = [("name", name) for name in names[1:]]
    found += [("output", name) for name in outputs]
    for key, value in node.attributes.items():
        if key != "uid":
            found.append((key, attribute_text(value)))
    found += [("line", place.describe()) for place in provenance.locations(node)]
    return found


def attribute_text(value: Any) -> str:
    """An attribute for people: large constants by type and digest, long text cut."""
    if isinstance(value, ConstantValue) and value.stored.size > LITERAL_ELEMENTS:
        return f"{value.dtype.short}{list(value.shape)} sha256 {value.digest[:12]}…"
    if isinstance(value, Graph):
        return f"graph of {len(value.nodes)} nodes"
    text = value_text(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
