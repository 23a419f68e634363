"""Operands (floor 2): how what a user writes becomes tensors of one dtype and one shape.

Anything that NumPy takes is taken: tensors, arrays, numbers, lists, and sizes (`x.shape[0]`).
Python numbers are weak: they take the dtype of the tensors beside them and never widen it. Arrays
and NumPy scalars keep their dtype. Dtypes meet by `base.dtypes.promote`, shapes by NumPy's
broadcasting over static rules: two sizes are equal, or one of them is literally 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard, Union

import numpy as np

from graphc.base.dims import Dim, Shape, Size, evaluate, shape_text
from graphc.base.dtypes import (
    ALL,
    Array,
    DType,
    DTypeLike,
    bool_,
    dtype_of,
    float16,
    float32,
    float64,
    int64,
    promote,
    with_scalar,
)
from graphc.base.errors import (
    DTypeError,
    GraphcError,
    GraphError,
    UnsupportedError,
    what_and_hint,
)
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, fail, shape_error
from graphc.ir.scalar_numpy import NumpyScalar, Value
from graphc.ops.families import Elementwise, Map
from graphc.ops.sampling import draw
from graphc.ops.state import array_constant, constant_node, scalar_constant

TensorLike = Union[Tensor, Dim, bool, int, float, "Array", "np.generic", "Sequence[Any]"]
Scalar = bool | int | float


# -- conversion ----------------------------------------------------------------


def _cast_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,) = inputs
    assert isinstance(x, Tensor)
    return TensorType(x.shape, attrs[0])


def _cast_scalar(s: Any, x: Any, dtype: DType) -> Any:
    return s.cast(x, dtype)


def _cast_reference(x: Array, dtype: DType) -> Array:
    # float32 stands for bfloat16 as well: the values are the same, so the conversion is.
    return NumpyScalar().cast(Value(x, dtype_of(x.dtype)), dtype).array


def _cast_gradient(g: Tensor, node: Tensor) -> Sequence[Tensor | None]:
    source = node.inputs[0].dtype
    return (cast(g, source) if source.is_float and node.dtype.is_float else None,)


def _cast_samples(dtype: DType) -> Sequence[Sample]:
    if dtype.is_float:
        edges = [0.0, -0.0, 1.5, -1.5, 0.1, 300.7, -300.7, 65504.0, np.nan, np.inf, -np.inf]
        values = np.array([*edges, 3e9, -3e9, 1e19, -1e19], np.float64)
    elif dtype.is_bool:
        values = np.array([True, False])
    else:
        limits = np.iinfo(dtype.numpy)
        values = np.array([limits.min, limits.max, 0, 1, 2, 127, 100])
    with np.errstate(all="ignore"):
        x = NumpyScalar().cast(Value(values, dtype_of(values.dtype)), dtype).array
    plain = draw((4, 33), dtype)
    found = [Sample((x,), {"dtype": d}) for d in ALL] + [Sample((x[:0],), {"dtype": float32})]
    return [*found, Sample((plain,), {"dtype": float64}), Sample((plain.T,), {"dtype": float32})]


CAST = REGISTRY.add(
    OpDef(
        "cast",
        ("dtype",),
        _cast_type,
        _cast_reference,
        _cast_gradient,
        Elementwise(_cast_scalar),
        doc="Each element converted to another dtype.",
        samples=_cast_samples,
        dtypes=ALL,
    )
)


def _size_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    return TensorType((), attrs[1])


def _size_reference(size: Size, dtype: DType) -> Array:
    return np.asarray(evaluate(size, {})).astype(dtype.numpy)


def _size_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    return e.cast(e.size(node.attr("size")), node.dtype)


SIZE = REGISTRY.add(
    OpDef(
        "size",
        ("size", "dtype"),
        _size_type,
        _size_reference,
        None,
        Map(_size_element, kind="generate"),
        doc="A symbolic size as a 0-d tensor.",
        samples=lambda dtype: [Sample((), {"size": 3, "dtype": dtype})],
        dtypes=ALL,
    )
)


def cast(x: Tensor, dtype: DType) -> Tensor:
    """`x` as `dtype`; the same tensor where it already is."""
    if x.type.dtype is dtype:
        return x
    if x.op.name == "constant" and not x.shape:
        value = _cast_reference(x.attr("value").values, dtype)
        return constant_node(array_constant(value, dtype))
    return CAST(x, dtype=dtype)


def astype(
    x: TensorLike, dtype: DTypeLike, /, *, copy: bool = True, device: object = None
) -> Tensor:
    """Each element of `x` converted to `dtype`; the shape stays.

    A float becomes an integer by truncation toward zero, saturating at the ends (NaN gives 0);
    integers wrap; anything but zero becomes True. `copy` and `device=None` are accepted for the
    Array API and have no meaning here.

    Raises DTypeError for an unknown dtype.

        graphc.astype(x, "float16")
    """
    tensor = as_tensor(x, op="astype")
    check_device("astype", device, tensor)
    return cast(tensor, to_dtype(dtype, "astype", (tensor,)))


def to_dtype(dtype: DTypeLike, op: str, operands: Sequence[Node] = ()) -> DType:
    """The `DType` that a user means; raises DTypeError at the user's line."""
    try:
        return dtype_of(dtype)
    except DTypeError as error:
        what, hint = what_and_hint(error)
        dtype_error(f"{op}: {what}", operands, hint)


def check_device(op: str, device: object, *operands: Node) -> None:
    """Raise UnsupportedError where a device is asked for: the session that runs a graph has one."""
    if device is not None and device != "any":
        fail(
            UnsupportedError,
            f"{op}: a tensor of a graph has no device of its own, got device={device!r:.40}",
            operands,
            "leave it out: graphc.Session(device=...) chooses where the whole graph runs",
        )


def is_weak(x: object) -> TypeGuard[bool | int | float | Dim]:
    """True for what takes the dtype of its neighbours: Python numbers and sizes."""
    return isinstance(x, bool | int | float | Dim) and not isinstance(x, np.generic)


def as_tensor(x: TensorLike, like: Tensor | DType | None = None, op: str = "as_tensor") -> Tensor:
    """Anything that can be an operand as a tensor.

    Python numbers and sizes take the dtype of `like` as far as they can (a float beside an integer
    gives float64); without `like` they are bool, int64 or float64. Arrays keep their dtype.

    Raises DTypeError for what is no number, GraphError for lists of tensors.
    """
    if isinstance(x, Tensor):
        return x
    if isinstance(x, Node):
        fail(GraphError, f"{op}: this op has several results", [x], "take one of them by its index")
    if is_weak(x):
        near = like.dtype if isinstance(like, Tensor) else like
        return _weak_tensor(x, near, op)
    if isinstance(x, complex | str | bytes) or x is None:
        dtype_error(
            f"{op}: expected a tensor, an array or a number, got {type(x).__name__} {x!r:.60}",
            hint="complex numbers are not supported: keep real and imaginary parts in two tensors"
            if isinstance(x, complex)
            else "give a tensor, an array or a number",
        )
    return constant_node(array_constant(x, None, op))


def _weak_tensor(x: Any, near: DType | None, op: str) -> Tensor:
    if isinstance(x, Dim):
        return SIZE(size=x, dtype=int64 if near is None or near is bool_ else near)
    if near is None:
        near = bool_ if isinstance(x, bool) else int64 if isinstance(x, int) else float64
    return scalar_constant(x, with_scalar(near, x), op)


def as_tensors(op: str, *operands: Any) -> tuple[Tensor, ...]:
    """Operands as tensors of their own dtypes, Python numbers weak beside the others."""
    strong = [as_tensor(x, op=op) for x in operands if not is_weak(x)]
    if len(strong) == len(operands):
        return tuple(strong)
    near: DType | None = None
    for tensor in strong:
        near = tensor.dtype if near is None else promote(near, tensor.dtype)
    if near is None:
        near = _weakest(operands)
    for x in operands:
        if is_weak(x) and not isinstance(x, Dim):
            near = with_scalar(near, x)
        elif is_weak(x) and near is bool_:
            near = int64
    _check_integers(op, operands, near, strong)
    rest = iter(strong)
    return tuple(_weak_tensor(x, near, op) if is_weak(x) else next(rest) for x in operands)


def _check_integers(
    op: str, operands: Sequence[Any], near: DType, strong: Sequence[Tensor]
) -> None:
    """Raise where a Python int beside integer tensors does not fit their dtype."""
    if not near.is_integer:
        return
    limits = np.iinfo(near.numpy)
    for x in operands:
        if is_weak(x) and isinstance(x, int) and not limits.min <= x <= limits.max:
            dtype_error(
                f"{op}: the integer {x} does not fit {near} ({limits.min} to {limits.max})",
                strong,
                "convert the tensor first, for example "
                f'graphc.astype(x, "{"int64" if -(2**63) <= x < 2**63 else "float64"}")',
            )


def _weakest(operands: Sequence[Any]) -> DType:
    if any(isinstance(x, float) for x in operands):
        return float64
    return bool_ if all(isinstance(x, bool) for x in operands) else int64


def promoted(op: str, *operands: Any) -> tuple[Tensor, ...]:
    """Operands as tensors of one dtype, with `cast` nodes where they differ."""
    for x in operands:
        if x.__class__ is not Tensor:
            break
    else:
        first = operands[0].type.dtype
        if all(x.type.dtype is first for x in operands):
            return operands  # what most nodes of a graph are
    tensors = as_tensors(op, *operands)
    first = tensors[0].type.dtype
    for tensor in tensors:
        if tensor.type.dtype is not first:
            break
    else:
        return tensors
    dtype = first
    for tensor in tensors[1:]:
        dtype = promote(dtype, tensor.dtype)
    return tuple(cast(t, dtype) for t in tensors)


def float_dtype(dtype: DType) -> DType:
    """The dtype in which a float-only function computes: NumPy's choice for bool and integers."""
    if dtype.is_float:
        return dtype
    return float16 if dtype.bits <= 8 else float32 if dtype.bits == 16 else float64


# -- shapes ----------------------------------------------------------------


def broadcast_shapes(op: str, shapes: Sequence[Shape], operands: Sequence[Node] = ()) -> Shape:
    """The shape of an elementwise op: sizes are equal, or literally 1. Raises ShapeError."""
    result = shapes[0]
    for shape in shapes[1:]:
        if shape != result:
            result = _broadcast_two(op, result, shape, shapes, operands)
    return result


def _broadcast_two(
    op: str, a: Shape, b: Shape, shapes: Sequence[Shape], operands: Sequence[Node]
) -> Shape:
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    offset = len(longer) - len(shorter)
    result: list[Size] = list(longer[:offset])
    for position, (p, q) in enumerate(zip(longer[offset:], shorter, strict=True)):
        if p == q or (isinstance(q, int) and q == 1):
            result.append(p)
        elif isinstance(p, int) and p == 1:
            result.append(q)
        else:
            axis = position + offset - len(longer)
            texts = " and ".join(shape_text(s) for s in shapes)
            shape_error(
                f"{op}: shapes {texts} do not broadcast: sizes {p} and {q} at axis {axis}",
                operands,
                _broadcast_hint(longer, shorter, p, q),
            )
    return tuple(result)


def _broadcast_hint(longer: Shape, shorter: Shape, p: Size, q: Size) -> str:
    if len(shorter) < len(longer) and len(shorter) == 1 and shorter[0] in longer:
        where = longer.index(shorter[0]) - len(longer)
        new = "None, " * 0 + ":" + ", None" * (-where - 1)
        return f"the size {shorter[0]} is at axis {where} of the other operand: index with [{new}]"
    if isinstance(p, Dim) and str(p) == str(q):
        return f"the two {p} have different bounds: use one graphc.Dim for both"
    if isinstance(p, Dim) or isinstance(q, Dim):
        return (
            "symbolic sizes are equal only where their names are; give both the same name, "
            "or size 1 where one is to be repeated"
        )
    return "sizes must be equal or 1; use graphc.reshape or index with None to line the axes up"


def require(
    condition: bool, error: type[GraphcError], what: str, *operands: Node, hint: str | None = None
) -> None:
    """`fail` unless the condition holds."""
    if not condition:
        fail(error, what, operands, hint)


__all__ = [
    "CAST",
    "Scalar",
    "TensorLike",
    "as_tensor",
    "as_tensors",
    "astype",
    "broadcast_shapes",
    "cast",
    "check_device",
    "float_dtype",
    "is_weak",
    "promoted",
    "require",
    "to_dtype",
]
