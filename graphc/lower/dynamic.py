"""Sizes that are bound while a program runs (floor 5): phases of nodes, and the steps between them.

A node's phase says how many times sizes must have been bound before it can run: 0 for what needs
none that the graph computes, one more than a count's for what mentions its size.  Regions stay
within a phase and run in the order of phases, so all sizes of a phase are bound in one step, and
memory for it is found there, once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphc.base.dims import Dim, Shape, Size, Symbol, divisors
from graphc.ir.bindings import mentioned
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, TensorType
from graphc.lower.elements import storage_root
from graphc.lower.kernel_builder import Sites, Stored
from graphc.ops.conditions import size_conditions


class Phases:
    """The phases of a graph's nodes, and of the sizes that it computes."""

    def __init__(self, graph: Graph) -> None:
        self.symbols: dict[Symbol, int] = {}
        self._nodes: dict[int, int] = {}
        if not graph.bindings:
            return
        waiting: dict[int, list[Symbol]] = {}
        for symbol, count in graph.bindings:
            waiting.setdefault(id(count), []).append(symbol)
        for node in graph.nodes:
            before = [self._nodes[id(i)] for i in node.inputs]
            before += [self.symbols.get(s, 0) for s in mentioned(node)]
            phase = max(before, default=0)
            self._nodes[id(node)] = phase
            self.symbols.update(dict.fromkeys(waiting.get(id(node), ()), phase + 1))

    @property
    def last(self) -> int:
        """The last phase; 0 where no size is computed."""
        return max(self.symbols.values(), default=0)

    def of(self, node: Node) -> int:
        """The phase of a node."""
        return self._nodes.get(id(node), 0)

    def of_size(self, size: Size) -> int:
        """The phase from which on a size is known."""
        if not self.symbols or not isinstance(size, Dim):
            return 0
        return max((self.symbols.get(s, 0) for s in size.symbols()), default=0)

    def of_shape(self, shape: Shape) -> int:
        """The phase from which on all sizes of a shape are known."""
        return max(map(self.of_size, shape), default=0)


@dataclass(frozen=True, eq=False, slots=True)
class LoweredBinding:
    """The sizes of a phase become known. args: their counts.

    sites: of the check of each size; conditions: sizes that must not be negative from here on, with
    their sites.
    """

    phase: int
    symbols: tuple[Symbol, ...]
    args: tuple[Stored, ...]
    sites: tuple[int, ...]
    conditions: tuple[tuple[Size, int], ...]

    @property
    def overwrites(self) -> tuple[int, ...]:
        """Nothing is written."""
        return ()


@dataclass(frozen=True, eq=False, slots=True)
class LoweredResults:
    """The caller learns where outputs of computed sizes are. outputs: their numbers."""

    outputs: tuple[int, ...]
    args: tuple[Stored, ...]

    @property
    def overwrites(self) -> tuple[int, ...]:
        """Nothing is written."""
        return ()


def lower_bindings(graph: Graph, phases: Phases, sites: Sites) -> list[LoweredBinding]:
    """The step of each phase, the first one first."""
    found: list[LoweredBinding] = []
    if not phases.last:
        return found
    if not graph.bindings:
        return []
    checks = [c for c in size_conditions(graph) if phases.of_size(c.size)]
    kinds: list[tuple[Size, Node | None, str]] = [(c.size, c.node, "negative") for c in checks]
    kinds += [(size, node, "divisor") for size, node in _divisors(graph) if phases.of_size(size)]
    for phase in range(1, phases.last + 1):
        pairs = [(s, count) for s, count in graph.bindings if phases.symbols[s] == phase]
        conditions = tuple(
            (size, sites.site(node, kind))
            for size, node, kind in kinds
            if phases.of_size(size) == phase and node is not None
        )
        found.append(
            LoweredBinding(
                phase,
                tuple(symbol for symbol, _ in pairs),
                tuple(storage_root(count) for _, count in pairs),
                tuple(sites.site(count, "size") for _, count in pairs),
                conditions,
            )
        )
    return found


def _divisors(graph: Graph) -> list[tuple[Size, Node | None]]:
    """Sizes that must not be negative so that what sizes are divided by is at least 1."""
    found: dict[Size, Node | None] = {}
    for node in graph.nodes:
        types = (node.type,) if isinstance(node.type, TensorType) else node.type.items
        for size in (s for t in types for s in t.shape):
            for divisor in divisors(size):
                found.setdefault(divisor - 1, node)
    return list(found.items())


def lower_results(graph: Graph, phases: Phases) -> LoweredResults | None:
    """The last step of a graph with outputs of computed sizes."""
    pairs = [
        (k, storage_root(t)) for k, (_, t) in enumerate(graph.outputs) if phases.of_shape(t.shape)
    ]
    if not pairs:
        return None
    return LoweredResults(tuple(k for k, _ in pairs), tuple(root for _, root in pairs))


def counts_of(graph: Graph) -> Iterable[Tensor]:
    """The tensors that hold the sizes that a graph computes."""
    return (storage_root(count) for _, count in graph.bindings)
