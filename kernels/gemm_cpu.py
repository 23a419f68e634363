"""Blocked matrix products for CPUs (beside the floors): einsum of two operands in packed blocks.

Where a product is larger than the caches, the order in which its elements are visited decides its
speed. A parallel step computes a block of rows x columns of the result. Over blocks of the summed
letters it copies a block of each operand into scratch memory that the second-level cache holds, and
adds their product to the block of the result, in register tiles of rows x vectors; then it writes
the block out, with the elementwise work that follows. Elements are read through the builder while
they are packed, so that windows of a convolution exist in the packed block only.

The blocking is that of K. Goto and R. van de Geijn, "Anatomy of high-performance matrix
multiplication" (2008), with blocks in row-major scratch memory whose rows are an odd number of
cache lines, so that they do not compete for the same cache sets.

A block of the operands is a panel of the summed letters (`schedule.panels`, decision 0012), so the
bits are those of the generic lowering, whatever the blocks of rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphc.base.dims import Size, bounds
from graphc.base.dtypes import DType, float32, float64
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.kernels.gemm_loops import blocked_product
from graphc.kernels.gemm_problem import Blocks, Problem, count
from graphc.lower.contraction import (
    ContractionPlan,
    is_dot,
    letter_sizes,
    letters,
    summed_letters,
    vector_letter,
)
from graphc.lower.edges import is_view
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel
from graphc.lower.regions import Region
from graphc.ops.families import Contraction
from graphc.schedule import policy_cpu as policy
from graphc.schedule.panels import cut

# Rows and bytes of columns of a block of the result: 256 KB of the second-level cache, where the
# block of the row operand takes 128 KB. Measured with 1024 and 2048 squared: half or twice as many
# of either are 1 to 5 % slower.
ROW_BLOCK = 128
COLUMN_BLOCK_BYTES = 2048
# Parallel steps below which blocks are cut smaller: enough for several threads to share.
STEPS = 16
# The part of a block's columns that may be padding before a narrower panel is worth its code.
WASTE = 0.04
# Heights of register tiles, the preferred one first: lower ones wait for additions.
HEIGHTS = (8, 10, 9, 12, 11, 7, 6, 5, 4, 3, 2, 1)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a product must be at least, for packing to pay: rows (the times that an element of the
    column operand is used), columns, summed elements, bytes of the column operand, and rows times
    bytes. Measured on a machine with 1 MB of second-level cache: products of fewer bytes are as
    fast unpacked; with fewer rows packing takes longer than it saves.
    """

    rows: int = 64
    columns: int = 64
    summed: int = 32
    operand_bytes: int = 1 << 20
    volume: int = 512 << 20


@dataclass(frozen=True)
class GemmTemplate:
    """Products whose operands are too large for the caches; see the module.

    limits: below, generic lowering is at least as fast. blocks: sizes of blocks to use instead of
    those for the machine (tests).
    """

    limits: Limits = Limits()
    blocks: Blocks | None = None
    name: str = "gemm"

    def match(self, region: Region, target: Target) -> tuple[Region, Problem] | None:
        """The problem of a contraction region, with the region."""
        found = [n for n in region.nodes if isinstance(n.op.form, Contraction)]
        problem = self.problem(found[0], target) if len(found) == 1 else None
        return None if problem is None else (region, problem)

    def problem(self, node: Tensor, target: Target) -> Problem | None:
        """The problem of a contraction, None where it is none for this template or too small."""
        if target.kind != "cpu" or node.dtype not in (float32, float64) or is_dot(node):
            return None
        problem = classified(node)
        return problem if problem is not None and self._pays(problem, node.dtype) else None

    def configs(self, problem: tuple[Region, Problem], target: Target) -> Iterable[Blocks]:
        """Block sizes for the machine."""
        region, found = problem
        (node,) = [n for n in region.nodes if isinstance(n.op.form, Contraction)]
        yield self.blocks or blocks_for(found, node, target)

    def build(
        self, problem: tuple[Region, Problem], config: Blocks, builder: KernelBuilder
    ) -> list[LoweredKernel]:
        """The kernels."""
        region, found = problem
        return blocked_product(ContractionPlan.of(region, builder), found, config)

    def _pays(self, problem: Problem, dtype: DType) -> bool:
        wanted = self.limits
        sizes = (
            problem.size(problem.rows),
            problem.size(problem.columns),
            problem.size(problem.summed),
        )
        rows, columns, summed = (bounds(size)[0] or 0 for size in sizes)
        panel = columns * summed * dtype.itemsize
        return (
            rows >= wanted.rows
            and columns >= wanted.columns
            and summed >= wanted.summed
            and panel >= wanted.operand_bytes
            and rows * panel >= wanted.volume
        )


def classified(node: Tensor) -> Problem | None:
    """The letters of a contraction by what they are for, None where it has no two matrices."""
    a, b, out = letters(node)
    sizes = letter_sizes(node)
    last = vector_letter(node)
    if last is None or (last in a) == (last in b):
        return None
    row_operand = 1 if last in a else 0
    rows_of, columns_of = (a, b) if row_operand == 0 else (b, a)
    kept = [c for c in out if sizes[c] != 1]
    at = len(kept)
    while at and kept[at - 1] not in rows_of:
        at -= 1
    columns = kept[at:]
    while not all(isinstance(sizes[c], int) for c in columns[1:]):
        columns = columns[1:]  # lines of a block have a known length
    end = next((k + 1 for k in reversed(range(at)) if kept[k] not in columns_of), 0)
    start = end
    while start and kept[start - 1] not in columns_of:
        start -= 1
    rows = kept[start:end]
    summed = summed_letters(node)
    if not rows or not summed or any(c not in a or c not in b for c in summed):
        return None
    if any(not isinstance(sizes[c], int) for c in summed[1:]):
        return None  # run time decides how long panels are
    outer = [c for c in kept if c not in rows and c not in columns]
    first, depth = cut(tuple(sizes[c] for c in summed))
    return Problem(sizes, row_operand, outer, rows, columns, summed, depth, summed[first:])


def blocks_for(problem: Problem, node: Tensor, target: Target) -> Blocks:
    """The sizes of blocks and tiles for a machine; known sizes are cut into equal parts."""
    width = policy.VECTOR_BYTES // node.dtype.itemsize
    # Accumulators fill about three quarters of the vector registers, the rest holds operands.
    budget = max(2, target.registers * target.register_bytes // policy.VECTOR_BYTES * 3 // 4)
    vectors = 2 if budget >= 16 else 1
    rows = problem.size(problem.rows)
    height = tile_height(rows, budget // vectors)
    own = letters(node)[problem.row_operand]
    along = next(c for c in reversed(own) if problem.sizes[c] != 1) == problem.summed[-1]
    in_place = along and _in_memory(node, problem.row_operand)
    wide = COLUMN_BLOCK_BYTES // node.dtype.itemsize
    best: Blocks | None = None
    for tall, broad in _halved(ROW_BLOCK, wide):
        row_block = _even(rows, max(height, tall // height * height), height)
        lines, columns = _column_block(problem, broad, width * vectors)
        shared = (
            len(problem.columns) == 1
            and not (isinstance(rows, int) and rows <= row_block)
            and _in_memory(node, 1 - problem.row_operand)
        )
        narrow = vectors > 1 and _wasted(lines * columns, width * vectors) > WASTE
        best = Blocks(
            height, width, vectors, row_block, lines, columns, shared, not in_place, narrow
        )
        if _steps(problem, best) >= STEPS:
            break
    assert best is not None
    return best


def _halved(tall: int, wide: int) -> Iterable[tuple[int, int]]:
    """Sizes of blocks, ever smaller ones."""
    yield from ((tall, wide), (tall, wide // 2), (tall, wide // 4), (tall // 2, wide // 4))


def _steps(problem: Problem, blocks: Blocks) -> int:
    """How many parallel steps there are at least."""
    across = count(problem.size(problem.columns), blocks.lines * blocks.columns)
    down = count(problem.size(problem.rows), blocks.rows)
    return bounds(problem.size(problem.outer) * across * down)[0] or 1


def _column_block(problem: Problem, wide: int, multiple: int) -> tuple[int, int]:
    """Lines and columns of a block of about `wide` columns."""
    length = problem.sizes[problem.columns[-1]]
    if len(problem.columns) == 1 or not isinstance(length, int):
        return 1, _even(length, wide, multiple)
    return _even(problem.size(problem.columns[:-1]), max(1, wide // length), 1), length


def tile_height(rows: Size, most: int) -> int:
    """Rows of a register tile, at most `most`, such that few rows of the last tile are wasted."""
    heights = [h for h in HEIGHTS if h <= max(1, most)]
    if not isinstance(rows, int):
        return heights[0]
    # Below six rows x two vectors the chains of additions are too few to fill the pipelines.
    wide = [h for h in heights if h >= 6] or heights
    return min(wide, key=lambda h: (-(-rows // h) * h, wide.index(h)))


def _wasted(columns: int, panel: int) -> float:
    """The part of whole panels that pads the last one."""
    return -columns % panel / (columns + -columns % panel)


def _in_memory(node: Tensor, operand: int) -> bool:
    """Whether an operand is no view: reading it again and again costs loads alone."""
    return not is_view(node.inputs[operand])


def _even(size: Size, most: int, multiple: int) -> int:
    """The size of blocks of at most `most` elements, of about the same size where that is known."""
    if not isinstance(size, int) or size <= 0:
        return most
    count = -(-size // most)
    return -(-size // (count * multiple)) * multiple
