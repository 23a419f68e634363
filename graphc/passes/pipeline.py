"""The graph pipeline (floor 3): the rewriting passes in order."""

from __future__ import annotations

from graphc.ir.graph import Graph


def optimize(graph: Graph, numerics: str = "standard") -> Graph:
    """The graph after the rewriting passes that `numerics` allows."""
    return graph
