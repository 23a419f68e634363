"""Making a failing graph small: fewer outputs, then nodes replaced by inputs fed with their values.

Each step keeps a change only where the graph still fails. What is printed in the end can be pasted
into `test_found.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import graphc
from graphc.ir.evaluate import bind_feeds, run_nodes
from graphc.ir.node import Node, Tensor

Array = np.ndarray[Any, Any]
Fails = Callable[[graphc.Graph, dict[str, Array]], bool]
State = tuple[graphc.Graph, dict[str, Array]]


def shrink(
    graph: graphc.Graph, feeds: Mapping[str, Array], fails: Fails, budget: int = 120
) -> State:
    """The smallest graph found, with its feeds, for which `fails(graph, feeds)` still holds.

    budget: how many times `fails` may be asked.
    """
    left = [budget]

    def ask(candidate: State) -> bool:
        left[0] -= 1
        return left[0] >= 0 and _fails(fails, candidate)

    state: State = (graph, dict(feeds))
    size = -1
    while size != len(state[0].nodes) and left[0] > 0:
        size = len(state[0].nodes)
        state = _fewer_results(state, ask)
        state = _earlier_results(state, ask)
        state = _cut_nodes(state, ask)
    return state


def _fails(fails: Fails, state: State) -> bool:
    try:
        return fails(*state)
    except graphc.ShapeError:
        return False  # sizes that no feed tells any more: another problem than the one looked for


def _fewer_results(state: State, ask: Callable[[State], bool]) -> State:
    """One output or update alone if that is enough, else as few as can be."""
    graph, feeds = state
    results: list[Any] = [("output", o) for o in graph.outputs] + [
        ("update", u) for u in graph.updates
    ]
    if len(results) == 1:
        return state
    for one in results:
        candidate = _with_results(graph, feeds, [one])
        if ask(candidate):
            return candidate
    kept = list(results)
    for one in results:
        fewer = [r for r in kept if r is not one]
        if fewer and ask(_with_results(graph, feeds, fewer)):
            kept = fewer
    return _with_results(graph, feeds, kept)


def _earlier_results(state: State, ask: Callable[[State], bool]) -> State:
    """An operand of the last result in its place, as long as that fails too."""
    found = True
    while found and len(state[0].outputs) == 1:
        graph, feeds = state
        found = False
        ((name, last),) = graph.outputs
        for operand in last.inputs:
            if isinstance(operand, Tensor) and operand.inputs:
                candidate = _with_results(graph, feeds, [("output", (name, operand))])
                if ask(candidate):
                    state, found = candidate, True
                    break
    return state


def _with_results(graph: graphc.Graph, feeds: dict[str, Array], results: list[Any]) -> State:
    outputs = {key: t for kind, (key, t) in results if kind == "output"}
    updates = {key: t for kind, (key, t) in results if kind == "update"}
    made = graphc.Graph([t for _, t in graph.inputs], outputs, updates)
    return _used_inputs(made, feeds)


def _used_inputs(graph: graphc.Graph, feeds: Mapping[str, Array]) -> State:
    """The graph without inputs that it neither reads nor needs to know a size."""
    read: set[int] = set()
    for node in graph.nodes:
        read.update(id(i) for i in node.inputs)
    read.update(id(t) for _, t in (*graph.outputs, *graph.updates))
    needed = {s.name for s in graph.symbols}
    kept = []
    told: set[Any] = set()
    for name, t in sorted(graph.inputs, key=lambda pair: id(pair[1]) not in read):
        dims = {s.name for d in t.shape if not isinstance(d, int) for s in d.symbols()}
        if id(t) in read or (dims - told) & needed:
            kept.append((name, t))
            told |= dims
    smaller = graphc.Graph(
        [t for _, t in kept], dict(graph.outputs), dict(graph.updates), graph.name
    )
    return smaller, {name: feeds[name] for name, _ in kept}


def _cut_nodes(state: State, ask: Callable[[State], bool]) -> State:
    """Nodes replaced by inputs, those nearest to the results first: they cut off the most."""
    graph, feeds = state
    position = len(graph.nodes) - 1
    while position >= 0:
        candidate = _cut(graph, feeds, graph.nodes[position])
        if candidate is not None and ask(candidate):
            graph, feeds = candidate
            position = min(position, len(graph.nodes))
        position -= 1
    return graph, feeds


def _cut(graph: graphc.Graph, feeds: dict[str, Array], target: Node) -> State | None:
    """The graph with an input in the place of `target`, fed with its value."""
    if target.op.name in ("placeholder", "variable", "constant") or not isinstance(target, Tensor):
        return None
    values, sizes = bind_feeds(graph, feeds)
    value = np.asarray(run_nodes(graph, values, sizes)[id(target)])
    name = next(f"cut{k}" for k in range(len(feeds) + 1) if f"cut{k}" not in feeds)
    fresh = graphc.placeholder(target.shape, target.dtype, name=name)
    swapped = graph.map(lambda node, inputs: fresh if node is target else _again(node, inputs))
    inputs = (*swapped.inputs, (name, fresh))
    made = graphc.Graph.build(inputs, swapped.outputs, swapped.updates, graph.name, {})
    return _used_inputs(made, {**feeds, name: value})


def _again(node: Node, inputs: tuple[Tensor, ...]) -> Node:
    same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
    return node if same else node.op(*inputs, **node.attributes)


def report(state: State) -> str:
    """The graph's text and its feeds, to be pasted."""
    graph, feeds = state
    lines = [str(graph), "feeds = {"]
    with np.printoptions(threshold=64, precision=9):
        for name, value in feeds.items():
            if value.size <= 64:
                lines.append(f"    {name!r}: np.array({value.tolist()!r}, {value.dtype.name!r}),")
            else:
                lines.append(
                    f"    {name!r}: {value.dtype.name}{list(value.shape)} {value.flat[:8]!r}…"
                )
    return "\n".join([*lines, "}"])
