"""Small ONNX models for the tests, and ways to change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 21


def initializer(name: str, value: Any) -> Any:
    """An array as an initializer."""
    return numpy_helper.from_array(np.asarray(value), name)


def tensor_input(name: str, shape: Sequence[Any] | None, element: int = 1) -> Any:
    """The declaration of a tensor."""
    return helper.make_tensor_value_info(name, element, shape)


def model(
    nodes: Sequence[Any],
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    initializers: Mapping[str, Any] | None = None,
    *,
    functions: Sequence[Any] = (),
    opsets: Mapping[str, int] | None = None,
) -> Any:
    """A ModelProto; nothing is checked."""
    graph = helper.make_graph(
        list(nodes),
        "main",
        list(inputs),
        list(outputs),
        [initializer(n, v) for n, v in (initializers or {}).items()],
    )
    versions = {"": OPSET} if opsets is None else opsets
    return helper.make_model(
        graph,
        ir_version=10,
        opset_imports=[helper.make_opsetid(d, v) for d, v in versions.items()],
        functions=list(functions),
    )


def one_node(
    op: str,
    operands: Mapping[str, Any],
    *,
    outputs: int = 1,
    version: int = OPSET,
    domain: str = "",
    **attributes: Any,
) -> Any:
    """A model of one node: arrays are initializers, shapes (tuples) are float inputs."""
    inputs = [tensor_input(n, v) for n, v in operands.items() if isinstance(v, tuple)]
    initializers = {n: v for n, v in operands.items() if not isinstance(v, tuple)}
    names = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(op, list(operands), names, name="n", domain=domain, **attributes)
    found = [helper.make_empty_tensor_value_info(n) for n in names]
    opsets = {"": version} | ({domain: 5} if domain else {})
    return model([node], inputs, found, initializers, opsets=opsets)


def small() -> Any:
    """relu(x @ w + b), x of shape [batch, 3]."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="product"),
        helper.make_node("Add", ["h", "b"], ["a"], name="sum"),
        helper.make_node("Relu", ["a"], ["y"], name="relu"),
    ]
    weights = {
        "w": np.arange(6, dtype=np.float32).reshape(3, 2) / 8,
        "b": np.array([-1, 0.5], np.float32),
    }
    inputs, outputs = [tensor_input("x", ["batch", 3])], [tensor_input("y", ["batch", 2])]
    return model(nodes, inputs, outputs, weights)


def graph(nodes: Sequence[Any], inputs: Sequence[str], outputs: Sequence[str], name: str) -> Any:
    """A subgraph whose inputs and outputs have no types."""
    return helper.make_graph(
        list(nodes),
        name,
        [helper.make_empty_tensor_value_info(n) for n in inputs],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
    )


def function(name: str, inputs: Sequence[str], outputs: Sequence[str], nodes: Sequence[Any]) -> Any:
    """A function of the domain "own"."""
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, list(inputs), list(outputs), list(nodes), opsets)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """A node named after its first output."""
    name = outputs[0] if outputs else op
    return helper.make_node(op, list(inputs), list(outputs), name=name, **attributes)


def data_of(proto: Any) -> bytes:
    """The bytes of a file."""
    data: bytes = proto.SerializeToString()
    return data


__all__ = [
    "data_of",
    "function",
    "graph",
    "initializer",
    "model",
    "node",
    "one_node",
    "onnx",
    "small",
    "tensor_input",
]
