"""A product by constant weights as direct loops see it (beside the floors): which letters are
results, columns and sums, how the weights lie in memory, sizes of tiles.

Vectors run across the results of one place (the channels of a pixel), so an image needs no copy of
its windows: its elements are read one at a time and spread. The weights are put in that order once,
when the graph is compiled: panels of `Tile.results` results, each with all summed elements one
after another; zeros fill the last panel, whose results are not stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.base.target import Target
from graphc.ir.constant import Arranged, Step, arrange
from graphc.ir.node import Tensor, make
from graphc.kernels.gemm_blocks import one_line
from graphc.kernels.gemm_cpu import classified
from graphc.kernels.gemm_problem import Problem, up
from graphc.lower.chains import has_tiles
from graphc.lower.contraction import is_dot, letters
from graphc.ops.families import Constant, Reshape
from graphc.ops.gather import SLICE
from graphc.ops.reshape import to_shape
from graphc.ops.state import constant_node
from graphc.ops.view import permute_dims
from graphc.schedule import policy_cpu as policy

# Threads for which the cut of an image is tried.
THREADS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Least:
    """What a product must be at least for direct loops: multiply-adds, the part of the vectors of
    results that is filled, summed elements, places of a line. Below, plain loops are as fast.

    Without windows an element is read once per panel, and results are turned in memory before they
    are stored: there, over `many` places or more, shorter sums than `alone` are as fast by vectors
    along places, unless sums are twice as long as there are results, which then are few to turn,
    over less than twice as many places. Measured on images of 7 to 56 pixels a side.
    """

    work: int = 1 << 20
    filled: float = 0.75
    summed: int = 16
    places: int = 4
    alone: int = 512
    many: int = 128


@dataclass(frozen=True, slots=True)
class Tile:
    """A register tile: places (pixels of a line) x vectors of `width` results."""

    places: int
    vectors: int
    width: int

    @property
    def results(self) -> int:
        """The results of a panel of weights."""
        return self.vectors * self.width


@dataclass(frozen=True, slots=True)
class Direct:
    """A product with constant weights: the letters, the node of the weights in panels, the tile.

    whole: the places are one line, as neighbours in memory are neighbours in the result. groups:
    the outer letters that the weights have.
    """

    problem: Problem
    weights: Tensor
    tile: Tile
    whole: bool
    groups: tuple[str, ...]

    @property
    def line(self) -> int:
        """The places of a line."""
        columns = self.problem.columns
        return known(self.problem.size(columns if self.whole else columns[-1:]))

    @property
    def results(self) -> int:
        """The results of a place."""
        return known(self.problem.sizes[self.problem.rows[0]])

    @property
    def panels(self) -> int:
        """The panels of weights; the last one may have results that do not exist."""
        return up(self.results, self.tile.results) // self.tile.results

    @property
    def lines(self) -> int:
        """The number of lines."""
        return 1 if self.whole else known(self.problem.size(self.problem.columns[:-1]))


def known(size: object) -> int:
    """A size that was seen to be known."""
    assert isinstance(size, int), size
    return size


def found_direct(node: Tensor, target: Target, least: Least) -> Direct | None:
    """The direct form of a contraction whose weights `in_panels` has put in order, else None."""
    problem = _problem(node, target, least)
    if problem is None:
        return None
    packed = panels_of(node.inputs[problem.row_operand])
    if packed is None:
        return None
    own = letters(node)[problem.row_operand]
    groups = tuple(c for c in own if c in problem.outer)
    whole = one_line(problem, node)
    return Direct(problem, packed, _tile(problem, whole, target), whole, groups)


def in_panels(node: Tensor, target: Target, least: Least) -> Tensor | None:
    """The contraction with its constant weights as panels in memory; None where it has none, or
    where direct loops do not pay.
    """
    if not any(_is_constant(operand) for operand in node.inputs):
        return None
    problem = _problem(node, target, least)
    if problem is None:
        return None
    tile = _tile(problem, one_line(problem, node), target)
    return with_panels(node, problem, tile.results)


def with_panels(node: Tensor, problem: Problem, panel: int) -> Tensor | None:
    """The contraction with its constant weights as panels of so many results in memory; None where
    it has none.
    """
    number = problem.row_operand
    weights, spec = node.inputs[number], letters(node)[number]
    source = _source(weights)
    if source is None:
        return None
    (row,) = problem.rows
    groups = [c for c in spec if c in problem.outer]
    single = [c for c in spec if problem.sizes[c] == 1]
    order = [*single, *groups, row, *problem.summed]
    outer, inner = (tuple(known(problem.sizes[c]) for c in g) for g in (groups, problem.summed))
    results = known(problem.sizes[row])
    padded = up(results, panel)
    panels = (*outer, padded // panel, panel, *inner)
    at, rank = len(outer) + 1, len(panels)
    value, steps = source
    shape = tuple(known(problem.sizes[c]) for c in order)
    steps += (("permute", tuple(spec.index(c) for c in order)),)
    if padded != results:
        steps += (("pad", tuple(padded - results if c == row else 0 for c in order)),)
    steps += (
        ("reshape", panels),
        ("permute", (*range(at), *range(at + 1, rank), at)),
    )
    packed = constant_node(arrange(value, steps))
    axes = (*range(at), rank - 1, *range(at, rank - 1))
    filled = tuple(padded if c == row else n for c, n in zip(order, shape, strict=True))
    whole = to_shape(permute_dims(packed, axes), filled)
    rank = len(shape)
    operands, specs = list(node.inputs), list(letters(node)[:2])
    operands[number] = SLICE(whole, starts=(0,) * rank, steps=(1,) * rank, shape=shape)
    specs[number] = "".join(order)
    found = make(node.op, tuple(operands), (f"{specs[0]},{specs[1]}->{letters(node)[2]}",))
    assert isinstance(found, Tensor)
    return found


def _is_constant(operand: Tensor) -> bool:
    while isinstance(operand.op.form, Reshape) or operand.op.name == "permute_dims":
        operand = operand.inputs[0]
    return isinstance(operand.op.form, Constant)


def _source(operand: Tensor) -> Arranged | None:
    """The constant below reshapes and permutations, and those as steps; None of anything else."""
    if not _is_constant(operand):
        return None
    steps: list[Step] = []
    while not isinstance(operand.op.form, Constant):
        if operand.op.name == "permute_dims":
            steps.append(("permute", tuple(operand.attr("axes"))))
        else:
            steps.append(("reshape", tuple(map(known, operand.shape))))
        operand = operand.inputs[0]
    return operand.attr("value"), tuple(reversed(steps))


def panels_of(operand: Tensor) -> Tensor | None:
    """The constant of panels below the views that `in_panels` makes."""
    if operand.op is not SLICE:
        return None
    (operand,) = operand.inputs
    if not isinstance(operand.op.form, Reshape) or operand.inputs[0].op.name != "permute_dims":
        return None
    (packed,) = operand.inputs[0].inputs
    return packed if isinstance(packed.op.form, Constant) else None


def _serves(node: Tensor) -> bool:
    """Whether the dtype is one that tiles are made for: vectors of 16."""
    return has_tiles(node) and node.dtype.itemsize == 4


def _problem(node: Tensor, target: Target, least: Least) -> Problem | None:
    """The letters where everything but the weights is as direct loops want it."""
    if target.kind != "cpu" or not _serves(node) or is_dot(node):
        return None
    problem = classified(node)
    if problem is None or len(problem.rows) != 1:
        return None
    sizes = (problem.size(g) for g in (problem.rows, problem.columns, problem.summed))
    results, places, summed = (s if isinstance(s, int) else 0 for s in sizes)
    one = one_line(problem, node)
    width = policy.VECTOR_BYTES // node.dtype.itemsize
    across = problem.sizes[problem.columns[-1]]
    if not isinstance(across, int) or (places if one else across) < least.places:
        return None
    narrow = places < 2 * least.many and summed >= 2 * results
    if one and summed < least.alone and places >= least.many and not narrow:
        return None
    if results < least.filled * up(results, width) or summed < least.summed:
        return None
    return problem if results * places * summed >= least.work else None


def _tile(problem: Problem, whole: bool, target: Target) -> Tile:
    """The tile for a machine that takes the fewest cycles for all results of a line.

    Seven eighths of the vector registers are accumulators, the rest holds weights and an element.
    """
    width = policy.VECTOR_BYTES // 4
    budget = max(2, target.registers * target.register_bytes // policy.VECTOR_BYTES * 7 // 8)
    results = known(problem.sizes[problem.rows[0]])
    columns = problem.columns if whole else problem.columns[-1:]
    line = known(problem.size(columns))
    best: tuple[float, Tile] | None = None
    for vectors in (2, 4, 3, 1):
        if vectors > budget:
            continue
        panels = -(-results // (vectors * width))
        for places in range(min(budget // vectors, line), 0, -1):
            rest = line % places
            time = line // places * cycles(places, vectors)
            time += cycles(rest, vectors) if rest else 0
            # Panels of more vectors than the first-level cache likes.
            time *= panels * (1.02 if vectors > 2 else 1)
            if best is None or time < best[0] * 0.99:
                best = time, Tile(places, vectors, width)
    assert best is not None
    return best[1]


def cycles(places: int, vectors: int) -> float:
    """Of a step of the sums of a tile: two multiply-adds, or two loads, in each; chains of four."""
    return max(places * vectors, places + vectors, 8) / 2


def most_steps(steps: int, threads: int) -> int:
    """The steps of the thread that has most to do: threads get equal shares."""
    return -(-steps // threads)
