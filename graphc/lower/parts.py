"""Products of which several parts are read at each element (floor 5): gates of recurrent cells.

Each result needs one element of every part (`Region.in_parts`). A step takes panels of the same
columns of all parts and a block of rows: it multiplies one part after another into scratch memory
in the first-level cache, and computes the results from there. What is between the product and the
results never leaves the core that made it, and the loop waits for its threads once a turn less.
The elements of the product are those of any other kernel for it (decision 0012).
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
from graphc.schedule import policy_cpu as policy

# Rows of a step: panels are read once from the second-level cache and once or more from the first.
ROWS = 32


def lower_parts(region: Region, builder: KernelBuilder, target: Target) -> LoweredKernel:
    """The kernel of a region whose results read parts of its contraction."""
    plan = ContractionPlan.of(region, builder)
    return _Parts(plan, target).kernel()


class _Parts:
    """One region while its kernel is written."""

    def __init__(self, plan: ContractionPlan, target: Target) -> None:
        last = vector_letter(plan.node)
        if last is None:
            raise CompileError("parts of a product need a result of more than one element")
        self.plan = plan
        self.builder = plan.builder
        self.last = last
        self.row = row_letter(plan, last)
        self.letters = [c for c in plan.out if plan.sizes[c] != 1]
        self.domain = dict(zip(self.letters, plan.region.domain, strict=True))
        self.rows: Size = plan.sizes[self.row] if self.row else 1
        summed = product(plan.sizes[c] for c in plan.summed)
        columns = plan.sizes[last]
        self.tile = policy.contraction_tile(target, plan.dtype, self.rows, columns, summed)
        self.block = min(ROWS, self.rows) if isinstance(self.rows, int) else ROWS
        own = tuple(var(f"own{d}") for d in range(len(self.letters)))
        self.offsets = [self._offsets(read, own) for read in self._reads(own)]
        self.order = sorted(range(len(self.offsets)), key=lambda k: sorted(self.offsets[k].items()))
        scratch = (len(self.offsets), self.block, columns)
        self.scratch = Buffer(self.builder.names.fresh("parts"), scratch, plan.dtype, "local")

    def kernel(self) -> LoweredKernel:
        """Parallel over blocks of rows and the letters around them."""
        builder = self.builder
        outer = [c for c in self.letters if c not in (self.last, self.row)]
        grid = (*(self.domain[c] for c in outer), (self.rows + (self.block - 1)) // self.block)
        counter = builder.variable("i")
        *places, block = unflatten(counter, grid)
        at = dict(zip(outer, places, strict=True))
        first = imul(block, const(self.block))
        count: Expr = const(self.block)
        if not isinstance(self.rows, int) or self.rows % self.block:
            count = imin(count, isub(size(self.rows), first))
        body: list[Stmt] = [Alloc(self.scratch)]
        body += self._products(at, first, count)
        body.append(self._results(at, first, count))
        loop = For(counter, size(product(grid)), tuple(body), "parallel")
        return builder.kernel([loop], self.plan.work)

    def _reads(self, index: tuple[Expr, ...]) -> list[Index]:
        """The indices at which results at `index` read the contraction, in a fixed order."""
        node, builder = self.plan.node, self.builder
        found: dict[Index, None] = {}

        def leaf(read: Tensor, at: Index, predicate: Expr | None) -> Expr:
            if read is node:
                found[at] = None
            return var(f"leaf{len(found)}", read.dtype)

        elements = Elements(
            lambda n: n is not node and (id(n) in builder.members or not builder.is_producer(n)),
            leaf,
            lambda *_: None,
        )
        for other in self.plan.region.nodes:
            own = effective(other.shape)
            if other is not node and own == self.plan.region.domain[: len(own)]:
                elements.value(other, index_in(other.shape, index))
        return list(found)

    def _offsets(self, read: Index, own: Sequence[Expr]) -> dict[str, int]:
        kept = [i for c, i in zip(self.plan.out, read, strict=True) if self.plan.sizes[c] != 1]
        offsets = [constant_offset(i, o) for i, o in zip(kept, own, strict=True)]
        found = {c: o for c, o in zip(self.letters, offsets, strict=True) if o is not None}
        if len(found) < len(self.letters) or found[self.last] or (self.row and found[self.row]):
            raise CompileError("a part of a product is not at constant offsets")
        return found

    def _products(self, at: dict[str, Expr], first: Expr, count: Expr) -> list[Stmt]:
        """All parts for the rows of the step, into scratch memory: in one loop where they are
        equally far apart, one after another where not.
        """
        parts = [self.offsets[k] for k in self.order]
        steps = {c: parts[1][c] - parts[0][c] if len(parts) > 1 else 0 for c in at}
        even = all(
            part[c] == parts[0][c] + k * steps[c] for k, part in enumerate(parts) for c in at
        )
        if even:
            part = self.builder.variable("part")
            place = {
                c: iadd(i, imul(part, const(steps[c])), const(parts[0][c])) for c, i in at.items()
            }
            inside = self._product(part, place, first, count)
            return [For(part, const(len(parts)), tuple(inside))]
        body: list[Stmt] = []
        for number, offsets in enumerate(parts):
            place = {c: iadd(i, const(offsets[c])) for c, i in at.items()}
            body += self._product(const(number), place, first, count)
        return body

    def _product(
        self, number: Expr, place: dict[str, Expr], first: Expr, count: Expr
    ) -> list[Stmt]:
        """One part for the rows of the step, into scratch memory."""
        if self.row is None:
            return self._tile(number, place, ZERO, [ZERO])
        tall = self.tile.rows
        tile, single = self.builder.variable("t"), self.builder.variable("u")
        start = imul(tile, const(tall))
        whole = ifloordiv(count, const(tall))
        done = imul(whole, const(tall))
        full = self._tile(number, place, first, [iadd(start, const(u)) for u in range(tall)])
        loops: list[Stmt] = [For(tile, whole, tuple(full))]
        if not isinstance(self.rows, int) or self.rows % tall or self.block % tall:
            rest = self._tile(number, place, first, [iadd(done, single)])
            loops.append(For(single, isub(count, done), tuple(rest)))
        return loops

    def _tile(
        self, number: Expr, place: dict[str, Expr], first: Expr, rows: list[Expr]
    ) -> list[Stmt]:
        def keep(u: int, column: Expr, value: Expr) -> Stmt:
            return Store(self.scratch, (number, rows[u], column), value)

        these = [iadd(first, r) for r in rows] if self.row else []
        return columns_of_rows(self.plan, self.tile, self.last, self.row, place, these, keep)

    def _results(self, at: dict[str, Expr], first: Expr, count: Expr) -> Stmt:
        """What is computed from the parts, and the stores."""
        plan, builder = self.plan, self.builder
        row, column = builder.variable("r"), builder.variable("j")
        here = at | {self.last: column} | ({self.row: iadd(first, row)} if self.row else {})
        index = tuple(here[c] for c in self.letters)
        body: list[Stmt] = []
        reads = self._reads(index)  # kept to the end: elements are found by these very indices
        for number, read in enumerate(reads):
            place = const(self.order.index(number))
            value: Expr = load(self.scratch, (place, row, column))
            if plan.dtype is not plan.node.dtype:
                value = EXPR.cast(value, plan.node.dtype)
            builder.elements.define(plan.node, read, builder.let("r", value, body))
        region = plan.region
        others = {id(n) for n in region.nodes} - {id(plan.node)}
        evaluate_in_order(region, builder, region.domain, index, others)
        for output in region.outputs:
            builder.store(output, index_in(output.shape, index), body)
        kind = "vector" if self.tile.width > 1 else "serial"
        columns = For(column, size(plan.sizes[self.last]), tuple(body), kind, self.tile.width)
        return For(row, count, (columns,))
