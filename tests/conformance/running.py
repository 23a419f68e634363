"""Compiled graphs called at the lowest level, in memory that shows every stray access.

Each array ends where a page begins that nobody may touch, so that reading or writing one element
too many ends the process; bytes before each result must stay as they were. Arrays are aligned to
their element size and no better.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc.base.dims import evaluate, symbols
from graphc.base.dtypes import Array, DType, from_storage, to_storage
from graphc.base.target import TARGETS, Target
from graphc.compiler import Compilation
from graphc.ir.evaluate import bind_feeds
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.runtime.cache import ObjectCache
from graphc.runtime.cpu_device import CpuDevice
from graphc.runtime.executable import CompileOptions
from graphc.runtime.native_call import (
    ARENA_END_SLOT,
    FREE_SLOT,
    MORE_MEMORY,
    Slots,
    call_arena_bytes,
    call_entry,
    slots,
)
from graphc.runtime.thread_pool import shared_pool

DEVICE = CpuDevice(1)
HOST = DEVICE.target
# Where VNNI is, plain v4 is left out: they differ in the dot products of words alone.
_VNNI = TARGETS["x86-64-v4-vnni"]
_X86 = [TARGETS["x86-64"], TARGETS["x86-64-v3"], _VNNI if HOST is _VNNI else TARGETS["x86-64-v4"]]
# Every target whose code this machine can run.
RUNNABLE = _X86[: _X86.index(HOST) + 1] if HOST in _X86 else [HOST]

_PAGE = mmap.PAGESIZE
_MARGIN = 64  # bytes before a result that must stay as they are
_MARK = 0xA5
_libc = ctypes.CDLL(None, use_errno=True)


class GuardedMemory:
    """Arrays whose end touches a page without access; marked bytes lie before them.

    Regions are used again: mapping and protecting costs more than a kernel.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[mmap.mmap]] = {}
        self._used: list[tuple[int, mmap.mmap]] = []

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Uninitialised: its bytes are all 0xFF, which is NaN, -1 and true."""
        size = int(np.prod(shape)) * dtype.itemsize
        pages = -(-(size + _MARGIN) // _PAGE)
        free = self._free.setdefault(pages, [])
        memory = free.pop() if free else _map(pages)
        self._used.append((pages, memory))
        start = pages * _PAGE - size
        everything = np.frombuffer(memory, np.uint8)
        everything[start - _MARGIN : start] = _MARK
        everything[start : start + size] = 0xFF
        return np.ndarray(shape, dtype, memory, start)

    def release(self) -> None:
        """All arrays made so far are given back."""
        for pages, memory in self._used:
            self._free[pages].append(memory)
        self._used.clear()


def _map(pages: int) -> mmap.mmap:
    memory = mmap.mmap(-1, (pages + 1) * _PAGE)
    last = ctypes.c_void_p(np.frombuffer(memory, np.uint8).ctypes.data + pages * _PAGE)
    if _libc.mprotect(last, ctypes.c_size_t(_PAGE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    return memory


def margin_is_whole(array: Array) -> bool:
    """Whether the bytes before a guarded array are untouched."""
    before = (ctypes.c_uint8 * _MARGIN).from_address(array.ctypes.data - _MARGIN)
    return bytes(before) == bytes([_MARK]) * _MARGIN


_MEMORY = GuardedMemory()


class Compiled:
    """A graph compiled for a target, called with feeds as `Graph.evaluate` is."""

    def __init__(
        self,
        graph: Graph,
        *,
        optimize: bool,
        numerics: str,
        target: Target = HOST,
        fuse: bool = True,
    ) -> None:
        options = CompileOptions(numerics=numerics, optimize=optimize, fuse=fuse)
        self.graph = graph
        self.compilation = Compilation(graph, options, target)
        self._program = DEVICE.load(self.compilation.object())

    def __call__(self, feeds: Mapping[Any, Any], threads: int = 1) -> dict[str, Array]:
        """The outputs, and the updates as "update:" + name, in reference form.

        Raises AssertionError for an error site or a write before a result.
        """
        graph = self.graph
        values, sizes = bind_feeds(graph, feeds)

        def place(value: Array) -> Array:
            array = _MEMORY.array(value.shape, value.dtype)
            array[...] = value
            return array

        def result(t: Tensor) -> Array | None:
            if any(s in graph.computed for s in symbols(t.shape)):
                return None  # the program says where it is
            shape = tuple(evaluate(n, sizes) for n in t.shape)
            return _MEMORY.array(shape, t.dtype.storage)

        inputs = [place(to_storage(values[id(t)], t.dtype)) for _, t in graph.inputs]
        variables = [place(v.attr("value").stored) for v in graph.variables]
        outputs = [result(t) for _, t in graph.outputs]
        updates = [result(t) for _, t in graph.updates]
        constants = [place(c.stored) for c in self.compilation.lowered.plan.constants]
        further = len(graph.computed) + self.compilation.lowered.blocks
        dims = slots([sizes[s.name] for s in graph.symbols] + [0] * further)
        buffers = [*inputs, *variables, *outputs, *updates, *constants]
        pointers = slots([0 if a is None else a.ctypes.data for a in buffers])
        arena = self._run(pointers, dims, threads)
        known = sizes | {s.name: dims[len(graph.symbols) + k] for k, s in enumerate(graph.computed)}
        found: dict[str, Array] = {}
        for k, ((name, t), array) in enumerate(zip(graph.outputs, outputs, strict=True)):
            if array is None:
                start = pointers[len(inputs) + len(variables) + k] - arena.ctypes.data
                array = _read(arena, start, t, known)
            found[name] = _reference_form(array, t.dtype)
        for (v, t), array in zip(graph.updates, updates, strict=True):
            found[f"update:{graph.name_of(v)}"] = _reference_form(array, t.dtype)
        whole = all(margin_is_whole(a) for a in buffers if a is not None)
        assert whole, "bytes before an array were changed"
        _MEMORY.release()
        return found

    def _run(self, pointers: Slots, dims: Slots, threads: int) -> Array:
        """Run in an arena that is just large enough, as long as it asks for more; the arena."""
        needed = call_arena_bytes(self._program.arena_bytes, dims, threads)
        while True:
            arena = np.full(needed + 64, 0xFF, np.uint8)
            start = -(-arena.ctypes.data // 64) * 64
            context = (ctypes.c_int64 * 64)(0, _parallel() if threads > 1 else 0, threads)
            context[ARENA_END_SLOT] = start + needed
            at = ctypes.addressof(context)
            site = call_entry(self._program.entry, pointers, dims, start, at)
            if site != MORE_MEMORY:
                assert site == 0, f"error site {site}"
                return arena
            assert context[FREE_SLOT] - start > needed, "more memory is asked for that is there"
            needed = context[FREE_SLOT] - start


def _read(arena: Array, start: int, t: Tensor, sizes: Mapping[str, int]) -> Array:
    """A result of computed size, which the program left in the arena from byte `start` on."""
    shape = tuple(evaluate(n, sizes) for n in t.shape)
    size = int(np.prod(shape)) * t.dtype.storage.itemsize
    return arena[start : start + size].view(t.dtype.storage).reshape(shape)


def _reference_form(array: Array, dtype: DType) -> Array:
    return np.array(from_storage(array, dtype))


_pools: list[Any] = []


def _parallel() -> int:
    if not _pools:
        _pools.append(shared_pool(ObjectCache(None), _parallel))
    return int(_pools[0].parallel)
