"""Lowering of row regions whose rows are short (floor 5): rows side by side in vectors.

A vector along a row of three elements is mostly empty. Here a lane has a row of its own, and all
that happens to one row is written out: each element is loaded once, and its value is shared by all
phases of the row. A reduction goes one element after another, as short ones do in any other row
(`schedule.policy_cpu.is_narrow`).
"""

from __future__ import annotations

from itertools import product as every

from graphc.base.dims import Size, product
from graphc.loops.build import iadd, imin, imul, isub, literal
from graphc.loops.nodes import Expr, For, Stmt, const, size
from graphc.lower.accumulate import Accumulation
from graphc.lower.edges import effective
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel, spread
from graphc.lower.regions import Region
from graphc.lower.to_loops import (
    accumulation,
    ancestors,
    blocks_of,
    evaluate_in_order,
    finished,
    index_in,
    widest,
)
from graphc.ops.families import Reduction
from graphc.schedule import policy_cpu as policy


def is_narrow(region: Region) -> bool:
    """Whether rows are short and enough of them lie one behind another along the last outer dim."""
    rows = region.rows or 0
    if region.kind != "row" or not rows:
        return False
    along = region.domain[rows - 1]
    if isinstance(along, int) and along < policy.NARROW_LEAST:
        return False
    reduced = [n for n in region.nodes if isinstance(n.op.form, Reduction)]
    shapes = [region.domain, *(effective(n.shape) for n in region.nodes)]
    shapes += [effective(n.inputs[0].shape) for n in reduced]
    return all(policy.is_narrow(shape[rows:]) for shape in shapes)


def narrow_rows(region: Region, builder: KernelBuilder) -> LoweredKernel:
    """The kernel of a row region of short rows."""
    rows = region.rows or 0
    outer, along = region.domain[: rows - 1], region.domain[rows - 1]
    step, lane = builder.variable("i"), builder.variable("j")
    blocks = blocks_of(along, policy.NARROW_BLOCK)
    *places, block = spread(step, (*outer, blocks)) if outer else (step,)
    start = imul(block, literal(policy.NARROW_BLOCK, step.dtype))
    extent = imin(literal(policy.NARROW_BLOCK, step.dtype), isub(size(along), start))
    variables = (*places, iadd(start, lane))
    body: list[Stmt] = []
    work: Size = product(region.domain) * (len(region.nodes) + 1)
    for node in region.nodes:
        if isinstance(node.op.form, Reduction):
            acc = Accumulation(builder, node)
            kept = variables[: len(effective(node.shape))]
            body.append(acc.declared)
            for index in every(*(range(int(acc.operand.shape[a])) for a in acc.axes)):
                at: dict[int, Expr] = dict(zip(acc.axes, map(const, index), strict=True))
                body += accumulation(region, builder, acc, kept, at)
            body += finished(builder, acc, variables, [])
            work = work + product(acc.operand.shape) * 4
    body += _results(region, builder, variables)
    width = policy.lanes(widest(region), along)
    loop = For(lane, extent, tuple(body), "vector", width)
    return builder.kernel([For(step, size(product((*outer, blocks))), (loop,), "parallel")], work)


def _results(region: Region, builder: KernelBuilder, variables: tuple[Expr, ...]) -> list[Stmt]:
    rows = len(variables)
    body: list[Stmt] = []
    short = [n for n in region.outputs if len(effective(n.shape)) <= rows]
    full = [n for n in region.outputs if len(effective(n.shape)) > rows]
    wanted = ancestors(region, short, builder.is_producer)
    evaluate_in_order(region, builder, region.domain[:rows], variables, wanted)
    for node in short:
        builder.store(node, index_in(node.shape, variables), body)
    wanted = ancestors(region, full, builder.is_producer)
    for index in every(*(range(int(s)) for s in region.domain[rows:])) if full else ():
        everything = (*variables, *map(const, index))
        evaluate_in_order(region, builder, region.domain, everything, wanted)
        for node in full:
            builder.store(node, index_in(node.shape, everything), body)
    return body
