"""The loops of a blocked product (beside the floors): packing, register tiles, results.

    for outer letters, column blocks, row blocks      parallel
      for blocks of the summed letters
        A = rows of the row operand, B = columns of the column operand     (packed)
        for panels of B, for tiles of A: C += A B
      results = elementwise work (C)

Scratch memory has room for whole tiles: rows past the last one repeat it, columns past the last one
are zero, and neither is read when results are written. So there is one register tile in the code.
A column operand in memory that many row blocks want is packed by a kernel before, panel after
panel.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.base.dims import Shape, product
from graphc.kernels.gemm_problem import Blocks, Operand, Problem, count, extent, up
from graphc.loops.build import (
    EXPR,
    FALSE,
    ONE,
    ZERO,
    iadd,
    ifloordiv,
    imin,
    imod,
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
    Expr,
    For,
    If,
    Stmt,
    Store,
    Var,
    const,
    load,
    size,
)
from graphc.lower.contraction import ContractionPlan, store_results
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel, Temporary


def blocked_product(plan: ContractionPlan, problem: Problem, blocks: Blocks) -> list[LoweredKernel]:
    """The kernels of a product."""
    if not blocks.shared:
        return [plan.builder.kernel(_Blocked(plan, problem, blocks, None).body(), plan.work)]
    packed = _packed(plan, problem, blocks)
    main = _Blocked(plan, problem, blocks, packed.memory)
    return [packed.kernel, plan.builder.kernel(main.body(), plan.work)]


# -- the column operand, packed once --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Packed:
    kernel: LoweredKernel
    memory: Temporary  # outer letters of the operand, depth blocks, panels, depth, columns


PACKED_COLUMNS = 1024  # of one parallel step


def _packed(plan: ContractionPlan, problem: Problem, blocks: Blocks) -> _Packed:
    """The kernel that packs the column operand."""
    first = plan.builder
    builder = KernelBuilder(first.name + "_pack", first.sites, first.members, first.is_producer)
    plan = ContractionPlan.of(plan.region, builder)
    operand = Operand(plan, problem, 1 - problem.row_operand)
    inner = problem.inner
    outer = [c for c in (*problem.outer, *problem.leading) if c in operand.letters]
    depth, columns = problem.size(inner), problem.size(problem.columns)
    depths = count(depth, problem.depth)
    shape = (
        *problem.shape(outer),
        depths,
        count(columns, blocks.panel),
        problem.depth,
        blocks.panel,
    )
    memory = Temporary(shape, plan.dtype)
    grid = (*problem.shape(outer), depths, count(columns, PACKED_COLUMNS))
    step, k, panel, lane = (builder.variable(n) for n in "ikpj")
    *places, block, across = unflatten(step, grid)
    at = dict(zip(outer, places, strict=True))
    first_k, first_panel = (
        imul(block, const(problem.depth)),
        imul(across, const(PACKED_COLUMNS // blocks.panel)),
    )
    start = imul(iadd(first_panel, panel), const(blocks.panel))
    value = operand.value(at, [(inner, iadd(first_k, k)), (problem.columns, iadd(start, lane))])
    inside: list[Stmt] = builder.checks()
    store = Store(
        builder.output(memory, shape, "packed"),
        (*places, block, iadd(first_panel, panel), k, lane),
        value,
    )
    inside.append(store)
    here = extent(columns, start, blocks.panel)
    body: list[Stmt] = [For(lane, here, tuple(inside), "vector", blocks.width, blocks.vectors)]
    missing = isub(const(blocks.panel), here)
    if missing is not ZERO:
        j = builder.variable("j")
        index = (*store.indices[:-1], iadd(here, j))
        zero = Store(store.buffer, index, literal(0, plan.dtype))
        body.append(For(j, missing, (zero,), "vector", blocks.width))
    panels = extent(count(columns, blocks.panel), first_panel, PACKED_COLUMNS // blocks.panel)
    deep = extent(depth, first_k, problem.depth)
    loops = For(k, deep, (For(panel, panels, tuple(body)),))
    work = product(shape)
    kernel = builder.kernel([For(step, size(product(grid)), (loops,), "parallel")], work)
    return _Packed(kernel, memory)


# -- the product ----------------------------------------------------------------------------------


class _Blocked:
    """The main kernel while it is written."""

    def __init__(
        self, plan: ContractionPlan, problem: Problem, blocks: Blocks, packed: Temporary | None
    ) -> None:
        self.plan = plan
        self.problem = problem
        self.blocks = blocks
        self.builder = plan.builder
        self.left = Operand(plan, problem, problem.row_operand)
        self.right = Operand(plan, problem, 1 - problem.row_operand)
        self.along_rows = self.left.letters[-1:] == problem.rows[-1:] and self.left.is_one_dim(
            problem.rows
        )
        self.inner = problem.inner
        self.packed = packed
        width = blocks.width
        # Rows of an odd number of vectors do not compete for the same cache sets.
        across = up(blocks.lines * blocks.columns, blocks.panel) // width | 1
        tall, deep = up(blocks.rows, blocks.height), problem.depth
        self.b = self._scratch("b", (deep, across * width))
        self.c = self._scratch("c", (tall, across * width))
        shape = (deep, tall) if self.along_rows else (tall, deep)
        self.a = self._scratch("a", (shape[0], (up(shape[1], width) // width | 1) * width))

    def _scratch(self, label: str, shape: Shape) -> Buffer:
        return Buffer(self.builder.names.fresh(f"{label}_block"), shape, self.plan.dtype, "local")

    # -- the parallel step --------------------------------------------------------------------
    def body(self) -> list[Stmt]:
        """The parallel loop."""
        problem, blocks = self.problem, self.blocks
        rows = problem.size(problem.rows)
        leading = problem.columns[:-1]
        lines, columns = problem.size(leading), problem.sizes[problem.columns[-1]]
        step = self.builder.variable("i")
        grid = (
            *problem.shape(problem.outer),
            count(lines, blocks.lines),
            1 if leading else count(columns, blocks.columns),
            count(rows, blocks.rows),
        )
        *outer, line_block, column_block, row_block = unflatten(step, grid)
        self.at: dict[str, Expr] = dict(zip(problem.outer, outer, strict=True))
        self.first_row = imul(row_block, const(blocks.rows))
        self.first_line = imul(line_block, const(blocks.lines))
        self.first_column = imul(column_block, const(blocks.columns))
        body: list[Stmt] = []
        self.rows = self._named("rows", extent(rows, self.first_row, blocks.rows), body)
        self.lines = self._named("lines", extent(lines, self.first_line, blocks.lines), body)
        self.columns = self._named(
            "columns", extent(columns, self.first_column, blocks.columns), body
        )
        height = blocks.height
        self.tiles = ifloordiv(iadd(self.rows, const(height - 1)), const(height))
        self.used = imul(self.lines, self.columns)
        unit = blocks.width if blocks.narrow else blocks.panel
        # Columns with those that pad the last panel.
        self.padded = imul(ifloordiv(iadd(self.used, const(unit - 1)), const(unit)), const(unit))
        body.append(Alloc(self.c))
        if blocks.pack_rows:
            body.append(Alloc(self.a))
            if self.along_rows:
                every = imul(self.tiles, const(height))
                body += self._zeros(self.a, self.rows, isub(every, self.rows))
        if self.packed is None:
            body.append(Alloc(self.b))
            body += self._zeros(self.b, self.used, isub(self.padded, self.used))
        body += self._products()
        body += self._results()
        return [For(step, size(product(grid)), tuple(body), "parallel")]

    def _named(self, name: str, value: Expr, body: list[Stmt]) -> Expr:
        return self.builder.let(name, value, body)

    def _variable(self, name: str) -> Var:
        return self.builder.variable(name)

    def _vector(self, variable: Var, length: Expr, body: list[Stmt], vectors: int = 1) -> For:
        return For(variable, length, tuple(body), "vector", self.blocks.width, vectors)

    def _zeros(self, buffer: Buffer, first: Expr, length: Expr) -> list[Stmt]:
        """Zeros in `length` columns from `first` on."""
        if length is ZERO:
            return []
        row, column = self._variable("r"), self._variable("j")
        store = Store(buffer, (row, iadd(first, column)), literal(0, buffer.dtype))
        return [For(row, size(buffer.shape[0]), (self._vector(column, length, [store]),))]

    # -- over the summed letters --------------------------------------------------------------
    def _products(self) -> list[Stmt]:
        """For each block of the summed letters: pack, multiply."""
        problem, blocks = self.problem, self.blocks
        leading = problem.leading
        loops = {c: self._variable("k") for c in leading}
        self.at |= loops
        self.block = self._variable("k")
        depth = problem.size(self.inner)
        self.first_k = imul(self.block, const(problem.depth))
        self.deep = extent(depth, self.first_k, problem.depth)
        one = count(depth, problem.depth) == 1 and not leading
        turns = iadd(self.block, *loops.values())
        self.follows = FALSE if one else EXPR.op("gt", turns, ZERO)
        body: list[Stmt] = []
        if blocks.pack_rows:
            body += self._pack_rows()
        if self.packed is None:
            body += self._pack_columns()
        panel = self._variable("p")
        body.append(For(panel, ifloordiv(self.padded, const(blocks.panel)), self._panel(panel)))
        rest = imod(self.padded, const(blocks.panel))
        if blocks.vectors > 1 and rest is not ZERO:
            narrow = self._panel(ifloordiv(self.padded, const(blocks.panel)), 1)
            body.append(If(EXPR.op("gt", rest, ZERO), narrow))
        nest = [(loops[c], problem.sizes[c]) for c in leading]
        return self.builder.nest([*nest, (self.block, count(depth, problem.depth))], body)

    def _pack_rows(self) -> list[Stmt]:
        r, k = self._variable("r"), self._variable("k")
        value = self._row_value(r, k)
        body: list[Stmt] = self.builder.checks()
        if self.along_rows:
            body.append(Store(self.a, (k, r), value))
            return [For(k, self.deep, (self._vector(r, self.rows, body),))]
        body.append(Store(self.a, (r, k), value))
        every = imul(self.tiles, const(self.blocks.height))
        return [For(r, every, (self._vector(k, self.deep, body),))]

    def _row_value(self, r: Expr, k: Expr) -> Expr:
        """The element of the row operand at a row of the block and a summed index of the block."""
        row, rows = iadd(self.first_row, r), self.problem.size(self.problem.rows)
        height = self.blocks.height
        exact = isinstance(rows, int) and rows % height == self.blocks.rows % height == 0
        if not (self.along_rows and self.blocks.pack_rows) and not exact:
            row = imin(row, isub(size(rows), ONE))
        groups = [(self.problem.rows, row), (self.inner, iadd(self.first_k, k))]
        return self.left.value(self.at, groups)

    def _pack_columns(self) -> list[Stmt]:
        k, line, column = self._variable("k"), self._variable("l"), self._variable("j")
        place = self.at | self._place(line, column)
        value = self.right.value(place, [(self.inner, iadd(self.first_k, k))])
        body: list[Stmt] = self.builder.checks()
        body.append(Store(self.b, (k, iadd(imul(line, self.columns), column)), value))
        along = self._vector(column, self.columns, body)
        return [For(k, self.deep, (For(line, self.lines, (along,)),))]

    def _place(self, line: Expr, column: Expr) -> dict[str, Expr]:
        """The column letters at a line and a column of the block."""
        *leading, last = self.problem.columns
        lines = unflatten(iadd(self.first_line, line), self.problem.shape(leading))
        return dict(zip(leading, lines, strict=True)) | {last: iadd(self.first_column, column)}

    def _panel(self, panel: Expr, vectors: int = 0) -> tuple[Stmt, ...]:
        """The tiles of one panel: chains taken up from C and laid down again."""
        vectors = vectors or self.blocks.vectors
        combine = self.plan.combine
        tile, lane, k = self._variable("t"), self._variable("j"), self._variable("k")
        column = iadd(imul(panel, const(self.blocks.panel)), lane)
        before: list[Stmt] = []
        inside: list[Stmt] = []
        after: list[Stmt] = []
        b = self._column_value(panel, column, lane, k)
        for u in range(self.blocks.height):
            row = iadd(imul(tile, const(self.blocks.height)), const(u))
            chain = Accumulators((self.builder.variable("acc", self.plan.dtype),), combine)
            before.append(chain)
            a = self._a_value(row, k)
            inside += self.builder.checks()
            inside.append(Accumulate(chain, (a, b) if self.left.number == 0 else (b, a)))
            after.append(Store(self.c, (row, column), self._added(row, column, chain.vars[0])))
        body = [*before, For(k, self.deep, tuple(inside)), *after]
        width = const(vectors * self.blocks.width)
        return (For(tile, self.tiles, (self._vector(lane, width, body, vectors),)),)

    def _added(self, row: Expr, column: Expr, panel: Expr) -> Expr:
        """The sum of the panels so far: the first one as it is, the others added to C."""
        if self.follows is FALSE:
            return panel
        before = load(self.c, (row, column), self.follows, literal(-0.0, self.plan.dtype))
        return EXPR.add(before, panel)

    def _a_value(self, row: Expr, k: Expr) -> Expr:
        if not self.blocks.pack_rows:
            return self._row_value(row, k)
        return load(self.a, (k, row) if self.along_rows else (row, k))

    def _column_value(self, panel: Expr, column: Expr, lane: Expr, k: Expr) -> Expr:
        if self.packed is None:
            return load(self.b, (k, column))
        first = ifloordiv(self.first_column, const(self.blocks.panel))
        if len(self.problem.columns) > 1:
            along = const(self.blocks.columns)
            first = ifloordiv(imul(self.first_line, along), const(self.blocks.panel))
        *outer, _, _, _, _ = self.packed.shape
        places = [self.at[c] for c in self._packed_outer()]
        assert len(places) == len(outer)
        buffer = self.builder.buffer(self.packed, self.packed.shape, "packed")
        return load(buffer, (*places, self.block, iadd(first, panel), k, lane))

    def _packed_outer(self) -> list[str]:
        problem = self.problem
        return [c for c in (*problem.outer, *problem.leading) if c in self.right.letters]

    # -- results ------------------------------------------------------------------------------
    def _results(self) -> list[Stmt]:
        problem = self.problem
        r, line, column = self._variable("r"), self._variable("l"), self._variable("j")
        row = unflatten(iadd(self.first_row, r), problem.shape(problem.rows))
        at = self.at | dict(zip(problem.rows, row, strict=True)) | self._place(line, column)
        index = tuple(at[c] for c in self.plan.out if self.plan.sizes[c] != 1)
        body: list[Stmt] = []
        value = load(self.c, (r, iadd(imul(line, self.columns), column)))
        store_results(self.plan, index, value, body)
        along = self._vector(column, self.columns, body, self.blocks.vectors)
        return [For(r, self.rows, (For(line, self.lines, (along,)),))]
