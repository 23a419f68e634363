"""The table of exporters (floor 8): by the name of a graphc op, what writes it in ONNX.

An exporter is `export(m, node, xs) -> Value` (a tuple of them for ops of several results): `m` is
the model in the making, `xs` are the values of the node's inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.onnx.exporting.sizes import Sizes
from graphc.onnx.exporting.writer import Value, Writer

Results = Value | tuple[Value, ...]


@dataclass(frozen=True)
class Making:
    """What exporters work with. body(graph, inputs): the outputs of a graph inside the graph,
    written into the current scope.
    """

    writer: Writer
    sizes: Sizes
    body: Callable[[Graph, list[Value]], list[Value]]


Exporter = Callable[[Making, Any, list[Value]], Results]
EXPORTERS: dict[str, Exporter] = {}
# Ops that ONNX has no word for, and why.
REFUSED: dict[str, str] = {}


def exports(*ops: str) -> Callable[[Exporter], Exporter]:
    """Register the function below as the exporter of ops."""

    def register(function: Exporter) -> Exporter:
        for op in ops:
            assert op not in EXPORTERS, f"{op} has two exporters"
            EXPORTERS[op] = function
        return function

    return register


def export_node(m: Making, node: Node, xs: list[Value]) -> Results:
    """The results of a node. Raises UnsupportedError for what ONNX cannot say."""
    m.writer.node = node
    exporter = EXPORTERS.get(node.op.name)
    if exporter is None:
        m.writer.refuse(REFUSED.get(node.op.name, "ONNX has no operator for it"))
    return exporter(m, node, xs)
