"""Opaque ops (floor 5): the `LoopBuilder` with which an op writes its own loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.base.dims import Size, product
from graphc.base.dtypes import DType
from graphc.base.errors import CompileError
from graphc.ir.node import Tensor
from graphc.loops.build import ExprScalar, literal
from graphc.loops.build import combine as combine_of
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Buffer,
    Combine,
    Const,
    Expr,
    For,
    If,
    Let,
    Stmt,
    Store,
    load,
    size,
)
from graphc.lower.chains import combine_for
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel, label_of, spread
from graphc.lower.regions import Region
from graphc.ops.families import LoopBuilder, Opaque
from graphc.schedule import policy_cpu as policy


class _Builder(ExprScalar, LoopBuilder[Expr]):
    """Collects statements; `block` is the one being written."""

    def __init__(self, builder: KernelBuilder, node: Tensor) -> None:
        self._builder = builder
        self._node = node
        self._result = builder.output(node, node.shape, label_of(node))
        self.block: list[Stmt] = []
        self._grid_used = False

    def size(self, value: Size) -> Expr:
        return size(value)

    def load(self, operand: int, index: Sequence[Expr]) -> Expr:
        value = self._builder.elements.value(self._node.inputs[operand], tuple(index))
        return self._let(value)

    def _let(self, value: Expr) -> Expr:
        self.block += self._builder.checks()
        return self._builder.let("t", value, self.block)

    def store(self, index: Sequence[Expr], value: Expr) -> None:
        self.block.append(Store(self._result, tuple(index), value))

    def read_result(self, index: Sequence[Expr]) -> Expr:
        return self._let(load(self._result, tuple(index)))

    def _inside(self, body: Callable[[], None]) -> tuple[Stmt, ...]:
        outer, self.block = self.block, []
        body()
        inner, self.block = self.block, outer
        return tuple(inner)

    def parallel(self, extents: Sequence[Size], body: Callable[[tuple[Expr, ...]], None]) -> None:
        if self._grid_used or self.block:
            raise CompileError(
                f"{self._node.op.name}: the parallel grid must be the outermost loop, once"
            )
        self._grid_used = True
        shape = tuple(extents)
        if not shape:
            self.block += self._inside(lambda: body(()))
            return
        flat = self._builder.variable("i")
        index = spread(flat, shape)
        inner = self._inside(lambda: body(index))
        self.block.append(For(flat, size(product(shape)), inner, "parallel"))

    def loop(self, extent: Size | Expr, body: Callable[[Expr], None]) -> None:
        variable = self._builder.variable("k")
        inner = self._inside(lambda: body(variable))
        count = extent if isinstance(extent, Expr) else size(extent)
        self.block.append(For(variable, count, inner))

    def lanes(
        self,
        extent: Size | Expr,
        dtype: DType,
        body: Callable[[Expr], None],
        vectors: int = 1,
    ) -> None:
        variable = self._builder.variable("j")
        inner = self._inside(lambda: body(variable))
        if isinstance(extent, Const):
            extent = int(extent.value)
        known = policy.VECTOR_BYTES if isinstance(extent, Expr) else extent
        width = policy.lanes(dtype, known)
        if not isinstance(extent, Expr):
            vectors = policy.interleave(extent, width, vectors)
        count = extent if isinstance(extent, Expr) else size(extent)
        kind = "vector" if width > 1 else "serial"
        self.block.append(For(variable, count, inner, kind, width, vectors if width > 1 else 1))

    def running(self, dtype: DType, how: str = "sum") -> Accumulators:
        combine = combine_for(dtype) if how == "products" else _COMBINE[how](dtype)
        declared = Accumulators((self._builder.variable("total", dtype),), combine)
        self.block.append(declared)
        return declared

    def accumulate(self, handle: Accumulators, *values: Expr) -> None:
        self.block.append(Accumulate(handle, values))

    def total(self, handle: Accumulators) -> Expr:
        named = self._builder.variable("t", handle.vars[0].dtype)
        self.block.append(Let(named, handle.vars[0]))
        return named

    def when(self, condition: Expr, body: Callable[[], None]) -> None:
        self.block.append(If(condition, self._inside(body)))

    def local(self, shape: Sequence[Size], dtype: DType) -> Buffer:
        buffer = Buffer(self._builder.names.fresh("local"), tuple(shape), dtype, "local")
        self.block.append(Alloc(buffer))
        return buffer

    def get(self, handle: Buffer, index: Sequence[Expr] = ()) -> Expr:
        named = self._builder.variable("t", handle.dtype)
        self.block.append(Let(named, load(handle, tuple(index))))
        return named

    def put(self, handle: Buffer, value: Expr, index: Sequence[Expr] = ()) -> None:
        self.block.append(Store(handle, tuple(index), value))

    def check(self, ok: Expr) -> None:
        self._builder.elements.on_check(self._node, ok)
        self.block += self._builder.checks()


def _combine(method: str) -> Callable[[DType], Combine]:
    def combine(dtype: DType) -> Combine:
        return combine_of(lambda s, a, b: s.op(method, a, b), literal(0, dtype))

    return combine


_COMBINE = {"sum": _combine("add"), "maximum": _combine("maximum")}


def lower_opaque(region: Region, builder: KernelBuilder) -> LoweredKernel:
    """The kernel of an opaque region."""
    (node,) = region.nodes
    form = node.op.form
    assert isinstance(form, Opaque)
    writer = _Builder(builder, node)
    form.lower(writer, node)
    if form.work is not None:
        return builder.kernel(writer.block, form.work(node))
    work: Size = product(node.shape)
    for operand in node.inputs:
        work = work + product(operand.shape) * 8
    return builder.kernel(writer.block, work)
