"""Bands (floor 5): a convolution whose results only a pool reads, a few lines of them at a time.

The first layer of a network has its largest results, which the pool behind it reads once and leaves
a quarter of. A step computes the lines of the convolution that a few lines of the pool need, in
scratch memory of its core, then these lines of the pool. Lines that two steps need are computed by
both. Each stage computes its elements as its own kernel would, so the bits are the same (decision
0048).

Here such pairs of regions are found by who reads whom; a template says which of them it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.lower.columns import goes_by_rows
from graphc.lower.regions import Partitioner, Region
from graphc.lower.template import KernelTemplate
from graphc.ops.families import Reduction


@runtime_checkable
class BandTemplate(Protocol):
    """A template whose kernels go through a convolution and a pool by bands of lines."""

    def takes_pool(self, first: Region, pool: Region, target: Target) -> bool:
        """Whether it makes one kernel of a contraction and the region that reads windows of it."""


def find_bands(
    regions: list[Region],
    partitioner: Partitioner,
    templates: Sequence[KernelTemplate],
    target: Target,
) -> list[Region]:
    """The regions in order, those that go by bands as one, in the place of the pool."""
    asked = [t for t in templates if isinstance(t, BandTemplate)]
    pools = [r for r in regions if asked and r.kind == "column" and windows_read(r) is not None]
    merged: dict[int, Region] = {}  # by number of the pool
    gone: set[int] = set()
    for pool in pools:
        first = _producer(pool, partitioner)
        if first is not None and any(t.takes_pool(first, pool, target) for t in asked):
            merged[pool.number] = _joined(first, pool)
            gone.add(first.number)
    if not merged:
        return regions
    return [merged.get(r.number, r) for r in regions if r.number not in gone]


def windows_read(pool: Region) -> Tensor | None:
    """The windows that the only reduction of a region reads as they are and reduces to one result
    each, its other axes in order.
    """
    reductions = [n for n in pool.nodes if isinstance(n.op.form, Reduction)]
    if len(reductions) != 1 or not goes_by_rows(pool):
        return None
    (node,) = reductions[0].inputs
    kept = [a for a in range(node.ndim) if a not in reductions[0].attr("axes")]
    while node.op.name == "permute_dims":
        kept = [node.attr("axes")[a] for a in kept]
        node = node.inputs[0]
    if node.op.name != "windows" or kept != list(range(node.inputs[0].ndim)):
        return None
    return node


def _producer(pool: Region, partitioner: Partitioner) -> Region | None:
    """The contraction whose windows a pool reads, where nothing else needs its results."""
    windows = windows_read(pool)
    assert windows is not None, "asked before"
    (read,) = windows.inputs
    first = partitioner.home.get(id(read))
    if first is None or first.kind != "contraction" or first.in_parts or first.stages:
        return None
    if len(first.outputs) != 1 or first.outputs[0] is not read or id(read) in partitioner.stored:
        return None
    if partitioner.phases.of(read) != partitioner.phases.of(pool.nodes[0]):
        return None
    readers = [
        n for n, edges in partitioner.edges.items() if any(e.producer is read for e in edges)
    ]
    (reduction,) = [n for n in pool.nodes if isinstance(n.op.form, Reduction)]
    inside = {id(n) for n in first.nodes}
    return first if [n for n in readers if n not in inside] == [id(reduction)] else None


def _joined(first: Region, pool: Region) -> Region:
    found = Region(pool.number, "bands", pool.domain, pool.rows, stages=(first, pool))
    for stage in found.stages:
        found.nodes += stage.nodes
        found.reasons += stage.reasons
    found.outputs += pool.outputs
    found.reasons.append(f"goes by bands of lines: {first.outputs[0].type} not stored")
    return found
