"""Ctrl-C at every step of the Python code that runs a program: state is whole, locks are free.

Real signals come at random moments (tests/session does that too); here a trace function raises
KeyboardInterrupt before one line, then before the next, until a run comes through. In what has to
happen at one moment it raises before each instruction of the interpreter.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from graphc.runtime import buffers, caller, state, variables
from graphc.runtime.caller import Caller
from graphc.runtime.state import Cell, exchange, store_all
from graphc.runtime.variables import exchange_back

FILES = {module.__file__ for module in (buffers, caller, state, variables)}
AT_ONCE = {exchange.__code__, store_all.__code__, Cell.make_spares.__code__}


def interrupted(action: Callable[[], object], step: int) -> bool:
    """Run the action with an interrupt before its step number `step`; False: it has fewer."""
    seen = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal seen
        if frame.f_code.co_filename not in FILES:
            return None
        frame.f_trace_opcodes = frame.f_code in AT_ONCE
        if event in ("line", "opcode"):
            seen += 1
            if seen > step:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.fixture
def counters(make: Any) -> tuple[Caller, list[Cell]]:
    cells = Cell.of([np.array(0, np.int64)] * 2)
    return make({}, {}, "count_two", cells=tuple(cells), updates=(0, 1)), cells


@pytest.mark.parametrize("make", ["python"], indirect=True)
def test_a_call_commits_all_or_nothing(make: Any, counters: tuple[Caller, list[Cell]]) -> None:
    made, cells = counters
    outcomes = set()
    for step in range(10_000):
        before = int(cells[0].current)
        came = interrupted(made.function, step)
        values = {int(cell.current) for cell in cells}
        assert len(values) == 1, f"step {step}: {values}"
        assert not make.state.lock.threads.locked(), step
        outcomes.add((came, values.pop() - before))
        made.function()
        assert [int(cell.current) - before for cell in cells] in ([1, 1], [2, 2])
        if not came:
            break
    assert outcomes == {(True, 0), (True, 1), (False, 1)}  # interrupted before and after the commit


@pytest.mark.parametrize("make", ["native", "python"], indirect=True)
def test_a_commit_is_taken_back_as_a_whole(make: Any, counters: tuple[Caller, list[Cell]]) -> None:
    made, cells = counters
    lock = make.state.lock
    outcomes = set()
    for step in range(10_000):
        made.function()
        before = int(cells[0].current)
        came = interrupted(lambda: exchange_back(cells, lock), step)
        values = {int(cell.current) for cell in cells}
        assert len(values) == 1, f"step {step}: {values}"
        outcomes.add((came, values.pop() - before))
        if not came:
            break
    assert outcomes == {(True, 0), (True, -1), (False, -1)}
    made.function()  # the lock is free


def test_an_interrupted_cell_gets_its_spare_later() -> None:
    for step in range(10_000):
        (cell,) = Cell.of([np.array(3, np.int64)])
        came = interrupted(lambda c=cell: Cell.make_spares([c]), step)
        Cell.make_spares([cell])
        exchange([cell])
        cell.current[...] = 4
        exchange([cell])
        assert int(cell.current) == 3
        assert cell._spare is not None and cell.record[1] == buffers.address(cell._spare)
        if not came:
            assert step > 5
            break


def test_an_interrupted_arena_names_no_freed_memory() -> None:
    for step in range(10_000):
        arena = buffers.Arena(100)
        came = interrupted(lambda arena=arena: arena.reserve(1_000_000), step)
        memory = arena._memory
        if arena.capacity:
            assert memory is not None and arena.capacity == memory.nbytes
            assert arena.address == buffers.address(memory)
        arena.reserve(2_000_000)
        assert arena.capacity >= 2_000_000
        if not came:
            assert step > 5
            break
