"""Compile a program for this machine and call it through ctypes; shared by the back end's tests."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.backend import llvm_cpu
from graphc.backend.entry import ARENA_BYTES, ENTRY
from graphc.backend.program import BufferRef, Launch, Program
from graphc.base.dims import Symbol, symbols
from graphc.base.target import X86_BASELINE, X86_V3, X86_V4, X86_V4_VNNI, Target
from graphc.loops.nodes import Buffer, Kernel

DRIVER = llvm_cpu.driver()
HOST = DRIVER.host_target()
# Where VNNI is, plain v4 is left out: they differ in the dot products of words alone.
_LEVEL = [X86_BASELINE, X86_V3, X86_V4_VNNI if HOST is X86_V4_VNNI else X86_V4]
# Every target whose code this machine can run.
RUNNABLE = _LEVEL[: _LEVEL.index(HOST) + 1] if HOST in _LEVEL else [HOST]


class Native:
    """A program in memory."""

    def __init__(self, program: Program, target: Target) -> None:
        self.program = program
        self.text = llvm_cpu.emit_program_text(program, target)
        self.object: bytes = DRIVER.compile_object(self.text, target, verify=True)
        assert DRIVER.undefined_symbols(self.object) == ()
        self._loaded = DRIVER.load_object(self.object, (ENTRY, ARENA_BYTES))
        pointer = ctypes.c_void_p
        self._entry = ctypes.CFUNCTYPE(ctypes.c_int64, pointer, pointer, pointer, pointer)(
            self._loaded.address(ENTRY)
        )
        self._arena_bytes = ctypes.CFUNCTYPE(ctypes.c_int64, pointer, ctypes.c_int64)(
            self._loaded.address(ARENA_BYTES)
        )

    def __call__(
        self,
        arrays: Sequence[np.ndarray[Any, Any]],
        sizes: Mapping[str, int],
        parallel: int = 0,
        threads: int = 1,
    ) -> int:
        """Run on stored arrays in the order of the ABI; returns the error site."""
        assert all(a.flags.c_contiguous for a in arrays)
        context = (ctypes.c_int64 * 8)(0, parallel, threads)
        buffers = (ctypes.c_void_p * max(1, len(arrays)))(*(a.ctypes.data for a in arrays))
        values = [sizes[s.name] for s in self.program.symbols]
        dims = (ctypes.c_int64 * max(1, len(values)))(*values)
        arena = np.zeros(self._arena_bytes(dims, threads) + 64, np.uint8)
        start = -arena.ctypes.data % 64 + arena.ctypes.data
        return int(self._entry(context, buffers, dims, start))


def single(kernel: Kernel) -> Program:
    """A program of one kernel: read-only params are inputs, written ones outputs, in order."""
    return chain([kernel])


def chain(kernels: Sequence[Kernel]) -> Program:
    """Kernels one after another; a buffer object is the same memory in all of them."""
    written = {b for k in kernels for b in k.outputs}
    refs: dict[Buffer, BufferRef] = {}
    counts = {"input": 0, "output": 0}
    found: dict[Symbol, None] = {}
    for kernel in kernels:
        for buffer in kernel.params:
            found.update(dict.fromkeys(symbols(buffer.shape)))
            if buffer not in refs:
                kind = "output" if buffer in written else "input"
                refs[buffer] = BufferRef(kind, counts[kind])
                counts[kind] += 1
    launches = tuple(Launch(k, tuple(refs[b] for b in k.params)) for k in kernels)
    return Program(tuple(found), counts, launches)
