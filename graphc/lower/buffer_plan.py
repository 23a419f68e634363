"""The buffer plan (floor 5): which memory each stored value lives in, by liveness over the steps
in order.

Values that leave the program live in its output and update buffers; everything else shares an arena
of slots. Values of known sizes share one slot, in which their memory is free again once their last
reader has run. A slot of a symbolic size is used again by values of the same size.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from graphc.base.dims import Size, product
from graphc.base.errors import CompileError
from graphc.ir.constant import ConstantValue
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.lower.control import LoweredCalls, LoweredControl
from graphc.lower.dynamic import LoweredBinding, LoweredResults, Phases
from graphc.lower.elements import storage_root
from graphc.lower.free_memory import FreeMemory
from graphc.lower.joins import Joins
from graphc.lower.kernel_builder import LoweredKernel, Shifted, Stored, Temporary
from graphc.ops.families import Constant

Memory = Tensor | Temporary
LoweredStep = LoweredKernel | LoweredControl | LoweredCalls | LoweredBinding | LoweredResults
KINDS = ("input", "variable", "output", "update", "constant")


class BufferRef(NamedTuple):
    """One buffer of a program or body: kind is one of KINDS (a body has inputs and outputs, and
    the constants are the program's), "arena" with the number of a slot, "block" with that of a
    block of memory that is found while the program runs, or "nothing".

    offset: bytes from its start.
    """

    kind: str
    number: int
    offset: Size = 0


@dataclass
class Constants:
    """The constants of a program in memory, those of its bodies included, each once."""

    values: list[ConstantValue] = field(default_factory=list)
    _places: dict[int, int] = field(default_factory=dict)  # by id of a value

    def place(self, value: ConstantValue) -> int:
        """The number of a constant among those of the program."""
        place = self._places.setdefault(id(value), len(self.values))
        if place == len(self.values):
            self.values.append(value)
        return place


@dataclass
class BufferPlan:
    """Where everything is. slots: bytes of each arena slot. places: by id of storage root or
    temporary.
    """

    variables: list[Tensor]
    program: Constants
    phases: Phases
    joins: Joins
    first_block: int = 0  # the number of the block of phase 1
    slots: list[Size] = field(default_factory=list)
    places: dict[int, BufferRef] = field(default_factory=dict)
    keep: list[Memory] = field(default_factory=list)
    reused: int = 0
    in_place: int = 0

    @property
    def constants(self) -> list[ConstantValue]:
        """The constants of the whole program."""
        return self.program.values

    def place(self, stored: Stored) -> BufferRef:
        """Where a value lives. A slot whose size the graph computes is in the block of its phase:
        kind "block".
        """
        found: Stored = stored
        offset: Size = 0
        if self.joins.parts or isinstance(stored, Shifted):
            found, elements = self._memory(stored)
            offset = elements * stored.dtype.itemsize
        ref = self.places[id(found)]
        if self._in_blocks and ref.kind == "arena" and ref.number in self._in_blocks:
            phase, start = self._in_blocks[ref.number]
            return BufferRef("block", self.first_block + phase - 1, start + offset)
        return ref if offset == 0 else BufferRef(ref.kind, ref.number, ref.offset + offset)

    def refs(self, values: Sequence[Stored]) -> tuple[BufferRef, ...]:
        """Where each of some values lives."""
        return tuple([self.place(value) for value in values])

    def memory(self, stored: Stored) -> Memory:
        """Whose memory a value has."""
        return self._memory(stored)[0]

    def _memory(self, stored: Stored) -> tuple[Memory, Size]:
        """Whose memory a value has, and how many elements after its start."""
        if isinstance(stored, Temporary) or (not self.joins.parts and isinstance(stored, Tensor)):
            return stored, 0
        root, start = (stored.root, stored.offset) if isinstance(stored, Shifted) else (stored, 0)
        found, more = self.joins.memory(root)
        return found, start + more

    @property
    def static_slots(self) -> tuple[Size, ...]:
        """The bytes of each slot, 0 of those in blocks."""
        return tuple(0 if self.phases.of_size(size) else size for size in self.slots)

    def block_bytes(self, phase: int) -> Size:
        """The bytes of the block of a phase."""
        return slot_offsets(tuple(s for s in self.slots if self.phases.of_size(s) == phase))[1]

    @functools.cached_property
    def _in_blocks(self) -> dict[int, tuple[int, Size]]:
        """Per slot in a block the phase and the bytes from the start of the block."""
        found: dict[int, tuple[int, Size]] = {}
        for phase in range(1, self.phases.last + 1):
            numbers = [k for k, s in enumerate(self.slots) if self.phases.of_size(s) == phase]
            starts, _ = slot_offsets(tuple(self.slots[k] for k in numbers))
            found.update((k, (phase, start)) for k, start in zip(numbers, starts, strict=True))
        return found

    def describe(self) -> str:
        """The plan as text: a line per slot and per value."""
        lines = [f"arena: {len(self.slots)} slots, {self.reused} reuses, {self.in_place} in place"]
        lines += [f"  slot {k}: {size} bytes" for k, size in enumerate(self.slots)]
        for stored in self.keep:
            kind, index, start = self.places[id(stored)]
            what = (
                f"{stored.op.name} {stored.type}"
                if isinstance(stored, Tensor)
                else f"temporary {stored.shape}"
            )
            at = f" at {start}" if start else ""
            lines.append(f"  {kind} {index}{at}: {what}")
        for part in self.joins.roots:
            whole, start = self.joins.parts[id(part)]
            lines.append(
                f"  {part.op.name} {part.type}: in {whole.op.name} {whole.type} at {start}"
            )
        return "\n".join(lines)


def plan_buffers(
    graph: Graph,
    variables: list[Tensor],
    steps: Sequence[LoweredStep],
    constants: Constants,
    phases: Phases,
    first_block: int,
    joins: Joins,
) -> BufferPlan:
    """The plan for steps that run in this order.

    `variables`: in the order of the program's buffers; constants: of the program, to add to;
    first_block: the number of the block of phase 1; joins: the values that are parts of others.
    """
    plan = BufferPlan(variables, constants, phases, joins, first_block)
    _fix_all(plan, "input", [t for _, t in graph.inputs])
    _fix_all(plan, "variable", variables)
    for k, (_, tensor) in enumerate(graph.outputs):
        if not phases.of_shape(tensor.shape):  # others are in a block when the program ends
            _fix(plan, storage_root(tensor), BufferRef("output", k))
    for k, (_, value) in enumerate(graph.updates):
        _fix(plan, storage_root(value), BufferRef("update", k))
    last: dict[int, int] = {}
    used = []  # the memory of each argument of each step
    for step, lowered in enumerate(steps):
        if joins.parts:
            memory = [plan.memory(a) for a in lowered.args]
        else:
            memory = [a.root if isinstance(a, Shifted) else a for a in lowered.args]
        used.append(memory)
        last.update(dict.fromkeys(map(id, memory), step))
    arena = _Arena(plan)
    dying: dict[int, list[Memory]] = {}
    for step, lowered in enumerate(steps):
        new: dict[int, Memory] = {}
        for number, stored in enumerate(used[step]):
            if id(stored) in plan.places or id(stored) in new:
                continue
            if isinstance(stored, Tensor) and isinstance(stored.op.form, Constant):
                number = constants.place(stored.attr("value"))
                _fix(plan, stored, BufferRef("constant", number))
                continue
            ending = dying.get(step)
            heir_of = None
            # A part never takes over memory: it would start in the middle of it.
            if ending and lowered.overwrites and stored is lowered.args[number]:
                may_die = _overwritten(plan, lowered)
                heir_of = next((o for o in may_die if any(o is e for e in ending)), None)
            if ending and heir_of is not None and arena.inherit(stored, heir_of):
                dying[step] = [e for e in ending if e is not heir_of]
                dying.setdefault(last[id(stored)], []).append(stored)
            else:
                new[id(stored)] = stored
        arena.take_all(new.values())
        for stored in new.values():
            dying.setdefault(last[id(stored)], []).append(stored)
        for stored in dying.pop(step, ()):
            arena.give(stored)
    return plan


@functools.lru_cache(maxsize=4)  # the program's own are asked for by each part of its code
def slot_offsets(slots: tuple[Size, ...]) -> tuple[tuple[Size, ...], Size]:
    """Where each slot of an arena starts, one after another in whole cache lines, and the end."""
    lines = {size: (size + 63) // 64 * 64 for size in set(slots)}
    offsets: list[Size] = []
    total: Size = 0
    for size in slots:
        offsets.append(total)
        total = total + lines[size]
    return tuple(offsets), total


def _overwritten(plan: BufferPlan, lowered: LoweredStep) -> list[Memory]:
    found = [(lowered.args[k], plan.memory(lowered.args[k])) for k in lowered.overwrites]
    return [memory for value, memory in found if memory is value]


def _fix(plan: BufferPlan, stored: Memory, place: BufferRef) -> None:
    if id(stored) in plan.places:
        raise CompileError(
            f"a value is asked to live in two places: {plan.places[id(stored)]} and {place}"
        )
    plan.places[id(stored)] = place
    plan.keep.append(stored)


def _fix_all(plan: BufferPlan, kind: str, sources: Sequence[Tensor]) -> None:
    """Sources live in the program's own buffers of their kind, in order."""
    plan.places.update({id(t): BufferRef(kind, k) for k, t in enumerate(sources)})
    plan.keep += sources


class _Arena:
    def __init__(self, plan: BufferPlan) -> None:
        self.plan = plan
        self.slot: int | None = None  # of the values of known sizes
        self.fixed = FreeMemory()
        self.free_symbolic: dict[Size, list[int]] = {}
        # By ids of shape (which the plan keeps alive, and equal types share) and dtype.
        self.sizes: dict[tuple[int, int], Size] = {}

    def _bytes(self, stored: Memory) -> Size:
        shape, dtype = stored.shape, stored.dtype
        key = (id(shape), id(dtype))
        size = self.sizes.get(key)
        if size is None:
            size = self.sizes[key] = product(shape) * dtype.itemsize
        return size

    def take_all(self, values: Iterable[Memory]) -> None:
        """Memory for values that are written at once: large ones choose first."""
        fixed = []
        for stored in values:
            size = self._bytes(stored)
            if isinstance(size, int):
                fixed.append((size, stored))
            else:
                _fix(self.plan, stored, BufferRef("arena", self._symbolic(size)))
        fixed.sort(key=lambda pair: -pair[0])
        for size, stored in fixed:
            if self.slot is None:
                self.slot = self._new(0)
            start, again = self.fixed.take(size)
            self.plan.reused += again
            self.plan.slots[self.slot] = self.fixed.end
            _fix(self.plan, stored, BufferRef("arena", self.slot, start))

    def inherit(self, stored: Memory, dying: Memory) -> bool:
        """Put a result into the memory of an operand that dies in the same kernel, where that is as
        large.
        """
        if self._bytes(dying) != self._bytes(stored):
            return False
        _fix(self.plan, stored, self.plan.places[id(dying)])
        self.plan.in_place += 1
        return True

    def give(self, stored: Memory) -> None:
        size = self._bytes(stored)
        place = self.plan.places[id(stored)]
        if isinstance(size, int):
            assert isinstance(place.offset, int), "of a value of known size"
            self.fixed.give(place.offset, size)
        else:
            self.free_symbolic.setdefault(size, []).append(place.number)

    def _new(self, size: Size) -> int:
        self.plan.slots.append(size)
        return len(self.plan.slots) - 1

    def _symbolic(self, size: Size) -> int:
        free = self.free_symbolic.get(size)
        if free:
            self.plan.reused += 1
            return free.pop()
        return self._new(size)
