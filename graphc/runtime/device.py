"""What a device must offer (runtime, floor 7): memory, loading of objects, and one native call.

A session talks to devices through this protocol only.  A program is loaded once; its entry
function runs all kernels of a graph over pointers, sizes and one arena (the native ABI, see
`native_call`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from graphc.base.target import Target


@dataclass(frozen=True, slots=True)
class LoadedProgram:
    """A program's code in memory. `owner` keeps it there: the addresses live as long as it does."""

    entry: int
    arena_bytes: int
    owner: object = field(repr=False)


class Device(Protocol):
    """A place that holds arrays and runs compiled programs."""

    @property
    def name(self) -> str:
        """As users write it, for example "cpu"."""

    @property
    def target(self) -> Target:
        """What code must be compiled for."""

    @property
    def threads(self) -> int:
        """Threads that one call may use, at least 1."""

    def close(self) -> None:
        """Give up what is shared with other devices, such as threads. Twice does no harm."""

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """An uninitialised C-contiguous array in the device's memory."""

    def load(self, data: bytes) -> LoadedProgram:
        """Load the object bytes of a program. Raises CompileError where they cannot be loaded."""

    def arena_bytes(self, program: LoadedProgram, dims: Sequence[int]) -> int:
        """Bytes of arena that the program needs at these sizes."""

    def call(self, program: LoadedProgram, pointers: Sequence[int], dims: Sequence[int]) -> int:
        """Run the program over data pointers and sizes; the error site, 0 where all is well."""
