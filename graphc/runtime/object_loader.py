"""Loads relocatable ELF objects of our own making into memory, without LLVM (runtime, floor 7).

A program found in the object cache must not pay for importing a 179 MB library.  LLVM's code for
our modules uses few relocations, so linking is small: read sections and symbols, place the
sections in one mapping (code, constants, data), relocate with vectorised arithmetic, write, then
protect.
Invariants: no page is writable and executable at once; every offset is checked against the file,
every value against its field; an object that needs anything unknown raises CompileError and
nothing is mapped.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc.base.errors import CompileError
from graphc.runtime import code_memory
from graphc.runtime.relocations import MACHINES, Machine, Reference

Records = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

_HEADER = struct.Struct("<4s3B9xHHIQQQIHHHHHH")
_SECTION = np.dtype(
    "u4,u4,u8,u8,u8,u8,u4,u4,u8,u8"  # name type flags addr offset size link info align entsize
)
_SECTION.names = (
    "name",
    "type",
    "flags",
    "addr",
    "offset",
    "size",
    "link",
    "info",
    "align",
    "entsize",
)
_SYMBOL = np.dtype("u4,u1,u1,u2,u8,u8")
_SYMBOL.names = ("name", "info", "other", "section", "value", "size")
_RELA = np.dtype("u8,u4,u4,i8")
_RELA.names = ("offset", "type", "symbol", "addend")

_RELOCATABLE = 1
_SYMTAB, _RELA_SECTION, _NOBITS, _NOTE, _REL_SECTION = 2, 4, 8, 7, 9
_INIT_TYPES = frozenset((14, 15, 16))  # functions to be run at load and unload
_WRITE, _ALLOC, _EXEC, _TLS = 1, 2, 4, 0x400
_UNDEFINED, _ABSOLUTE, _RESERVED = 0, 0xFFF1, 0xFF00
_GLOBAL, _WEAK = 1, 2
_CODE, _CONSTANT, _DATA, _NOT_LOADED = 0, 1, 2, 3
_LARGEST = 1 << 30  # everything must be within reach of a 32-bit displacement


@dataclass(eq=False, repr=False)  # each further method would cost import time
class Layout:
    """An object that was read and placed, ready to be linked at any address.

    The image is code in [0, constants), constants up to data, data up to size: whole pages.
    `offsets`: each section's place in the image, -1 where it is not loaded.
    `sites`: what to relocate: image offset, type, symbol number, addend.
    """

    file: bytes
    machine: Machine
    sections: Records
    symbols: Records
    strings: bytes
    offsets: Ints
    sites: Records
    stub_symbols: Ints
    stubs: int
    slot_symbols: Ints
    slots: int
    constants: int
    data: int
    size: int


class LoadedObject:
    """Code in memory. It stays mapped as long as this object lives."""

    __slots__ = ("__weakref__", "_addresses", "base", "size")

    def __init__(self, base: int, size: int, addresses: Mapping[str, int]) -> None:
        self.base = base
        self.size = size
        self._addresses = addresses

    def address(self, symbol: str) -> int:
        """The address of a global symbol. Raises CompileError where the object has no such."""
        found = self._addresses.get(symbol)
        if found is None:
            raise CompileError(
                f"the object defines no symbol {symbol!r}; it has {sorted(self._addresses)}"
            )
        return found


def load(
    data: bytes, externals: Mapping[str, int] | None = None, *, permanent: bool = False
) -> LoadedObject:
    """Map an object into this process.

    externals: addresses of the symbols that it does not define. permanent: never unmap it.
    """
    if sys.platform != "linux" or sys.byteorder != "little":
        raise CompileError(f"the object loader serves little-endian Linux, not {sys.platform}")
    layout = read(data)
    if layout.machine.name != os.uname().machine:
        raise CompileError(
            f"the object is for {layout.machine.name}, this machine is {os.uname().machine}"
        )
    base = code_memory.map_pages(layout.size)
    try:
        code_memory.fill(base, link(layout, base, externals or {}))
        code_memory.protect(base, layout.constants, execute=True)
        code_memory.protect(base + layout.constants, layout.data - layout.constants, execute=False)
    except BaseException:
        code_memory.unmap(base, layout.size)
        raise
    loaded = LoadedObject(base, layout.size, addresses(layout, base))
    if not permanent:
        # Not at exit: threads of the pool may still be on their way out of this code.
        weakref.finalize(loaded, code_memory.unmap, base, layout.size).atexit = False
    return loaded


# -- reading --------------------------------------------------------------------------------------


def read(data: bytes) -> Layout:
    """Read and place an object. Raises CompileError for anything malformed or not understood."""
    machine, sections = _read_sections(data)
    symbols, strings = _read_symbols(data, sections)
    groups = _groups(sections)
    sites, owners = _read_relocations(data, sections, groups, machine, len(symbols))

    undefined = symbols["section"] == _UNDEFINED
    stub_symbols = _symbols_of(sites, machine, Reference.CALL)
    stub_symbols = stub_symbols[undefined[stub_symbols]]
    slot_symbols = _symbols_of(sites, machine, Reference.GOT)

    # The stubs follow the code, the table of addresses the constants: both end as read-only.
    offsets = np.full(len(sections), -1, np.int64)
    stubs = _up(_place(sections, groups, _CODE, 0, offsets), 16)
    constants = _up(stubs + len(stub_symbols) * len(machine.stub(0)), mmap.PAGESIZE)
    slots = _up(_place(sections, groups, _CONSTANT, constants, offsets), 16)
    data_start = _up(slots + 8 * len(slot_symbols), mmap.PAGESIZE)
    size = _up(_place(sections, groups, _DATA, data_start, offsets), mmap.PAGESIZE) or mmap.PAGESIZE
    sites["offset"] += offsets[owners].astype(np.uint64)
    return Layout(
        file=data,
        machine=machine,
        sections=sections,
        symbols=symbols,
        strings=strings,
        offsets=offsets,
        sites=sites,
        stub_symbols=stub_symbols,
        stubs=stubs,
        slot_symbols=slot_symbols,
        slots=slots,
        constants=constants,
        data=data_start,
        size=size,
    )


def _read_sections(data: bytes) -> tuple[Machine, Records]:
    if len(data) < _HEADER.size:
        raise CompileError(f"an object of {len(data)} bytes is too short to be ELF")
    magic, width, order, _, kind, number, _, _, _, start, _, _, _, _, entry, count, _ = (
        _HEADER.unpack_from(data)
    )
    if magic != b"\x7fELF" or (width, order) != (2, 1) or kind != _RELOCATABLE:
        raise CompileError("not a relocatable 64-bit little-endian ELF object")
    if number not in MACHINES:
        raise CompileError(
            f"the object is for ELF machine {number}, the loader knows {sorted(MACHINES)}"
        )
    if entry != _SECTION.itemsize or count == 0:
        raise CompileError("the object has no readable section table")
    sections = _records(data, start, count * entry, _SECTION)
    in_file = sections[sections["type"] != _NOBITS]
    if np.any(in_file["offset"] > len(data)) or np.any(in_file["size"] > len(data)):
        raise CompileError("a section of the object reaches beyond the file")
    if np.any(in_file["offset"] + in_file["size"] > len(data)):
        raise CompileError("a section of the object reaches beyond the file")
    if int(np.minimum(sections["size"], _LARGEST).sum()) >= _LARGEST:
        raise CompileError(f"the object needs more than {_LARGEST} bytes of memory")
    loaded = sections[(sections["flags"] & _ALLOC) != 0]
    if np.any(loaded["flags"] & _TLS) or _INIT_TYPES.intersection(loaded["type"].tolist()):
        raise CompileError(
            "thread-local data and load-time functions are not supported by the loader"
        )
    align = np.maximum(loaded["align"], 1)
    if np.any(align > mmap.PAGESIZE) or np.any(align & (align - np.uint64(1))):
        raise CompileError("a section of the object has an alignment that the loader cannot give")
    return MACHINES[number], sections


def _records(data: bytes, start: int, size: int, dtype: np.dtype[Any]) -> Records:
    if start > len(data) or size > len(data) - start or size % dtype.itemsize:
        raise CompileError("a table of the object reaches beyond the file")
    return np.frombuffer(data, dtype, size // dtype.itemsize, start)


def _read_symbols(data: bytes, sections: Records) -> tuple[Records, bytes]:
    tables = sections[sections["type"] == _SYMTAB]
    if len(tables) != 1 or tables[0]["link"] >= len(sections):
        raise CompileError("the object must have one symbol table")
    symbols = _records(data, int(tables[0]["offset"]), int(tables[0]["size"]), _SYMBOL)
    text = sections[tables[0]["link"]]
    strings = data[int(text["offset"]) : int(text["offset"]) + int(text["size"])]
    numbers = symbols["section"]
    special = (numbers >= _RESERVED) & (numbers != _ABSOLUTE)
    if np.any(special) or np.any((numbers >= len(sections)) & (numbers < _RESERVED)):
        raise CompileError("a symbol of the object is in a section that the loader does not know")
    inside = numbers < _RESERVED
    beyond = symbols["value"][inside] > sections["size"][numbers[inside]]
    if np.any(beyond & (numbers[inside] != _UNDEFINED)):
        raise CompileError("a symbol of the object lies outside its section")
    if np.any(symbols["name"] >= max(len(strings), 1)):
        raise CompileError("a symbol name of the object lies outside its table")
    return symbols, strings


def _groups(sections: Records) -> Ints:
    """Per section: code, constants, data, or not loaded."""
    flags = sections["flags"]
    groups = np.full(len(sections), _CONSTANT, np.int64)
    groups[(flags & _WRITE) != 0] = _DATA
    groups[(flags & _EXEC) != 0] = _CODE
    # Unwind tables are for exceptions, which our code never raises.
    unwind = (sections["type"] == 0x70000001) | (sections["type"] == _NOTE)
    groups[((flags & _ALLOC) == 0) | unwind] = _NOT_LOADED
    if np.any(((flags & (_WRITE | _EXEC)) == (_WRITE | _EXEC)) & (groups != _NOT_LOADED)):
        raise CompileError("a section of the object is writable and executable at once")
    return groups


def _place(sections: Records, groups: Ints, group: int, start: int, offsets: Ints) -> int:
    """Give the sections of one group their offsets from `start` on; returns the end."""
    for index in np.flatnonzero(groups == group):
        start = _up(start, max(1, int(sections["align"][index])))
        offsets[index] = start
        start += int(sections["size"][index])
    return start


def _read_relocations(
    data: bytes, sections: Records, groups: Ints, machine: Machine, symbols: int
) -> tuple[Records, Ints]:
    """Every relocation of a loaded section, offset within the section, and the section numbers."""
    found: list[Records] = [np.empty(0, _RELA)]
    owners: list[Ints] = [np.empty(0, np.int64)]
    for section in sections[
        (sections["type"] == _RELA_SECTION) | (sections["type"] == _REL_SECTION)
    ]:
        owner = int(section["info"])
        if owner >= len(sections):
            raise CompileError("relocations of the object belong to no section")
        if groups[owner] == _NOT_LOADED:
            continue
        if section["type"] == _REL_SECTION or sections["type"][owner] == _NOBITS:
            raise CompileError("the object has relocations of a kind that the loader does not read")
        records = _records(data, int(section["offset"]), int(section["size"]), _RELA).copy()
        for number in _distinct(records["type"]):
            relocation = machine.relocations.get(number)
            if relocation is None:
                raise CompileError(
                    f"relocation type {number} of {machine.name} is unknown to the loader"
                )
            limit = int(sections["size"][owner]) - relocation.width
            if (
                np.any(records["offset"][records["type"] == number].astype(np.int64) > limit)
                or limit < 0
            ):
                raise CompileError("a relocation of the object lies outside its section")
        if np.any(records["offset"] >= _LARGEST) or np.any(records["symbol"] >= symbols):
            raise CompileError("a relocation of the object is out of range")
        found.append(records)
        owners.append(np.full(len(records), owner, np.int64))
    return np.concatenate(found), np.concatenate(owners)


def _symbols_of(sites: Records, machine: Machine, reference: Reference) -> Ints:
    found: set[int] = set()
    for number in _distinct(sites["type"]):
        if machine.relocations[number].reference is reference:
            found.update(sites["symbol"][sites["type"] == number].tolist())
    return np.array(sorted(found), np.int64)


def _distinct(values: Records) -> list[int]:
    # numpy.unique would import numpy.ma: ten milliseconds of a start from the cache.
    return sorted(set(values.tolist()))


def _up(value: int, to: int) -> int:
    return -(-value // to) * to


# -- linking --------------------------------------------------------------------------------------


def link(layout: Layout, base: int, externals: Mapping[str, int]) -> bytes:
    """The image's bytes for the address `base`."""
    image = np.zeros(layout.size, np.uint8)
    file = np.frombuffer(layout.file, np.uint8)
    for section, offset in zip(layout.sections, layout.offsets, strict=True):
        if offset >= 0 and section["type"] != _NOBITS:
            start, size = int(section["offset"]), int(section["size"])
            image[offset : offset + size] = file[start : start + size]

    values, defined = _symbol_values(layout, base, externals)
    stub_of, slot_of = values.copy(), np.zeros_like(values)
    step = len(layout.machine.stub(0))
    for k, symbol in enumerate(layout.stub_symbols):
        start = layout.stubs + k * step
        image[start : start + step] = np.frombuffer(
            layout.machine.stub(int(values[symbol])), np.uint8
        )
        stub_of[symbol] = base + start
    slots = layout.slots + 8 * np.arange(len(layout.slot_symbols))
    image[layout.slots : layout.slots + 8 * len(slots)] = values[layout.slot_symbols].view(np.uint8)
    slot_of[layout.slot_symbols] = base + slots

    missing = np.flatnonzero(~defined[layout.sites["symbol"]])
    if missing.size:
        name = _name(layout, int(layout.sites["symbol"][missing[0]]))
        raise CompileError(f"the object needs the symbol {name!r}, which nothing defines")
    chosen = {Reference.ADDRESS: values, Reference.CALL: stub_of, Reference.GOT: slot_of}
    for number in _distinct(layout.sites["type"]):
        relocation = layout.machine.relocations[number]
        sites = layout.sites[layout.sites["type"] == number]
        target = chosen[relocation.reference][sites["symbol"]] + sites["addend"]
        place = sites["offset"].astype(np.int64)
        where = place[:, None] + np.arange(relocation.width)
        words = np.zeros((len(sites), 8), np.uint8)
        words[:, : relocation.width] = image[where]
        try:
            new = relocation.patch(words.view("<i8")[:, 0], target, place + base)
        except OverflowError as error:
            raise CompileError(
                f"relocation type {number} of {layout.machine.name}: {error}"
            ) from error
        image[where] = new.astype("<i8").view(np.uint8).reshape(-1, 8)[:, : relocation.width]
    return image.tobytes()


def _symbol_values(
    layout: Layout, base: int, externals: Mapping[str, int]
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Every symbol's address, and whether it has one."""
    numbers = layout.symbols["section"]
    in_section = (numbers != _UNDEFINED) & (numbers != _ABSOLUTE)
    start = layout.offsets[np.where(in_section, numbers, 0)]
    values = layout.symbols["value"].astype(np.int64)
    values[in_section] += base + start[in_section]
    defined = np.where(in_section, start >= 0, numbers == _ABSOLUTE)
    for symbol in np.flatnonzero(numbers == _UNDEFINED):
        external = externals.get(_name(layout, int(symbol)))
        if external is not None and symbol:
            values[symbol] = external
            defined[symbol] = True
    return values, defined


def _name(layout: Layout, symbol: int) -> str:
    start = int(layout.symbols["name"][symbol])
    end = layout.strings.find(b"\0", start)
    return layout.strings[start : end if end >= 0 else None].decode(errors="replace")


def addresses(layout: Layout, base: int) -> dict[str, int]:
    """The addresses of the global symbols that the object defines."""
    values, defined = _symbol_values(layout, base, {})
    binding = layout.symbols["info"] >> 4
    exported = np.flatnonzero(defined & ((binding == _GLOBAL) | (binding == _WEAK)))
    return {_name(layout, int(symbol)): int(values[symbol]) for symbol in exported}
