"""Every workload by name: those of the table, and the odd shapes around them."""

from __future__ import annotations

from benchmarks.workloads import every
from benchmarks.workloads.workload import Workload


def named(name: str) -> Workload:
    """The workload of a name. Raises KeyError where there is none."""
    return {w.name: w for w in every()}[name]
