"""A convolution in strips of lines and the pool that reads it (beside the floors), by bands.

    for outer letters, bands of the pool's lines      parallel
      for lines of the convolution that the band reads
        Y = a line of it, in strips as in `line_strips`      (scratch memory)
      for results of a place, lines of the pool: a line of the pool of Y

What the convolution leaves would go through the last cache or through memory, twice: its lines are
fetched before they are written, and read again by the pool after others have written theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from graphc.base.dims import Size, bounds, product
from graphc.base.dtypes import float32
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.kernels.direct_problem import known
from graphc.kernels.gemm_problem import Problem, count, extent, up
from graphc.kernels.gemm_strips import Strips
from graphc.kernels.line_strips import LineLoops, LineTemplate
from graphc.loops.build import ONE, ZERO, iadd, imul, isub
from graphc.loops.index_math import unflatten
from graphc.loops.nodes import Alloc, Buffer, For, Stmt, const, size
from graphc.lower.bands import windows_read
from graphc.lower.columns import row_of_columns
from graphc.lower.contraction import ContractionPlan, letters
from graphc.lower.edges import effective
from graphc.lower.kernel_builder import Kept, KernelBuilder, LoweredKernel
from graphc.lower.regions import Region

# Numbers of threads that a band's height is made for.
THREADS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Bands:
    """A convolution and its pool, with the product that the convolution is and its strips.

    A line of the pool, of `pools` in all, reads `lines` lines, the first one `step` after that of
    the line before; a band has `rows` lines of the pool.
    """

    first: Region
    pool: Region
    problem: Problem
    strips: Strips
    pools: int
    lines: int
    step: int
    rows: int = 1

    @property
    def read(self) -> int:
        """How many lines of the convolution a band reads."""
        return (self.rows - 1) * self.step + self.lines

    @property
    def scratch(self) -> tuple[int, int, int]:
        """Results x lines x columns in memory: whole vectors, an odd number of them, so that
        results do not compete for the same cache sets.
        """
        (*_, last), (row,) = self.problem.columns, self.problem.rows
        width = self.strips.width
        columns = (up(known(self.problem.sizes[last]), width) // width | 1) * width
        return known(self.problem.sizes[row]), self.read | 1, columns


@dataclass(frozen=True)
class BandTemplate:
    """Regions of `lower.bands` as one kernel; see the module. lines: which convolutions; least:
    bytes of their results, below which these stay near enough; again: the part of their lines that
    may be computed twice. rows: lines of the pool in a band, instead of those for the machine
    (tests).
    """

    lines: LineTemplate = field(default_factory=LineTemplate)
    least: int = 1 << 20
    again: float = 0.125
    rows: int = 0
    name: str = "bands"

    def takes_pool(self, first: Region, pool: Region, target: Target) -> bool:
        """Whether the convolution goes in strips of lines, of which bands stay in the second-level
        cache, and the pool has the same axes.
        """
        return self._found(first, pool, target) is not None

    def match(self, region: Region, target: Target) -> Bands | None:
        """Bands; they were asked for when regions were found."""
        if region.kind != "bands":
            return None
        first, pool = region.stages
        return self._found(first, pool, target)

    def configs(self, problem: Bands, target: Target) -> Iterable[int]:
        """The lines of a band."""
        yield problem.rows

    def build(self, problem: Bands, config: int, builder: KernelBuilder) -> list[LoweredKernel]:
        """The kernel."""
        return [_kernel(replace(problem, rows=config), builder)]

    def _found(self, first: Region, pool: Region, target: Target) -> Bands | None:
        matched, windows = self.lines.match(first, target), windows_read(pool)
        node = first.contraction
        if matched is None or windows is None or node is None:
            return None
        problem, (result,) = matched[1], windows.inputs
        own = [c for c in letters(node)[2] if problem.sizes[c] != 1]
        *outer, line = problem.outer or [""]
        if own != [*outer, *problem.rows, line, *problem.columns]:
            return None
        sizes, domain = problem.shape(own), pool.domain
        if effective(result.shape) != sizes or domain[:-2] != sizes[:-2]:
            return None
        if len(domain) != len(own) or not all(isinstance(s, int) for s in (sizes[-2], domain[-2])):
            return None
        strips = next(iter(self.lines.configs(matched, target)))
        strips = replace(strips, rows=up(known(problem.size(problem.rows)), strips.height))
        least = math.prod(bounds(s)[0] or 0 for s in sizes) * node.dtype.itemsize
        found = Bands(first, pool, problem, strips, known(domain[-2]), *_window(windows))
        return self._cut(found, target) if least >= self.least else None

    def _cut(self, bands: Bands, target: Target) -> Bands | None:
        """With the lines of a band that leave threads the least to do; None where all heights
        compute too much twice, or fill the cache.
        """
        images = bands.problem.size(bands.problem.outer[:-1])
        once = (bands.pools - 1) * bands.step + bands.lines
        best: list[tuple[int, int, Bands]] = []
        for rows in [self.rows] if self.rows else range(1, bands.pools + 1):
            found = replace(bands, rows=rows)
            steps = -(-bands.pools // rows)
            if math.prod(found.scratch) * float32.itemsize > target.l2_bytes // 2:
                break
            if steps * found.read > once * (1 + self.again) and not self.rows:
                continue
            steps *= images if isinstance(images, int) else 1
            best.append((sum(-(-steps // t) * t for t in THREADS) * found.read, rows, found))
        return min(best)[2] if best else None


def _window(windows: Tensor) -> tuple[int, int]:
    """How many lines a line of windows reads, and the distance of the first ones of two lines."""
    axes, sizes, stride, dilation = windows.attrs
    line = windows.inputs[0].ndim - 2
    if line not in axes:
        return 1, 1
    at = axes.index(line)
    return (sizes[at] - 1) * dilation[at] + 1, stride[at]


def _kernel(bands: Bands, builder: KernelBuilder) -> LoweredKernel:
    """Parallel over images and bands. Where a band begins has no name, so that the lines of the
    image are seen to be those of the scratch memory.
    """
    problem, (result,) = bands.problem, bands.first.outputs
    *outer, line = problem.outer
    images = problem.shape(outer)
    step, across, down, below = (builder.variable(n) for n in "iclp")
    grid: tuple[Size, ...] = (*images, count(bands.pools, bands.rows))
    *places, band = unflatten(step, grid)
    top = imul(band, const(bands.rows))
    begin = imul(top, const(bands.step))
    body: list[Stmt] = []
    rows = builder.let("rows", extent(bands.pools, top, bands.rows), body)
    scratch = Buffer(builder.names.fresh("lines"), bands.scratch, result.dtype, "local")
    body.append(Alloc(scratch))
    builder.keep(
        result, Kept(scratch, len(outer), (problem.sizes[line],), begin, len(problem.rows))
    )
    _become(builder, bands.first)
    loops = LineLoops(ContractionPlan.of(bands.first, builder), problem, bands.strips)
    at = {**dict(zip(outer, places, strict=True)), line: iadd(begin, down)}
    inside = loops.of_rows(at, ZERO, const(bands.scratch[0]))
    lines = iadd(imul(isub(rows, ONE), const(bands.step)), const(bands.lines))
    body.append(For(down, lines, tuple(inside)))
    _become(builder, bands.pool)
    row, work = row_of_columns(bands.pool, builder, (*places, across, iadd(top, below)))
    body.append(For(across, const(bands.scratch[0]), (For(below, rows, (row,)),)))
    loop = For(step, size(product(grid)), tuple(body), "parallel")
    return builder.kernel([loop], loops.plan.work + work)


def _become(builder: KernelBuilder, stage: Region) -> None:
    """What follows is written for the nodes of this region."""
    builder.members.clear()
    builder.members.update(id(n) for n in stage.nodes)
