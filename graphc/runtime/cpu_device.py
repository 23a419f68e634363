"""The CPU device (runtime, floor 7): memory is the process's own, code is mapped and called by address.

Object bytes are mapped by our own loader, which starts in a millisecond; objects that it does not
understand go to LLVM's loader (slow to import, understands everything).
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc.base.errors import DeviceError
from graphc.base.target import Target
from graphc.runtime import buffers, processors
from graphc.runtime.device import LoadedProgram
from graphc.runtime.native_call import call_arena_bytes, call_entry

_log = logging.getLogger("graphc.runtime")

ENTRY = "graphc_entry"
ARENA_BYTES = "graphc_arena_bytes"


class CpuDevice:
    """The processor that runs this process. `threads=None`: all that the process may use."""

    name = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise DeviceError(f"threads must be at least 1, got {threads}")
        limit = processors.available()
        self.threads = limit if threads is None else min(threads, limit)
        self.arena = buffers.Arena()

    @property
    def target(self) -> Target:
        """The host, as LLVM describes it."""
        target: Target = importlib.import_module("graphc.backend.llvm_driver").host_target()
        return target

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """An uninitialised C-contiguous array, 64-byte aligned."""
        return buffers.empty(shape, dtype)

    def load(self, data: bytes) -> LoadedProgram:
        """Load the object bytes of a program."""
        loaded = importlib.import_module("graphc.backend.llvm_driver").load_object(data, (ENTRY, ARENA_BYTES))
        return LoadedProgram(loaded.address(ENTRY), loaded.address(ARENA_BYTES), loaded)

    def arena_bytes(self, program: LoadedProgram, dims: Sequence[int]) -> int:
        """Bytes of arena that the program needs at these sizes."""
        return call_arena_bytes(program.arena_bytes, dims, self.threads)

    def call(self, program: LoadedProgram, buffers: Sequence[int], dims: Sequence[int]) -> int:
        """Run the program; the error site, 0 where all is well. One call at a time per device."""
        self.arena.reserve(self.arena_bytes(program, dims))
        return call_entry(program.entry, buffers, dims, self.arena.address, threads=self.threads)
