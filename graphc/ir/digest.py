"""Digests of graphs (floor 1): equal for graphs of equal text, found without writing the text.

A thousand layers have few kinds of nodes. Each kind is written once, as the printer writes it; a
node is the number of its kind and the positions of its inputs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from array import array

from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.ir.text import symbol_text, value_text

_SOURCES = frozenset(("placeholder", "variable"))  # their names and values are told apart


def graph_digest(graph: Graph) -> str:
    """The SHA-256 digest of what a graph computes and of its names, first values of variables left
    out; values of constants count by their digests.
    """
    nodes = graph.nodes
    at = {id(node): k for k, node in enumerate(nodes)}
    kinds: dict[str, int] = {}
    known: dict[tuple[int, ...], int] = {}  # the same by what a kind consists of, by identity
    numbers = []
    for node in nodes:
        op = node.op
        if node.inputs or op.name not in _SOURCES:
            same = (id(op), id(node.type), *map(id, node.attrs))
        else:
            same = (id(op), id(node.type))
            if op.name == "variable":
                same += (int(node.attr("trainable")),)
        kind = known.get(same)
        if kind is None:
            kind = known[same] = kinds.setdefault(_kind_text(node), len(kinds))
        numbers.append(kind)
    inputs = [node.inputs for node in nodes]
    numbers += map(len, inputs)
    numbers += map(at.__getitem__, map(id, itertools.chain.from_iterable(inputs)))
    described = {
        "name": graph.name,
        "symbols": [symbol_text(s) for s in graph.symbols if s.origin is None],
        "computed": [(symbol_text(s), at[id(count)]) for s, count in graph.bindings],
        "inputs": [(name, at[id(t)]) for name, t in graph.inputs],
        "outputs": [(name, at[id(t)]) for name, t in graph.outputs],
        "updates": [(at[id(v)], at[id(t)]) for v, t in graph.updates],
        "names": sorted((at[id(n)], name) for name, n in graph.names.items()),
        "kinds": list(kinds),
    }
    digest = hashlib.sha256(json.dumps(described).encode())
    digest.update(array("i", numbers))
    return digest.hexdigest()


def _kind_text(node: Node) -> str:
    attrs = node.attrs
    if node.op.name in _SOURCES:
        attrs = (node.attr("trainable"),) if node.op.name == "variable" else ()
    texts = [a.text if isinstance(a, Graph) else value_text(a, inline=0) for a in attrs]
    return f"{node.op.name} {json.dumps(texts)} : {node.type}"
