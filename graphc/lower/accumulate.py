"""Accumulators of reductions (floor 5): their dtypes, and the innermost loop that accumulates.

The order of accumulation is a function of sizes and dtypes alone (decision 0011). Sums of float32
have accumulators of float64, which a few values at a time enter (decision 0044).
"""

from __future__ import annotations

from graphc.base.dims import Size, bounds, product
from graphc.base.dtypes import DType
from graphc.ir.node import Tensor
from graphc.loops.build import EXPR, ONE, iadd, ifloordiv, imin, imul, isub, literal
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Combine,
    Expr,
    For,
    Op,
    Stmt,
    Var,
    cast,
    size,
    var,
)
from graphc.lower.kernel_builder import KernelBuilder
from graphc.ops.families import Reduction
from graphc.schedule import policy_cpu as policy


class Accumulation:
    """One reduction while its loops are written.

    dtypes: of the accumulators; entering: of the values that enter them, narrower where `wide`.
    """

    def __init__(self, builder: KernelBuilder, node: Tensor) -> None:
        form = node.op.form
        assert isinstance(form, Reduction)
        self.form = form
        self.node = node
        self.operand = node.inputs[0]
        dtype = self.operand.dtype
        self.entering = form.accumulators(dtype)
        few = policy.is_narrow(self.operand.shape[a] for a in self.axes)
        self.dtypes = self.entering if few else form.totals(dtype)
        self.wide = self.dtypes != self.entering
        self.builder = builder
        self.declared = self.accumulators("acc")
        # What the innermost loop accumulates into: the same, or (chained) a part of it.
        self.inner = self.declared

    def accumulators(self, name: str, begun: bool = False) -> Accumulators:
        """Accumulators for values of their own dtypes. begun: they take in something in any case,
        and no bit of the first changes.
        """
        variables = tuple(self.builder.variable(name, d) for d in self.dtypes)
        return Accumulators(variables, self._combine(self.dtypes, begun))

    def narrow_accumulators(self, name: str) -> Accumulators:
        """Accumulators of a sum in the dtypes of the values that enter, for a few of them."""
        variables = tuple(self.builder.variable(name, d) for d in self.entering)
        return Accumulators(variables, self._combine(self.entering, begun=True))

    def take_in_groups(self) -> None:
        """Let the accumulators take in the values of a vector loop in groups, which are combined
        before they are converted.
        """
        if self.wide:
            combine, entering = self.declared.combine, self._combine(self.entering, begun=True)
            self.declared = self.inner = Accumulators(self.declared.vars, combine, entering)

    def _combine(self, dtypes: tuple[DType, ...], begun: bool = False) -> Combine:
        left = tuple(var(f"left{k}", d) for k, d in enumerate(dtypes))
        right = tuple(var(f"right{k}", d) for k, d in enumerate(dtypes))
        starts = self.form.identity(self.operand.dtype)
        if begun and self.form.is_sum and dtypes[0].is_float:
            starts = (-0.0,)
        identity = tuple(literal(v, d) for v, d in zip(starts, dtypes, strict=True))
        return Combine(left, right, tuple(self.form.combine(EXPR, left, right)), identity)

    @property
    def axes(self) -> list[int]:
        """The reduced axes that are not of size 1."""
        shape = self.operand.shape
        return [
            a for a in self.node.attr("axes") if not (isinstance(shape[a], int) and shape[a] == 1)
        ]

    @property
    def rounds(self) -> bool:
        """Whether results depend on the order in which elements are combined."""
        return any(
            isinstance(e, Op) and e.dtype.is_float and e.name in ("add", "mul")
            for e in self.declared.combine.results
        )

    def accumulate(self, value: Expr, position: Expr) -> Accumulate:
        prepared = self.form.prepare(EXPR, value, position, self.operand.dtype)
        entering = zip(prepared, self.inner.dtypes, strict=True)
        return Accumulate(self.inner, tuple(cast(p, d) for p, d in entering))

    def result(self, values: tuple[Expr, ...]) -> Expr:
        count = size(product(self.operand.shape[a] for a in self.node.attr("axes")))
        result: Expr = self.form.finish(EXPR, values, count, self.node)
        return result


class Innermost:
    """The loop over the innermost reduced axes, of `whole` elements of which it takes `extent` from
    `start` on. Long ones are cut into blocks with an accumulator each, so that roundings do not
    add up along one chain as long as the operand; in wide accumulators they do not anyway.
    """

    def __init__(
        self, builder: KernelBuilder, acc: Accumulation, whole: Size, start: Expr, extent: Expr
    ) -> None:
        self.acc = acc
        dtype = max(acc.entering, key=lambda d: d.itemsize)
        self.width = policy.lanes(dtype, whole)
        if policy.is_narrow(acc.operand.shape[a] for a in acc.axes):
            self.width = 1  # in the order of rows that lie side by side
        self.groups = policy.interleave(whole, self.width)
        if acc.wide:
            # Which elements are added in float32 is then told by their number, known or not.
            self.width, self.groups = policy.whole_lanes(dtype, whole), policy.REDUCTION_INTERLEAVE
            acc.take_in_groups()
        self.variable = builder.variable("k")
        self.index, self.extent = iadd(start, self.variable), extent
        self.block: Var | None = None
        high = bounds(whole)[1]
        if acc.wide or not acc.rounds or (high is not None and high <= policy.ROW_CHAIN):
            return
        acc.inner = acc.accumulators("part")
        self.block = builder.variable("b")
        chain = literal(policy.ROW_CHAIN, self.block.dtype)
        before = imul(self.block, chain)
        self.index = iadd(start, before, self.variable)
        self.extent = imin(chain, isub(extent, before))
        self.count = ifloordiv(iadd(extent, isub(chain, ONE)), chain)

    def loops(self, inside: list[Stmt]) -> list[Stmt]:
        """The loops around what accumulates one element."""
        kind = "vector" if self.width > 1 else "serial"
        loop = For(self.variable, self.extent, tuple(inside), kind, self.width, self.groups)
        if self.block is None:
            return [loop]
        body = (self.acc.inner, loop, Accumulate(self.acc.declared, self.acc.inner.vars))
        return [For(self.block, self.count, body)]


def innermost_axes(acc: Accumulation) -> tuple[list[int], Size]:
    """The reduced axes that one loop runs over, and their elements: the last one, and neighbours
    before it as long as there are too few for the loop to last.
    """
    axes, shape = acc.axes, acc.operand.shape
    first, extent = len(axes) - 1, shape[axes[-1]]
    while first and isinstance(extent, int) and extent < policy.ROW_SHORT:
        before = axes[first - 1]
        if product(shape[before + 1 : axes[first]]) != 1:
            break
        first, extent = first - 1, shape[before] * extent
    return axes[first:], extent
