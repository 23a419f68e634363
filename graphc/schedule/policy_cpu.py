"""The CPU policy (floor 5): how loops map to cores, vectors and tiles; numbers with their reasons,
no code generation.

Widths of accumulating loops depend on dtype and size only, never on the machine or on what is
fused, because they fix the order of accumulation and so the bits of the result. Tiles of
contractions may depend on the machine: each of their results is one chain in index order, whatever
the tile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphc.base.dims import Size, bounds, product
from graphc.base.dtypes import DType
from graphc.base.target import Target

VECTOR_BYTES = 64
# Results of so many bytes are written past the caches: more than the share that a thread has of the
# last one (8 to 32 MB for all). Softmax of 16 MB takes 0.52 ms so, 0.64 through the caches.
STREAMED_BYTES = 12 * 1024 * 1024
# Lines of operands of so many bytes, more than the second-level caches hold, are asked for so many
# bytes ahead (`backend/fetching.py`): sums of rows from memory take 0.70 to 0.95 of the time, as
# others leave memory idle; of 4 MB in the last cache 0.9, of 1 MB as long, of less up to 1.1.
FETCHED_BYTES = 4 * 1024 * 1024
FETCH_AHEAD = 8192
# The same where a vector loop goes down a few rows for each vector: that many lines for each.
FETCH_AHEAD_ROWS, FETCH_MOST_ROWS = 1024, 8
# Four independent chains hide the latency of an addition (3-4 cycles, 1-2 per cycle).
REDUCTION_INTERLEAVE = 4
# Elements of one parallel step of a flat loop: 8 K float32 are 32 KB per operand, a chunk that
# amortises the claim.
FLAT_BLOCK = 8192
# The same where an element takes several long functions, about a nanosecond: a chunk of some
# microseconds, so that two threads share 5,000 prices of Black and Scholes (11.7 µs on one).
FLAT_BLOCK_DEAR, FLAT_DEAR_OPS = 2048, 3
# Elements of a row whose lanes are added up before the next ones: errors do not add up along it.
ROW_CHAIN = 1024
# Axes that are reduced side by side are one loop where the last has fewer elements: the lanes of a
# row of 28 are added up as often as there are rows, which takes twice the time of reading them.
ROW_SHORT = 256
# Rows of at most so many elements lie side by side in vectors, one row a lane: a vector along such
# a row would be mostly empty. The elements of longer ones would be gathered, which is slower.
NARROW_ROW = 4
# Rows of one step, and the fewest that are worth it.
NARROW_BLOCK, NARROW_LEAST = 512, 16
# Rows of one step where what is computed from their reductions is dear: a vector of the logarithms
# of 16 rows takes as long as one alone (6 ns). Of long rows there must be enough for all threads,
# of short ones for a vector.
ROW_BLOCK = 16
ROW_BLOCK_ROWS, ROW_BLOCK_SHORT = 512, 256
# A loop is cut at borders into at most so many parts where it lasts for so many vectors, and where
# the copies of its body come to so many nodes: each takes time to compile. Parts of very few
# elements are no vectors.
CUT_PARTS, CUT_SHORTEST, CUT_NODES, CUT_SERIAL = 5, 8, 200, 4
# Elements per partial result when a whole tensor is reduced to one element.
REDUCTION_BLOCK = 16384
# Where a reduction runs across rows and rounds, so many rows make a chain, so many chains a longer
# one, and so on: errors do not add up along all rows. The sum of 4096 normal float32 is right to
# 1.0e-7 of their magnitude (chains of 64 rows: 1.6e-7, one chain: 1e-6).
COLUMN_CHAINS = (8, 8, 8, 64)
# Sums of float32 have accumulators of float64 (decision 0044). So many rows are added in float32
# before they enter, and along rows of memory so many vectors: those in flight. Errors are then 1.8
# times that of rounding the true sum.
WIDE_ROWS = 4
# So few times so many rows are written out.
WIDE_TURNS = 2
# Rows of which accumulators in memory hold the sum, and rows of a group: what one step of a large
# reduction takes.
COLUMN_PART = COLUMN_CHAINS[0] * COLUMN_CHAINS[1]
COLUMN_GROUP = COLUMN_PART * COLUMN_CHAINS[2]
# Rows of a tile for a (summed x columns) operand of at most so many elements, where at most so many
# are summed. Short chains overlap with those of neighbouring blocks by themselves, and a lower tile
# is less code to generate. Measured on 100,000 rows: 4 x 32 takes 1.7 ns with 2 rows, 1.9 with 4;
# 16 x 16 takes 4.4 ns with 2 rows, 3.4 with 4. Of 4096 rows, 5 x 7 written out takes 1.05 ns with 1
# row, 0.85 with 2, which is given up: a graph of 1,000 mixed nodes, with many products of 8 x 8,
# took a third longer to compile. Of 1000 rows, 100 x 10 takes 13 ns with 4 rows, 10 with more.
SMALL_TILES, SMALL_SUMMED = ((64, 1), (128, 2), (1024, 4)), 16
SMALL_PANEL = SMALL_TILES[-1][0]
# Loops over so few summed elements are written out, as long as a tile has no more of them.
SUMMED_UNROLLED, TILE_UNROLLED = 8, 32
# Rows of a tile at most, and multiply-adds that two pipelines start until the first one is done.
MOST_ROWS = 12
LATENCY = 8
# Columns of a map that fill no vector: the dims before them join them in one loop, as long as the
# rows that it walks stay in the first-level cache.
FEW_COLUMNS = 5
MERGED_COLUMNS = 4096
# Elements of a window up to which it counts as short, and up to which its loops are written out:
# what differs between its elements is then a displacement. A row of 55 windows of 3 x 3 takes some
# 360 instructions in loops and with masks for the last vectors, 230 so.
SHORT_WINDOW, UNROLLED_WINDOW = 64, 9
# Columns per parallel step when a reduction runs across rows: 4 vectors of 64 bytes keep whole
# cache lines in use.
COLUMN_BLOCK = 256
# Operands of at most so many elements, or with so few rows, are reduced with accumulators in
# registers: a strip of 64 columns then stays in the nearer caches and within one TLB. Larger ones
# are read row after row, with accumulators of so many bytes in the first-level cache.
COLUMN_SMALL = 32768
COLUMN_FEW_ROWS = 64
COLUMN_TILE_BYTES = 8192
# The same for wide accumulators: rows of 4096 columns are then read as they lie, from end to end.
COLUMN_TILE_BYTES_WIDE = 32768
COLUMN_STEPS = 8
# So many columns are few enough that their accumulators are registers and rows are near each other.
COLUMN_NARROW = 64

# Ops whose value is kept rather than computed again when several phases of a row want it: a store
# and a load of the first-level cache cost about 0.1 ns an element, these 0.2 ns and more.
DEAR = frozenset(
    "exp exp2 expm1 log log2 log10 log1p tanh sigmoid softplus erf erfc sin cos tan pow asin acos "
    "atan atan2 sinh cosh asinh acosh atanh lgamma digamma polygamma logaddexp remainder "
    "floor_divide hypot gather divide sqrt".split()
)
# Functions that are a long chain of instructions, each waiting for the one before: a map with them
# takes several vectors at once. Black and Scholes' prices of 4 million take 7.0 ms with one vector,
# 4.5 with two, 3.6 with four.
LONG_CHAINS = DEAR - frozenset("remainder floor_divide gather divide sqrt".split())


def lanes(dtype: DType, extent: Size) -> int:
    """Lanes of one vector for elements of `dtype` along an axis of `extent`: a 64-byte vector of
    the dtype that is computed in, or the largest power of two that fits a smaller known extent.
    """
    width = VECTOR_BYTES // max(dtype.compute.itemsize, 1)
    width = min(width, 16)  # 8- and 16-bit integers too: more lanes only lengthen tails
    if isinstance(extent, int):
        while width > max(extent, 1):
            width //= 2
    return width


def whole_lanes(dtype: DType, extent: Size) -> int:
    """Lanes of one vector that holds a whole axis of `extent`, if any vector does."""
    width = lanes(dtype, extent)
    most = lanes(dtype, VECTOR_BYTES)
    return width * 2 if isinstance(extent, int) and width < min(extent, most) else width


def fills_vectors(columns: int) -> bool:
    """Whether a loop over so many columns, few of them in a dim, is long enough: one over more dims
    reads what is broadcast along some of them element by element.
    """
    whole = -(-columns // 16) * 16
    return columns >= FEW_COLUMNS * FEW_COLUMNS or 4 * columns >= 3 * whole


def is_narrow(extents: Iterable[Size]) -> bool:
    """Whether a reduction over axes of these extents goes one element after another."""
    count = product(extents)
    return isinstance(count, int) and count <= NARROW_ROW


def cuts(points: int, nodes: int) -> bool:
    """Whether a loop whose body has so many nodes is cut at so many points."""
    return points < CUT_PARTS and nodes * (points + 1) <= CUT_NODES


def takes_blocks_of_rows(rows: Size, longest: int | None) -> bool:
    """Whether so many rows, of at most `longest` elements, are worked on by blocks."""
    low = rows if isinstance(rows, int) else 0
    if longest is not None and longest <= ROW_BLOCK_SHORT:
        return not isinstance(rows, int) or low >= ROW_BLOCK
    return low >= ROW_BLOCK_ROWS


def interleave(extent: Size, width: int, wanted: int = REDUCTION_INTERLEAVE) -> int:
    """Vectors in flight for an accumulating loop: less where the known extent has fewer."""
    high = bounds(extent)[1]
    while wanted > 1 and high is not None and high < width * wanted:
        wanted //= 2
    return wanted


def whole_vectors(extent: Size, width: int) -> tuple[int, int] | None:
    """Blocks, and vectors of each, that cover an extent of known length, the last block that ends
    where it does: as few vectors as there can be, as many as possible in a block. None where the
    extent is not known or fills no vector.
    """
    if not isinstance(extent, int) or extent < width or width == 1:
        return None
    fits = [g for g in range(1, REDUCTION_INTERLEAVE + 1) if g * width <= extent]
    vectors, groups = min((-(-extent // (g * width)) * g, -g) for g in fits)
    return vectors // -groups, -groups


def flat_block(ops: Iterable[str]) -> int:
    """Elements of one parallel step of a flat loop of these ops."""
    dear = sum(op in LONG_CHAINS for op in ops)
    return FLAT_BLOCK_DEAR if dear >= FLAT_DEAR_OPS else FLAT_BLOCK


def vectors_of_map(ops: Iterable[str], extent: Size, width: int) -> int:
    """Vectors in flight in a map of these ops along `extent`, in vectors of `width`."""
    return interleave(extent, width) if LONG_CHAINS.intersection(ops) else 1


def column_tile(accumulator_bytes: int, wide: bool, steps: Size, columns: Size) -> int:
    """Columns whose accumulators, of so many bytes each, are kept in memory at once: fewer where
    there are not many other `steps` to share among threads. wide: wider than values.
    """
    tile = 16
    most = COLUMN_TILE_BYTES_WIDE if wide else COLUMN_TILE_BYTES
    while tile * 2 * accumulator_bytes <= most:
        tile *= 2
    if not isinstance(columns, int):
        return tile
    while isinstance(steps, int) and tile > COLUMN_BLOCK and steps * columns < tile * COLUMN_STEPS:
        tile //= 2
    return min(tile, columns)


def writes_out_rows(ops: int) -> bool:
    """Whether the rows of a chain are written out where an element takes `ops` ops: eight loads at
    once hide the store that follows, long computations need no such help.
    """
    return ops <= 4


@dataclass(frozen=True, slots=True)
class Tile:
    """Register tile of a contraction: rows x (vectors of `width`)."""

    rows: int
    width: int
    vectors: int


def contraction_tile(target: Target, dtype: DType, rows: Size, columns: Size, summed: Size) -> Tile:
    """The register tile for results of `dtype`: accumulators fill about three quarters of the
    vector registers, the rest holds operands. One 64-byte vector takes 1, 2 or 4 registers on
    AVX-512, AVX2 and 128-bit machines.
    """
    width = lanes(dtype, columns)
    if isinstance(columns, int) and width < columns < 2 * width <= lanes(dtype, 1 << 30):
        # One vector whose last lanes are masked out takes as long as one of half the width.
        width *= 2 if target.register_bytes >= VECTOR_BYTES else 1
    # (rows x vectors) of 64-byte accumulators, with room left for the operands.
    budget = max(2, target.registers * target.register_bytes // VECTOR_BYTES * 3 // 4)
    vectors = 2 if budget >= 16 and (not isinstance(columns, int) or columns >= 2 * width) else 1
    tall = max(1, min(8, budget // vectors))
    panel = SMALL_PANEL + 1
    if isinstance(columns, int) and isinstance(summed, int) and summed <= SMALL_SUMMED:
        panel = columns * summed
    if panel <= SMALL_PANEL:
        tall = min(tall, next(height for limit, height in SMALL_TILES if panel <= limit))
    elif isinstance(rows, int) and rows > tall:
        heights = range(tall // 2, min(MOST_ROWS, budget // vectors) + 1)
        tall = min(heights, key=lambda h: (_tile_cycles(rows, h, vectors), abs(h - tall)))
    if isinstance(rows, int):
        tall = max(1, min(tall, rows))
    return Tile(tall, width, vectors)


def writes_out_summed(count: Size, rows: int) -> bool:
    """Whether the summed elements of a tile of so many rows are written out: the loop would take as
    long as its body.
    """
    few = isinstance(count, int) and count <= SUMMED_UNROLLED
    return few and count * rows <= TILE_UNROLLED


def _tile_cycles(rows: int, tall: int, vectors: int) -> int:
    """Half cycles that a machine with two pipelines takes for a multiply-add to each row: those
    left over by the tiles come one by one, and each waits for the one before.
    """
    return rows // tall * max(tall * vectors, LATENCY) + rows % tall * LATENCY
