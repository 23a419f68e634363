"""Loops that sort one line (floor 2): by counting ranks where it is short, else by radix.

Elements are compared by keys: unsigned integers in the order of the elements, equal where those are
equal. Signed integers have their sign bit flipped; floats their sign bit, negative ones all bits;
-0 has the key of 0, every NaN the largest one. Descending order is that of the complements. Both
methods are stable, so results do not depend on which one runs.

Short lines: the place of an element is the number of those that come before it, counted for a
vector of elements at a time. Longer lines: least significant digit first (Knuth, The Art of
Computer Programming, volume 3, 5.2.5), the counts of all digits taken in one walk, and a digit that
all elements share costs no pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from graphc.base.dims import Dim, Size
from graphc.base.dtypes import DType, bfloat16, float16, int32, int64, uint32, uint64

DIGIT_BITS = 8
DIGITS = 1 << DIGIT_BITS
VECTOR_BYTES = 64
# Elements up to which ranks are counted: n * n / 16 comparisons against about 8 n moves and as many
# counters as there are digits.
RANKED = 192
# Elements of the smallest block of which only the first is looked at.
BLOCK = 32

Read = Callable[[Any], Any]
Write = Callable[[Any, Any], None]


def key_dtype(dtype: DType) -> DType:
    """The dtype of the keys of elements of `dtype`."""
    return uint64 if dtype.bits == 64 else uint32


def key_of(b: Any, x: Any, descending: bool) -> Any:
    """The key of an element x; see the module."""
    dtype = b.dtype_of(x)
    unsigned = key_dtype(dtype)
    top = 1 << unsigned.bits - 1
    if dtype.is_float:
        x = b.cast(x, dtype.compute)
        signed = int64 if dtype.bits == 64 else int32
        bits = b.bitcast(x, signed)
        bits = b.select(b.eq(bits, b.constant(-top, signed)), b.constant(0, signed), bits)
        negative = b.op("shift_right", bits, b.constant(unsigned.bits - 1, signed))
        flips = b.bit_or(negative, b.constant(-top, signed))
        key = b.bitcast(b.op("bit_xor", bits, flips), unsigned)
        key = b.select(b.op("isnan", x), b.constant(2 * top - 1, unsigned), key)
    elif dtype.kind == "i":
        key = b.cast(x, unsigned)  # wraps: adding 2**(bits - 1) is flipping the sign bit
        key = b.op("bit_xor", key, b.constant(top, unsigned))
    else:
        key = b.cast(x, unsigned)
    return b.bit_not(key) if descending else key


def key_bits(dtype: DType) -> tuple[int, int]:
    """(first, end): the bits in which keys of elements of `dtype` differ; those of 16-bit floats
    are keys of float32 whose last bits are equal, those of narrow integers have equal first bits.
    """
    if dtype is bfloat16:
        return 16, 32
    if dtype is float16:
        return 13, 32
    if dtype.is_float or dtype.bits >= 32:
        return 0, dtype.bits
    return 0, 32 if dtype.kind == "i" else max(dtype.bits, 1)


# -- ranks ----------------------------------------------------------------------------------------


def sort_by_ranks(
    b: Any, size: Size | Any, most: int, dtype: DType, read: Read, descending: bool, places: bool
) -> Any:
    """Sort a line of `size` <= `most` elements of `dtype`; a scratch line that holds, in order, the
    elements, or with `places` where they were (int32).
    """
    unsigned = key_dtype(dtype)
    width = VECTOR_BYTES // unsigned.itemsize
    blocks = -(-most // width)
    keys = b.local((blocks * width,), unsigned)
    values = b.local((blocks * width,), dtype)
    found = b.local((blocks * width,), int32 if places else dtype)
    largest = b.constant((1 << unsigned.bits) - 1, unsigned)
    b.lanes(blocks * width, unsigned, lambda i: b.put(keys, largest, (i,)))

    def fill(i: Any) -> None:
        x = read(i)
        b.put(values, x, (i,))
        b.put(keys, key_of(b, x, descending), (i,))

    b.lanes(size, unsigned, fill)
    used = b.size(size) if isinstance(size, int | Dim) else size
    count = b.op("floordiv", b.add(used, b.size(width - 1)), b.size(width))

    def block(c: Any) -> None:
        start = b.mul(c, b.size(width))
        stop = b.add(start, b.size(width))

        def element(lane: Any) -> None:
            i = b.add(start, lane)
            own = b.get(keys, (i,))
            rank = b.running(int32)

            def counted(first: Any, comes_before: Callable[[Any, Any], Any]) -> Read:
                def visit(k: Any) -> None:
                    j = b.add(first, k)
                    before = comes_before(b.get(keys, (j,)), j)
                    b.accumulate(rank, b.select(before, b.constant(1, int32), b.constant(0, int32)))

                return visit

            def stable(other: Any, j: Any) -> Any:
                tie = b.bit_and(b.eq(other, own), b.lt(j, i))
                return b.bit_or(b.lt(other, own), tie)

            b.loop(start, counted(b.size(0), lambda other, j: b.le(other, own)))
            b.loop(width, counted(start, stable))
            b.loop(
                b.sub(b.mul(count, b.size(width)), stop),
                counted(stop, lambda other, j: b.lt(other, own)),
            )
            entry = b.cast(i, int32) if places else b.get(values, (i,))
            b.put(found, entry, (b.cast(b.total(rank), int64),))

        b.lanes(width, unsigned, element)

    b.loop(count, block)
    return found


# -- radix ----------------------------------------------------------------------------------------


class Radix:
    """Scratch of one line of at most `most` elements, sorted by radix: two copies of the elements
    and, with `places`, of where they were; `get` reads the sorted line.
    """

    def __init__(self, b: Any, most: Size, dtype: DType, places: bool, descending: bool) -> None:
        self.b = b
        self.descending = descending
        self.dtype = dtype
        self.first, end = key_bits(dtype)
        self.passes = -(-(end - self.first) // DIGIT_BITS)
        self.values = b.local((2, most), dtype)
        narrow = isinstance(most, int) and most < 2**31
        self.places = b.local((2, most), int32 if narrow else int64) if places else None
        self.counts = b.local((self.passes, DIGITS), int64)
        self.copy = b.local((), int64)

    def get(self, k: Any) -> Any:
        """The k-th element in order, or where it was."""
        source = self.values if self.places is None else self.places
        return self.b.get(source, (self.b.get(self.copy), k))

    def sort(self, size: Any, read: Read, place: Read | None = None) -> None:
        """Sort `size` elements, read(k) at place(k), which is k unless given."""
        b = self.b
        for p in range(self.passes):
            row = b.size(p)
            b.lanes(DIGITS, int64, lambda d, row=row: b.put(self.counts, b.size(0), (row, d)))

        def fill(k: Any) -> None:
            x = read(k)
            b.put(self.values, x, (b.size(0), k))
            if self.places is not None:
                at = k if place is None else place(k)
                b.put(self.places, b.cast(at, self.places.dtype), (b.size(0), k))
            key = key_of(b, x, self.descending)
            for p in range(self.passes):
                at = (b.size(p), self._digit(key, b.size(p)))
                b.put(self.counts, b.add(b.get(self.counts, at), b.size(1)), at)

        b.loop(size, fill)
        b.put(self.copy, b.size(0))

        def one_pass(p: Any) -> None:
            lead = b.get(self.values, (b.size(0), b.size(0)))
            shared = self._digit(key_of(b, lead, self.descending), p)
            differs = b.lt(b.get(self.counts, (p, shared)), size)
            b.when(differs, lambda: self._move(size, p))

        b.when(b.gt(size, b.size(1)), lambda: b.loop(self.passes, one_pass))

    def _digit(self, key: Any, p: Any) -> Any:
        b = self.b
        dtype = b.dtype_of(key)
        shift = b.add(b.mul(p, b.size(DIGIT_BITS)), b.size(self.first))
        part = b.op("shift_right", key, b.cast(shift, dtype))
        return b.cast(b.bit_and(part, b.constant(DIGITS - 1, dtype)), int64)

    def _move(self, size: Any, p: Any) -> None:
        """To the other copy, in the order of the p-th digits."""
        b = self.b
        total, origin = b.local((), int64), b.get(self.copy)
        goal = b.sub(b.size(1), origin)
        b.put(total, b.size(0))

        def start(d: Any) -> None:
            before, here = b.get(total), b.get(self.counts, (p, d))
            b.put(self.counts, before, (p, d))
            b.put(total, b.add(before, here))

        b.loop(DIGITS, start)

        def move(k: Any) -> None:
            x = b.get(self.values, (origin, k))
            at = (p, self._digit(key_of(b, x, self.descending), p))
            to = b.get(self.counts, at)
            b.put(self.values, x, (goal, to))
            if self.places is not None:
                b.put(self.places, b.get(self.places, (origin, k)), (goal, to))
            b.put(self.counts, b.add(to, b.size(1)), at)

        b.loop(size, move)
        b.put(self.copy, goal)


# -- the first ones -------------------------------------------------------------------------------


class Candidates:
    """The places of all elements of a line that may be among the first `count` in order.

    The line is cut into blocks. As many blocks as are wanted have a first element up to the
    `count`-th of these, so no later element is among the first. `chosen` are the places that
    remain, in their order, `total` their number: for elements in no special order little more
    than `count`, and the whole line where all are equal.
    """

    def __init__(
        self, b: Any, size: Size, count: int, dtype: DType, read: Read, descending: bool
    ) -> None:
        self.b, self.size, self.count = b, size, count
        self.read, self.descending = read, descending
        self.unsigned = key_dtype(dtype)
        self.block = block_size(size, count)
        self.blocks: Size = (size + (self.block - 1)) // self.block
        narrow = isinstance(size, int) and size < 2**31
        self.chosen = b.local((size,), int32 if narrow else int64)
        self.total = b.local((), int64)
        self._firsts = b.local((self.blocks,), self.unsigned)
        b.put(self.total, b.size(0))

    def find(self) -> None:
        """Fill `chosen` and `total`."""
        b = self.b
        b.loop(self.blocks, self._first_of_block)
        limit = b.local((), self.unsigned)
        b.put(limit, b.constant((1 << self.unsigned.bits) - 1, self.unsigned))
        blocks, last = b.size(self.blocks), b.size(self.count - 1)

        def first(k: Any) -> Any:
            return b.get(self._firsts, (k,))

        def by_ranks() -> None:
            assert isinstance(self.blocks, int)
            found = sort_by_ranks(b, blocks, self.blocks, self.unsigned, first, False, False)
            b.put(limit, b.get(found, (last,)))

        def by_digits() -> None:
            lines = Radix(b, self.blocks, self.unsigned, False, False)
            lines.sort(blocks, first)
            b.put(limit, lines.get(last))

        if isinstance(self.blocks, int) and self.blocks <= RANKED:
            by_ranks()
        else:
            b.when(b.le(b.size(self.count), blocks), by_digits)

        def look(c: Any) -> None:
            b.when(b.le(first(c), b.get(limit)), lambda: self._choose(c, b.get(limit)))

        b.loop(self.blocks, look)

    def _extent(self, c: Any) -> tuple[Any, Any]:
        """(first place, length) of block c."""
        b = self.b
        start = b.mul(c, b.size(self.block))
        return start, b.minimum(b.size(self.block), b.sub(b.size(self.size), start))

    def _first_of_block(self, c: Any) -> None:
        b = self.b
        start, length = self._extent(c)
        # Running values start at 0: the largest complement is that of the smallest key.
        largest = b.running(self.unsigned, "maximum")

        def visit(i: Any) -> None:
            key = key_of(b, self.read(b.add(start, i)), not self.descending)
            b.accumulate(largest, key)

        b.lanes(length, self.unsigned, visit)
        b.put(self._firsts, b.bit_not(b.total(largest)), (c,))

    def _choose(self, c: Any, limit: Any) -> None:
        b = self.b
        start, length = self._extent(c)

        def visit(i: Any) -> None:
            # Written in any case; the next one overwrites it unless it stays.
            place = b.add(start, i)
            at = b.get(self.total)
            b.put(self.chosen, b.cast(place, self.chosen.dtype), (at,))
            stays = b.le(key_of(b, self.read(place), self.descending), limit)
            b.put(self.total, b.add(at, b.cast(stays, int64)))

        b.loop(length, visit)


def block_size(size: Size, count: int) -> int:
    """Elements of a block of a line of which the first `count` are wanted: about as much work goes
    into ordering the blocks' firsts as into walking through `count` blocks.
    """
    if not isinstance(size, int):
        return 2 * BLOCK
    return BLOCK * max(1, math.isqrt(4 * size // max(count, 1)) // BLOCK)


def worth_choosing(size: Size, count: int) -> bool:
    """Whether candidates are looked for: a known line must have some more blocks than wanted."""
    return not isinstance(size, int) or size >= 3 * count * block_size(size, count)
