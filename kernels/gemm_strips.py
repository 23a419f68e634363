"""Matrix products of few or unknown rows (beside the floors): strips of columns, read as they lie.

    for outer letters, blocks of rows, strips of columns      parallel
      for panels of the summed letters, columns of a register tile
        the first tile of rows reads the column operand and lays it down in a scratch block
        the other tiles read that block: C += A B
        after the last panel, for each tile: results = elementwise work (C)

A separate pass that packs the column operand, as in `gemm_loops`, takes as long as the products of
eight rows and more. Here the first tile reads each element where it is; the others find it in the
first-level cache, in order, whatever the size of a row in memory. The row operand is read where it
is. One row alone has a loop of its own: it needs neither scratch, and several columns at once.
Columns may be several letters that lie side by side, as the pixels of an image do: a convolution
with a window of one pixel is such a product. Where one panel is the whole sum, cheap work that
follows is done in registers.

Rows past the last one of a tile repeat that one, so one register tile serves all numbers of rows,
and what is not known before the run may be any number. Each result is the same chain in the same
panels as in the generic lowering (decision 0012).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphc.base.dims import Shape, Size, bounds, product
from graphc.base.dtypes import bfloat16, float16
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.kernels.gemm_blocks import in_memory, one_line, tile_height
from graphc.kernels.gemm_cpu import classified
from graphc.kernels.gemm_problem import Operand, Problem, count, extent, up
from graphc.loops.build import (
    EXPR,
    FALSE,
    ONE,
    ZERO,
    both,
    iadd,
    ifloordiv,
    imax,
    imin,
    imul,
    isub,
    literal,
)
from graphc.loops.index_math import unflatten
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Buffer,
    Const,
    Expr,
    For,
    If,
    Load,
    Prefetch,
    Stmt,
    Store,
    Var,
    const,
    load,
    size,
)
from graphc.lower.chains import has_tiles, total_of
from graphc.lower.contraction import ContractionPlan, is_dot, store_results
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel
from graphc.lower.regions import Region
from graphc.schedule import policy_cpu as policy


@dataclass(frozen=True, slots=True)
class Strips:
    """Sizes of tiles and blocks: a register tile has `height` rows of `vectors` vectors of `width`
    elements; a step computes at most `rows` rows of `columns` columns. single: vectors of one row.
    """

    height: int
    width: int
    vectors: int
    rows: int
    columns: int
    single: int = 4

    @property
    def panel(self) -> int:
        """The columns of a register tile."""
        return self.width * self.vectors


# Columns of a step, in bytes, and its rows: where the strips alone are steps enough for threads and
# where they are not.
STRIP_BYTES, ROWS, FEW_ROWS = 512, 256, 64
# Rows of 16-bit floats at most: one tile, so that no element is widened twice.
ONE_TILE = 7
# Steps along columns that are enough.
STEPS = 4
# Cheap ops of a region whose results leave the registers at once where one panel is the whole sum:
# each row of a tile has code of its own for them.
AT_ONCE = 8
# The first tile asks for the lines that it reads so many summed elements later, where the column
# operand has more bytes than a second-level cache: nothing sees coming what lies a row apart.
# Measured with 1024 squared: 24 to 64 are equal, 8 and 128 win half as much.
AHEAD, AHEAD_BYTES = 48, 1 << 20
# Accumulators of tiles of few rows, and of one row: wide tiles read long runs of the operand.
ACCUMULATORS, WIDEST = 16, 8


@dataclass(frozen=True)
class StripTemplate:
    """Products whose column operand is not near enough to read again for each tile, and that are
    none for `GemmTemplate`, which is asked before; see the module.

    columns: the fewest of them; operand_bytes: of the column operand, below which generic lowering
    is as fast (sizes that are not known count as large). strips: sizes of blocks to use instead of
    those for the machine (tests).
    """

    columns: int = 32
    operand_bytes: int = 1 << 16
    strips: Strips | None = None
    name: str = "strips"

    def match(self, region: Region, target: Target) -> tuple[Region, Problem] | None:
        """The problem of a contraction region, with the region."""
        node = region.contraction
        problem = None if node is None else self.problem(node, target)
        return None if problem is None else (region, problem)

    def problem(self, node: Tensor, target: Target) -> Problem | None:
        """The problem of a contraction, None where it is none for this template or too small."""
        narrow = node.dtype in (float16, bfloat16)
        if target.kind != "cpu" or not (has_tiles(node) or narrow) or is_dot(node):
            return None
        problem = classified(node)
        if problem is not None and narrow:
            rows = problem.size(problem.rows)
            if not isinstance(rows, int) or rows > ONE_TILE:
                return None  # each tile would widen the operands again
        if problem is None or (len(problem.columns) != 1 and not one_line(problem, node)):
            return None
        around = [problem.sizes[c] for c in problem.leading]
        if not all(isinstance(turns, int) and turns > 0 for turns in around):
            return None
        if not in_memory(node, problem.row_operand):
            return None
        columns, summed = (problem.size(g) for g in (problem.columns, problem.summed))
        high = [bounds(s)[1] for s in (columns, summed)]
        if high[0] is not None and high[0] < self.columns:
            return None
        if None not in high and columns * summed * node.dtype.compute.itemsize < self.operand_bytes:
            return None
        return problem

    def configs(self, problem: tuple[Region, Problem], target: Target) -> Iterable[Strips]:
        """Sizes for the machine."""
        region, found = problem
        assert region.contraction is not None, "matched"
        ops = [node.op.name for node in region.nodes]
        cheap = len(ops) <= AT_ONCE and not policy.DEAR.intersection(ops)
        yield self.strips or strips_for(found, region.contraction, target, cheap)

    def build(
        self, problem: tuple[Region, Problem], config: Strips, builder: KernelBuilder
    ) -> list[LoweredKernel]:
        """The kernel."""
        region, found = problem
        return strip_product(ContractionPlan.of(region, builder), found, config)


def strips_for(problem: Problem, node: Tensor, target: Target, cheap: bool = False) -> Strips:
    """The sizes of blocks and tiles for a machine. cheap: the work on results, which each vector of
    one row has code of its own for.
    """
    width = policy.VECTOR_BYTES // node.dtype.compute.itemsize
    budget = max(2, target.registers * target.register_bytes // policy.VECTOR_BYTES * 3 // 4)
    vectors = 2 if budget >= 16 else 1
    rows = problem.size(problem.rows)
    columns = problem.size(problem.columns)
    height = tile_height(rows, budget // vectors)
    if isinstance(rows, int) and rows <= height:
        height = rows
    most = min(ACCUMULATORS, budget)
    while vectors < WIDEST and height * vectors * 2 <= most:
        vectors *= 2
    single = min(WIDEST, most) // 2
    panel = width * vectors
    across = up(STRIP_BYTES // node.dtype.compute.itemsize, panel)
    strips: Size = count(columns, across)
    if isinstance(strips, int) and isinstance(columns, int):
        across = up(-(-columns // max(strips, STEPS)), panel)
        strips = count(columns, across)
    if rows == 1 and cheap and isinstance(columns, int):
        run = min(ACCUMULATORS, budget * 2 // 3) * width
        strips = max(-(-columns // run), min(STEPS, columns // (single * width)))
        across = up(-(-columns // strips), width)
        single = across // width
    tall = ROWS if not isinstance(strips, int) or strips >= STEPS else FEW_ROWS
    if isinstance(rows, int):
        tall = -(-rows // -(-rows // tall))
    return Strips(height, width, vectors, up(tall, height), across, single)


def strip_product(plan: ContractionPlan, problem: Problem, strips: Strips) -> list[LoweredKernel]:
    """The kernel of a product."""
    return [plan.builder.kernel(StripLoops(plan, problem, strips).body(), plan.work)]


class StripLoops:
    """The loops of one product while they are written."""

    def __init__(self, plan: ContractionPlan, problem: Problem, strips: Strips) -> None:
        self.plan = plan
        self.problem = problem
        self.strips = strips
        self.builder = plan.builder
        self.left = Operand(plan, problem, problem.row_operand)
        self.right = Operand(plan, problem, 1 - problem.row_operand)
        self.total = problem.size(problem.rows)
        # Rows of an odd number of vectors do not compete for the same cache sets.
        across = up(strips.columns, strips.width) // strips.width | 1
        tall = up(strips.rows, strips.height)
        self.b = self._scratch("b", (problem.depth, strips.panel))
        # One panel is all that is ever added up: each tile is done before the next one begins.
        depths = count(problem.size(problem.inner), problem.depth)
        self.one = not problem.leading and isinstance(depths, int) and depths <= 1
        rows = strips.height if self.one else tall
        self.c = self._scratch("c", (rows, across * strips.width))

    def _scratch(self, label: str, shape: Shape) -> Buffer:
        return Buffer(self.builder.names.fresh(f"{label}_block"), shape, self.plan.dtype, "local")

    def body(self) -> list[Stmt]:
        """The parallel loop."""
        problem, strips = self.problem, self.strips
        columns = problem.size(problem.columns)
        step = self.builder.variable("i")
        grid: tuple[Size, ...] = (
            *problem.shape(problem.outer),
            count(self.total, strips.rows),
            count(columns, strips.columns),
        )
        *outer, row_block, strip = unflatten(step, grid)
        self.at: dict[str, Expr] = dict(zip(problem.outer, outer, strict=True))
        self.first_row = imul(row_block, const(strips.rows))
        body: list[Stmt] = []
        self.first_column = self._named("first", imul(strip, const(strips.columns)), body)
        self.rows = self._named("rows", extent(self.total, self.first_row, strips.rows), body)
        across = extent(columns, self.first_column, strips.columns)
        self.columns = self._named("columns", across, body)
        if isinstance(self.total, int):
            body += self._one_row() if self.total == 1 else self._blocked()
        else:
            alone = EXPR.op("le", self.rows, ONE)
            body.append(If(alone, tuple(self._one_row()), tuple(self._blocked())))
        return [For(step, size(product(grid)), tuple(body), "parallel")]

    def of_rows(self, at: dict[str, Expr], first: Expr, rows: Expr) -> list[Stmt]:
        """All columns of the rows from `first` on, at most as many as a step has, at the indices of
        the outer letters.
        """
        columns = self.problem.size(self.problem.columns)
        strip = self.builder.variable("s")
        self.at, self.first_row, self.rows = dict(at), first, rows
        body: list[Stmt] = []
        across = self.strips.columns
        self.first_column = self._named("first", imul(strip, const(across)), body)
        self.columns = self._named("columns", extent(columns, self.first_column, across), body)
        return [For(strip, size(count(columns, across)), (*body, *self._blocked()))]

    def _named(self, name: str, value: Expr, body: list[Stmt]) -> Expr:
        return self.builder.let(name, value, body)

    def _over_panels(self, block: Var, leading: dict[str, Var], body: list[Stmt]) -> list[Stmt]:
        """The loops over panels of the summed letters around statements."""
        around = [(v, self.problem.sizes[c]) for c, v in leading.items()]
        return self.builder.nest(around, [For(block, self._depths(), tuple(body))])

    def _depths(self) -> Expr:
        """The number of panels: a sum of nothing is one, its results are zero."""
        problem = self.problem
        return imax(size(count(problem.size(problem.inner), problem.depth)), ONE)

    def _leading(self) -> dict[str, Var]:
        """Variables for the summed letters around panels."""
        found = {c: self.builder.variable("k") for c in self.problem.leading}
        self.at |= found
        return found

    def _deep(self, block: Expr) -> Expr:
        depth = self.problem.depth
        return extent(self.problem.size(self.problem.inner), imul(block, const(depth)), depth)

    def _row_value(self, row: Expr, k: Expr) -> Expr:
        value = self.left.value(self.at, [(self.problem.rows, row), (self.problem.inner, k)])
        return EXPR.cast(value, self.plan.dtype)

    def _column_value(self, column: Expr, k: Expr) -> Expr:
        """The element of the column operand at a column from `start` on."""
        columns = (self.problem.columns, iadd(self.start, column))
        value = self.right.value(self.at, [columns, (self.problem.inner, k)])
        return EXPR.cast(value, self.plan.dtype)

    def _ordered(self, a: Expr, b: Expr) -> tuple[Expr, Expr]:
        return (a, b) if self.left.number == 0 else (b, a)

    # -- one row --------------------------------------------------------------------------------
    def _one_row(self) -> list[Stmt]:
        """Columns of the one row that there is. Where the vectors of a step are all in flight, the
        last step, of fewer columns, has as many as fill it.
        """
        strips, columns = self.strips, self.problem.size(self.problem.columns)
        if not isinstance(columns, int) or strips.columns > strips.width * strips.single:
            return [self._row_of(self.columns, strips.single)]
        left = columns % strips.columns
        whole = (self._row_of(const(strips.columns), strips.single),)
        if left == 0:
            return list(whole)
        last = self._row_of(const(left), max(1, left // strips.width))
        if columns < strips.columns:
            return [last]
        return [If(EXPR.op("ge", self.columns, const(strips.columns)), whole, (last,))]

    def _row_of(self, columns: Expr, interleave: int) -> Stmt:
        """So many columns of the one row, so many vectors at once."""
        dtype, combine = self.plan.dtype, self.plan.combine
        total = Accumulators((self.builder.variable("total", dtype),), total_of(dtype))
        chain = Accumulators((self.builder.variable("acc", dtype),), combine)
        column, k, block = (self.builder.variable(n) for n in "jkp")
        leading = self._leading()
        self.start = self.first_column
        at_k = iadd(imul(block, const(self.problem.depth)), k)
        a = self._row_value(self.first_row, at_k)
        b = self._column_value(column, at_k)
        inside: list[Stmt] = [*self.builder.checks(), Accumulate(chain, self._ordered(a, b))]
        panel = [chain, For(k, self._deep(block), tuple(inside)), Accumulate(total, chain.vars)]
        body: list[Stmt] = [total, *self._over_panels(block, leading, panel)]
        self._stored(self.first_row, column, total.vars[0], body)
        return For(column, columns, tuple(body), "vector", self.strips.width, interleave)

    # -- tiles ----------------------------------------------------------------------------------
    def _blocked(self) -> list[Stmt]:
        """Tiles of rows; where the last panel is added to a tile, its results are stored."""
        strips = self.strips
        few = isinstance(self.total, int) and self.total <= strips.height
        leading, block = self._leading(), self.builder.variable("p")
        turns = iadd(block, *leading.values())
        self.follows = FALSE if self.one else EXPR.op("gt", turns, ZERO)
        ops = [node.op.name for node in self.plan.region.nodes]
        cheap = len(ops) <= AT_ONCE and not policy.DEAR.intersection(ops)
        self.at_once = self.one and cheap and self._exact()
        body: list[Stmt] = [] if self.at_once else [Alloc(self.c)]
        if not few:
            body.append(Alloc(self.b))
        panel, tile = self.builder.variable("q"), self.builder.variable("t")
        first = imul(panel, const(strips.panel))
        here: list[Stmt] = []
        wide = self._named("wide", extent_of(self.columns, first, strips.panel), here)
        # A name, so that the index of a column of several letters is one again in memory.
        self.start = self._named("start", iadd(self.first_column, first), here)
        if few:
            alone = self._tile(ZERO, first, wide, block, True, False)
            here += [alone, *self._results(ZERO, first, wide, leading, block)]
        else:
            tiles = ifloordiv(iadd(self.rows, const(strips.height - 1)), const(strips.height))
            row = imul(tile, const(strips.height))
            start = self._tile(ZERO, first, wide, block, True, True)
            other = self._tile(row, first, wide, block, False, False)
            each = If(EXPR.op("eq", tile, ZERO), (start,), (other,))
            results = self._results(row, first, wide, leading, block)
            here.append(For(tile, tiles, (each, *results)))
        panels = ifloordiv(iadd(self.columns, const(strips.panel - 1)), const(strips.panel))
        return body + self._over_panels(block, leading, [For(panel, panels, tuple(here))])

    def _tile(
        self, row: Expr, first: Expr, wide: Expr, block: Expr, reads: bool, keeps: bool
    ) -> Stmt:
        """Chains of a tile from a row of the block on, added to C. reads: the column operand where
        it is, and (keeps) for the other tiles, rather than the scratch block.
        """
        strips = self.strips
        lane = self.builder.variable("j")
        loops, k = self._turns(block, reads)
        column = iadd(first, lane)
        at_k = iadd(imul(block, const(self.problem.depth)), k)
        combine = self.plan.combine
        before: list[Stmt] = []
        inside: list[Stmt] = []
        after: list[Stmt] = []
        if reads:
            b = self._column_value(lane, at_k)
            inside += self.builder.checks()
            b = self._named("b", b, inside)
        else:
            b = load(self.b, (k, lane))
        for u in range(strips.height):
            chain = Accumulators((self.builder.variable("acc", self.plan.dtype),), combine)
            before.append(chain)
            a = self._row_value(self._existing(iadd(row, const(u))), at_k)
            inside += self.builder.checks()
            inside.append(Accumulate(chain, self._ordered(a, b)))
            place = self._in_c(row, const(u), column)
            if self.at_once:
                at = iadd(self.first_row, row, const(u))
                self._stored(at, lane, chain.vars[0], after)
            else:
                after.append(Store(self.c, place, self._added(place, chain.vars[0])))
        if keeps:
            inside.append(Store(self.b, (k, lane), b))
            inside += self._ahead(iadd(at_k, const(AHEAD)))
        for variable, turns in reversed(loops):
            inside = [For(variable, turns, tuple(inside))]
        return For(lane, wide, (*before, *inside, *after), "vector", strips.width, strips.vectors)

    def _turns(self, block: Expr, reads: bool) -> tuple[list[tuple[Var, Expr]], Expr]:
        """The loops over a panel of the summed letters, and the index in it. reads: for a tile that
        reads the column operand.
        """
        k = self.builder.variable("k")
        return [(k, self._deep(block))], k

    def _ahead(self, k: Expr) -> list[Stmt]:
        """Calls for the lines of a panel's row of the column operand, if it is large and lies in
        memory in that order. A row begins anywhere in a line, so its last element is asked for too.
        Rows past this panel are the next one's; where there is none, too many calls are in vain.
        """
        strips, problem = self.strips, self.problem
        least = bounds(problem.size([*problem.columns, *problem.summed]))[0] or 0
        along = self.right.letters[-1:] == problem.columns[-1:]
        if self.one or not along or least * self.plan.dtype.itemsize <= AHEAD_BYTES:
            return []
        line = policy.VECTOR_BYTES // self.plan.dtype.itemsize
        lanes = (*range(0, strips.panel, line), strips.panel - 1)
        wanted = [self._column_value(const(at), k) for at in lanes]
        calls: list[Stmt] = [Prefetch(v.buffer, v.indices) for v in wanted if isinstance(v, Load)]
        return calls if len(calls) == len(wanted) and not self.builder.checks() else []

    def _existing(self, row: Expr) -> Expr:
        """The row of the operand for a row of the block; past the last one, that one."""
        found = iadd(self.first_row, row)
        return found if self._exact() else imin(found, isub(size(self.total), ONE))

    def _exact(self) -> bool:
        """Whether tiles end where the rows do."""
        rows, strips = self.total, self.strips
        return isinstance(rows, int) and rows % strips.height == strips.rows % strips.height == 0

    def _added(self, place: tuple[Expr, Expr], panel: Expr) -> Expr:
        """The sum of the panels so far: the first one as it is, the others added to C."""
        if self.follows is FALSE:
            return panel
        before = load(self.c, place, self.follows, literal(-0.0, self.plan.dtype))
        return EXPR.add(before, panel)

    def _in_c(self, first: Expr, row: Expr, column: Expr) -> tuple[Expr, Expr]:
        """Where C holds an element of a tile; tiles that one panel makes follow each other in the
        same place.
        """
        return (row if self.one else iadd(first, row), column)

    def _results(
        self, first: Expr, column: Expr, wide: Expr, leading: dict[str, Var], block: Var
    ) -> list[Stmt]:
        """The results of a tile, if this was its last panel: while they are near, and so that the
        writes to memory go on beside the products of the next tile.
        """
        problem, strips = self.problem, self.strips
        row, lane = self.builder.variable("r"), self.builder.variable("j")
        body: list[Stmt] = []
        value = load(self.c, self._in_c(first, row, iadd(column, lane)))
        self._stored(iadd(self.first_row, first, row), lane, value, body)
        along = For(lane, wide, tuple(body), "vector", strips.width, strips.vectors)
        stored = For(row, extent_of(self.rows, first, strips.height), (along,))
        if self.at_once:
            return []
        if self.one:
            return [stored]
        left = [EXPR.op("eq", iadd(block, ONE), self._depths())]
        left += [EXPR.op("eq", iadd(v, ONE), size(problem.sizes[c])) for c, v in leading.items()]
        return [If(both(*left), (stored,))]

    def _stored(self, row: Expr, column: Expr, value: Expr, body: list[Stmt]) -> None:
        problem = self.problem
        places = unflatten(row, problem.shape(problem.rows))
        at = self.at | dict(zip(problem.rows, places, strict=True))
        columns = unflatten(iadd(self.start, column), problem.shape(problem.columns))
        at |= dict(zip(problem.columns, columns, strict=True))
        index = tuple(at[c] for c in self.plan.out if self.plan.sizes[c] != 1)
        store_results(self.plan, index, value, body)


def extent_of(whole: Expr, first: Expr, block: int) -> Expr:
    """How many elements of a block that starts at `first` exist."""
    left = isub(whole, first)
    if isinstance(whole, Const) and int(whole.value) % block == 0:
        return const(block)
    return imin(const(block), left)
