"""Memory of known sizes within one piece (floor 5): who gets which bytes while a program runs.

The smallest free part that is large enough is taken (best fit), what is given back joins its free
neighbours, and the piece grows at its end alone. Invariant: no two free parts touch.
"""

from __future__ import annotations

import bisect

LINE = 64  # every start is a multiple of it: a cache line, and the longest vector


class FreeMemory:
    """The bytes of a piece of memory that grows. end: how many there are."""

    def __init__(self) -> None:
        self.end = 0
        self._by_size: list[tuple[int, int]] = []  # (bytes, start) of the free parts, sorted
        self._sizes: dict[int, int] = {}  # of free parts by start
        self._starts: dict[int, int] = {}  # of free parts by end

    def take(self, size: int) -> tuple[int, bool]:
        """The start of `size` bytes, and whether they were used before."""
        size = _whole_lines(size)
        at = bisect.bisect_left(self._by_size, (size, -1))
        if at < len(self._by_size):
            free, start = self._by_size[at]
            self._remove(start)
            if free > size:
                self._add(start + size, free - size)
            return start, True
        last = self._starts.get(self.end)
        if last is not None:  # the free part at the end grows
            self._remove(last)
        start = self.end if last is None else last
        self.end = start + size
        return start, last is not None

    def give(self, start: int, size: int) -> None:
        """Give back what `take` gave for `size`."""
        end = start + _whole_lines(size)
        before = self._starts.get(start)
        if before is not None:
            self._remove(before)
            start = before
        after = self._sizes.get(end)
        if after is not None:
            self._remove(end)
            end += after
        self._add(start, end - start)

    def _add(self, start: int, size: int) -> None:
        bisect.insort(self._by_size, (size, start))
        self._sizes[start] = size
        self._starts[start + size] = start

    def _remove(self, start: int) -> None:
        size = self._sizes.pop(start)
        del self._starts[start + size]
        del self._by_size[bisect.bisect_left(self._by_size, (size, start))]


def _whole_lines(size: int) -> int:
    # At least one: a value without elements has an address of its own too.
    return max(-(-size // LINE), 1) * LINE
