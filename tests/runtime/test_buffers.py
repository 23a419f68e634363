"""Aligned memory: alignment, growth, privacy after a fork, an error where none is left."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest

from graphc.base.errors import DeviceError
from graphc.runtime import buffers
from graphc.runtime.buffers import Arena, address, allocate, empty, empty_all


@pytest.mark.parametrize(
    "size", [0, 1, 63, 64, 65, 4097, 1 << 20, (8 << 20) - 1, 8 << 20, (8 << 20) + 1, 33 << 20]
)
def test_alignment_and_size(size: int) -> None:
    memory = allocate(size)
    assert memory.nbytes == max(size, 64) and address(memory) % 64 == 0
    memory[:] = 7
    assert (memory == 7).all()


def test_buffers_are_distinct() -> None:
    kept = [allocate(0) for _ in range(100)]
    assert len({address(memory) for memory in kept}) == 100


def test_arrays() -> None:
    for shape in ((), (0,), (3, 0, 5), (3, 5), (1000, 1000, 2)):
        array = empty(shape, np.dtype(np.float64))
        assert array.shape == shape and array.dtype == np.float64
        assert array.flags.c_contiguous and array.flags.writeable and address(array) % 64 == 0


def test_arrays_that_share_memory_do_not_overlap() -> None:
    shapes = [(3,), (), (0, 5), (70_000,), (2, 2)] * 20
    types = [(s, np.dtype(t)) for s, t in zip(shapes, ["f4", "f8", "i1", "f4"] * 25, strict=True)]
    made = empty_all(types)
    spans = []
    for (array, at), (shape, dtype) in zip(made, types, strict=True):
        assert (array.shape, array.dtype) == (shape, dtype)
        assert at % 64 == 0 and (array.size == 0 or address(array) == at)
        spans.append((at, at + max(array.nbytes, 1)))
    spans.sort()
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_the_arena_only_grows() -> None:
    arena = Arena()
    assert arena.capacity >= 64 and arena.address % 64 == 0
    for size in (10, 5000, 100):
        before = arena.capacity
        arena.reserve(size)
        assert arena.capacity >= max(size, before)
    at = arena.address
    arena.reserve(arena.capacity)
    assert arena.address == at
    arena.reserve(arena.capacity + 1)
    assert arena.capacity >= 6250, "grows by a quarter at least"


def test_no_memory_is_a_device_error() -> None:
    arena = Arena(1000)
    for size in (1 << 60, 1 << 70):
        with pytest.raises(DeviceError, match=f"cannot allocate {size} bytes"):
            allocate(size)
        with pytest.raises(DeviceError):
            arena.reserve(size)
    assert arena.capacity == 0, "native code must not trust the old address"
    arena.reserve(10)
    assert arena.capacity >= 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("size", [100, buffers._HUGE_FROM])
def test_a_child_has_its_own_copy(size: int) -> None:
    memory = allocate(size)
    memory[0] = 1
    pid = os.fork()
    if pid == 0:
        memory[0] = 2
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert memory[0] == 1
