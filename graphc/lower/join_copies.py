"""Copies into joined tensors (floor 5): what could not be written in place (see `joins`)."""

from __future__ import annotations

from collections.abc import Callable

from graphc.base.dims import product
from graphc.base.dtypes import int64
from graphc.ir.node import Tensor
from graphc.loops.build import iadd, ifloordiv, imin, imod, imul, isub, literal
from graphc.loops.nodes import Expr, For, Stmt, Store, Var, load, size
from graphc.lower.edges import effective
from graphc.lower.elements import storage_root
from graphc.lower.joins import Joins, known
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel, Shifted, label_of, spread
from graphc.lower.to_loops import index_in
from graphc.schedule import policy_cpu as policy

_BLOCK = literal(policy.FLAT_BLOCK, int64)


def lower_joined(
    node: Tensor, joins: Joins, builder: Callable[[], KernelBuilder]
) -> list[LoweredKernel]:
    """A kernel for each operand that is not written in place; `builder()`: a new one."""
    axis, kernels = node.attr("axis"), []
    inner = known(product(node.shape[axis + 1 :]))
    at = 0
    for operand in node.inputs:
        extent = known(operand.shape[axis])
        if extent and not joins.holds(node, at * inner, operand):
            kernels.append(_copy(node, operand, at, builder()))
        at += extent
    return kernels


def _copy(node: Tensor, operand: Tensor, at: int, builder: KernelBuilder) -> LoweredKernel:
    """The kernel that writes an operand, whose first index along the axis is `at`."""
    root, counter = storage_root(operand), builder.variable("i")
    part = Shifted(operand, node, at * known(product(node.shape[node.attr("axis") + 1 :])))
    in_memory = builder.is_producer(root) and root.size != 1
    loop, turns = (_rows if in_memory else _elements)(node, operand, part, counter, builder)
    return builder.kernel(
        [For(counter, size(turns), (loop,), "parallel")], product(operand.shape) * 2
    )


def _rows(
    node: Tensor, operand: Tensor, part: Shifted, counter: Var, builder: KernelBuilder
) -> tuple[For, int]:
    """The copy of an operand in memory: rows there and rows of the whole, whatever the dims; the
    loop over a block of a row, and how many blocks there are.
    """
    root, axis = storage_root(operand), node.attr("axis")
    rows, length = known(product(node.shape[:axis])), known(product(operand.shape[axis:]))
    blocks = -(-length // policy.FLAT_BLOCK)
    inside = builder.variable("j")
    first = imul(imod(counter, literal(blocks, int64)), _BLOCK)
    place = (ifloordiv(counter, literal(blocks, int64)), iadd(first, inside))
    value = load(builder.buffer(root, (rows, length), label_of(root)), place)
    whole = builder.output(part, (rows, product(node.shape[axis:])), label_of(node))
    extent = imin(_BLOCK, isub(size(length), first))
    longest = min(length, policy.FLAT_BLOCK)
    return _loop(inside, extent, longest, [Store(whole, place, value)], node), rows * blocks


def _elements(
    node: Tensor, operand: Tensor, part: Shifted, counter: Var, builder: KernelBuilder
) -> tuple[For, int]:
    """The copy of an operand that is a view: the loop over its last dim, and how many there are."""
    dims = effective(operand.shape) or (1,)
    inside = builder.variable("j")
    outer = spread(counter, dims[:-1]) if dims[:-1] else ()
    place = index_in(operand.shape, (*outer, inside))
    value = builder.elements.value(operand, place)
    body = builder.checks()
    body.append(Store(builder.output(part, node.shape, label_of(node)), place, value))
    last = known(dims[-1])
    return _loop(inside, size(last), last, body, node), known(product(dims[:-1]))


def _loop(inside: Var, extent: Expr, longest: int, body: list[Stmt], node: Tensor) -> For:
    width = policy.lanes(node.dtype, longest)
    return For(inside, extent, tuple(body), "vector" if width > 1 else "serial", width)
