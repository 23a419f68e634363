"""Flat kernels (floor 5): regions in which every operand is read at the result's own element, as
one loop over all elements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphc.base.dims import Size, product
from graphc.ir.node import Tensor
from graphc.loops.build import EXPR, ZERO, iadd, imin, imul, isub, literal
from graphc.loops.nodes import Expr, For, Stmt, Store, load, size
from graphc.lower.edges import effective
from graphc.lower.elements import RISKY, storage_root
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel, label_of
from graphc.lower.regions import Region
from graphc.ops.families import Alias, Constant, Elementwise, Reshape
from graphc.schedule import policy_cpu as policy


def flat_kernel(region: Region, builder: KernelBuilder) -> LoweredKernel | None:
    """One loop over the elements in blocks, or None where an operand is broadcast or viewed
    otherwise.
    """
    total = product(region.domain)
    if not region.domain or not _is_flat(region, builder.is_producer):
        return None
    block, element = builder.variable("i"), builder.variable("j")
    usual_block = policy.flat_block(n.op.name for n in region.nodes)
    elements = builder.choice.block(usual_block)
    start = imul(block, literal(elements, block.dtype))
    at = iadd(start, element)
    values: dict[int, Expr] = {}
    for node in region.nodes:
        operands = [_operand(o, values, at, total, builder) for o in node.inputs]
        values[id(node)] = node.op.form.scalar(EXPR, *operands, **node.attributes)
        if node.op.name in RISKY or any(node is n for n in region.outputs):
            builder.watch(node, values[id(node)])
    body: list[Stmt] = builder.checks()
    body += [
        Store(builder.output(n, (total,), label_of(n)), (at,), values[id(n)])
        for n in region.outputs
    ]
    width = policy.lanes(
        max((n.dtype.compute for n in region.nodes), key=lambda d: d.itemsize), total
    )
    extent = imin(literal(elements, block.dtype), isub(size(total), start))
    usual = policy.vectors_of_map((n.op.name for n in region.nodes), total, width)
    vectors = builder.choice.vectors(usual)
    loop = For(element, extent, tuple(body), "vector" if width > 1 else "serial", width, vectors)
    count = (total + (elements - 1)) // elements
    outer = For(block, size(count), (loop,), "parallel")
    lowered = builder.kernel([outer], total * (len(region.nodes) + 1))
    return replace(lowered, overwrites=_overwritable(lowered, total))


def _overwritable(lowered: LoweredKernel, total: Size) -> tuple[int, ...]:
    """Operands whose memory the result may take.

    With several results one could overwrite what the next still reads.
    """
    if len(lowered.kernel.outputs) != 1:
        return ()
    (result,) = lowered.kernel.outputs
    return tuple(
        k
        for k, param in enumerate(lowered.kernel.params)
        if param is not result
        and param.shape == (total,)
        and param.dtype.itemsize == result.dtype.itemsize
    )


def _is_flat(region: Region, is_producer: Callable[[Tensor], bool]) -> bool:
    inside = {id(n) for n in region.nodes}
    for node in region.nodes:
        if not isinstance(node.op.form, Elementwise):
            return False
        own = effective(node.shape)
        for operand in node.inputs:
            base = _through_reshapes(operand, inside)
            if product(operand.shape) == 1:
                if id(base) in inside or not is_producer(base):
                    return False
                continue
            if effective(operand.shape) != own or not (id(base) in inside or is_producer(base)):
                return False
    return True


def _through_reshapes(node: Tensor, inside: set[int]) -> Tensor:
    while id(node) not in inside and isinstance(node.op.form, Reshape | Alias):
        node = node.inputs[0]
    return node


def _operand(
    operand: Tensor, values: dict[int, Expr], at: Expr, total: Size, builder: KernelBuilder
) -> Expr:
    base = operand
    while id(base) not in values and isinstance(base.op.form, Reshape | Alias):
        base = base.inputs[0]
    if id(base) in values:
        return values[id(base)]
    if isinstance(base.op.form, Constant) and base.attr("value").stored.size == 1:
        return literal(base.attr("value").values.reshape(-1)[0].item(), base.dtype)
    root = storage_root(operand)
    if product(operand.shape) == 1:
        buffer = builder.buffer(root, (1,), label_of(operand))
        return load(buffer, (ZERO,))
    return load(builder.buffer(root, (total,), label_of(operand)), (at,))
