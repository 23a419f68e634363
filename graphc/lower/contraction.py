"""Contractions (floor 5): einsum of two operands, with elementwise work on its result, to one
kernel.

Each result is a chain of multiply-adds in index order over the summed letters, long ones in the
panels of `schedule.panels`, so its bits do not depend on tiles. Vectors run along the last letter
of the result; `prepare_contraction` makes that letter contiguous in the operands that have it, and
gives memory to operands whose elements would be expensive to compute again and again. A contraction
without such a letter (a dot product) accumulates in vectors along its last summed letter, as a
reduction does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphc.base.dims import Size, bounds, product
from graphc.base.dtypes import DType, bool_
from graphc.base.errors import CompileError
from graphc.base.target import Target
from graphc.ir.node import Node, Tensor, make
from graphc.ir.opdef import REGISTRY
from graphc.loops.build import EXPR, ONE, ZERO, iadd, imin, imul, isub, literal
from graphc.loops.index_math import unflatten
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Combine,
    Expr,
    For,
    If,
    Stmt,
    Var,
    size,
    var,
)
from graphc.lower.chains import combine_for, dot_of, total_of
from graphc.lower.edges import effective, is_view
from graphc.lower.elements import Index
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel
from graphc.lower.regions import Region
from graphc.lower.to_loops import evaluate_in_order, index_in
from graphc.ops.families import Contraction, Map
from graphc.ops.words import VIEW_WORDS
from graphc.schedule import policy_cpu as policy
from graphc.schedule.panels import has_panels, panel_blocks, panel_counts

# Views whose element is another element at an affine index, without a condition: cheap inside the
# inner loop.
_PLAIN_VIEWS = frozenset({"permute_dims", "slice", "broadcast_to", "windows", "flip"})


# How often each element of a turned operand must be read for a copy of it to cost next to nothing.
_READ_OFTEN = 256

# Elements along a letter that fill a vector.
_FILLED = 16


def letters(node: Tensor) -> tuple[str, str, str]:
    """The letters of both operands and of the result."""
    inputs, out = node.attr("spec").split("->")
    a, b = inputs.split(",")
    return a, b, out


def letter_sizes(node: Tensor) -> dict[str, Size]:
    """The size of each letter."""
    a, b, _ = letters(node)
    return dict(zip(a, node.inputs[0].shape, strict=True)) | dict(
        zip(b, node.inputs[1].shape, strict=True)
    )


def vector_letter(node: Tensor) -> str | None:
    """The last letter of the result whose size is not 1."""
    sizes = letter_sizes(node)
    return next((c for c in reversed(letters(node)[2]) if sizes[c] != 1), None)


def summed_letters(node: Tensor) -> list[str]:
    """The summed letters whose size is not 1, in the order of the chain of multiply-adds."""
    a, b, out = letters(node)
    sizes = letter_sizes(node)
    return [c for c in dict.fromkeys(a + b) if c not in out and sizes[c] != 1]


# -- before regions are made ----------------------------------------------------------------------


def prepare_contraction(node: Tensor, inputs: tuple[Tensor, ...], forced: list[Tensor]) -> Node:
    """The contraction with contiguous operands; operands that need memory for it are added to
    `forced`.
    """
    many = _letter_of_many(node, inputs)
    if many is not None:
        out = letters(node)[2]
        other = out.replace(many, "") + many
        turned = make(node.op, inputs, (node.attr("spec").replace(f">{out}", f">{other}"),))
        assert isinstance(turned, Tensor)
        found = prepare_contraction(turned, inputs, forced)
        assert isinstance(found, Tensor)
        return REGISTRY["permute_dims"](found, axes=tuple(other.index(c) for c in out))
    specs = list(letters(node)[:2])
    operands = list(inputs)
    last = vector_letter(node)
    for k in (0, 1):
        if last is not None and last in specs[k] and not is_dot(node):
            axis = specs[k].index(last)
            if steps_through_memory(operands[k], axis):
                continue
            moved = _below_windows(operands[k], axis, forced)
            if moved is not None:
                operands[k] = moved
            else:
                order = tuple(d for d in range(len(specs[k])) if d != axis) + (axis,)
                operands[k] = REGISTRY["permute_dims"](operands[k], axes=order)
                specs[k] = "".join(specs[k][d] for d in order)
                forced.append(operands[k])
    for k in (0, 1):
        if last is not None and last not in specs[k] and _is_read_often(node, specs[k]):
            behind = _summed_behind(node, specs[k])
            if behind is not None:
                operands[k] = REGISTRY["permute_dims"](operands[k], axes=behind)
                specs[k] = "".join(specs[k][d] for d in behind)
            if _is_turned(operands[k]):
                forced.append(operands[k])
        forced.extend(_costly_views(operands[k]))
    spec = f"{specs[0]},{specs[1]}->{letters(node)[2]}"
    return make(node.op, tuple(operands), (spec,))


def _is_read_often(node: Tensor, spec: str) -> bool:
    """Whether each element of the operand with these letters counts in many results."""
    others = product(s for c, s in letter_sizes(node).items() if c not in spec)
    return (bounds(others)[0] or 0) >= _READ_OFTEN


def _summed_behind(node: Tensor, spec: str) -> tuple[int, ...] | None:
    """The order of an operand's axes with the summed ones last, where others stand between them and
    only short runs of memory follow, as in the kernel of a convolution's gradient; else None.
    """
    sizes, summed = letter_sizes(node), summed_letters(node)
    long = [c for c in spec if sizes[c] != 1]
    kept = [k for k, c in enumerate(long) if c not in summed]
    if not kept or kept[-1] == len(kept) - 1 or not any(c in summed for c in long[: kept[-1]]):
        return None
    run = product(sizes[c] for c in long[kept[-1] + 1 :])
    if not isinstance(run, int) or not 1 < run < 2 * _FILLED:
        return None
    return tuple(sorted(range(len(spec)), key=lambda d: spec[d] in summed))


def _letter_of_many(node: Tensor, inputs: tuple[Tensor, ...]) -> str | None:
    """A letter of the result that should be its last one: the last one counts the elements of a
    window, which are few, and the windows are of many channels. None where there is none.
    """
    last, sizes, out = vector_letter(node), letter_sizes(node), letters(node)[2]
    specs = letters(node)[:2]
    holders = [k for k in (0, 1) if last is not None and last in specs[k]]
    if len(holders) != 1 or inputs[holders[0]].op.name != "windows" or last is None:
        return None
    windows, spec = inputs[holders[0]], specs[holders[0]]
    rank, few = windows.inputs[0].ndim, sizes[last]
    if spec.index(last) < rank or not isinstance(few, int):
        return None
    for axis, c in enumerate(spec[:rank]):
        count = sizes[c]
        alone = c in out and c not in specs[1 - holders[0]] and axis not in windows.attr("axes")
        if alone and isinstance(count, int) and count >= max(_FILLED, few):
            return c
    return None


def reads_apart(node: Tensor) -> bool:
    """Whether an operand has every second to fourth element of memory along the last letter, as
    strided convolutions do: vectors want a copy of it, a template that reads single elements none.
    False where the copy is smaller than its source: it costs less than to walk past what is left
    out as often as there are panels of results.
    """
    last = vector_letter(node)
    held = [k for k in (0, 1) if last is not None and last in letters(node)[k]]
    if last is None or len(held) != 1 or is_dot(node):
        return False
    operand, axis = node.inputs[held[0]], letters(node)[held[0]].index(last)
    if steps_through_memory(operand, axis) or not steps_through_memory(operand, axis, 4):
        return False
    source = operand
    while is_view(source) and source.inputs:
        source = source.inputs[0]
    copy, whole = product(operand.shape), product(source.shape)
    return not (isinstance(copy, int) and isinstance(whole, int) and copy < whole)


def views_in_memory(node: Tensor) -> list[Tensor]:
    """The views below a contraction's operands that get memory whoever computes it."""
    return [view for operand in node.inputs for view in _costly_views(operand)]


def views_below_padding(node: Tensor) -> list[Tensor]:
    """The views below windows over a padded image that get memory; the padding gets none."""
    image = node.inputs[0]
    while image.op.name in ("windows", "pad"):
        image = image.inputs[0]
    return _costly_views(image)


def steps_through_memory(operand: Tensor, axis: int, most: int = 1) -> bool:
    """Whether neighbours along `axis` are neighbours in memory, or up to `most` elements apart, as
    far as views between tell.

    Views that `_costly_views` gives memory end the walk.
    """
    node, at = operand, axis
    apart = 1
    while is_view(node) and node.inputs and node.op.name in _PLAIN_VIEWS:
        if node.op.name == "permute_dims":
            at = node.attr("axes")[at]
        elif node.op.name == "windows":
            step, at = _window_step(node, at)
            apart *= step
        elif node.op.name == "slice":
            apart *= node.attr("steps")[at]
        else:
            return False
        if not 1 <= apart <= most:
            return False
        node = node.inputs[0]
    return all(s == 1 for s in node.shape[at + 1 :])


def _window_step(node: Tensor, axis: int) -> tuple[int, int]:
    """(step, axis) of what a step along an axis of windows is in their operand."""
    axes, rank = node.attr("axes"), len(node.inputs[0].shape)
    if axis >= rank:
        return int(node.attr("dilation")[axis - rank]), int(axes[axis - rank])
    return (int(node.attr("stride")[axes.index(axis)]) if axis in axes else 1), axis


def _is_turned(operand: Tensor) -> bool:
    """Whether an operand is the elements of another one in an order that jumps through memory."""
    long = [d for d, s in enumerate(operand.shape) if s != 1]
    if not long or operand.op.name not in ("permute_dims", "flip"):
        return False
    source = operand
    while source.op.name in ("permute_dims", "flip"):
        source = source.inputs[0]
    return not is_view(source) and not steps_through_memory(operand, long[-1])


def _below_windows(operand: Tensor, axis: int, forced: list[Tensor]) -> Tensor | None:
    """Windows whose own operand has `axis` last and in memory, with the dims of `operand`; None
    where there are none, or where they slide along the axis.

    Memory for windows themselves would be many times as large.
    """
    if operand.op.name != "windows":
        return None
    (source,), axes, rank = operand.inputs, operand.attr("axes"), operand.inputs[0].ndim
    if axis >= rank or axis in axes:
        return None
    order = (*(d for d in range(rank) if d != axis), axis)
    turned = REGISTRY["permute_dims"](source, axes=order)
    forced.append(turned)
    attrs = {k: operand.attr(k) for k in ("size", "stride", "dilation")}
    slid = REGISTRY["windows"](turned, axes=tuple(order.index(a) for a in axes), **attrs)
    back = (*(order.index(d) for d in range(rank)), *range(rank, operand.ndim))
    found: Tensor = REGISTRY["permute_dims"](slid, axes=back)
    return found


def _costly_views(operand: Tensor) -> list[Tensor]:
    """The views of an operand's chain that must be memory: those with conditions, gathers of
    several sources.
    """
    node = operand
    while is_view(node) and node.inputs:
        if isinstance(node.op.form, Map) and node.op.name not in (*_PLAIN_VIEWS, VIEW_WORDS.name):
            return [node]
        node = node.inputs[0]
    return [] if node.inputs or not is_view(node) else [node]


def is_dot(node: Tensor) -> bool:
    """Whether the result has no letter to run vectors along while a summed letter is last in both
    operands.
    """
    a, b, out = letters(node)
    sizes = letter_sizes(node)
    last = vector_letter(node)
    if last is None:
        return True
    summed = summed_letters(node)
    # Letters of size 1 are nowhere: a matrix of one column is a vector.
    a, b = ("".join(c for c in spec if sizes[c] != 1) for spec in (a, b))
    if not summed or not a or not b or a[-1] != b[-1] or a[-1] not in summed:
        return False
    # A matrix-vector product reads its matrix once: transposing it first would cost more than the
    # product.
    others = [c for c in out if c != last and sizes[c] != 1 and (c in a) != (c in b)]
    owner_only = (last in a) != (last in b)
    return owner_only and not [c for c in others if (c in a) != (last in a)]


# -- the kernel -----------------------------------------------------------------------------------


@dataclass(slots=True)
class ContractionPlan:
    """One contraction while its kernel is written.

    sizes: of the letters; out: the letters of the result; summed: those that are summed, in the
    order of the chain, without those of size 1; dtype: of the accumulators.
    """

    node: Tensor
    region: Region
    builder: KernelBuilder
    sizes: dict[str, Size]
    out: str
    summed: list[str]
    dtype: DType

    @classmethod
    def of(
        cls, region: Region, builder: KernelBuilder, node: Tensor | None = None
    ) -> ContractionPlan:
        """The plan of a contraction of a region; without `node` it is its only one."""
        if node is None:
            (node,) = [n for n in region.nodes if isinstance(n.op.form, Contraction)]
        sizes = letter_sizes(node)
        return cls(
            node, region, builder, sizes, letters(node)[2], summed_letters(node), node.dtype.compute
        )

    @property
    def flops(self) -> Size:
        """Scalar operations of the contraction."""
        return product(self.sizes.values()) * 2

    @property
    def work(self) -> Size:
        """Scalar operations of the kernel."""
        return self.flops + product(self.region.domain) * len(self.region.nodes)

    def operand(self, k: int, at: dict[str, Expr]) -> Expr:
        """The element of operand `k` at the indices of its letters (size 1: none needed)."""
        own = letters(self.node)[k]
        operand = self.node.inputs[k]
        index: Index = tuple(ZERO if self.sizes[c] == 1 else at[c] for c in own)
        return self.builder.elements.value(operand, index)

    @property
    def dot(self) -> str:
        """The scalar method for words of narrow integers, "" for plain numbers."""
        return dot_of(self.node)

    @property
    def combine(self) -> Combine:
        """How a chain takes in the elements of operands 0 and 1."""
        return combine_for(self.dtype, self.dot)

    def product_values(self, at: dict[str, Expr]) -> tuple[Expr, Expr]:
        """The elements of both operands in the dtype that is accumulated."""
        values = [self.operand(k, at) for k in (0, 1)]
        if self.dtype is not bool_:
            values = [EXPR.cast(v, self.dtype) for v in values]
        return values[0], values[1]


def lower_contraction(region: Region, builder: KernelBuilder, target: Target) -> LoweredKernel:
    """The kernel of a contraction region."""
    plan = ContractionPlan.of(region, builder)
    if is_dot(plan.node):
        return builder.kernel(_dot_loops(plan), plan.work)
    return builder.kernel(_tiled_loops(plan, target), plan.work)


def store_results(
    plan: ContractionPlan, index: tuple[Expr, ...], value: Expr, body: list[Stmt]
) -> None:
    """Store the region's outputs at an effective index, the contraction's element being `value`."""
    node, builder, region = plan.node, plan.builder, plan.region
    if plan.dtype is not node.dtype:
        value = EXPR.cast(value, node.dtype)
    named = builder.let("r", value, body)
    builder.elements.define(node, index_in(node.shape, index), named)
    evaluate_in_order(
        region, builder, region.domain, index, {id(n) for n in region.nodes} - {id(node)}
    )
    for output in region.outputs:
        builder.store(output, index_in(output.shape, index), body)


def _dot_loops(plan: ContractionPlan) -> list[Stmt]:
    builder, node = plan.builder, plan.node
    outer = effective(node.shape)
    row = builder.variable("i")
    index = unflatten(row, outer) if outer else ()
    at: dict[str, Expr] = dict(zip([c for c in plan.out if plan.sizes[c] != 1], index, strict=True))
    loops = {c: builder.variable(c if c.isidentifier() else "k") for c in plan.summed}
    at |= loops
    x, y = plan.product_values(at)
    if plan.dot:
        product_value = EXPR.dot(plan.dot, x, y, literal(0, plan.dtype))
    else:
        product_value = EXPR.bit_and(x, y) if plan.dtype is bool_ else EXPR.mul(x, y)
    left, right = var("left", plan.dtype), var("right", plan.dtype)
    step = EXPR.bit_or(left, right) if plan.dtype is bool_ else EXPR.add(left, right)
    combine = Combine((left,), (right,), (step,), (literal(0, plan.dtype),))
    declared = Accumulators((builder.variable("acc", plan.dtype),), combine)
    inside: list[Stmt] = [*builder.checks(), Accumulate(declared, (product_value,))]
    body: list[Stmt] = [declared]
    if plan.summed:
        last = plan.summed[-1]
        width = policy.lanes(plan.dtype, plan.sizes[last])
        loop = For(
            loops[last],
            size(plan.sizes[last]),
            tuple(inside),
            "vector" if width > 1 else "serial",
            width,
            policy.interleave(plan.sizes[last], width),
        )
        body += builder.nest([(loops[c], plan.sizes[c]) for c in plan.summed[:-1]], [loop])
    else:
        body += inside
    store_results(plan, index, declared.vars[0], body)
    if not outer:
        return body
    return [For(row, size(product(outer)), tuple(body), "parallel")]


def row_letter(plan: ContractionPlan, last: str) -> str | None:
    """The letter to tile besides the vector letter: in the result, and not in an operand that has
    the vector letter.
    """
    a, b, _ = letters(plan.node)
    holders = [s for s in (a, b) if last in s]
    for c in reversed(plan.out):
        if c != last and plan.sizes[c] != 1 and not all(c in s for s in holders):
            return c
    return None


def _tiled_loops(plan: ContractionPlan, target: Target) -> list[Stmt]:
    """for the outer letters and blocks of rows (parallel), for vectors of columns: a register tile,
    summed serially.
    """
    builder = plan.builder
    last = vector_letter(plan.node)
    if last is None:
        raise CompileError("a tiled contraction needs a result of more than one element")
    row = row_letter(plan, last)
    columns = plan.sizes[last]
    rows = plan.sizes[row] if row else 1
    summed = product(plan.sizes[c] for c in plan.summed)
    tile = builder.choice.tile(policy.contraction_tile(target, plan.dtype, rows, columns, summed))
    tall = tile.rows if row else 1
    outer = [c for c in plan.out if plan.sizes[c] != 1 and c not in (last, row)]
    blocks: Size = (plan.sizes[row] + (tall - 1)) // tall if row else 1
    counter = builder.variable("i")
    grid = (*(plan.sizes[c] for c in outer), blocks)
    position = unflatten(counter, grid) if len(grid) > 1 else (counter,)
    at: dict[str, Expr] = dict(zip(outer, position[:-1], strict=True))
    first_row = imul(position[-1], literal(tall, counter.dtype))
    if row is None or tall == 1:
        body = columns_of_rows(plan, tile, last, row, at, [first_row] if row else [])
    else:
        full = columns_of_rows(
            plan,
            tile,
            last,
            row,
            at,
            [iadd(first_row, literal(u, counter.dtype)) for u in range(tall)],
        )
        if isinstance(rows, int) and rows % tall == 0:
            body = full
        else:
            single = builder.variable("u")
            rest = columns_of_rows(plan, tile, last, row, at, [iadd(first_row, single)])
            remaining = EXPR.op("sub", size(rows), first_row)
            fits = EXPR.op("ge", remaining, literal(tall, counter.dtype))
            body = [If(fits, tuple(full), (For(single, remaining, tuple(rest)),))]
    return [For(counter, size(product(grid)), tuple(body), "parallel")]


# What is done with an element: number of its row, its column, its value.
Finish = Callable[[int, Expr, Expr], Stmt]


def columns_of_rows(
    plan: ContractionPlan,
    tile: policy.Tile,
    last: str,
    row: str | None,
    at: dict[str, Expr],
    rows: list[Expr],
    finish: Finish | None = None,
) -> list[Stmt]:
    """The loop over columns for the given rows (none: the result has no row letter). finish: what
    takes the elements, of rows by number; without it they are the region's, which are stored.
    """
    builder = plan.builder
    column = builder.variable("j")
    around, within, summed = summed_loops(plan)
    combine = plan.combine
    body: list[Stmt] = []
    chains: list[Stmt] = []
    inside: list[Stmt] = []
    added: list[Stmt] = []
    finished: list[tuple[dict[str, Expr], Var]] = []
    for r in rows or [ZERO]:
        here = at | {last: column} | ({row: r} if row else {})
        chain = total = Accumulators((builder.variable("acc", plan.dtype),), combine)
        if around is not None:
            total = Accumulators((builder.variable("total", plan.dtype),), total_of(plan.dtype))
            added.append(Accumulate(total, chain.vars))
            body.append(total)
        chains.append(chain)
        values = plan.product_values(here | summed)
        inside += [*builder.checks(), Accumulate(chain, values)]
        finished.append((here, total.vars[0]))
    count = product(plan.sizes[c] for c in plan.summed)
    down = "unroll" if policy.writes_out_summed(count, len(finished)) else "serial"
    panel = [*chains, *nested(within, inside, down), *added]
    body += panel if around is None else nested(around, panel)
    effective_letters = [c for c in plan.out if plan.sizes[c] != 1]
    for u, (here, accumulator) in enumerate(finished):
        if finish is not None:
            body.append(finish(u, column, accumulator))
        else:
            store_results(plan, tuple(here[c] for c in effective_letters), accumulator, body)
    kind = "vector" if tile.width > 1 else "serial"
    return [For(column, size(plan.sizes[last]), tuple(body), kind, tile.width, tile.vectors)]


Loops = list[tuple[Var, Expr]]  # variables and extents, from the outside in


def summed_loops(plan: ContractionPlan) -> tuple[Loops | None, Loops, dict[str, Expr]]:
    """The loops over panels (None: there is one panel), those within one, the summed letters."""
    builder, letters_ = plan.builder, plan.summed
    sizes = tuple(plan.sizes[c] for c in letters_)
    if not has_panels(plan.dtype, sizes):
        loops = {c: builder.variable("k") for c in letters_}
        return None, [(v, size(plan.sizes[c])) for c, v in loops.items()], dict(loops)
    around: Loops = []
    within: Loops = []
    at: dict[str, Expr] = {}
    blocks = panel_blocks(sizes)
    for c, block, count in zip(letters_, blocks, panel_counts(sizes, blocks), strict=True):
        start: Expr = ZERO
        if count is not ONE:
            panel = builder.variable("p")
            around.append((panel, count))
            start = imul(panel, block)
        if block is ONE:
            at[c] = start
        else:
            step = builder.variable("k")
            within.append((step, imin(block, isub(size(plan.sizes[c]), start))))
            at[c] = iadd(start, step)
    return around, within, at


def nested(loops: Loops, body: list[Stmt], kind: str = "serial") -> list[Stmt]:
    """A body inside of loops."""
    for variable, extent in reversed(loops):
        body = [For(variable, extent, tuple(body), kind)]
    return body
