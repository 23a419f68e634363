"""`graphc inspect`: what a graph is and what it costs (the command line, floor 8)."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from typing import Any

from graphc.base.dims import Dim, Size, product, substitute
from graphc.cli.model import Model, check_sizes, compilation, load
from graphc.cli.table import bytes_text, json_text, printable, table
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor


def execute(options: argparse.Namespace) -> int:
    """Print the facts of a model; 0."""
    model = load(options.model)
    sizes = dict(options.dim)
    check_sizes(model.graph, sizes)
    facts = describe(model, sizes)
    print(json_text(facts) if options.json else _text(facts, sizes))
    return 0


def describe(model: Model, sizes: dict[str, int]) -> dict[str, Any]:
    """Everything that is shown, as plain data; work as expressions of the open dims."""
    graph = model.graph
    constants = sum(c.stored.nbytes for c in graph.constants.values())
    variables = [_variable(graph, v) for v in graph.variables]
    initial = sum(row["bytes"] for row in variables)
    flops, moved = work(graph, sizes)
    counts = Counter(n.op.name for n in graph.nodes)
    facts: dict[str, Any] = {
        "name": graph.name,
        "source": model.source,
        "kind": model.kind,
        "inputs": [_port(name, t, sizes) for name, t in graph.inputs],
        "outputs": [_port(name, t, sizes) for name, t in graph.outputs],
        "dims": [
            {"name": s.name, "min": s.min, "max": s.max, "multiple_of": s.multiple_of}
            | ({"size": sizes[s.name]} if s.name in sizes else {})
            for s in graph.symbols
        ],
        "computed_dims": [
            {"name": s.name, "min": s.min, "max": s.max, "multiple_of": s.multiple_of}
            | {"size": graph.name_of(count)}
            for s, count in graph.bindings
        ],
        "variables": {
            "count": len(variables),
            "trainable": sum(row["trainable"] for row in variables),
            "parameters": sum(row["elements"] for row in variables if row["trainable"]),
            "elements": sum(row["elements"] for row in variables),
            "bytes": initial,
            "updated": len(graph.updates),
            "each": variables,
        },
        "nodes": len(graph.nodes),
        "ops": dict(counts.most_common()),
        "constant_bytes": max(constants - initial, 0),
        "flops": _size(flops),
        "bytes_moved": _size(moved),
    }
    if model.members:
        facts["members"] = [{"name": name, "bytes": size} for name, size in model.members]
    if model.kind == "graphc":
        facts["file_bytes"] = os.path.getsize(model.source)
    return facts


def work(graph: Graph, sizes: dict[str, int]) -> tuple[Size, Size]:
    """Scalar operations of one call, and the bytes that its kernels read and write at least.

    Counted on the kernels of the optimized graph for this machine. Dims not in `sizes` stay open.
    """
    flops: Size = 0
    moved: Size = 0
    for kernel in compilation(graph).kernel_infos:
        flops = flops + substitute(kernel.flops, sizes)
        moved = moved + substitute(kernel.bytes, sizes)
    return flops, moved


def _variable(graph: Graph, variable: Tensor) -> dict[str, Any]:
    stored = variable.attr("value").stored
    return {
        "name": graph.name_of(variable),
        "type": str(variable.type),
        "trainable": bool(variable.attr("trainable")),
        "elements": int(stored.size),
        "bytes": int(stored.nbytes),
    }


def _port(name: str, tensor: Tensor, sizes: dict[str, int]) -> dict[str, Any]:
    shape = [substitute(size, sizes) for size in tensor.shape]
    count = product(shape) * tensor.dtype.itemsize
    return {
        "name": name,
        "dtype": tensor.dtype.name,
        "shape": [_size(size) for size in shape],
        "bytes": _size(count),
    }


def _size(size: Size) -> int | str:
    return str(size) if isinstance(size, Dim) else int(size)


def _text(facts: dict[str, Any], sizes: dict[str, int]) -> str:
    lines = [
        f"{printable(facts['name'])}: {facts['nodes']} nodes, {facts['kind']} of "
        f"{printable(facts['source'])}"
    ]
    for title in ("inputs", "outputs"):
        rows = [row | {"shape": _shape(row["shape"])} for row in facts[title]]
        lines.append(f"{title}:" + ("" if rows else " none"))
        lines += [table(rows)] if rows else []
    if facts["dims"]:
        lines += ["dims:", table(facts["dims"])]
    if facts["computed_dims"]:
        lines += ["computed dims:", table(facts["computed_dims"])]
    state = facts["variables"]
    lines.append(
        f"variables: {state['count']} ({state['trainable']} trainable with {state['parameters']} "
        f"parameters, {state['updated']} updated), {bytes_text(state['bytes'])}"
    )
    lines += [table(state["each"])] if state["each"] else []
    lines.append(f"constants: {bytes_text(facts['constant_bytes'])}")
    lines.append("ops: " + ", ".join(f"{name} {count}" for name, count in facts["ops"].items()))
    lines.append(f"operations per call: {facts['flops']}")
    lines.append(f"bytes moved per call: {facts['bytes_moved']}")
    if facts.get("members"):
        lines += [f"file: {bytes_text(facts['file_bytes'])}", table(facts["members"])]
    return "\n".join(lines)


def _shape(shape: list[int | str]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
