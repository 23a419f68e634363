"""The passes that are rule sets (floor 3): each runs its rules, with the canonical forms, to a
fixed point.

A rule set is indexed once per numerics mode. Where a pass stands in the pipeline decides what it
sees: stability looks at what the user wrote, contraction forms look at merged views.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from graphc.ir.graph import Graph
from graphc.passes.context import Context
from graphc.rewrite.driver import RuleSet, rewrite
from graphc.rewrite.pattern import AnyRule
from graphc.rewrite.rules import (
    algebra,
    constants,
    contraction,
    convolution,
    folding,
    logic,
    reductions,
    stability,
    views,
)

CANONICAL = (
    algebra.constant_right,
    views.full_as_broadcast,
    logic.cast_to_same,
    logic.cast_of_cast,
)


@functools.cache
def _rule_set(name: str, numerics: str, limit_bytes: int) -> RuleSet:
    return RuleSet(_rules(name, limit_bytes), numerics)


def _rules(name: str, limit_bytes: int) -> tuple[AnyRule, ...]:
    fold = folding.folding_rules(limit_bytes)
    chosen: dict[str, tuple[AnyRule, ...]] = {
        "canonicalize": CANONICAL,
        "fold-constants": (*CANONICAL, *fold),
        "stabilize-numerics": (*CANONICAL, *fold, *stability.RULES, *_WITH_STABILITY),
        "simplify-algebra": (*CANONICAL, *fold, *_ALGEBRA, *views.RULES),
        "merge-views": (*CANONICAL, *fold, *views.RULES, *reductions.RULES),
        "contraction-forms": (
            *CANONICAL, *fold, *_ALGEBRA, *views.RULES, *reductions.RULES, *contraction.RULES,
        ),
        "fast-convolutions": convolution.RULES,
    }  # fmt: skip
    return tuple(dict.fromkeys(chosen[name]))


_ALGEBRA = (*algebra.RULES, *logic.RULES, *constants.RULES)

# What the patterns of stability rely on: squares, signs and plain quotients in one form.
_WITH_STABILITY = (
    algebra.multiply_self,
    algebra.constant_power,
    algebra.divide_power_of_two,
    algebra.negative_negative,
    algebra.multiply_minus_one,
    algebra.multiply_one,
    algebra.add_negative,
    algebra.subtract_negative,
    views.elementwise_of_broadcast,
)


class _RulePass:
    """Runs the rules of its name."""

    name: str
    limit_bytes: int

    def run(self, graph: Graph, context: Context) -> Graph:
        """The graph with the pass's rules applied until none applies."""
        rules = _rule_set(self.name, context.numerics, self.limit_bytes)
        return rewrite(graph, rules, trace=context.trace, stage=self.name)[0]


@dataclass(frozen=True)
class Canonicalize(_RulePass):
    """Constants to the right, one form of broadcast, no casts that do nothing."""

    name: str = "canonicalize"
    limit_bytes: int = 0


@dataclass(frozen=True)
class FoldConstants(_RulePass):
    """What depends on constants only, up to `limit_bytes` per result, is computed now."""

    limit_bytes: int = 1 << 20
    name: str = "fold-constants"


@dataclass(frozen=True)
class StabilizeNumerics(_RulePass):
    """Expressions that lose digits or overflow become the functions that do not."""

    limit_bytes: int = 1 << 20
    name: str = "stabilize-numerics"


@dataclass(frozen=True)
class SimplifyAlgebra(_RulePass):
    """Identities of arithmetic, selection, comparison, bits and views; constants gathered."""

    limit_bytes: int = 1 << 20
    name: str = "simplify-algebra"


@dataclass(frozen=True)
class MergeViews(_RulePass):
    """Chains of transposes, reshapes, broadcasts, slices, pads and reductions merged."""

    limit_bytes: int = 1 << 20
    name: str = "merge-views"


@dataclass(frozen=True)
class ContractionForms(_RulePass):
    """Sums of products become contractions, transposes around them become letters; all
    simplifications with it.
    """

    limit_bytes: int = 1 << 20
    name: str = "contraction-forms"


@dataclass(frozen=True)
class FastConvolutions(_RulePass):
    """Convolutions by constant weights in forms of fewer multiplications. Forms of the kernels: it
    comes last, and bodies are left alone.
    """

    name: str = "fast-convolutions"
    limit_bytes: int = 0

    def run(self, graph: Graph, context: Context) -> Graph:
        """The graph with the pass's rules applied, where it has windows at all."""
        if not any(op.name == "windows" for op in graph.ops):
            return graph
        return _RulePass.run(self, graph, context)
