"""Lowering of map and row regions (floor 5) to kernels, and what reductions of columns share.

Each function here turns one kind of region into one kernel (two where a whole tensor is reduced to
one element); the order of accumulation follows `schedule.policy_cpu`. Values come from `elements`,
by index substitution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphc.base.dims import Shape, Size, product
from graphc.base.dtypes import DType
from graphc.ir.node import Tensor
from graphc.loops.build import ZERO, iadd, imin, imul, isub, literal
from graphc.loops.nodes import (
    Accumulate,
    Alloc,
    Buffer,
    Expr,
    For,
    Stmt,
    Store,
    load,
    size,
)
from graphc.lower.accumulate import Accumulation, Innermost, innermost_axes
from graphc.lower.edges import effective
from graphc.lower.elements import Index
from graphc.lower.flat import flat_kernel
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel, Temporary, spread
from graphc.lower.regions import Region
from graphc.ops.families import Reduction
from graphc.schedule import policy_cpu as policy
from graphc.schedule.cuts import cut_at_borders


def lower_region(region: Region, builder: KernelBuilder) -> list[LoweredKernel]:
    """The kernels of a map or row region."""
    if region.kind == "row" and region.rows == 0 and not _is_small(region):
        return _whole(region, builder)
    if region.kind == "map" and region.rows is None:
        return [flat_kernel(region, builder) or _map(region, builder)]
    return [_rows(region, builder)]


def _is_small(region: Region) -> bool:
    for node in region.nodes:
        count = product(
            node.shape if not isinstance(node.op.form, Reduction) else node.inputs[0].shape
        )
        if not isinstance(count, int) or count > policy.REDUCTION_BLOCK:
            return False
    return True


def index_in(shape: Shape, variables: tuple[Expr, ...]) -> Index:
    """The index of a tensor of `shape` whose effective dims are the leading ones of `variables`."""
    spread_ = iter(variables)
    return tuple(ZERO if isinstance(s, int) and s == 1 else next(spread_) for s in shape)


def evaluate_in_order(
    region: Region,
    builder: KernelBuilder,
    domain: Shape,
    variables: tuple[Expr, ...],
    wanted: set[int],
) -> None:
    """Compute the wanted nodes at the domain's index in topological order, so that recursion stays
    shallow.
    """
    for node in region.nodes:
        if id(node) in wanted and not isinstance(node.op.form, Reduction):
            own = effective(node.shape)
            if own == domain[: len(own)]:
                builder.elements.value(node, index_in(node.shape, variables))


def ancestors(
    region: Region, roots: list[Tensor], is_producer: Callable[[Tensor], bool]
) -> set[int]:
    """Ids of the region's nodes that `roots` are computed from, themselves included (reductions end
    the walk).
    """
    inside = {id(n) for n in region.nodes}
    found: set[int] = set()
    stack = list(roots)
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if id(node) in inside:
            found.add(id(node))
            if isinstance(node.op.form, Reduction) and all(node is not r for r in roots):
                continue
        elif is_producer(node):
            continue
        stack.extend(node.inputs)
    return found


# -- map ------------------------------------------------------------------------------------------


def _map(region: Region, builder: KernelBuilder) -> LoweredKernel:
    domain = region.domain
    wanted = {id(n) for n in region.nodes}
    body: list[Stmt] = []
    if not domain:
        evaluate_in_order(region, builder, domain, (), wanted)
        for node in region.outputs:
            builder.store(node, index_in(node.shape, ()), body)
        return builder.kernel(body, len(region.nodes))
    outer, merged = _merged_tail(domain)
    inner = product(merged)
    width = policy.lanes(widest(region), inner)
    if outer:
        row = builder.variable("i")
        column = builder.variable("j")
        variables = (*spread(row, outer), *spread(column, merged))
        extent: Expr = size(inner)
    else:
        row, column = builder.variable("i"), builder.variable("j")
        elements = builder.choice.block(policy.FLAT_BLOCK)
        start = imul(row, literal(elements, row.dtype))
        variables = (iadd(start, column),)
        extent = imin(literal(elements, row.dtype), isub(size(inner), start))
        outer = (blocks_of(inner, elements),)
    evaluate_in_order(region, builder, domain, variables, wanted)
    for node in region.outputs:
        builder.store(node, index_in(node.shape, variables), body)
    usual = policy.vectors_of_map((n.op.name for n in region.nodes), inner, width)
    vectors = builder.choice.vectors(usual)
    loop = For(column, extent, tuple(body), "vector" if width > 1 else "serial", width, vectors)
    rows = For(row, size(product(outer)), (loop,), "parallel")
    lowered = builder.kernel([rows], product(domain) * (len(region.nodes) + 1))
    return replace(lowered, kernel=cut_at_borders(lowered.kernel))


def _merged_tail(domain: Shape) -> tuple[Shape, Shape]:
    """The outer dims of a domain, and the inner ones that one vector loop runs over: the last one,
    and those before it where it fills no vector.
    """
    last = domain[-1]
    if isinstance(last, int) and last < policy.FEW_COLUMNS:
        for count in range(2, len(domain)):
            inner = product(domain[-count:])
            if not isinstance(inner, int) or inner > policy.MERGED_COLUMNS:
                break
            if policy.fills_vectors(inner):
                return domain[:-count], domain[-count:]
    return domain[:-1], domain[-1:]


def blocks_of(extent: Size, block: int) -> Size:
    """How many blocks of at most `block` elements there are."""
    return (extent + (block - 1)) // block


def widest(region: Region) -> DType:
    """The widest dtype that a region computes in: it decides how many lanes a vector has."""
    return max((n.dtype.compute for n in region.nodes), key=lambda d: d.itemsize)


# -- rows -----------------------------------------------------------------------------------------


def _rows(region: Region, builder: KernelBuilder) -> LoweredKernel:
    """Reductions over the inner dims of each row, then the results."""
    outer = region.domain[: region.rows or 0]
    row = builder.variable("i")
    body = row_statements(region, builder, spread(row, outer) if outer else ())
    if not outer:
        return builder.kernel(body, 0)
    loop = For(row, size(product(outer)), tuple(body), "parallel")
    return builder.kernel([loop], work_of_rows(region))


def work_of_rows(region: Region) -> Size:
    """Scalar operations of a row region, estimated."""
    reduced = [n.inputs[0].shape for n in region.nodes if isinstance(n.op.form, Reduction)]
    work = product(region.domain) * (len(region.nodes) + 1)
    for shape in reduced:
        work = work + product(shape) * 4
    return work


def row_statements(
    region: Region, builder: KernelBuilder, variables: tuple[Expr, ...]
) -> list[Stmt]:
    """The statements for one row of a row region, at the index of the row."""
    body: list[Stmt] = []
    staging = Staging(region, builder, variables)
    for node in region.nodes:
        if isinstance(node.op.form, Reduction):
            body += row_reduction(region, builder, node, variables, staging)
    body += _row_results(region, builder, variables, staging)
    return staging.allocations() + body


def _row_results(
    region: Region, builder: KernelBuilder, variables: tuple[Expr, ...], staging: Staging
) -> list[Stmt]:
    rows = len(variables)
    inner = region.domain[rows:]
    body: list[Stmt] = []
    row_level = [n for n in region.outputs if len(effective(n.shape)) <= rows]
    evaluate_in_order(
        region,
        builder,
        region.domain[:rows],
        variables,
        ancestors(region, row_level, builder.is_producer),
    )
    for node in row_level:
        builder.store(node, index_in(node.shape, variables), body)
    full = [n for n in region.outputs if len(effective(n.shape)) > rows]
    if not full:
        return body
    loops = [builder.variable("j") for _ in inner]
    everything = (*variables, *loops)
    staging.recall(everything)
    evaluate_in_order(
        region, builder, region.domain, everything, ancestors(region, full, builder.is_producer)
    )
    inside: list[Stmt] = []
    for node in full:
        builder.store(node, index_in(node.shape, everything), inside)
    width = policy.lanes(widest(region), inner[-1])
    last = For(
        loops[-1], size(inner[-1]), tuple(inside), "vector" if width > 1 else "serial", width
    )
    return body + builder.nest(list(zip(loops[:-1], inner[:-1], strict=True)), [last])


class Staging:
    """Row values that are dear to compute and wanted in more than one phase, kept in memory of the
    row.

    The bits are those of computing them again; only time changes.
    """

    def __init__(self, region: Region, builder: KernelBuilder, variables: tuple[Expr, ...]) -> None:
        self.builder = builder
        self.variables = variables
        self.buffers: dict[int, Buffer] = {}
        rows = len(variables)
        phases = [
            ancestors(region, list(n.inputs), builder.is_producer)
            for n in region.nodes
            if isinstance(n.op.form, Reduction)
        ]
        full = [n for n in region.outputs if len(effective(n.shape)) > rows]
        phases.append(ancestors(region, full, builder.is_producer))
        self.candidates = [
            n
            for n in region.nodes
            if n.op.name in policy.DEAR
            and len(effective(n.shape)) > rows
            and sum(id(n) in p for p in phases) > 1
        ]

    def keep(self, index: tuple[Expr, ...], wanted: set[int]) -> list[Stmt]:
        """Stores of the candidates that this phase computes first."""
        rows = len(self.variables)
        if index[:rows] != self.variables:
            return []
        stores: list[Stmt] = []
        for node in self.candidates:
            if (
                id(node) not in wanted
                or id(node) in self.buffers
                or len(effective(node.shape)) != len(index)
            ):
                continue
            name = self.builder.names.fresh("row")
            buffer = Buffer(name, effective(node.shape)[rows:], node.dtype, "local")
            self.buffers[id(node)] = buffer
            value = self.builder.elements.value(node, index_in(node.shape, index))
            stores.append(Store(buffer, index[rows:], value))
        return stores

    def recall(self, index: tuple[Expr, ...]) -> None:
        """Use what earlier phases kept, at this phase's index."""
        rows = len(self.variables)
        if index[:rows] != self.variables:
            return
        for node in self.candidates:
            buffer = self.buffers.get(id(node))
            if buffer is not None and len(effective(node.shape)) == len(index):
                self.builder.elements.define(
                    node, index_in(node.shape, index), load(buffer, index[rows:])
                )

    def allocations(self) -> list[Stmt]:
        """The declarations of the row memory."""
        return [Alloc(b) for b in self.buffers.values()]


def operand_index(node: Tensor, kept: tuple[Expr, ...], reduced: dict[int, Expr]) -> Index:
    """The operand's index for a result's effective index `kept` and the reduced axes' variables."""
    axes = set(node.attr("axes"))
    remaining = iter(kept)
    index: list[Expr] = []
    for d, s in enumerate(node.inputs[0].shape):
        if isinstance(s, int) and s == 1:
            index.append(ZERO)
        else:
            index.append(reduced[d] if d in axes else next(remaining))
    return tuple(index)


def _position(node: Tensor, reduced: dict[int, Expr]) -> Expr:
    """Row-major position within the reduced axes."""
    shape = node.inputs[0].shape
    position: Expr = ZERO
    for a in node.attr("axes"):
        position = iadd(imul(position, size(shape[a])), reduced.get(a, ZERO))
    return position


def accumulation(
    region: Region,
    builder: KernelBuilder,
    acc: Accumulation,
    kept: tuple[Expr, ...],
    reduced: dict[int, Expr],
    staging: Staging | None = None,
) -> list[Stmt]:
    """The innermost statements: the operand's element at a result's index and the reduced axes'
    variables, computed and accumulated.
    """
    own, wanted = _own_index(acc, kept, reduced), set[int]()
    if staging is not None:
        wanted = ancestors(region, [acc.operand], builder.is_producer)
        staging.recall(own)
    value, position = operand_value(region, builder, acc, kept, reduced)
    inside: list[Stmt] = list(builder.checks())
    if staging is not None:
        inside += staging.keep(own, wanted)
    return [*inside, acc.accumulate(value, position)]


def _own_index(
    acc: Accumulation, kept: tuple[Expr, ...], reduced: dict[int, Expr]
) -> tuple[Expr, ...]:
    """The operand's index without dims of size 1."""
    index = operand_index(acc.node, kept, reduced)
    pairs = zip(acc.operand.shape, index, strict=True)
    return tuple(i for s, i in pairs if not (isinstance(s, int) and s == 1))


def operand_value(
    region: Region,
    builder: KernelBuilder,
    acc: Accumulation,
    kept: tuple[Expr, ...],
    reduced: dict[int, Expr],
) -> tuple[Expr, Expr]:
    """The operand's element at a result's index and the reduced axes' variables, and its row-major
    position within the reduced axes.
    """
    operand = acc.operand
    wanted = ancestors(region, [operand], builder.is_producer)
    own = _own_index(acc, kept, reduced)
    evaluate_in_order(region, builder, effective(operand.shape), own, wanted)
    value = builder.elements.value(operand, operand_index(acc.node, kept, reduced))
    return value, _position(acc.node, reduced)


def finished(
    builder: KernelBuilder, acc: Accumulation, variables: tuple[Expr, ...], body: list[Stmt]
) -> list[Stmt]:
    """The loops of a reduction, and after them its result's value."""
    named = builder.let("r", acc.result(acc.declared.vars), body)
    builder.elements.define(acc.node, index_in(acc.node.shape, variables), named)
    builder.watch(acc.node, named)
    return body + builder.checks()


def row_reduction(
    region: Region,
    builder: KernelBuilder,
    node: Tensor,
    variables: tuple[Expr, ...],
    staging: Staging,
) -> list[Stmt]:
    """One row's loops of a reduction, and its result's value."""
    acc = Accumulation(builder, node)
    kept, shape = variables[: len(effective(node.shape))], acc.operand.shape
    if not acc.axes:
        alone = accumulation(region, builder, acc, kept, {}, staging)
        return finished(builder, acc, variables, [acc.declared, *alone])
    together, whole = innermost_axes(acc)
    inner = Innermost(builder, acc, whole, ZERO, size(whole))
    outer = {a: builder.variable("k") for a in acc.axes[: -len(together)]}
    places = spread(inner.index, tuple(shape[a] for a in together))
    reduced: dict[int, Expr] = {**outer, **dict(zip(together, places, strict=True))}
    inside = accumulation(region, builder, acc, kept, reduced, staging)
    loops = builder.nest([(v, shape[a]) for a, v in outer.items()], inner.loops(inside))
    return finished(builder, acc, variables, [acc.declared, *loops])


# -- a whole tensor to one element ----------------------------------------------------------------


def _whole(region: Region, builder: KernelBuilder) -> list[LoweredKernel]:
    """Partial results per block or per leading index, then their combination: the split depends on
    sizes only.
    """
    (node,) = [n for n in region.nodes if isinstance(n.op.form, Reduction)]
    second = KernelBuilder(
        builder.name + "_finish", builder.sites, builder.members, builder.is_producer
    )
    acc = Accumulation(builder, node)
    shape = acc.operand.shape
    together, whole = innermost_axes(acc)
    outer = acc.axes[: -len(together)]
    block = builder.variable("i")
    count = shape[outer[0]] if outer else blocks_of(whole, policy.REDUCTION_BLOCK)
    start: Expr = ZERO
    extent: Expr = size(whole)
    if not outer:
        start = imul(block, literal(policy.REDUCTION_BLOCK, block.dtype))
        extent = imin(literal(policy.REDUCTION_BLOCK, block.dtype), isub(extent, start))
    inner = Innermost(builder, acc, whole, start, extent)
    middle = {a: builder.variable("k") for a in outer[1:]}
    places = spread(inner.index, tuple(shape[a] for a in together))
    reduced: dict[int, Expr] = {**middle, **dict(zip(together, places, strict=True))}
    if outer:
        reduced[outer[0]] = block
    inside = accumulation(region, builder, acc, (), reduced)
    loops = builder.nest([(v, shape[a]) for a, v in middle.items()], inner.loops(inside))
    body: list[Stmt] = [acc.declared, *loops]
    partials = [Temporary((count,), d) for d in acc.dtypes]
    for partial, value_ in zip(partials, acc.declared.vars, strict=True):
        body.append(Store(builder.output(partial, partial.shape, "partial"), (block,), value_))
    first = builder.kernel(
        [For(block, size(count), tuple(body), "parallel")],
        product(shape) * (len(region.nodes) + 1),
    )
    return [first, _combine_partials(region, node, second, partials, count)]


def _combine_partials(
    region: Region, node: Tensor, builder: KernelBuilder, partials: list[Temporary], count: Size
) -> LoweredKernel:
    acc = Accumulation(builder, node)
    k = builder.variable("k")
    values = tuple(load(builder.buffer(p, p.shape, "partial"), (k,)) for p in partials)
    width = policy.lanes(max(acc.dtypes, key=lambda d: d.itemsize), count)
    loop = For(
        k,
        size(count),
        (Accumulate(acc.declared, values),),
        "vector" if width > 1 else "serial",
        width,
        policy.interleave(count, width),
    )
    body: list[Stmt] = [acc.declared, loop]
    named = builder.let("r", acc.result(acc.declared.vars), body)
    builder.elements.define(node, index_in(node.shape, ()), named)
    evaluate_in_order(
        region, builder, (), (), ancestors(region, region.outputs, builder.is_producer)
    )
    for output in region.outputs:
        builder.store(output, index_in(output.shape, ()), body)
    return builder.kernel(body, 0)
