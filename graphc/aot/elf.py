"""Reads sections and symbols of an object (floor 8): 64-bit little-endian ELF, nothing else.

The layout is that of the System V ABI, chapter 4 ("Object Files"). Invariant: whatever the bytes
say, no place outside of them is read; what does not fit raises FormatError.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from graphc.base.errors import FormatError, message

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMTAB, _STRTAB, _NOBITS = 2, 3, 8
_ALLOC, _EXECUTABLE = 2, 4
_FUNCTION, _OBJECT = 2, 1  # types of symbols
_FIRST_RESERVED = 0xFF00  # section numbers that name no section


@dataclass(frozen=True, slots=True)
class Section:
    """One section. size: in bytes; loaded: part of the running program; code: executable;
    stored: its bytes are in the file (not so for zeros).
    """

    name: str
    size: int
    loaded: bool
    code: bool
    stored: bool


@dataclass(frozen=True, slots=True)
class Symbol:
    """One function or object. section: its number; size: in bytes."""

    name: str
    section: int
    size: int
    function: bool


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the section table."""

    name: int
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    entry: int


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def part(self, offset: int, size: int, what: str) -> memoryview:
        if offset + size > len(self.content):
            raise _wrong(f"{what} ends at byte {offset + size} of {len(self.content)}")
        return memoryview(self.content)[offset : offset + size]

    def rows(self) -> tuple[list[_Row], int]:
        """The section table, and which section holds the names of sections."""
        if len(self.content) < _HEADER.size or self.content[:6] != b"\x7fELF\x02\x01":
            raise _wrong("it does not start as a 64-bit little-endian ELF file does")
        fields = _HEADER.unpack_from(self.content)
        start, size, count, names = fields[6], fields[11], fields[12], fields[13]
        if count and size != _SECTION.size:
            raise _wrong(f"an entry of its section table has {size} bytes, not {_SECTION.size}")
        table = self.part(start, count * _SECTION.size, "the section table")
        rows = [
            _Row(name, kind, flags, offset, size, link, entry)
            for name, kind, flags, _, offset, size, link, _, _, entry in _SECTION.iter_unpack(table)
        ]
        if count and names >= count:
            raise _wrong(f"section {names} of {count} should hold the names of sections")
        return rows, names

    def strings(self, rows: list[_Row], number: int) -> bytes:
        if number >= len(rows) or rows[number].kind != _STRTAB:
            raise _wrong(f"section {number} is no table of names")
        row = rows[number]
        return bytes(self.part(row.offset, row.size, "a table of names"))


def read_object(content: bytes) -> tuple[tuple[Section, ...], tuple[Symbol, ...]]:
    """All sections in order of their numbers, and all functions and objects with names of ours.

    Raises FormatError where the bytes are no whole 64-bit little-endian ELF object.
    """
    reader = _Reader(content)
    rows, number = reader.rows()
    if not rows:
        raise _wrong("it has no sections")
    names = reader.strings(rows, number)
    sections = []
    for row in rows:
        stored = row.kind != _NOBITS
        if stored and row.kind:  # section 0 is of no kind, and holds nothing
            reader.part(row.offset, row.size, "a section")
        loaded, code = bool(row.flags & _ALLOC), bool(row.flags & _EXECUTABLE)
        sections.append(Section(_name(names, row.name), row.size, loaded, code, stored))
    symbols: list[Symbol] = []
    for row in rows:
        if row.kind == _SYMTAB:
            symbols += _symbols(reader, rows, row)
    return tuple(sections), tuple(symbols)


def _symbols(reader: _Reader, rows: list[_Row], table: _Row) -> list[Symbol]:
    if table.entry != _SYMBOL.size or table.size % _SYMBOL.size:
        raise _wrong(f"a symbol has {table.entry} bytes, not {_SYMBOL.size}")
    names = reader.strings(rows, table.link)
    found = []
    entries = reader.part(table.offset, table.size, "the symbol table")
    for name, info, _, section, value, size in _SYMBOL.iter_unpack(entries):
        kind = info & 15
        if kind not in (_FUNCTION, _OBJECT) or not 0 < section < _FIRST_RESERVED:
            continue
        text = _name(names, name)
        if text.startswith("."):  # LLVM's own, such as the frame around globals that it has merged
            continue
        if section >= len(rows):
            raise _wrong(f"symbol {text!r} is in section {section} of {len(rows)}")
        if value + size > rows[section].size:  # in an object, a value is a place in the section
            raise _wrong(f"symbol {text!r} ends beyond its section")
        found.append(Symbol(text, section, size, kind == _FUNCTION))
    return found


def _name(names: bytes, at: int) -> str:
    end = names.find(b"\0", at)
    if at > len(names) or end < 0:
        raise _wrong(f"a name at byte {at} of a table of {len(names)} has no end")
    return names[at:end].decode(errors="replace")


def _wrong(what: str) -> FormatError:
    return FormatError(message(f"no ELF object that can be read: {what}", at=""))
