"""Memory for machine code (runtime, floor 7): map, fill, protect, unmap, through the C library.

Invariant: a page is writable or executable, never both (W^X).  Linux only.
"""

from __future__ import annotations

import ctypes
import mmap
import os

from graphc.base.errors import CompileError

_FAILED = ctypes.c_void_p(-1).value


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_long,
    )
    library.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    library.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return library


_libc = _library() if os.name == "posix" else None


def _require() -> ctypes.CDLL:
    if _libc is None:
        raise CompileError("code cannot be mapped on this system")
    return _libc


def map_pages(size: int) -> int:
    """The address of `size` writable zero bytes, private to this process."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address = _require().mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    if address is None or address == _FAILED:
        raise CompileError(f"cannot map {size} bytes for code: {os.strerror(ctypes.get_errno())}")
    return int(address)


def fill(address: int, image: bytes | bytearray) -> None:
    """Write an image into mapped pages."""
    ctypes.memmove(address, bytes(image) if isinstance(image, bytearray) else image, len(image))


def protect(address: int, size: int, *, execute: bool) -> None:
    """Make whole pages read-only, and executable where asked; afterwards nobody writes there.

    The kernel updates the instruction cache when pages become executable (arm64 included).
    """
    mode = mmap.PROT_READ | (mmap.PROT_EXEC if execute else 0)
    if size and _require().mprotect(address, size, mode):
        raise CompileError(f"cannot protect code memory: {os.strerror(ctypes.get_errno())}")


def unmap(address: int, size: int) -> None:
    """Give the pages back."""
    if _require().munmap(address, size):
        raise CompileError(f"cannot unmap code memory: {os.strerror(ctypes.get_errno())}")
