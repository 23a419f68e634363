"""Constant folding (floor 3): what depends on constants only is computed now, by the reference
meaning.

EXACT for ops whose result is the same bits in every implementation; the others (transcendental
functions, float sums) are ROUNDING. Nothing is folded that would make the program larger:
broadcasts and generated values stay symbolic.
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.base.dims import Dim, product
from graphc.base.errors import ExecutionError
from graphc.ir.constant import constant_value
from graphc.ir.meaning import evaluate_node
from graphc.ir.node import Tensor
from graphc.ops.families import Map, Opaque, Reshape
from graphc.ops.state import constant_node
from graphc.rewrite.pattern import EXACT, ROUNDING, NodeRule, RuleClass

# One correctly rounded operation, or none: every implementation gives these bits.
CORRECTLY_ROUNDED = frozenset(
    "add subtract multiply divide negative abs sqrt square reciprocal cast where floor ceil trunc "
    "round sign copysign "
    "equal not_equal less less_equal greater greater_equal isnan isinf isfinite signbit "
    "bitwise_and bitwise_or bitwise_xor bitwise_invert bitwise_left_shift "
    "bitwise_right_shift bitwise_count "
    "chain_multiply chain_divide any all argmax argmin nextafter".split()
)
INTEGER_EXACT = frozenset(
    "sum prod max min maximum minimum floor_divide remainder pow "
    "cumulative_sum cumulative_prod cumulative_max einsum".split()
)
# Results larger than their operands stay as they are; sources and aliases have no value here.
NEVER = frozenset(
    "broadcast_to placeholder variable constant stop_gradient with_gradient barrier copy".split()
)


def folding_rules(limit_bytes: int) -> tuple[NodeRule, NodeRule]:
    """The two folding rules (EXACT, ROUNDING) for results of at most `limit_bytes`."""
    return (
        _folding("fold_exact", EXACT, _is_exact, limit_bytes),
        _folding("fold_rounding", ROUNDING, _is_any, limit_bytes),
    )


def _is_exact(node: Tensor) -> bool:
    form = node.op.form
    if isinstance(form, Reshape) or node.op.name in CORRECTLY_ROUNDED:
        return True
    if isinstance(form, Map) and form.kind != "gather":
        return True
    return node.op.name in INTEGER_EXACT and not node.dtype.is_float


def _is_any(node: Tensor) -> bool:
    # An index out of bounds must be reported by the call, not by the compiler.
    form = node.op.form
    return not (isinstance(form, Opaque) or (isinstance(form, Map) and form.kind == "gather"))


def _folding(
    name: str, cls: RuleClass, accepts: Callable[[Tensor], bool], limit_bytes: int
) -> NodeRule:
    def fold(node: Tensor) -> Tensor | None:
        inputs = node.inputs
        if not inputs or node.op.name in NEVER:
            return None
        for i in inputs:
            if i.op.name != "constant":
                return None
        if node.op.reference is None or not accepts(node) or not _is_small(node, limit_bytes):
            return None
        try:
            value = evaluate_node(node, [i.attr("value").values for i in inputs], {})
        except ExecutionError:
            return None  # the call raises it, with the user's line
        return constant_node(constant_value(value, node.dtype))

    return NodeRule(
        name, None, fold, cls, "f(constants) = constant", ulps=4.0, accepts=_on_constants
    )


def _on_constants(op: str, children: tuple[str, ...]) -> bool:
    return bool(children) and op not in NEVER and set(children) == {"constant"}


def _is_small(node: Tensor, limit_bytes: int) -> bool:
    if any(isinstance(s, Dim) for s in node.shape):
        return False
    for value in node.attrs:
        if isinstance(value, Dim) or (
            isinstance(value, tuple) and any(isinstance(v, Dim) for v in value)
        ):
            return False
    return int(product(node.shape)) * node.dtype.itemsize <= limit_bytes
