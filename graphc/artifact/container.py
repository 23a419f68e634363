"""The zip around the members (floor 8): one layout, and every byte of it follows from the members.

The reader takes name, checksum and size of each member from the central directory, computes what
the headers of such a file are, and compares.  So there are no overlaps, gaps, second names, hidden
members, comments, compressed or encrypted data: whatever differs is refused, and named.  Ordinary
zip tools read the file: it is a zip of stored members.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from graphc.artifact.refusal import refuse

ALIGNMENT = 64
MANIFEST = "manifest.json"
GRAPH = "graph.txt"
PROVENANCE = "provenance.json"
WEIGHTS = "weights.safetensors"
# The members that a file may have, in this order.
NAMES = (MANIFEST, GRAPH, PROVENANCE, WEIGHTS)

_MAX32 = 0xFFFFFFFF
_DATE = 0x21  # 1980-01-01, the first day that a zip can say: equal graphs give equal files
_STORED_VERSION = 20
_ZIP64_VERSION = 45
_UNIX = 3 << 8
_MODE = 0o100644 << 16
_ZIP64 = 0x0001
_PADDING = 0xD935  # an extra field that holds zeros: data begins at a multiple of ALIGNMENT

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_LOCAL_FIELDS = (
    "signature",
    "version needed",
    "flags",
    "compression method",
    "time",
    "date",
    "CRC-32",
    "compressed size",
    "size",
    "length of the name",
    "length of the extra field",
)
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_CENTRAL_FIELDS = (
    "signature",
    "version made by",
    *_LOCAL_FIELDS[1:],
    "length of the comment",
    "disk",
    "internal attributes",
    "external attributes",
    "offset of the local header",
)
_END = struct.Struct("<4sHHHHIIH")
_END_FIELDS = (
    "signature",
    "disk",
    "disk of the central directory",
    "members on this disk",
    "members",
    "size of the central directory",
    "offset of the central directory",
    "length of the comment",
)
_END64 = struct.Struct("<4sQHHIIQQQQ")
_END64_FIELDS = (
    "signature",
    "size of the record",
    "version made by",
    "version needed",
    *_END_FIELDS[1:7],
)
_LOCATOR = struct.Struct("<4sIQI")
_LOCATOR_FIELDS = ("signature", "disk", "offset of the zip64 end record", "disks")
_EXTRA64 = struct.Struct("<HHQQ")


@dataclass(frozen=True, slots=True)
class Entry:
    """One member as the headers tell it: name, CRC-32 and size of its data in bytes."""

    name: str
    crc: int
    size: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a member lies: its local header, and its data right behind."""

    entry: Entry
    header_offset: int
    header: bytes

    @property
    def start(self) -> int:
        """The offset of the data."""
        return self.header_offset + len(self.header)

    @property
    def end(self) -> int:
        """The offset behind the data."""
        return self.start + self.entry.size


def layout(entries: Sequence[Entry]) -> tuple[list[Place], list[bytes], bytes]:
    """The places of the members, their records in the central directory, and the end records."""
    places: list[Place] = []
    offset = 0
    for entry in entries:
        places.append(Place(entry, offset, _local_header(entry, offset)))
        offset = places[-1].end
    directory = [_central_record(p) for p in places]
    return places, directory, _end_records(len(places), sum(map(len, directory)), offset)


def _local_header(entry: Entry, offset: int) -> bytes:
    large = entry.size >= _MAX32
    extra = _EXTRA64.pack(_ZIP64, 16, entry.size, entry.size) if large else b""
    name = entry.name.encode()
    padding = -(offset + _LOCAL.size + len(name) + len(extra) + 4) % ALIGNMENT
    extra += struct.pack("<HH", _PADDING, padding) + bytes(padding)
    size = min(entry.size, _MAX32)
    return (
        _LOCAL.pack(
            b"PK\3\4",
            _ZIP64_VERSION if large else _STORED_VERSION,
            0,
            0,
            0,
            _DATE,
            entry.crc,
            size,
            size,
            len(name),
            len(extra),
        )
        + name
        + extra
    )


def _central_record(place: Place) -> bytes:
    entry = place.entry
    large = entry.size >= _MAX32
    extra = _EXTRA64.pack(_ZIP64, 16, entry.size, entry.size) if large else b""
    name = entry.name.encode()
    size = min(entry.size, _MAX32)
    version = _ZIP64_VERSION if large else _STORED_VERSION
    return (
        _CENTRAL.pack(
            b"PK\1\2",
            _UNIX | version,
            version,
            0,
            0,
            0,
            _DATE,
            entry.crc,
            size,
            size,
            len(name),
            len(extra),
            0,
            0,
            0,
            _MODE,
            place.header_offset,
        )
        + name
        + extra
    )


def _end_records(count: int, size: int, offset: int) -> bytes:
    records = b""
    if offset >= _MAX32:
        records += _END64.pack(
            b"PK\6\6",
            _END64.size - 12,
            _UNIX | _ZIP64_VERSION,
            _ZIP64_VERSION,
            0,
            0,
            count,
            count,
            size,
            offset,
        )
        records += _LOCATOR.pack(b"PK\6\7", 0, offset + size, 1)
    return records + _END.pack(b"PK\5\6", 0, 0, count, count, size, min(offset, _MAX32), 0)


# -- reading --------------------------------------------------------------------------------------


def read_layout(data: memoryview) -> dict[str, Place]:
    """The members of a file by name. Raises FormatError where the file is not one that `layout`
    describes.
    """
    if len(data) < _END.size or bytes(data[:4]) not in (b"PK\3\4", b"PK\5\6"):
        refuse("the file", "the first bytes", bytes(data[:4]), "a zip's, b'PK\\x03\\x04'")
    end = _END.unpack(data[-_END.size :])
    count, size, offset = end[4], end[5], end[6]
    if end[0] != b"PK\5\6":
        refuse("end record", "signature", end[0], "b'PK\\x05\\x06' 22 bytes before the end")
    if not 0 < count <= len(NAMES):
        refuse("end record", "members", count, f"1 to {len(NAMES)}")
    tail = _END.size
    if offset == _MAX32:
        tail += _END64.size + _LOCATOR.size
    # The directory ends where the end records begin: its offset is checked below.
    start = len(data) - tail - size
    if start < 0:
        refuse("end record", "size of the central directory", size, f"at most {len(data) - tail}")
    entries = _read_directory(bytes(data[start : start + min(size, 4096)]), count, size)
    places, directory, records = layout(entries)
    for place in places:
        header = bytes(data[place.header_offset : place.header_offset + len(place.header)])
        _compare_local(place, header)
    if places[-1].end != start:
        refuse("the file", "bytes of its members", start, f"{places[-1].end} as the headers say")
    position = start
    for place, record in zip(places, directory, strict=True):
        found = bytes(data[position : position + len(record)])
        _compare(f"{place.entry.name}: central directory", _CENTRAL, _CENTRAL_FIELDS, found, record)
        position += len(record)
    if position - start != size:
        refuse("end record", "size of the central directory", size, str(position - start))
    _compare_end(bytes(data[position:]), records)
    return {place.entry.name: place for place in places}


def _read_directory(data: bytes, count: int, size: int) -> list[Entry]:
    entries: list[Entry] = []
    position = 0
    for _ in range(count):
        fixed = data[position : position + _CENTRAL.size]
        if len(fixed) < _CENTRAL.size:
            refuse("end record", "size of the central directory", size, f"{count} whole records")
        record = _CENTRAL.unpack(fixed)
        if record[0] != b"PK\1\2":
            refuse("central directory", "signature", record[0], "b'PK\\x01\\x02'")
        position += _CENTRAL.size
        raw = data[position : position + record[10]]
        last = entries[-1].name if entries else None
        allowed = NAMES[NAMES.index(last) + 1 :] if last else NAMES[:1]
        name = raw.decode("ascii", "backslashreplace")
        if name not in allowed:
            refuse("central directory", "member's name", name, f"one of {', '.join(allowed)}")
        position += len(raw)
        length = record[9]
        if length == _MAX32:
            extra = data[position : position + _EXTRA64.size]
            if len(extra) < _EXTRA64.size:
                refuse(f"{name}: central directory", "zip64 field", extra, "its 20 bytes")
            length = _EXTRA64.unpack(extra)[2]
            if length < _MAX32:
                refuse(f"{name}: central directory", "zip64 size", length, f"at least {_MAX32}")
        position += record[11] + record[12]
        entries.append(Entry(name, record[7], length))
    return entries


def _compare_local(place: Place, found: bytes) -> None:
    _compare(f"{place.entry.name}: local header", _LOCAL, _LOCAL_FIELDS, found, place.header)


def _compare_end(found: bytes, expected: bytes) -> None:
    if len(expected) > _END.size:
        split = _END64.size
        _compare("zip64 end record", _END64, _END64_FIELDS, found[:split], expected[:split])
        found, expected = found[split:], expected[split:]
        split = _LOCATOR.size
        _compare("zip64 locator", _LOCATOR, _LOCATOR_FIELDS, found[:split], expected[:split])
        found, expected = found[split:], expected[split:]
    _compare("end record", _END, _END_FIELDS, found, expected)


def _compare(
    where: str, record: struct.Struct, fields: Sequence[str], found: bytes, expected: bytes
) -> None:
    """Refuse a record that is not as it must be, by the name of its first field that differs."""
    if found == expected:
        return
    if len(found) < record.size:
        refuse(where, "length", len(found), f"at least {record.size} bytes")
    pairs = zip(record.unpack_from(found), record.unpack_from(expected), strict=True)
    for field, (came, wanted) in zip(fields, pairs, strict=True):
        if came != wanted:
            refuse(where, field, came, repr(wanted))
    rest, due = found[record.size :], expected[record.size :]
    place = next((k for k, (a, b) in enumerate(zip(rest, due)) if a != b), min(len(rest), len(due)))
    refuse(where, "name and extra field", rest[place : place + 8], repr(due[place : place + 8]))
