"""Passes over control flow (floor 3): loops merged, dead parts pruned, trivial ones dissolved.

Differentiation makes a loop a second time with further outputs; merging gives one loop with all of
them.  Pruning drops results nobody uses, carries that only feed themselves, operands that nothing
reads; what a body hands through is taken from outside.  All of it is exact: the same bits.
Bodies that compute sizes of their own stay as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.autodiff.substitution import substitute
from graphc.ir import provenance
from graphc.ir.bindings import edges
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, make
from graphc.ops.control import closed_body, item, items
from graphc.ops.creation import filled
from graphc.ops.families import Control
from graphc.ops.joining import take_slice
from graphc.ops.reshape import to_shape
from graphc.ops.state import CONSTANT
from graphc.passes.context import Context

Results = dict[int, Tensor]  # by number of the result
Change = Callable[[Node, Node, Sequence[int]], Results | None]


def is_control(node: Node) -> bool:
    """Whether a node runs bodies."""
    return isinstance(node.op.form, Control)


def _control_nodes(graph: Graph) -> list[Node]:
    """The nodes of a graph that run bodies."""
    ops = {op for op in graph.ops if isinstance(op.form, Control)}
    return [node for node in graph.nodes if node.op in ops]


def _used_results(graph: Graph) -> dict[int, list[int]]:
    """The numbers of the results that are used, by id of the node."""
    used: dict[int, list[int]] = {}
    for node in graph.nodes:
        if node.op.name == "get":
            used.setdefault(id(node.inputs[0]), []).append(node.attrs[0])
    return used


def replace_control(graph: Graph, change: Change) -> Graph:
    """The graph with control nodes replaced: change(node, current, used) gives what stands for the
    used results, or None where the node stays. current: the node on operands that are replaced.
    """
    used = _used_results(graph)
    mapping: dict[int, Node] = {}
    results: dict[int, Results] = {}
    keep: list[Node] = []  # ids are used again when nodes die
    for node in graph.nodes:
        if node.op.name == "get" and id(node.inputs[0]) in results:
            mapping[id(node)] = results[id(node.inputs[0])][node.attrs[0]]
            continue
        current: Node = node
        runs = is_control(node)
        moved = not mapping.keys().isdisjoint(map(id, node.inputs))
        if not runs and not moved:
            continue
        with provenance.derived_from(node):
            if moved:
                inputs = tuple([mapping.get(id(i), i) for i in node.inputs])
                current = mapping[id(node)] = make(node.op, inputs, node.attrs)
            found = change(node, current, used.get(id(node), ())) if runs else None
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
        shares = _shares(_control_nodes(graph))
        if not shares:
            return graph

        def change(node: Node, current: Node, used: Sequence[int]) -> Results | None:
            share = shares.get(id(node))  # noqa: B023  # called before the next round
            if share is None:
                return None
            bodies, places = iter(share.bodies), share.places
            attrs = tuple(next(bodies) if isinstance(a, Graph) else a for a in node.attrs)
            whole = make(node.op, current.inputs, attrs)
            return {k: item(whole, places[k]) for k in used}

        graph = replace_control(graph, change)


@dataclass(frozen=True)
class _Share:
    """What a node becomes: a node of these bodies, whose results `places` are its own."""

    bodies: tuple[Graph, ...]
    places: tuple[int, ...]


def _shares(nodes: Sequence[Node]) -> dict[int, _Share]:
    groups: dict[Any, list[Node]] = {}
    alike = Counter([(node.op, *map(id, node.inputs)) for node in nodes])
    if len(alike) == len(nodes):  # a thousand layers, each of what the one before gave
        return {}
    for node in nodes:
        if node.op.name != "while_loop" and _is_simple(node):  # has no outputs but its carries
            plain = tuple(a for a in node.attrs if not isinstance(a, Graph))
            groups.setdefault((node.op.name, *map(id, node.inputs), plain), []).append(node)
    unions: dict[tuple[int, ...], list[_Share]] = {}
    found: dict[int, _Share] = {}
    for group in groups.values():
        if len(group) == 1:
            continue
        key = tuple(id(b) for node in group for b in _bodies(node))
        if key not in unions:
            unions[key] = _union(group)
        found.update(zip(map(id, group), unions[key], strict=False))
    return found


def _union(group: Sequence[Node]) -> list[_Share]:
    """For each node the bodies with the outputs of all; nothing where the carries differ."""
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
            return []
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
    bodies = tuple(
        closed_body(_inputs(base), [c[k] for c in columns], base.name, known)
        for k, (base, known) in enumerate(zip(first, names, strict=True))
    )
    return [_Share(bodies, tuple(where)) for where in places]


def _renamed(body: Graph, base: Graph) -> dict[int, Node]:
    return {id(a): b for a, b in zip(_inputs(body), _inputs(base), strict=True)}


# -- prune ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PruneControl:
    """Results, carries and operands of control flow that do not matter, dropped."""

    name: str = "prune-control"

    def run(self, graph: Graph, context: Context) -> Graph:
        """The graph with smaller control nodes; the same graph where all of it matters."""
        runs = _control_nodes(graph)
        plans: _Plans = {}
        if all(n.op.name == "call" for n in runs):  # a thousand layers of which nothing changes
            used = _used_results(graph)
            calls = {(id(n.attrs[0]), tuple(used.get(id(n), ()))): n for n in runs}
            if all(_plan_of(n, key[1], plans) is None for key, n in calls.items()):
                return graph
        return replace_control(graph, lambda _, node, used: _pruned(node, used, plans))


_Plans = dict[tuple[Any, ...], "_CallPlan | None"]  # calls of one body are pruned alike


def _pruned(node: Node, used: Sequence[int], plans: _Plans) -> Results | None:
    if not _is_simple(node):
        return None
    if node.op.name == "scan":
        return _pruned_scan(node, set(used))
    if node.op.name == "while_loop":
        return _pruned_while(node, set(used))
    return _pruned_call(node, used, plans)


def _masks(body: Graph) -> list[int]:
    """On which inputs each output of a body depends, as bits."""
    known = {id(t): 1 << k for k, (_, t) in enumerate(body.inputs)}
    needs = edges(body.bindings)
    for node in body.nodes:
        below = needs(node)
        if below:
            bits = known.get(id(node), 0)
            for i in below:
                bits |= known.get(id(i), 0)
            known[id(node)] = bits
    return [known.get(id(t), 0) for _, t in body.outputs]


def _numbers(bits: int, count: int) -> list[int]:
    return [k for k in range(count) if bits >> k & 1]


@dataclass(frozen=True)
class _CallPlan:
    """A call or a cond with less: bodies, the operands that they read, where results are.

    through: result -> the operand that it is; places: result -> its place in the bodies.
    """

    bodies: tuple[Graph, ...]
    read: tuple[int, ...]
    through: dict[int, int]
    places: dict[int, int]


def _plan_of(node: Node, used: Sequence[int], plans: _Plans) -> _CallPlan | None:
    if not _is_simple(node):
        return None
    bodies = _bodies(node)
    key = (*map(id, bodies), *sorted(used))
    if key not in plans:
        plans[key] = _call_plan(bodies, sorted(used))
    return plans[key]


def _pruned_call(node: Node, used: Sequence[int], plans: _Plans) -> Results | None:
    plan = _plan_of(node, used, plans)
    if plan is None:
        return None
    bodies = _bodies(node)
    front = len(node.inputs) - len(bodies[0].inputs)  # the predicate
    operands = node.inputs[front:]
    found = {k: operands[number] for k, number in plan.through.items()}
    if plan.places:
        fed = (*node.inputs[:front], *(operands[k] for k in plan.read))
        whole = make(node.op, fed, plan.bodies)
        found |= {k: item(whole, place) for k, place in plan.places.items()}
    return found


def _call_plan(bodies: Sequence[Graph], used: Sequence[int]) -> _CallPlan | None:
    through: dict[int, int] = {}
    staying: dict[tuple[int, ...], int] = {}
    places: dict[int, int] = {}
    kept: list[int] = []
    sources = [{id(t): k for k, t in enumerate(_inputs(b))} for b in bodies]
    for k in used:
        column = [b.outputs[k][1] for b in bodies]
        handed = {s.get(id(t)) for s, t in zip(sources, column, strict=True)}
        number = handed.pop()
        if number is not None and not handed:
            through[k] = number
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
    count = len(bodies[0].inputs)
    read = _numbers(bits, count)
    if len(kept) == len(bodies[0].outputs) and len(read) == count:
        return None
    smaller = tuple(
        closed_body(
            [_inputs(b)[k] for k in read],
            [_outputs(b)[k] for k in kept],
            b.name,
            b.names,
            b.bindings,
        )
        for b in bodies
    )
    return _CallPlan(smaller, tuple(read), through, places)


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
            body.bindings,
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
    asks = closed_body(
        [asked[k] for k in order], _outputs(condition), condition.name, sizes=condition.bindings
    )
    results_of_turn = [outputs[k] for k in moving]
    turn = closed_body(
        [inputs[k] for k in order], results_of_turn, body.name, body.names, body.bindings
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
        runs = _control_nodes(graph)
        called = [n.attrs[0] for n in runs if n.op.name == "call"]
        bodies = {id(body): body for body in called}
        calls: Counter[Graph] = Counter()
        for key, count in Counter(map(id, called)).items():
            calls[bodies[key]] += count
        if len(called) == len(runs) and not any(_dissolves(body, calls) for body in calls):
            return graph

        def change(_: Node, node: Node, used: Sequence[int]) -> Results | None:
            return _dissolved(node, calls) if _is_simple(node) else None

        return replace_control(graph, change)


def _dissolved(node: Node, calls: Mapping[Graph, int]) -> Results | None:
    name = node.op.name
    if name == "cond" and node.inputs[0].op is CONSTANT:
        chosen = "then" if bool(node.inputs[0].attr("value").values) else "otherwise"
        return _inlined(node.attr(chosen), node.inputs[1:])
    if name == "call":
        body: Graph = node.attr("body")
        return _inlined(body, node.inputs) if _dissolves(body, calls) else None
    if name == "scan" and node.attr("length") in (0, 1):
        return _few_turns(node, node.attr("length"))
    return None


def _dissolves(body: Graph, calls: Mapping[Graph, int]) -> bool:
    """Whether calls of a body become the body. calls: how many there are."""
    if body.bindings or not (calls.get(body) == 1 or _is_tiny(body)):
        return False
    # Behind barriers stands what is computed again: inside its body it is not merged with the
    # first computation.
    return not any(n.op.name == "barrier" for n in body.nodes)


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
