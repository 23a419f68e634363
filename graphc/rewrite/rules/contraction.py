"""Contraction forms (floor 3): sums of products become `einsum`, transposes around it become
letters.

A contraction has its own kernels, blocked for caches and registers; a broadcast product that is
summed has not. The order of additions changes, so these are ROUNDING.
"""

from __future__ import annotations

from graphc.ir.node import Tensor
from graphc.ops.contraction import EINSUM, LETTERS, contract, split_spec
from graphc.ops.elementwise import multiply
from graphc.ops.reduction import SUM
from graphc.ops.reshape import to_shape
from graphc.rewrite.pattern import DOMAIN, ROUNDING, node_rule, rules_of, uniform


@node_rule("einsum", cls=ROUNDING, ulps=64)
def permute_into_einsum(node: Tensor) -> Tensor | None:
    """einsum(permute(x), y) = einsum(x, y) with other letters"""
    left, right, result = split_spec(node.attr("spec"))
    inputs = list(node.inputs)
    letters = [left, right]
    for k, operand in enumerate(inputs):
        if operand.op.name == "permute_dims":
            order = operand.attr("axes")
            # Dim i of the operand is dim order[i] of what is permuted.
            letters[k] = "".join(letters[k][order.index(i)] for i in range(len(order)))
            inputs[k] = operand.inputs[0]
    if inputs[0] is node.inputs[0] and inputs[1] is node.inputs[1]:
        return None
    return EINSUM(*inputs, spec=f"{letters[0]},{letters[1]}->{result}")


@node_rule("permute_dims", cls=ROUNDING, ulps=64)
def permute_of_einsum(node: Tensor) -> Tensor | None:
    """permute(einsum(x, y)) = einsum(x, y) with the result's letters in another order"""
    inner = node.inputs[0]
    if inner.op.name != "einsum":
        return None
    operands, result = inner.attr("spec").split("->")
    return EINSUM(
        *inner.inputs, spec=operands + "->" + "".join(result[a] for a in node.attr("axes"))
    )


@node_rule("sum", cls=ROUNDING, ulps=64, via=("multiply",))
def sum_of_product(node: Tensor) -> Tensor | None:
    """sum(x * y) = einsum(x, y) where the product is larger than both"""
    inner = node.inputs[0]
    if inner.op.name != "multiply" or not inner.dtype.is_float:
        return None
    letters = LETTERS[: inner.ndim]
    operands, specs = [], []
    for operand in inner.inputs:
        narrow, own = _own_letters(operand, inner, letters)
        # A product as large as an operand is one pass over memory anyway, and fuses.
        if len(own) == inner.ndim or not own:
            return None
        operands.append(narrow)
        specs.append(own)
    # A letter of one operand alone would be summed first: that is another order, and another
    # overflow.
    if not all(letters[a] in specs[0] and letters[a] in specs[1] for a in node.attr("axes")):
        return None
    result = "".join(c for a, c in enumerate(letters) if a not in node.attr("axes"))
    if any(c not in specs[0] + specs[1] for c in result):
        return None
    return to_shape(
        contract(operands[0], operands[1], f"{specs[0]},{specs[1]}->{result}"), node.shape
    )


def _own_letters(operand: Tensor, product: Tensor, letters: str) -> tuple[Tensor, str]:
    """The operand without the dims along which it is repeated, and the letters of the others."""
    while operand.op.name == "broadcast_to":
        operand = operand.inputs[0]
    offset = product.ndim - operand.ndim
    kept = [
        i for i, size in enumerate(operand.shape) if size == product.shape[i + offset] and size != 1
    ]
    narrow = to_shape(operand, tuple(operand.shape[i] for i in kept))
    return narrow, "".join(letters[i + offset] for i in kept)


@node_rule("einsum", cls=ROUNDING, ulps=64)
def einsum_with_ones(node: Tensor) -> Tensor | None:
    """einsum(x, 1) = sum(x) over the letters that the result does not have"""
    left, right, result = split_spec(node.attr("spec"))
    for x, letters, other, others in (
        (node.inputs[0], left, node.inputs[1], right),
        (node.inputs[1], right, node.inputs[0], left),
    ):
        if uniform(other) != 1 or x.dtype.is_bool or any(c not in letters for c in others + result):
            continue
        kept = "".join(c for c in letters if c in result)
        if kept == result:
            axes = tuple(i for i, c in enumerate(letters) if c not in result)
            return SUM(x, axes=axes, keepdims=False) if axes else x
    return None


@node_rule("einsum", cls=DOMAIN, ulps=64, via=("multiply",))
def einsum_of_scaled(node: Tensor) -> Tensor | None:
    """einsum(x * k, y) = einsum(x, y) * k for a number k, unless a sum overflows without it"""
    if not node.dtype.is_float:
        return None
    for k, operand in enumerate(node.inputs):
        if operand.op.name != "multiply" or operand.inputs[1].ndim:
            continue
        if uniform(operand.inputs[1]) is None or operand.inputs[0].shape != operand.shape:
            continue
        inputs = list(node.inputs)
        inputs[k] = operand.inputs[0]
        return multiply(EINSUM(*inputs, spec=node.attr("spec")), operand.inputs[1])
    return None


RULES = rules_of(globals())
