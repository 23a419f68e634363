"""Activation functions as operators of ONNX (floor 8): Relu, Gelu, Elu, HardSwish and others.

Each is found by building the function again on what it may have been applied to: nodes are
interned, so that the same formula is the same node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from graphc.base.dtypes import float64
from graphc.ir.node import Tensor
from graphc.nn import activations
from graphc.onnx.exporting.group import Asked, Match, fits_attribute, operator
from graphc.onnx.exporting.writer import exists, takes

# (operator, attributes, the function): by the op of the function's last node.
_Known = tuple[str, dict[str, Any], Callable[[Tensor], Tensor]]
_PLAIN: dict[str, tuple[_Known, ...]] = {
    "divide": (("Softsign", {}, activations.softsign),),
    "multiply": (
        ("Gelu", {}, activations.gelu),
        ("Gelu", {"approximate": "tanh"}, lambda x: activations.gelu(x, "tanh")),
        ("HardSwish", {}, activations.hard_swish),
        ("Mish", {}, activations.mish),
        ("Selu", {}, activations.selu),
    ),
    "where": (("Relu", {}, activations.relu),),
}
# Operators with numbers inside or as attributes, which are float32.
_NARROW = ("Gelu", "HardSwish", "Selu")
_DEPTH = 7  # nodes between the argument of a function and its result, on the shortest way


def activation(node: Tensor, asked: Asked) -> Match | None:
    """The activation that ends in a node."""
    if not node.dtype.is_float:
        return None
    if node.op.name == "where":
        return _of_two_sides(node, asked) or _plain(node, asked, [node.inputs[2]])
    return _plain(node, asked, _arguments(node))


def _plain(node: Tensor, asked: Asked, arguments: Any) -> Match | None:
    known = _PLAIN[node.op.name]
    for x in arguments:
        for op_type, attrs, function in known:
            wide = x.dtype.compute is float64 and op_type in _NARROW
            if not wide and exists(op_type, asked.opset) and function(x) is node:
                return operator(x, op_type, attrs)
    return None


def _arguments(node: Tensor) -> Iterator[Tensor]:
    """The tensors that a function with this result may have been applied to: what the nodes of
    activations lead to, and what occurs twice in the formula.
    """
    inside = {"erfc", "tanh", "sigmoid", "softplus", "minimum", "abs", "where"}
    if not any(x.op.name in inside for x in _above(node, 2)):
        return
    for x in _above(node, _DEPTH):
        if x.shape == node.shape and x.dtype is node.dtype:
            yield x


def _above(node: Tensor, depth: int) -> Iterator[Tensor]:
    seen: set[int] = set()
    level = [node]
    for _ in range(depth):
        level = [x for n in level for x in n.inputs if id(x) not in seen and x.op.name != "get"]
        for x in level:
            if id(x) not in seen:
                seen.add(id(x))
                yield x


def _of_two_sides(node: Tensor, asked: Asked) -> Match | None:
    """leaky_relu and elu: x above zero, something else below, with a number in it."""
    condition, x, below = node.inputs
    if condition.op.name != "greater" or condition.inputs[0] is not x:
        return None
    if below.op.name != "multiply":
        return None
    for number in below.inputs:
        if number.op.name != "constant" or number.ndim:
            continue
        value = float(number.attr("value").values)
        if not fits_attribute(value):
            continue
        if activations.leaky_relu(x, value) is node and takes("LeakyRelu", asked.opset, 0, x.dtype):
            return operator(x, "LeakyRelu", {"alpha": value})
        if activations.elu(x, value) is node:
            return operator(x, "Elu", {"alpha": value})
    return None
