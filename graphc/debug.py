"""Finding bugs (floor 8): which rewrite changed an answer.

`bisect` optimizes a graph with fewer and fewer rewrites and compares with the graph as it was
declared. It needs no device: both sides are computed by the reference meaning, unless `run`
computes them otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.base.dtypes import Array
from graphc.ir import provenance
from graphc.ir.graph import Graph
from graphc.passes.pipeline import optimize
from graphc.rewrite.trace import Application, Trace, expression

Run = Callable[[Graph, Mapping[Any, Any]], Mapping[str, Array]]


@dataclass(frozen=True, eq=False)
class Culprit:
    """The first rewrite after which the answer is no longer right.

    application: rule, before, after, stage. output: the output that changed. expected, found: its
    values, before and after.
    """

    application: Application
    output: str
    expected: Array
    found: Array

    @property
    def rule(self) -> str:
        """The name of the rule."""
        return self.application.rule.name

    def __str__(self) -> str:
        a = self.application
        place = provenance.where(a.before)
        worst = _worst(self.expected, self.found)
        lines = [
            f"rule {a.rule.name} ({a.rule.cls.value}, rewrite {a.index} in {a.stage}): "
            f"{a.rule.equation}",
            f"  before: {expression(a.before)}",
            f"  after:  {expression(a.after)}",
        ]
        if place:
            lines.append(f"  at {place}")
        lines.append(
            f"  output {self.output!r} at {worst}: "
            f"expected {self.expected[worst]!r}, found {self.found[worst]!r}"
        )
        return "\n".join(lines)


def bisect(
    graph: Graph,
    feeds: Mapping[Any, Any],
    *,
    numerics: str = "standard",
    rtol: float = 1e-4,
    atol: float = 1e-6,
    run: Run | None = None,
) -> Culprit | None:
    """The rewrite that changed an output beyond the tolerance, None where all of them together do
    not.

    run(graph, feeds): how outputs are computed, by the reference meaning when None. NaN equals NaN,
    infinities must be equal. Takes about log2(rewrites) optimizations and runs. Raises GraphError
    for wrong feeds.

        print(graphc.debug.bisect(step.graph, {"x": x}))
    """
    compute = run or _reference
    expected = compute(graph, feeds)

    def attempt(limit: int | None) -> tuple[Trace, tuple[str, Array] | None]:
        trace = Trace(limit)
        values = compute(optimize(graph, numerics, trace), feeds)
        return trace, _first_difference(expected, values, rtol, atol)

    trace, difference = attempt(None)
    if difference is None:
        return None
    # Invariant: `good` rewrites keep the answer (none do nothing), `bad` ones do not.
    good, bad = 0, len(trace)
    while bad - good > 1:
        middle = (good + bad) // 2
        candidate, found = attempt(middle)
        if found is None:
            good = middle
        else:
            bad, trace, difference = middle, candidate, found
    name, values = difference
    return Culprit(trace.applications[bad - 1], name, np.asarray(expected[name]), values)


def _reference(graph: Graph, feeds: Mapping[Any, Any]) -> Mapping[str, Array]:
    return graph.evaluate(feeds, updates=True)


def _first_difference(
    expected: Mapping[str, Array], found: Mapping[str, Array], rtol: float, atol: float
) -> tuple[str, Array] | None:
    for name, value in expected.items():
        other = np.asarray(found[name])
        if not np.allclose(value, other, rtol=rtol, atol=atol, equal_nan=True):
            return name, other
    return None


def _worst(expected: Array, found: Array) -> tuple[int, ...]:
    with np.errstate(all="ignore"):
        distance = np.abs(expected.astype(np.float64) - found.astype(np.float64))
        same = (expected == found) | (np.isnan(distance) & np.isnan(expected) & np.isnan(found))
    distance = np.where(same, -1.0, np.where(np.isnan(distance), np.inf, distance))
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(distance)), distance.shape))


__all__ = ["Culprit", "bisect"]
