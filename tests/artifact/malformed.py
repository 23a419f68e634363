"""The corpus of malformed files: each is one change to a golden file, by name.

`golden/malformed.txt` holds what each is refused with. The changes come in groups: bytes of the
zip's headers, whole members, and, with digests that fit again, the manifest, the table of tensors,
the provenance, and the text.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from graphc.artifact import container
from graphc.artifact.container import WEIGHTS
from tests.artifact.forge import Parts, golden, packed, parts, places
from tests.artifact.malformed_text import TEXTS

Case = tuple[str, bytes]
Edit = Callable[[Any], Any]


def _overwrite(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


# -- the zip ----------------------------------------------------------------------------------


def _fields(record: struct.Struct, names: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of the fields of a header."""
    at = 0
    sizes = {"s": 4, "H": 2, "I": 4, "Q": 8}
    kinds = record.format.replace("<", "").replace("4s", "s")
    for name, kind in zip(names, kinds, strict=True):
        yield name, at, sizes[kind]
        at += sizes[kind]


def _headers() -> Iterator[Case]:
    data = golden("inference")
    directory = data.index(b"PK\1\2")
    records = [("end record", data.rindex(b"PK\5\6"), container._END, container._END_FIELDS)]
    for name, place in places(data).items():
        records.append(
            (
                f"local header of {name}",
                place.header_offset,
                container._LOCAL,
                container._LOCAL_FIELDS,
            )
        )
        at = data.index(b"PK\1\2", directory)
        directory = at + 4
        records.append((f"record of {name}", at, container._CENTRAL, container._CENTRAL_FIELDS))
    for where, start, record, names in records:
        for field, offset, size in _fields(record, names):
            at = start + offset
            value = int.from_bytes(data[at : at + size], "little")
            yield (
                f"{where}: {field} + 1",
                _overwrite(data, at, ((value + 1) % (1 << 8 * size)).to_bytes(size, "little")),
            )
            if size > 2 and field != "signature":
                yield f"{where}: {field} all ones", _overwrite(data, at, b"\xff" * size)


def _zips() -> Iterator[Case]:
    data = golden("inference")
    found = places(data)
    for length in (1, 21, 22, 64, 1000, len(data) - 22, len(data) - 1):
        yield f"cut to {length - len(data) if length > 2000 else length} bytes", data[:length]
    yield "a byte behind the end", data + b"\0"
    yield "a byte before the start", b"\0" + data
    yield "two files in a row", data + data
    yield "a comment", data[:-2] + b"\3\0abc"
    yield "only an end record", data[-22:]
    members = {n: data[p.start : p.end] for n, p in found.items()}
    for name in members:
        yield f"without {name}", packed({n: d for n, d in members.items() if n != name})
    swapped = dict(sorted(members.items(), key=lambda item: item[0] == "graph.txt"))
    yield "members in another order", packed(swapped)
    for name in ("../graph.txt", "/etc/passwd", "graph.tx\0", "GRAPH.TXT", "a.pkl", "gräph.txt"):
        renamed = {name if n == "graph.txt" else n: d for n, d in members.items()}
        yield f"a member called {name!r}", packed(renamed)
    header = found["graph.txt"]
    gap = header.header_offset + 30 + len("graph.txt") + 4
    yield "bytes in the padding", _overwrite(data, gap, b"x")
    for name, place in found.items():
        yield (
            f"a bit of {name}",
            _overwrite(data, place.start + 40, bytes([data[place.start + 40] ^ 1])),
        )
    compressed = bytearray(data)
    compressed[header.header_offset + 8] = compressed[data.index(b"PK\1\2") + 56 + 13 + 10] = 8
    yield "two headers that agree on compression", bytes(compressed)


# -- members --------------------------------------------------------------------------------------


def _set(*path: str | int, to: Any) -> Edit:
    def edit(value: Any) -> Any:
        inner = value
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
        return value

    return edit


def _drop(*path: str | int) -> Edit:
    def edit(value: Any) -> Any:
        inner = value
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        return value

    return edit


_DEEP = "[" * 100_000 + "]" * 100_000
_RAW: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{'a': 1}",
    "not UTF-8": b'{"a": "\xff"}',
    "a list": b"[]",
    "a number": b"7",
    "nested": _DEEP.encode(),
    "nested and open": b"[" * 200_000,
    "a key twice": b'{"format": "graphc", "format": "graphc"}',
    "a fraction": b'{"a": 1.5}',
    "a long number": b'{"a": ' + b"9" * 5000 + b"}",
    "not a number": b'{"a": NaN}',
    "an open string": b'{"a": "' + b'\\"' * 1000,
    "behind the end": b"{} {}",
    "a byte order mark": b"\xef\xbb\xbf{}",
}
_MANIFEST: dict[str, Edit] = {
    "format": _set("format", to="onnx"),
    "no format": _drop("format"),
    "version 2": _set("version", to=2),
    "version 0": _set("version", to=0),
    "version true": _set("version", to=True),
    "version text": _set("version", to="1"),
    "no version": _drop("version"),
    "producer": _set("producer", to=3),
    "long producer": _set("producer", to="x" * 5000),
    "graph": _set("graph", to=None),
    "no graph": _drop("graph"),
    "another key": _set("pickle", to="gASV"),
    "members": _set("members", to=[]),
    "no members": _set("members", to={}),
    "no text": _drop("members", "graph.txt"),
    "no weights": _drop("members", "weights.safetensors"),
    "another member": _set("members", "code.py", to={"size": 1, "sha256": "0" * 64}),
    "size": _set("members", "graph.txt", "size", to=1),
    "negative size": _set("members", "graph.txt", "size", to=-1),
    "large size": _set("members", "weights.safetensors", "size", to=1 << 60),
    "size true": _set("members", "graph.txt", "size", to=True),
    "digest": _set("members", "graph.txt", "sha256", to="0" * 64),
    "short digest": _set("members", "graph.txt", "sha256", to="0" * 63),
    "upper digest": _set("members", "graph.txt", "sha256", to="A" * 64),
    "digest of provenance": _set("members", "provenance.json", "sha256", to="1" * 64),
    "digest of weights": _set("members", "weights.safetensors", "sha256", to="2" * 64),
    "digest of the table": _set("members", "weights.safetensors", "table_sha256", to="3" * 64),
    "no digest of the table": _drop("members", "weights.safetensors", "table_sha256"),
    "a list for a member": _set("members", "graph.txt", to=[]),
}
_W = "layer/w"
_TABLE: dict[str, Edit] = {
    "no metadata": _drop("__metadata__"),
    "metadata": _set("__metadata__", to="x"),
    "a digest too few": _drop("__metadata__", _W),
    "a digest too many": _set("__metadata__", "b", to="0" * 64),
    "no digest": _set("__metadata__", _W, to="0"),
    "another digest": _set("__metadata__", _W, to="0" * 64),
    "record": _set(_W, to=7),
    "no dtype": _drop(_W, "dtype"),
    "another key": _set(_W, "path", to="/etc/passwd"),
    "dtype": _set(_W, "dtype", to="F31"),
    "dtype list": _set(_W, "dtype", to=["F32"]),
    "wider dtype": _set(_W, "dtype", to="F64"),
    "dtype of the same size": _set(_W, "dtype", to="I32"),
    "shape": _set(_W, "shape", to="8"),
    "other shape": _set(_W, "shape", to=[6, 8]),
    "negative shape": _set(_W, "shape", to=[-8, -6]),
    "large shape": _set(_W, "shape", to=[1 << 60, 1 << 60]),
    "large shape without elements": _set(_W, "shape", to=[0, 1 << 61, 1 << 61]),
    "no elements in a large shape": lambda table: _set(_W, "data_offsets", to=[320, 320])(
        _set(_W, "shape", to=[0, 1 << 61, 1 << 61])(table)
    ),
    "shape of bools": _set(_W, "shape", to=[True, 48]),
    "rank": _set(_W, "shape", to=[1] * 100),
    "offsets": _set(_W, "data_offsets", to=[320]),
    "offsets swapped": _set(_W, "data_offsets", to=[512, 320]),
    "offsets behind the end": _set(_W, "data_offsets", to=[1 << 40, (1 << 40) + 192]),
    "offsets on another tensor": _set(_W, "data_offsets", to=[0, 192]),
    "offsets with a gap": _set(_W, "data_offsets", to=[324, 516]),
    "negative offsets": _set(_W, "data_offsets", to=[-192, 0]),
    "no tensor": lambda table: {"__metadata__": {}},
    "one tensor less": lambda table: _drop(_W)(_drop("__metadata__", _W)(table)),
    "a long name": lambda table: _renamed(table, "x" * 5000),
}


def _renamed(table: dict[str, Any], name: str) -> dict[str, Any]:
    text = json.dumps(table).replace(f'"{_W}"', json.dumps(name))
    renamed: dict[str, Any] = json.loads(text)
    return renamed


_PROVENANCE: dict[str, Edit] = {
    "no files": _drop("files"),
    "another key": _set("code", to="x"),
    "files": _set("files", to="models.py"),
    "a number as file": _set("files", to=[1]),
    "a folder": _set("files", to=["/home/me/models.py"]),
    "a line break": _set("files", to=["a\nb"]),
    "a long name": _set("files", to=["x" * 5000]),
    "nodes": _set("nodes", to={}),
    "too few nodes": _set("nodes", to=[[0, 1]]),
    "too many nodes": _set("nodes", to=[[]] * 100),
    "no pair": _set("nodes", 0, to=[0]),
    "a file that is not listed": _set("nodes", 0, to=[1, 1]),
    "a negative file": _set("nodes", 0, to=[-1, 1]),
    "a large line": _set("nodes", 0, to=[0, 1 << 40]),
    "many places": _set("nodes", 0, to=[0, 1] * 5),
    "text as a node": _set("nodes", 0, to="ab"),
}


def _sealed() -> Iterator[Case]:
    good = parts("inference")
    for name, raw in _RAW.items():
        yield f"manifest: {name}", replace(good, manifest=lambda found, r=raw: r).sealed()
        yield f"provenance: {name}", replace(good, provenance=raw).sealed()
        padded = raw + b" " * (-(8 + len(raw)) % 64)
        yield f"table: {name}", replace(good, table=padded).sealed()
    for name, edit in _MANIFEST.items():
        yield f"manifest: {name}", replace(good, manifest=edit).sealed()
    for name, edit in _TABLE.items():
        yield f"table: {name}", good.with_table(edit).sealed()
    for name, edit in _PROVENANCE.items():
        yield f"provenance: {name}", good.with_provenance(edit).sealed()
    yield from _weights(good)


def _weights(good: Parts) -> Iterator[Case]:
    yield "weights: cut", replace(good, data=good.data[:-1]).sealed()
    yield "weights: more", replace(good, data=good.data + b"\0").sealed()
    yield "weights: none", replace(good, data=b"").sealed()
    yield "weights: a bit", replace(good, data=_overwrite(good.data, 400, b"x")).sealed()
    yield "weights: padding of 8", replace(good, table=good.table + b" " * 8).sealed()
    file = good.sealed()
    at = places(file)[WEIGHTS].start
    for length in (0, 1 << 32, (1 << 64) - 1):
        yield (
            f"weights: table of {length} bytes",
            _overwrite(file, at, length.to_bytes(8, "little")),
        )


def _texts() -> Iterator[Case]:
    for model, name, old, new in TEXTS:
        changed = (
            parts(model).with_text(old, new)
            if old
            else replace(parts(model), text=new.encode("utf-8", "surrogatepass"))
        )
        yield f"text: {name}", changed.sealed()


def cases() -> dict[str, bytes]:
    """Every malformed file by name; no two are the same bytes."""
    found: dict[str, bytes] = {}
    for group in (_headers, _zips, _sealed, _texts):
        for name, data in group():
            assert name not in found, name
            found[name] = data
    assert len(set(found.values())) == len(found)
    return found
