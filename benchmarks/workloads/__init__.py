"""The workloads of the table against peers, by family."""

from __future__ import annotations

from types import ModuleType

from benchmarks.workloads import (
    calls,
    convolution,
    elementwise,
    light_networks,
    networks,
    products,
    recurrent,
    reductions,
    transformer,
)
from benchmarks.workloads.workload import Workload

FAMILIES: tuple[ModuleType, ...] = (
    elementwise,
    reductions,
    products,
    networks,
    calls,
    convolution,
    recurrent,
    transformer,
    light_networks,
)


def every(*, tiny: bool = False) -> list[Workload]:
    """All workloads in the order of the table, or their tiny forms."""
    return [w for family in FAMILIES for w in family.workloads(tiny=tiny)]
