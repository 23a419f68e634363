"""The native function behind every compiled `Function` (runtime, floor 7).

One METH_FASTCALL function serves all programs: its `self` is a tuple whose first item is a
*record*, an int64 array that says what to check and what to call (`caller.py` writes it).  The
function checks each argument's array struct (exact type, dtype, flags, dims), binds the symbols,
allocates the outputs, runs the program and commits the variables.  Whatever does not fit goes to
the record's fallback, a Python function.
Invariants: nothing is written before all checks have passed; the session's lock word is held from
the first check to the commit, and no Python code can run in between.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import logging
import re
import sys
import threading
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from graphc.base.errors import CompileError
from graphc.runtime.cache import ObjectCache
from graphc.runtime.entry_checks_text import CHECKS
from graphc.runtime.native_call import ARENA_END_SLOT, FREE_SLOT, MORE_MEMORY
from graphc.runtime.object_loader import LoadedObject
from graphc.runtime.output_memory import EXTERNALS, OutputMemory, memory_text
from graphc.runtime.python_entry_text import TEXT
from graphc.runtime.support_code import load_support_code

_log = logging.getLogger("graphc.runtime")


class Slot(IntEnum):
    """The places of a record."""

    ENTRY = 0  # graphc_entry
    ARENA_BYTES = 1  # graphc_arena_bytes
    ARENA = 2  # -> [address, capacity]
    LOCK = 3  # -> the session's lock word
    CONTEXT = 4  # -> [error site, parallel, threads]
    ARGUMENTS = 5  # number of arguments
    ARGUMENT_TABLE = 6  # per argument: dtype, flags, ndim, -> dims, buffer slot, item's bytes
    SYMBOLS = 7
    SYMBOL_TABLE = 8  # per symbol: min, max, multiple
    CHECKS = 9
    CHECK_TABLE = 10  # per check: argument, dim, -> code of the size that it must have
    OUTPUTS = 11
    OUTPUT_TABLE = 12  # per output: dtype, ndim, -> dims, buffer slot, item's bytes
    GIVEN = 13  # 1: the last arguments are the outputs
    BUFFERS = 14  # -> data pointers
    DIMS = 15  # -> values of the symbols
    CELLS = 16
    CELL_TABLE = (
        17  # per variable: -> [current, spare], buffer slot, buffer slot of its new value or -1
    )
    RESULTS = 18  # -> room for one object pointer per output
    SHAPE = 19  # -> room for one shape
    KIND = 20  # of result: 0 None, 1 the only output, 2 a tuple
    WORK = 21  # -> code of the work in scalar operations
    RELEASE = 22  # from this work on the interpreter's lock is released
    FALLBACK = (
        23  # called with the same arguments where they do not fit; 0: return a Refusal instead
    )
    ON_ERROR = 24  # called with the error site; raises. 0: the fallback runs again and raises
    NEEDED = 25  # bytes of arena that the program asked for
    SHUT = 26  # -> a word that is not 0 when the session is closed


class Refusal(IntEnum):
    """Why a record without fallback did not run."""

    ARGUMENTS = 1
    BUSY = 2
    ARENA = 3
    SHUT = 4


class Code(IntEnum):
    """Instructions of size expressions, for a stack machine of 64 places."""

    END = 0
    CONSTANT = 1
    SYMBOL = 2
    ADD = 3
    MULTIPLY = 4
    DIVIDE = 5  # floor


class DimKind(IntEnum):
    """What a dim of an argument or output is."""

    FIXED = 0  # a
    BIND = 1  # symbol a = (length - c) / b, exactly
    SYMBOL = 2  # symbol a, bound before
    CODE = 3  # of an argument: checked by CHECK_TABLE; of an output: code at a


CODE_STACK = 64
METHOD_FLAGS = 0x0080 | 0x0002  # METH_FASTCALL | METH_KEYWORDS
C_CONTIGUOUS, ALIGNED, WRITEABLE = 0x0001, 0x0100, 0x0400
_NUMPY_ABI = 0x02000000
# Places in NumPy's table of C functions, fixed by its ABI.
_NUMPY_API = {"PyArray_NewFromDescr": 94, "PyDataMem_SetHandler": 304}

_API = (
    "PyObject_Vectorcall",
    "PyTuple_New",
    "PyTuple_Size",
    "PyLong_FromLongLong",
    "Py_IncRef",
    "Py_DecRef",
    "PyEval_SaveThread",
    "PyEval_RestoreThread",
)


@dataclass(frozen=True, slots=True)
class ObjectLayout:
    """Offsets in the structs of this interpreter and this NumPy."""

    items: int  # of a tuple
    type: int = 8
    data: int = 16
    ndim: int = 24
    shape: int = 32
    descr: int = 56
    flags: int = 64


def object_layout() -> ObjectLayout | None:
    """The offsets, each checked against live objects; None where anything is not as expected."""
    if sys.implementation.name != "cpython" or sys.maxsize < 1 << 32:
        return None
    if "t" in getattr(sys, "abiflags", ""):  # free-threaded: another header, no lock to rely on
        return None
    pair = (object(), object())
    words = np.frombuffer(ctypes.string_at(id(pair), pair.__sizeof__()), np.int64).tolist()
    if words[-2:] != [id(pair[0]), id(pair[1])] or words[1] != id(tuple):
        return None
    layout = ObjectLayout(items=8 * (len(words) - 2))
    for array in (
        np.empty((3, 5), np.float32),
        np.empty((2, 4), np.int16).T,
        np.zeros(7, np.bool_)[::2],
    ):
        raw = ctypes.string_at(id(array), layout.flags + 4)

        def word(offset: int, raw: bytes = raw) -> int:
            return int.from_bytes(raw[offset : offset + 8], "little")

        shape = np.frombuffer(
            ctypes.string_at(word(layout.shape), 8 * array.ndim), np.int64
        ).tolist()
        expected = {
            layout.type: id(np.ndarray),
            layout.data: array.__array_interface__["data"][0],
            layout.descr: id(array.dtype),
        }
        found = int.from_bytes(raw[layout.flags : layout.flags + 4], "little")
        ndim = int.from_bytes(raw[layout.ndim : layout.ndim + 4], "little")
        if any(word(offset) != value for offset, value in expected.items()) or ndim != array.ndim:
            return None
        if shape != list(array.shape) or (found & 0x0FFF) != array.flags.num & 0x0FFF:
            return None
    return layout


def _names(layout: ObjectLayout) -> dict[str, int]:
    """What `$NAME` stands for in the entry's text, for these struct offsets."""
    return {
        "CODE_STACK": CODE_STACK,
        "END": int(Code.END),
        "SYMBOL": int(Code.SYMBOL),
        "CONSTANT": int(Code.CONSTANT),
        "ADD": int(Code.ADD),
        "MULTIPLY": int(Code.MULTIPLY),
        "FIXED": int(DimKind.FIXED),
        "BIND": int(DimKind.BIND),
        "SYMBOL_DIM": int(DimKind.SYMBOL),
        "CODE": int(DimKind.CODE),
        "REFUSE_ARGUMENTS": int(Refusal.ARGUMENTS),
        "REFUSE_BUSY": int(Refusal.BUSY),
        "REFUSE_ARENA": int(Refusal.ARENA),
        "REFUSE_SHUT": int(Refusal.SHUT),
        "ARENA_END_SLOT": ARENA_END_SLOT,
        "FREE_SLOT": FREE_SLOT,
        "MORE_MEMORY": MORE_MEMORY,
        "NEEDED": int(Slot.NEEDED),
        "TYPE": layout.type,
        "DATA": layout.data,
        "NDIM": layout.ndim,
        "SHAPE_OF": layout.shape,
        "DESCR": layout.descr,
        "FLAGS": layout.flags,
        "ITEMS": layout.items,
    }


# Short forms of the entry's text, a line each: a load from the record, from a table row, from an
# object's struct. What they become is `_LOAD` of their groups (name, base, index, kind) and a unit.
_SHORT = (
    (r"^  %(\w+) = (slot) (\w+) (\w+)$", "i64"),
    (r"^  %(\w+) = item %(\w+) (\d+) (\w+)$", "i64"),
    (r"^  %(\w+) = field %(\w+) (\d+) (\w+)$", "i8"),
)
_LOAD = """\
  %{name}.at = getelementptr {unit}, ptr %{base}, i64 {index}
  %{name} = load {kind}, ptr %{name}.at"""


def _entry_source(layout: ObjectLayout) -> str:
    """All that the entry's text depends on: writing the text takes a millisecond, which a start
    from the cache saves.
    """
    slots = [(slot.name, int(slot)) for slot in Slot]
    parts = (TEXT, CHECKS, _SHORT, _LOAD, _names(layout), slots, memory_text())
    return "".join(map(str, parts))


def entry_text(layout: ObjectLayout) -> str:
    """The LLVM text of the entry for these struct offsets."""
    names = _names(layout)
    text = re.sub(r"\$([A-Z_]+)", lambda match: str(names[match[1]]), TEXT + CHECKS)
    for form, unit in _SHORT:
        text = re.sub(form, functools.partial(_load, unit), text, flags=re.MULTILINE)
    return text


def _load(unit: str, found: re.Match[str]) -> str:
    name, base, index, kind = found.groups()
    place = Slot[index] if base == "slot" else int(index)
    base = "record" if base == "slot" else base
    return _LOAD.format(name=name, unit=unit, base=base, index=int(place), kind=kind)


def load_entry(cache: ObjectCache) -> LoadedObject:
    """The entry in memory. Raises CompileError where this Python or NumPy is not a known one."""
    layout = object_layout()
    if layout is None:
        raise CompileError("the structs of this Python or NumPy are laid out in an unknown way")
    externals = {name: _address_of(getattr(ctypes.pythonapi, name)) for name in _API}
    externals |= {name: _numpy_function(place) for name, place in _NUMPY_API.items()}
    process = ctypes.CDLL(None)
    externals |= {name: _address_of(getattr(process, name)) for name in EXTERNALS}
    externals["ndarray_type"] = id(np.ndarray)
    externals["none"] = id(None)
    return load_support_code(
        _entry_source(layout), externals, cache, lambda: entry_text(layout) + memory_text()
    )


_shared: list[LoadedObject | None] = []
_memory: list[OutputMemory] = []
_shared_lock = threading.Lock()


def shared_entry(cache: ObjectCache) -> LoadedObject | None:
    """The entry of the process, loaded at the first call; None where calls go through Python."""
    with _shared_lock:
        if not _shared:
            try:
                entry = load_entry(cache)
                _memory.append(OutputMemory(entry))
                _shared.append(entry)
            except (AttributeError, CompileError) as error:
                _log.warning("graphc calls compiled functions the slow way: %s", error)
                _shared.append(None)
        return _shared[0]


def output_memory() -> OutputMemory | None:
    """The memory of large results; None where calls go through Python or none was made yet."""
    return _memory[0] if _memory else None


def _address_of(function: ctypes._NamedFuncPointer) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _numpy_function(index: int) -> int:
    """A function of NumPy's C interface by its place in the table that extension modules use."""
    module = importlib.import_module("numpy._core._multiarray_umath")
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    prototype = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    table = prototype(_address_of(pointer_of))(module._ARRAY_API, None)
    functions = (ctypes.c_void_p * (index + 1)).from_address(table)
    version = ctypes.CFUNCTYPE(ctypes.c_uint)(functions[0] or 0)()
    if version != _NUMPY_ABI or functions[2] != id(np.ndarray):
        raise CompileError(f"NumPy's C interface is {version:#x}, known is {_NUMPY_ABI:#x}")
    return int(functions[index] or 0)
