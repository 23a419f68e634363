"""What all forms of a convolution by Winograd's F(2 x 2, 3 x 3) do (beside the floors): the tiles
of an image, transformed, with vectors along tiles, and results that are sums of products after all.

Rows of an image lie one behind the other, even ones apart from odd ones: then the elements of the
next tile are two further on, also where it begins the next row of tiles.
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.base.dtypes import DType
from graphc.kernels.gemm_problem import up
from graphc.kernels.winograd_problem import LANES, Winograd
from graphc.loops.build import (
    EXPR,
    FALSE,
    ZERO,
    combine,
    iadd,
    imul,
    isub,
    literal,
    within,
)
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Buffer,
    Combine,
    Expr,
    For,
    If,
    Stmt,
    Store,
    Var,
    const,
    load,
    select,
    size,
)
from graphc.lower.chains import total_of
from graphc.lower.contraction import ContractionPlan, nested, summed_loops

# Elements of rows that are copied at once: half of a first-level cache.
AT_ONCE = 4096
TWO = const(2)
Place = tuple[Expr, ...]


class Image:
    """A kernel while it is written, of steps that meet so many rows of tiles of an image: image
    `number`, tiles from column `off` of row `row` on, `vectors` of them.
    """

    number: Expr
    row: Expr
    off: Expr
    vectors: Expr

    def __init__(self, plan: ContractionPlan, problem: Winograd, rows: int) -> None:
        self.plan = plan
        self.problem = problem
        self.builder = plan.builder
        self.dtype = plan.dtype
        self.rows = rows
        self.line = 2 * problem.pitch
        self.length = up((self.rows + 1) * self.line + 2, LANES)
        self.image = self._scratch("image", self._few(), 2, self.length)

    def _few(self) -> int:
        """Channels whose rows are copied before they are read: a load of what was just stored in
        other vectors waits for the stores.
        """
        fit = (n for n in (8, 4, 2) if n * 2 * self.length <= AT_ONCE)
        return next((n for n in fit if self.problem.chain % n == 0), 1)

    def _scratch(self, name: str, *shape: int) -> Buffer:
        return Buffer(self.builder.names.fresh(name), shape, self.dtype, "local")

    def _variable(self, name: str) -> Var:
        return self.builder.variable(name)

    def _tiles(self) -> Expr:
        return imul(self.vectors, const(LANES))

    def _along(self, u: Var, lane: Var, body: list[Stmt]) -> Stmt:
        """Statements for each tile of the step, u being a vector."""
        return For(u, self.vectors, (For(lane, const(LANES), tuple(body), "vector", LANES),))

    def _zeros(self) -> list[Stmt]:
        """Zeros where no channel has elements: around the image, behind the last tile."""
        k, odd, x = self._variable("c"), self._variable("a"), self._variable("x")
        zero = Store(self.image, (k, odd, x), literal(0, self.dtype))
        row = For(x, const(self.length), (zero,), "vector", LANES)
        return [For(k, size(self.image.shape[0]), (For(odd, TWO, (row,)),))]

    def _copied(self, channel: Expr, k: Expr) -> list[Stmt]:
        """The rows of the image that the tiles need."""
        source, (above, left) = self.problem.source, self.problem.frame
        height, width = source.shape[2:]
        odd, r, x = self._variable("a"), self._variable("r"), self._variable("x")
        y = isub(iadd(imul(iadd(self.row, r), TWO), odd), const(above))
        value = self.builder.elements.value(source, (self.number, channel, y, x))
        place = iadd(imul(r, const(self.line)), iadd(x, const(left)))
        copy = (*self.builder.checks(), Store(self.image, (k, odd, place), value))
        row = If(within(y, ZERO, size(height)), (For(x, size(width), copy, "vector", LANES),))
        return [For(odd, TWO, (For(r, const(self.rows + 1), (row,)),))]

    def _differences(self, at: Expr, v: Buffer, place: Callable[[int, Expr], Place]) -> list[Stmt]:
        """B' d B of the `at`-th of the channels that were copied; `place` says where V has an
        element of a tile.
        """
        vector, lane = self._variable("v"), self._variable("u")
        u = iadd(imul(vector, const(LANES)), lane)
        start = imul(iadd(self.off, u), TWO)
        body: list[Stmt] = []
        half: list[list[Expr]] = []
        for column in range(4):
            d: list[Expr] = [
                load(
                    self.image, (at, const(k % 2), iadd(start, const(column + k // 2 * self.line)))
                )
                for k in range(4)
            ]
            half.append([self.builder.let("d", e, body) for e in differences(d)])
        for row in range(4):
            for column, value in enumerate(differences([half[k][row] for k in range(4)])):
                body.append(Store(v, place(4 * row + column, u), value))
        return [self._along(vector, lane, body)]

    def _added(self, m: Buffer, at: Place, chain: Expr, block: Expr) -> Expr:
        """The blocks of channels so far: the first one as it is, the others added to M."""
        follows = FALSE if self.problem.blocks == 1 else EXPR.op("gt", block, ZERO)
        if follows is FALSE:
            return chain
        return EXPR.add(load(m, at, follows, literal(-0.0, self.dtype)), chain)

    def _results(self, m: Buffer, at: Callable[[int], Place], body: list[Stmt]) -> list[Expr]:
        """A' M A of a tile, its two lines one after the other; `at` says where M has a place."""
        half: list[list[Expr]] = []
        for column in range(4):
            values: list[Expr] = [load(m, at(4 * row + column)) for row in range(4)]
            half.append([self.builder.let("m", e, body) for e in sums(values)])
        found: list[Expr] = []
        for a in (0, 1):
            line = sums([half[k][a] for k in range(4)])
            found += [self.builder.let("y", e, body) for e in line]
        return found

    def _flag(self, results: list[Expr]) -> tuple[Accumulators, Stmt]:
        """A sum, and what adds to it: a zero where all results are finite, NaN otherwise."""
        a, b, c, e = results
        zero = EXPR.mul(EXPR.add(EXPR.add(a, b), EXPR.add(c, e)), literal(0, self.dtype))
        flag = Accumulators((self.builder.variable("flag", self.dtype),), sum_of(self.dtype))
        return flag, Accumulate(flag, (zero,))

    def _where_spoilt(self, found: Buffer, length: Expr, again: Stmt) -> list[Stmt]:
        """What runs again where a flag of so many is not zero. An infinity or a NaN of an element,
        and an overflow of a transform, end in these results and in no others.
        """
        u, flag = self._variable("u"), self.builder.variable("flag", self.dtype)
        total = Accumulators((flag,), sum_of(self.dtype))
        look = For(u, length, (Accumulate(total, (load(found, (u,)),)),), "vector", LANES)
        spoilt = EXPR.op("bit_not", EXPR.op("isfinite", flag))
        return [total, look, If(spoilt, (again,))]

    def _made_finite_at(self, y: Buffer, place: Place, at: dict[str, Expr]) -> list[Stmt]:
        """A result in Y, replaced by its sum of products where it is not finite."""
        body: list[Stmt] = []
        known = self.builder.let("y", load(y, place), body)
        exact = self._sum(at, body)
        body.append(Store(y, place, select(EXPR.op("isfinite", known), known, exact)))
        return body

    def _sum(self, at: dict[str, Expr], body: list[Stmt]) -> Expr:
        """A result in the order of `contraction`."""
        plan = self.plan
        around, within, summed = summed_loops(plan)
        chain = Accumulators((self.builder.variable("acc", self.dtype),), plan.combine)
        values = plan.product_values(at | summed)
        inside: list[Stmt] = [*self.builder.checks(), Accumulate(chain, values)]
        panel = [chain, *nested(within, inside)]
        if around is None:
            body += panel
            return chain.vars[0]
        total = Accumulators((self.builder.variable("total", self.dtype),), total_of(self.dtype))
        body += [total, *nested(around, [*panel, Accumulate(total, chain.vars)])]
        return total.vars[0]


def differences(d: list[Expr]) -> list[Expr]:
    """B' d of four elements."""
    a, b, c, e = d
    return [EXPR.sub(a, c), EXPR.add(b, c), EXPR.sub(c, b), EXPR.sub(b, e)]


def sums(m: list[Expr]) -> list[Expr]:
    """A' m of four elements."""
    a, b, c, e = m
    return [EXPR.add(EXPR.add(a, b), c), EXPR.sub(EXPR.sub(b, c), e)]


def sum_of(dtype: DType) -> Combine:
    """Values added up from zero."""
    return combine(lambda s, a, b: s.add(a, b), literal(0, dtype))
