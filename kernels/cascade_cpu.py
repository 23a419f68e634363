"""Cascades for CPUs (beside the floors): products and rows, a block of rows at a time.

    for outer letters, blocks of rows      parallel
      S = a block of rows of the first product            (in strips, as in `gemm_strips`)
      for its rows: P = reductions and elementwise work   (in place of S, if nothing else reads it)
      results = elementwise work (P B)                    (in strips)

Where a product at the end sums over the rows (P^T B), the blocks of rows are a serial loop inside
of the outer letters, and each adds its part to the sums (`cascade_sums`). A block has as many rows
as leave what lies between in half of the second-level cache, and fewer where threads would find no
work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from graphc.base.dims import Size, bounds, product
from graphc.base.dtypes import float32, float64
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.kernels.cascade_sums import Sums
from graphc.kernels.gemm_blocks import one_line
from graphc.kernels.gemm_cpu import classified
from graphc.kernels.gemm_problem import Problem, count, extent, up
from graphc.kernels.gemm_strips import StripLoops, Strips, strips_for
from graphc.loops.build import iadd, imul
from graphc.loops.index_math import unflatten
from graphc.loops.nodes import Alloc, Buffer, Expr, For, Stmt, const, size
from graphc.lower.contraction import ContractionPlan, is_dot, letters
from graphc.lower.edges import effective
from graphc.lower.kernel_builder import Kept, KernelBuilder, LoweredKernel
from graphc.lower.regions import Region
from graphc.lower.to_loops import row_statements, work_of_rows

# Rows of a block: at most, at least, and where the length of a row is not known. Measured with rows
# of 512 to 4096 scores: 16 to 64 rows take the same time, 256 up to a tenth more.
ROWS, LEAST, UNKNOWN = 64, 16, 32
# Steps that any number of threads finds work in, and those that two to four find work in.
STEPS, FEW_STEPS = 8, 4
# Rows of a register tile where blocks of rows must not cut panels of the sum over rows.
HEIGHT = 8


@dataclass(frozen=True, slots=True)
class Block:
    """How many rows of what lies between a step has."""

    rows: int


@dataclass(frozen=True)
class CascadeTemplate:
    """Regions of `lower.cascades` as one kernel; see the module. least: bytes of what lies between,
    below which it stays near enough; again: bytes of what is computed again rather than stored.
    features: the most elements that both products' operands have for each element of a row of one
    thing that lies between: each block reads them all, and a block's rows, written and read, should
    be more. rows: of a block, instead of those for the machine (tests).
    """

    least: int = 1 << 20
    again: int = 64 << 20
    features: int = 2 * ROWS
    rows: int = 0
    name: str = "cascade"

    def takes(self, between: Sequence[Region], ends: Sequence[Region], target: Target) -> bool:
        """Whether all products go by blocks of the same rows."""
        first = _problem(between[0])
        if target.kind != "cpu" or first is None:
            return False
        results = [t for stage in between for t in stage.outputs]
        kinds = [_kind(stage, results, first) for stage in (*between, *ends)]
        if None in kinds or (SUM in kinds and not _sums_in_order(first)):
            return False
        features: Size = 0
        for stage, kind in zip((*between, *ends), kinds, strict=True):
            found = _problem(stage)
            if found is not None:
                features = (
                    features
                    + {
                        FIRST: found.size(found.summed),
                        LAST: found.size(found.columns),
                        SUM: found.size(found.columns) * 2,  # the sums are read and written
                    }[str(kind)]
                )
        return (bounds(features)[0] or 0) <= self.features * len(between)

    def recomputes(self, between: Sequence[Region]) -> bool:
        """Whether what lies between is more than caches hold."""
        results = [t for stage in between for t in stage.outputs]
        sizes = [product(t.shape) * t.dtype.itemsize for t in results]
        return sum(bounds(size)[0] or 0 for size in sizes) >= self.again

    def match(self, region: Region, target: Target) -> Region | None:
        """A cascade; it was asked for when regions were found."""
        return region if region.kind == "cascade" else None

    def configs(self, problem: Region, target: Target) -> Iterable[tuple[Block, Target]]:
        """The block for the machine."""
        yield Block(self.rows), target

    def build(
        self, problem: Region, config: tuple[Block, Target], builder: KernelBuilder
    ) -> list[LoweredKernel]:
        """The kernel."""
        return [_Cascade(problem, *config, builder).kernel()]


# What a stage is: a product whose rows lie between, rows of these, a product of such rows, a sum
# over them.
FIRST, ROW, LAST, SUM = "first", "row", "last", "sum"


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


def _kind(stage: Region, results: Sequence[Tensor], first: Problem) -> str | None:
    """What a stage is in a cascade that begins with the product `first`; None: it does not fit.
    Rows come before columns in what lies between and in what reads it.
    """
    shape = first.shape([*first.outer, *first.rows])
    if stage.kind == "row":
        return ROW if stage.domain[: stage.rows] == shape else None
    node, problem = stage.contraction, _problem(stage)
    if node is None or problem is None:
        return None
    outer, rows, summed = problem.outer, problem.rows, problem.summed
    operand = node.inputs[problem.row_operand]
    if any(stage.outputs[0] is result for result in results):
        made = [*outer, *rows, *problem.columns]
        fits = problem.shape([*outer, *rows]) == shape and len(rows) == len(first.rows)
        return FIRST if fits and _kept_letters(node, problem, 2) == made else None
    if not any(operand is result for result in results):
        return None
    own = _kept_letters(node, problem, problem.row_operand)
    if own == [*outer, *rows, *summed] and problem.shape([*outer, *rows]) == shape:
        return LAST if len(rows) == len(first.rows) else None
    if own == [*outer, *summed, *rows] and problem.shape([*outer, *summed]) == shape:
        return SUM if len(summed) == len(first.rows) == 1 else None
    return None


def _sums_in_order(first: Problem) -> bool:
    """Whether one step may take all rows: there are other steps, and there is a row."""
    outer = first.size(first.outer)
    rows = bounds(first.size(first.rows))[0] or 0
    return isinstance(outer, int) and outer >= FEW_STEPS and rows > 0


def _kept_letters(node: Tensor, problem: Problem, which: int) -> list[str]:
    return [c for c in letters(node)[which] if problem.sizes[c] != 1]


class _Cascade:
    """The kernel while it is written."""

    def __init__(
        self, region: Region, block: Block, target: Target, builder: KernelBuilder
    ) -> None:
        self.region = region
        self.builder = builder
        stored = {id(n) for n in region.outputs}
        every = [t for stage in region.stages for t in stage.outputs]
        self.between = [t for t in every if id(t) not in stored]
        first = _problem(region.stages[0])
        assert first is not None, "taken"
        self.first = first
        self.kinds = [_kind(stage, self.between, first) for stage in region.stages]
        self.plans: dict[int, ContractionPlan] = {}  # by number of the stage
        self.problems: dict[int, Problem] = {}
        self.strips: dict[int, Strips] = {}
        for stage in region.stages:
            problem = _problem(stage)
            if problem is not None:
                plan = ContractionPlan.of(stage, builder)
                self.plans[stage.number], self.problems[stage.number] = plan, problem
                self.strips[stage.number] = strips_for(problem, plan.node, target)
        self.serial = SUM in self.kinds
        self.shared = self._shared()
        rows = block.rows or self._rows_for(target)
        height = min(self.strips[n].height for n in self._of_rows())
        if self.serial:
            height = 1 << (min(height, HEIGHT).bit_length() - 1)
            rows = 1 << (max(rows, height).bit_length() - 1)
        self.block = up(rows, height)
        for n in self._of_rows():
            self.strips[n] = replace(self.strips[n], rows=self.block, height=height)

    def _of_rows(self) -> list[int]:
        """The products of blocks of rows, by number."""
        stages = zip(self.region.stages, self.kinds, strict=True)
        return [stage.number for stage, kind in stages if kind in (FIRST, LAST)]

    def _shared(self) -> list[list[Tensor]]:
        """What lies between, by what shares scratch memory: rows are written where those lie that
        they are made of, if nothing else reads these.
        """
        reads = [_reads(s, self.between, self.builder.is_producer) for s in self.region.stages]
        readers = {id(t): sum(id(t) in found for found in reads) for t in self.between}
        groups: list[list[Tensor]] = []
        for stage, found in zip(self.region.stages, reads, strict=True):
            results = [t for t in stage.outputs if any(t is b for b in self.between)]
            place = None
            if stage.kind == "row" and len(results) == 1:  # all reads come before the one store
                (result,) = results
                alike = [g for g in groups if g[-1].shape == result.shape]
                alike = [g for g in alike if g[-1].dtype is result.dtype and id(g[-1]) in found]
                place = next((g for g in alike if readers[id(g[-1])] == 1), None)
            if place is None:
                groups += [[t] for t in results]
            else:
                place += results
        return groups

    def _rows_for(self, target: Target) -> int:
        """The rows of a block, before they are made a multiple of a register tile's."""
        first = self.first
        dims = len(first.outer) + len(first.rows)
        row: Size = 0
        for group in self.shared:
            row = row + product(effective(group[0].shape)[dims:]) * group[0].dtype.itemsize
        high = bounds(row)[1]
        most = UNKNOWN
        if high is not None:
            most = max(LEAST, min(ROWS, target.l2_bytes // 2 // max(high, 1)))
        whole, outer = first.size(first.rows), first.size(first.outer)
        if not isinstance(whole, int) or self.serial:
            return most
        if isinstance(outer, int):
            most = min(most, -(-whole // -(-STEPS // max(outer, 1))))
        return -(-whole // -(-whole // max(most, 1)))

    def kernel(self) -> LoweredKernel:
        """Parallel over outer letters and blocks of rows, or over outer letters alone."""
        builder, first = self.builder, self.first
        step, block = builder.variable("i"), builder.variable("block")
        whole = first.size(first.rows)
        outer = first.shape(first.outer)
        blocks = count(whole, self.block)
        grid = outer if self.serial else (*outer, blocks)
        places = unflatten(step, grid)
        self.outer = tuple(places[: len(outer)])
        self.begin = imul(block if self.serial else places[-1], const(self.block))
        before: list[Stmt] = []
        body: list[Stmt] = []
        after: list[Stmt] = []
        rows = builder.let("rows", extent(whole, self.begin, self.block), body)
        body += self._kept()
        work: Size = 0
        for stage, kind in zip(self.region.stages, self.kinds, strict=True):
            builder.members.clear()
            builder.members.update(id(n) for n in stage.nodes)
            work = work + self._stage(stage, str(kind), rows, before, body, after)
        if self.serial:
            body = [*before, For(block, size(blocks), tuple(body)), *after]
        return builder.kernel([For(step, size(product(grid)), tuple(body), "parallel")], work)

    def _kept(self) -> list[Stmt]:
        """Scratch memory for what lies between."""
        before, shape = len(self.first.outer), self.first.shape(self.first.rows)
        found: list[Stmt] = []
        for group in self.shared:
            own = effective(group[0].shape)[before + len(shape) :]
            name = self.builder.names.fresh("between")
            buffer = Buffer(name, (self.block, *own), group[0].dtype, "local")
            found.append(Alloc(buffer))
            for node in group:
                self.builder.keep(node, Kept(buffer, before, shape, self.begin))
        return found

    def _stage(
        self,
        stage: Region,
        kind: str,
        rows: Expr,
        before: list[Stmt],
        body: list[Stmt],
        after: list[Stmt],
    ) -> Size:
        """The statements of a stage: before the blocks of rows, of each, after them. Its work."""
        if kind == ROW:
            row = self.builder.variable("r")
            shape = self.first.shape(self.first.rows)
            places = unflatten(iadd(self.begin, row), shape)
            statements = row_statements(stage, self.builder, (*self.outer, *places))
            body.append(For(row, rows, tuple(statements)))
            return work_of_rows(stage)
        plan, problem = self.plans[stage.number], self.problems[stage.number]
        strips = self.strips[stage.number]
        at = dict(zip(problem.outer, self.outer, strict=True))
        if kind == SUM:
            sums = Sums(plan, problem, strips)
            before += sums.memory()
            body += sums.block(at, self.begin, rows)
            after += sums.results(at)
        else:
            body += StripLoops(plan, problem, strips).of_rows(at, self.begin, rows)
        return plan.work


def _reads(
    stage: Region, results: Sequence[Tensor], is_producer: Callable[[Tensor], bool]
) -> set[int]:
    """The ids of those among `results` that a stage reads, through any views."""
    wanted = {id(t) for t in results} - {id(t) for t in stage.outputs}
    found: set[int] = set()
    seen: set[int] = set()
    stack = [i for node in stage.nodes for i in node.inputs]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if id(node) in wanted:
            found.add(id(node))
        elif not is_producer(node):
            stack.extend(node.inputs)
    return found
