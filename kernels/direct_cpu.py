"""Products with constant weights for CPUs (beside the floors): convolutions and layers of a network
that runs, without a copy of their windows.

The weights are panels in memory from compiling on (`direct_problem.in_panels`), vectors run across
the results of a place, and elements are read where they lie. Each result is the chain that decision
0012 prescribes, over the same values, so the bits are those of the generic lowering.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.kernels.direct_loops import direct_product
from graphc.kernels.direct_problem import Direct, Least, found_direct, in_panels
from graphc.lower.contraction import ContractionPlan
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel
from graphc.lower.regions import Region


@dataclass(frozen=True)
class DirectTemplate:
    """Contractions by constant weights; see the module. least: below, it does not pay."""

    least: Least = field(default_factory=Least)
    name: str = "direct"

    def packed(self, node: Tensor, target: Target) -> Tensor | None:
        """A contraction with its weights in panels, None where this template is not for it."""
        return in_panels(node, target, self.least)

    def match(self, region: Region, target: Target) -> tuple[Region, Direct] | None:
        """The direct form of a region of one contraction."""
        node = region.contraction
        direct = None if node is None else found_direct(node, target, self.least)
        return None if direct is None else (region, direct)

    def configs(self, problem: tuple[Region, Direct], target: Target) -> Iterable[Direct]:
        """The one tile for the machine."""
        yield problem[1]

    def build(
        self, problem: tuple[Region, Direct], config: Direct, builder: KernelBuilder
    ) -> list[LoweredKernel]:
        """The kernel."""
        return [direct_product(ContractionPlan.of(problem[0], builder), config)]
