"""Reductions (floor 3): nested ones merged, repeated elements counted instead of added.

Sums change their order, so these are ROUNDING; any, all and integer sums have no order.
"""

from __future__ import annotations

from graphc.base.dims import Size
from graphc.ir.node import Tensor
from graphc.ops.elementwise import multiply
from graphc.ops.promotion import as_tensor
from graphc.ops.reduction import count_of
from graphc.ops.reshape import to_shape
from graphc.ops.view import broadcasted, permuted
from graphc.rewrite.pattern import EXACT, ROUNDING, node_rule, rules_of

ORDERED = ("sum", "max", "min", "prod")  # floats: the order, or the sign of a zero, may show


def _merged(node: Tensor) -> Tensor | None:
    """f(f(x, p), q) as one reduction of x."""
    inner = node.inputs[0]
    if inner.op is not node.op:
        return None
    x, (first, kept) = inner.inputs[0], inner.attrs
    places = [a for a in range(x.ndim) if kept or a not in first]
    axes = tuple(sorted({*first, *(places[a] for a in node.attr("axes"))}))
    return to_shape(node.op(x, axes=axes, keepdims=False), node.shape)


@node_rule("any", "all", cls=EXACT)
def truth_of_truth(node: Tensor) -> Tensor | None:
    """all(all(x, p), q) = all(x, p and q)"""
    return _merged(node)


@node_rule(*ORDERED, cls=EXACT)
def integer_reduction_of_reduction(node: Tensor) -> Tensor | None:
    """sum(sum(x, p), q) = sum(x, p and q) for integers"""
    return None if node.dtype.is_float else _merged(node)


@node_rule("sum", "max", "min", cls=ROUNDING)
def reduction_of_reduction(node: Tensor) -> Tensor | None:
    """sum(sum(x, p), q) = sum(x, p and q)"""
    # The inner result of a 16-bit float is rounded, and may overflow, where a single sum does not.
    return _merged(node) if node.dtype.bits > 16 else None


@node_rule("max", "min", "any", "all", cls=EXACT)
def extreme_of_one(node: Tensor) -> Tensor | None:
    """max(x) = x over dims of size 1"""
    return _over_ones(node)


@node_rule("sum", "mean", "prod", cls=ROUNDING, ulps=0)
def sum_of_one(node: Tensor) -> Tensor | None:
    """sum(x) = x over dims of size 1, but for the sign of a zero"""
    return _over_ones(node)


def _over_ones(node: Tensor) -> Tensor | None:
    x = node.inputs[0]
    if any(not _is_one(x.shape[a]) for a in node.attr("axes")):
        return None
    return to_shape(x, node.shape)


def _is_one(size: Size) -> bool:
    return isinstance(size, int) and size == 1


@node_rule("sum", cls=ROUNDING)
def sum_of_broadcast(node: Tensor) -> Tensor | None:
    """sum(broadcast(x)) = count * sum(x): repeated elements are counted"""
    wide = node.inputs[0]
    if wide.op.name != "broadcast_to" or not wide.dtype.is_float or wide.dtype.bits <= 16:
        return None
    x = wide.inputs[0]
    offset = wide.ndim - x.ndim
    axes = node.attr("axes")
    repeated = tuple(
        a
        for a in axes
        if a < offset or (_is_one(x.shape[a - offset]) and not _is_one(wide.shape[a]))
    )
    if not repeated:
        return None
    if any(a not in axes for a in range(offset)):
        return None
    inner = tuple(a - offset for a in axes if a not in repeated)
    total = node.op(x, axes=inner, keepdims=True) if inner else x
    count = count_of(wide.shape, repeated)
    if isinstance(count, int) and count == 0:
        return None
    kept = tuple(1 if a in axes else size for a, size in enumerate(wide.shape))[offset:]
    scaled = multiply(total, as_tensor(count, like=total))
    return to_shape(broadcasted(scaled, kept), node.shape)


@node_rule("any", "all", "max", "min", cls=EXACT)
def extreme_of_permute(node: Tensor) -> Tensor | None:
    """any(permute(x)) = permute(any(x))"""
    if node.dtype.is_float:
        return None
    return _through_permute(node)


@node_rule("sum", "mean", "max", "min", cls=ROUNDING)
def reduction_of_permute(node: Tensor) -> Tensor | None:
    """sum(permute(x)) = permute(sum(x))"""
    return _through_permute(node)


def _through_permute(node: Tensor) -> Tensor | None:
    inner = node.inputs[0]
    if inner.op.name != "permute_dims":
        return None
    order, (axes, keepdims) = inner.attr("axes"), node.attrs
    result = node.op(inner.inputs[0], axes=tuple(sorted(order[a] for a in axes)), keepdims=keepdims)
    if keepdims:
        return permuted(result, order)
    kept = [order[a] for a in range(inner.ndim) if a not in axes]
    ranks = sorted(kept)
    return permuted(result, tuple(ranks.index(a) for a in kept))


RULES = rules_of(globals())
