"""A convolution by Winograd's F(2 x 2, 3 x 3) as its template sees it (beside the floors): how the
tiles of an image are counted, sizes of blocks.

A tile has 2 x 2 results of a channel. Tiles are counted row after row, `pitch` of them a row, so
that a vector is 16 neighbours whatever the width of the image. Where two neighbouring elements of
an image's last tile lie behind it, a row is one tile longer than there are results (whose results
are not stored), else the elements of the next row stand where this one's last ones are expected.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from graphc.base.dims import Size
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.kernels.direct_problem import THREADS, known, most_steps
from graphc.kernels.gemm_problem import up
from graphc.ops.winograd import PANEL
from graphc.schedule import policy_cpu as policy

LANES = policy.VECTOR_BYTES // 4
PLACES = 16  # elements of a tile, and products
# Cycles of one core, measured: of a row of a channel that is copied, and of each of its vectors, of
# a vector of tiles of a channel that is transformed, of a vector of tiles of a result that is
# transformed back and stored.
ROW, COPY, TRANSFORM, BACK = 6, 10, 60, 70
MOST_VECTORS = 8
# Cycles per vector of weights that a step reads, where vectors run across results.
BROUGHT = 2.5
# Vectors of tiles of a register tile: with three, what else is kept in registers makes them spill.
WIDE = 2


@dataclass(frozen=True, slots=True)
class Blocks:
    """parts: into which the vectors of tiles of an image are cut, those of a step, which differ by
    one at most; panels: of results of a step, `PANEL` each; tile: a register tile's results, and
    vectors of tiles at most. Where vectors run across results: parts of the rows of tiles, one
    panel; tiles of a register tile at most, and vectors of results.
    """

    parts: int
    panels: int
    tile: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Winograd:
    """One convolution. source: what the windows slide over, [n, c, height, width], without the
    zeros around it; frame: rows above and columns left of it; pitch: tiles that a row counts as;
    chain, blocks: channels of a block, and blocks.
    """

    node: Tensor
    source: Tensor
    frame: tuple[int, int]
    batch: Size
    results: int
    height: int
    width: int
    chain: int
    blocks: int
    pitch: int

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return (self.height + 1) // 2

    @property
    def columns(self) -> int:
        """Tiles of a row."""
        return (self.width + 1) // 2

    @property
    def vectors(self) -> int:
        """Vectors of tiles of an image."""
        return -(-((self.rows - 1) * self.pitch + self.columns) // LANES)

    @property
    def panel(self) -> int:
        """The results of a panel of weights."""
        return known(self.node.inputs[2].shape[4])

    @property
    def panels(self) -> int:
        """Panels of results."""
        return self.results // self.panel

    def cut(self, parts: int) -> int:
        """The vectors that are cut into so many parts: with a further one where else one part
        would have a single vector and the others two.
        """
        return 2 * parts if self.vectors == 2 * parts - 1 else self.vectors

    def rows_of(self, parts: int) -> int:
        """How many rows of tiles one of so many parts meets at most."""
        vectors = self.cut(parts)
        ends = [k * vectors // parts * LANES for k in range(parts + 1)]
        return max((a % self.pitch + b - a - 1) // self.pitch + 1 for a, b in pairwise(ends))


def found_winograd(node: Tensor) -> Winograd | None:
    """The problem of a `winograd_convolution` of windows that slide over an image; else None."""
    v, w, u = node.inputs
    if v.op.name != "windows" or v.ndim != 6 or v.attr("axes") != (2, 3):
        return None
    if v.attr("stride") != (1, 1) or v.attr("dilation") != (1, 1) or v.attr("size") != (3, 3):
        return None
    height, width = node.shape[2:]
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    if known(w.shape[0]) % known(u.shape[4]):
        return None
    blocks, chain = known(u.shape[0]), known(u.shape[3])
    columns = (width + 1) // 2
    source, frame, ends = _framed(v.inputs[0])
    # The last tile of an odd row ends with an element that only a result that is cut off uses;
    # the one before it may be the first one of the next row, where both are padding.
    pitch = columns if width % 2 == 1 and ends else columns + 1
    results = known(w.shape[0])
    batch = node.shape[0]
    return Winograd(node, source, frame, batch, results, height, width, chain, blocks, pitch)


def _framed(image: Tensor) -> tuple[Tensor, tuple[int, int], bool]:
    """An image without the zeros around it, those above and left of it, and whether there are some
    at both ends of each row.
    """
    if image.op.name == "pad" and not any(image.attr("interior")) and image.attr("value") == 0:
        low, high = image.attr("low"), image.attr("high")
        widths = (*low, *high)
        known_ = all(isinstance(n, int) and n >= 0 for n in widths)
        if known_ and not any((*low[:2], *high[:2])):
            return image.inputs[0], (low[2], low[3]), low[3] > 0 and high[3] > 0
    return image, (0, 0), False


def blocks_of(problem: Winograd, target: Target) -> Blocks:
    """The blocks that leave 1 to 8 threads the least to do, of those whose tiles and products fill
    five eighths of the second-level cache at most.
    """
    registers = target.registers * target.register_bytes // policy.VECTOR_BYTES * 7 // 8
    if problem.panel != PANEL:
        return _across(problem, registers)
    tall = PANEL if registers >= PANEL else PANEL // 2
    wide = max(1, min(WIDE, registers // tall))
    batch = problem.batch if isinstance(problem.batch, int) else 1
    channels = problem.chain * problem.blocks
    best: tuple[float, Blocks] | None = None
    for parts in _cuts(problem.vectors):
        vectors = problem.cut(parts)
        most, rest = -(-vectors // parts), vectors % parts
        lines = 2 * (problem.rows_of(parts) + 1) * (ROW + COPY * -(-problem.width // LANES))
        cycles = _cycles(most, tall, wide)
        if rest:
            cycles = (rest * cycles + (parts - rest) * _cycles(most - 1, tall, wide)) / parts
        for groups in range(1, problem.panels + 1):
            if problem.panels % groups:
                continue
            panels = problem.panels // groups
            held = problem.chain + panels * PANEL
            if most > 1 and held * most * PLACES * policy.VECTOR_BYTES > target.l2_bytes * 5 // 8:
                continue
            average = vectors / parts
            time = PLACES * channels * panels * PANEL * cycles
            time += channels * (lines + average * TRANSFORM)
            time += average * panels * PANEL * BACK
            steps = parts * groups * max(1, batch)
            time *= sum(threads * most_steps(steps, threads) for threads in THREADS)
            if best is None or time < best[0] * 0.995:
                best = time, Blocks(parts, panels, (tall, wide))
    assert best is not None
    return best[1]


def _across(problem: Winograd, registers: int) -> Blocks:
    """The same for vectors across results: parts of rows of tiles, a step has one panel. A register
    tile has tiles of a row, in equal parts, and all vectors of a panel.
    """
    wide = problem.panel // LANES
    most = max(1, registers // wide)
    tall = -(-problem.columns // -(-problem.columns // most))
    batch = problem.batch if isinstance(problem.batch, int) else 1
    best: tuple[float, int] | None = None
    for parts in range(1, problem.rows + 1):
        rows = -(-problem.rows // parts)
        tiles = rows * -(-problem.columns // tall)
        time = tiles * max(tall * wide, 8) / 2 + wide * BROUGHT
        steps = parts * problem.panels * max(1, batch)
        time *= sum(threads * most_steps(steps, threads) for threads in THREADS)
        if best is None or time < best[0] * 0.995:
            best = time, parts
    assert best is not None
    return Blocks(best[1], 1, (tall, wide))


def _cuts(vectors: int) -> list[int]:
    """Numbers of parts to try: for each size of the largest one as few as there can be, and next
    multiples of numbers of threads. Parts of one vector are not among larger ones.
    """
    least = (-(-vectors // most) for most in range(1, MOST_VECTORS + 1))
    found = sorted({n for k in least for n in (k, up(k, 2), up(k, THREADS[-1]))})
    return [n for n in found if 2 * n <= vectors + 1 or n == vectors]


def _cycles(vectors: int, tall: int, wide: int) -> float:
    """Of a step of the sums of one result: two multiply-adds, or two loads, in each."""
    tiles = [wide] * (vectors // wide) + [vectors % wide] * (vectors % wide > 0)
    return sum(max(tall * n, tall + n, 12) / 2 for n in tiles) / tall
