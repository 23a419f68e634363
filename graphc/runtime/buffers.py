"""Aligned memory of the CPU device (runtime, floor 7): single buffers, and the arena of a session.

Memory is uninitialised, 64-byte aligned, private to the process (a forked child gets its own copy)
and advised for huge pages where it is large.  Invariant: an arena only grows, and its address
changes only in `reserve`, which is never called while a compiled function runs in it.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import math
import mmap
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc.base.errors import DeviceError

_log = logging.getLogger("graphc.runtime")

ALIGNMENT = 64
_HUGE_PAGE = 2 << 20
_SHARED = 1 << 18  # bytes of an allocation for several arrays
_ADDRESS = 16  # bytes from the start of an array's struct to the address of its elements
_HUGE_FROM = _HUGE_PAGE  # its first touch costs a tenth of that of as many small pages

Bytes = npt.NDArray[np.uint8]


def allocate(size: int) -> Bytes:
    """`size` uninitialised bytes (at least 64, so that every buffer has an address of its own)."""
    size = max(size, ALIGNMENT)
    try:
        if size >= _HUGE_FROM and sys.platform == "linux":
            return _allocate_huge(size)
        raw = np.empty(size + ALIGNMENT, np.uint8)
    except (MemoryError, OSError, ValueError, OverflowError) as error:
        raise DeviceError(f"cannot allocate {size} bytes of memory: {error}") from error
    start = -address(raw) % ALIGNMENT
    return raw[start : start + size]


def _allocate_huge(size: int) -> Bytes:
    whole = size // _HUGE_PAGE * _HUGE_PAGE  # the rest has small pages: nothing is wasted
    length = size + _HUGE_PAGE
    # Private: Python's default is shared, and a forked child would then write into our memory.
    memory = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    raw: Bytes = np.frombuffer(memory, np.uint8)
    start = -address(raw) % _HUGE_PAGE
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            memory.madvise(mmap.MADV_HUGEPAGE, start, whole)
        except OSError as error:  # a kernel without transparent huge pages
            _log.debug("no huge pages: %s", error)
    return raw[start : start + size]


def address(array: npt.NDArray[Any]) -> int:
    """The address of an array's first element."""
    # `array.ctypes.data` costs ten times as much.
    return int(array.__array_interface__["data"][0])


def addresses(arrays: Sequence[npt.NDArray[Any]]) -> list[int]:
    """The addresses of many arrays: read from their structs, where that is known to work."""
    if not _address_is_third_word():
        return [address(array) for array in arrays]
    word = ctypes.c_size_t.from_address
    return [word(id(array) + _ADDRESS).value for array in arrays]


@functools.cache
def _address_is_third_word() -> bool:
    if sys.implementation.name != "cpython" or sys.maxsize < 1 << 32:
        return False
    known: list[npt.NDArray[Any]] = [np.empty(3, np.float32), np.empty((2, 4), np.int16).T]
    words = [ctypes.string_at(id(array) + _ADDRESS, 8) for array in known]
    return [int.from_bytes(word, sys.byteorder) for word in words] == [address(a) for a in known]


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """An uninitialised C-contiguous array in 64-byte aligned memory."""
    count = 1
    for length in shape:
        count *= length
    nbytes = count * dtype.itemsize
    return allocate(nbytes)[:nbytes].view(dtype).reshape(shape)


def empty_all(
    types: Sequence[tuple[tuple[int, ...], np.dtype[Any]]],
) -> list[tuple[npt.NDArray[Any], int]]:
    """Arrays as `empty` makes them, with their addresses; small ones share memory, so that a
    thousand variables take few allocations, and all share it where that fills huge pages.
    """
    found = []
    memory, start, at = allocate(0), 0, 0
    left = sum(math.prod(shape) * dtype.itemsize + ALIGNMENT for shape, dtype in types)
    # Memory that was used before comes without page faults: not much of it at once.
    share = left if left >= _HUGE_FROM else _SHARED
    for shape, dtype in types:
        size = math.prod(shape) * dtype.itemsize
        if not start or at + size > memory.nbytes:
            memory = allocate(max(size, min(left, share)))
            start, at = address(memory), 0
        found.append((memory[at : at + size].view(dtype).reshape(shape), start + at))
        at += -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
        left -= size + ALIGNMENT
    return found


class Arena:
    """Scratch memory that only grows, reused from call to call.

    `record` is what native code reads: int64 [address, capacity in bytes].
    """

    __slots__ = ("_memory", "record")

    def __init__(self, size: int = 0) -> None:
        self.record = np.zeros(2, np.int64)
        self._memory: Bytes | None = None
        self.reserve(size)

    @property
    def address(self) -> int:
        """Start of the arena."""
        return int(self.record[0])

    @property
    def capacity(self) -> int:
        """Bytes that may be used."""
        return int(self.record[1])

    def reserve(self, size: int) -> None:
        """Have at least `size` bytes; what was inside is lost where it grows."""
        if self._memory is not None and size <= self.capacity:
            return
        # Growing by at least a quarter: sizes that creep up do not allocate at every call.
        wanted = max(size, self.capacity + self.capacity // 4)
        self.record[:] = 0  # first of all: Ctrl-C must not leave the address of freed memory
        self._memory = None
        memory = allocate(wanted)
        self._memory = memory
        self.record[:] = address(memory), memory.nbytes
