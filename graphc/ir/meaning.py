"""The meaning of one node (floor 1): its reference on arrays, sizes bound and values rounded."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.base import dims
from graphc.base.dtypes import Array, from_storage, to_storage
from graphc.base.errors import GraphError, message
from graphc.ir.graph import EVALUATOR, Graph
from graphc.ir.node import Node, TensorType, describe


def evaluate_node(
    node: Node,
    arrays: Sequence[Any],
    sizes: Mapping[str, int],
    run_body: Callable[..., Any] | None = None,
) -> Any:
    """The reference meaning of one node on arrays in reference form, rounded to the node's dtype.

    Symbolic sizes in attributes are bound by `sizes` first. run_body: evaluates a body, called as
    `evaluate_body` is (the default).
    """
    value = unrounded_value(node, arrays, sizes, run_body)
    if isinstance(node.type, TensorType):
        return normalize(value, node.type)
    return tuple(normalize(v, t) for v, t in zip(value, node.type.items, strict=True))


def unrounded_value(
    node: Node,
    arrays: Sequence[Any],
    sizes: Mapping[str, int],
    run_body: Callable[..., Any] | None = None,
) -> Any:
    """What the reference of a node gives, in whatever dtype it computes."""
    if node.op.reference is None:
        raise GraphError(
            message(
                f"the {node.op.name} has no value without a feed",
                operands=[describe(node)],
                hint="pass feeds={placeholder or name: array}",
            )
        )
    attrs = {k: bind_sizes(v, sizes, run_body) for k, v in node.attributes.items()}
    with np.errstate(all="ignore"):
        value = node.op.reference(*arrays, **attrs)
    if isinstance(node.type, TensorType) or len(value) == len(node.type.items):
        return value
    # A loop of no turns stacks nothing.
    empty = node.type.items[len(value) :]
    return (*value, *(np.zeros(bind_sizes(t.shape, sizes), t.dtype.numpy) for t in empty))


def normalize(value: Any, tensor_type: TensorType) -> Array:
    """A reference result as an array of the type's dtype, in reference form."""
    array = np.asarray(value)
    dtype = tensor_type.dtype
    with np.errstate(all="ignore"):
        if dtype.name == "bfloat16":
            return from_storage(to_storage(array.astype(np.float32), dtype), dtype)
        return array.astype(dtype.numpy, copy=False)


def bind_sizes(
    value: Any, sizes: Mapping[str, int], run_body: Callable[..., Any] | None = None
) -> Any:
    """An attribute with its dims replaced by ints; a body becomes a function of arrays."""
    if isinstance(value, dims.Dim):
        return value.evaluate(sizes)
    if isinstance(value, tuple):
        return tuple(bind_sizes(v, sizes) for v in value)
    if isinstance(value, Graph):
        return functools.partial(run_body or EVALUATOR["body"], value, sizes)
    return value
