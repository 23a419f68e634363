"""Cascades for CPUs (beside the floors): product, rows, product, a block of rows at a time.

    for outer letters, blocks of rows      parallel
      S = a block of rows of the first product            (in strips, as in `gemm_strips`)
      for its rows: P = reductions and elementwise work   (in place of S, where shapes agree)
      results = elementwise work (P B)                    (in strips)

A block has as many rows as leave S and P in half of the second-level cache, and fewer where threads
would find no work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from graphc.base.dims import Size, bounds, product
from graphc.base.dtypes import float32, float64
from graphc.base.records import dataclass
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.kernels.gemm_blocks import one_line
from graphc.kernels.gemm_cpu import classified
from graphc.kernels.gemm_problem import Problem, count, extent, up
from graphc.kernels.gemm_strips import StripLoops, Strips, strips_for
from graphc.loops.build import iadd, imul
from graphc.loops.index_math import unflatten
from graphc.loops.nodes import Alloc, Buffer, Expr, For, Stmt, const, size
from graphc.lower.cascades import rows_operand
from graphc.lower.contraction import ContractionPlan, is_dot, letters
from graphc.lower.edges import effective
from graphc.lower.kernel_builder import Kept, KernelBuilder, LoweredKernel
from graphc.lower.regions import Region
from graphc.lower.to_loops import row_statements, work_of_rows

# Rows of a block: at most, at least, and where the length of a row is not known. Measured with rows
# of 512 to 4096 scores: 16 to 64 rows take the same time, 256 up to a tenth more.
ROWS, LEAST, UNKNOWN = 64, 16, 32
# Steps that any number of threads finds work in.
STEPS = 8


@dataclass(frozen=True, slots=True)
class Block:
    """How many rows of what lies between a step has."""

    rows: int


@dataclass(frozen=True)
class CascadeTemplate:
    """Regions of `lower.cascades` as one kernel; see the module. least: bytes of what lies between,
    below which it stays near enough. features: the most elements that both products' operands
    have for each element of a row of one thing that lies between: each block reads them all, and
    a block's rows, written and read, should be more. rows: of a block, instead of those for the
    machine (tests).
    """

    least: int = 1 << 20
    features: int = 2 * ROWS
    rows: int = 0
    name: str = "cascade"

    def takes(self, stages: Sequence[Region], target: Target) -> bool:
        """Whether the stages' products go by blocks of rows."""
        if target.kind != "cpu":
            return False
        first, last = _problem(stages[0]), _problem(stages[-1])
        if first is None or last is None:
            return False
        sizes = first.size(first.summed), last.size(last.columns)
        if sum(bounds(s)[0] or 0 for s in sizes) > self.features * (len(stages) - 1):
            return False
        if rows_operand(stages[-1], stages[-2]) != last.row_operand:
            return False
        shape = first.shape([*first.outer, *first.rows])
        if shape != last.shape([*last.outer, *last.rows]) or not first.rows:
            return False
        if any(s.kind == "row" and s.domain[: s.rows] != shape for s in stages):
            return False
        # Rows come before columns, in what lies between and in what reads it.
        own, read = stages[0].contraction, stages[-1].contraction
        assert own is not None and read is not None, "they have problems"
        made = _kept_letters(own, first, 2)
        taken = _kept_letters(read, last, last.row_operand)
        return made == [*first.outer, *first.rows, *first.columns] and (
            taken == [*last.outer, *last.rows, *last.summed] and len(first.rows) == len(last.rows)
        )

    def match(self, region: Region, target: Target) -> Region | None:
        """A cascade; it was asked for when regions were found."""
        return region if region.kind == "cascade" else None

    def configs(self, problem: Region, target: Target) -> Iterable[tuple[Block, Target]]:
        """The block for the machine."""
        first = _problem(problem.stages[0])
        assert first is not None, "taken"
        yield Block(self.rows or _rows_for(problem, first, target)), target

    def build(
        self, problem: Region, config: tuple[Block, Target], builder: KernelBuilder
    ) -> list[LoweredKernel]:
        """The kernel."""
        return [_Cascade(problem, *config, builder).kernel()]


def _problem(stage: Region) -> Problem | None:
    node = stage.contraction
    if node is None or node.dtype not in (float32, float64) or is_dot(node):
        return None
    problem = classified(node)
    if problem is None or not problem.rows:
        return None
    if len(problem.columns) != 1 and not one_line(problem, node):
        return None
    around = [problem.sizes[c] for c in problem.leading]
    known = all(isinstance(turns, int) and turns > 0 for turns in around)
    return problem if known else None


def _kept_letters(node: Tensor, problem: Problem, which: int) -> list[str]:
    return [c for c in letters(node)[which] if problem.sizes[c] != 1]


def _rows_for(region: Region, problem: Problem, target: Target) -> int:
    """The rows of a block, before they are made a multiple of a register tile's."""
    between = [s.outputs[0] for s in region.stages[:-1]]
    dims = len(problem.outer) + len(problem.rows)
    row: Size = 0
    for group in _shared(between):
        row = row + product(effective(group[0].shape)[dims:]) * group[0].dtype.itemsize
    high = bounds(row)[1]
    most = UNKNOWN
    if high is not None:
        most = max(LEAST, min(ROWS, target.l2_bytes // 2 // max(high, 1)))
    whole, outer = problem.size(problem.rows), problem.size(problem.outer)
    if not isinstance(whole, int):
        return most
    if isinstance(outer, int):
        most = min(most, -(-whole // -(-STEPS // max(outer, 1))))
    return -(-whole // -(-whole // max(most, 1)))


def _shared(between: Sequence[Tensor]) -> list[list[Tensor]]:
    """What lies between, by what shares scratch memory: the rows of a tensor are written where
    those that they are made of lie.
    """
    first = between[0]
    if all((t.shape, t.dtype) == (first.shape, first.dtype) for t in between):
        return [list(between)]
    return [[t] for t in between]


class _Cascade:
    """The kernel while it is written."""

    def __init__(
        self, region: Region, block: Block, target: Target, builder: KernelBuilder
    ) -> None:
        self.region = region
        self.builder = builder
        self.ends = (region.stages[0], region.stages[-1])
        self.plans = [ContractionPlan.of(stage, builder) for stage in self.ends]
        problems = [_problem(stage) for stage in self.ends]
        self.problems = [p for p in problems if p is not None]
        strips = [
            strips_for(problem, plan.node, target)
            for problem, plan in zip(self.problems, self.plans, strict=True)
        ]
        height = strips[0].height
        self.block = up(max(block.rows, 1), height)
        self.strips: list[Strips] = [
            replace(s, rows=self.block, height=height, vectors=2 if height > 4 else s.vectors)
            for s in strips
        ]

    def kernel(self) -> LoweredKernel:
        """Parallel over outer letters and blocks of rows."""
        builder, first = self.builder, self.problems[0]
        whole = first.size(first.rows)
        step = builder.variable("i")
        grid = (*first.shape(first.outer), count(whole, self.block))
        *outer, block = unflatten(step, grid)
        self.first = imul(block, const(self.block))
        self.outer = tuple(outer)
        body: list[Stmt] = []
        rows = builder.let("rows", extent(whole, self.first, self.block), body)
        body += self._kept()
        for stage in self.region.stages:
            builder.members.clear()
            builder.members.update(id(n) for n in stage.nodes)
            if stage.kind == "row":
                body.append(self._rows(stage, rows))
            else:
                body += self._product(self.ends.index(stage), rows)
        work = self.plans[0].work + self.plans[1].work
        for stage in self.region.stages[1:-1]:
            work = work + work_of_rows(stage)
        return builder.kernel([For(step, size(product(grid)), tuple(body), "parallel")], work)

    def _kept(self) -> list[Stmt]:
        """Scratch memory for what lies between."""
        first = self.problems[0]
        before, shape = len(first.outer), first.shape(first.rows)
        found: list[Stmt] = []
        for group in _shared([s.outputs[0] for s in self.region.stages[:-1]]):
            own = effective(group[0].shape)[before + len(shape) :]
            name = self.builder.names.fresh("between")
            buffer = Buffer(name, (self.block, *own), group[0].dtype, "local")
            found.append(Alloc(buffer))
            for node in group:
                self.builder.keep(node, Kept(buffer, before, shape, self.first))
        return found

    def _product(self, number: int, rows: Expr) -> list[Stmt]:
        problem = self.problems[number]
        loops = StripLoops(self.plans[number], problem, self.strips[number])
        at = dict(zip(problem.outer, self.outer, strict=True))
        return loops.of_rows(at, self.first, rows)

    def _rows(self, stage: Region, rows: Expr) -> Stmt:
        problem = self.problems[0]
        row = self.builder.variable("r")
        places = unflatten(iadd(self.first, row), problem.shape(problem.rows))
        body = row_statements(stage, self.builder, (*self.outer, *places))
        return For(row, rows, tuple(body))
