"""Which tensors are fed (runtime, floor 7): feeds by tensor or name, graphs cut open at them.

Feeding an intermediate tensor means: the same graph with a placeholder in that tensor's place.
Invariant: what `open_graph` builds has exactly the fed tensors as inputs, in the order of the
feeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphc.base.errors import GraphError, message
from graphc.base.order import topological
from graphc.base.spelling import close_names
from graphc.ir import provenance
from graphc.ir.bindings import Bindings, bindings_between, edges, rebuilt
from graphc.ir.graph import Graph, node_inputs
from graphc.ir.node import Node, Tensor, describe, make
from graphc.ops.state import placeholder


def here() -> str | None:
    """The user's line that is running, for errors of calls."""
    found = provenance.current_location()
    return found.describe() if found else None


def node_names(node: Node) -> tuple[str, ...]:
    """Every name that the user gave a node."""
    names = provenance.names(node)
    if node.op.name in ("placeholder", "variable"):
        own = node.attr("name")
        if own and own not in names:
            return (own, *names)
    return names


def near(name: str, known: Iterable[str]) -> str:
    """The names that the user may have meant, or all of a few."""
    names = sorted(known)
    found = close_names(name, names, cutoff=0.5)
    if found:
        return "did you mean " + " or ".join(map(repr, found)) + "?"
    return "known: " + (", ".join(names[:12]) or "none")


def resolve_feeds(fetches: Sequence[Tensor], feeds: Mapping[Any, Any]) -> list[Tensor]:
    """The fed tensors, in the order of `feeds`.

    Raises GraphError for a key that is neither a tensor nor a name of one that the fetches need,
    for a tensor fed twice, and for a computed tensor that the fetches do not need.
    """
    if not isinstance(feeds, Mapping):
        raise GraphError(
            message(
                f"feeds must be a dict from tensor or name to array, got {type(feeds).__name__}",
                at=here(),
                hint="write {x: array} or {'x': array}",
            )
        )
    fed: dict[int, Tensor] = {}
    nodes: list[Tensor] | None = None
    for key in feeds:
        if isinstance(key, Tensor) and key.op.name == "placeholder":
            tensor = key
        else:
            if nodes is None:
                reached: list[Node] = topological(fetches, node_inputs)
                nodes = [n for n in reached if isinstance(n, Tensor)]
            tensor = _needed(key, nodes)
        if id(tensor) in fed:
            raise GraphError(
                message(
                    f"{key!r} is fed twice",
                    operands=[describe(tensor)],
                    at=here(),
                    hint="feed it once, by tensor or by name",
                )
            )
        fed[id(tensor)] = tensor
    return list(fed.values())


def _needed(key: Any, nodes: list[Tensor]) -> Tensor:
    if isinstance(key, Tensor):
        if any(node is key for node in nodes):
            return key
        raise GraphError(
            message(
                "a tensor is fed that the fetches do not need",
                operands=[describe(key)],
                at=here(),
                hint="feed placeholders, or tensors between them and what is fetched",
            )
        )
    if not isinstance(key, str):
        raise GraphError(
            message(
                f"a feed's key must be a tensor or a name, got {type(key).__name__}: {key!r:.80}",
                at=here(),
                hint="write {x: array} with the placeholder x, or {'x': array} with its name",
            )
        )
    by_name: dict[str, Tensor] = {}
    for node in nodes:
        for name in node_names(node):
            by_name.setdefault(name, node)
    found = by_name.get(key)
    if found is None:
        raise GraphError(
            message(
                f"the name {key!r} is fed, but nothing that the fetches need is called so",
                at=here(),
                hint=near(key, by_name),
            )
        )
    return found


def open_graph(fetches: Sequence[Tensor], fed: Sequence[Tensor], name: str) -> Graph:
    """The graph from the fed tensors to the fetches (each listed once).

    Raises GraphError for a placeholder that is needed and not fed.
    """
    cut = {id(t) for t in fed}

    sizes = bindings_between(fed, fetches)
    wanted = edges(sizes)
    roots = [*fetches, *(count for _, count in sizes)]
    nodes: list[Node] = topological(roots, lambda n: () if id(n) in cut else wanted(n))
    _require_feeds(nodes, cut)
    if all(t.op.name == "placeholder" for t in fed):
        return Graph(fed, list(fetches), name=name)
    return _cut_graph(nodes, fetches, fed, name, sizes)


def _require_feeds(nodes: Iterable[Node], cut: set[int]) -> None:
    missing = [n for n in nodes if n.op.name == "placeholder" and id(n) not in cut]
    if missing:
        names = ", ".join(repr(n.attr("name") or "a placeholder without a name") for n in missing)
        raise GraphError(
            message(
                f"no feed for {names}",
                operands=[describe(n) for n in missing],
                at=here(),
                hint="pass feeds={placeholder or name: array}",
            )
        )


def _cut_graph(
    nodes: Sequence[Node],
    fetches: Sequence[Tensor],
    fed: Sequence[Tensor],
    name: str,
    bindings: Bindings,
) -> Graph:
    new: dict[int, Node] = {}
    inputs: dict[str, Tensor] = {}
    for k, tensor in enumerate(fed):
        label = next(iter(node_names(tensor)), f"{tensor.op.name}_{k}")
        if label in inputs:
            label = f"{label}_{k}"
        is_input = tensor.op.name == "placeholder"
        inputs[label] = tensor if is_input else placeholder(tensor.shape, tensor.dtype)
        new[id(tensor)] = inputs[label]
    names: dict[str, Node] = {}
    try:
        for node in nodes:
            fresh = new.get(id(node))
            if fresh is None:
                operands = tuple(new[id(i)] for i in node.inputs)
                fresh = node
                if any(a is not b for a, b in zip(operands, node.inputs, strict=True)):
                    provenance.set_derived(node)
                    fresh = make(node.op, operands, node.attrs)
                new[id(node)] = fresh
            names |= dict.fromkeys(node_names(node), fresh)
    finally:
        provenance.set_derived(None)
    outputs: dict[str, Tensor] = {}
    for k, tensor in enumerate(fetches):
        found = new[id(tensor)]
        assert isinstance(found, Tensor)
        label = tensor.name or f"output_{k}"
        outputs[label if label not in outputs else f"output_{k}"] = found
    names |= inputs
    sizes = rebuilt(bindings, new)
    return Graph.build(tuple(inputs.items()), tuple(outputs.items()), (), name, names, sizes)
