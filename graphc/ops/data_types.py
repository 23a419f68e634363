"""The Array API's functions on dtypes (floor 2): can_cast, finfo, iinfo, isdtype, result_type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.base.dtypes import (
    FLOAT,
    INTEGER,
    NUMERIC,
    SIGNED,
    UNSIGNED,
    DType,
    DTypeLike,
    bfloat16,
    bool_,
    promote,
)
from graphc.ir.node import Tensor
from graphc.ir.opdef import dtype_error
from graphc.ops.promotion import as_tensor, as_tensors, is_weak, to_dtype


@dataclass(frozen=True, slots=True)
class FloatInfo:
    """Limits of a float dtype: bits, eps (from 1 to the next), max, min, smallest_normal, dtype."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True, slots=True)
class IntegerInfo:
    """Limits of an integer dtype: bits, max, min, dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


_KINDS: dict[str, tuple[DType, ...]] = {
    "bool": (bool_,),
    "signed integer": SIGNED,
    "unsigned integer": UNSIGNED,
    "integral": INTEGER,
    "real floating": FLOAT,
    "complex floating": (),
    "numeric": NUMERIC,
}


def _dtype_of(op: str, x: Any) -> DType:
    return x.dtype if isinstance(x, Tensor) else to_dtype(x, op)


def finfo(dtype: DTypeLike | Tensor, /) -> FloatInfo:
    """The limits of a float dtype (or of a tensor's). Raises DTypeError for other dtypes.

    graphc.finfo("float32").eps
    """
    kind = _dtype_of("finfo", dtype)
    if not kind.is_float:
        dtype_error(
            f"finfo: expected a float dtype, got {kind}", hint="use graphc.iinfo for integers"
        )
    if kind is bfloat16:
        largest = (2.0 - 2.0**-7) * 2.0**127
        return FloatInfo(16, 2.0**-7, largest, -largest, 2.0**-126, kind)
    info = np.finfo(kind.numpy)
    return FloatInfo(
        kind.bits,
        float(info.eps),
        float(info.max),
        float(info.min),
        float(info.smallest_normal),
        kind,
    )


def iinfo(dtype: DTypeLike | Tensor, /) -> IntegerInfo:
    """The limits of an integer dtype (or of a tensor's). Raises DTypeError for other dtypes.

    graphc.iinfo("int8").max
    """
    kind = _dtype_of("iinfo", dtype)
    if not kind.is_integer:
        dtype_error(
            f"iinfo: expected an integer dtype, got {kind}", hint="use graphc.finfo for floats"
        )
    info = np.iinfo(kind.numpy)
    return IntegerInfo(kind.bits, int(info.max), int(info.min), kind)


def can_cast(from_: DTypeLike | Tensor, to: DTypeLike, /) -> bool:
    """Whether promotion of `from_` (a dtype or a tensor's) with `to` gives `to`.

    graphc.can_cast("int8", "int16")
    """
    target = to_dtype(to, "can_cast")
    return promote(_dtype_of("can_cast", from_), target) is target


def isdtype(dtype: DTypeLike, kind: DTypeLike | tuple[DTypeLike, ...]) -> bool:
    """Whether a dtype is of a kind.

    `kind`: "bool", "signed integer", "unsigned integer", "integral", "real floating",
    "complex floating", "numeric", a dtype, or a tuple of these.
    Raises DTypeError for another kind.

    graphc.isdtype(x.dtype, "real floating")
    """
    found = to_dtype(dtype, "isdtype")
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return any(
        found in _KINDS[k]
        if isinstance(k, str) and k in _KINDS
        else found is to_dtype(k, "isdtype")
        for k in kinds
    )


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype that tensors, arrays, Python numbers and dtypes promote to.

    Python numbers are weak: they take the dtype of the others. Raises DTypeError without operands.

    graphc.result_type(x, "float64", 1.0)
    """
    if not arrays_and_dtypes:
        dtype_error("result_type: needs at least one tensor, array, number or dtype")
    weak = [x for x in arrays_and_dtypes if is_weak(x)]
    found: DType | None = None
    for x in arrays_and_dtypes:
        if is_weak(x):
            continue
        named = isinstance(x, DType | str | type | np.dtype)
        kind = to_dtype(x, "result_type") if named else as_tensor(x, op="result_type").dtype
        found = kind if found is None else promote(found, kind)
    if found is None:
        return as_tensors("result_type", *weak)[0].dtype
    for number in weak:
        found = as_tensor(number, like=found, op="result_type").dtype
    return found
