"""`graphc export`: a graph as an ONNX model (the command line, floor 8)."""

from __future__ import annotations

import argparse
from pathlib import Path

from graphc.cli.model import load
from graphc.cli.table import bytes_text, json_text
from graphc.ir.graph import Graph
from graphc.onnx import OPSET, export


def execute(options: argparse.Namespace) -> int:
    """Write the model as an ONNX file and print its size; 0."""
    graph = load(options.model).graph
    if options.without_updates:
        graph = Graph.build(graph.inputs, graph.outputs, (), graph.name, graph.names)
    opset = options.opset or OPSET
    export(graph, options.out, opset=opset)
    size = Path(options.out).stat().st_size
    if options.json:
        facts = {"file": options.out, "bytes": size, "opset": opset, "variables": _count(graph)}
        print(json_text(facts))
        return 0
    print(f"{options.out}  {bytes_text(size)}, opset {opset}, {_count(graph)} variables")
    return 0


def _count(graph: Graph) -> int:
    """How many variables became initializers."""
    return len(graph.variables)
