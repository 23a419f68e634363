"""What a pass is and what it is told (floor 3): the protocol and the context, plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from graphc.ir.graph import Graph
from graphc.rewrite.trace import Trace


@dataclass(frozen=True)
class Context:
    """numerics: which rule classes may run ("exact", "standard", "fast"). trace: the log, with its
    limit. bodies: what the bodies that were seen became, so that each is changed once.
    """

    numerics: str = "standard"
    trace: Trace = field(default_factory=Trace)
    bodies: dict[Graph, tuple[Graph, Graph]] = field(default_factory=dict)


class Pass(Protocol):
    """One transformation of a graph. Options are fields; the result has the same meaning and
    verifies.
    """

    @property
    def name(self) -> str:
        """The name in pipelines and logs."""

    def run(self, graph: Graph, context: Context) -> Graph:
        """The transformed graph."""
