"""Values from outside and known values (floor 2): placeholder, variable, constant.

Placeholders and variables are unique by creation (attr "uid"); constants are interned by content.
This is the lowest module of `ops`: it converts arrays, and knows nothing of promotion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Shape, Size
from graphc.base.dtypes import ALL, Array, DType, DTypeLike, bool_, dtype_of, float64, int64
from graphc.base.errors import DTypeError, GraphError, what_and_hint
from graphc.ir import provenance
from graphc.ir.constant import ConstantValue, constant_value, from_stored
from graphc.ir.node import Node, Tensor, TensorType, as_index, fresh_uid
from graphc.ir.opdef import REGISTRY, OpDef, dtype_error, fail, shape_error
from graphc.ops.families import Constant, Source


def _source_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    _, shape, dtype, _ = attrs
    return TensorType(shape, dtype)


def _variable_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    value: ConstantValue = attrs[1]
    return TensorType(value.shape, value.dtype)


def _constant_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    value: ConstantValue = attrs[0]
    return TensorType(value.shape, value.dtype)


def _constant_reference(value: ConstantValue) -> Array:
    return value.values


PLACEHOLDER = REGISTRY.add(
    OpDef(
        "placeholder",
        ("name", "shape", "dtype", "uid"),
        _source_type,
        None,
        None,
        Source(),
        doc="An input of a graph.",
        dtypes=ALL,
    )
)
VARIABLE = REGISTRY.add(
    OpDef(
        "variable",
        ("name", "value", "trainable", "uid"),
        _variable_type,
        None,
        None,
        Source(),
        doc="State: the attr `value` is its first value, a session holds the current one.",
        dtypes=ALL,
    )
)
CONSTANT = REGISTRY.add(
    OpDef(
        "constant",
        ("value",),
        _constant_type,
        _constant_reference,
        None,
        Constant(),
        doc="A known array.",
        dtypes=ALL,
    )
)


def placeholder(
    shape: Size | Sequence[Size | str | None] | None,
    dtype: DTypeLike = "float32",
    name: str | None = None,
) -> Tensor:
    """An input of a graph, of the given shape and dtype.

    A dim is an int, a string (a symbolic size: the same string is the same size everywhere in a
    graph), a `Dim`, or None (a symbol of its own). Without a name the graph calls it `input_k`.

    Raises ShapeError for a bad dim, DTypeError for an unknown dtype, GraphError for a bad name.

        x = graphc.placeholder(("batch", 64), "float32", name="x")
    """
    uid = fresh_uid()
    kind = _dtype(dtype, "placeholder")
    full_name = _scoped("placeholder", name)
    node = PLACEHOLDER(name=full_name, shape=_declared_shape(shape, uid), dtype=kind, uid=uid)
    if full_name is not None:
        provenance.add_name(node, full_name)
    return node


def variable(
    value: Any, name: str | None = None, trainable: bool = True, *, dtype: DTypeLike | None = None
) -> Tensor:
    """State of the shape and dtype of `value`, its first value; a session holds the current one.

    `value` is an array, a nested list or a number (which gives float64, int64 or bool, as in
    NumPy).

    Raises DTypeError for values that are not numbers, GraphError for a tensor or a bad name.

        w = graphc.variable(np.zeros((64, 10), np.float32), name="w")
    """
    if isinstance(value, Node):
        fail(
            GraphError,
            "variable: the first value must be an array, not a tensor",
            [value],
            "give an array: compute it with NumPy, or get the value with tensor.eval(feeds)",
        )
    as_dtype = None if dtype is None else _dtype(dtype, "variable")
    first = array_constant(value, as_dtype, "variable", interned=False)
    full_name = _scoped("variable", name)
    node = VARIABLE(name=full_name, value=first, trainable=bool(trainable), uid=fresh_uid())
    if full_name is not None:
        provenance.add_name(node, full_name)
    return node


def constant(value: Any, dtype: DTypeLike | None = None) -> Tensor:
    """A known array as a tensor: rarely needed, since arrays are accepted wherever a tensor is.

    Without `dtype` it has the dtype of the array; Python numbers and lists give NumPy's.

    Raises DTypeError for values that are not numbers or do not fit `dtype`.

        pi = graphc.constant(3.14159, "float32")
    """
    if isinstance(value, Node):
        fail(
            GraphError,
            "constant: the value must be an array, not a tensor",
            [value],
            "use it as it is",
        )
    return constant_node(
        array_constant(value, None if dtype is None else _dtype(dtype, "constant"))
    )


def constant_node(value: ConstantValue) -> Tensor:
    """The tensor of an interned constant."""
    return CONSTANT(value=value)


def scalar_constant(value: bool | int | float, dtype: DType, op: str = "constant") -> Tensor:
    """A 0-d constant of a Python number as `dtype`; raises DTypeError where an int does not fit."""
    # repr tells 0.0 from -0.0, and the type tells 1 from True.
    return CONSTANT(value=_scalar_value(type(value).__name__, repr(value), dtype, op))


@lru_cache(maxsize=4096)
def _scalar_value(kind: str, text: str, dtype: DType, op: str) -> ConstantValue:
    value: Any = float(text) if kind == "float" else text == "True" if kind == "bool" else int(text)
    return _converted(np.asarray(value, object) if kind == "int" else np.asarray(value), dtype, op)


def array_constant(
    value: Any, dtype: DType | None = None, op: str = "constant", interned: bool = True
) -> ConstantValue:
    """The interned constant of anything that NumPy makes a numeric array of.

    interned=False: a large array is not hashed before its digest is asked for.
    """
    if isinstance(value, ConstantValue):
        return value
    if isinstance(value, bool | int | float) and not isinstance(value, np.generic):
        default = bool_ if isinstance(value, bool) else int64 if isinstance(value, int) else float64
        return _scalar_value(type(value).__name__, repr(value), dtype or default, op)
    if isinstance(value, list | tuple) and _holds_tensor(value):
        fail(
            GraphError,
            f"{op}: a list that contains tensors is not an array",
            hint="put tensors together with graphc.stack([a, b]) or graphc.concat([a, b])",
        )
    if value is None or isinstance(value, str | bytes):
        dtype_error(
            f"{op}: expected an array or a number, got {type(value).__name__} {value!r:.60}",
            hint="an array, a nested list or a number",
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        hint = "all rows of a nested list need the same length: pad the short ones"
        shape_error(f"{op}: {error}", hint=hint)
    except TypeError as error:
        hint = "an array, a nested list or a number"
        dtype_error(f"{op}: cannot make an array of {type(value).__name__}: {error}", hint=hint)
    found = array_dtype(array, op)
    target = dtype or found
    if array.dtype.name == "bfloat16":
        if target is found:
            bits = np.ascontiguousarray(array).view(np.uint16).reshape(array.shape)
            return from_stored(bits, found, interned)
        array = array.astype(np.float32)
    return _converted(array, target, op, interned)


def array_dtype(array: Array, op: str) -> DType:
    """The dtype of a NumPy array; raises DTypeError, at the user's line, for one that graphc does
    not have.
    """
    try:
        return dtype_of(array.dtype)
    except DTypeError:
        hint = "use one of " + ", ".join(d.name for d in ALL)
        if array.dtype.kind == "c":
            hint = "complex numbers are not supported: keep real and imaginary parts in two tensors"
        dtype_error(f"{op}: an array of dtype {array.dtype} cannot be a tensor", hint=hint)


def _converted(array: Array, dtype: DType, op: str, interned: bool = True) -> ConstantValue:
    if dtype.is_integer and array.dtype.kind in "Oiu" and array.size:
        limits = np.iinfo(dtype.numpy)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            bad = low if low < limits.min else high
            dtype_error(
                f"{op}: the integer {bad} does not fit {dtype.name} ({limits.min} to {limits.max})",
                hint=f'convert the tensor first, for example graphc.astype(x, "{_wider(bad)}")',
            )
    with np.errstate(all="ignore"):
        if array.dtype == object:
            array = np.asarray(array, dtype.numpy)
        return constant_value(array.astype(dtype.numpy, copy=False), dtype, interned)


def _wider(value: int) -> str:
    for name in ("int16", "int32", "int64", "uint64"):
        limits = np.iinfo(name)
        if limits.min <= value <= limits.max:
            return name
    return "float64"


def _holds_tensor(value: Iterable[Any]) -> bool:
    stack = [iter(value)]
    while stack:
        for item in stack[-1]:
            if isinstance(item, Node):
                return True
            if isinstance(item, list | tuple):
                stack.append(iter(item))
                break
        else:
            stack.pop()
    return False


def _dtype(dtype: Any, op: str) -> DType:
    try:
        return dtype_of(dtype)
    except DTypeError as error:
        what, hint = what_and_hint(error)
        dtype_error(f"{op}: {what}", hint=hint)


def _scoped(op: str, name: str | None) -> str | None:
    if name is None:
        return None
    try:
        provenance.check_name(name)
    except GraphError as error:
        what, hint = what_and_hint(error)
        fail(GraphError, f"{op}: {what}", hint=hint)
    return provenance.scoped(name)


def _declared_shape(shape: Any, uid: int) -> Shape:
    if isinstance(shape, str):
        shape_error(
            f"placeholder: the shape is the string {shape!r}, not a sequence of sizes",
            hint=f'one symbolic dim is the tuple ("{shape}",)',
        )
    if shape is None or isinstance(shape, Dim) or as_index(shape) is not None:
        shape = (shape,)
    if isinstance(shape, Node) or not isinstance(shape, Iterable):
        shape_error(
            f"placeholder: a shape is a sequence of sizes, got {type(shape).__name__}",
            [shape] if isinstance(shape, Node) else [],
            'for example ("batch", 64)',
        )
    return tuple(_declared_dim(dim, i, uid) for i, dim in enumerate(shape))


def _declared_dim(dim: Any, position: int, uid: int) -> Size:
    if isinstance(dim, Dim):
        return dim
    if dim is None:
        return Dim(f"_d{uid}_{position}")
    if isinstance(dim, str):
        if not dim.isidentifier():
            shape_error(
                f"placeholder: dim {position} has the name {dim!r}, which is not an identifier",
                hint='names are like "batch"; an expression is written with graphc.Dim: 2 * n',
            )
        return Dim(dim)
    size = as_index(dim)
    if size is None:
        shape_error(
            f"placeholder: dim {position} must be an int, a string, a Dim or None, got {dim!r}",
            hint='an int, a Dim, or a string such as "batch" for a size that is not known yet',
        )
    if size < 0:
        shape_error(
            f"placeholder: dim {position} is {size}: a size cannot be negative",
            hint='a size that is not known yet is None or has a name: "batch"',
        )
    return size


__all__ = [
    "CONSTANT",
    "PLACEHOLDER",
    "VARIABLE",
    "array_constant",
    "array_dtype",
    "constant",
    "constant_node",
    "placeholder",
    "scalar_constant",
    "variable",
]
