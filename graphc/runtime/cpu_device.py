"""The CPU device (runtime, floor 7): memory is the process's own, code is mapped and called.

Object bytes are mapped by our own loader, which needs a millisecond; objects that it does not
understand go to LLVM's loader (slow to import, understands everything).  A device belongs to one
session: the functions made by it share its arena, its lock and its variables' cells.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc.base.errors import CompileError, DeviceError
from graphc.base.target import Target
from graphc.runtime import buffers, object_loader, processors
from graphc.runtime.cache import ObjectCache
from graphc.runtime.caller import Bindings, Caller, make_caller
from graphc.runtime.device import LoadedProgram
from graphc.runtime.native_call import call_arena_bytes, call_entry
from graphc.runtime.object_loader import LoadedObject
from graphc.runtime.python_entry import shared_entry
from graphc.runtime.signature import CallSignature
from graphc.runtime.state import CallState
from graphc.runtime.thread_pool import release, shared_pool

_log = logging.getLogger("graphc.runtime")

ENTRY = "graphc_entry"
ARENA_BYTES = "graphc_arena_bytes"


class CpuDevice:
    """The processor that runs this process.

    threads=None: all that the process may use. cache: where the runtime's own native code is kept.
    """

    name = "cpu"

    def __init__(self, threads: int | None = None, cache: ObjectCache | None = None) -> None:
        if threads is not None and threads < 1:
            raise DeviceError(f"threads must be at least 1, got {threads}")
        limit = processors.available()
        self._threads = limit if threads is None else min(threads, limit)
        self._cache = cache or ObjectCache(None)
        self._state: CallState | None = None
        self._entry: LoadedObject | None = None

    @property
    def target(self) -> Target:
        """The best target that this machine can run."""
        target: Target = importlib.import_module("graphc.backend.llvm_cpu").host_target()
        return target

    @property
    def threads(self) -> int:
        """Threads that one call may use."""
        return self._threads

    @property
    def state(self) -> CallState:
        """Arena, lock and threads of the functions of this device; made when first needed."""
        if self._state is None:
            self._entry = shared_entry(self._cache)
            # One thread needs no pool: nothing is loaded for it.
            pool = shared_pool(self._cache, self) if self._threads > 1 else None
            try_lock = self._entry.address("graphc_try_lock") if self._entry else 0
            self._state = CallState(pool, self._threads, try_lock)
        return self._state

    @property
    def entry(self) -> LoadedObject | None:
        """The entry from Python; None where there is none, and before `state` is made."""
        return self._entry

    def close(self) -> None:
        """Give up what the device shares with others: threads that nobody else needs end."""
        release(self)

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """An uninitialised C-contiguous array, 64-byte aligned."""
        return buffers.empty(shape, dtype)

    def load(self, data: bytes) -> LoadedProgram:
        """Load the object bytes of a program."""
        try:
            loaded: Any = object_loader.load(data)
        except CompileError as error:
            _log.info("LLVM loads an object that our loader does not: %s", error)
            driver = importlib.import_module("graphc.backend.llvm_driver")
            loaded = driver.load_object(data, (ENTRY, ARENA_BYTES))
        return LoadedProgram(loaded.address(ENTRY), loaded.address(ARENA_BYTES), loaded)

    def arena_bytes(self, program: LoadedProgram, dims: Sequence[int]) -> int:
        """Bytes of arena that the program needs at these sizes."""
        return call_arena_bytes(program.arena_bytes, dims, self.state.threads)

    def call(self, program: LoadedProgram, pointers: Sequence[int], dims: Sequence[int]) -> int:
        """Run the program over data pointers and sizes; the error site, 0 where all is well."""
        state = self.state
        context = np.zeros(64, np.int64)
        context[1:3] = state.parallel, state.threads
        with state.lock.threads, state.lock:
            state.arena.reserve(self.arena_bytes(program, dims))
            arena, at = state.arena.address, buffers.address(context)
            return call_entry(program.entry, pointers, dims, arena, at)

    def make_caller(
        self, signature: CallSignature, program: LoadedProgram, bindings: Bindings
    ) -> Caller:
        """The function that runs a loaded program; see `caller`."""
        state = self.state
        return make_caller(signature, program, bindings, state, self._entry)
