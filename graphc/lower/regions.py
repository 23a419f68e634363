"""Regions (floor 5): which nodes become one kernel.

One pass over the nodes, users before producers. A node joins the region of its users when each of
them reads it at their own element or row (an exact edge), so nothing is computed twice and nothing
is stored in between. A node that other regions read as well (or that is an output) joins one of
them as a further output of that region when no path leaves and re-enters it. Everything else starts
a region of its own, but for cheap ones that each of their regions computes (see `again`). Linear in
nodes and edges.

Kinds of region:
- map: every node has the region's domain (or a row prefix of it); any loop order.
- row: reductions over the inner dims of each row, elementwise work before, between and after them.
- column: reductions whose innermost operand dim is kept: vectors run across results.
- contraction: one einsum with elementwise work on its result, or on several parts of it.
- opaque: one op that writes its own loops.
- joined: a concatenation that is written part by part (see `joins`); nothing joins it.
- cascade: regions one after another, by blocks of rows (see `cascades`).
- bands: a convolution and the pool that alone reads it, by bands of lines (see `bands`).
- control: the results of a call, branch or loop, or of calls in a row: not a kernel but a step that
  runs bodies.

Legality is decided on the region graph with `reach` (regions reachable downstream, as bit sets).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from graphc.base.dims import Shape, product
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor
from graphc.lower.again import computed_again
from graphc.lower.dynamic import Phases
from graphc.lower.edges import (
    MAX_VIEW_DEPTH,
    Edge,
    EdgeFinder,
    effective,
    is_view,
    is_view_form,
    view_depth,
)
from graphc.lower.elements import storage_root, storage_roots
from graphc.lower.joins import Joins
from graphc.lower.panel_layout import alike, has_parts
from graphc.lower.run_order import Task, run_order
from graphc.ops.families import (
    Constant,
    Contraction,
    Control,
    Elementwise,
    Item,
    Map,
    Opaque,
    Reduction,
    Source,
)

MAX_OPS = 256  # nodes per region: bounds code size and register pressure
MAX_OUTPUTS = 16
MANY_CALLS = 32  # of one body; fewer cost little, and one by one need less memory
SMALL = 4096  # elements below which a whole tensor may be one row


@dataclass(eq=False, slots=True)
class Region:
    """Nodes of one kernel, in topological order once `partition` returns.

    domain: the effective shape that its results have; rows: how many leading dims of it are rows
    (None: no reductions). outputs: nodes that are written to memory. reasons: why nodes joined or
    not, in words. in_parts: the results read parts of the contraction, which is larger than the
    domain. stages: the regions of a cascade or of bands.
    """

    number: int
    kind: str
    domain: Shape
    rows: int | None = None
    nodes: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    reach: int = 0
    has_producers: bool = False
    in_parts: bool = False
    stages: tuple[Region, ...] = ()

    @property
    def name(self) -> str:
        """`softmax_3`-like label: the kind and the ops' names, shortened."""
        if self.kind == "control":
            return self.nodes[0].inputs[0].op.name
        seen = dict.fromkeys(n.op.name for n in self.nodes)
        return "_".join(list(seen)[-3:]) or self.kind

    @property
    def contraction(self) -> Tensor | None:
        """The contraction among the nodes, None where there is not exactly one."""
        found = [n for n in self.nodes if isinstance(n.op.form, Contraction)]
        return found[0] if len(found) == 1 else None


class _Use(NamedTuple):
    region: Region
    reader: Tensor
    edge: Edge
    align: int  # how many leading dims of the reader are the region's rows or domain


_SOURCES = (Source, Constant)
_APART = (*_SOURCES, Control, Item)  # forms of nodes that no kernel computes


def is_source(node: Tensor) -> bool:
    """Whether nothing computes a node."""
    return not node.inputs and isinstance(node.op.form, _SOURCES)


class Partitioner:
    """State of one partition."""

    def __init__(
        self,
        graph: Graph,
        forced: list[Tensor],
        roots: list[Tensor],
        phases: Phases,
        joins: Joins,
        max_ops: int = MAX_OPS,
        *,
        merges_calls: bool = True,
    ) -> None:
        self.graph = graph
        self.joins = joins
        self.phases = phases
        self.max_ops = max_ops
        self.roots = set(map(id, roots))
        self.stored: set[int] = {*map(id, forced), *self.roots, *joins.nodes}
        self.again = computed_again(graph)
        self.called_often = _called_often(graph) if merges_calls else frozenset()
        self.regions: list[Region] = []
        self.home: dict[int, Region] = {}  # of a node in several regions: one of them
        self.align: dict[int, int] = {}
        self.uses: dict[int, list[_Use]] = {}
        self.finder = EdgeFinder(self.is_producer)
        self.edges: dict[int, list[Edge]] = {}  # by id of the node that reads
        self.cut: set[int] = set()
        self.views = {op for op in graph.ops if is_view_form(op.form)}
        self._cut_view_chains()

    def is_producer(self, node: Tensor) -> bool:
        """Whether reads of `node` go to memory or a computed value (not through it as a view)."""
        if is_view(node):
            return id(node) in self.cut or (id(node) in self.stored and storage_root(node) is node)
        return True

    def _cut_view_chains(self) -> None:
        depths: dict[int, int] = {}
        for node in self.graph.nodes if self.views else ():
            if node.op in self.views and isinstance(node, Tensor):
                depth = view_depth(node, depths, self.is_producer)
                if depth > MAX_VIEW_DEPTH and storage_root(node) is node:
                    self.cut.add(id(node))
                    depth = 0
                depths[id(node)] = depth

    def run(self) -> list[Region]:
        results: dict[int, list[Tensor]] = {}  # of nodes that run bodies, by id
        # By op: a thousand layers have few ops.
        forms = {
            op: next((f for f in _APART if isinstance(op.form, f)), None) for op in self.graph.ops
        }
        for node in reversed(self.graph.nodes):
            form = forms[node.op]
            if form is Control:
                self._control(node, results.pop(id(node)))
            elif form is Item and isinstance(node, Tensor):
                results.setdefault(id(node.inputs[0]), []).append(node)
            if form is not None or not isinstance(node, Tensor):
                continue
            if node.op in self.views and not self.is_producer(node):
                continue
            uses = self.uses.pop(id(node), [])
            if not uses and id(node) not in self.stored:
                continue  # only views of it were declared and none is used
            self._place(node, uses)
        for region in self.regions:
            region.nodes.reverse()
        order = run_order(self._tasks(), self._sizes())
        found = [self.regions[k] for k in order]
        return sorted(found, key=lambda region: self.phases.of(region.nodes[0]))

    def _tasks(self) -> list[Task]:
        """The regions as tasks that read and write nodes.

        A region that reads through a `barrier` waits for what the barrier waits for, as long as
        anything else can run: fusion may have tied both together, and this order only saves memory.
        """
        barriers = any(op.name == "barrier" for op in self.graph.ops)
        tasks = []
        for region in self.regions:
            task = Task()
            # All results of a control region read the same operands.
            for node in region.nodes[:1] if region.kind == "control" else region.nodes:
                read = [id(e.producer) for e in self.edges[id(node)]]
                task.reads.update(p for p in read if self.home.get(p, region) is not region)
                if barriers:
                    task.later.update(_awaited(node, self.is_producer))
            task.writes = [id(n) for n in region.outputs]
            tasks.append(task)
        return tasks

    def _sizes(self) -> dict[int, int]:
        """Bytes of the values that are stored but do not leave the program."""
        stored = (node for region in self.regions for node in region.outputs)
        return {id(n): _estimated_bytes(n) for n in stored if id(n) not in self.roots}

    # -- one node ---------------------------------------------------------------------------------
    def _place(self, node: Tensor, uses: list[_Use]) -> None:
        users = {u.region.number: u.region for u in uses}
        if self._joins_all(node, uses):
            for target in users.values():
                self._join(node, target, [u for u in uses if u.region is target], [], False)
            return
        stored = id(node) in self.stored
        joined = id(node) in self.joins.nodes
        for number in () if joined else sorted(users, reverse=True)[:4]:
            target = users[number]
            others = [r for n, r in users.items() if n != number]
            mine = [u for u in uses if u.region is target]
            reason = self._refusal(node, target, mine, others, stored or bool(others))
            if reason is None:
                self._join(node, target, mine, others, stored or bool(others))
                return
            if target.kind != "control":  # nothing ever joins it
                target.reasons.append(f"{node.op.name} is kept out: {reason}")
        self._start(node, list(users.values()))

    def _joins_all(self, node: Tensor, uses: list[_Use]) -> bool:
        """Whether each region that reads the node may compute it by itself."""
        if id(node) not in self.again or id(node) in self.stored:
            return False
        targets = {u.region.number: u.region for u in uses}.values()
        return len(targets) > 1 and not any(
            self._refusal(node, t, [u for u in uses if u.region is t], [], False) for t in targets
        )

    def _control(self, node: Node, results: list[Tensor]) -> None:
        """A region of its own for the results of a node, or that of the call after it; they come
        before it in this order.
        """
        region = self._next_call(node, results)
        if region is None:
            region = Region(len(self.regions), "control", ())
            self.regions.append(region)
            for result in results:
                users = [u.region for u in self.uses.pop(id(result), ())]
                self._add(result, region, 0, users, True)
        else:
            (result,) = results
            del self.uses[id(result)]
            self.home[id(result)] = region
            region.nodes.append(result)
        # All results read the operands of the node.
        read = [Edge(i, 0, False) for i in storage_roots(node.inputs) if not is_source(i)]
        for edge in read:
            self.uses.setdefault(id(edge.producer), []).append(_Use(region, results[0], edge, 0))
        for result in results:
            self.edges[id(result)] = read

    def _next_call(self, node: Node, results: list[Tensor]) -> Region | None:
        """The region of the call, among many of one body, that alone reads the only result of
        `node`, a call of the same body, and otherwise nothing that is computed.
        """
        if id(node.attrs[0]) not in self.called_often or len(results) != 1:
            return None
        (result,) = results
        uses = self.uses.get(id(result), ())
        if len(uses) != 1 or id(result) in self.roots:
            return None
        region, reader = uses[0].region, uses[0].reader
        if region.nodes[-1] is not reader or region.kind != "control":
            return None
        call = reader.inputs[0]
        body, number = node.attrs[0], result.attrs[0]
        if call.attrs[0] is not body or reader.attrs[0] != number or reader.type is not result.type:
            return None
        if len(region.nodes) > 1 and region.nodes[-2].inputs[0] is call:  # it has more results
            return None
        if self.phases.of(reader) != self.phases.of(result):
            return None
        others = [i for i in call.inputs if i is not result]
        alone = len(others) < len(call.inputs) and all(map(is_source, others))
        return region if alone else None

    def _start(self, node: Tensor, users: list[Region]) -> None:
        form = node.op.form
        region = Region(len(self.regions), "map", effective(node.shape))
        self.regions.append(region)
        if isinstance(form, Contraction):
            region.kind = "contraction"
        elif isinstance(form, Opaque):
            region.kind = "opaque"
        elif isinstance(form, Reduction):
            region.kind, region.rows = _reduction_style(node), len(region.domain)
        elif id(node) in self.joins.nodes:
            region.kind = "joined"
        self._add(node, region, len(region.domain), users, True)
        self._register_edges(node, region, len(region.domain))

    def _join(
        self, node: Tensor, target: Region, uses: list[_Use], others: list[Region], store: bool
    ) -> None:
        align = min(min(u.edge.depth, u.align) for u in uses)
        form = node.op.form
        if isinstance(form, Reduction):
            target.kind, target.rows = _reduction_style(node), len(effective(node.shape))
        elif isinstance(form, Contraction):
            target.kind = "contraction"
            target.in_parts = effective(node.shape) != target.domain
        if store:
            shape = effective(node.shape)
            if len(shape) > len(target.domain):
                target.domain = shape
            elif len(shape) < len(target.domain) and target.rows is None:
                target.rows = len(shape)
        target.reasons.append(
            f"{node.op.name} {node.type} joins" + (" and is stored for others" if others else "")
        )
        self._add(node, target, align, others, store)
        self._register_edges(node, target, align)

    def _add(
        self, node: Tensor, region: Region, align: int, others: list[Region], store: bool
    ) -> None:
        region.nodes.append(node)
        self.home[id(node)] = region
        self.align[id(node)] = min(align, self.align.get(id(node), align))
        if store:
            region.outputs.append(node)
        for other in others:
            region.reach |= other.reach | (1 << other.number)
            other.has_producers = True

    def _register_edges(self, node: Tensor, region: Region, align: int) -> None:
        if isinstance(node.op.form, Reduction):
            align = min(align, _leading_kept(node))
        found = self.edges[id(node)] = self.finder.edges(node)
        for edge in found:
            producer = edge.producer
            if not is_source(producer):
                self.uses.setdefault(id(producer), []).append(_Use(region, node, edge, align))

    # -- may it join? -----------------------------------------------------------------------------
    def _refusal(
        self, node: Tensor, target: Region, uses: list[_Use], others: list[Region], store: bool
    ) -> str | None:
        if target.kind in ("opaque", "joined", "control"):
            return "its user writes its own loops or runs bodies"
        if len(target.nodes) >= self.max_ops:
            return f"the region has {len(target.nodes)} nodes"
        if self.phases.of(node) != self.phases.of(target.nodes[0]):
            return "a size of its user is computed in between"
        if any(isinstance(u.reader.op.form, Contraction) for u in uses):
            return "a contraction reads each element many times"
        if not all(u.edge.exact for u in uses):
            if not store and self._is_read_in_parts(node, target, uses):
                return None
            return "it is read at other elements than its user's"
        if store:
            problem = self._store_refusal(node, target, uses, others)
            if problem:
                return problem
        form = node.op.form
        if isinstance(form, Elementwise | Map):
            return None
        if isinstance(form, Reduction):
            return self._reduction_refusal(node, target, uses)
        if isinstance(form, Contraction):
            return self._contraction_refusal(node, target, uses)
        return "it writes its own loops"

    def _is_read_in_parts(self, node: Tensor, target: Region, uses: list[_Use]) -> bool:
        """Whether `target`, a map, reads parts of a product over panels, such as gates, and maybe
        of other products that are laid out alike.
        """
        if not isinstance(node.op.form, Contraction) or target.rows is not None:
            return False
        others = [n for n in target.nodes if isinstance(n.op.form, Contraction)]
        if target.kind != "map" and not (target.in_parts and all(alike(node, n) for n in others)):
            return False
        rank = len(target.domain)
        own = all((u.edge.exact or u.edge.offset) and u.align >= rank for u in uses)
        return own and has_parts(node, target.domain, len(uses))

    def _store_refusal(
        self, node: Tensor, target: Region, uses: list[_Use], others: list[Region]
    ) -> str | None:
        if len(target.outputs) >= MAX_OUTPUTS:
            return f"the region has {MAX_OUTPUTS} outputs"
        bit = 1 << target.number
        more = 0
        for other in others:
            if other.reach & bit:
                return "a path would leave the region and come back"
            more |= other.reach | (1 << other.number)
        if more & ~target.reach and target.has_producers:
            # Regions upstream of the target would have to learn of its new users; rare enough to
            # refuse.
            return "the region has producers and would get new users"
        shape = effective(node.shape)
        needed = len(shape) if target.rows is None else min(target.rows, len(shape))
        if min(min(u.edge.depth, u.align) for u in uses) < needed:
            return "its leading dims are not the region's"
        if shape == target.domain or (
            target.rows is not None and shape == target.domain[: target.rows]
        ):
            return None
        if (
            target.rows is None
            and target.kind == "map"
            and shape == target.domain[: len(shape)]
            and shape
        ):
            return None
        grows = target.kind == "row" and target.rows == len(target.domain)
        if (
            grows
            and shape[: len(target.domain)] == target.domain
            and (target.rows or self._all_small(target, node))
        ):
            return None  # all results so far are rows: the domain grows by the inner dims
        return "its shape is neither the region's domain nor its rows"

    def _all_small(self, target: Region, node: Tensor) -> bool:
        reduced = [n.inputs[0].shape for n in target.nodes if isinstance(n.op.form, Reduction)]
        return all(_small(s) for s in (node.shape, *reduced))

    def _reduction_refusal(self, node: Tensor, target: Region, uses: list[_Use]) -> str | None:
        rows = effective(node.shape)
        style = _reduction_style(node)
        if target.kind == "contraction":
            return "its user's region contains a contraction"
        if target.rows is not None and (
            target.rows != len(rows) or (target.kind != style and target.kind != "map")
        ):
            return "its rows are not the region's rows"
        if (
            min(min(u.edge.depth, u.align) for u in uses) < len(rows)
            or target.domain[: len(rows)] != rows
        ):
            return "its result is not a row of the region"
        if style == "column" and len(target.domain) != len(rows):
            return "vectors run across its results, and the region has inner dims"
        if not rows and not (_small(target.domain) and self._all_small(target, node.inputs[0])):
            return "its result is one element: everything would be one row"
        return None

    def _contraction_refusal(self, node: Tensor, target: Region, uses: list[_Use]) -> str | None:
        if target.kind != "map" or target.rows is not None:
            return "its user's region has rows or a contraction"
        if effective(node.shape) != target.domain or min(
            min(u.edge.depth, u.align) for u in uses
        ) < len(target.domain):
            return "its user has another domain"
        return None


def _reduction_style(node: Tensor) -> str:
    operand = node.inputs[0].shape
    axes = set(node.attr("axes"))
    inner = [d for d, s in enumerate(operand) if not (isinstance(s, int) and s == 1)]
    kept = [d for d in inner if d not in axes]
    return "column" if kept and inner[-1] not in axes else "row"


def _leading_kept(node: Tensor) -> int:
    """How many leading effective dims of a reduction's operand are kept."""
    axes = set(node.attr("axes"))
    count = 0
    for d, s in enumerate(node.inputs[0].shape):
        if isinstance(s, int) and s == 1:
            continue
        if d in axes:
            break
        count += 1
    return count


def _small(shape: Shape) -> bool:
    size = product(shape)
    return isinstance(size, int) and size <= SMALL


def _awaited(node: Tensor, is_producer: Callable[[Tensor], bool]) -> list[int]:
    """Ids of the producers that the barriers between `node` and its own producers wait for."""
    found: list[int] = []
    stack = [(i, False) for i in node.inputs if isinstance(i, Tensor)]
    if isinstance(node.op.form, Item):
        stack = [(i, False) for i in node.inputs[0].inputs]
    seen: set[tuple[int, bool]] = set()
    while stack:
        tensor, awaited = stack.pop()
        if (id(tensor), awaited) in seen:
            continue
        seen.add((id(tensor), awaited))
        if is_producer(tensor):
            if awaited:
                found.append(id(tensor))
            continue
        others = tensor.inputs[1:] if tensor.op.name == "barrier" else ()
        own = tensor.inputs[:1] if others else tensor.inputs
        stack += [(i, awaited) for i in own if isinstance(i, Tensor)]
        stack += [(i, True) for i in others if isinstance(i, Tensor)]
    return found


_UNKNOWN = 64  # what a size that is not known counts as


def _estimated_bytes(node: Tensor) -> int:
    sizes = [s if isinstance(s, int) else _UNKNOWN for s in node.shape]
    return math.prod(sizes) * node.dtype.itemsize


def _called_often(graph: Graph) -> frozenset[int]:
    """The ids of the bodies of which many calls are worth taking together."""
    if not any(op.name == "call" for op in graph.ops):
        return frozenset()
    calls = Counter([id(n.attrs[0]) for n in graph.nodes if n.op.name == "call"])
    return frozenset(body for body, count in calls.items() if count >= MANY_CALLS)


def partition(
    graph: Graph,
    forced: list[Tensor],
    roots: list[Tensor],
    fuse: bool,
    phases: Phases,
    joins: Joins,
    *,
    merges_calls: bool = True,
) -> tuple[list[Region], Partitioner]:
    """The regions of a graph in execution order. forced: nodes that need memory of their own
    (operands of opaque ops and bodies); roots: those that leave the program (outputs, new values of
    variables, counts of sizes). merges_calls: many calls in a row may be one region.
    """
    most = MAX_OPS if fuse else 1
    partitioner = Partitioner(
        graph, forced, roots, phases, joins, most, merges_calls=fuse and merges_calls
    )
    return partitioner.run(), partitioner
