"""Transposed copies for CPUs (beside the floors): a tile at a time.

A copy whose innermost letter is not the operand's innermost one steps through memory with large
strides, in its reads or in its writes; with sizes that are powers of two all of them compete for
the same cache sets. Here a parallel step reads a tile along the operand's rows into scratch memory
in the first-level cache, whose rows are an odd number of vectors, and writes it along the result's,
with the elementwise work that reads it.
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
from graphc.lower.edges import effective
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel
from graphc.lower.regions import Region
from graphc.lower.to_loops import widest
from graphc.schedule import policy_cpu as policy

# Elements of a tile along the result's and along the operand's rows: with float32 16 KB.
ALONG_RESULT, ALONG_OPERAND = 64, 64
FEW = 16  # elements of a row of the result that is written by columns
ROWS_OF_FEW = 512
MOST_TILES = 2  # of one kernel
LEAST_BYTES = 1 << 18  # below, the caches hold operand and result
IN_WORK = 4  # as many times so many where a copy into scratch memory comes before other work


@dataclass(frozen=True)
class Transpose:
    """A map of one result that reads `turned`, operands with dims permuted: the dim `read` of the
    result is that along which their memory runs, `write` that of the result's own memory.
    """

    region: Region
    result: Tensor
    turned: tuple[Tensor, ...]
    read: int
    write: int


@dataclass(frozen=True)
class TransposeTemplate:
    """Regions that permute dims, and elementwise work on what was permuted; see the module.
    least: bytes of the result.
    """

    least: int = LEAST_BYTES
    name: str = "transpose"

    def match(self, region: Region, target: Target) -> Transpose | None:
        """The operands of a region whose dims are permuted alike."""
        if target.kind != "cpu" or region.kind != "map" or len(region.outputs) != 1:
            return None
        (result,) = region.outputs
        long = [d for d, s in enumerate(result.shape) if s != 1]
        alone = len(region.nodes) == 1 and result.op.name == "permute_dims"
        if len(long) < 2 or any(_is_partial(n, result) for n in region.nodes):
            return None
        views = [result] if alone else [i for n in region.nodes for i in n.inputs]
        turned = [
            v
            for v in dict.fromkeys(views)
            if v.op.name == "permute_dims"
            and v.shape == result.shape
            and _read(v, long) != long[-1]
        ]
        if not 1 <= len(turned) <= MOST_TILES or len({_read(v, long) for v in turned}) > 1:
            return None
        read = _read(turned[0], long)
        low = [bounds(s)[0] or 0 for s in result.shape]
        least = self.least if alone else self.least * IN_WORK
        small = product(low) * min(v.dtype.itemsize for v in turned) < least
        if small or low[read] < 16:
            return None
        last = result.shape[long[-1]]
        few = alone and isinstance(last, int) and _follows(read, long)
        if low[long[-1]] < FEW and not few:
            return None
        return Transpose(region, result, tuple(turned), read, long[-1])

    def configs(self, problem: Transpose, target: Target) -> Iterable[tuple[int, int]]:
        """Elements of a tile along the operand's and the result's rows."""
        yield ALONG_OPERAND, ALONG_RESULT

    def build(
        self, problem: Transpose, config: tuple[int, int], builder: KernelBuilder
    ) -> list[LoweredKernel]:
        """The kernel."""
        result, read, write = problem.result, problem.read, problem.write
        shape = result.shape
        last = shape[write]
        if isinstance(last, int) and last < FEW:
            return [_rows_of_few(result, read, write, builder)]
        tall, wide = config
        width = policy.lanes(widest(problem.region), 16)
        others = [d for d, s in enumerate(shape) if s != 1 and d not in (read, write)]
        step = builder.variable("i")
        lengths = (shape[read], shape[write])
        grid: tuple[Size, ...] = (
            *(shape[d] for d in others),
            count(lengths[1], wide),
            count(lengths[0], tall),
        )
        *places, across, down = unflatten(step, grid)
        first = imul(down, const(tall)), imul(across, const(wide))
        rows, columns = extent(lengths[0], first[0], tall), extent(lengths[1], first[1], wide)
        at = dict(zip(others, places, strict=True))

        def index(r: Expr, c: Expr) -> tuple[Expr, ...]:
            known = at | {read: iadd(first[0], r), write: iadd(first[1], c)}
            return tuple(known.get(d, ZERO) for d in range(len(shape)))

        tiles: list[tuple[Tensor, Buffer]] = []
        body: list[Stmt] = []
        for view in problem.turned:
            c, r, lanes = builder.variable("c"), builder.variable("r"), policy.lanes(view.dtype, 16)
            name = builder.names.fresh("tile")
            tile = Buffer(name, (wide, (tall // lanes | 1) * lanes), view.dtype, "local")
            value = builder.elements.value(view, index(r, c))
            copied = (*builder.checks(), Store(tile, (c, r), value))
            body += [Alloc(tile), For(c, columns, (For(r, rows, copied, "vector", lanes),))]
            tiles.append((view, tile))
        r, c = builder.variable("r"), builder.variable("c")
        for view, tile in tiles:
            builder.elements.define(view, index(r, c), load(tile, (c, r)))
        for node in problem.region.nodes:
            if node.shape == shape:
                builder.elements.value(node, index(r, c))
        inside: list[Stmt] = []
        builder.store(result, index(r, c), inside)
        body.append(For(r, rows, (For(c, columns, tuple(inside), "vector", width),)))
        loop = For(step, size(product(grid)), tuple(body), "parallel")
        return [builder.kernel([loop], product(shape) * len(problem.region.nodes))]


def _is_partial(node: Tensor, result: Tensor) -> bool:
    """Whether a node has neither the result's elements nor one for all of them."""
    return node.shape != result.shape and bool(effective(node.shape))


def _read(view: Tensor, long: list[int]) -> int:
    """The dim of a permutation along which its operand's memory runs."""
    axes = view.attr("axes")
    return max(long, key=lambda d: int(axes[d]))


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
