"""Whether anything in what is differentiated may have a stabler form (floor 3), asked before the
rules are loaded: most losses have nothing of the kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.autodiff.substitution import ordered
from graphc.ir.node import Node, Tensor
from graphc.ops.families import Control

# Every rule of `rewrite.rules.stability` has one of these below its root, but for the two that
# `_is_candidate` names. A test holds this against the rules.
_OPS = frozenset(("cos", "erf", "exp", "expm1", "log", "log1p", "pow", "sigmoid", "sqrt", "tanh"))


def may_be_stabilized(outputs: Sequence[Tensor]) -> bool:
    """False where `passes.stable.stabilize` would find no rule to apply and no loops to merge."""
    return any(map(_is_candidate, ordered(outputs)))


def _is_candidate(node: Node) -> bool:
    name = node.op.name
    if name in _OPS or isinstance(node.op.form, Control):
        return True
    if name == "subtract":  # mean(x²) - mean(x)²
        return node.inputs[0].op.name == "mean"
    return name == "divide" and node.inputs[1].op.name == "divide"  # 1 / (1 / x)
