"""Creation functions (floor 2): zeros, arange, eye … out of two ops, `full` and `iota`.

Both are generated where they are read: nothing is stored, and sizes may be symbolic. The default
dtypes are NumPy's: float64 for floats, int64 for integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Shape, Size
from graphc.base.dtypes import ALL, NUMERIC, Array, DType, DTypeLike, float64, int64
from graphc.ir.node import Node, Tensor, TensorType, as_index
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, shape_error
from graphc.ops.axes import as_shape, as_size
from graphc.ops.elementwise import where
from graphc.ops.families import Map
from graphc.ops.logical import greater_equal, less_equal
from graphc.ops.promotion import (
    TensorLike,
    as_tensor,
    cast,
    check_device,
    is_weak,
    promoted,
    to_dtype,
)
from graphc.ops.reshape import to_shape
from graphc.ops.rounding import floor
from graphc.ops.sizes import computed_size
from graphc.ops.state import array_constant, constant_node
from graphc.ops.view import broadcasted

# -- full -----------------------------------------------------------------------------


def _full_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    _, shape, dtype = attrs
    return TensorType(shape, dtype)


def _full_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    return e.constant(node.attr("value"), node.dtype)


def _full_reference(value: bool | int | float, shape: tuple[int, ...], dtype: DType) -> Array:
    return np.full(shape, value, dtype.numpy)


def _full_samples(dtype: DType) -> Sequence[Sample]:
    value = True if dtype.is_bool else 3 if dtype.is_integer else 0.1
    shapes: list[tuple[int, ...]] = [(), (0,), (1,), (3, 5), (130,)]
    found = [Sample((), {"value": value, "shape": s, "dtype": dtype}) for s in shapes]
    if dtype.is_float:
        specials = (math.nan, -math.inf, -0.0)
        found += [Sample((), {"value": v, "shape": (3,), "dtype": dtype}) for v in specials]
    return found


FULL = REGISTRY.add(
    OpDef(
        "full",
        ("value", "shape", "dtype"),
        _full_type,
        _full_reference,
        None,
        Map(_full_element, kind="generate"),
        doc="A tensor of one number.",
        samples=_full_samples,
        dtypes=ALL,
    )
)


def filled(value: bool | int | float, shape: Shape, dtype: DType) -> Tensor:
    """The `full` node: a Python number in the form that the dtype takes."""
    exact: bool | int | float
    if dtype.is_bool:
        exact = bool(value)
    elif dtype.is_integer:
        # The constant raises where the number does not fit.
        exact = int(array_constant(value, dtype, "full").stored)
    else:
        exact = float(value)
    return FULL(value=exact, shape=shape, dtype=dtype)


def full(
    shape: Any,
    fill_value: TensorLike,
    *,
    dtype: DTypeLike | None = None,
    device: object = None,
) -> Tensor:
    """A tensor of `shape` filled with one number, or with a 0-d tensor.

    `shape`: a size or a sequence of sizes (ints or dims). Without `dtype`: bool, int64 or float64
    by the kind of the number, or the dtype of the tensor.

    Raises ShapeError for a bad shape, DTypeError for a number that does not fit.

        graphc.full((n, 3), 0.5, dtype="float32")
    """
    check_device("full", device)
    sizes = as_shape("full", shape)
    kind = None if dtype is None else to_dtype(dtype, "full")
    if is_weak(fill_value) and not isinstance(fill_value, Dim):
        return filled(fill_value, sizes, kind or as_tensor(fill_value).dtype)
    value = as_tensor(fill_value, op="full")
    if value.shape:
        shape_error("full: the fill value must be a number or a 0-d tensor", [value])
    return broadcasted(cast(value, kind or value.dtype), sizes)


def zeros(shape: Any, *, dtype: DTypeLike | None = None, device: object = None) -> Tensor:
    """Zeros of `shape` (sizes may be symbolic); float64 unless `dtype` is given.

    graphc.zeros((n, 3), dtype="float32")
    """
    check_device("zeros", device)
    return filled(0, as_shape("zeros", shape), to_dtype(dtype or float64, "zeros"))


def ones(shape: Any, *, dtype: DTypeLike | None = None, device: object = None) -> Tensor:
    """Ones of `shape` (sizes may be symbolic); float64 unless `dtype` is given.

    graphc.ones((n, 3), dtype="float32")
    """
    check_device("ones", device)
    return filled(1, as_shape("ones", shape), to_dtype(dtype or float64, "ones"))


def empty(shape: Any, *, dtype: DTypeLike | None = None, device: object = None) -> Tensor:
    """The same as `zeros`: a graph has no uninitialised values.

    graphc.empty((n, 3), dtype="float32")
    """
    check_device("empty", device)
    return filled(0, as_shape("empty", shape), to_dtype(dtype or float64, "empty"))


def zeros_like(
    x: TensorLike, /, *, dtype: DTypeLike | None = None, device: object = None
) -> Tensor:
    """Zeros of the shape and dtype of `x`.

    graphc.zeros_like(x)
    """
    return full_like(x, 0, dtype=dtype, device=device)


def ones_like(x: TensorLike, /, *, dtype: DTypeLike | None = None, device: object = None) -> Tensor:
    """Ones of the shape and dtype of `x`.

    graphc.ones_like(x)
    """
    return full_like(x, 1, dtype=dtype, device=device)


def empty_like(
    x: TensorLike, /, *, dtype: DTypeLike | None = None, device: object = None
) -> Tensor:
    """The same as `zeros_like`.

    graphc.empty_like(x)
    """
    return full_like(x, 0, dtype=dtype, device=device)


def full_like(
    x: TensorLike,
    /,
    fill_value: TensorLike,
    *,
    dtype: DTypeLike | None = None,
    device: object = None,
) -> Tensor:
    """A tensor of the shape and dtype of `x` filled with one number.

    Raises DTypeError for a number that does not fit.

        graphc.full_like(x, 7)
    """
    tensor = as_tensor(x, op="full_like")
    kind = tensor.dtype if dtype is None else dtype
    return full(tensor.shape, fill_value, dtype=kind, device=device)


# -- iota and ranges --------------------------------------------------------------------


def _iota_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    shape, _, dtype = attrs
    return TensorType(shape, dtype)


def _iota_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    return e.cast(index[node.attr("axis")], node.dtype)


def _iota_reference(shape: tuple[int, ...], axis: int, dtype: DType) -> Array:
    line = np.arange(shape[axis]).astype(dtype.numpy)
    along = [1] * len(shape)
    along[axis] = shape[axis]
    return np.broadcast_to(line.reshape(along), shape)


def _iota_samples(dtype: DType) -> Sequence[Sample]:
    cases: list[tuple[tuple[int, ...], int]] = [((0,), 0), ((1,), 0), ((100,), 0), ((3, 5), 1)]
    cases += [((3, 5), 0), ((2, 1, 4), 2)]
    return [Sample((), {"shape": s, "axis": a, "dtype": dtype}) for s, a in cases]


IOTA = REGISTRY.add(
    OpDef(
        "iota",
        ("shape", "axis", "dtype"),
        _iota_type,
        _iota_reference,
        None,
        Map(_iota_element, kind="generate"),
        doc="Each element is its own index along one axis.",
        samples=_iota_samples,
        dtypes=NUMERIC,
    )
)


def iota(shape: Any, axis: int = 0, *, dtype: DTypeLike = "int64") -> Tensor:
    """A tensor of `shape` whose elements are their indices along `axis`; sizes may be symbolic.

    Raises ShapeError for an axis that is not there.

        graphc.iota((n, 1), axis=0)
    """
    sizes = as_shape("iota", shape)
    found = as_index(axis)
    if found is None or not -len(sizes) <= found < len(sizes):
        shape_error(f"iota: axis {axis!r:.60} is out of bounds for {len(sizes)} dims")
    return IOTA(shape=sizes, axis=found % len(sizes), dtype=to_dtype(dtype, "iota"))


def arange(
    start: int | float | Dim | Tensor,
    /,
    stop: int | float | Dim | Tensor | None = None,
    step: int | float | Tensor = 1,
    *,
    dtype: DTypeLike | None = None,
    device: object = None,
) -> Tensor:
    """start, start + step, … below `stop` (above, for a negative step); `arange(n)` counts from 0.

    Limits may be symbolic sizes; then the step must be an int. int64 for ints, float64 for floats,
    unless `dtype` is given. Limits and step may be scalars of the graph: the length is then a dim
    that the graph computes, and the dtype that of the scalars.

    Raises ShapeError for a step of 0 (a computed one raises ExecutionError at the call) and for
    tensors that are no scalars, DTypeError for what is no number.

        graphc.arange(n)
    """
    check_device("arange", device)
    if stop is None:
        start, stop = 0, start
    if any(isinstance(v, Tensor) for v in (start, stop, step)):
        return _computed_range(start, stop, step, dtype)
    limits = (start, stop, step)
    for limit in limits:
        if not isinstance(limit, int | float | Dim | np.integer | np.floating):
            operands = [limit] if isinstance(limit, Node) else []
            hint = "an int or a float, or a size: x.shape[0] or a graphc.Dim"
            dtype_error(
                f"arange: limits are numbers or sizes, not {type(limit).__name__} {limit!r:.40}",
                operands,
                hint,
            )
    if step == 0:
        shape_error("arange: the step must not be 0", hint="give a step such as 1 or -1")
    whole = all(isinstance(v, int | Dim | np.integer) for v in limits)
    kind = to_dtype(dtype, "arange") if dtype is not None else int64 if whole else float64
    if whole:
        count = _steps(start, stop, int(step))  # type: ignore[arg-type]  # `whole`: sizes all
        line = IOTA(shape=(count,), axis=0, dtype=int64)
        return cast(line * int(step) + start, kind)
    if isinstance(start, Dim) or isinstance(stop, Dim):
        shape_error("arange: with a symbolic limit the step and the start must be ints")
    count = max(0, math.ceil((stop - start) / step))
    # NumPy's spacing: the difference of the first two elements, as floats.
    delta = (start + step) - start
    return cast(IOTA(shape=(count,), axis=0, dtype=float64) * float(delta) + float(start), kind)


def _computed_range(start: Any, stop: Any, step: Any, dtype: DTypeLike | None) -> Tensor:
    """`arange` of scalars that the graph computes."""
    first, last, by = promoted("arange", start, stop, step)
    for limit in (first, last, by):
        if limit.shape or limit.dtype.is_bool:
            shape_error(
                f"arange: limits and step are scalars that are numbers, got {limit.type}",
                [limit],
                "one element of a vector is x[0]",
            )
    if by.dtype.is_float:
        count = cast(REGISTRY["ceil"]((last - first) / by), int64)
    else:
        whole, stride = cast(last, int64) - cast(first, int64), cast(by, int64)
        nonzero = REGISTRY["where"](stride == 0, as_tensor(1, like=int64), stride)
        count = (whole + stride - REGISTRY["sign"](nonzero)) // nonzero
    length = REGISTRY["maximum"](count, as_tensor(0, like=int64))
    size = computed_size(
        REGISTRY["where"](by == 0, as_tensor(-1, like=int64), length),
        what="arange: the step must not be 0",
    )
    line = cast(IOTA(shape=(size,), axis=0, dtype=int64), first.dtype) * by + first
    return line if dtype is None else cast(line, to_dtype(dtype, "arange"))


def _steps(start: Size, stop: Size, step: int) -> Size:
    distance = stop - start if step > 0 else start - stop
    if isinstance(distance, int):
        return max(0, -(-distance // abs(step)))
    return (distance + (abs(step) - 1)) // abs(step)


def linspace(
    start: TensorLike,
    stop: TensorLike,
    /,
    num: Size,
    *,
    dtype: DTypeLike | None = None,
    device: object = None,
    endpoint: bool = True,
) -> Tensor:
    """`num` evenly spaced numbers from `start` to `stop` (without it where `endpoint` is False).

    `start` and `stop` are numbers or 0-d tensors; `num` may be symbolic. float64 unless `dtype` is
    given; integers are rounded down, as NumPy does.

    Raises ShapeError for a negative `num` or limits that are not 0-d.

        graphc.linspace(0, 1, 11, dtype="float32")
    """
    check_device("linspace", device)
    kind = float64 if dtype is None else to_dtype(dtype, "linspace")
    count = as_size("linspace", num)
    first = cast(as_tensor(start, op="linspace"), float64)
    last = cast(as_tensor(stop, op="linspace"), float64)
    if first.shape or last.shape:
        shape_error("linspace: start and stop must be numbers or 0-d tensors", [first, last])
    gaps = count - 1 if endpoint else count
    line = IOTA(shape=(count,), axis=0, dtype=float64)
    if isinstance(gaps, int) and gaps <= 0:
        return cast(line * 0.0 + first, kind)
    values = line * ((last - first) / gaps) + first
    # The ends are exact: 0 * step would turn a first 0 into -0 where the step is negative.
    values = where(line == 0.0, first, values)
    if endpoint:
        values = where(line == gaps, last, values)
    return cast(floor(values) if kind.is_integer else values, kind)


# -- matrices -----------------------------------------------------------------------------


def _row_and_column(rows: Size, columns: Size) -> tuple[Tensor, Tensor]:
    row = IOTA(shape=(rows, 1), axis=0, dtype=int64)
    return row, IOTA(shape=(1, columns), axis=1, dtype=int64)


def eye(
    n_rows: Size,
    n_cols: Size | None = None,
    /,
    *,
    k: int = 0,
    dtype: DTypeLike | None = None,
    device: object = None,
) -> Tensor:
    """Ones on the k-th diagonal of a matrix, zeros elsewhere; float64 unless `dtype` is given.

    Sizes may be symbolic.

        graphc.eye(n, dtype="float32")
    """
    check_device("eye", device)
    rows = as_size("eye", n_rows)
    columns = rows if n_cols is None else as_size("eye", n_cols)
    row, column = _row_and_column(rows, columns)
    return cast(row + _offset("eye", k) == column, to_dtype(dtype or float64, "eye"))


def _offset(op: str, k: Any) -> int:
    offset = as_index(k)
    if offset is None:
        shape_error(f"{op}: k must be an int, got {k!r:.60}")
    return offset


def tril(x: TensorLike, /, *, k: int = 0) -> Tensor:
    """The lower triangle of matrices (the last two dims), zeros above the k-th diagonal.

    Raises ShapeError for fewer than two dims.

        graphc.tril(x)
    """
    return _triangle("tril", x, _offset("tril", k), lower=True)


def triu(x: TensorLike, /, *, k: int = 0) -> Tensor:
    """The upper triangle of matrices (the last two dims), zeros below the k-th diagonal.

    Raises ShapeError for fewer than two dims.

        graphc.triu(x, k=1)
    """
    return _triangle("triu", x, _offset("triu", k), lower=False)


def _triangle(op: str, x: TensorLike, k: int, lower: bool) -> Tensor:
    tensor = as_tensor(x, op=op)
    if tensor.ndim < 2:
        hint = "it works on matrices: reshape to two dims, or index with [None]"
        shape_error(f"{op}: needs at least 2 dims, got {tensor.ndim}", [tensor], hint)
    row, column = _row_and_column(*tensor.shape[-2:])
    keep = greater_equal(row + k, column) if lower else less_equal(row + k, column)
    return where(keep, tensor, filled(0, (), tensor.dtype))


def meshgrid(*arrays: TensorLike, indexing: str = "xy") -> tuple[Tensor, ...]:
    """Coordinate tensors out of coordinate vectors, as NumPy's: "xy" swaps the first two dims,
    "ij" does not.

    Raises ShapeError for operands of more than one dim or another `indexing`.

        xs, ys = graphc.meshgrid(graphc.arange(3), graphc.arange(n))
    """
    tensors = [as_tensor(a, op="meshgrid") for a in arrays]
    if indexing not in ("xy", "ij"):
        shape_error(f'meshgrid: indexing must be "xy" or "ij", got {indexing!r:.60}', tensors)
    if any(t.ndim > 1 for t in tensors):
        shape_error("meshgrid: the operands must have at most one dim", tensors)
    count = len(tensors)
    order = list(range(count))
    if indexing == "xy" and count > 1:
        order[0], order[1] = 1, 0
    sizes: list[Size] = [1] * count
    for tensor, axis in zip(tensors, order, strict=True):
        sizes[axis] = tensor.size
    found = []
    for tensor, axis in zip(tensors, order, strict=True):
        shape: list[Size] = [1] * count
        shape[axis] = tensor.size
        found.append(broadcasted(to_shape(tensor, tuple(shape)), tuple(sizes)))
    return tuple(found)


# -- from outside ---------------------------------------------------------------------------


def asarray(
    obj: TensorLike,
    /,
    *,
    dtype: DTypeLike | None = None,
    device: object = None,
    copy: bool | None = None,
) -> Tensor:
    """Anything that can be an operand as a tensor; a tensor is returned as it is.

    `copy` is accepted for the Array API and has no meaning here: tensors never change.

    Raises DTypeError for what is no number.

        graphc.asarray([1.0, 2.0], dtype="float32")
    """
    check_device("asarray", device)
    kind = None if dtype is None else to_dtype(dtype, "asarray")
    if isinstance(obj, Node | Dim):
        tensor = as_tensor(obj, op="asarray")
        return tensor if kind is None else cast(tensor, kind)
    return constant_node(array_constant(obj, kind, "asarray"))


def from_dlpack(x: Any, /, *, device: object = None, copy: bool | None = None) -> Tensor:
    """A constant out of an array of another library (on the CPU), through DLPack.

    Raises DTypeError for what does not speak DLPack.

        graphc.from_dlpack(torch_tensor)
    """
    check_device("from_dlpack", device)
    if isinstance(x, Tensor):
        return x
    if not hasattr(x, "__dlpack__"):
        dtype_error(f"from_dlpack: expected an object with __dlpack__, got {type(x).__name__}")
    try:
        array = np.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError) as error:
        dtype_error(
            f"from_dlpack: the array cannot be taken: {error}", hint="copy it to the CPU first"
        )
    return constant_node(array_constant(array, None, "from_dlpack"))


__all__ = [
    "arange",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "filled",
    "from_dlpack",
    "full",
    "full_like",
    "iota",
    "linspace",
    "meshgrid",
    "ones",
    "ones_like",
    "tril",
    "triu",
    "zeros",
    "zeros_like",
]
