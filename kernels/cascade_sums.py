"""Sums over rows that come in blocks (beside the floors): the ends of cascades that sum over rows.

    for blocks of rows, which the cascade makes in order
      for tiles of the result: chain taken up, += P^T B, laid down
      at the end of a panel of the sum: total += chain
    results = elementwise work (total)

Each result is the chain of its panels in the order of rows, as in any other kernel for it (decision
0012): the chain of a panel waits in memory for the next block of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.base.dims import bounds
from graphc.kernels.gemm_problem import Operand, Problem
from graphc.kernels.gemm_strips import Strips, extent_of
from graphc.loops.build import (
    EXPR,
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
    Combine,
    Expr,
    For,
    If,
    Stmt,
    Store,
    const,
    load,
    size,
)
from graphc.lower.chains import combine_for
from graphc.lower.contraction import ContractionPlan, store_results


@dataclass
class Sums:
    """One sum over rows while its loops are written. strips: its register tiles."""

    plan: ContractionPlan
    problem: Problem
    strips: Strips

    def __post_init__(self) -> None:
        plan, problem, strips = self.plan, self.problem, self.strips
        self.left = Operand(plan, problem, problem.row_operand)
        self.right = Operand(plan, problem, 1 - problem.row_operand)
        self.rows = problem.size(problem.rows)
        self.columns = problem.size(problem.columns)
        tall = (self.rows + (strips.height - 1)) // strips.height * strips.height
        wide = (self.columns + (strips.panel - 1)) // strips.panel * strips.panel
        high = bounds(problem.size(problem.inner))[1]
        self.one = high is not None and high <= problem.depth
        names = plan.builder.names
        self.chain = Buffer(names.fresh("chain"), (tall, wide), plan.dtype, "local")
        self.total = self.chain
        if not self.one:
            self.total = Buffer(names.fresh("total"), (tall, wide), plan.dtype, "local")

    def memory(self) -> list[Stmt]:
        """The scratch memory of the sums."""
        return [Alloc(b) for b in dict.fromkeys((self.chain, self.total))]

    def block(self, at: dict[str, Expr], first: Expr, rows: Expr) -> list[Stmt]:
        """Add `rows` summed rows from `first` on, at the indices of the outer letters."""
        builder, strips = self.plan.builder, self.strips
        panel, tile, lane = (builder.variable(n) for n in ("q", "t", "j"))
        begin = imul(panel, const(strips.panel))
        column = iadd(begin, lane)
        wide = extent_of(size(self.columns), begin, strips.panel)
        body = self._tile(at, first, rows, imul(tile, const(strips.height)), column)
        along = For(lane, wide, tuple(body), "vector", strips.width, strips.vectors)
        tiles = For(tile, ifloordiv(size(self.chain.shape[0]), const(strips.height)), (along,))
        panels = ifloordiv(size(self.chain.shape[1]), const(strips.panel))
        return [For(panel, panels, (tiles,)), *self._panel_end(first, rows)]

    def _tile(
        self, at: dict[str, Expr], first: Expr, rows: Expr, row: Expr, column: Expr
    ) -> list[Stmt]:
        builder, dtype = self.plan.builder, self.plan.dtype
        k = builder.variable("k")
        inner = self.problem.inner
        step = combine_for(dtype)
        # -0.0 + 1 x is x, whatever its sign.
        taken_up = Combine(step.left, step.right, step.results, (literal(-0.0, dtype),))
        follows = EXPR.op("gt", imod(first, const(self.problem.depth)), ZERO)
        before: list[Stmt] = []
        inside: list[Stmt] = []
        after: list[Stmt] = []
        right = self.right.value(at, [(self.problem.columns, column), (inner, iadd(first, k))])
        inside += builder.checks()
        b = builder.let("b", right, inside)
        for u in range(self.strips.height):
            place = (iadd(row, const(u)), column)
            chain = Accumulators((builder.variable("acc", dtype),), taken_up)
            waiting = load(self.chain, place, follows, literal(0.0, dtype))
            before += [chain, Accumulate(chain, (waiting, literal(1.0, dtype)))]
            own = imin(place[0], isub(size(self.rows), ONE))
            a = self.left.value(at, [(self.problem.rows, own), (inner, iadd(first, k))])
            inside += builder.checks()
            inside.append(Accumulate(chain, (a, b) if self.left.number == 0 else (b, a)))
            after.append(Store(self.chain, place, chain.vars[0]))
        return [*before, For(k, rows, tuple(inside)), *after]

    def _panel_end(self, first: Expr, rows: Expr) -> list[Stmt]:
        """The chains are added up where a panel ends with these rows."""
        if self.one:
            return []
        builder, strips, dtype = self.plan.builder, self.strips, self.plan.dtype
        depth = const(self.problem.depth)
        row, column = builder.variable("r"), builder.variable("j")
        place = (row, column)
        follows = EXPR.op("ge", first, depth)
        total = load(self.total, place, follows, literal(-0.0, dtype))
        added = Store(self.total, place, EXPR.add(total, load(self.chain, place)))
        across = For(column, size(self.columns), (added,), "vector", strips.width, strips.vectors)
        end = iadd(first, rows)
        whole = EXPR.op("eq", imod(end, depth), ZERO)
        last = EXPR.op("eq", end, size(self.problem.size(self.problem.inner)))
        loop = For(row, size(self.rows), (across,))
        return [If(EXPR.op("bit_or", whole, last), (loop,))]

    def results(self, at: dict[str, Expr]) -> list[Stmt]:
        """The results, after the last block of rows."""
        plan, problem, strips = self.plan, self.problem, self.strips
        row, column = plan.builder.variable("r"), plan.builder.variable("j")
        own = dict(zip(problem.rows, unflatten(row, problem.shape(problem.rows)), strict=True))
        columns = unflatten(column, problem.shape(problem.columns))
        place = at | own | dict(zip(problem.columns, columns, strict=True))
        body: list[Stmt] = []
        index = tuple(place[c] for c in plan.out if plan.sizes[c] != 1)
        store_results(plan, index, load(self.total, (row, column)), body)
        across = For(
            column, size(self.columns), tuple(body), "vector", strips.width, strips.vectors
        )
        return [For(row, size(self.rows), (across,))]
