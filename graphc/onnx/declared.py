"""What a model declares of its inputs and outputs (floor 8): names, sizes, given values, types."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np

from graphc.base.dims import Size
from graphc.base.dtypes import DType, dtype_of
from graphc.base.errors import GraphcError, GraphError, message
from graphc.onnx.elements import DTYPES, name_of
from graphc.onnx.narrow import CARRIED, carried_array
from graphc.onnx.refusal import bad
from graphc.onnx.values import (
    ForeignValue,
    OptionalValue,
    SequenceValue,
    TensorValue,
    Value,
    of_array,
)

_LONGEST_EXPRESSION = 200
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def unused(label: str, taken: dict[str, int]) -> str:
    """A label that is not taken yet, which takes it. taken: the next number to try for each."""
    unique = label
    while unique in taken:
        unique = f"{label}_{taken[label]}"
        taken[label] += 1
    taken[unique] = 1
    return unique


def symbol_text(dim: Any, name: str, axis: int) -> str:
    """The name of a symbolic dim: its own, or that of its place."""
    return dim.dim_param or f"{name}_{axis}"


def dim_names(inputs: Iterable[Any]) -> frozenset[str]:
    """The names that stand alone as dims of inputs, so that a call tells their sizes."""
    return frozenset(
        dim.dim_param
        for info in inputs
        for dim in info.type.tensor_type.shape.dim
        if dim.dim_param.isidentifier()
    )


def computed_size(text: str, known: Collection[str], size_of: Callable[[str], Size]) -> Size | None:
    """The size that a dim_param such as "past + 1" computes from dims of the names `known`; None
    for a text that is a name, or anything else than sums, differences, products and floor quotients
    of names and integers.
    """
    if len(text) > _LONGEST_EXPRESSION or text.isidentifier():
        return None
    try:
        return _size(ast.parse(text.strip(), mode="eval").body, known, size_of)
    except (SyntaxError, ValueError, ArithmeticError, GraphcError, RecursionError, MemoryError):
        return None  # a name like any other


def _size(node: ast.expr, known: Collection[str], size_of: Callable[[str], Size]) -> Size:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name) and node.id in known:
        return size_of(node.id)
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        left, right = _size(node.left, known, size_of), _size(node.right, known, size_of)
        size: Size = _ARITHMETIC[type(node.op)](left, right)
        return size
    raise ValueError("no size")


def may_stand(c: str) -> bool:
    """Whether a character may stand in a name of a graph."""
    return c.isprintable() and not c.isspace() and c not in '"\\%'


def given_value(value: Any, declared: Any, where: str) -> Value:
    """The value that the caller fixes for an input."""
    if declared.HasField("optional_type"):
        if value is None:
            return OptionalValue(None)
        return OptionalValue(given_value(value, declared.optional_type.elem_type, where))
    if declared.HasField("sequence_type"):
        kind = declared.sequence_type.elem_type
        return SequenceValue(
            [given_value(v, kind, where) for v in value], kind.tensor_type.elem_type
        )
    element = declared.tensor_type.elem_type
    if declared.HasField("tensor_type") and element not in DTYPES:
        if element not in CARRIED:
            return ForeignValue(name_of(element))
        stored = carried_array(np.asarray(value), element)
        return TensorValue(None, stored=stored, dtype=CARRIED[element], element=element)
    array = np.asarray(value)
    dtype = _declared_dtype(declared)
    if dtype is None:
        dtype = dtype_of(array.dtype)
    if array.dtype.kind not in "biufV":
        bad(where, f"the value given for it is of dtype {array.dtype}, expected {dtype}")
    _check_fixed_shape(array.shape, declared, where)
    return of_array(array.astype(dtype.numpy), dtype)


def _declared_dtype(declared: Any) -> DType | None:
    return DTYPES.get(declared.tensor_type.elem_type)


def _check_fixed_shape(shape: tuple[int, ...], declared: Any, where: str) -> None:
    if not declared.tensor_type.HasField("shape"):
        return
    dims = declared.tensor_type.shape.dim
    fits = len(dims) == len(shape) and all(
        not d.HasField("dim_value") or d.dim_value == s for d, s in zip(dims, shape)
    )
    if not fits:
        expected = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims]
        raise GraphError(
            message(f"{where}: the value given for it has shape {list(shape)}, expected {expected}")
        )


def check_declared(value: Value, declared: Any, where: str) -> None:
    """Raise FormatError where the model says another type of an output than it has."""
    if not isinstance(value, TensorValue) or not declared.HasField("tensor_type"):
        return
    element = declared.tensor_type.elem_type
    if element not in (0, value.element):
        bad(where, f"it is declared as {name_of(element)}, and is {name_of(value.element)}")
    if declared.tensor_type.HasField("shape"):
        rank = len(declared.tensor_type.shape.dim)
        if rank != value.ndim:
            bad(where, f"it is declared with {rank} dims, and has {value.ndim}")
