"""From an optimized graph to kernels and a buffer plan (floor 5): the stages in order.

Bodies of control flow are graphs too: each is lowered once, before those that run it, because the
memory that it needs is a temporary of its users.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from graphc.base.dims import Size
from graphc.base.target import Target
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, make
from graphc.ir.opdef import REGISTRY
from graphc.ir.provenance import derived_from, set_derived
from graphc.lower.bands import find_bands
from graphc.lower.buffer_plan import (
    BufferPlan,
    Constants,
    LoweredStep,
    plan_buffers,
    slot_offsets,
)
from graphc.lower.cascades import find_cascades
from graphc.lower.columns import lower_columns
from graphc.lower.contraction import (
    lower_contraction,
    prepare_contraction,
    reads_apart,
    views_below_padding,
    views_in_memory,
)
from graphc.lower.control import (
    LoweredCalls,
    LoweredControl,
    control_node,
    lower_calls,
    lower_control,
)
from graphc.lower.depthwise import lower_depthwise, memory_of_depthwise, windowed_operand
from graphc.lower.dynamic import Phases, counts_of, lower_bindings, lower_results
from graphc.lower.elements import storage_root, storage_roots
from graphc.lower.invariant import filled_once
from graphc.lower.join_copies import lower_joined
from graphc.lower.joins import find_joins, is_contiguous_join
from graphc.lower.kernel_builder import KernelBuilder, LoweredKernel, Sites
from graphc.lower.narrow import is_narrow, narrow_rows
from graphc.lower.narrow_products import narrow_products
from graphc.lower.opaque import lower_opaque
from graphc.lower.packed_operands import packing
from graphc.lower.parts import lower_parts
from graphc.lower.regions import Partitioner, Region, partition
from graphc.lower.row_blocks import rows_in_blocks
from graphc.lower.signature import LoweredRegions, RegionKey
from graphc.lower.template import KernelTemplate, from_choice, from_templates
from graphc.lower.to_loops import lower_region
from graphc.lower.turn_products import by_turns
from graphc.lower.windows import along_results
from graphc.ops.copy import COPY
from graphc.ops.families import Constant, Contraction, Control, Reduction, Source
from graphc.ops.reshape import to_shape
from graphc.ops.winograd import WINOGRAD
from graphc.schedule.choices import LOOPS, USUAL, Choice, Choices


@dataclass
class Lowered:
    """Everything that lowering found about one graph: steps in execution order with the region of
    each.

    bodies: the graphs that the steps run, at any depth, inner ones first; sources: the same graphs
    as attributes have them; of the whole program: sites, the constants of the plan, and how many
    blocks of memory are found while it runs.
    """

    graph: Graph
    regions: list[Region]
    steps: list[LoweredStep]
    step_regions: list[Region]
    plan: BufferPlan
    sites: Sites
    bodies: list[Lowered] = field(default_factory=list)
    sources: list[Graph] = field(default_factory=list)
    blocks: int = 0

    @property
    def kernels(self) -> list[LoweredKernel]:
        """The kernels among the steps of the graph itself."""
        return [s for s in self.steps if isinstance(s, LoweredKernel)]

    @property
    def all_kernels(self) -> list[LoweredKernel]:
        """The kernels of the bodies, then those of the graph itself: the order of the program's
        launches.
        """
        return [k for part in (*self.bodies, self) for k in part.kernels]

    def describe_regions(self) -> str:
        """The regions as text: kind, nodes, outputs and the reasons of each decision."""
        return "\n\n".join([*(_regions_text(b, "body ") for b in self.bodies), _regions_text(self)])

    def describe_plan(self) -> str:
        """The buffer plans as text."""
        parts = [f"body {b.graph.name}: {b.plan.describe()}" for b in self.bodies]
        return "\n\n".join([*parts, self.plan.describe()])


def _regions_text(lowered: Lowered, head: str = "") -> str:
    start = f"{head}{lowered.graph.name}: " if head else ""
    lines = [f"{start}{len(lowered.regions)} regions, {len(lowered.kernels)} kernels"]
    for symbol, count in lowered.graph.bindings:
        lines.append(f"size {symbol} = {lowered.graph.name_of(count)}")
    for region in lowered.regions:
        domain = ", ".join(map(str, region.domain))
        rows = "" if region.rows is None else f", {region.rows} row dims"
        lines.append(f"region {region.name} ({region.kind}, domain [{domain}]{rows})")
        stored = {id(n) for n in region.outputs}
        for node in region.nodes:
            mark = "*" if id(node) in stored else " "
            lines.append(f"  {mark} {lowered.graph.name_of(node)} = {node.op.name} : {node.type}")
        lines += [f"    - {reason}" for reason in region.reasons]
    return "\n".join(lines)


@dataclass
class _Shared:
    """What the graph and its bodies have in common while they are lowered."""

    target: Target
    templates: Sequence[KernelTemplate]
    sites: Sites
    fuse: bool
    profile: bool
    choices: Choices | None
    searched: Sequence[KernelTemplate]
    constants: Constants = field(default_factory=Constants)
    equal: LoweredRegions = field(default_factory=LoweredRegions)
    arenas: dict[Graph, Size] = field(default_factory=dict)  # bytes that bodies need
    blocks: int = 0  # of memory that is found while the program runs


def lower_graph(
    graph: Graph,
    variables: list[Tensor],
    target: Target,
    fuse: bool = True,
    numerics: bool = False,
    templates: Sequence[KernelTemplate] = (),
    choices: Choices | None = None,
    searched: Sequence[KernelTemplate] = (),
    *,
    profile: bool = False,
) -> Lowered:
    """Lower a graph in which composites are expanded and aliases are gone, and its bodies.

    fuse=False gives every node a kernel of its own (tests compare with it). templates: hand-tuned
    kernels, asked before generic lowering. choices: schedules that were found by measuring, with
    the templates `searched`, which match wherever they can. numerics=True makes kernels look for
    NaN and infinity.
    profile=True keeps a step for every call. `variables`: the program's variables in order (of the
    declared graph, so that the order never depends on optimization).
    """
    packed = packing(templates, target)
    graph = by_turns(graph, target)
    graph = filled_once(graph, functools.partial(prepare, packed=packed))
    shared = _Shared(target, templates, Sites(numerics), fuse, profile, choices, searched)
    bodies = []
    for body in graph.bodies:
        lowered = _lower_one(body, [], shared)
        shared.arenas[body] = slot_offsets(lowered.plan.static_slots)[1]
        bodies.append(lowered)
    lowered = _lower_one(graph, variables, shared)
    lowered.bodies, lowered.sources = bodies, list(graph.bodies)
    lowered.blocks = shared.blocks
    return lowered


def _lower_one(graph: Graph, variables: list[Tensor], shared: _Shared) -> Lowered:
    graph = plain_reductions(narrow_products(graph, shared.target))
    graph, forced = prepare(graph, packing(shared.templates, shared.target))
    graph = own_memory(graph)
    roots = [storage_root(t) for _, t in graph.outputs] + [
        storage_root(v) for _, v in graph.updates
    ]
    phases = Phases(graph)
    roots += counts_of(graph)
    joins = find_joins(graph, forced, roots)
    regions, partitioner = partition(
        graph, forced, roots, shared.fuse, phases, joins, merges_calls=not shared.profile
    )
    regions = find_cascades(regions, partitioner, shared.templates, shared.target)
    if shared.fuse:
        regions = find_bands(regions, partitioner, shared.templates, shared.target)
    waiting = lower_bindings(graph, phases, shared.sites)
    between = Region(-1, "sizes", ())  # of steps that belong to no node
    steps: list[LoweredStep] = []
    homes: list[Region] = []
    for region in regions:
        while waiting and waiting[0].phase <= phases.of(region.nodes[0]):
            steps.append(waiting.pop(0))
            homes.append(between)
        found = _steps_of(region, partitioner, shared)
        steps += found
        homes += [region] * len(found)
    results = lower_results(graph, phases)
    more: list[LoweredStep] = [*waiting, *([results] if results else [])]
    steps += more
    homes += [between] * len(more)
    plan = plan_buffers(graph, variables, steps, shared.constants, phases, shared.blocks, joins)
    shared.blocks += phases.last
    return Lowered(graph, regions, steps, homes, plan, shared.sites)


def _steps_of(
    region: Region, partitioner: Partitioner, shared: _Shared
) -> Sequence[LoweredKernel] | Sequence[LoweredControl] | Sequence[LoweredCalls]:
    if region.kind == "control":
        node = control_node(region.nodes[0])
        assert node is not None, "a region of results"
        if region.nodes[-1].inputs[0] is not node:
            return [lower_calls(region.nodes, shared.arenas)]
        return [lower_control(node, region.nodes, shared.arenas)]
    sites = shared.sites
    if region.kind == "joined":
        members = {id(region.nodes[0])}
        return lower_joined(
            region.nodes[0],
            partitioner.joins,
            lambda: KernelBuilder(region.name, sites, members, partitioner.is_producer),
        )
    key = RegionKey(region, partitioner.is_producer)
    known = shared.equal.get(key)
    if known is not None:
        return known
    checks = len(sites.entries)
    choice = USUAL
    if shared.choices is not None:
        choice = shared.choices.of(key.digest, region)
    found = _lower(region, partitioner, shared, choice)
    if len(sites.entries) == checks:
        shared.equal.put(key, found)
    return found


def _lower(
    region: Region, partitioner: Partitioner, shared: _Shared, choice: Choice
) -> list[LoweredKernel]:
    members = {id(n) for n in region.nodes}
    target = shared.target
    builder = KernelBuilder(region.name, shared.sites, members, partitioner.is_producer, choice)
    if region.kind == "contraction":
        for node in region.nodes:
            if windowed_operand(node) is not None:
                return [lower_depthwise(region, builder, node)]
    made: list[LoweredKernel] | None = None
    if choice.template:
        made = from_choice(shared.searched, region, builder, target, choice)
    if made is None and choice.template != LOOPS:
        made = from_templates(shared.templates, region, builder, target)
    if made is not None:
        return made
    if region.kind == "opaque":
        return [lower_opaque(region, builder)]
    if region.in_parts:
        return [lower_parts(region, builder, target)]
    if region.kind == "contraction":
        return [lower_contraction(region, builder, target)]
    if region.kind == "column":
        return lower_columns(region, builder)
    if is_narrow(region):
        return [narrow_rows(region, builder)]
    blocks = rows_in_blocks(region, builder)
    if blocks is not None:
        return [blocks]
    return lower_region(region, builder)


def plain_reductions(graph: Graph) -> Graph:
    """Reductions without kept size-1 dims, and reshapes in their place: one form for everything
    below.
    """

    if not any(isinstance(op.form, Reduction) for op in graph.ops):
        return graph
    if not any(isinstance(n.op.form, Reduction) and n.attr("keepdims") for n in graph.nodes):
        return graph

    def visit(node: Node, inputs: tuple[Tensor, ...]) -> Node:
        same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
        if not isinstance(node.op.form, Reduction) or not node.attr("keepdims"):
            return node if same else _remake(node, inputs)
        attrs = tuple(False if k == "keepdims" else v for k, v in node.attributes.items())
        set_derived(node)
        try:
            plain = make(node.op, inputs, attrs)
            assert isinstance(plain, Tensor)
            assert isinstance(node, Tensor)
            return (
                plain if plain.shape == node.shape else REGISTRY["reshape"](plain, shape=node.shape)
            )
        finally:
            set_derived(None)

    return graph.map(visit)


_MAX_JOINED = 8
_PREPARED = (Contraction, Reduction)


def prepare(
    graph: Graph, packed: Callable[[Tensor], Tensor] = lambda node: node
) -> tuple[Graph, list[Tensor]]:
    """The graph with operands as their kernels want them, and the nodes that need memory for it.

    Contractions get contiguous operands, reductions over windows vectors across their results, and
    bodies operands in memory. Concatenations of many operands become trees of narrow ones: each
    element chooses among its operands, k choices an element, in a tree 8 per level. packed: what
    templates make of a contraction.
    """
    forced: list[Tensor] = []
    if not any(isinstance(op.form, _PREPARED) or op.name == "concat" for op in graph.ops):
        runs = {op for op in graph.ops if isinstance(op.form, Control)}
        for node in graph.nodes if runs else ():
            if node.op in runs:
                forced += storage_roots(node.inputs)
        return graph, forced

    def visit(node: Node, inputs: tuple[Tensor, ...]) -> Node:
        if not inputs:
            return node
        form = node.op.form
        if isinstance(form, Control):
            forced.extend(storage_roots(inputs))
        many = node.op.name == "concat" and len(inputs) > _MAX_JOINED
        many = many and not is_contiguous_join(node)
        if not isinstance(form, _PREPARED) and not many:
            if all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
                return node
        with derived_from(node):
            if isinstance(form, Contraction) and isinstance(node, Tensor):
                return _prepare_product(node, inputs, forced, packed)
            if isinstance(form, Reduction) and isinstance(node, Tensor):
                return along_results(node, inputs, forced)
            if many:
                return _narrow(node, list(inputs), forced)
            return make(node.op, inputs, node.attrs)

    return graph.map(visit), forced


def _prepare_product(
    node: Tensor,
    inputs: tuple[Tensor, ...],
    forced: list[Tensor],
    packed: Callable[[Tensor], Tensor],
) -> Node:
    product_ = make(node.op, inputs, node.attrs)
    assert isinstance(product_, Tensor)
    if product_.op is WINOGRAD:
        forced += views_below_padding(product_)
        return product_
    wide = windowed_operand(product_)
    if wide is None:
        taken = packed(product_) if reads_apart(product_) else product_
        if taken is not product_:
            forced += views_in_memory(taken)
            return taken
        found = prepare_contraction(node, inputs, forced)
        if isinstance(found, Tensor) and isinstance(found.op.form, Contraction):
            return packed(found)
        return found
    forced += memory_of_depthwise(product_, wide)
    return product_


def _narrow(node: Node, parts: list[Tensor], forced: list[Tensor]) -> Node:
    while len(parts) > _MAX_JOINED:
        starts = range(0, len(parts), _MAX_JOINED)
        parts = [_join(node, parts[at : at + _MAX_JOINED], forced) for at in starts]
    return make(node.op, tuple(parts), node.attrs)


def _join(node: Node, parts: list[Tensor], forced: list[Tensor]) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    joined = make(node.op, tuple(parts), node.attrs)
    assert isinstance(joined, Tensor)
    forced.append(joined)
    return joined


def _remake(node: Node, inputs: tuple[Tensor, ...]) -> Node:
    set_derived(node)
    try:
        return make(node.op, inputs, node.attrs)
    finally:
        set_derived(None)


def own_memory(graph: Graph) -> Graph:
    """Copies for outputs and updates that would share memory with a source or with each other."""
    taken: set[int] = set()
    copies = 0

    def own(tensor: Tensor) -> Tensor:
        nonlocal copies
        root = storage_root(tensor)
        if isinstance(root.op.form, Source | Constant) or id(root) in taken:
            with derived_from(tensor):
                if isinstance(root.op.form, Source | Constant) or root.dtype is not tensor.dtype:
                    root = tensor = COPY(tensor, slot=copies)
                else:  # in the shape in which it is computed, by the same kernel
                    root = COPY(root, slot=copies)
                    tensor = to_shape(root, tensor.shape)
            copies += 1
        taken.add(id(root))
        return tensor

    outputs = tuple((name, own(t)) for name, t in graph.outputs)
    updates = tuple((v, own(t)) for v, t in graph.updates)
    if not copies:
        return graph
    return Graph.build(graph.inputs, outputs, updates, graph.name, graph.names, graph.bindings)
