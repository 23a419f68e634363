"""Golden files taken apart, and put together again with parts changed and digests that fit."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from graphc.artifact.container import (
    GRAPH,
    MANIFEST,
    PROVENANCE,
    WEIGHTS,
    Entry,
    Place,
    layout,
    read_layout,
)
from tests.artifact.models import GOLDEN


@dataclass(frozen=True)
class Parts:
    """The members of a file; weights as table and data.

    manifest: what is done to the manifest's object after the digests are in it.
    """

    text: bytes
    provenance: bytes
    table: bytes
    data: bytes
    name: str
    manifest: Callable[[dict[str, Any]], Any] = field(default=lambda found: found)

    def sealed(self) -> bytes:
        """The file, every digest and size as its parts are."""
        weights = len(self.table).to_bytes(8, "little") + self.table + self.data
        members = {GRAPH: self.text, PROVENANCE: self.provenance, WEIGHTS: weights}
        listed = {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in members.items()
        }
        table = hashlib.sha256(weights[: 8 + len(self.table)]).hexdigest()
        listed[WEIGHTS]["table_sha256"] = table
        manifest = {
            "format": "graphc",
            "version": 1,
            "producer": "forge",
            "graph": self.name,
            "members": listed,
        }
        changed = self.manifest(manifest)
        raw = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
        return packed({MANIFEST: raw, **members})

    def with_table(self, change: Callable[[dict[str, Any]], Any]) -> Parts:
        """The table's object changed, padded anew."""
        changed = change(json.loads(self.table))
        text = json.dumps(changed, separators=(",", ":")).encode()
        return replace(self, table=text + b" " * (-(8 + len(text)) % 64))

    def with_provenance(self, change: Callable[[dict[str, Any]], Any]) -> Parts:
        """The provenance's object changed."""
        return replace(self, provenance=json.dumps(change(json.loads(self.provenance))).encode())

    def with_text(self, old: str, new: str) -> Parts:
        """The first `old` in the text replaced; it must be there."""
        text = self.text.decode()
        assert old in text, f"{old!r} is not in the text"
        return replace(self, text=text.replace(old, new, 1).encode())


def packed(members: dict[str, bytes]) -> bytes:
    """The zip of members."""
    entries = [Entry(name, zlib.crc32(data), len(data)) for name, data in members.items()]
    places, directory, end = layout(entries)
    pieces = [p.header + data for p, data in zip(places, members.values(), strict=True)]
    return b"".join([*pieces, *directory, end])


def golden(name: str) -> bytes:
    """The bytes of a golden file."""
    return (GOLDEN / f"{name}.graphc").read_bytes()


def places(data: bytes) -> dict[str, Place]:
    """Where the members of a good file lie."""
    return read_layout(memoryview(data))


def parts(name: str) -> Parts:
    """A golden file taken apart."""
    data = golden(name)
    found = {n: data[p.start : p.end] for n, p in places(data).items()}
    weights = found[WEIGHTS]
    start = 8 + int.from_bytes(weights[:8], "little")
    graph = json.loads(found[MANIFEST])["graph"]
    return Parts(found[GRAPH], found[PROVENANCE], weights[8:start], weights[start:], graph)
