"""A convolution by Winograd's F(2 x 2, 3 x 3) as its template sees it (beside the floors): how the
tiles of an image are counted, sizes of blocks.

A tile has 2 x 2 results of a channel. Tiles are counted row after row, `pitch` of them a row, so
that a vector is 16 neighbours whatever the width of the image. Where two neighbouring elements of
an image's last tile lie behind it, a row is one tile longer than there are results (whose results
are not stored), else the elements of the next row stand where this one's last ones are expected.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.base.dims import Size
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.kernels.direct_problem import THREADS, known, most_steps
from graphc.ops.winograd import PANEL
from graphc.schedule import policy_cpu as policy

LANES = policy.VECTOR_BYTES // 4
PLACES = 16  # elements of a tile, and products
# Cycles of one core, measured: of a row of a channel that is copied, and of each of its vectors, of
# a vector of tiles of a channel that is transformed, of a vector of tiles of a result that is
# transformed back and stored.
ROW, COPY, TRANSFORM, BACK = 6, 5, 60, 120
MOST_VECTORS = 8
# Vectors of tiles of a register tile: with three, what else is kept in registers makes them spill.
WIDE = 2


@dataclass(frozen=True, slots=True)
class Blocks:
    """vectors: of tiles of a step; panels: of results of a step, `PANEL` each; tile: a register
    tile's results, and vectors of tiles at most.
    """

    vectors: int
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
    def panels(self) -> int:
        """Panels of results."""
        return self.results // PANEL

    def rows_of(self, vectors: int) -> int:
        """How many rows of tiles a step of so many vectors meets at most."""
        starts = range(0, self.vectors * LANES, vectors * LANES)
        return max((s % self.pitch + vectors * LANES - 1) // self.pitch + 1 for s in starts)


def found_winograd(node: Tensor) -> Winograd | None:
    """The problem of a `winograd_convolution` of windows that slide over an image; else None."""
    v, w, u = node.inputs
    if v.op.name != "windows" or v.ndim != 6 or v.attr("axes") != (2, 3):
        return None
    if v.attr("stride") != (1, 1) or v.attr("dilation") != (1, 1) or v.attr("size") != (3, 3):
        return None
    height, width = node.shape[2:]
    if not isinstance(height, int) or not isinstance(width, int) or known(w.shape[0]) % PANEL:
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
    tall = PANEL if registers >= PANEL else PANEL // 2
    wide = max(1, min(WIDE, registers // tall))
    batch = problem.batch if isinstance(problem.batch, int) else 1
    channels = problem.chain * problem.blocks
    best: tuple[float, Blocks] | None = None
    for vectors in range(1, min(problem.vectors, MOST_VECTORS) + 1):
        across = -(-problem.vectors // vectors)
        for groups in range(1, problem.panels + 1):
            if problem.panels % groups:
                continue
            panels = problem.panels // groups
            held = problem.chain + panels * PANEL
            if vectors > 1 and held * vectors * PLACES * policy.VECTOR_BYTES > (
                target.l2_bytes * 5 // 8
            ):
                continue
            products = PLACES * channels * panels * PANEL * _cycles(vectors, tall, wide)
            lines = 2 * (problem.rows_of(vectors) + 1) * (ROW + COPY * -(-problem.width // LANES))
            time = products + channels * (lines + vectors * TRANSFORM)
            time += vectors * panels * PANEL * BACK
            steps = across * groups * max(1, batch)
            time *= sum(threads * most_steps(steps, threads) for threads in THREADS)
            if best is None or time < best[0] * 0.995:
                best = time, Blocks(vectors, panels, (tall, wide))
    assert best is not None
    return best[1]


def vector_groups(vectors: int, wide: int) -> list[int]:
    """A step's vectors in register tiles of `wide` at most, none of one vector where two fit."""
    count = -(-vectors // wide)
    return [vectors // count + (k < vectors % count) for k in range(count)]


def _cycles(vectors: int, tall: int, wide: int) -> float:
    """Of a step of the sums of one result: two multiply-adds, or two loads, in each."""
    groups = vector_groups(vectors, wide)
    return sum(max(tall * g, tall + g, 8) / 2 for g in groups) / tall
