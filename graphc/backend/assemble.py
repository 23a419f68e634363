"""From what lowering found to a program (floor 6): steps over buffers instead of nodes."""

from __future__ import annotations

from collections.abc import Mapping

from graphc.backend.program import (
    NOTHING,
    Bind,
    Body,
    Branch,
    BufferRef,
    Call,
    Launch,
    Program,
    Publish,
    Repeat,
    Step,
    While,
)
from graphc.base.dims import Size, Symbol, product
from graphc.ir.graph import Graph
from graphc.ir.node import TensorType, TupleType
from graphc.lower.buffer_plan import BufferPlan, LoweredStep
from graphc.lower.control import LoweredCalls, LoweredControl
from graphc.lower.dynamic import LoweredBinding, LoweredResults
from graphc.lower.kernel_builder import LoweredKernel, Temporary
from graphc.lower.lower_graph import Lowered


def program_of(
    lowered: Lowered,
    symbols: tuple[Symbol, ...],
    counts: dict[str, int],
    *,
    computed: tuple[Symbol, ...] = (),
    profile: bool = False,
) -> Program:
    """The program of a lowered graph; counts: how many buffers of each kind it has; symbols,
    computed: the sizes that come with a call, and those that the graph computes.
    """
    numbers = {source: k for k, source in enumerate(lowered.sources)}
    bodies = tuple(
        Body(
            body.graph.name,
            len(body.graph.inputs),
            len(body.graph.outputs),
            _steps(body, numbers),
            body.plan.static_slots,
        )
        for body in lowered.bodies
    )
    return Program(
        symbols,
        counts | {"constant": len(lowered.plan.constants)},
        _steps(lowered, numbers),
        lowered.plan.static_slots,
        profile=profile,
        bodies=bodies,
        computed=computed,
        blocks=lowered.blocks,
    )


def _steps(lowered: Lowered, numbers: Mapping[Graph, int]) -> tuple[Step, ...]:
    found: list[Step] = []
    for step in lowered.steps:
        found += _steps_of(step, lowered.plan, numbers)
    return tuple(found)


def _steps_of(step: LoweredStep, plan: BufferPlan, numbers: Mapping[Graph, int]) -> list[Step]:
    refs = plan.refs
    if isinstance(step, LoweredKernel):
        return [Launch(step.kernel, refs(step.args))]
    if isinstance(step, LoweredBinding):
        block = plan.first_block + step.phase - 1
        size = plan.block_bytes(step.phase)
        return [Bind(step.symbols, step.sites, step.conditions, block, size, refs(step.args))]
    if isinstance(step, LoweredResults):
        return [Publish(step.outputs, refs(step.args))]
    if isinstance(step, LoweredCalls):
        own, body = _arena(step.arena, plan), numbers[step.body]
        return [Call(body, refs(row) + own) for row in step.rows]
    args = refs(step.values)
    for arena in step.arenas:
        args += _arena(arena, plan)
    return [_control(step, args, [numbers[body] for body in step.bodies])]


def _arena(arena: Temporary | None, plan: BufferPlan) -> tuple[BufferRef]:
    return (NOTHING,) if arena is None else (plan.place(arena),)


def _control(step: LoweredControl, args: tuple[BufferRef, ...], bodies: list[int]) -> Step:
    node = step.node
    kind = node.op.name
    if kind == "call":
        return Call(bodies[0], args)
    if kind == "cond":
        return Branch(bodies[0], bodies[1], args)
    assert isinstance(node.type, TupleType)
    carries = node.attr("carries")
    sizes = tuple(map(_bytes, node.type.items[:carries]))
    if kind == "while_loop":
        return While(bodies[0], bodies[1], sizes, args)
    body: Graph = node.attr("body")
    rows = [t.type for _, t in body.inputs[carries : carries + node.attr("sequences")]]
    stacked = [t.type for _, t in body.outputs[carries:]]
    return Repeat(
        bodies[0],
        node.attr("length"),
        node.attr("reverse"),
        sizes,
        tuple(map(_bytes, rows)),
        tuple(map(_bytes, stacked)),
        args,
    )


def _bytes(t: TensorType) -> Size:
    return product(t.shape) * t.dtype.itemsize
