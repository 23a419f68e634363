"""Results that lie place by place, turned and stored (beside the floors).

Where vectors run across the results of a place (the channels of a pixel), a block C holds for each
vector of results the places one after another, 16 results each. Its squares of 16 x 16 are turned
by two passes that take every fourth element: an index of eight bits is rotated by two bits each
time. The elementwise work runs along places.
"""

from __future__ import annotations

from graphc.kernels.gemm_problem import Letters
from graphc.loops.build import EXPR, ZERO, iadd, ifloordiv, imod, imul, isub, literal
from graphc.loops.index_math import unflatten
from graphc.loops.nodes import Buffer, Const, Expr, For, If, Stmt, Store, const, load
from graphc.lower.contraction import ContractionPlan, store_results
from graphc.lower.kernel_builder import KernelBuilder
from graphc.schedule import policy_cpu as policy

WIDTH = policy.VECTOR_BYTES // 4
SQUARE = WIDTH * WIDTH


def rest_zeros(builder: KernelBuilder, c: Buffer, places: Expr) -> list[Stmt]:
    """Zeros in the places of the last square of C that do not exist: they are turned with it."""
    rest = imod(places, const(WIDTH))
    if rest is ZERO:
        return []
    missing = imul(isub(const(WIDTH), rest), const(WIDTH))
    vector, j = builder.variable("v"), builder.variable("j")
    place = iadd(imul(places, const(WIDTH)), j)
    zero = Store(c, (vector, place), literal(0, c.dtype))
    loop = For(j, missing, (zero,), "vector", WIDTH)
    vectors = c.shape[0]
    assert isinstance(vectors, int), "known"
    filled = For(vector, const(vectors), (loop,))
    if isinstance(rest, Const):
        return [filled]
    return [If(EXPR.op("gt", rest, ZERO), (filled,))]


class Turned:
    """The results of a block C [vectors, places * 16].

    scratch: a line of C; at: the indices of outer letters; letters: that of results, and those of
    places; first: the first result of C; results: how many there are, C may end with others.
    """

    def __init__(
        self,
        plan: ContractionPlan,
        c: Buffer,
        scratch: Buffer,
        at: dict[str, Expr],
        letters: tuple[str, Letters],
        first: Expr,
        results: int,
    ) -> None:
        self.plan = plan
        self.builder = plan.builder
        self.c = c
        self.scratch = scratch
        self.at = at
        self.letters = letters
        self.first = first
        self.results = results

    def stored(self, places: Expr, first_place: Expr) -> list[Stmt]:
        """Vector after vector: the squares of C turned, the elementwise work along places, of which
        C has so many from `first_place` on.
        """
        vectors = self.c.shape[0]
        assert isinstance(vectors, int), "known"
        vector = self.builder.variable("v")
        g, m, n = (self.builder.variable(name) for name in "gmn")
        quarter = const(SQUARE // 4)
        source = load(self.c, (vector, iadd(imul(g, const(SQUARE)), imul(n, const(4)), m)))
        place = iadd(imul(g, const(SQUARE)), imul(m, quarter), n)
        store = Store(self.scratch, (place,), source)
        pack: Stmt = For(n, quarter, (store,), "vector", WIDTH)
        squares = ifloordiv(iadd(places, const(WIDTH - 1)), const(WIDTH))
        turn = For(g, squares, (For(m, const(4), (pack,)),))
        high, low = self.builder.variable("h"), self.builder.variable("o")
        inner = iadd(imul(vector, const(WIDTH)), imul(high, const(4)), low)
        result = iadd(self.first, inner)
        g = self.builder.variable("g")
        whole = self._group(g, const(WIDTH), first_place, result, high, low)
        body: list[Stmt] = [For(g, ifloordiv(places, const(WIDTH)), whole)]
        rest = imod(places, const(WIDTH))
        if rest is not ZERO:
            last = ifloordiv(places, const(WIDTH))
            body += self._group(last, rest, first_place, result, high, low)
        if self.results % (vectors * WIDTH):
            exists = EXPR.op("lt", result, const(self.results))
            body = [If(exists, tuple(body))]
        each = For(high, const(4), (For(low, const(4), tuple(body)),))
        return [For(vector, const(vectors), (turn, each))]

    def _group(
        self, group: Expr, length: Expr, first_place: Expr, result: Expr, high: Expr, low: Expr
    ) -> tuple[Stmt, ...]:
        """One result of the places of a group."""
        plan, (row, columns) = self.plan, self.letters
        before: list[Stmt] = []
        first = iadd(first_place, imul(group, const(WIDTH)))
        # A name, so that the index of a place is one again where it meets memory.
        flat = self.builder.let("place", first, before)
        lane = self.builder.variable("j")
        place = unflatten(iadd(flat, lane), tuple(plan.sizes[c] for c in columns))
        at = self.at | dict(zip(columns, place, strict=True)) | {row: result}
        index = tuple(at[c] for c in plan.out if plan.sizes[c] != 1)
        quarter = imul(low, const(SQUARE // 4))
        start = iadd(imul(group, const(SQUARE)), quarter, high)
        value = load(self.scratch, (iadd(start, imul(lane, const(4))),))
        body: list[Stmt] = []
        store_results(plan, index, value, body)
        return (*before, For(lane, length, tuple(body), "vector", WIDTH))
