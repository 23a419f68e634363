"""The table of a run (floor 6): which buffers each row of repeated steps has, as numbers.

An address is a start and bytes from there. The start is a slot of `buffers`, or one of few places
that the function knows (`starts`: the arena, the program's constants). The bytes are a number plus,
where sizes are symbolic, multiples of products of symbols (`basis`), whose values the function
computes once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphc.backend.program import BufferRef
from graphc.base.dims import Dim, Monomial, Size

ARENA = BufferRef("arena_start", 0)


@dataclass(slots=True)
class Column:
    """An argument that differs from row to row: of step `step` of the period, in slot `slot`.

    kind: "arena" (bytes from the arena's start), "buffer" (a slot of `buffers`) or "any" (a slot,
    or inverted a place among `starts`, and bytes from there); bytes: of each row, from the start;
    symbolic: they have multiples of the basis; at: its first word in a row.
    """

    step: int
    slot: int
    refs: tuple[BufferRef, ...]
    bytes: list[Size]
    kind: str
    symbolic: bool
    at: int = 0


@dataclass
class RunTable:
    """The columns of a run, and after `finish` its rows.

    slots: the first slot of each kind in `buffers`; offsets: where each arena slot starts.
    """

    slots: Mapping[str, int]
    offsets: Sequence[Size]
    columns: list[Column] = field(default_factory=list)
    starts: dict[BufferRef, int] = field(default_factory=dict)
    basis: dict[Monomial, int] = field(default_factory=dict)
    words: int = 0  # of a row

    def add(self, step: int, slot: int, refs: tuple[BufferRef, ...]) -> None:
        """One more column; refs: one per row."""
        bytes_ = [self._start(ref) if ref.kind == "arena" else ref.offset for ref in refs]
        kinds = {ref.kind for ref in refs}
        kind = "any"
        if kinds == {"arena"}:
            kind = "arena"
        elif kinds <= self.slots.keys() and set(bytes_) == {0}:
            kind = "buffer"
        symbolic = [b for b in bytes_ if isinstance(b, Dim)]
        for size in symbolic:
            for monomial, _ in size.terms:
                if monomial:
                    self.basis.setdefault(monomial, len(self.basis))
        self.columns.append(Column(step, slot, refs, bytes_, kind, bool(symbolic)))

    def finish(self) -> list[int]:
        """Give the columns their places; the words of all rows, one row after another."""
        for column in self.columns:
            column.at = self.words
            self.words += 2 if column.kind == "any" else 1
            self.words += len(self.basis) if column.symbolic else 0
        places = [words for column in self.columns for words in self._words(column)]
        return [word for row in zip(*places, strict=True) for word in row]

    def _words(self, column: Column) -> list[tuple[int, ...]]:
        """For each place that the column has in a row, the words of all rows."""
        if column.kind == "buffer":
            return [tuple([self.slots[ref.kind] + ref.number for ref in column.refs])]
        if column.kind == "arena" and not column.symbolic:
            return [tuple([int(size) for size in column.bytes])]
        known: dict[BufferRef, list[int]] = {}  # carries go to and fro between few places
        for ref, size in zip(column.refs, column.bytes, strict=True):
            if ref not in known:
                known[ref] = self._entry(column, ref, size)
        return list(zip(*[known[ref] for ref in column.refs], strict=True))

    def _start(self, ref: BufferRef) -> Size:
        """Bytes from the start of the arena."""
        start = self.offsets[ref.number]
        return start if isinstance(ref.offset, int) and not ref.offset else start + ref.offset

    def _entry(self, column: Column, ref: BufferRef, size: Size) -> list[int]:
        words = self._coefficients(size, column.symbolic)
        if column.kind == "arena":
            return words
        if ref.kind in self.slots:
            slot = self.slots[ref.kind] + ref.number
        else:
            start = ARENA if ref.kind == "arena" else BufferRef(ref.kind, ref.number)
            slot = ~self.starts.setdefault(start, len(self.starts))
        return [slot, *words]

    def _coefficients(self, size: Size, symbolic: bool) -> list[int]:
        words = [0] * (1 + len(self.basis) if symbolic else 1)
        if not isinstance(size, Dim):
            words[0] = size
            return words
        for monomial, coefficient in size.terms:
            words[1 + self.basis[monomial] if monomial else 0] = coefficient
        return words
