"""Products of which several parts are read at each element (floor 5): gates of recurrent cells.

Each result needs one element of every part (`Region.in_parts`), of one product or of several that
are laid out alike.  A step takes panels of the same columns of all parts and a block of rows: it
multiplies one part after another into scratch memory in the first-level cache, and computes the
results from there.  What is between the products and the results never leaves the core that made
it, and the loop waits for its threads once a turn less.  The elements of a product are those of any
other kernel for it (decision 0012).
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.base.dims import Size, product
from graphc.base.errors import CompileError
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.loops.build import EXPR, ZERO, iadd, ifloordiv, imin, imul, isub
from graphc.loops.index_math import unflatten
from graphc.loops.nodes import Alloc, Buffer, Expr, For, Stmt, Store, const, load, size, var
from graphc.lower.contraction import ContractionPlan, columns_of_rows, row_letter, vector_letter
from graphc.lower.edges import constant_offset, effective
from graphc.lower.elements import Elements, Index
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel
from graphc.lower.regions import Region
from graphc.lower.to_loops import evaluate_in_order, index_in
from graphc.ops.families import Contraction
from graphc.schedule import policy_cpu as policy

# Rows of a step: panels are read once from the second-level cache and once or more from the first.
ROWS = 32


def lower_parts(region: Region, builder: KernelBuilder, target: Target) -> LoweredKernel:
    """The kernel of a region whose results read parts of its contractions."""
    return _Parts(region, builder, target).kernel()


class _Product:
    """One contraction of the region while the kernel is written.

    last, row: its letters of columns and of tiled rows (None: no rows); letters: of its result,
    sizes of 1 not counted; offsets: by number of a part, in the order in which they are computed,
    what is added to the index of a result's element in each dim; first: number of its first part in
    scratch memory.
    """

    def __init__(
        self, node: Tensor, region: Region, builder: KernelBuilder, target: Target
    ) -> None:
        last = vector_letter(node)
        if last is None:
            raise CompileError("parts of a product need a result of more than one element")
        plan = ContractionPlan.of(region, builder, node)
        self.node, self.plan, self.last = node, plan, last
        self.row = row_letter(plan, last)
        self.letters = [c for c in plan.out if plan.sizes[c] != 1]
        self.rows: Size = plan.sizes[self.row] if self.row else 1
        summed = product(plan.sizes[c] for c in plan.summed)
        self.tile = policy.contraction_tile(target, plan.dtype, self.rows, plan.sizes[last], summed)
        self.offsets: list[tuple[int, ...]] = []
        self.first = 0

    @property
    def row_dim(self) -> int | None:
        """The dim of the tiled rows among those of the result."""
        return None if self.row is None else self.letters.index(self.row)


class _Parts:
    """One region while its kernel is written."""

    def __init__(self, region: Region, builder: KernelBuilder, target: Target) -> None:
        self.region, self.builder = region, builder
        nodes = [n for n in region.nodes if isinstance(n.op.form, Contraction)]
        self.products = [_Product(n, region, builder, target) for n in nodes]
        first = self.products[0]
        self.row, self.rows, self.columns = first.row_dim, first.rows, first.plan.sizes[first.last]
        if any((p.row_dim, p.rows) != (self.row, self.rows) for p in self.products):
            raise CompileError("products that are read in parts have rows in different dims")
        self.block = min(ROWS, self.rows) if isinstance(self.rows, int) else ROWS
        own = tuple(var(f"own{d}") for d in range(len(region.domain)))
        for number, read in self._reads(own):
            self.products[number].offsets.append(self._offsets(read, own, number))
        self.count = 0
        for one in self.products:
            one.offsets.sort()
            one.first = self.count
            self.count += len(one.offsets)
        scratch = (self.count, self.block, self.columns)
        self.scratch = Buffer(builder.names.fresh("parts"), scratch, first.plan.dtype, "local")

    def kernel(self) -> LoweredKernel:
        """Parallel over blocks of rows and the dims around them."""
        builder, domain = self.builder, self.region.domain
        outer = [d for d in range(len(domain) - 1) if d != self.row]
        grid = (*(domain[d] for d in outer), (self.rows + (self.block - 1)) // self.block)
        counter = builder.variable("i")
        *places, block = unflatten(counter, grid)
        at = dict(zip(outer, places, strict=True))
        first = imul(block, const(self.block))
        count: Expr = const(self.block)
        if not isinstance(self.rows, int) or self.rows % self.block:
            count = imin(count, isub(size(self.rows), first))
        body: list[Stmt] = [Alloc(self.scratch)]
        for one in self.products:
            body += self._products(one, at, first, count)
        body.append(self._results(at, first, count))
        loop = For(counter, size(product(grid)), tuple(body), "parallel")
        work = sum((one.plan.flops for one in self.products), start=0 * self.rows)
        return builder.kernel([loop], work + product(domain) * len(self.region.nodes))

    def _reads(self, index: tuple[Expr, ...]) -> list[tuple[int, Index]]:
        """The products, by number, and the indices at which results at `index` read them, in a
        fixed order.
        """
        builder = self.builder
        numbers = {id(one.node): k for k, one in enumerate(self.products)}
        found: dict[tuple[int, Index], None] = {}

        def leaf(read: Tensor, at: Index, predicate: Expr | None) -> Expr:
            if id(read) in numbers:
                found[numbers[id(read)], at] = None
            return var(f"leaf{len(found)}", read.dtype)

        def is_inside(node: Tensor) -> bool:
            mine = id(node) in builder.members or not builder.is_producer(node)
            return id(node) not in numbers and mine

        elements = Elements(is_inside, leaf, lambda *_: None)
        for other in self.region.nodes:
            own = effective(other.shape)
            if id(other) not in numbers and own == self.region.domain[: len(own)]:
                elements.value(other, index_in(other.shape, index))
        return list(found)

    def _offsets(self, read: Index, own: Sequence[Expr], number: int) -> tuple[int, ...]:
        plan = self.products[number].plan
        kept = [i for c, i in zip(plan.out, read, strict=True) if plan.sizes[c] != 1]
        found = [constant_offset(i, o) for i, o in zip(kept, own, strict=True)]
        offsets = tuple(o for o in found if o is not None)
        if len(offsets) < len(found) or offsets[-1] or (self.row is not None and offsets[self.row]):
            raise CompileError("a part of a product is not at constant offsets")
        return offsets

    def _products(self, one: _Product, at: dict[int, Expr], first: Expr, count: Expr) -> list[Stmt]:
        """All parts of a product for the rows of the step, into scratch memory: in one loop where
        they are equally far apart, one after another where not.
        """
        start, second = one.offsets[0], one.offsets[min(1, len(one.offsets) - 1)]
        steps = [b - a for a, b in zip(start, second, strict=True)]
        even = all(
            part == tuple(a + k * s for a, s in zip(start, steps, strict=True))
            for k, part in enumerate(one.offsets)
        )
        if even:
            part = self.builder.variable("part")
            place = {
                d: iadd(i, imul(part, const(steps[d])), const(start[d])) for d, i in at.items()
            }
            inside = self._product(one, iadd(part, const(one.first)), place, first, count)
            return [For(part, const(len(one.offsets)), tuple(inside))]
        body: list[Stmt] = []
        for number, offsets in enumerate(one.offsets, one.first):
            place = {d: iadd(i, const(offsets[d])) for d, i in at.items()}
            body += self._product(one, const(number), place, first, count)
        return body

    def _product(
        self, one: _Product, number: Expr, place: dict[int, Expr], first: Expr, count: Expr
    ) -> list[Stmt]:
        """One part for the rows of the step, into scratch memory."""
        if self.row is None:
            return self._tile(one, number, place, ZERO, [ZERO])
        tall = one.tile.rows
        tile, single = self.builder.variable("t"), self.builder.variable("u")
        start = imul(tile, const(tall))
        whole = ifloordiv(count, const(tall))
        done = imul(whole, const(tall))
        full = self._tile(one, number, place, first, [iadd(start, const(u)) for u in range(tall)])
        loops: list[Stmt] = [For(tile, whole, tuple(full))]
        if not isinstance(self.rows, int) or self.rows % tall or self.block % tall:
            rest = self._tile(one, number, place, first, [iadd(done, single)])
            loops.append(For(single, isub(count, done), tuple(rest)))
        return loops

    def _tile(
        self, one: _Product, number: Expr, place: dict[int, Expr], first: Expr, rows: list[Expr]
    ) -> list[Stmt]:
        def keep(u: int, column: Expr, value: Expr) -> Stmt:
            return Store(self.scratch, (number, rows[u], column), value)

        these = [] if self.row is None else [iadd(first, r) for r in rows]
        at = {one.letters[d]: i for d, i in place.items()}
        return columns_of_rows(one.plan, one.tile, one.last, one.row, at, these, keep)

    def _results(self, at: dict[int, Expr], first: Expr, count: Expr) -> Stmt:
        """What is computed from the parts, and the stores."""
        builder, region = self.builder, self.region
        row, column = builder.variable("r"), builder.variable("j")
        here = (
            at
            | {len(region.domain) - 1: column}
            | ({} if self.row is None else {self.row: iadd(first, row)})
        )
        index = tuple(here[d] for d in range(len(region.domain)))
        body: list[Stmt] = []
        # Kept to the end: elements are found by these very indices.
        reads = self._reads(index)
        for number, read in reads:
            one = self.products[number]
            place = one.first + one.offsets.index(self._offsets(read, index, number))
            value: Expr = load(self.scratch, (const(place), row, column))
            if one.plan.dtype is not one.node.dtype:
                value = EXPR.cast(value, one.node.dtype)
            builder.elements.define(one.node, read, builder.let("r", value, body))
        others = {id(n) for n in region.nodes} - {id(one.node) for one in self.products}
        evaluate_in_order(region, builder, region.domain, index, others)
        for output in region.outputs:
            builder.store(output, index_in(output.shape, index), body)
        tile = self.products[0].tile
        kind = "vector" if tile.width > 1 else "serial"
        columns = For(column, size(self.columns), tuple(body), kind, tile.width)
        return For(row, count, (columns,))
