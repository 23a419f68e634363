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
from graphc.loops.build import EXPR, ZERO, combine, iadd, imul, isub, literal, within
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
