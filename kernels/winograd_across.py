"""A convolution by Winograd's F(2 x 2, 3 x 3) whose tiles are too few to fill vectors (beside the
floors): its vectors run across results.

    for images, blocks of channels, a few channels at a time      parallel
      rows of the image, zeros around; V = B' d B, vectors along tiles
    for images, panels of results      parallel
      for the 16 places, for blocks of channels
        for rows of tiles: M += V x U; prefetch the next weights
      for tiles: Y = A' M A
      where one is not finite: the sums of products themselves
      turn Y, of pixels x results, in memory: results x pixels
      results = elementwise work (Y)

A step's tiles are all of an image, so V is transformed once, by a kernel of its own. Its elements
are read one at a time and spread, so no lane is ever empty.
"""

from __future__ import annotations

from graphc.base.dims import Size, product
from graphc.kernels.gemm_problem import up
from graphc.kernels.turned_results import Turned, rest_zeros
from graphc.kernels.winograd_image import TWO, Image
from graphc.kernels.winograd_problem import LANES, PLACES, Blocks, Winograd
from graphc.loops.build import (
    ONE,
    ZERO,
    iadd,
    ifloordiv,
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
    Expr,
    For,
    Prefetch,
    Stmt,
    Store,
    const,
    load,
    size,
)
from graphc.lower.chains import combine_for
from graphc.lower.contraction import ContractionPlan
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel, Temporary, label_of

# Channels of an inner loop, so that accumulators stay where they are (`direct_loops`).
SHORT_LOOP = 8


def across_product(plan: ContractionPlan, problem: Winograd, blocks: Blocks) -> list[LoweredKernel]:
    """The kernels of a convolution."""
    first = plan.builder
    builder = KernelBuilder(first.name + "_tiles", first.sites, first.members, first.is_producer)
    image = _Tiles(ContractionPlan.of(plan.region, builder), problem)
    before = builder.kernel(image.body(), product(image.memory.shape))
    body = _Across(plan, problem, image.memory, blocks).body()
    return [before, plan.builder.kernel(body, plan.work)]


class _Tiles(Image):
    """The kernel of V [images, blocks, 16, channels of a block, tiles]."""

    def __init__(self, plan: ContractionPlan, problem: Winograd) -> None:
        super().__init__(plan, problem, problem.rows_of(1))
        # A line more, so that the 16 places do not compete for one set of a cache.
        tiles = problem.vectors * LANES
        shape: tuple[Size, ...] = (
            problem.batch,
            problem.blocks,
            PLACES,
            problem.chain + 1,
            tiles,
        )
        self.memory = Temporary(shape, plan.dtype)

    def body(self) -> list[Stmt]:
        """The parallel loop."""
        problem, few = self.problem, self.image.shape[0]
        assert isinstance(few, int), "known"
        step, k = self._variable("i"), self._variable("c")
        grid = (problem.batch, problem.blocks, problem.chain // few)
        self.number, block, turn = unflatten(step, grid)
        self.row = self.off = ZERO
        self.vectors = const(problem.vectors)
        v = self.builder.output(self.memory, self.memory.shape, "v")
        first = imul(turn, const(few))
        channel = iadd(imul(block, const(problem.chain)), first, k)
        copied = For(k, const(few), tuple(self._copied(channel, k)))
        k = self._variable("c")
        c = iadd(first, k)
        changed = self._differences(k, v, lambda place, u: (self.number, block, const(place), c, u))
        body = (Alloc(self.image), *self._zeros(), copied, For(k, const(few), tuple(changed)))
        return [For(step, size(product(grid)), body, "parallel")]


class _Across(Image):
    """The kernel of the products, and of all that comes behind them."""

    def __init__(
        self, plan: ContractionPlan, problem: Winograd, memory: Temporary, blocks: Blocks
    ) -> None:
        super().__init__(plan, problem, problem.rows_of(1))
        self.parts = blocks.parts
        self.most = -(-problem.rows // blocks.parts)
        self.v = self.builder.buffer(memory, memory.shape, "v")
        weights = problem.node.inputs[2]
        self.weights = self.builder.buffer(weights, weights.shape, label_of(weights))
        self.tall, self.wide = blocks.tile
        columns = problem.columns
        # A line more, so that the 16 places do not compete for one set of a cache.
        self.m = self._scratch("m", PLACES, self.most * columns + 1, problem.panel)
        # Results behind the end of a line stand in the next one, until its own ones are written.
        places = up((2 * self.most - 1) * problem.width + 2 * columns, LANES)
        self.y = self._scratch("y", self.wide, places * LANES)
        self.turned = self._scratch("turned", places * LANES)
        self.found = self._scratch("finite", problem.panel)

    def body(self) -> list[Stmt]:
        """The parallel loop."""
        problem = self.problem
        step = self._variable("i")
        grid = (problem.batch, self.parts, problem.panels)
        self.number, part, self.panel = unflatten(step, grid)
        body: list[Stmt] = []
        pixels = self._cut(part, body)
        body += [Alloc(b) for b in (self.m, self.y, self.turned, self.found)]
        body += self._products()
        body += rest_zeros(self.builder, self.y, pixels)
        body += self._back()
        body += self._made_finite()
        n, m, h, w = list(self.plan.out)
        first = imul(self.panel, const(problem.panel))
        turned = Turned(
            self.plan, self.y, self.turned, {n: self.number}, (m, [h, w]), first, problem.results
        )
        body += turned.stored(pixels, imul(self.first, const(2 * problem.width)))
        return [For(step, size(product(grid)), tuple(body), "parallel")]

    def _cut(self, part: Expr, body: list[Stmt]) -> Expr:
        """The first row of tiles of a part, and how many it has; its pixels."""
        problem = self.problem
        total, parts, most = const(problem.rows), const(self.parts), const(self.most)
        self.first: Expr = imul(part, most)
        self.count: Expr = most
        if self.most * self.parts != problem.rows:
            end = ifloordiv(imul(iadd(part, ONE), total), parts)
            self.first = self.builder.let("first", ifloordiv(imul(part, total), parts), body)
            # The bound says that a part's tiles find room.
            self.count = self.builder.let("rows", imin(most, isub(end, self.first)), body)
        left = isub(const(problem.height), imul(self.first, TWO))
        self.lines = self.builder.let("lines", imin(imul(self.count, TWO), left), body)
        return imul(self.lines, const(problem.width))

    # -- M ------------------------------------------------------------------------------------
    def _products(self) -> list[Stmt]:
        """M += V x U: each sum over a block of channels one chain from zero."""
        problem, columns = self.problem, self.problem.columns
        turn, row = self._variable("p"), self._variable("t")
        place, block = unflatten(turn, (PLACES, problem.blocks))
        tiles: list[Stmt] = []
        for start in range(0, columns, self.tall):
            tall = min(self.tall, columns - start)
            tiles += self._tile(turn, place, block, row, start, tall)
        rows = For(row, self.count, tuple(tiles))
        return [For(turn, const(PLACES * problem.blocks), (rows,))]

    def _tile(
        self, turn: Expr, place: Expr, block: Expr, row: Expr, start: int, tall: int
    ) -> list[Stmt]:
        """A register tile: tiles of a row from `start` on by the results of a panel."""
        problem, lane = self.problem, self._variable("j")
        chain, outer = problem.chain, self._variable("k")
        short = SHORT_LOOP if chain % SHORT_LOOP == 0 else 1
        inner = self._variable("k")
        c = iadd(imul(outer, const(short)), inner)
        columns = [iadd(const(v * LANES), lane) for v in range(self.wide)]
        weights = [load(self.weights, (block, place, self.panel, c, j)) for j in columns]
        chains = combine_for(self.dtype)
        before: list[Stmt] = []
        inside: list[Stmt] = []
        after: list[Stmt] = []
        for i in range(start, start + tall):
            u = iadd(imul(iadd(self.first, row), const(problem.pitch)), const(i))
            element = load(self.v, (self.number, block, place, c, u))
            tile = iadd(imul(row, const(problem.columns)), const(i))
            for j, weight in zip(columns, weights, strict=True):
                acc = Accumulators((self.builder.variable("acc", self.dtype),), chains)
                before.append(acc)
                inside.append(Accumulate(acc, (element, weight)))
                at = (place, tile, j)
                after.append(Store(self.m, at, self._added(self.m, at, acc.vars[0], block)))
        summed = For(inner, const(short), tuple(inside))
        ahead = self._ahead(turn, row, outer, short, start)
        loop = For(outer, const(chain // short), (*ahead, summed))
        return [For(lane, const(LANES), (*before, loop, *after), "vector", LANES)]

    def _ahead(self, turn: Expr, row: Expr, outer: Expr, short: int, start: int) -> list[Stmt]:
        """What a turn of so many channels asks for: its share of the same channels' weights of the
        next block or place. Behind the last one lies what another step reads.
        """
        problem = self.problem
        place, block = unflatten(iadd(turn, ONE), (PLACES, problem.blocks))
        lines = short * self.wide
        tiles = self.most * -(-problem.columns // self.tall)
        share = -(-lines // tiles)
        across = self.most * (start // self.tall)
        first = imin(imul(iadd(row, const(across)), const(share)), const(lines - share))
        c = imul(outer, const(short))
        found: list[Stmt] = []
        for n in range(share):
            line = iadd(first, const(n))
            channel = iadd(c, ifloordiv(line, const(self.wide)))
            column = imul(imod(line, const(self.wide)), const(LANES))
            at = (block, place, self.panel, channel, column)
            found.append(Prefetch(self.weights, at))
        return found

    # -- Y ------------------------------------------------------------------------------------
    def _back(self) -> list[Stmt]:
        """A' M A of all tiles, and for each lane a zero where all results are finite."""
        problem = self.problem
        v, lane, row, turn = (self._variable(name) for name in "vutn")
        # From the last tile of a row on: what lies behind the end of a line is written before the
        # next line's own results.
        column = isub(const(problem.columns - 1), turn)
        tile = iadd(imul(row, const(problem.columns)), column)
        body: list[Stmt] = []
        j = iadd(imul(v, const(LANES)), lane)
        results = self._results(self.m, lambda place: (const(place), tile, j), body)
        for k, y in enumerate(results):
            above = imul(iadd(imul(row, TWO), const(k // 2)), const(problem.width))
            pixel = iadd(above, imul(column, TWO), const(k % 2))
            body.append(Store(self.y, (v, iadd(imul(pixel, const(LANES)), lane)), y))
        flag, add = self._flag(results)
        each = For(turn, const(problem.columns), (*body, add))
        rows = For(row, self.count, (each,))
        kept = Store(self.found, (j,), flag.vars[0])
        along = For(lane, const(LANES), (flag, rows, kept), "vector", LANES)
        return [For(v, const(self.wide), (along,))]

    def _made_finite(self) -> list[Stmt]:
        """Where a result is not finite: the sum of products itself."""
        problem = self.problem
        v, y, x, lane = (self._variable(name) for name in "vyxj")
        pixel = iadd(imul(y, const(problem.width)), x)
        at = (v, iadd(imul(pixel, const(LANES)), lane))
        result = iadd(imul(self.panel, const(problem.panel)), imul(v, const(LANES)), lane)
        line = iadd(imul(self.first, TWO), y)
        letters = dict(zip(self.plan.out, (self.number, result, line, x), strict=True))
        inside = self._made_finite_at(self.y, at, letters)
        along = For(lane, const(LANES), tuple(inside), "vector", LANES)
        lines = For(y, self.lines, (For(x, const(problem.width), (along,)),))
        each = For(v, const(self.wide), (lines,))
        return self._where_spoilt(self.found, const(problem.panel), each)
