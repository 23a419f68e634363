"""What the functions of one session share (runtime, floor 7): variables, arena, lock, threads.

A variable's value lives in a cell of two buffers that take turns: a call reads `current` and
writes `spare`, and the commit exchanges them, so an update is either whole or not there.
Invariants: the buffers of a cell, the arena and the records of functions are touched only under the
lock; what one call changes changes at one moment, for Ctrl-C may come between any two steps of
Python.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import setitem
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc.runtime import buffers
from graphc.runtime.thread_pool import ThreadPool

Array = npt.NDArray[Any]

_FIRST_PAUSE = 20e-6
_LONGEST_PAUSE = 1e-3
_PYTHON = 2  # in the lock's word: held by Python code; native code writes 1
_TRY_LOCK = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
_SET: Callable[[Any, Any, Any], None] = setitem


def pauses() -> float:
    """The first pause of a thread that waits for another's call; `longer` gives the next ones."""
    return _FIRST_PAUSE


def longer(pause: float) -> float:
    """The pause after `pause`."""
    return min(2 * pause, _LONGEST_PAUSE)


class CallLock:
    """The lock of a session: a word that native code takes too. Not reentrant.

    Python code holds it by `with lock.threads, lock:`. Ctrl-C may come between any two steps of
    Python, also inside `__enter__` and `__exit__` below, and then the word stays taken. `threads`
    is a lock in C, which an interrupt cannot leave behind: whoever holds it and finds the word
    taken in Python's name knows that nobody holds it any more. Waiting sleeps in short pauses, so
    that Ctrl-C is heard.
    """

    def __init__(self, try_lock: int = 0) -> None:
        self.word = np.zeros(8, np.int64)  # a cache line of its own
        self.address = buffers.address(self.word)
        self.threads = threading.Lock()
        # PYFUNCTYPE keeps the interpreter's lock: taking the word costs no switch.
        self._try = _TRY_LOCK(try_lock) if try_lock else None
        _locks.add(self)

    def __enter__(self) -> None:
        assert self.threads.locked(), "write `with lock.threads, lock:`"
        pause = pauses()
        while self._try is not None and not self._try(self.address, _PYTHON):
            if self.word[0] == _PYTHON:  # an interrupted holder left it: it is ours
                return
            time.sleep(pause)
            pause = longer(pause)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.word[0] = 0

    def settle(self) -> None:
        """Free the word if an interrupted holder left it; for those who wait for it."""
        if self.word[0] == _PYTHON:
            with self.threads, self:
                pass

    def forget(self) -> None:
        """In a forked child: the thread that held the lock is not here."""
        self.word[0] = 0
        self.threads = threading.Lock()


_locks: weakref.WeakSet[CallLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_locks):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


class Cell:
    """A variable's value: two buffers that take turns. `record`: their addresses, current first.

    A value that nobody has changed yet may be one that others read too: `own` comes before the
    first write.
    """

    __slots__ = (
        "__weakref__",
        "_current",
        "_first",
        "_owned",
        "_spare",
        "record",
        "record_address",
    )

    def __init__(self, current: Array, first: int, record: Array, record_address: int) -> None:
        self._current = current
        self._first = first  # the address of `current`
        self._owned = False
        self._spare: Array | None = None
        self.record = record
        self.record_address = record_address

    @staticmethod
    def sharing(values: Sequence[Array]) -> list[Cell]:
        """Cells that hold these arrays, which nobody writes, as long as nothing is assigned."""
        records = np.zeros((len(values), 2), np.int64)
        addresses = records[:, 0] = buffers.addresses(values)
        start, step = buffers.address(records), 2 * records.itemsize
        of_records = range(start, start + len(values) * step, step)
        return list(map(Cell, values, addresses, records, of_records))

    @staticmethod
    def of(values: Sequence[Array]) -> list[Cell]:
        """Cells that hold copies of these arrays."""
        cells = Cell.sharing(values)
        Cell.own(cells)
        return cells

    @staticmethod
    def own(cells: Sequence[Cell]) -> None:
        """Have buffers of their own; needed before anything is written. The caller holds the
        lock, or nobody else has the cells.
        """
        lacking = [cell for cell in cells if not cell._owned]
        Cell._own(lacking, _buffers_like(lacking))

    @staticmethod
    def _own(lacking: Sequence[Cell], made: Sequence[tuple[Array, int]]) -> None:
        for cell, (array, address) in zip(lacking, made, strict=True):
            np.copyto(array, cell._current)
            # Interrupted in between, the cell still holds the value and makes another copy.
            cell._current = array
            cell._first = address
            cell.record[0] = address
            cell._owned = True

    @staticmethod
    def make_spares(cells: Sequence[Cell]) -> None:
        """Have the second buffers; needed before a function that updates the variables runs. The
        caller holds the lock.
        """
        shared = [cell for cell in cells if not cell._owned]
        lacking = [cell for cell in cells if cell._spare is None]
        made = _buffers_like([*shared, *lacking])
        Cell._own(shared, made[: len(shared)])
        for cell, (spare, address) in zip(lacking, made[len(shared) :], strict=True):
            # The address first: interrupted in between, the cell has no spare and makes another.
            cell.record[1] = address
            cell._spare = spare

    @property
    def current(self) -> Array:
        """The value itself, valid until the next commit. Read it under the lock; write it there
        after `own`.
        """
        if self._spare is None or int(self.record[0]) == self._first:
            return self._current
        return self._spare


def _buffers_like(cells: Sequence[Cell]) -> list[tuple[Array, int]]:
    return buffers.empty_all([(cell._current.shape, cell._current.dtype) for cell in cells])


def store_all(targets: Sequence[Array], sources: Sequence[Array]) -> None:
    """Copy each source into its target: all of them or, where Ctrl-C comes first, none.

    The arrays of a pair must fit; the caller holds the lock.
    """
    # One call from C to C: no signal handler of Python runs in between.
    deque(map(_SET, targets, repeat(...), sources), maxlen=0)


def exchange(cells: Iterable[Cell]) -> None:
    """Commit: the content of each spare buffer becomes its cell's value; again, and it is undone.

    All cells or, where Ctrl-C comes first, none. The caller holds the lock.
    """
    records = [cell.record for cell in cells]
    store_all(records, [record[::-1].copy() for record in records])


class CallState:
    """Arena, lock and threads of a session. `pool` None: one thread."""

    def __init__(self, pool: ThreadPool | None, threads: int, try_lock: int = 0) -> None:
        self.arena = buffers.Arena()
        self.lock = CallLock(try_lock)
        self.parallel = pool.parallel if pool is not None and threads > 1 else 0
        self.threads = threads if self.parallel else 1
