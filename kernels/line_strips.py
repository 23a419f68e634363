"""Convolutions of few sums over long lines (beside the floors): the first layer of a network.

The first layer has three channels, so a result is a sum of 27 or 147 elements, and the results are
the largest of the network. Vectors across channels, as `direct_loops` has them, would have to be
turned in memory before they are stored, which takes as long as so short a sum. Here vectors run
along a line of the image, as they are stored, in the strips of `gemm_strips`: the first register
tile lays the windows of its places down in the first-level cache, the others read them there.

The constant weights lie with the results of a summed element side by side, as a tile reads them,
from compiling on. Each result is the chain that decision 0012 prescribes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from graphc.base.dtypes import float32
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.kernels.direct_problem import known, panels_of, with_panels
from graphc.kernels.gemm_blocks import one_line
from graphc.kernels.gemm_cpu import classified
from graphc.kernels.gemm_problem import Problem, count, up
from graphc.kernels.gemm_strips import StripLoops, Strips, strips_for
from graphc.loops.build import ZERO, iadd, imul
from graphc.loops.nodes import Expr, Var, load, size
from graphc.lower.contraction import ContractionPlan, is_dot, letters, steps_through_memory
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel, label_of
from graphc.lower.regions import Region
from graphc.schedule import policy_cpu as policy


@dataclass(frozen=True, slots=True)
class Lines:
    """What a convolution must be: places of a line at least, the part of their vectors that is
    filled, results of a place at least, summed elements at most, multiply-adds at least.

    More summed elements repay turning the results, and their windows would not stay in the
    first-level cache beside the weights. So do lines of which the last vector is mostly empty:
    3×3 with 16 channels on 55² takes 177 µs so, 150 by direct loops.
    """

    places: int = 48
    filled: float = 0.9
    results: int = 16
    summed: int = 160
    work: int = 1 << 20


@dataclass(frozen=True)
class LineTemplate:
    """Convolutions by constant weights in strips of lines; see the module. lines: what they must
    be.
    """

    lines: Lines = field(default_factory=Lines)
    name: str = "lines"

    def packed(self, node: Tensor, target: Target) -> Tensor | None:
        """A contraction with its weights as a tile reads them; None where it is not for this
        template.
        """
        problem = self._problem(node, target)
        return None if problem is None else with_panels(node, problem, _results(problem))

    def match(self, region: Region, target: Target) -> tuple[Region, Problem] | None:
        """The problem of a contraction region, with the region."""
        node = region.contraction
        problem = None if node is None else self._problem(node, target)
        if node is None or problem is None or panels_of(node.inputs[problem.row_operand]) is None:
            return None
        return region, problem

    def configs(self, problem: tuple[Region, Problem], target: Target) -> Iterable[Strips]:
        """Sizes for the machine."""
        region, found = problem
        assert region.contraction is not None, "matched"
        yield strips_for(found, region.contraction, target)

    def build(
        self, problem: tuple[Region, Problem], config: Strips, builder: KernelBuilder
    ) -> list[LoweredKernel]:
        """The kernel."""
        region, found = problem
        loops = LineLoops(ContractionPlan.of(region, builder), found, config)
        return [builder.kernel(loops.body(), loops.plan.work)]

    def _problem(self, node: Tensor, target: Target) -> Problem | None:
        """The product with one letter of columns, where the sizes are those of `lines`; the letters
        before it are outer ones.
        """
        if target.kind != "cpu" or node.dtype is not float32 or is_dot(node):
            return None
        problem = classified(node)
        if problem is None or len(problem.rows) != 1 or one_line(problem, node):
            return None
        *before, last = problem.columns
        sizes = (problem.sizes[last], problem.size(problem.rows), problem.size(problem.summed))
        if not all(isinstance(size, int) for size in sizes):
            return None
        places, results, summed = map(known, sizes)
        others = problem.size([*problem.outer, *before])
        work = places * results * summed * (others if isinstance(others, int) else 1)
        filled = places / up(places, policy.VECTOR_BYTES // node.dtype.itemsize)
        lines = self.lines
        if places < lines.places or filled < lines.filled or work < lines.work:
            return None
        if results < lines.results or summed > lines.summed:
            return None
        if problem.leading or count(summed, problem.depth) != 1:
            return None
        number = 1 - problem.row_operand
        axis = letters(node)[number].index(last)
        if not steps_through_memory(node.inputs[number], axis, 4):
            return None
        if set(problem.outer).intersection(letters(node)[problem.row_operand]):
            return None
        return replace(problem, outer=[*problem.outer, *before], columns=[last])


def _results(problem: Problem) -> int:
    return known(problem.size(problem.rows))


class LineLoops(StripLoops):
    """The loops of one product: the summed letters are a loop each for the tile that reads windows,
    whose elements would be found by divisions otherwise, and one for the others.
    """

    def __init__(self, plan: ContractionPlan, problem: Problem, strips: Strips) -> None:
        super().__init__(plan, problem, strips)
        weights = panels_of(plan.node.inputs[problem.row_operand])
        assert weights is not None, "matched"
        shape = (problem.size(problem.summed), _results(problem))
        self.weights = plan.builder.buffer(weights, shape, label_of(weights))
        self.window: dict[str, Expr] = {}

    def _turns(self, block: Expr, reads: bool) -> tuple[list[tuple[Var, Expr]], Expr]:
        if not reads:
            return super()._turns(block, reads)
        loops: list[tuple[Var, Expr]] = []
        k: Expr = ZERO
        for c in self.problem.inner:
            variable, turns = self.builder.variable("k"), size(self.problem.sizes[c])
            loops.append((variable, turns))
            self.window[c] = variable
            k = iadd(imul(k, turns), variable)
        return loops, k

    def _row_value(self, row: Expr, k: Expr) -> Expr:
        return load(self.weights, (k, row))

    def _column_value(self, column: Expr, k: Expr) -> Expr:
        place = {**self.at, **self.window, self.problem.columns[0]: iadd(self.start, column)}
        return self.right.value(place, [])
