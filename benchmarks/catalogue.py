"""Every workload by name: those of the table, and the odd shapes around them."""

from __future__ import annotations

import functools

from benchmarks.workloads import every
from benchmarks.workloads.odd_shapes import shapes
from benchmarks.workloads.workload import Workload


@functools.cache
def _all() -> dict[str, Workload]:
    return {s.workload.name: s.workload for s in shapes()} | {w.name: w for w in every()}


def named(name: str) -> Workload:
    """The workload of a name. Raises KeyError where there is none."""
    return _all()[name]
