"""Transposed copies for CPUs (beside the floors): a tile at a time.

A copy whose innermost letter is not the operand's innermost one steps through memory with large
strides, in its reads or in its writes; with sizes that are powers of two all of them compete for
the same cache sets. Here a parallel step reads a tile along the operand's rows into scratch memory
in the first-level cache, whose rows are an odd number of vectors, and writes it along the result's.
Rows of a result that fill no vector (the channels of an image) are written an element of each at a
time instead, a vector of rows at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphc.base.dims import Size, bounds, product
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.kernels.gemm_problem import count, extent
from graphc.loops.build import ZERO, iadd, imul
from graphc.loops.index_math import unflatten
from graphc.loops.nodes import Alloc, Buffer, Expr, For, Stmt, Store, const, load, size
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel
from graphc.lower.regions import Region
from graphc.schedule import policy_cpu as policy

# Elements of a tile along the result's and along the operand's rows: with float32 16 KB.
ALONG_RESULT, ALONG_OPERAND = 64, 64
FEW = 16  # elements of a row of the result that is written by columns
ROWS_OF_FEW = 512
LEAST_BYTES = 1 << 18  # below, the caches hold operand and result


@dataclass(frozen=True)
class Transpose:
    """A permutation: `read` is the dim of the result along which the operand's memory runs."""

    region: Region
    node: Tensor
    read: int


@dataclass(frozen=True)
class TransposeTemplate:
    """Regions that do nothing but permute dims; see the module. least: bytes of the result."""

    least: int = LEAST_BYTES
    name: str = "transpose"

    def match(self, region: Region, target: Target) -> Transpose | None:
        """The permutation of a region of one node."""
        if target.kind != "cpu" or len(region.nodes) != 1:
            return None
        (node,) = region.nodes
        if node.op.name != "permute_dims":
            return None
        axes, shape = node.attr("axes"), node.shape
        long = [d for d, s in enumerate(shape) if s != 1]
        if len(long) < 2:
            return None
        read = max(long, key=lambda d: int(axes[d]))
        low = [bounds(s)[0] or 0 for s in shape]
        worth = product(low) * node.dtype.itemsize >= self.least and low[read] >= 16
        if read == long[-1] or not worth:
            return None
        last = node.shape[long[-1]]
        if low[long[-1]] < FEW and not (isinstance(last, int) and _follows(read, long)):
            return None
        return Transpose(region, node, read)

    def configs(self, problem: Transpose, target: Target) -> Iterable[tuple[int, int]]:
        """Elements of a tile along the operand's and the result's rows."""
        yield ALONG_OPERAND, ALONG_RESULT

    def build(
        self, problem: Transpose, config: tuple[int, int], builder: KernelBuilder
    ) -> list[LoweredKernel]:
        """The kernel."""
        node, read = problem.node, problem.read
        write = max(d for d, s in enumerate(node.shape) if s != 1)
        last = node.shape[write]
        if isinstance(last, int) and last < FEW:
            return [_rows_of_few(node, read, write, builder)]
        tall, wide = config
        width = policy.lanes(node.dtype, 16)
        others = [d for d, s in enumerate(node.shape) if s != 1 and d not in (read, write)]
        step = builder.variable("i")
        lengths = (node.shape[read], node.shape[write])
        grid: tuple[Size, ...] = (
            *(node.shape[d] for d in others),
            count(lengths[1], wide),
            count(lengths[0], tall),
        )
        *places, across, down = unflatten(step, grid)
        first = imul(down, const(tall)), imul(across, const(wide))
        rows, columns = extent(lengths[0], first[0], tall), extent(lengths[1], first[1], wide)
        tile = Buffer(
            builder.names.fresh("tile"), (wide, (tall // width | 1) * width), node.dtype, "local"
        )
        at = dict(zip(others, places, strict=True))

        def index(r: Expr, c: Expr) -> tuple[Expr, ...]:
            known = at | {read: iadd(first[0], r), write: iadd(first[1], c)}
            return tuple(known.get(d, ZERO) for d in range(node.ndim))

        c, r = builder.variable("c"), builder.variable("r")
        value = builder.elements.value(node, index(r, c))
        body: list[Stmt] = [Alloc(tile), *builder.checks()]
        into = For(r, rows, (Store(tile, (c, r), value),), "vector", width)
        body.append(For(c, columns, (into,)))
        r, c = builder.variable("r"), builder.variable("c")
        builder.elements.define(node, index(r, c), load(tile, (c, r)))
        inside: list[Stmt] = []
        builder.store(node, index(r, c), inside)
        body.append(For(r, rows, (For(c, columns, tuple(inside), "vector", width),)))
        loop = For(step, size(product(grid)), tuple(body), "parallel")
        return [builder.kernel([loop], product(node.shape))]


def _follows(read: int, long: list[int]) -> bool:
    """Whether the operand's rows run along the dim before the result's last one."""
    return read == long[-2]


def _rows_of_few(node: Tensor, read: int, write: int, builder: KernelBuilder) -> LoweredKernel:
    """A parallel step reads the operand's rows in blocks and scatters each within its lines."""
    rows, width = node.shape[read], policy.lanes(node.dtype, 16)
    others = [d for d, s in enumerate(node.shape) if s != 1 and d not in (read, write)]
    grid: tuple[Size, ...] = (*(node.shape[d] for d in others), count(rows, ROWS_OF_FEW))
    step, c, r = builder.variable("i"), builder.variable("c"), builder.variable("r")
    *places, block = unflatten(step, grid)
    first = imul(block, const(ROWS_OF_FEW))
    at = dict(zip(others, places, strict=True)) | {read: iadd(first, r), write: c}
    index = tuple(at.get(d, ZERO) for d in range(node.ndim))
    builder.elements.value(node, index)
    body: list[Stmt] = [*builder.checks()]
    builder.store(node, index, body)
    across = For(r, extent(rows, first, ROWS_OF_FEW), tuple(body), "vector", width)
    loop = For(step, size(product(grid)), (For(c, size(node.shape[write]), (across,)),), "parallel")
    return builder.kernel([loop], product(node.shape))
