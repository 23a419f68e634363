"""Writing `.graphc` files (floor 8): equal graphs give equal bytes, and a file is whole or absent.

Tensors go from memory to the file in parts: a graph of any size is saved without a second copy of
its constants.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping

from graphc.artifact.container import GRAPH, MANIFEST, PROVENANCE, WEIGHTS, Entry, layout
from graphc.artifact.manifest import Member, manifest_bytes
from graphc.artifact.places import located_nodes, provenance_bytes
from graphc.artifact.tensors import parts_of, table_of
from graphc.base.atomic_file import replacing
from graphc.ir.constant import ConstantValue
from graphc.ir.graph import Graph
from graphc.ir.text import LITERAL_ELEMENTS, graph_text, prints_as_numbers

Part = bytes | memoryview


def save(graph: Graph, path: str | os.PathLike[str], *, provenance: bool = True) -> None:
    """What `Graph.save` does. Raises OSError; the old file is then as it was."""
    parts = graph_parts(graph.with_current_values(), provenance)
    with replacing(path) as file:
        for part in parts:
            file.write(part)


def graph_parts(graph: Graph, provenance: bool = True) -> Iterator[Part]:
    """The bytes of the file of a graph, in parts; variables have their first values."""
    members: dict[str, _Content] = {GRAPH: _Content([graph_text(graph, inline=0).encode()])}
    if provenance:
        members[PROVENANCE] = _Content([provenance_bytes(located_nodes(graph))])
    values = named_values(graph)
    if values:
        table, ordered = table_of(values)
        members[WEIGHTS] = _Weights(table, ordered)
    listed = {name: content.measure() for name, content in members.items()}
    manifest = _Content([manifest_bytes(graph.name, {n: m for n, (m, _) in listed.items()})])
    _, crc = manifest.measure()
    entries = [Entry(MANIFEST, crc, manifest.size)]
    entries += [Entry(name, c, member.size) for name, (member, c) in listed.items()]
    places, directory, end = layout(entries)
    for place, content in zip(places, (manifest, *members.values()), strict=True):
        yield place.header
        yield from content.parts()
    yield from directory
    yield end


class _Content:
    """The bytes of a member, which are read twice: for their digests, and to be written."""

    def __init__(self, data: list[bytes], size: int = 0) -> None:
        self._data = data
        self.size = size or sum(map(len, data))

    def parts(self) -> Iterable[Part]:
        return self._data

    def measure(self) -> tuple[Member, int]:
        """Size and sha256, and the CRC-32."""
        digest, crc = hashlib.sha256(), 0
        for part in self.parts():
            digest.update(part)
            crc = zlib.crc32(part, crc)
        return Member(self.size, digest.hexdigest()), crc


class _Weights(_Content):
    def __init__(self, table: bytes, values: list[ConstantValue]) -> None:
        super().__init__([table], len(table) + sum(v.nbytes for v in values))
        self._table, self._values = table, values

    def parts(self) -> Iterable[Part]:
        return parts_of(self._table, self._values)

    def measure(self) -> tuple[Member, int]:
        member, crc = super().measure()
        table = hashlib.sha256(self._table).hexdigest()
        return Member(member.size, member.sha256, table), crc


def named_values(graph: Graph) -> Mapping[str, ConstantValue]:
    """The values that the text names by digest, by the name that they have in the file: that of the
    first variable that has the value, else the digest. Graphs inside the graph are looked into.
    """
    found: dict[str, ConstantValue] = {}
    seen: set[str] = set()
    for inside in (graph, *graph.bodies):
        for node in inside.nodes:
            for value in node.attrs:
                if not isinstance(value, ConstantValue) or value.digest in seen:
                    continue
                if value.size <= LITERAL_ELEMENTS and prints_as_numbers(value):
                    continue
                seen.add(value.digest)
                name = inside.name_of(node) if node.op.name == "variable" else value.digest
                found[value.digest if name in found or name == "__metadata__" else name] = value
    return found
