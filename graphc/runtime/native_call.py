"""Calling compiled code by address through ctypes (runtime, floor 7): simple, and works everywhere.

The native ABI of a program is
    i64 graphc_entry(ptr ctx, ptr buffers, ptr dims, ptr arena)   -> error site, 0 = ok
    i64 graphc_arena_bytes(ptr dims, i64 threads)
with 8-byte slots throughout; ctx has eight: [error site, parallel function or 0, threads, …]. The
call releases the interpreter's lock.  `caller` is what sessions use; this is what it falls back to.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from graphc.backend.context_slots import ARENA_END_SLOT as ARENA_END_SLOT
from graphc.backend.context_slots import FREE_SLOT as FREE_SLOT
from graphc.backend.context_slots import MORE_MEMORY as MORE_MEMORY

_ENTRY = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)
_ARENA_BYTES = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)


Slots = ctypes.Array[ctypes.c_int64]


def slots(values: Sequence[int]) -> Slots:
    """An array of 8-byte slots; one slot more than asked for, so that no array is empty."""
    return (ctypes.c_int64 * (len(values) + 1))(*values)


def call_entry(
    entry: int,
    buffers: Sequence[int] | Slots,
    dims: Sequence[int] | Slots,
    arena: int,
    context: int = 0,
) -> int:
    """Run the program at address `entry`. Returns the error site, 0 where all is well.

    buffers: data pointers of inputs, variables, outputs, updates, constants, in this order. The
    caller keeps all of them alive, and no other thread may run in the same arena meanwhile.
    context: the address of the context, 0 for a plain one with one thread. Programs that compute
    sizes write these, and where their outputs are, into `dims` and `buffers`.
    """
    if context:
        ctypes.c_int64.from_address(context).value = 0
    pointer = context or slots((0, 0, 1, 0, 0, 0, 0))
    return int(_ENTRY(entry)(pointer, _slots(buffers), _slots(dims), arena))


def call_arena_bytes(function: int, dims: Sequence[int] | Slots, threads: int) -> int:
    """Bytes of arena that a program needs at these sizes."""
    return int(_ARENA_BYTES(function)(_slots(dims), threads))


def _slots(values: Sequence[int] | Slots) -> Slots:
    return values if isinstance(values, ctypes.Array) else slots(values)
