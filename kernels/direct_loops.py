"""The loops of a product with constant weights (beside the floors).

    for outer letters, blocks of lines, panels of results      parallel
      for blocks of the summed letters
        for lines, for tiles of places: C += elements x weights; prefetch the next weights
      turn C, of places x results, in memory: results x places
      results = elementwise work (C)

A step reads its weights once, from memory where the network is large. The first tile of a block
of sums would wait for them alone, so every tile asks for a share of the next block's weights.
"""

from __future__ import annotations

import math

from graphc.base.dims import product
from graphc.kernels.direct_problem import THREADS, Direct, cycles, known, most_steps
from graphc.kernels.gemm_problem import Operand, Place, count, extent, up
from graphc.kernels.turned_results import Turned, rest_zeros
from graphc.loops.build import (
    EXPR,
    FALSE,
    ONE,
    ZERO,
    iadd,
    ifloordiv,
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
    Prefetch,
    Stmt,
    Store,
    Var,
    const,
    load,
    select,
    size,
)
from graphc.lower.contraction import ContractionPlan
from graphc.lower.kernel_builder import LoweredKernel, label_of

# Bytes of the results of a step: with the elements they stay in the second-level cache.
BLOCK_BYTES = 128 * 1024
# Steps beyond which more are no better.
STEPS = 64
# Cycles per vector of weights, which each step brings into the first-level cache once.
BROUGHT = 2.5
# A long loop over all sums makes LLVM pass accumulators from register to register at each turn,
# as many copies as multiply-adds; an inner loop of a few turns stands between (a window is one).
SHORT_LOOP = 8


def direct_product(plan: ContractionPlan, direct: Direct) -> LoweredKernel:
    """The kernel of a product."""
    return plan.builder.kernel(_Direct(plan, direct).body(), plan.work)


def _blocks(direct: Direct) -> int:
    """Into how many blocks the image is cut: what takes the thread with most to do the fewest
    cycles, with results of a step that stay in the cache.
    """
    tile, outer = direct.tile, direct.problem.size(direct.problem.outer)
    panels = direct.panels * (outer if isinstance(outer, int) else 1)
    units = _units(direct)
    bytes_ = (tile.places if direct.whole else direct.line) * tile.results * 4
    unit = _across(direct) * cycles(tile.places, tile.vectors)
    best: tuple[float, int] | None = None
    for blocks in range(1, units + 1):
        if -(-units // blocks) * bytes_ > BLOCK_BYTES and blocks < units:
            continue
        steps = panels * blocks
        step = units / blocks * unit + BROUGHT * tile.vectors
        time = step * sum(threads * most_steps(steps, threads) for threads in THREADS)
        if best is None or time < best[0]:
            best = time, blocks
        if steps > STEPS:
            break
    assert best is not None
    return best[1]


def _units(direct: Direct) -> int:
    """What is cut into blocks: the full tiles of the one line, or lines."""
    return direct.line // direct.tile.places if direct.whole else direct.lines


def _across(direct: Direct) -> int:
    """The tiles of what is cut."""
    return 1 if direct.whole else -(-direct.line // direct.tile.places)


class _Direct:
    """The kernel while it is written."""

    def __init__(self, plan: ContractionPlan, direct: Direct) -> None:
        self.plan = plan
        self.direct = direct
        self.problem = direct.problem
        self.tile = direct.tile
        self.builder = plan.builder
        self.blocks = _blocks(direct)
        self.most = -(-_units(direct) // self.blocks)
        self.operand = Operand(plan, direct.problem, 1 - direct.problem.row_operand)
        weights = direct.weights
        self.weights = self.builder.buffer(weights, weights.shape, label_of(weights))
        self.rest = direct.line % self.tile.places
        tiles = self.most * self.tile.places + self.rest
        places = tiles if direct.whole else self.most * direct.line
        width = self.tile.width
        length = up(places, width) * width
        shape = (self.tile.vectors, length)
        self.c = Buffer(self.builder.names.fresh("c_block"), shape, plan.dtype, "local")
        self.turned = Buffer(self.builder.names.fresh("turned"), (length,), plan.dtype, "local")

    def _variable(self, name: str) -> Var:
        return self.builder.variable(name)

    # -- the parallel step --------------------------------------------------------------------
    def body(self) -> list[Stmt]:
        """The parallel loop."""
        problem, tile, direct = self.problem, self.tile, self.direct
        step = self._variable("i")
        grid = (*problem.shape(problem.outer), self.blocks, direct.panels)
        *outer, block, self.panel = unflatten(step, grid)
        self.at: dict[str, Expr] = dict(zip(problem.outer, outer, strict=True))
        body: list[Stmt] = []
        first, units = self._cut(block, body)
        self.lines: Expr = const(1)
        self.first_line: Expr = ZERO
        self.first: Expr = ZERO
        self.tiles: Expr = const(direct.line // tile.places)
        self.has_rest: Expr | None = None
        if direct.whole:
            self.tiles, self.first = units, imul(first, const(tile.places))
            places = imul(units, const(tile.places))
            if self.rest:
                last = EXPR.op("eq", block, const(self.blocks - 1))
                self.has_rest = None if self.blocks == 1 else last
                more: Expr = const(self.rest)
                if self.blocks != 1:
                    more = select(last, more, ZERO)
                places = iadd(places, more)
            self.places = self.builder.let("places", places, body)
            self.first_place = self.first
        else:
            self.lines, self.first_line = units, first
            self.places = imul(self.lines, const(direct.line))
            self.first_place = imul(self.first_line, const(direct.line))
        body.append(Alloc(self.c))
        body.append(Alloc(self.turned))
        body += rest_zeros(self.builder, self.c, self.places)
        body += self._products()
        body += self._results()
        return [For(step, size(product(grid)), tuple(body), "parallel")]

    def _cut(self, block: Expr, body: list[Stmt]) -> tuple[Expr, Expr]:
        """The first tile or line of a block, and how many: blocks differ by one at most."""
        total = const(_units(self.direct))
        if self.most * self.blocks == total.value:
            return imul(block, const(self.most)), const(self.most)
        blocks = const(self.blocks)
        end = ifloordiv(imul(iadd(block, ONE), total), blocks)
        first = self.builder.let("first", ifloordiv(imul(block, total), blocks), body)
        # The bound says that a block's results find room.
        units = imin(const(self.most), isub(end, first))
        return first, self.builder.let("units", units, body)

    # -- over the summed letters --------------------------------------------------------------
    def _products(self) -> list[Stmt]:
        """For each block of the summed letters: the tiles of all lines."""
        problem, tile = self.problem, self.tile
        leading = [(self._variable("k"), problem.sizes[c]) for c in problem.leading]
        self.at |= {c: v for c, (v, _) in zip(problem.leading, leading, strict=True)}
        self.block = self._variable("k")
        inner = problem.shape(problem.inner)
        self.turns = problem.depth // known(product(inner[1:]))
        blocks = count(inner[0], self.turns)
        turns = iadd(self.block, *(v for v, _ in leading))
        one = blocks == 1 and not leading
        self.follows = FALSE if one else EXPR.op("gt", turns, ZERO)
        line, t = self._variable("l"), self._variable("t")
        full = self._tile(line, imul(t, const(tile.places)), tile.places)
        inside: list[Stmt] = [For(t, self.tiles, tuple(full))]
        if self.rest:
            start = imul(self.tiles, const(tile.places))
            rest = self._tile(line, start, self.rest)
            inside += rest if self.has_rest is None else [If(self.has_rest, tuple(rest))]
        body: list[Stmt] = [For(line, self.lines, tuple(inside))]
        return self.builder.nest([*leading, (self.block, blocks)], body)

    def _tile(self, line: Expr, start: Expr, places: int) -> list[Stmt]:
        """A tile at a place of a line of the block: chains from zero, added to C."""
        tile, dtype = self.tile, self.plan.dtype
        combine = self.plan.combine
        lane = self._variable("j")
        nest, at, following = self._summed()
        ahead = self._ahead(nest[1:], following, line, start)
        before: list[Stmt] = []
        inside: list[Stmt] = []
        after: list[Stmt] = []
        weights = [self._weight(at, v, lane) for v in range(tile.vectors)]
        pitch = const(self.direct.line)
        for u in range(places):
            element = self._element(at, line, iadd(start, const(u)))
            inside += self.builder.checks()
            slot = iadd(imul(line, pitch), start, const(u))
            for v, weight in enumerate(weights):
                chain = Accumulators((self.builder.variable("acc", dtype),), combine)
                before.append(chain)
                values = (weight, element)
                if self.operand.number == 0:
                    values = (element, weight)
                inside.append(Accumulate(chain, values))
                index = (const(v), iadd(imul(slot, const(tile.width)), lane))
                after.append(Store(self.c, index, self._added(index, chain.vars[0])))
        for variable, length in reversed(nest[1:]):
            inside = [For(variable, length, tuple(inside))]
        inside = [For(*nest[0], (*ahead, *inside))]
        body = (*before, *inside, *after)
        return [For(lane, const(tile.width), body, "vector", tile.width)]

    def _ahead(
        self, within: list[tuple[Var, Expr]], following: Expr, line: Expr, start: Expr
    ) -> list[Stmt]:
        """What a tile asks for in a turn of its outermost loop: its share of the weights of the
        turn `following` in the next block. Behind the last block lies the next panel.
        """
        tile, problem = self.tile, self.problem
        turns = [int(length.value) for _, length in within if isinstance(length, Const)]
        vectors = tile.vectors * math.prod(turns)
        across = _across(self.direct)
        tiles = self.most * across + (1 if self.direct.whole and self.rest else 0)
        share = -(-vectors // tiles)
        number = iadd(imul(line, const(across)), ifloordiv(start, const(tile.places)))
        first = imin(imul(number, const(share)), const(vectors - share))
        at = dict.fromkeys(problem.inner, ZERO) | {problem.inner[0]: following}
        return [
            Prefetch(self.weights, self._weight_at(at, iadd(first, const(n)), ZERO))
            for n in range(share)
        ]

    def _summed(self) -> tuple[list[tuple[Var, Expr]], dict[str, Expr], Expr]:
        """The loops over a block of the summed letters, the letters' indices, and that of the first
        one at the same turn of the outermost loop in the next block.
        """
        first, *others = self.problem.inner
        start = imul(self.block, const(self.turns))
        turns = extent(self.problem.sizes[first], start, self.turns)
        own = self._variable("k")
        nest: list[tuple[Var, Expr]] = [(own, turns)]
        at: dict[str, Expr] = {first: iadd(start, own)}
        following = iadd(at[first], const(self.turns))
        whole = self.turns % SHORT_LOOP == 0 == known(self.problem.sizes[first]) % SHORT_LOOP
        if not others and whole:
            short = self._variable("k")
            nest = [(own, ifloordiv(turns, const(SHORT_LOOP))), (short, const(SHORT_LOOP))]
            turn = iadd(start, imul(own, const(SHORT_LOOP)))
            at = {first: iadd(turn, short)}
            following = iadd(turn, const(self.turns))
        for c in others:
            variable = self._variable("k")
            at[c] = variable
            nest.append((variable, size(self.problem.sizes[c])))
        return nest, at, following

    def _added(self, index: tuple[Expr, ...], panel: Expr) -> Expr:
        """The sum of the panels so far: the first one as it is, the others added to C."""
        if self.follows is FALSE:
            return panel
        before = load(self.c, index, self.follows, literal(-0.0, self.plan.dtype))
        return EXPR.add(before, panel)

    def _weight(self, at: Place, vector: int, lane: Expr) -> Expr:
        return load(self.weights, self._weight_at(at, const(vector), lane))

    def _weight_at(self, at: Place, vector: Expr, lane: Expr) -> tuple[Expr, ...]:
        outer = [self.at[c] for c in self.direct.groups]
        summed = [at[c] if c in at else self.at[c] for c in self.problem.summed]
        column = iadd(imul(vector, const(self.tile.width)), lane)
        return (*outer, self.panel, *summed, column)

    def _element(self, at: Place, line: Expr, place: Expr) -> Expr:
        columns = self.problem.columns
        here = {**self.at, **at}
        if self.direct.whole:
            return self.operand.value(here, [(columns, iadd(self.first, place))])
        leading = self.problem.shape(columns[:-1])
        lines = unflatten(iadd(self.first_line, line), leading)
        here |= dict(zip(columns[:-1], lines, strict=True))
        here[columns[-1]] = place
        return self.operand.value(here, [])

    # -- results ------------------------------------------------------------------------------
    def _results(self) -> list[Stmt]:
        problem, direct = self.problem, self.direct
        first = imul(self.panel, const(self.tile.results))
        letters = (problem.rows[0], problem.columns)
        turned = Turned(self.plan, self.c, self.turned, self.at, letters, first, direct.results)
        return turned.stored(self.places, self.first_place)
