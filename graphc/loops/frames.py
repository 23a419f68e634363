"""What the interpreter works on (floor 4): lanes that execute together, and the memory they share.

A `Frame` has the lanes of independent loops; a `Memory` the cells of a buffer, one copy for each
lane of a frame, with `Marks` of who touched which cell, to find races.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.base.dtypes import Array, int64
from graphc.ir.scalar_numpy import Value
from graphc.loops.nodes import Accumulators, Buffer, For, Var

_MANY = -2  # reader of a cell: more than one lane


@dataclass(eq=False, slots=True)
class Memory:
    """The cells of a buffer: one copy for each lane of `frame`, or one in all for parameters."""

    buffer: Buffer
    shape: tuple[int, ...]
    data: Array
    written: Array
    frame: Frame | None
    shared: bool  # may be touched by several lanes: watched for races
    marks: dict[int, Marks] = field(default_factory=dict)

    @property
    def cells(self) -> int:
        """How many elements a copy has."""
        return int(np.prod(self.shape, dtype=np.int64))


class Marks:
    """Who last wrote and read each cell, at one nesting depth of independent loops."""

    __slots__ = ("read_epoch", "reader", "write_epoch", "writer")

    def __init__(self, cells: int) -> None:
        self.writer, self.reader, self.write_epoch, self.read_epoch = np.zeros((4, cells), np.int64)

    def read(self, at: Array, lane: Array, epoch: int) -> bool:
        """Note a read; whether another lane wrote the cell."""
        race = (self.write_epoch[at] == epoch) & (self.writer[at] != lane)
        other = (self.read_epoch[at] == epoch) & (self.reader[at] != lane)
        self.reader[at] = lane
        clash = other | (self.reader[at] != lane)
        self.reader[at[clash]] = _MANY
        self.read_epoch[at] = epoch
        return bool(race.any())

    def write(self, at: Array, lane: Array, epoch: int) -> bool:
        """Note a write; whether another lane wrote or read the cell."""
        race = (self.write_epoch[at] == epoch) & (self.writer[at] != lane)
        race |= (self.read_epoch[at] == epoch) & (self.reader[at] != lane)
        self.writer[at] = lane
        self.write_epoch[at] = epoch
        return bool((race | (self.writer[at] != lane)).any())


@dataclass(eq=False, slots=True)
class Frame:
    """Lanes that execute together. `index` maps them to the parent's lanes; None: the same ones."""

    parent: Frame | None
    index: Array | None
    lanes: int
    values: dict[Var, Value] = field(default_factory=dict)
    cells: dict[Accumulators, list[Value]] = field(default_factory=dict)
    kind: str = ""  # of the independent loop that made the lanes
    agent: Array | None = None  # iteration of each lane, unique within the loop
    epoch: int = 0
    depth: int = 0
    # Of accumulators that are wider than what enters: how many groups of W lanes come at once.
    groups: dict[Accumulators, tuple[int, int]] = field(default_factory=dict)

    def chain(self) -> Iterator[tuple[Frame, Array | None]]:
        """This frame and its ancestors, each with the map from our lanes to its lanes."""
        frame: Frame | None = self
        index: Array | None = None
        while frame is not None:
            yield frame, index
            if frame.index is not None:
                index = frame.index if index is None else frame.index[index]
            frame = frame.parent


def part(values: list[Value], at: Any) -> list[Value]:
    """Some elements of each value."""
    return [Value(v.array[at], v.dtype) for v in values]


def in_lanes(array: Array, frame: Frame, active: Array | None) -> Array:
    """An array with an element for each lane of a frame, or for each active one."""
    full = np.broadcast_to(array, frame.lanes)
    return full if active is None else full[active]


def some_lanes(frame: Frame, chosen: Array) -> Frame:
    """A frame of some of the lanes."""
    if len(chosen) == frame.lanes:
        return frame
    return Frame(frame, chosen, len(chosen), depth=frame.depth)


def expand(frame: Frame, loop: For, extent: int, start: int, stop: int, epoch: int) -> Frame:
    """A frame with lanes for iterations start … stop-1 of each lane."""
    steps = stop - start
    index = np.repeat(np.arange(frame.lanes), steps)
    step = np.tile(np.arange(start, stop), frame.lanes)
    child = Frame(frame, index, frame.lanes * steps, kind=loop.kind, depth=frame.depth + 1)
    child.values[loop.var] = Value(step, int64)
    child.agent = index * extent + step
    child.epoch = epoch
    return child


def map_to(frame: Frame, target: Frame) -> Array:
    """The lane of `target`, an ancestor, that each lane of a frame belongs to."""
    for owner, index in frame.chain():
        if owner is target:
            return np.arange(frame.lanes) if index is None else index
    raise AssertionError("a local buffer outlives its block")
