"""The graph pipeline (floor 3): the passes in order, the same for every target.

`optimize` runs all of them; what lowering needs even without optimization is `lowerable`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.autodiff.reverse import STABILIZER
from graphc.ir.graph import OPTIMIZER, Graph
from graphc.passes.context import Context, Pass
from graphc.passes.expand import ExpandComposites, StripAliases
from graphc.passes.loops import MoveOutOfLoops
from graphc.passes.simplify import (
    Canonicalize,
    ContractionForms,
    FoldConstants,
    MergeViews,
    SimplifyAlgebra,
    StabilizeNumerics,
)
from graphc.passes.stable import stabilize
from graphc.rewrite.trace import Trace

NECESSARY: tuple[Pass, ...] = (StripAliases(), ExpandComposites(), StripAliases())

GRAPH_PIPELINE: tuple[Pass, ...] = (
    StripAliases(),  # differentiation is done: nothing hides a pattern any more
    StabilizeNumerics(),  # on what the user wrote: expansion hides the shape of a softmax
    SimplifyAlgebra(),
    MoveOutOfLoops(),  # what stands before and behind the loops is simplified with the rest
    ExpandComposites(),
    StripAliases(),  # expansions may use aliases themselves
    ContractionForms(),  # with all simplifications, also of what expansion left
)

PASSES: tuple[Pass, ...] = (
    Canonicalize(),
    FoldConstants(),
    StabilizeNumerics(),
    SimplifyAlgebra(),
    MergeViews(),
    ContractionForms(),
    MoveOutOfLoops(),
    ExpandComposites(),
    StripAliases(),
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
    for step in passes:
        graph = step.run(graph, context)
        if after is not None:
            after(step, graph)
    return graph


def lowerable(graph: Graph) -> Graph:
    """The graph in the form that lowering takes: no composites, no aliases but `barrier`. No
    optimization.
    """
    return optimize(graph, "exact", passes=NECESSARY)


OPTIMIZER["optimize"] = optimize
STABILIZER["stabilize"] = stabilize
