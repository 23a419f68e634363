"""The loops of a convolution by Winograd's F(2 x 2, 3 x 3) (beside the floors).

for images, blocks of tiles, groups of panels of results      parallel
  for blocks of channels
    for channels: rows of the image, zeros around; V = B' d B, vectors along tiles
    for the 16 places, for panels of results: M += U x V
  for panels of results
    Y = A' M A, vectors along tiles
    where one is not finite: the sums of products themselves
    results = elementwise work (Y)
"""

from __future__ import annotations

from graphc.base.dims import product
from graphc.kernels.winograd_image import TWO, Image
from graphc.kernels.winograd_problem import LANES, PLACES, Blocks, Winograd
from graphc.loops.build import (
    EXPR,
    ONE,
    ZERO,
    iadd,
    ifloordiv,
    imax,
    imin,
    imod,
    imul,
    isub,
)
from graphc.loops.index_math import unflatten
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Const,
    Expr,
    For,
    If,
    Prefetch,
    Stmt,
    Store,
    Var,
    const,
    load,
    select,
    size,
)
from graphc.lower.chains import combine_for
from graphc.lower.contraction import ContractionPlan, store_results
from graphc.lower.kernel_builder import LoweredKernel, label_of
from graphc.ops.winograd import PANEL

# Turns of an inner loop over channels, so that accumulators stay where they are (`direct_loops`).
SHORT_LOOP = 8
# Panels of weights that are asked for ahead: some 250 ns, they may come from memory.
AHEAD = 2


def winograd_product(plan: ContractionPlan, problem: Winograd, blocks: Blocks) -> LoweredKernel:
    """The kernel of a convolution."""
    return plan.builder.kernel(_Kernel(plan, problem, blocks).body(), plan.work)


class _Kernel(Image):
    """The kernel while it is written."""

    def __init__(self, plan: ContractionPlan, problem: Winograd, blocks: Blocks) -> None:
        super().__init__(plan, problem, problem.rows_of(blocks.parts))
        self.blocks = blocks
        vectors = problem.cut(blocks.parts)
        self.most = -(-vectors // blocks.parts)
        self.least = vectors // blocks.parts
        weights = problem.node.inputs[2]
        self.weights = self.builder.buffer(weights, weights.shape, label_of(weights))
        results = blocks.panels * PANEL
        # A line more each, so that the 16 places do not compete for one set of a cache.
        tiles = self.most * LANES
        self.v = self._scratch("v", PLACES, problem.chain + 1, tiles)
        self.m = self._scratch("m", PLACES, results + 1, tiles)
        self.y = self._scratch("y", PANEL, 4, tiles)
        self.found = self._scratch("finite", tiles)

    # -- the parallel step --------------------------------------------------------------------
    def body(self) -> list[Stmt]:
        """The parallel loop."""
        problem, blocks = self.problem, self.blocks
        step = self._variable("i")
        grid = (problem.batch, blocks.parts, problem.panels // blocks.panels)
        self.number, part, group = unflatten(step, grid)
        body: list[Stmt] = []
        first = imul(self._cut(part, body), const(LANES))
        pitch = const(problem.pitch)
        # The first row of tiles, and where in it the step begins.
        self.row = self.builder.let("row", ifloordiv(first, pitch), body)
        self.off = self.builder.let("off", isub(first, imul(self.row, pitch)), body)
        self.first_panel = imul(group, const(blocks.panels))
        scratch = (self.image, self.v, self.m, self.y, self.found)
        body += [Alloc(buffer) for buffer in scratch]
        body += self._zeros()
        block = self._variable("b")
        inside = [*self._transformed(block), *self._products(block)]
        body += self.builder.nest([(block, problem.blocks)], inside)
        panel = self._variable("q")
        inside = [*self._back(panel), *self._made_finite(panel), *self._stored(panel)]
        body += self.builder.nest([(panel, blocks.panels)], inside)
        return [For(step, size(product(grid)), tuple(body), "parallel")]

    def _cut(self, part: Expr, body: list[Stmt]) -> Expr:
        """The first vector of tiles of a part; how many it has is `self.vectors` from here on."""
        self.vectors = const(self.most)
        if self.most == self.least:
            return imul(part, self.vectors)
        total, parts = const(self.problem.cut(self.blocks.parts)), const(self.blocks.parts)
        first = self.builder.let("first", ifloordiv(imul(part, total), parts), body)
        end = ifloordiv(imul(iadd(part, ONE), total), parts)
        # The bound says that a part's tiles find room.
        self.vectors = self.builder.let("vectors", imin(self.vectors, isub(end, first)), body)
        return first

    # -- V ------------------------------------------------------------------------------------
    def _transformed(self, block: Expr) -> list[Stmt]:
        """V of the step's tiles for the channels of a block, a few at a time."""
        chain, few = self.problem.chain, self.image.shape[0]
        assert isinstance(few, int), "known"
        turn, k = self._variable("c"), self._variable("c")
        first = imul(turn, const(few))
        channel = iadd(imul(block, const(chain)), first, k)
        copied = For(k, const(few), tuple(self._copied(channel, k)))
        k = self._variable("c")
        c = iadd(first, k)
        changed = self._differences(k, self.v, lambda place, u: (const(place), c, u))
        body = (copied, For(k, const(few), tuple(changed)))
        return [For(turn, const(chain // few), body)]

    # -- M ------------------------------------------------------------------------------------
    def _products(self, block: Expr) -> list[Stmt]:
        """M += U x V for a block of channels: each sum over it one chain from zero."""
        place, panel = self._variable("p"), self._variable("q")
        wide = self.blocks.tile[1]
        body: list[Stmt] = []
        before = 0
        if self.least >= wide:
            # Weights are asked for with the first tiles.
            body += self._tiles_of(block, place, panel, ZERO, wide, True)
            before = 1
        if self.most // wide > before:
            turn = self._variable("t")
            first = imul(iadd(turn, const(before)), const(wide))
            turns = isub(ifloordiv(self.vectors, const(wide)), const(before))
            body.append(
                For(turn, turns, tuple(self._tiles_of(block, place, panel, first, wide, False)))
            )
        for rest in range(1, wide):
            left = imod(self.vectors, const(wide))
            first = isub(self.vectors, const(rest))
            tiles = self._tiles_of(block, place, panel, first, rest, not before)
            if left is const(rest):
                body += tiles
            elif not isinstance(left, Const):
                body.append(If(EXPR.op("eq", left, const(rest)), tuple(tiles)))
        each = For(panel, const(self.blocks.panels), tuple(body))
        return [For(place, const(PLACES), (each,))]

    def _tiles_of(
        self, block: Expr, place: Expr, panel: Expr, first: Expr, vectors: int, ahead: bool
    ) -> list[Stmt]:
        """Register tiles of so many vectors of tiles from `first` on, of a panel."""
        tiles: list[Stmt] = []
        for start in range(0, PANEL, self.blocks.tile[0]):
            tiles += self._tile(block, place, panel, first, vectors, start, ahead and not start)
        return tiles

    def _tile(
        self,
        block: Expr,
        place: Expr,
        panel: Expr,
        first: Expr,
        vectors: int,
        start: int,
        ahead: bool,
    ) -> list[Stmt]:
        """A register tile: results of a panel from `start` on by vectors of tiles from `first`."""
        lane = self._variable("j")
        column = imul(first, const(LANES))
        tiles = [iadd(column, const(v * LANES), lane) for v in range(vectors)]
        chain, step = self.problem.chain, self._variable("k")
        c: Expr = step
        loops: list[tuple[Var, int]] = [(step, chain)]
        if chain % SHORT_LOOP == 0:
            inner = self._variable("k")
            loops = [(step, chain // SHORT_LOOP), (inner, SHORT_LOOP)]
            c = iadd(imul(step, const(SHORT_LOOP)), inner)
        values = [load(self.v, (place, c, u)) for u in tiles]
        before: list[Stmt] = []
        inside: list[Stmt] = []
        after: list[Stmt] = []
        chains = combine_for(self.dtype)
        for r in range(start, start + self.blocks.tile[0]):
            at = (block, place, iadd(self.first_panel, panel), c, const(r))
            weight = load(self.weights, at)
            result = iadd(imul(panel, const(PANEL)), const(r))
            for u, value in zip(tiles, values, strict=True):
                acc = Accumulators((self.builder.variable("acc", self.dtype),), chains)
                before.append(acc)
                inside.append(Accumulate(acc, (value, weight)))
                total = self._added(self.m, (place, result, u), acc.vars[0], block)
                after.append(Store(self.m, (place, result, u), total))
        for variable, extent in reversed(loops[1:]):
            inside = [For(variable, const(extent), tuple(inside))]
        if ahead:
            inside = [*self._ahead(block, place, panel, step, chain // loops[0][1]), *inside]
        summed = For(step, const(loops[0][1]), tuple(inside))
        body: list[Stmt] = [*before, summed, *after]
        return [For(lane, const(LANES), tuple(body), "vector", LANES)]

    def _ahead(self, block: Expr, place: Expr, panel: Expr, step: Expr, turns: int) -> list[Stmt]:
        """What a turn of `turns` channels asks for: as many weights of a panel further on."""
        apart = LANES // PANEL  # channels in a cache line
        if turns % apart:
            return []
        later = iadd(self.first_panel, panel, const(AHEAD))
        c = imul(step, const(turns))
        return [
            Prefetch(self.weights, (block, place, later, iadd(c, const(k)), ZERO))
            for k in range(0, turns, apart)
        ]

    # -- Y ------------------------------------------------------------------------------------
    def _back(self, panel: Expr) -> list[Stmt]:
        """A' M A of a panel's results, and for each lane a zero where all of them are finite."""
        vector, lane, r = self._variable("v"), self._variable("u"), self._variable("r")
        u = iadd(imul(vector, const(LANES)), lane)
        result = iadd(imul(panel, const(PANEL)), r)
        body: list[Stmt] = []
        results = self._results(self.m, lambda place: (const(place), result, u), body)
        body += [Store(self.y, (r, const(k), u), y) for k, y in enumerate(results)]
        flag, add = self._flag(results)
        each = For(r, const(PANEL), (*body, add))
        return [self._along(vector, lane, [flag, each, Store(self.found, (u,), flag.vars[0])])]

    def _made_finite(self, panel: Expr) -> list[Stmt]:
        """Where a result is not finite: the sum of products itself."""
        k, r = self._variable("r"), self._variable("t")
        a, b, lane = self._variable("a"), self._variable("b"), self._variable("j")
        first, count, start = self._span(r)
        y = iadd(imul(iadd(self.row, r), TWO), a)
        x = iadd(imul(iadd(first, lane), TWO), b)
        place = (k, iadd(imul(a, TWO), b), iadd(start, lane))
        inside = self._made_finite_at(self.y, place, self._letters(panel, k, y, x))
        # A result that is cut off is none.
        kept = ifloordiv(isub(const(self.problem.width + 1), b), TWO)
        length = imax(imin(count, isub(kept, first)), ZERO)
        row = For(b, TWO, (For(lane, length, tuple(inside), "vector", LANES),))
        exists = EXPR.op("lt", y, const(self.problem.height))
        body: list[Stmt] = [For(a, TWO, (If(exists, (row,)),))]
        each = For(k, const(PANEL), (For(r, const(self.rows), tuple(body)),))
        return self._where_spoilt(self.found, self._tiles(), each)

    # -- results ------------------------------------------------------------------------------
    def _span(self, row: Expr) -> tuple[Expr, Expr, Expr]:
        """Of the tiles of a row that a step has: the first one's column, their number (below 1:
        none), and the first one's place in the step.
        """
        problem = self.problem
        begin = isub(self.off, imul(row, const(problem.pitch)))
        first = imax(begin, ZERO)
        end = imin(iadd(begin, self._tiles()), const(problem.columns))
        return first, isub(end, first), isub(first, begin)

    def _letters(self, panel: Expr, result: Expr, y: Expr, x: Expr) -> dict[str, Expr]:
        whole = iadd(imul(iadd(self.first_panel, panel), const(PANEL)), result)
        return dict(zip(self.plan.out, (self.number, whole, y, x), strict=True))

    def _stored(self, panel: Expr) -> list[Stmt]:
        """The elementwise work, row by row."""
        problem, plan = self.problem, self.plan
        k, r, a = self._variable("r"), self._variable("t"), self._variable("a")
        before: list[Stmt] = []
        inside: list[Stmt] = []
        first, count, start = (self.builder.let("at", e, before) for e in self._span(r))
        lane = self._variable("j")
        y = iadd(imul(iadd(self.row, r), TWO), a)
        x = iadd(imul(first, TWO), lane)
        place = iadd(start, ifloordiv(lane, TWO))
        pair = imul(a, TWO)
        even, odd = (load(self.y, (k, iadd(pair, const(b)), place)) for b in (0, 1))
        value = select(EXPR.op("eq", imod(lane, TWO), ZERO), even, odd)
        at = self._letters(panel, k, y, x)
        index = tuple(at[c] for c in plan.out if plan.sizes[c] != 1)
        store_results(plan, index, value, inside)
        end = imul(count, TWO)
        if problem.width % 2:
            end = imin(end, isub(const(problem.width), imul(first, TWO)))
        row = For(lane, imax(end, ZERO), tuple(inside), "vector", LANES)
        exists = EXPR.op("lt", y, const(problem.height))
        rows = For(r, const(self.rows), (*before, For(a, TWO, (If(exists, (row,)),))))
        return [For(k, const(PANEL), (rows,))]
