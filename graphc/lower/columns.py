"""Lowering of column regions (floor 5): reductions along an axis that is not the innermost.

Vectors run across results. Small operands keep their accumulators in registers while a loop walks
down the rows. Large ones are read as they lie in memory: a step takes some hundred rows and a block
of columns whose accumulators stay in the first-level cache, and a second kernel combines the steps.
Both accumulate every result in the same order: chains of rows, groups of chains (`COLUMN_CHAINS`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from graphc.base.dims import Shape, Size, bounds, product
from graphc.ir.node import Tensor
from graphc.loops.build import EXPR, iadd, ifloordiv, imin, imod, imul, isub, literal
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Buffer,
    Const,
    Expr,
    For,
    Stmt,
    Store,
    Var,
    cast,
    load,
    size,
)
from graphc.lower.accumulate import Accumulation
from graphc.lower.edges import effective
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel, Temporary, spread
from graphc.lower.regions import Region
from graphc.lower.to_loops import (
    accumulation,
    ancestors,
    blocks_of,
    evaluate_in_order,
    finished,
    index_in,
    operand_value,
    widest,
)
from graphc.ops.families import Reduction
from graphc.schedule import policy_cpu as policy

# How one reduction's result is accumulated, at the variables of the results; and the work of it.
Reduce = Callable[[Tensor, tuple[Expr, ...]], tuple[list[Stmt], Size]]
# How a row's element is accumulated.
Add = Callable[[Expr, Accumulators], list[Stmt]]


def lower_columns(region: Region, builder: KernelBuilder) -> list[LoweredKernel]:
    """The kernels of a column region."""
    if goes_by_rows(region):
        return [_results(region, builder, lambda n, v: _reduction(region, builder, n, v))]
    (reduction,) = [n for n in region.nodes if isinstance(n.op.form, Reduction)]
    return _Tiled(region, builder, reduction).kernels()


def goes_by_rows(region: Region) -> bool:
    """Whether the kernel of a column region has a step for each row of results."""
    reductions = [n for n in region.nodes if isinstance(n.op.form, Reduction)]
    return len(reductions) > 1 or not _is_large(reductions[0])


def row_of_columns(
    region: Region, builder: KernelBuilder, outer: tuple[Expr, ...]
) -> tuple[Stmt, Size]:
    """One row of results of a region that goes by rows, at the index of its outer dims: the loop
    that reduces and stores them. With the work of all rows.
    """
    return _row(region, builder, outer, lambda n, v: _reduction(region, builder, n, v))


def _is_large(node: Tensor) -> bool:
    """Whether one axis is reduced, and it is long in an operand that leaves the nearer caches (as
    far as sizes are known).
    """
    shape = node.inputs[0].shape
    axes = [a for a in node.attr("axes") if not (isinstance(shape[a], int) and shape[a] == 1)]
    if len(axes) != 1:
        return False
    count, rows, columns = (bounds(s)[1] for s in (product(shape), shape[axes[0]], shape[-1]))
    if count is None and columns is not None and columns <= policy.COLUMN_NARROW:
        return False  # most often a batch of few rows, for which one kernel is enough
    return (count is None or count > policy.COLUMN_SMALL) and (
        rows is None or rows > policy.COLUMN_FEW_ROWS
    )


def _results(region: Region, builder: KernelBuilder, reduce: Reduce) -> LoweredKernel:
    """The results, with the loops of their reductions around nothing but the rows."""
    *outer, inner = region.domain
    row = builder.variable("i")
    if outer:
        count = product(outer)
        loop, work = _row(region, builder, spread(row, tuple(outer)), reduce)
    else:
        column, block = builder.variable("j"), literal(policy.COLUMN_BLOCK, row.dtype)
        start = imul(row, block)
        extent = imin(block, isub(size(inner), start))
        count = blocks_of(inner, policy.COLUMN_BLOCK)
        body, work = _column(region, builder, (iadd(start, column),), reduce)
        width = policy.lanes(widest(region), inner)
        loop = _over(column, extent, body, width, policy.interleave(inner, width))
    return builder.kernel([For(row, size(count), (loop,), "parallel")], work)


def _row(
    region: Region, builder: KernelBuilder, outer: tuple[Expr, ...], reduce: Reduce
) -> tuple[Stmt, Size]:
    """The loop over all columns of a row, and the work of all rows. Short windows of a row of known
    length go by whole vectors: the last ones compute some results that those before them have.
    """
    inner = region.domain[-1]
    width = policy.lanes(widest(region), inner)
    column, block = builder.variable("j"), builder.variable("b")
    short = _is_short_windows(region) and not _reads_elements(region)
    cover = policy.whole_vectors(inner, width) if short else None
    if cover is None:
        body, work = _column(region, builder, (*outer, column), reduce)
        groups = policy.interleave(inner, width)
        return _over(column, size(inner), body, width, groups), work
    blocks, groups = cover
    span, before = groups * width, list[Stmt]()
    start = imin(imul(block, size(span)), isub(size(inner), size(span)))
    if blocks <= 2:  # linear in the block
        start = imul(block, isub(size(inner), size(span)))
    first = builder.let("start", start, before)
    body, work = _column(region, builder, (*outer, iadd(first, column)), reduce)
    loop = _over(column, size(span), body, width, groups)
    return For(block, size(blocks), (*before, loop)), work


def _is_short_windows(region: Region) -> bool:
    """Whether the reductions of a region take few elements, of number known: windows."""
    reductions = [n for n in region.nodes if isinstance(n.op.form, Reduction)]
    counts = [product(n.inputs[0].shape[a] for a in n.attr("axes")) for n in reductions]
    return all(isinstance(c, int) and c <= policy.SHORT_WINDOW for c in counts)


def _reads_elements(region: Region) -> bool:
    """Whether results read elements of a tensor of as many: the result may lie where that one did
    (an update of a variable in a library), so that nothing can be computed again.
    """
    inside = {id(n) for n in region.nodes}
    count = product(region.domain)
    return any(
        id(i) not in inside and product(i.shape) == count
        for n in region.nodes
        if not isinstance(n.op.form, Reduction) and effective(n.shape) == region.domain
        for i in n.inputs
    )


def _over(column: Var, extent: Expr, body: list[Stmt], width: int, groups: int) -> For:
    return For(column, extent, tuple(body), "vector" if width > 1 else "serial", width, groups)


def _column(
    region: Region, builder: KernelBuilder, variables: tuple[Expr, ...], reduce: Reduce
) -> tuple[list[Stmt], Size]:
    """One result: its reductions and the stores. With the work of all results."""
    body: list[Stmt] = []
    work: Size = product(region.domain)
    for node in region.nodes:
        if isinstance(node.op.form, Reduction):
            loops, more = reduce(node, variables)
            body += loops
            work = work + more
    _outputs(region, builder, variables, body)
    return body, work


def _outputs(
    region: Region, builder: KernelBuilder, variables: tuple[Expr, ...], body: list[Stmt]
) -> None:
    """What is computed from the reductions, and the stores."""
    evaluate_in_order(
        region,
        builder,
        region.domain,
        variables,
        ancestors(region, region.outputs, builder.is_producer),
    )
    for node in region.outputs:
        builder.store(node, index_in(node.shape, variables), body)


def _reduction(
    region: Region, builder: KernelBuilder, node: Tensor, variables: tuple[Expr, ...]
) -> tuple[list[Stmt], Size]:
    acc = Accumulation(builder, node)
    operand = acc.operand
    if not acc.axes:  # one element
        alone = accumulation(region, builder, acc, variables, {})
        return finished(builder, acc, variables, [acc.declared, *alone]), 0
    reduced: dict[int, Expr] = {a: builder.variable("k") for a in acc.axes}
    loops = [(v, operand.shape[a]) for a, v in reduced.items() if isinstance(v, Var)]
    last = acc.axes[-1]

    def add(row: Expr, into: Accumulators) -> list[Stmt]:
        acc.inner, reduced[last] = into, row
        return accumulation(region, builder, acc, variables, reduced)

    rows = operand.shape[last]
    few = product(s for _, s in loops)
    turns = "unroll" if isinstance(few, int) and few <= policy.UNROLLED_WINDOW else "serial"
    if acc.wide:
        inside = _wide_chains(builder, acc, rows, size(rows), add, _is_short(region, builder, acc))
    else:
        inside = _chains(builder, acc, rows, size(rows), add, turns=turns)
    for variable, extent in reversed(loops[:-1]):
        inside = [For(variable, size(extent), tuple(inside), turns)]
    body: list[Stmt] = [acc.declared, *inside]
    return finished(builder, acc, variables, body), product(operand.shape) * 2


def _is_short(region: Region, builder: KernelBuilder, acc: Accumulation) -> bool:
    """Whether an element of a reduction's operand takes so little that rows are written out."""
    return policy.writes_out_rows(len(ancestors(region, [acc.operand], builder.is_producer)))


def _chains(
    builder: KernelBuilder,
    acc: Accumulation,
    rows: Size,
    extent: Expr,
    add: Add,
    radices: Sequence[int] = policy.COLUMN_CHAINS,
    turns: str = "serial",
) -> list[Stmt]:
    """Loops that accumulate `rows` rows, `extent` of them, into `acc.declared`.

    They are cut into chains, chains into groups, and so on: a part of each level has accumulators
    of its own, at whose end they go into those of the next.
    """
    high = bounds(rows)[1]
    lengths = [math.prod(radices[: k + 1]) for k in range(len(radices))]
    parts = [length for length in lengths if acc.rounds and (high is None or high > length)]

    def level(k: int, start: Expr, left: Expr, into: Accumulators) -> list[Stmt]:
        if k == 0:
            row = builder.variable("k")
            return [For(row, left, tuple(add(iadd(start, row), into)), turns)]
        block, length = builder.variable("b"), size(parts[k - 1])
        part = acc.accumulators("part")
        before = imul(block, length)
        some = imin(length, isub(left, before))
        inside = level(k - 1, iadd(start, before), some, part)
        count = ifloordiv(iadd(left, isub(length, size(1))), length)
        return [For(block, count, (part, *inside, Accumulate(into, part.vars)))]

    return level(len(parts), size(0), extent, acc.declared)


def _wide_chains(
    builder: KernelBuilder,
    acc: Accumulation,
    rows: Size,
    extent: Expr,
    add: Add,
    written_out: bool,
) -> list[Stmt]:
    """The same for accumulators that are wider than values: one chain for each group of rows, of a
    few rows at a time.
    """
    high = bounds(rows)[1]
    whole = isinstance(rows, int) and rows % policy.WIDE_ROWS == 0
    if high is not None and high <= policy.COLUMN_GROUP:
        return _few_rows(builder, acc, size(0), extent, whole, acc.declared, add, written_out)
    block, length, part = builder.variable("b"), size(policy.COLUMN_GROUP), acc.accumulators("part")
    start = imul(block, length)
    some = imin(length, isub(extent, start))
    inside = _few_rows(builder, acc, start, some, whole, part, add, written_out)
    count = ifloordiv(iadd(extent, isub(length, size(1))), length)
    return [For(block, count, (part, *inside, Accumulate(acc.declared, part.vars)))]


def _few_rows(
    builder: KernelBuilder,
    acc: Accumulation,
    start: Expr,
    rows: Expr,
    whole: bool,
    into: Accumulators,
    add: Add,
    written_out: bool,
) -> list[Stmt]:
    """Loops that accumulate `rows` rows from `start` on into wide accumulators: `WIDE_ROWS` at a
    time are added in the dtype of the values, and so are those left. whole: none is left.
    """
    some, kind = size(policy.WIDE_ROWS), "unroll" if written_out else "serial"
    group, once = builder.variable("k"), builder.variable("k")
    groups = ifloordiv(rows, some)

    def few(first: Expr, count: Expr, kind: str) -> tuple[Stmt, ...]:
        narrow, row = acc.narrow_accumulators("few"), builder.variable("k")
        added = For(row, count, tuple(add(iadd(first, row), narrow)), kind)
        wide = tuple(cast(v, d) for v, d in zip(narrow.vars, acc.dtypes, strict=True))
        return narrow, added, Accumulate(into, wide)

    turns = kind if isinstance(groups, Const) and groups.value <= policy.WIDE_TURNS else "serial"
    first = few(iadd(start, imul(group, some)), some, kind)
    loops: list[Stmt] = [For(group, groups, first, turns)]
    if not whole:
        left = imod(rows, some)
        kind = kind if isinstance(left, Const) else "serial"
        rest = few(iadd(start, imul(groups, some)), left, kind)
        loops.append(For(once, imin(left, size(1)), rest))
    return loops


class _Tiled:
    """One reduction along one axis of a large operand.

    A step has a place among the outer dims, a group of chains and a block of columns. Its
    accumulators lie in memory; several rows are added to them between a load and a store.
    """

    def __init__(self, region: Region, builder: KernelBuilder, node: Tensor) -> None:
        self.region = region
        self.builder = builder
        self.acc = Accumulation(builder, node)
        self.axis = self.acc.axes[0]
        self.rows = self.acc.operand.shape[self.axis]
        high = bounds(self.rows)[1]
        # None: one group holds all rows, and the step itself has the results.
        self.groups = None
        self.in_step = policy.COLUMN_GROUP if high is None else min(high, policy.COLUMN_GROUP)
        if high is None or high > policy.COLUMN_GROUP:
            self.groups = blocks_of(self.rows, policy.COLUMN_GROUP)
        self.outer, self.inner = region.domain[:-1], region.domain[-1]
        steps = product((*self.outer, 1 if self.groups is None else self.groups))
        bytes_ = sum(d.itemsize for d in self.acc.dtypes)
        self.block = policy.column_tile(bytes_, self.acc.wide, steps, self.inner)
        self.width = policy.lanes(widest(region), self.inner)
        self.narrow = bounds(self.inner)[1] == self.block <= policy.COLUMN_NARROW
        self.rows_written_out = _is_short(region, builder, self.acc)
        self.whole = isinstance(self.rows, int) and self.rows % policy.WIDE_ROWS == 0

    def kernels(self) -> list[LoweredKernel]:
        """One kernel, or one for the groups and one that combines them."""
        builder, acc = self.builder, self.acc
        step = builder.variable("i")
        column_blocks = blocks_of(self.inner, self.block)
        groups: Shape = () if self.groups is None else (self.groups,)
        grid = (*self.outer, *groups, column_blocks)
        place = spread(step, grid)
        first_column = imul(place[-1], size(self.block))
        columns: Expr = imin(size(self.block), isub(size(self.inner), first_column))
        first_row: Expr = size(0)
        rows: Expr = size(self.rows)
        if self.groups is not None:
            first_row = imul(place[-2], size(policy.COLUMN_GROUP))
            whole = isinstance(self.rows, int) and self.rows % policy.COLUMN_GROUP == 0
            group = size(policy.COLUMN_GROUP)
            rows = group if whole else imin(group, isub(rows, first_row))
        self.place = place[: len(self.outer)]
        self.first_row, self.first_column, self.columns = first_row, first_column, columns
        work = product(acc.operand.shape) * 2
        if self.groups is None:
            body = self._step(rows, self._finish)
            loop = For(step, size(product(grid)), tuple(body), "parallel")
            return [builder.kernel([loop], work + product(self.region.domain))]
        partials = [Temporary((*self.outer, self.groups, self.inner), d) for d in acc.dtypes]
        body = self._step(rows, lambda j, v: self._store_partials(partials, place[-2], j, v))
        loop = For(step, size(product(grid)), tuple(body), "parallel")
        return [builder.kernel([loop], work), self._combined(partials)]

    def _step(
        self, rows: Expr, store: Callable[[Expr, tuple[Expr, ...]], list[Stmt]]
    ) -> list[Stmt]:
        """Accumulate the rows of the group; `store` writes what comes of a column's values."""
        builder, acc = self.builder, self.acc
        if self.narrow:

            def strip(column: Expr) -> list[Stmt]:
                def at(row: Expr, into: Accumulators) -> list[Stmt]:
                    return self._element(row, column, into)

                if acc.wide:
                    loops = self._few_rows(size(0), rows, self.whole, acc.declared, at)
                else:
                    loops = _chains(builder, acc, self.in_step, rows, at)
                return [acc.declared, *loops, *store(column, acc.declared.vars)]

            return [self._over_columns(strip, policy.REDUCTION_INTERLEAVE)]

        def results(column: Expr) -> list[Stmt]:
            body: list[Stmt] = []
            values = [builder.let("acc", load(b, (column,)), body) for b in total]
            return body + store(column, tuple(values))

        total = self._accumulators("acc")
        body: list[Stmt] = [Alloc(b) for b in total]
        body.append(self._over_columns(lambda j: self._identities(total, j)))
        chain = policy.COLUMN_PART
        if acc.wide or not acc.rounds or self.in_step <= chain:
            return [*body, *self._over_rows(total, size(0), rows), self._over_columns(results)]
        part = self._accumulators("part")
        which = builder.variable("b")
        first = imul(which, size(chain))
        inside = [
            self._over_columns(lambda j: self._identities(part, j)),
            *self._over_rows(part, first, imin(size(chain), isub(rows, first))),
            self._over_columns(lambda j: self._join(total, part, j)),
        ]
        count = ifloordiv(iadd(rows, size(chain - 1)), size(chain))
        body += [*(Alloc(b) for b in part), For(which, count, tuple(inside))]
        return [*body, self._over_columns(results)]

    def _accumulators(self, name: str) -> list[Buffer]:
        names, dtypes = self.builder.names, self.acc.dtypes
        return [Buffer(names.fresh(name), (self.block,), d, "local") for d in dtypes]

    def _join(self, total: list[Buffer], part: list[Buffer], column: Expr) -> list[Stmt]:
        """What a chain came to goes into the group's accumulators."""
        left, right = (tuple(load(b, (column,)) for b in some) for some in (total, part))
        combined = self.acc.form.combine(EXPR, left, right)
        stmts: list[Stmt] = []
        named = [self.builder.let("t", value, stmts) for value in combined]
        return stmts + [Store(b, (column,), v) for b, v in zip(total, named, strict=True)]

    def _over_columns(self, body: Callable[[Expr], list[Stmt]], interleave: int = 2) -> Stmt:
        column = self.builder.variable("j")
        groups = policy.interleave(self.inner, self.width, interleave)
        kind = "vector" if self.width > 1 else "serial"
        return For(column, self.columns, tuple(body(column)), kind, self.width, groups)

    def _identities(self, into: list[Buffer], column: Expr) -> list[Stmt]:
        identity = self.acc.declared.combine.identity
        return [Store(b, (column,), v) for b, v in zip(into, identity, strict=True)]

    def _over_rows(self, into: list[Buffer], first: Expr, rows: Expr) -> list[Stmt]:
        """So many rows from the first on: some at a time, then those left."""
        together = policy.WIDE_ROWS if self.acc.wide else policy.COLUMN_CHAINS[0]
        builder, some = self.builder, size(together)
        group, once = builder.variable("k"), builder.variable("k")
        start = iadd(first, imul(group, some))
        whole, left = ifloordiv(rows, some), imod(rows, some)
        after = iadd(first, imul(whole, some))
        kind = "unroll" if self.rows_written_out else "serial"
        add = self._add_wide if self.acc.wide else self._add
        body = self._over_columns(lambda j: add(into, start, some, kind, j))
        loops: list[Stmt] = [For(group, whole, (body,))]
        if not isinstance(self.rows, int) or self.rows % together:
            rest = self._over_columns(lambda j: add(into, after, left, "serial", j))
            loops.append(For(once, imin(left, size(1)), (rest,)))
        return loops

    def _add_wide(
        self, into: list[Buffer], first: Expr, rows: Expr, kind: str, column: Expr
    ) -> list[Stmt]:
        """Combine rows into the column's wide accumulators, a few rows at a time."""
        total = self.acc.accumulators("total", begun=True)
        loads = tuple(load(b, (column,)) for b in into)
        whole = isinstance(rows, Const) and rows.value % policy.WIDE_ROWS == 0
        loops = self._few_rows(
            first, rows, whole, total, lambda row, to: self._element(row, column, to)
        )
        stores = [Store(b, (column,), v) for b, v in zip(into, total.vars, strict=True)]
        return [total, Accumulate(total, loads), *loops, *stores]

    def _few_rows(
        self, start: Expr, rows: Expr, whole: bool, into: Accumulators, add: Add
    ) -> list[Stmt]:
        out = self.rows_written_out
        return _few_rows(self.builder, self.acc, start, rows, whole, into, add, out)

    def _element(self, row: Expr, column: Expr, into: Accumulators) -> list[Stmt]:
        value, position = self._operand(row, column)
        self.acc.inner = into
        return [*self.builder.checks(), self.acc.accumulate(value, position)]

    def _add(
        self, into: list[Buffer], first: Expr, rows: Expr, kind: str, column: Expr
    ) -> list[Stmt]:
        """Combine a chain of rows into the column's accumulators."""
        builder, acc = self.builder, self.acc
        chain = acc.accumulators("chain")
        row = builder.variable("r")
        inside = self._element(iadd(first, row), column, chain)
        totals = tuple(load(b, (column,)) for b in into)
        stmts: list[Stmt] = [chain, For(row, rows, tuple(inside), kind)]
        combined = acc.form.combine(EXPR, totals, chain.vars)
        named = [builder.let("t", total, stmts) for total in combined]
        return stmts + [Store(b, (column,), v) for b, v in zip(into, named, strict=True)]

    def _operand(self, row: Expr, column: Expr) -> tuple[Expr, Expr]:
        """The operand's element in a row and column of the step, and its position."""
        kept = (*self.place, iadd(self.first_column, column))
        at: dict[int, Expr] = {self.axis: iadd(self.first_row, row)}
        return operand_value(self.region, self.builder, self.acc, kept, at)

    def _finish(self, column: Expr, totals: tuple[Expr, ...]) -> list[Stmt]:
        builder, acc = self.builder, self.acc
        variables = (*self.place, iadd(self.first_column, column))
        body: list[Stmt] = []
        named = builder.let("r", acc.result(totals), body)
        builder.elements.define(acc.node, index_in(acc.node.shape, variables), named)
        builder.watch(acc.node, named)
        _outputs(self.region, builder, variables, body)
        return body

    def _store_partials(
        self, partials: list[Temporary], group: Expr, column: Expr, values: tuple[Expr, ...]
    ) -> list[Stmt]:
        index = (*self.place, group, iadd(self.first_column, column))
        return [
            Store(self.builder.output(p, p.shape, "partial"), index, value)
            for p, value in zip(partials, values, strict=True)
        ]

    def _combined(self, partials: list[Temporary]) -> LoweredKernel:
        """The groups of each result one after another, and what is computed from it."""
        first, region, groups = self.builder, self.region, self.groups
        assert groups is not None, "one group has no partial results"
        builder = KernelBuilder(
            first.name + "_finish", first.sites, first.members, first.is_producer
        )

        def reduce(node: Tensor, variables: tuple[Expr, ...]) -> tuple[list[Stmt], Size]:
            acc = Accumulation(builder, node)

            def add(group: Expr, into: Accumulators) -> list[Stmt]:
                index = (*variables[:-1], group, variables[-1])
                values = [load(builder.buffer(p, p.shape, "partial"), index) for p in partials]
                return [Accumulate(into, tuple(values))]

            longer = () if acc.wide else policy.COLUMN_CHAINS[3:]
            loops = _chains(builder, acc, groups, size(groups), add, longer)
            body = finished(builder, acc, variables, [acc.declared, *loops])
            return body, groups * product(region.domain)

        return _results(region, builder, reduce)
