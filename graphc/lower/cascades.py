"""Cascades (floor 5): products and rows that need only a block of rows of each other at a time.

Where a product's rows go through reductions and elementwise work of each row into another product,
as the scores of attention do, each row of the last result needs one row of what lies between.  A
step computes a block of rows of the first product, then of the rows, then of the last product, and
holds what lies between in scratch memory of its core: no matrix of all rows exists.  Each stage
computes its elements as its own kernel would, so the bits are the same (decision 0037).

Here regions are found that may be stages, by who reads whom; a template says which of them it
takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from graphc.base.dims import bounds, product
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.lower.edges import effective
from graphc.lower.elements import storage_root
from graphc.lower.narrow import is_narrow
from graphc.lower.regions import Partitioner, Region
from graphc.lower.template import KernelTemplate


@runtime_checkable
class CascadeTemplate(Protocol):
    """A template whose kernels go through several regions by blocks of rows."""

    @property
    def least(self) -> int:
        """Bytes of what lies between, from which it is asked."""

    def takes(self, stages: Sequence[Region], target: Target) -> bool:
        """Whether it makes one kernel of these regions, each of which reads the one before."""


def find_cascades(
    regions: list[Region],
    partitioner: Partitioner,
    templates: Sequence[KernelTemplate],
    target: Target,
) -> list[Region]:
    """The regions in order, those of a cascade as one where the last of them was."""
    asked = [t for t in templates if isinstance(t, CascadeTemplate)]
    least = min((t.least for t in asked), default=0)
    large = [r for r in regions if r.kind == "contraction" and _is_large(r, least)]
    if not asked or not large:
        return regions
    readers = _readers(regions, partitioner)
    merged: dict[int, Region] = {}  # by number of the last stage
    taken: set[int] = set()
    for first in large:
        stages = _stages(first, partitioner, readers)
        if not stages or any(s.number in taken for s in stages):
            continue
        if any(template.takes(stages, target) for template in asked):
            merged[stages[-1].number] = _joined(stages)
            taken.update(s.number for s in stages[:-1])
            taken.add(stages[-1].number)
    if not merged:
        return regions
    kept = [r for r in regions if r.number not in taken or r.number in merged]
    return [merged.get(r.number, r) for r in kept]


def _is_large(region: Region, least: int) -> bool:
    """Whether the one result of a region has so many bytes. A size that is not known counts as the
    least it can be, but the product of two of them, such as the scores of a sequence, as large.
    """
    if len(region.outputs) != 1:
        return False
    (output,) = region.outputs
    limits = [bounds(s) for s in output.shape]
    if sum(high is None for _, high in limits) > 1:
        return True
    known = product(max(1, low or 0) if high is None else high for low, high in limits)
    return known * output.dtype.itemsize >= least


def _readers(regions: list[Region], partitioner: Partitioner) -> dict[int, list[Region]]:
    """The regions that read each node, by its id."""
    found: dict[int, dict[int, Region]] = {}
    for region in regions:
        for node in region.nodes:
            for edge in partitioner.edges[id(node)]:
                if partitioner.home.get(id(edge.producer)) is not region:
                    found.setdefault(id(edge.producer), {})[region.number] = region
    return {key: list(by_number.values()) for key, by_number in found.items()}


def _stages(
    first: Region, partitioner: Partitioner, readers: dict[int, list[Region]]
) -> tuple[Region, ...]:
    """The regions from a product to the next one that reads what becomes of it, each with one
    result that the next one alone reads; empty where there are none.
    """
    stages = [first]
    while True:
        (result,) = stages[-1].outputs
        users = readers.get(id(result), [])
        if len(users) != 1 or id(result) in partitioner.stored:
            return ()
        (user,) = users
        phases = partitioner.phases
        if phases.of(user.nodes[0]) != phases.of(first.nodes[0]):
            return ()
        stages.append(user)
        if user.kind == "contraction" and user.contraction is not None and not user.in_parts:
            return tuple(stages)
        if len(stages) > 2 or not _passes_rows_on(user, result, partitioner):
            return ()


def _passes_rows_on(region: Region, operand: Tensor, partitioner: Partitioner) -> bool:
    """Whether a region reads `operand` at its own elements, row by row: nothing is read any more
    once a result is written in its place.
    """
    if region.kind != "row" or not region.rows or len(region.outputs) != 1 or is_narrow(region):
        return False
    rows = region.rows
    if effective(operand.shape)[:rows] != region.domain[:rows]:
        return False
    for node in region.nodes:
        for edge in partitioner.edges[id(node)]:
            near = min(edge.depth, partitioner.align[id(node)])
            if edge.producer is operand and (near < rows or not edge.exact):
                return False
    return True


def _joined(stages: tuple[Region, ...]) -> Region:
    last = stages[-1]
    found = Region(last.number, "cascade", last.domain, stages=stages)
    for stage in stages:
        found.nodes += stage.nodes
        found.reasons += stage.reasons
    found.outputs = list(last.outputs)
    between = ", ".join(str(s.outputs[0].type) for s in stages[:-1])
    found.reasons.append(f"{len(stages)} regions go by blocks of rows: {between} are not stored")
    return found


def rows_operand(stage: Region, before: Region) -> int | None:
    """Which operand of a stage's contraction is the result of the stage before, in its own shape;
    None where it is read through views, or twice.
    """
    node = stage.contraction
    (result,) = before.outputs
    if node is None:
        return None
    found = [k for k, operand in enumerate(node.inputs) if storage_root(operand) is result]
    return found[0] if len(found) == 1 and node.inputs[found[0]] is result else None
