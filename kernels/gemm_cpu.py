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

from graphc.base.dims import bounds
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.kernels.gemm_blocks import blocks_for, in_memory, one_line
from graphc.kernels.gemm_loops import blocked_product
from graphc.kernels.gemm_problem import Blocks, Problem
from graphc.lower.chains import has_tiles
from graphc.lower.contraction import (
    ContractionPlan,
    is_dot,
    letter_sizes,
    letters,
    summed_letters,
    vector_letter,
)
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel
from graphc.lower.panel_layout import in_panels
from graphc.lower.regions import Region
from graphc.schedule.panels import cut

# Elements along a letter that make few vectors, the last of which may be nearly empty.
SHORT = 32


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
    volume: int = 400 << 20


@dataclass(frozen=True)
class GemmTemplate:
    """Products whose operands are too large for the caches; see the module.

    limits: below, generic lowering is at least as fast; plain: the same for matrices that lie in
    memory as `gemm_strips` reads them (1 to 5 % faster up to 1024 squared);
    short: those of results whose columns are several letters that are no neighbours in memory, with
    few elements along the last one, such as windows of small images. blocks: sizes of blocks to use
    instead of those for the machine (tests).
    """

    limits: Limits = Limits()
    plain: Limits = Limits(volume=8 << 30)
    short: Limits = Limits(32, 32, 32, 128 << 10, 24 << 20)
    blocks: Blocks | None = None
    name: str = "gemm"

    def match(self, region: Region, target: Target) -> tuple[Region, Problem] | None:
        """The problem of a contraction region, with the region."""
        node = region.contraction
        problem = None if node is None else self.problem(node, target)
        return None if problem is None else (region, problem)

    def problem(self, node: Tensor, target: Target) -> Problem | None:
        """The problem of a contraction, None where it is none for this template or too small."""
        if target.kind != "cpu" or not has_tiles(node) or is_dot(node):
            return None
        if in_panels(node):
            return None  # it is packed
        problem = classified(node)
        if problem is None or not problem.rows:
            return None
        return problem if self._pays(problem, node) else None

    def configs(self, problem: tuple[Region, Problem], target: Target) -> Iterable[Blocks]:
        """Block sizes for the machine."""
        region, found = problem
        assert region.contraction is not None, "matched"
        yield self.blocks or blocks_for(found, region.contraction, target)

    def build(
        self, problem: tuple[Region, Problem], config: Blocks, builder: KernelBuilder
    ) -> list[LoweredKernel]:
        """The kernels."""
        region, found = problem
        return blocked_product(ContractionPlan.of(region, builder), found, config)

    def _pays(self, problem: Problem, node: Tensor) -> bool:
        last = problem.sizes[problem.columns[-1]]
        apart = len(problem.columns) > 1 and not one_line(problem, node)
        short = apart and isinstance(last, int) and last <= SHORT
        wanted = self.short if short else self.plain if _is_plain(problem, node) else self.limits
        sizes = (
            problem.size(problem.rows),
            problem.size(problem.columns),
            problem.size(problem.summed),
        )
        rows, columns, summed = (bounds(size)[0] or 0 for size in sizes)
        panel = columns * summed * node.dtype.itemsize
        return (
            rows >= wanted.rows
            and columns >= wanted.columns
            and summed >= wanted.summed
            and panel >= wanted.operand_bytes
            and rows * panel >= wanted.volume
        )


def _is_plain(problem: Problem, node: Tensor) -> bool:
    """Whether a product reads two matrices by rows: no view, nothing turned. Pixels of an image are
    one row.
    """
    own = letters(node)[:2]
    ends = (problem.summed[-1], problem.columns[-1])
    rows, columns = problem.row_operand, 1 - problem.row_operand
    return (
        one_line(problem, node)
        and (own[rows][-1], own[columns][-1]) == ends
        and in_memory(node, rows)
    )


def classified(node: Tensor) -> Problem | None:
    """The letters of a contraction by what they are for, None where it is no product with a matrix
    that vectors run along; one row has no letter.
    """
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
    if not summed or any(c not in a or c not in b for c in summed):
        return None
    if any(not isinstance(sizes[c], int) for c in summed[1:]):
        return None  # run time decides how long panels are
    outer = [c for c in kept if c not in rows and c not in columns]
    first, depth = cut(tuple(sizes[c] for c in summed))
    return Problem(sizes, row_operand, outer, rows, columns, summed, depth, summed[first:])
