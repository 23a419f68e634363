"""Passes over control flow (floor 3): loops merged, dead parts pruned, trivial ones dissolved.

Differentiation makes a loop a second time with further outputs; merging gives one loop with all of
them.  Pruning drops results nobody uses, carries that only feed themselves, operands that nothing
reads; what a body hands through is taken from outside.  All of it is exact: the same bits.
Bodies that compute sizes of their own stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.autodiff.substitution import substitute
from graphc.ir import provenance
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, make
from graphc.ops.control import closed_body, items
from graphc.ops.creation import filled
from graphc.ops.families import Control
from graphc.ops.joining import take_slice
from graphc.ops.reshape import to_shape
from graphc.ops.state import CONSTANT
from graphc.passes.context import Context

Results = dict[int, Tensor]  # by number of the result
Change = Callable[[Node, Sequence[int]], Results | None]


def is_control(node: Node) -> bool:
    """Whether a node runs bodies."""
    return isinstance(node.op.form, Control)


def replace_control(graph: Graph, change: Change) -> Graph:
    """The graph with control nodes replaced: change(node, used) gives what stands for the used
    results, or None where the node stays.
    """
    used: dict[int, list[int]] = {}
    for node in graph.nodes:
        if node.op.name == "get":
            used.setdefault(id(node.inputs[0]), []).append(node.attrs[0])
    mapping: dict[int, Node] = {}
    results: dict[int, Results] = {}
    keep: list[Node] = []  # ids are used again when nodes die
    for node in graph.nodes:
        if node.op.name == "get" and id(node.inputs[0]) in results:
            mapping[id(node)] = results[id(node.inputs[0])][node.attrs[0]]
            continue
        current: Node = node
        inputs = tuple(mapping.get(id(i), i) for i in node.inputs)
        with provenance.derived_from(node):
            if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
                current = mapping[id(node)] = make(node.op, inputs, node.attrs)
            found = change(current, used.get(id(node), ())) if is_control(current) else None
        if found is not None:
            results[id(node)] = found
            keep.append(current)
    return graph.rebuild(mapping) if mapping else graph


def _bodies(node: Node) -> list[Graph]:
    return [a for a in node.attrs if isinstance(a, Graph)]


def _is_simple(node: Node) -> bool:
    return not any(b.bindings for b in _bodies(node))


def _inputs(body: Graph) -> list[Tensor]:
    return [t for _, t in body.inputs]


def _outputs(body: Graph) -> list[Tensor]:
    return [t for _, t in body.outputs]


# -- merge ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MergeControl:
    """Control nodes that run the same body but for outputs, on the same operands, become one."""

    name: str = "merge-control"

    def run(self, graph: Graph, context: Context) -> Graph:
        """The graph with merged nodes; the same graph where none are equal."""
        return merge_control(graph)


def merge_control(graph: Graph) -> Graph:
    """What `MergeControl` does, until nothing more merges: results of merged nodes may be the
    operands that make others equal.
    """
    while True:
        wholes = _wholes([n for n in graph.nodes if is_control(n)])
        if not wholes:
            return graph

        def change(node: Node, used: Sequence[int]) -> Results | None:
            found = wholes.get(id(node))  # noqa: B023  # called before the next round
            if found is None:
                return None
            whole, places = found
            results = items(whole)
            return {k: results[places[k]] for k in used}

        merged = replace_control(graph, change)
        if merged is graph:
            return graph
        graph = merged


_Whole = tuple[Node, Sequence[int]]  # what a node becomes part of, and where its results are


def _wholes(nodes: Sequence[Node]) -> dict[int, _Whole]:
    groups: dict[Any, list[Node]] = {}
    for node in nodes:
        if node.op.name != "while_loop" and _is_simple(node):  # has no outputs but its carries
            plain = tuple(a for a in node.attrs if not isinstance(a, Graph))
            groups.setdefault((node.op.name, *map(id, node.inputs), plain), []).append(node)
    unions: dict[tuple[int, ...], tuple[list[Graph], list[list[int]]] | None] = {}
    found: dict[int, _Whole] = {}
    for group in groups.values():
        if len(group) == 1:
            continue
        key = tuple(id(b) for node in group for b in _bodies(node))
        if key not in unions:
            unions[key] = _union(group)
        union = unions[key]
        if union is None:
            continue
        fresh = iter(union[0])
        first = group[0]
        attrs = tuple(next(fresh) if isinstance(a, Graph) else a for a in first.attrs)
        with provenance.derived_from(first):
            whole = make(first.op, first.inputs, attrs)
        for node, places in zip(group, union[1], strict=True):
            if node is not whole:
                found[id(node)] = (whole, places)
    return found


def _union(group: Sequence[Node]) -> tuple[list[Graph], list[list[int]]] | None:
    """Bodies with the outputs of all nodes, and the places of each node's outputs in them; None
    where the carries differ.
    """
    first = _bodies(group[0])
    carries = group[0].attr("carries") if group[0].op.name == "scan" else 0
    rows: dict[tuple[int, ...], int] = {}  # ids of an output in each of the bodies -> its place
    columns: list[tuple[Tensor, ...]] = []
    places: list[list[int]] = []
    names: list[dict[str, Node]] = [dict(b.names) for b in first]
    for node in group:
        moved = []
        for body, base, known in zip(_bodies(node), first, names, strict=True):
            named = [(n, t) for n, t in body.names.items() if isinstance(t, Tensor) and t.inputs]
            mapping = _renamed(body, base)
            fresh = substitute([*_outputs(body), *(t for _, t in named)], mapping)
            moved.append(fresh[: len(body.outputs)])
            for (name, _), tensor in zip(named, fresh[len(body.outputs) :], strict=True):
                known.setdefault(name, tensor)
        own = list(zip(*moved, strict=True))
        if columns and any(
            [id(t) for t in a] != [id(t) for t in b]
            for a, b in zip(own[:carries], columns[:carries], strict=True)
        ):
            return None
        where = []
        for k, column in enumerate(own):
            key = tuple(map(id, column))
            if k < carries:
                place = k
                if len(columns) <= k:
                    columns.append(column)
            else:
                if key not in rows:
                    rows[key] = len(columns)
                    columns.append(column)
                place = rows[key]
            where.append(place)
        places.append(where)
    bodies = [
        closed_body(_inputs(base), [c[k] for c in columns], base.name, known)
        for k, (base, known) in enumerate(zip(first, names, strict=True))
    ]
    return bodies, places


def _renamed(body: Graph, base: Graph) -> dict[int, Node]:
    return {id(a): b for a, b in zip(_inputs(body), _inputs(base), strict=True)}


# -- prune ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PruneControl:
    """Results, carries and operands of control flow that do not matter, dropped."""

    name: str = "prune-control"

    def run(self, graph: Graph, context: Context) -> Graph:
        """The graph with smaller control nodes; the same graph where all of it matters."""
        if not any(map(is_control, graph.nodes)):
            return graph
        return replace_control(graph, _pruned)


def _pruned(node: Node, used: Sequence[int]) -> Results | None:
    if not _is_simple(node):
        return None
    parts: Callable[[Node, set[int]], Results | None]
    parts = {
        "call": _pruned_call,
        "cond": _pruned_call,
        "scan": _pruned_scan,
        "while_loop": _pruned_while,
    }[node.op.name]
    return parts(node, set(used))


def _masks(body: Graph) -> list[int]:
    """On which inputs each output of a body depends, as bits."""
    known = {id(t): 1 << k for k, (_, t) in enumerate(body.inputs)}
    for node in body.nodes:
        if node.inputs:
            bits = 0
            for i in node.inputs:
                bits |= known.get(id(i), 0)
            known[id(node)] = bits
    return [known.get(id(t), 0) for _, t in body.outputs]


def _numbers(bits: int, count: int) -> list[int]:
    return [k for k in range(count) if bits >> k & 1]


def _pruned_call(node: Node, used: set[int]) -> Results | None:
    """Of a call or a cond."""
    bodies = _bodies(node)
    front = len(node.inputs) - len(bodies[0].inputs)  # the predicate
    operands = node.inputs[front:]
    forwarded: Results = {}
    staying: dict[tuple[int, ...], int] = {}
    places: dict[int, int] = {}
    kept: list[int] = []
    sources = [{id(t): k for k, t in enumerate(_inputs(b))} for b in bodies]
    for k in sorted(used):
        column = [b.outputs[k][1] for b in bodies]
        through = {s.get(id(t)) for s, t in zip(sources, column, strict=True)}
        if len(through) == 1 and None not in through:
            (number,) = through
            forwarded[k] = operands[number or 0]
            continue
        key = tuple(map(id, column))
        if key not in staying:
            staying[key] = len(kept)
            kept.append(k)
        places[k] = staying[key]
    bits = 0
    for body in bodies:
        masks = _masks(body)
        for k in kept:
            bits |= masks[k]
    read = _numbers(bits, len(operands))
    if len(kept) == len(bodies[0].outputs) and len(read) == len(operands):
        return None
    if not kept:
        return forwarded
    smaller = [
        closed_body([_inputs(b)[k] for k in read], [_outputs(b)[k] for k in kept], b.name, b.names)
        for b in bodies
    ]
    fed = (*node.inputs[:front], *(operands[k] for k in read))
    results = items(make(node.op, fed, tuple(smaller)))
    return {**forwarded, **{k: results[p] for k, p in places.items()}}


def _live_carries(masks: Sequence[int], carries: int, roots: set[int], bits: int = 0) -> set[int]:
    """The carries that the outputs `roots` and the inputs `bits` need, to closure."""
    for k in roots:
        bits |= masks[k]
    live = {k for k in roots if k < carries}
    while True:
        more = set(_numbers(bits, carries)) - live
        if not more:
            return live
        live |= more
        for k in more:
            bits |= masks[k]


def _pruned_scan(node: Node, used: set[int]) -> Results | None:
    body: Graph = node.attr("body")
    n, m = node.attr("carries"), node.attr("sequences")
    inputs, outputs = _inputs(body), _outputs(body)
    masks = _masks(body)
    live = _live_carries(masks, n, used)
    still = {k for k in live if outputs[k] is inputs[k]}  # the same in every turn
    rows = {id(t): k for k, t in enumerate(inputs) if n <= k < n + m}
    found: Results = {k: node.inputs[k] for k in used & still}
    places: dict[int, int] = {}
    kept: list[int] = []
    first: dict[int, int] = {}
    for k in sorted(k for k in used if k >= n):
        if id(outputs[k]) in rows:  # row i is item i of the sequence
            found[k] = node.inputs[rows[id(outputs[k])]]
            continue
        if id(outputs[k]) not in first:
            first[id(outputs[k])] = len(kept)
            kept.append(k)
        places[k] = first[id(outputs[k])]
    moving = sorted(live - still)
    bits = 0
    for k in (*moving, *kept):
        bits |= masks[k]
    read = [k for k in _numbers(bits, len(inputs)) if k not in moving]
    sequences = [k for k in read if n <= k < n + m]
    outer = [k for k in read if k < n or k >= n + m]
    order = [*moving, *sequences, *outer]
    if len(order) == len(inputs) and len(moving) == n and len(moving) + len(kept) == len(outputs):
        return None
    if moving or kept:
        smaller = closed_body(
            [inputs[k] for k in order],
            [outputs[k] for k in (*moving, *kept)],
            body.name,
            body.names,
        )
        attrs = (smaller, len(moving), len(sequences), node.attr("length"), node.attr("reverse"))
        results = items(make(node.op, tuple(node.inputs[k] for k in order), attrs))
        found |= {k: results[i] for i, k in enumerate(moving) if k in used}
        found |= {k: results[len(moving) + p] for k, p in places.items()}
    return found


def _pruned_while(node: Node, used: set[int]) -> Results | None:
    condition, body, n = node.attrs
    inputs, outputs, asked = _inputs(body), _outputs(body), _inputs(condition)
    masks, (needed,) = _masks(body), _masks(condition)
    live = _live_carries(masks, n, {k for k in used if k < n}, needed)
    still = {k for k in live if outputs[k] is inputs[k]}
    moving = sorted(live - still)
    bits = needed
    for k in moving:
        bits |= masks[k]
    outer = [k for k in _numbers(bits, len(inputs)) if k not in moving]
    order = [*moving, *outer]
    if len(order) == len(inputs) and len(moving) == n:
        return None
    asks = closed_body([asked[k] for k in order], _outputs(condition), condition.name)
    turn = closed_body(
        [inputs[k] for k in order], [outputs[k] for k in moving], body.name, body.names
    )
    fed = tuple(node.inputs[k] for k in order)
    results = items(make(node.op, fed, (asks, turn, len(moving))))
    found = {k: node.inputs[k] for k in used & still}
    found |= {k: results[i] for i, k in enumerate(moving) if k in used}
    if n in used:
        found[n] = results[-1]
    return found


# -- dissolve -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DissolveControl:
    """Control flow that decides nothing becomes its body: a known predicate, a scan of no turn or
    one, a call that is the only one of its body.
    """

    name: str = "dissolve-control"

    def run(self, graph: Graph, context: Context) -> Graph:
        """The graph with fewer control nodes."""
        if not any(map(is_control, graph.nodes)):
            return graph
        calls: dict[int, int] = {}
        for node in graph.nodes:
            if node.op.name == "call":
                calls[id(node.attr("body"))] = calls.get(id(node.attr("body")), 0) + 1

        def change(node: Node, used: Sequence[int]) -> Results | None:
            return _dissolved(node, calls) if _is_simple(node) else None

        return replace_control(graph, change)


def _dissolved(node: Node, calls: dict[int, int]) -> Results | None:
    name = node.op.name
    if name == "cond" and node.inputs[0].op is CONSTANT:
        chosen = "then" if bool(node.inputs[0].attr("value").values) else "otherwise"
        return _inlined(node.attr(chosen), node.inputs[1:])
    if name == "call":
        body: Graph = node.attr("body")
        # Behind barriers stands what is computed again: inside its body it is not merged with the
        # first computation.
        held = any(n.op.name == "barrier" for n in body.nodes)
        once = calls.get(id(body)) == 1 or _is_tiny(body)
        return _inlined(body, node.inputs) if once and not held else None
    if name == "scan" and node.attr("length") in (0, 1):
        return _few_turns(node, node.attr("length"))
    return None


def _is_tiny(body: Graph) -> bool:
    """At most one op: a call costs more."""
    return sum(1 for n in body.nodes if n.inputs) <= 1 and not body.own_bodies


def _inlined(body: Graph, operands: Sequence[Tensor]) -> Results:
    mapping: dict[int, Node] = {id(t): o for (_, t), o in zip(body.inputs, operands, strict=True)}
    return dict(enumerate(substitute(_outputs(body), mapping)))


def _few_turns(node: Node, length: int) -> Results:
    body: Graph = node.attr("body")
    n, m = node.attr("carries"), node.attr("sequences")
    if length == 0:
        stacks = [filled(0, (0, *t.shape), t.dtype) for t in _outputs(body)[n:]]
        return dict(enumerate([*node.inputs[:n], *stacks]))
    rows = [to_shape(take_slice(s, 0, 0, 1), s.shape[1:]) for s in node.inputs[n : n + m]]
    operands = [*node.inputs[:n], *rows, *node.inputs[n + m :]]
    found = _inlined(body, operands)
    return {k: t if k < n else to_shape(t, (1, *t.shape)) for k, t in found.items()}
