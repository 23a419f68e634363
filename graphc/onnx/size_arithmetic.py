"""Arithmetic on sizes at import (floor 8): what small integer tensors of shapes become.

Where all operands of an operator are known as sizes (`TensorValue.sizes`), its result is computed
here by NumPy on arrays of ints and dims, so that what is reckoned from shapes is a shape again.  A
rule gives None where the answer is not certain for all sizes; the operator's handler then builds
tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Size, bounds
from graphc.base.dtypes import Array, DType, bool_
from graphc.base.errors import ShapeError
from graphc.onnx.values import SIZE_ELEMENTS, TensorValue, object_array

Rule = Callable[[Sequence[Array], dict[str, Any]], "Array | None"]


class Uncertain(Exception):
    """The result depends on what the sizes turn out to be."""


_UNDECIDED = (
    Uncertain,
    ShapeError,
    ValueError,
    IndexError,
    ZeroDivisionError,
    OverflowError,
    TypeError,
)


def sizes_result(
    name: str, version: int, inputs: Sequence[TensorValue], attributes: dict[str, Any]
) -> TensorValue | None:
    """The result of an operator on sizes, or None."""
    rule = _RULES.get(name)
    if rule is None or any(v.sizes is None for v in inputs):
        return None
    arrays = [v.sizes for v in inputs if v.sizes is not None]
    try:
        found = rule(arrays, {**attributes, "version": version})
    except _UNDECIDED:
        return None  # the handler says what is wrong, or computes it when the sizes are there
    if found is None or found.size > SIZE_ELEMENTS:
        return None
    dtype = _result_dtype(name, inputs)
    return TensorValue(None, sizes=found, dtype=dtype) if fits(found, dtype) else None


def _result_dtype(name: str, inputs: Sequence[TensorValue]) -> DType:
    if name in _PREDICATES:
        return bool_
    return inputs[1].dtype if name == "Where" else inputs[0].dtype


def fits(found: Array, dtype: DType) -> bool:
    """Whether sizes are values of a dtype; those of dims are taken to be."""
    if dtype.is_bool:
        return True
    if not dtype.is_integer:
        return False
    low, high = np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max
    return all(isinstance(s, Dim) or low <= s <= high for s in found.flat)


def _by_elements(function: Callable[..., Any]) -> Rule:
    ufuncs: dict[int, Any] = {}

    def rule(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array:
        count = len(arrays)
        ufunc = ufuncs.setdefault(count, np.frompyfunc(function, count, 1))
        return _objects(ufunc(*arrays))

    return rule


def _objects(values: Any) -> Array:
    if isinstance(values, np.ndarray) and values.dtype == object:
        return values
    found: Array = np.empty(np.shape(values), object)
    found[...] = values.tolist() if isinstance(values, np.ndarray) else values
    return found


def _divided(a: Size, b: Size) -> Size:
    low, below = bounds(a)[0], bounds(b)[0]
    if isinstance(a, int) and isinstance(b, int):
        down = abs(a) // abs(b)
        return down if (a < 0) == (b < 0) else -down
    if isinstance(b, int) and low is not None and -b < low < 0:
        # (n - 1) / 2 is cut off toward 0, not rounded down, for n = 0 alone. Exporters mean n // 2
        # by it, and windows that are computed so have no place in an empty axis.
        return a // b
    if low is None or low < 0 or below is None or below < 1:
        if not (isinstance(a, Dim) and isinstance(b, int) and (a % b) == 0):
            raise Uncertain
    return a // b


def _remainder(a: Size, b: Size) -> Size:
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    if (bounds(b)[0] or 0) < 1:
        raise Uncertain
    return a % b


def _mod(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array | None:
    """The remainder with the divisor's sign; the other kind is the handler's."""
    return None if attributes.get("fmod", 0) else _by_elements(_remainder)(arrays, attributes)


def _is_equal(a: Size, b: Size) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    difference = a - b
    if isinstance(difference, int):
        return difference == 0
    low, high = bounds(difference)
    if (low is not None and low > 0) or (high is not None and high < 0):
        return False
    raise Uncertain


def _least(*values: Size) -> Size:
    found = values[0]
    for value in values[1:]:
        found = found if found <= value else value
    return found


def _largest(*values: Size) -> Size:
    found = values[0]
    for value in values[1:]:
        found = found if found >= value else value
    return found


def _chosen(condition: Any, a: Size, b: Size) -> Size:
    return a if condition else b


def _axis(attributes: dict[str, Any], default: int = 0) -> int:
    return int(attributes.get("axis", default))


def _ints(array: Array) -> list[int]:
    found = array.ravel().tolist()
    if any(isinstance(s, Dim) for s in found):
        raise Uncertain
    return found


def _concat(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array:
    return np.concatenate(list(arrays), axis=_axis(attributes, 1))


def _gather(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array:
    places = np.array(_ints(arrays[1]), np.int64).reshape(arrays[1].shape)
    return _objects(np.take(arrays[0], places, axis=_axis(attributes)))


def _squeeze(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array:
    axes = _ints(arrays[1]) if len(arrays) > 1 else attributes.get("axes")
    return np.squeeze(arrays[0], axis=None if axes is None else tuple(axes))


def _unsqueeze(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array:
    axes = _ints(arrays[1]) if len(arrays) > 1 else attributes["axes"]
    return np.expand_dims(arrays[0], axis=tuple(axes))


def _reshape(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array:
    shape = _ints(arrays[1]) if len(arrays) > 1 else attributes["shape"]
    if not attributes.get("allowzero", 0):
        shape = [arrays[0].shape[k] if s == 0 else s for k, s in enumerate(shape)]
    return arrays[0].reshape(shape)


def _slice(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array:
    x = arrays[0]
    if attributes["version"] < 10:
        starts, ends = attributes["starts"], attributes["ends"]
        axes = attributes.get("axes", list(range(len(starts))))
        steps = [1] * len(starts)
    else:
        starts, ends = _ints(arrays[1]), _ints(arrays[2])
        axes = _ints(arrays[3]) if len(arrays) > 3 else list(range(len(starts)))
        steps = _ints(arrays[4]) if len(arrays) > 4 else [1] * len(starts)
    index: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps):
        # Before the first element there is none: NumPy would count from the end.
        size = x.shape[axis]
        stop = None if step < 0 and end < -size else end
        index[axis] = slice(start, stop, step)
    return x[tuple(index)]


def _product(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array:
    return _folded(arrays, attributes, np.multiply, 1)


def _sum(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array:
    return _folded(arrays, attributes, np.add, 0)


def _folded(arrays: Sequence[Array], attributes: dict[str, Any], fold: Any, first: int) -> Array:
    axes = _ints(arrays[1]) if len(arrays) > 1 else attributes.get("axes")
    if not axes and attributes.get("noop_with_empty_axes", 0):
        return arrays[0]
    keep = bool(attributes.get("keepdims", 1))
    along = tuple(axes) if axes else tuple(range(arrays[0].ndim))
    return _objects(fold.reduce(arrays[0], axis=along, keepdims=keep, initial=first))


def _range(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array:
    start, stop, step = (_ints(a)[0] for a in arrays)
    count = len(range(start, stop, step))
    if count > SIZE_ELEMENTS:
        raise Uncertain
    return object_array(list(range(start, stop, step)))


def _expand(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array:
    shape = np.broadcast_shapes(arrays[0].shape, tuple(_ints(arrays[1])))
    if math.prod(shape) > SIZE_ELEMENTS:
        raise Uncertain
    return np.broadcast_to(arrays[0], shape).copy()


def _transpose(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array:
    return arrays[0].transpose(attributes.get("perm"))


def _same(arrays: Sequence[Array], attributes: dict[str, Any]) -> Array:
    return arrays[0]


_PREDICATES = {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Not", "And", "Or"}
_RULES: dict[str, Rule] = {
    "Abs": _by_elements(lambda a: a if a >= 0 else -a),
    "Add": _by_elements(lambda a, b: a + b),
    "And": _by_elements(lambda a, b: a and b),
    "Concat": _concat,
    "Div": _by_elements(_divided),
    "Equal": _by_elements(_is_equal),
    "Expand": _expand,
    "Gather": _gather,
    "Greater": _by_elements(lambda a, b: a > b),
    "GreaterOrEqual": _by_elements(lambda a, b: a >= b),
    "Identity": _same,
    "Less": _by_elements(lambda a, b: a < b),
    "LessOrEqual": _by_elements(lambda a, b: a <= b),
    "Max": _by_elements(_largest),
    "Min": _by_elements(_least),
    "Mod": _mod,
    "Mul": _by_elements(lambda a, b: a * b),
    "Neg": _by_elements(lambda a: -a),
    "Not": _by_elements(lambda a: not a),
    "Or": _by_elements(lambda a, b: a or b),
    "Range": _range,
    "ReduceProd": _product,
    "ReduceSum": _sum,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _by_elements(lambda a, b: a - b),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _by_elements(_chosen),
}
