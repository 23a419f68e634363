"""manifest.json (floor 8): what the file is, and the size and sha256 of every other member."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphc.artifact.container import GRAPH, MANIFEST, NAMES, WEIGHTS
from graphc.artifact.json_text import is_count, is_digest, read_object
from graphc.artifact.refusal import check_limit, refuse
from graphc.base.limits import Limits
from graphc.version import __version__

FORMAT = "graphc"
VERSION = 1
_KEYS = ("format", "version", "producer", "graph", "members")


@dataclass(frozen=True, slots=True)
class Member:
    """What the manifest says of a member. table: the sha256 of the weights' table alone."""

    size: int
    sha256: str
    table: str = ""


def manifest_bytes(graph_name: str, members: Mapping[str, Member]) -> bytes:
    """The manifest of a graph with these members, in their order."""
    listed: dict[str, dict[str, object]] = {}
    for name, member in members.items():
        listed[name] = {"size": member.size, "sha256": member.sha256}
        if name == WEIGHTS:
            listed[name]["table_sha256"] = member.table
    content = {
        "format": FORMAT,
        "version": VERSION,
        "producer": f"graphc {__version__}",
        "graph": graph_name,
        "members": listed,
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def read_manifest(raw: bytes, limits: Limits) -> dict[str, Member]:
    """What the manifest says of the members. Raises FormatError where it is no manifest of a
    version that this release reads.
    """
    content = read_object(MANIFEST, raw)
    if content.get("format") != FORMAT:
        refuse(MANIFEST, "format", content.get("format"), repr(FORMAT))
    version = content.get("version")
    if not is_count(version) or version != VERSION:
        refuse(
            MANIFEST,
            "version",
            version,
            f"{VERSION}, which graphc {__version__} reads",
            "a file of a later version needs the graphc that wrote it, or a later one",
        )
    if tuple(content) != _KEYS:
        refuse(MANIFEST, "keys", list(content), ", ".join(_KEYS))
    for key in ("producer", "graph"):
        if not isinstance(content[key], str):
            refuse(MANIFEST, key, content[key], "a string")
        limit = limits.name_length
        check_limit(MANIFEST, f"length of {key}", len(content[key]), limit, "name_length")
    return _read_members(content["members"])


def _read_members(members: Any) -> dict[str, Member]:
    if not isinstance(members, dict) or GRAPH not in members:
        refuse(MANIFEST, "members", members, f"an object with {GRAPH}")
    found: dict[str, Member] = {}
    for name, record in members.items():
        where = f"{MANIFEST}: members: {name[:60]}"
        if name not in NAMES[1:]:
            refuse(MANIFEST, "members: name", name, f"one of {', '.join(NAMES[1:])}")
        keys = ["size", "sha256"] + (["table_sha256"] if name == WEIGHTS else [])
        if not isinstance(record, dict) or list(record) != keys:
            refuse(where, "record", record, ", ".join(keys))
        if not is_count(record["size"]):
            refuse(where, "size", record["size"], "a number of bytes")
        for key in keys[1:]:
            if not is_digest(record[key]):
                refuse(where, key, record[key], "64 hexadecimal digits")
        found[name] = Member(record["size"], record["sha256"], record.get("table_sha256", ""))
    return found


def check_member(name: str, data: memoryview, said: str) -> None:
    """Compare a member's bytes with the digest in the manifest. Raises FormatError."""
    came = hashlib.sha256(data).hexdigest()
    if came != said:
        refuse(
            name,
            "sha256 of its bytes",
            came,
            f"{said} as {MANIFEST} says",
            "the file was damaged after it was written: take another copy",
        )
