"""The rewrite driver (floor 3): the only loop over rules, from the inputs up to a fixed point.

One pass with an explicit stack: a node is looked at when its inputs are in normal form; what a rule
makes is normalized in turn. Since rules look downwards only, every node of the result is in normal
form. Linear in nodes plus applications. A rule that leads back to an expression it came from is an
error that names the rules.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from graphc.base.errors import GraphcError, VerifyError
from graphc.ir import provenance
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, TensorType, make
from graphc.ops.view import BROADCAST_TO
from graphc.rewrite.pattern import AnyRule, allowed
from graphc.rewrite.trace import Trace, expression

# Applications per node beyond which the rules must be feeding each other.
MAX_APPLICATIONS_PER_NODE = 50


class RuleSet:
    """Rules for one numerics mode, indexed by the ops of nodes and inputs."""

    def __init__(self, rules: Iterable[AnyRule], numerics: str = "fast") -> None:
        classes = allowed(numerics)
        self.rules: tuple[AnyRule, ...] = tuple(r for r in rules if r.cls in classes)
        self._candidates: dict[tuple[str, ...], tuple[AnyRule, ...]] = {}

    def at(self, node: Node) -> tuple[AnyRule, ...]:
        """The rules that can apply at a node, by its op and those of its inputs, in order."""
        return self.of((node.op.name, *[i.op.name for i in node.inputs]))

    def of(self, key: tuple[str, ...]) -> tuple[AnyRule, ...]:
        """The rules that can apply at an op (the first name) with inputs of the other ops."""
        found = self._candidates.get(key)
        if found is None:
            found = tuple(r for r in self.rules if r.may_apply(key[0], key[1:]))
            if len(key) < 6:  # joins of many tensors are all different
                self._candidates[key] = found
        return found


def rewrite(
    graph: Graph,
    rules: Iterable[AnyRule] | RuleSet,
    numerics: str = "standard",
    *,
    trace: Trace | None = None,
    stage: str = "rewrite",
    limit: int | None = None,
) -> tuple[Graph, Trace]:
    """The graph with the rules of the numerics mode applied until none applies, and the log.

    trace: a log to continue (its own limit counts). limit: stop applying rules after that many
    applications. Raises GraphcError when rules feed each other without end, VerifyError for a rule
    that changes a type.
    """
    trace = Trace(limit) if trace is None else trace
    indexed = rules if isinstance(rules, RuleSet) else RuleSet(rules, numerics)
    if not any(map(indexed.of, graph.patterns)):  # such as a thousand calls of one layer
        return graph, trace
    walk = _Walk(indexed, trace, stage, len(graph.nodes))
    with provenance.derived_from():
        mapping = walk.run(graph.nodes)
    return (graph.rebuild(mapping) if mapping else graph), trace


class _Walk:
    """The state of one run."""

    def __init__(self, rules: RuleSet, trace: Trace, stage: str, size: int) -> None:
        self.rules = rules
        self.trace = trace
        self.stage = stage
        self.normal: dict[int, Node] = {}
        self.becomes: dict[int, Node] = {}  # a node waiting for the normal form of what it became
        self.by: dict[int, AnyRule] = {}  # the rule by which it became that
        self.keep: list[Node] = []  # ids are used again when nodes die
        self.budget = MAX_APPLICATIONS_PER_NODE * (size + 20)

    def run(self, nodes: Sequence[Node]) -> dict[int, Node]:
        """The nodes that changed: id(old) to new."""
        mapping = {}
        normal, at = self.normal, self.rules.at
        for node in nodes:
            key = id(node)
            if key not in normal:
                if not isinstance(node, Tensor) or not at(node):
                    for i in node.inputs:
                        if normal.get(id(i)) is not i:
                            break
                    else:
                        normal[key] = node  # most nodes of a large graph: no rule is about them
                        continue
                self._normalize(node)
            new = normal[key]
            if new is not node:
                mapping[key] = new
        return mapping

    def _normalize(self, root: Node) -> None:
        normal, becomes = self.normal, self.becomes
        stack = [root]
        while stack:
            node = stack[-1]
            key = id(node)
            if key in normal:
                stack.pop()
                continue
            successor = becomes.get(key)
            if successor is not None:
                if id(successor) in normal:
                    normal[key] = normal[id(successor)]
                    self.keep.append(node)
                    del becomes[key]
                    stack.pop()
                else:
                    self._push(stack, successor)
                continue
            waiting = [i for i in node.inputs if id(i) not in normal]
            if waiting:
                for i in waiting:
                    self._push(stack, i)
                continue
            self._step(node)

    def _push(self, stack: list[Node], node: Node) -> None:
        if id(node) in self.becomes:
            self._report_cycle(node)
        stack.append(node)

    def _step(self, node: Node) -> None:
        """All inputs are normal: rebuild, or apply one rule, or the node is normal."""
        normal = self.normal
        self.keep.append(node)
        for old in node.inputs:
            if normal[id(old)] is not old:
                provenance.set_derived(node)
                inputs = tuple([normal[id(i)] for i in node.inputs])
                self.becomes[id(node)] = make(node.op, inputs, node.attrs)
                return
        if isinstance(node, Tensor) and not self.trace.full:
            for rule in self.rules.at(node):
                successor = self._apply(rule, node)
                if successor is not None:
                    self.becomes[id(node)] = successor
                    self.by[id(node)] = rule
                    return
        self.normal[id(node)] = node

    def _apply(self, rule: AnyRule, node: Tensor) -> Tensor | None:
        started = time.perf_counter()
        provenance.set_derived(node)
        found = rule.apply(node)
        if found is None:
            return None
        match, new = found
        new = fitted(rule, node, new)
        if new is node:
            return None
        # The parts in between are gone: their lines belong to what replaced the whole.
        for part in match.bound.values():
            if part.inputs and part is not new and part is not node and new.inputs:
                provenance.merge_from(new, part)
        self.trace.add(self.stage, rule, node, new, time.perf_counter() - started)
        self.budget -= 1
        if self.budget < 0:
            self._report_growth()
        return new

    def _report_cycle(self, node: Node) -> None:
        names = []
        current: Node | None = node
        seen: set[int] = set()
        while current is not None and id(current) not in seen:
            seen.add(id(current))
            if id(current) in self.by:
                names.append(self.by[id(current)].name)
            current = self.becomes.get(id(current))
        text = expression(node) if isinstance(node, Tensor) else node.op.name
        raise GraphcError(
            f"rewrite rules oppose each other: {', '.join(dict.fromkeys(names))} "
            f"lead from {text} back to itself"
        )

    def _report_growth(self) -> None:
        last = Counter(a.rule.name for a in self.trace.applications[-200:]).most_common(4)
        names = ", ".join(name for name, _ in last)
        text = expression(self.trace.applications[-1].before)
        raise GraphcError(f"rewrite rules do not end: {names} keep applying, last at {text}")


def fitted(rule: AnyRule, node: Tensor, new: Tensor) -> Tensor:
    """The replacement with the node's type: broadcast where it only lost broadcasting. Raises
    VerifyError otherwise.
    """
    if new.type == node.type:
        return new
    if new.dtype is node.dtype and _broadcasts(new.type, node.type):
        return BROADCAST_TO(new, shape=node.shape)
    raise VerifyError(
        f"rule {rule.name} changes the type of {expression(node)}: {node.type} became {new.type}"
    )


def _broadcasts(small: TensorType, large: TensorType) -> bool:
    offset = len(large.shape) - len(small.shape)
    if offset < 0:
        return False
    return all(s in (1, t) for s, t in zip(small.shape, large.shape[offset:], strict=True))
