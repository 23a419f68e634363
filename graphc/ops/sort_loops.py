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
