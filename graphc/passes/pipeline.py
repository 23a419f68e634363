"""The graph pipeline (floor 3): the passes in order, the same for every target.

`optimize` runs all of them; what lowering needs even without optimization is `lowerable`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphc.ir import provenance
from graphc.ir.graph import Graph, interned
from graphc.ir.node import Node, Tensor, make
from graphc.passes.body_lines import on_lines_of
from graphc.passes.context import Context, Pass
from graphc.passes.control import DissolveControl, MergeControl, PruneControl
from graphc.passes.expand import ExpandComposites, StripAliases
from graphc.passes.loops import MoveOutOfLoops
from graphc.passes.simplify import (
    Canonicalize,
    ContractionForms,
    FastConvolutions,
    FoldConstants,
    MergeViews,
    SimplifyAlgebra,
    StabilizeNumerics,
)
from graphc.rewrite.trace import Trace


@dataclass(frozen=True)
class OptimizeBodies:
    """Each distinct body put through a pipeline, once, inner ones with the ones around them.

    pipeline: "necessary" for what lowering needs, "graph" for everything.
    """

    pipeline: str = "graph"
    name: str = "optimize-bodies"

    def run(self, graph: Graph, context: Context) -> Graph:
        """The graph with its bodies changed; equal ones stay equal, each with its own lines."""
        if not graph.own_bodies:
            return graph
        changed = context.bodies
        for body in graph.own_bodies:
            if body not in changed:
                new = interned(_through(body, _PIPELINES[self.pipeline], context))
                changed[body], changed[new] = (body, new), (new, new)
        if all(changed[body][1] is body for body in graph.own_bodies):
            return graph
        each = {id(a): a for n in graph.nodes for a in n.attrs if type(a) is Graph}
        made = {key: on_lines_of(body, *changed[body]) for key, body in each.items()}

        def visit(node: Node, inputs: tuple[Tensor, ...]) -> Node:
            if not inputs:
                return node
            attrs = tuple(made[id(a)] if isinstance(a, Graph) else a for a in node.attrs)
            if all(map(_same, (*inputs, *attrs), (*node.inputs, *node.attrs))):
                return node
            with provenance.derived_from(node):
                return make(node.op, inputs, attrs)

        return graph.map(visit)


def _same(a: object, b: object) -> bool:
    return a is b


NECESSARY: tuple[Pass, ...] = (
    StripAliases(),
    ExpandComposites(),
    StripAliases(),
    OptimizeBodies("necessary"),
)

BODY_PIPELINE: tuple[Pass, ...] = (
    MergeControl(),  # before anything changes one of two loops that are to be one
    StripAliases(),  # differentiation is done: nothing hides a pattern any more
    PruneControl(),
    DissolveControl(),  # what was inside meets the rules for what is around it
    StabilizeNumerics(),  # on what the user wrote: expansion hides the shape of a softmax
    SimplifyAlgebra(),
    ExpandComposites(),
    StripAliases(),  # expansions may use aliases themselves
    OptimizeBodies(),
    MoveOutOfLoops(),  # out of optimized bodies, into a graph that is optimized below
    PruneControl(),  # what moved left operands and carries behind
    ContractionForms(),  # with all simplifications, also of what expansion left
)

# What is made last keeps its form: no rule and no loop looks at it again.
GRAPH_PIPELINE: tuple[Pass, ...] = (*BODY_PIPELINE, FastConvolutions())

PASSES: tuple[Pass, ...] = (
    Canonicalize(),
    FoldConstants(),
    StabilizeNumerics(),
    SimplifyAlgebra(),
    MergeViews(),
    ContractionForms(),
    FastConvolutions(),
    MoveOutOfLoops(),
    ExpandComposites(),
    StripAliases(),
    MergeControl(),
    PruneControl(),
    DissolveControl(),
    OptimizeBodies(),
)


def optimize(
    graph: Graph,
    numerics: str = "standard",
    trace: Trace | None = None,
    *,
    passes: Sequence[Pass] = GRAPH_PIPELINE,
    after: Callable[[Pass, Graph], None] | None = None,
) -> Graph:
    """The graph after the passes. `trace` receives the log of rewrites; `after` sees the graph
    after each pass.

    In "exact" the result gives the same bits as the graph itself when both are compiled.
    Raises GraphcError for an unknown numerics mode.
    """
    context = Context(numerics, Trace() if trace is None else trace)
    return _through(graph, passes, context, after)


def _through(
    graph: Graph,
    passes: Sequence[Pass],
    context: Context,
    after: Callable[[Pass, Graph], None] | None = None,
) -> Graph:
    for step in passes:
        graph = step.run(graph, context)
        if after is not None:
            after(step, graph)
    return graph


_PIPELINES = {"necessary": NECESSARY, "graph": BODY_PIPELINE}


def lowerable(graph: Graph) -> Graph:
    """The graph in the form that lowering takes: no composites, no aliases but `barrier`. No
    optimization.
    """
    return optimize(graph, "exact", passes=NECESSARY)
