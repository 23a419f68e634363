"""Runs (floor 6): steps that repeat in a list of steps, with other buffers each time.

A model of a thousand equal layers calls one body a thousand times. Written out, the calls would be
most of the code that LLVM sees; as a loop over a table of buffers they cost a row each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import get_args

from graphc.backend.program import Step

LONGEST_PERIOD = 64
FEWEST_ROWS = 4
FEWEST_STEPS = 16  # below, a loop saves nothing
_CANDIDATES = 8  # periods that are tried at each step
# What a step is but for its buffers, by its kind.
_WHAT = {
    kind: attrgetter(*[f.name for f in fields(kind) if f.name != "args"]) for kind in get_args(Step)
}


@dataclass(frozen=True, slots=True)
class Run:
    """Steps `start` to `start + period * rows`: `rows` times the same, but for their buffers.

    One row: steps that do not repeat.
    """

    start: int
    period: int
    rows: int = 1

    @property
    def stop(self) -> int:
        """The first step after the run."""
        return self.start + self.period * self.rows


def find_runs(steps: Sequence[Step]) -> list[Run]:
    """The steps cut into runs, each single step that is in none as a run of its own."""
    keys = _keys(steps)
    following = _following(keys)
    found: list[Run] = []
    at = 0
    while at < len(keys):
        found.append(_longest(keys, following, at))
        at = found[-1].stop
    return found


def _keys(steps: Sequence[Step]) -> list[int]:
    """A number per step, the same for steps that differ in their buffers only."""
    numbers: dict[object, int] = {}
    keys = []
    for step in steps:
        key = type(step), _WHAT[type(step)](step)
        keys.append(numbers.setdefault(key, len(numbers)))
    return keys


def _following(keys: Sequence[int]) -> list[int]:
    """For each step the next equal one, or one past the end."""
    last: dict[int, int] = {}
    following = [len(keys)] * len(keys)
    for at in reversed(range(len(keys))):
        following[at] = last.get(keys[at], len(keys))
        last[keys[at]] = at
    return following


def _longest(keys: Sequence[int], following: Sequence[int], start: int) -> Run:
    best = Run(start, 1)
    second = following[start]
    for _ in range(_CANDIDATES):
        period = second - start
        if second >= len(keys) or period > LONGEST_PERIOD:
            break
        same = 0
        while second + same < len(keys) and keys[start + same] == keys[second + same]:
            same += 1
        rows = same // period + 1
        if rows >= FEWEST_ROWS and FEWEST_STEPS <= rows * period > best.period * best.rows:
            best = Run(start, period, rows)
        if best.stop == len(keys):
            break
        second = following[second]
    return best
