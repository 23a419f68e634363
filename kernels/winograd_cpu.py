"""Convolutions by Winograd's F(2 x 2, 3 x 3) for CPUs (beside the floors).

The op `winograd_convolution` (`ops/winograd`) says that a convolution is computed so; here it gets
its loops. A step transforms the tiles of a few rows of an image for a block of channels, multiplies
them by the weights of a group of results, and transforms these back on their way out, all in the
second-level cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphc.base.target import Target
from graphc.kernels.winograd_across import across_product
from graphc.kernels.winograd_loops import winograd_product
from graphc.kernels.winograd_problem import Blocks, Winograd, blocks_of, found_winograd
from graphc.lower.contraction import ContractionPlan
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel
from graphc.lower.regions import Region
from graphc.ops.winograd import ACROSS, WINOGRAD


@dataclass(frozen=True)
class WinogradTemplate:
    """Regions of a `winograd_convolution`; see the module. blocks: instead of those for the machine
    (tests).
    """

    blocks: Blocks | None = None
    name: str = "winograd"

    def match(self, region: Region, target: Target) -> tuple[Region, Winograd] | None:
        """The problem of a region of the op, with the region."""
        node = region.contraction
        if node is None or node.op is not WINOGRAD or target.kind != "cpu":
            return None
        found = found_winograd(node)
        return None if found is None else (region, found)

    def configs(self, problem: tuple[Region, Winograd], target: Target) -> Iterable[Blocks]:
        """The blocks for the machine."""
        yield self.blocks or blocks_of(problem[1], target)

    def build(
        self, problem: tuple[Region, Winograd], config: Blocks, builder: KernelBuilder
    ) -> list[LoweredKernel]:
        """The kernel."""
        region, found = problem
        if found.panel == ACROSS:
            return across_product(ContractionPlan.of(region, builder), found, config)
        return [winograd_product(ContractionPlan.of(region, builder), found, config)]
