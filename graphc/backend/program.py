"""Programs (floor 6): what the entry function does, as data; `entry` writes it as LLVM.

A program is a list of steps over buffers. A step launches a kernel or runs bodies: lists of steps
of their own, each written once however many steps run it. A body sees the buffers of its inputs and
outputs, an arena of its own (a slot in the arena of whoever runs it), and the program's constants
and sizes.
Invariant: a body runs once at a time, so its arena is never used twice at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from graphc.base.dims import Size, Symbol
from graphc.base.errors import CompileError
from graphc.loops.nodes import Kernel
from graphc.lower.buffer_plan import KINDS as KINDS
from graphc.lower.buffer_plan import BufferRef as BufferRef
from graphc.lower.buffer_plan import slot_offsets

NOTHING = BufferRef("nothing", 0)


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel with the buffers of its params, in order."""

    kernel: Kernel
    args: tuple[BufferRef, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A body, run once. args: its inputs, its outputs, its arena."""

    body: int
    args: tuple[BufferRef, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """One of two bodies. args: the predicate, inputs, outputs, the arenas of `then` and
    `otherwise`.
    """

    then: int
    otherwise: int
    args: tuple[BufferRef, ...]


@dataclass(frozen=True, slots=True)
class While:
    """A body again and again, as long as another says so.

    carries: bytes of each carry. args: the first carries, captured operands; the last carries, the
    number of turns; a second place for each carry, the answer; the arenas of condition and body.
    """

    condition: int
    body: int
    carries: tuple[Size, ...]
    args: tuple[BufferRef, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A body `length` times, over the rows of sequences.

    carries: bytes of each carry; rows, results: bytes of one row of each sequence and of each
    stacked output; reverse: the last row first. args: the first carries, sequences, captured
    operands; the last carries, stacked outputs; a second place for each carry; the arena.
    """

    body: int
    length: Size
    reverse: bool
    carries: tuple[Size, ...]
    rows: tuple[Size, ...]
    results: tuple[Size, ...]
    args: tuple[BufferRef, ...]


@dataclass(frozen=True, slots=True)
class Bind:
    """Sizes become known, and memory for what has them is found. args: their counts, int64.

    sites: of a size out of its bounds; conditions: sizes that must not be negative, with sites;
    block: the number of the block of memory, `bytes` long.
    """

    symbols: tuple[Symbol, ...]
    sites: tuple[int, ...]
    conditions: tuple[tuple[Size, int], ...]
    block: int
    bytes: Size
    args: tuple[BufferRef, ...]


@dataclass(frozen=True, slots=True)
class Publish:
    """Where outputs of computed sizes are is written to their places among the buffers."""

    outputs: tuple[int, ...]
    args: tuple[BufferRef, ...]


Step = Launch | Call | Branch | While | Repeat | Bind | Publish


@dataclass(frozen=True, slots=True)
class Body:
    """A list of steps over `inputs` and `outputs` buffers. slots: bytes of each arena slot."""

    name: str
    inputs: int
    outputs: int
    steps: tuple[Step, ...]
    slots: tuple[Size, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """Everything that the entry function does.

    symbols: in the order of the `dims` argument; counts: how many buffers of each of KINDS;
    slots: the bytes of each arena slot; offsets: where each slot starts, one after another if None.
    profile: add the ticks of step k to slot FIRST_PROFILE_SLOT + k of the context. stop_after:
    after so many steps, go on only if no check has failed. bodies: by number, inner ones first.
    computed: symbols that steps bind, whose places in `dims` follow those of `symbols`; blocks: how
    many blocks there are, whose addresses follow in `dims`.
    """

    symbols: tuple[Symbol, ...]
    counts: dict[str, int]
    steps: tuple[Step, ...]
    slots: tuple[Size, ...] = ()
    offsets: tuple[Size, ...] | None = None
    arena: Size | None = None
    profile: bool = False
    notes: tuple[str, ...] = field(default=())
    stop_after: int = 0
    bodies: tuple[Body, ...] = ()
    computed: tuple[Symbol, ...] = ()
    blocks: int = 0

    @property
    def all_symbols(self) -> tuple[Symbol, ...]:
        """The symbols in the order of `dims`."""
        return self.symbols + self.computed

    def launches(self) -> Iterator[Launch]:
        """Every launch: those of the bodies in order, then the program's own."""
        for steps in (*(b.steps for b in self.bodies), self.steps):
            for step in steps:
                if isinstance(step, Launch):
                    yield step

    def with_refs(self, change: Callable[[BufferRef], BufferRef]) -> Program:
        """The program with every buffer replaced."""

        def changed(steps: tuple[Step, ...]) -> tuple[Step, ...]:
            return tuple(replace(s, args=tuple(map(change, s.args))) for s in steps)

        bodies = tuple(replace(b, steps=changed(b.steps)) for b in self.bodies)
        return replace(self, steps=changed(self.steps), bodies=bodies)


def bodies_of(step: Step) -> tuple[int, ...]:
    """The numbers of the bodies that a step may run."""
    if isinstance(step, Branch):
        return step.then, step.otherwise
    if isinstance(step, While):
        return step.condition, step.body
    return (step.body,) if isinstance(step, Call | Repeat) else ()


def placed(program: Program) -> tuple[tuple[Size, ...], Size]:
    """Where each arena slot of a program starts, and where the last one ends."""
    if program.offsets is None:
        return slot_offsets(program.slots)
    if program.arena is None:
        raise CompileError("a program with slot offsets must give the arena's size")
    return program.offsets, program.arena
