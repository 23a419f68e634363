"""Cascades (floor 5): products and rows that need only a block of rows of each other at a time.

Where a product's rows go through reductions and elementwise work of each row into another product,
as the scores of attention do, each row of the last result needs one row of what lies between.  A
step computes a block of rows of the first product, then of the rows, then of the last product, and
holds what lies between in scratch memory of its core: no matrix of all rows exists.  Where the last
product sums over the rows, as gradients of keys do, it takes in one block after another.  Each
stage computes its elements as its own kernel would, so the bits are the same (decision 0041).

What lies between may be read by several products, some of which wait for the result of others:
gradients wait for what is done with the result.  Then there are several cascades, and each computes
for itself what lies between.

Here regions are found that may be stages, by who reads whom; a template says which of them it
takes.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from graphc.base.dims import bounds, product
from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.lower.edges import Edge, effective
from graphc.lower.narrow import is_narrow
from graphc.lower.regions import Partitioner, Region
from graphc.lower.template import KernelTemplate

# How often clusters are looked for, each time without the smallest product of those that fail.
ROUNDS = 4


@runtime_checkable
class CascadeTemplate(Protocol):
    """A template whose kernels go through several regions by blocks of rows."""

    @property
    def least(self) -> int:
        """Bytes of what lies between, from which it is asked."""

    def takes(self, between: Sequence[Region], ends: Sequence[Region], target: Target) -> bool:
        """Whether it makes one kernel of these regions in order: those whose results lie between,
        and the products at the end.
        """

    def recomputes(self, between: Sequence[Region]) -> bool:
        """Whether it is worth while to compute again what lies between, rather than store it."""


def find_cascades(
    regions: list[Region],
    partitioner: Partitioner,
    templates: Sequence[KernelTemplate],
    target: Target,
) -> list[Region]:
    """The regions in order, those of a cascade as one."""
    asked = [t for t in templates if isinstance(t, CascadeTemplate)]
    least = min((t.least for t in asked), default=0)
    if not asked or not any(r.kind == "contraction" and _is_large(r, least) for r in regions):
        return regions
    graph = _RegionGraph(regions, partitioner)
    merged: list[Region] = []
    for cluster in _clusters(graph, least):
        groups = graph.groups(cluster)
        for template in asked:
            again = len(groups) > 1 and not template.recomputes(cluster.between)
            if not again and all(template.takes(*group, target) for group in groups):
                merged += [_joined(*group) for group in groups]
                break
    return graph.in_order(merged) if merged else regions


def _is_large(region: Region, least: int) -> bool:
    """Whether the one result of a region has so many bytes. A size that is not known counts as the
    least it can be, but the product of two of them, such as the scores of a sequence, as large.
    """
    if len(region.outputs) != 1:
        return False
    unknown, known = _bytes(region.outputs[0])
    return unknown > 1 or known >= least


def _bytes(output: Tensor) -> tuple[int, int]:
    """How many sizes are not known, and the bytes with the least that these can be."""
    limits = [bounds(s) for s in output.shape]
    known = product(max(1, low or 0) if high is None else high for low, high in limits)
    assert isinstance(known, int), "bounds are numbers"
    return sum(high is None for _, high in limits), known * output.dtype.itemsize


@dataclass
class _Cluster:
    """Regions whose results lie between, and the products that read them, in order."""

    between: list[Region] = field(default_factory=list)
    ends: list[Region] = field(default_factory=list)


Group = tuple[list[Region], list[Region]]  # what lies between, products at the end


class _RegionGraph:
    """Who reads whom."""

    def __init__(self, regions: list[Region], partitioner: Partitioner) -> None:
        self.regions = regions
        self.partitioner = partitioner
        self.reads: dict[int, dict[int, Region]] = {}  # by number: what a region reads
        self.readers: dict[int, dict[int, Region]] = {r.number: {} for r in regions}
        for region in regions:
            found = self.reads[region.number] = {}
            inside = set(map(id, region.nodes))
            for node in region.nodes:
                for edge in partitioner.edges[id(node)]:
                    producer = partitioner.home.get(id(edge.producer))
                    if producer is not None and id(edge.producer) not in inside:
                        found[producer.number] = producer
                        self.readers[producer.number][region.number] = region

    def may_lie_between(self, region: Region) -> bool:
        """Whether the results of a region need not be stored, if their readers allow it."""
        return all(id(t) not in self.partitioner.stored for t in region.outputs)

    def passes_rows_on(self, region: Region, operand: Tensor) -> bool:
        """Whether a region reads `operand` at its own elements, row by row: nothing is read any
        more once a result is written in its place.
        """
        if region.kind != "row" or not region.rows or is_narrow(region):
            return False
        rows = region.rows
        if effective(operand.shape)[:rows] != region.domain[:rows]:
            return False

        def is_own(node: Tensor, edge: Edge) -> bool:
            return edge.exact and min(edge.depth, self.partitioner.align[id(node)]) >= rows

        edges = ((n, e) for n in region.nodes for e in self.partitioner.edges[id(n)])
        return all(is_own(node, edge) for node, edge in edges if edge.producer is operand)

    def groups(self, cluster: _Cluster) -> list[Group]:
        """The ends by how many others they wait for one after another, each with what lies between
        that it needs.
        """
        ends = {r.number for r in cluster.ends}
        between = {r.number: r for r in cluster.between}
        depth: dict[int, int] = {}
        for region in self.regions:
            waits = [depth[n] + (n in ends) for n in self.reads[region.number]]
            depth[region.number] = max(waits, default=0)
        found = []
        for level in sorted({depth[n] for n in ends}):
            own = [r for r in cluster.ends if depth[r.number] == level]
            needed: set[int] = set()
            stack = list(own)
            while stack:
                for number in self.reads[stack.pop().number]:
                    if number in between and number not in needed:
                        needed.add(number)
                        stack.append(between[number])
            found.append(([r for r in cluster.between if r.number in needed], own))
        return found

    def in_order(self, merged: list[Region]) -> list[Region]:
        """All regions, stages as parts of theirs, producers first, otherwise as they were."""
        own: dict[int, list[Region]] = {}  # what each region is part of, by number
        for region in merged:
            for stage in region.stages:
                own.setdefault(stage.number, []).append(region)
        place = {r.number: k for k, r in enumerate(self.regions)}
        every = [r for r in self.regions if r.number not in own] + merged
        key = {id(r): max(place[s.number] for s in r.stages or (r,)) for r in every}
        waiting: dict[int, int] = {}
        users: dict[int, list[Region]] = {}
        for region in every:
            stages = region.stages or (region,)
            inside = {s.number for s in stages}
            sources: dict[int, Region] = {}
            for stage in stages:
                for number, producer in self.reads[stage.number].items():
                    if number not in inside:
                        # What lies between is read inside alone; an end is part of one region.
                        source = own[number][0] if number in own else producer
                        sources[id(source)] = source
            waiting[id(region)] = len(sources)
            for source in sources.values():
                users.setdefault(id(source), []).append(region)
        ready = [(key[id(r)], k, r) for k, r in enumerate(every) if not waiting[id(r)]]
        heapq.heapify(ready)
        numbers = {id(r): k for k, r in enumerate(every)}
        result: list[Region] = []
        while ready:
            region = heapq.heappop(ready)[2]
            result.append(region)
            for user in users.get(id(region), ()):
                waiting[id(user)] -= 1
                if not waiting[id(user)]:
                    heapq.heappush(ready, (key[id(user)], numbers[id(user)], user))
        assert len(result) == len(every), "cascades wait for each other"
        return result


def _clusters(graph: _RegionGraph, least: int) -> list[_Cluster]:
    """Sets of regions that hang together and of which no result that lies between is read by
    anything else."""
    starting = {
        r.number: r
        for r in graph.regions
        if r.kind == "contraction" and _is_large(r, least) and graph.may_lie_between(r)
    }
    # Queries and values are products themselves: what is larger is worth more.
    for region in list(starting.values()):
        for number in graph.reads[region.number]:
            other = starting.get(number)
            if other is not None and _bytes(other.outputs[0]) < _bytes(region.outputs[0]):
                del starting[number]
    for _ in range(ROUNDS):
        found = _hanging_together(graph, starting)
        sound = [c for c in found if _is_sound(c, graph)]
        if len(sound) == len(found):
            break
        for cluster in found:
            if all(cluster is not c for c in sound):
                starts = [r for r in cluster.between if r.number in starting]
                del starting[min(starts, key=lambda r: _bytes(r.outputs[0])).number]
    return sound


def _hanging_together(graph: _RegionGraph, starting: Mapping[int, Region]) -> list[_Cluster]:
    """Clusters, sound or not, that begin with products by number."""
    between: dict[int, Region] = {}
    parent: dict[int, int] = {}  # by number of a region: another one of its cluster, or itself

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    for region in graph.regions:
        reads = [n for n in graph.reads[region.number] if n in between]
        if region.kind == "contraction" and not reads:
            starts = region.number in starting
        else:
            starts = bool(reads) and graph.may_lie_between(region)
            starts = starts and all(
                graph.passes_rows_on(region, t) for n in reads for t in between[n].outputs
            )
        if starts:
            between[region.number] = region
        if starts or reads:
            parent[region.number] = region.number
            for number in reads:
                parent[root(number)] = region.number
    found: dict[int, _Cluster] = {}
    for region in graph.regions:
        if region.number in parent:
            own = found.setdefault(root(region.number), _Cluster())
            (own.between if region.number in between else own.ends).append(region)
    return list(found.values())


def _is_sound(cluster: _Cluster, graph: _RegionGraph) -> bool:
    results = {id(t) for r in cluster.between for t in r.outputs}
    if not cluster.ends or not all(_reads_one(r, results, graph) for r in cluster.ends):
        return False
    phases = graph.partitioner.phases
    if len({phases.of(r.nodes[0]) for r in (*cluster.between, *cluster.ends)}) > 1:
        return False
    return all(graph.readers[r.number] for r in cluster.between)


def _reads_one(region: Region, results: set[int], graph: _RegionGraph) -> bool:
    """Whether a region is a product of which one operand is among `results`, as it is, and that
    reads none of them anywhere else.
    """
    node = region.contraction
    if region.kind != "contraction" or node is None or region.in_parts:
        return False
    edges = graph.partitioner.edges
    reads = [e.producer for n in region.nodes for e in edges[id(n)] if id(e.producer) in results]
    return len(reads) == 1 and any(reads[0] is operand for operand in node.inputs)


def _joined(between: list[Region], ends: list[Region]) -> Region:
    last = ends[-1]
    found = Region(last.number, "cascade", last.domain, stages=(*between, *ends))
    for stage in found.stages:
        found.nodes += stage.nodes
        found.reasons += stage.reasons
    for end in ends:
        found.outputs += end.outputs
    types = ", ".join(str(t.type) for s in between for t in s.outputs)
    found.reasons.append(f"{len(found.stages)} regions go by blocks of rows: {types} not stored")
    return found
