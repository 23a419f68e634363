"""Lowering of row regions to one or a few numbers per row (floor 5), where these are dear: the
logarithm of each row's sum, a square root.

One number alone has a whole vector's time. Here a step takes a block of rows: their reductions one
after another, the values of which stay in memory of the step, then what is computed from them, rows
side by side in the lanes of vectors. The bits are those of rows one by one.
"""

from __future__ import annotations

from graphc.base.dims import Size, bounds, product
from graphc.ir.node import Tensor
from graphc.loops.build import iadd, imin, imul, isub
from graphc.loops.nodes import Alloc, Buffer, Expr, For, Stmt, Store, load, size
from graphc.lower.edges import effective
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel, spread
from graphc.lower.regions import Region
from graphc.lower.to_loops import (
    Staging,
    ancestors,
    blocks_of,
    evaluate_in_order,
    index_in,
    row_reduction,
    widest,
)
from graphc.ops.families import Reduction
from graphc.schedule import policy_cpu as policy


def rows_in_blocks(region: Region, builder: KernelBuilder) -> LoweredKernel | None:
    """The kernel of a row region by blocks of rows; None where its results are not dear, fill rows,
    or come of too few rows.
    """
    rows = region.rows or 0
    if region.kind != "row" or not rows:
        return None
    if any(len(effective(n.shape)) > rows for n in region.outputs):
        return None
    wanted = ancestors(region, region.outputs, builder.is_producer)
    nodes = [n for n in region.nodes if id(n) in wanted]
    dear = policy.DEAR.intersection(n.op.name for n in nodes)
    if not dear or not policy.takes_blocks_of_rows(region.domain[rows - 1], _longest_row(region)):
        return None
    return _Blocks(region, builder, wanted).kernel()


def _longest_row(region: Region) -> int | None:
    """The most elements that a row of an operand has, None where no bound is known."""
    longest = 0
    for node in region.nodes:
        if isinstance(node.op.form, Reduction):
            high = bounds(product(effective(node.inputs[0].shape)[region.rows or 0 :]))[1]
            if high is None:
                return None
            longest = max(longest, high)
    return longest


class _Blocks:
    """One region on its way to a kernel."""

    def __init__(self, region: Region, builder: KernelBuilder, wanted: set[int]) -> None:
        self.region, self.builder, self.wanted = region, builder, wanted
        self.outer = region.domain[: region.rows or 0]
        along = self.outer[-1]
        step = builder.variable("i")
        grid = (*self.outer[:-1], blocks_of(along, policy.ROW_BLOCK))
        *places, block = spread(step, grid)
        self.places = tuple(places)
        self.start = imul(block, size(policy.ROW_BLOCK))
        whole = isinstance(along, int) and along % policy.ROW_BLOCK == 0
        left = isub(size(along), self.start)
        self.extent = size(policy.ROW_BLOCK) if whole else imin(size(policy.ROW_BLOCK), left)
        self.step, self.steps = step, product(grid)

    def _row(self, number: Expr) -> tuple[Expr, ...]:
        return (*self.places, iadd(self.start, number))

    def kernel(self) -> LoweredKernel:
        """The kernel: a step per block."""
        region, builder = self.region, self.builder
        row, lane = builder.variable("r"), builder.variable("j")
        reductions, kept, staging = self._reductions(row)
        width = policy.lanes(widest(region), policy.ROW_BLOCK)
        results = For(lane, self.extent, tuple(self._results(lane, kept)), "vector", width)
        body: list[Stmt] = [*staging.allocations(), *(Alloc(b) for _, b in kept)]
        body += [For(row, self.extent, tuple(reductions)), results]
        work: Size = product(region.domain) * (len(region.nodes) + 1)
        for node in region.nodes:
            if isinstance(node.op.form, Reduction):
                work = work + product(node.inputs[0].shape) * 4
        return builder.kernel([For(self.step, size(self.steps), tuple(body), "parallel")], work)

    def _reductions(self, row: Expr) -> tuple[list[Stmt], list[tuple[Tensor, Buffer]], Staging]:
        """One row's reductions, and the buffers in which those are kept that results read."""
        region, builder, variables = self.region, self.builder, self._row(row)
        staging = Staging(region, builder, variables)
        body: list[Stmt] = []
        kept: list[tuple[Tensor, Buffer]] = []
        for node in region.nodes:
            if not isinstance(node.op.form, Reduction):
                continue
            body += row_reduction(region, builder, node, variables, staging)
            if id(node) in self.wanted:
                name = builder.names.fresh("reduced")
                buffer = Buffer(name, (policy.ROW_BLOCK,), node.dtype, "local")
                value = builder.elements.value(node, index_in(node.shape, variables))
                body.append(Store(buffer, (row,), value))
                kept.append((node, buffer))
        return body, kept, staging

    def _results(self, lane: Expr, kept: list[tuple[Tensor, Buffer]]) -> list[Stmt]:
        region, builder, variables = self.region, self.builder, self._row(lane)
        for node, buffer in kept:
            builder.elements.define(node, index_in(node.shape, variables), load(buffer, (lane,)))
        evaluate_in_order(region, builder, self.outer, variables, self.wanted)
        body: list[Stmt] = []
        for node in region.outputs:
            builder.store(node, index_in(node.shape, variables), body)
        return body
