"""The stable form of what is differentiated (floor 3): the gradient of log(1 + exp(x)) is that of
softplus(x).

Differentiating a naive expression and stabilizing afterwards does not work: the overflow is in the
chain rule's products by then.
Only rules that are exact or come closer to the true value run here, whatever the numerics mode of
the session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.passes.control import merge_control
from graphc.rewrite.driver import RuleSet, rewrite
from graphc.rewrite.pattern import Match, uniform
from graphc.rewrite.rules import algebra, stability


def _is_square(m: Match) -> bool:
    return uniform(m.k) == 2


_RULES = RuleSet(
    (
        # sqrt(1 - x²) is better differentiated as it stands; its value becomes stable afterwards.
        *(r for r in stability.RULES if r is not stability.other_cathetus),
        algebra.multiply_self,
        replace(algebra.constant_power, where=_is_square),  # one rounding, as pow at its best
        algebra.divide_power_of_two,
        algebra.negative_negative,
        algebra.multiply_minus_one,
        algebra.add_negative,
        algebra.subtract_negative,
    )
)
_ROOTS = frozenset(root for r in stability.RULES for root in r.roots_of() or ())


def stabilize(outputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs with expressions that lose digits or overflow replaced, and what several
    derivatives made of one loop as one; the same nodes where there is nothing of the kind.
    """
    named = tuple((str(k), t) for k, t in enumerate(outputs))
    graph = merge_control(Graph.build((), named, (), "differentiated", {}))
    outputs = [t for _, t in graph.outputs]
    if not any(n.op.name in _ROOTS for n in graph.nodes):
        return outputs
    return [t for _, t in rewrite(graph, _RULES)[0].outputs]
