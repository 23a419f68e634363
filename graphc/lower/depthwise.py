"""Depthwise products (floor 5): contractions of windows with a kernel that has no result letter of
its own, as in a depthwise convolution, or one of a single output channel.

    out[n, c, h, w] = sum over i, j of x[n, c, h * stride + i, w * stride + j] * k[c, i, j]

Nothing is there for a tile of rows and columns to use twice but the kernel: windows are read where
they lie, in vectors along the last letter of the result, and a few rows of results share the loads
of the kernel. Each result is one chain of multiply-adds in index order, as in `contraction`.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.base.dims import Size, product
from graphc.base.dtypes import DType, bool_
from graphc.ir.node import Node, Tensor
from graphc.loops.build import EXPR, ZERO, iadd, imul, isub, literal
from graphc.loops.index_math import unflatten
from graphc.loops.nodes import Accumulate, Accumulators, Expr, For, If, Stmt, Var, size
from graphc.lower.chains import combine_for
from graphc.lower.contraction import letters
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel
from graphc.lower.regions import Region
from graphc.lower.to_loops import evaluate_in_order, index_in
from graphc.lower.windows import conditional_views, has_windows
from graphc.ops.families import Contraction
from graphc.schedule import policy_cpu as policy

_MOST = 128  # elements of one window: longer sums are worth an operand of their own
_UNROLLED = 32  # elements of a window up to which its loops are written out
_CHAINS = 8  # multiply-adds in flight: the latency of one times two a cycle


def windowed_operand(node: Node) -> int | None:
    """Which operand of a depthwise product has the windows; None for other nodes."""
    if not isinstance(node.op.form, Contraction) or not isinstance(node, Tensor):
        return None
    specs, sizes, out = letters(node)[:2], _sizes(node), letters(node)[2]
    inner = [c for c in out if sizes[c] != 1]
    for wide in (0, 1):
        own, other = specs[wide], specs[1 - wide]
        summed = product(sizes[c] for c in own if c not in out)
        if (
            inner
            and inner[-1] not in other
            and not any(sizes[c] != 1 and c not in own for c in out + other)
            and isinstance(summed, int)
            and 1 < summed <= _MOST
            and has_windows(node.inputs[wide])
        ):
            return wide
    return None


def memory_of_depthwise(node: Tensor, wide: int) -> list[Tensor]:
    """What needs memory of its own below the windows of a depthwise product."""
    inner = [c for c in letters(node)[2] if _sizes(node)[c] != 1]
    return conditional_views(node.inputs[wide], letters(node)[wide].index(inner[-1]))


def _sizes(node: Tensor) -> dict[str, Size]:
    a, b, _ = letters(node)
    return dict(zip(a, node.inputs[0].shape, strict=True)) | dict(
        zip(b, node.inputs[1].shape, strict=True)
    )


@dataclass(slots=True)
class _Product:
    """One depthwise product while its kernel is written.

    inner: the letters of the result whose size is not 1; summed: those of the window.
    """

    node: Tensor
    region: Region
    builder: KernelBuilder
    sizes: dict[str, Size]
    inner: list[str]
    summed: list[str]
    dtype: DType

    def values(self, at: dict[str, Expr]) -> tuple[Expr, Expr]:
        """The elements of both operands at the indices of their letters."""
        found = []
        for operand, own in zip(self.node.inputs, letters(self.node)[:2], strict=True):
            index = tuple(ZERO if self.sizes[c] == 1 else at[c] for c in own)
            value = self.builder.elements.value(operand, index)
            found.append(value if self.dtype is bool_ else EXPR.cast(value, self.dtype))
        return found[0], found[1]

    def store(self, index: tuple[Expr, ...], value: Expr, body: list[Stmt]) -> None:
        """Store the region's outputs where the product's element is `value`."""
        node, builder, region = self.node, self.builder, self.region
        if self.dtype is not node.dtype:
            value = EXPR.cast(value, node.dtype)
        named = builder.let("r", value, body)
        builder.elements.define(node, index_in(node.shape, index), named)
        others = {id(n) for n in region.nodes} - {id(node)}
        evaluate_in_order(region, builder, region.domain, index, others)
        for output in region.outputs:
            builder.store(output, index_in(output.shape, index), body)


def lower_depthwise(region: Region, builder: KernelBuilder, node: Tensor) -> LoweredKernel:
    """The kernel of a region whose contraction is a depthwise product."""
    a, b, out = letters(node)
    sizes = _sizes(node)
    summed = [c for c in dict.fromkeys(a + b) if c not in out and sizes[c] != 1]
    inner = [c for c in out if sizes[c] != 1]
    plan = _Product(node, region, builder, sizes, inner, summed, node.dtype.compute)
    work = product(sizes.values()) * 2 + product(region.domain) * len(region.nodes)
    return builder.kernel(_blocks(plan), work)


def _blocks(plan: _Product) -> list[Stmt]:
    """for the outer letters and blocks of rows (parallel): the rows, together."""
    builder, inner = plan.builder, plan.inner
    row = inner[-2] if len(inner) > 1 else None
    rows = plan.sizes[row] if row else 1
    width, vectors = _vectors(plan)
    tall = _height(rows, _CHAINS // vectors) if row else 1
    counter = builder.variable("i")
    outer = inner[:-2]
    grid = (*(plan.sizes[c] for c in outer), (rows + (tall - 1)) // tall)
    position = unflatten(counter, grid) if len(grid) > 1 else (counter,)
    at: dict[str, Expr] = dict(zip(outer, position[:-1], strict=True))
    first = imul(position[-1], literal(tall, counter.dtype))

    def columns(places: list[Expr]) -> tuple[Stmt, ...]:
        each = [at | ({row: place} if row else {}) for place in places]
        return (_columns(plan, each, width, vectors),)

    together = [iadd(first, literal(u, counter.dtype)) for u in range(tall)]
    body = columns(together)
    if not isinstance(rows, int) or rows % tall:
        single, left = builder.variable("u"), isub(size(rows), first)
        fits = EXPR.op("ge", left, literal(tall, counter.dtype))
        body = (If(fits, body, (For(single, left, columns([iadd(first, single)])),)),)
    return [For(counter, size(product(grid)), body, "parallel")]


def _vectors(plan: _Product) -> tuple[int, int]:
    """Lanes of a vector of results, of which the last ones may not exist, and how many at once."""
    extent = plan.sizes[plan.inner[-1]]
    width = policy.lanes(plan.dtype, 1 << 30)
    if not isinstance(extent, int):
        return width, 1
    while width // 2 >= extent:
        width //= 2
    return width, 2 if extent >= 2 * width else 1


def _height(rows: Size, most: int) -> int:
    """Rows that are computed together: a divisor of a known number where there is a good one."""
    if not isinstance(rows, int):
        return most // 2
    fitting = max(h for h in range(1, most + 1) if rows % h == 0)
    return fitting if 2 * fitting > most else min(rows, most)


def _columns(plan: _Product, each: list[dict[str, Expr]], width: int, vectors: int) -> Stmt:
    """The vector loop over the columns of some rows of results."""
    builder, last = plan.builder, plan.inner[-1]
    column = builder.variable("j")
    window = {c: builder.variable("k") for c in plan.summed}
    body: list[Stmt] = []
    inside: list[Stmt] = []
    finished: list[tuple[dict[str, Expr], Var]] = []
    for place in each:
        here = place | {last: column}
        declared = Accumulators((builder.variable("acc", plan.dtype),), combine_for(plan.dtype))
        body.append(declared)
        values = plan.values(here | window)
        inside += [*builder.checks(), Accumulate(declared, values)]
        finished.append((here, declared.vars[0]))
    kind = "unroll" if product(plan.sizes[c] for c in plan.summed) <= _UNROLLED else "serial"
    for c in reversed(plan.summed):
        inside = [For(window[c], size(plan.sizes[c]), tuple(inside), kind)]
    body += inside
    for here, accumulator in finished:
        plan.store(tuple(here[c] for c in plan.inner), accumulator, body)
    loop_kind = "vector" if width > 1 else "serial"
    return For(column, size(plan.sizes[last]), tuple(body), loop_kind, width, vectors)
