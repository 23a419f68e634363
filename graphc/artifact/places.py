"""provenance.json (floor 8): the user's lines of a graph's nodes, by file name and line number.

Only the last part of a file's path is written: a file that goes to others tells no folder names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from graphc.artifact.container import PROVENANCE
from graphc.artifact.json_text import is_count, read_object
from graphc.artifact.refusal import check_limit, refuse
from graphc.base.limits import Limits
from graphc.ir import provenance
from graphc.ir.graph import Graph
from graphc.ir.node import Node
from graphc.ir.provenance import Location
from graphc.ops.families import Source

_MOST = 4  # locations of one node
_LAST_LINE = 1 << 31


def located_nodes(graph: Graph) -> list[Node]:
    """The nodes that have lines in a file: those of the graph, then those of its bodies."""
    return [node for part in (graph, *graph.bodies) for node in part.nodes]


def provenance_bytes(nodes: Sequence[Node]) -> bytes:
    """The lines of nodes, in their order: [file, line, file, line, …] each, files by number.

    What is computed from constants alone has none: equal nodes are one node in the whole process,
    and its first line may be that of another graph.
    """
    files: dict[str, int] = {}
    listed: list[list[int]] = []
    own: set[int] = set()  # ids of those that depend on an input or a variable
    for node in nodes:
        flat: list[int] = []
        if isinstance(node.op.form, Source) or any(id(i) in own for i in node.inputs):
            own.add(id(node))
        places = provenance.locations(node) if id(node) in own else ()
        found = ((os.path.basename(p.file), p.line) for p in places)
        for file, line in list(dict.fromkeys(found))[:_MOST]:
            flat += [files.setdefault(file, len(files)), line]
        listed.append(flat)
    content = {"files": list(files), "nodes": listed}
    return (json.dumps(content, separators=(",", ":")) + "\n").encode()


def read_provenance(raw: bytes, limits: Limits) -> list[tuple[Location, ...]]:
    """The lines of the nodes. Raises FormatError."""
    content = read_object(PROVENANCE, raw)
    if list(content) != ["files", "nodes"]:
        refuse(PROVENANCE, "keys", list(content), "files, nodes")
    files: Any = content["files"]
    nodes: Any = content["nodes"]
    if not isinstance(files, list) or not all(isinstance(f, str) for f in files):
        refuse(PROVENANCE, "files", files, "a list of file names")
    for file in files:
        length = limits.name_length
        check_limit(PROVENANCE, "length of a file name", len(file), length, "name_length")
        if file != os.path.basename(file) or not file.isprintable():
            refuse(PROVENANCE, "files", file, "names without folders, printable")
    if not isinstance(nodes, list):
        refuse(PROVENANCE, "nodes", nodes, "a list")
    check_limit(PROVENANCE, "nodes", len(nodes), limits.nodes, "nodes")
    return [_read_places(flat, files) for flat in nodes]


def _read_places(flat: Any, files: list[str]) -> tuple[Location, ...]:
    fits = isinstance(flat, list) and len(flat) % 2 == 0 and len(flat) <= 2 * _MOST
    if not fits or not all(map(is_count, flat)):
        refuse(PROVENANCE, "a node", flat, f"up to {_MOST} pairs of a file's number and a line")
    pairs = list(zip(flat[::2], flat[1::2]))
    for file, line in pairs:
        if file >= len(files) or line > _LAST_LINE:
            refuse(PROVENANCE, "a node", flat, f"files below {len(files)}, lines to {_LAST_LINE}")
    return tuple(Location(files[file], line) for file, line in pairs)
