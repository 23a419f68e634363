"""Data types (floor 0): the twelve dtypes, their short names, and the promotion table.

A `DType` is interned: compare with `is` or `==`.  bfloat16 has no NumPy type of its own; its host
form is the `ml_dtypes` type where that package is installed and float32 holding exact bfloat16
values elsewhere, its stored form is always 16 bits (`storage`).
Promotion follows the Array API standard (2024.12), then NumPy 2: no value-based casting.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graphc.base.errors import DTypeError, message

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False, slots=True)
class DType:
    """One element type.  `kind` is b (bool), i (signed), u (unsigned) or f (float)."""

    name: str
    kind: str
    bits: int
    short: str

    @property
    def itemsize(self) -> int:
        """Bytes per element in memory (bool is one byte)."""
        return max(1, self.bits // 8)

    @property
    def is_float(self) -> bool:
        """float16, bfloat16, float32 and float64."""
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        """The signed and unsigned integers."""
        return self.kind in "iu"

    @property
    def is_bool(self) -> bool:
        """bool alone."""
        return self.kind == "b"

    @property
    def compute(self) -> DType:
        """The dtype in which arithmetic is done before rounding: float32 for the 16-bit floats."""
        return float32 if self in (float16, bfloat16) else self

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype in which the *reference meaning* holds values (float32 for bfloat16)."""
        return np.dtype("float32") if self is bfloat16 else np.dtype(self.name)

    @property
    def storage(self) -> np.dtype[Any]:
        """The NumPy dtype with the memory layout of stored elements (uint16 for bfloat16)."""
        return np.dtype("uint16") if self is bfloat16 else np.dtype(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"graphc.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (dtype_of, (self.name,))


bool_ = DType("bool", "b", 1, "bool")
int8 = DType("int8", "i", 8, "i8")
int16 = DType("int16", "i", 16, "i16")
int32 = DType("int32", "i", 32, "i32")
int64 = DType("int64", "i", 64, "i64")
uint8 = DType("uint8", "u", 8, "u8")
uint16 = DType("uint16", "u", 16, "u16")
uint32 = DType("uint32", "u", 32, "u32")
uint64 = DType("uint64", "u", 64, "u64")
float16 = DType("float16", "f", 16, "f16")
bfloat16 = DType("bfloat16", "f", 16, "bf16")
float32 = DType("float32", "f", 32, "f32")
float64 = DType("float64", "f", 64, "f64")

SIGNED = (int8, int16, int32, int64)
UNSIGNED = (uint8, uint16, uint32, uint64)
INTEGER = SIGNED + UNSIGNED
FLOAT = (float16, bfloat16, float32, float64)
NUMERIC = INTEGER + FLOAT
ALL = (bool_, *NUMERIC)

_BY_NAME = {d.name: d for d in ALL} | {d.short: d for d in ALL}

DTypeLike = DType | str | type | np.dtype[Any]


def dtype_of(value: Any) -> DType:
    """The `DType` for a DType, a name ("float32", "f32"), a NumPy dtype or scalar type, or
    bool/int/float.

    Raises DTypeError for anything else (complex, object, strings …).
    """
    if isinstance(value, DType):
        return value
    if value is bool:
        return bool_
    if value is int:
        return int64
    if value is float:
        return float64
    if isinstance(value, str) and value in _BY_NAME:
        return _BY_NAME[value]
    try:
        name = np.dtype(value).newbyteorder("=").name
    except TypeError:
        name = str(value)
    if name in _BY_NAME:
        return _BY_NAME[name]
    raise DTypeError(
        message(
            f"unknown dtype {value!r}",
            hint="use one of " + ", ".join(d.name for d in ALL),
        )
    )


def promote(a: DType, b: DType) -> DType:
    """The dtype of an op between arrays of dtypes `a` and `b` (bool promotes to anything).

    Integers with floats and int64 with uint64 are mixed kinds: the standard leaves them open, and
    NumPy's answer is taken (int32 + float32 -> float64, int8 + float16 -> float16, int64 + uint64
    -> float64). bfloat16 takes float16's place among the 16-bit floats; the two together give
    float32.
    """
    if a is b:
        return a
    if a.is_bool:
        return b
    if b.is_bool:
        return a
    if bfloat16 in (a, b):
        other = b if a is bfloat16 else a
        if other in (float16, float32):
            return float32
        if other is float64:
            return float64
        # Integers: as NumPy treats float16 (8 bits stay, 16 bits -> float32, wider -> float64).
        return {8: bfloat16, 16: float32}.get(other.bits, float64)
    return dtype_of(np.promote_types(a.numpy, b.numpy))


def with_scalar(dtype: DType, scalar: bool | int | float) -> DType:
    """The dtype of an op between an array of `dtype` and a Python scalar: the scalar never widens.

    A float with an integer or bool array gives float64's default of NumPy; an int with bool gives
    int64.
    """
    if isinstance(scalar, bool) or dtype.is_float:
        return dtype
    if isinstance(scalar, int):
        return int64 if dtype.is_bool else dtype
    return float64


def round_bfloat16(values: Array) -> Array:
    """float32 values rounded to the nearest bfloat16 (ties to even), still float32.

    NaN stays NaN.
    """
    return from_storage(to_storage(np.asarray(values, np.float32), bfloat16), bfloat16)


def to_storage(values: Array, dtype: DType) -> Array:
    """Values of the reference form (`dtype.numpy`) as stored elements (`dtype.storage`)."""
    if dtype is not bfloat16:
        return np.asarray(values, dtype.storage)
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(nan, quiet, rounded).astype(np.uint16)


def from_storage(stored: Array, dtype: DType) -> Array:
    """Stored elements (`dtype.storage`) as values of the reference form (`dtype.numpy`)."""
    if dtype is not bfloat16:
        return stored
    # NumPy makes a scalar of a 0-d result: asarray keeps it an array.
    return np.asarray((np.asarray(stored).astype(np.uint32) << np.uint32(16)).view(np.float32))


def host_bfloat16() -> np.dtype[Any] | None:
    """The `ml_dtypes` bfloat16 dtype, or None where that package is not installed."""
    if importlib.util.find_spec("ml_dtypes") is None:
        return None
    found: np.dtype[Any] = np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    return found
