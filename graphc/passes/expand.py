"""Passes that remove kinds of ops (floor 3): composites are expanded, aliases stripped.

Both are needed to compile at all, so they are not rewrites of the log: a limit does not stop them.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.ir.opdef import REGISTRY
from graphc.ops.families import Composite
from graphc.passes.context import Context
from graphc.rewrite.driver import RuleSet, rewrite
from graphc.rewrite.pattern import EXACT, NodeRule, node_rule


def _is_composite(op: str, children: tuple[str, ...]) -> bool:
    return isinstance(REGISTRY[op].form, Composite)


@node_rule(cls=EXACT, accepts=_is_composite)
def expand_composite(node: Tensor) -> Tensor | None:
    """f(x) = its definition out of other ops"""
    form = node.op.form
    return form.expand(node) if isinstance(form, Composite) else None


_EXPANSION = RuleSet([expand_composite])


@dataclass(frozen=True)
class ExpandComposites:
    """Composite ops replaced by what they are made of, until none is left."""

    name: str = "expand-composites"

    def run(self, graph: Graph, context: Context) -> Graph:
        """The graph without composite ops."""
        if not any(isinstance(op.form, Composite) for op in graph.ops):
            return graph
        return rewrite(graph, _EXPANSION, stage=self.name)[0]


@dataclass(frozen=True)
class StripAliases:
    """Ops that are their first input at run time, removed: they spoke to differentiation only.

    `barrier` is not among them: without it, what a checkpoint computes again would be one node with
    the original.
    """

    ops: tuple[str, ...] = ("stop_gradient", "with_gradient")
    name: str = "strip-aliases"

    def run(self, graph: Graph, context: Context) -> Graph:
        """The graph without these ops."""
        if not any(op.name in self.ops for op in graph.ops):
            return graph
        strip = NodeRule("strip_alias", self.ops, _first_input, EXACT, "alias(x, …) = x")
        return rewrite(graph, RuleSet([strip]), stage=self.name)[0]


def _first_input(node: Tensor) -> Tensor:
    return node.inputs[0]
