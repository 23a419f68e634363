"""Tensors of ONNX files (floor 8): a TensorProto as a checked array in stored form.

Sizes are checked against the bytes that are there before anything is allocated. Data of the types
that graphc has no dtype for is given back as a `ForeignValue`, not read.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.base.dtypes import Array, DType, int8, uint8
from graphc.base.limits import Limits
from graphc.onnx.elements import BITS, DTYPES, NAMES, name_of
from graphc.onnx.external import ExternalData
from graphc.onnx.refusal import bad, shown
from graphc.onnx.values import ForeignValue, TensorValue, Value

# The field in which a type's elements stand where they are not raw bytes, and the bytes of one.
_FIELDS = {
    1: ("float_data", 4),
    2: ("int32_data", 4),
    3: ("int32_data", 4),
    4: ("int32_data", 4),
    5: ("int32_data", 4),
    6: ("int32_data", 4),
    7: ("int64_data", 8),
    8: ("string_data", 0),
    9: ("int32_data", 4),
    10: ("int32_data", 4),
    11: ("double_data", 8),
    12: ("uint64_data", 8),
    13: ("uint64_data", 8),
    16: ("int32_data", 4),
}
# What carries the types of 8 bits and less (`narrow.CARRIED`, which stands on this module).
_PACKED = {**dict.fromkeys((17, 18, 19, 20, 21, 23, 24, 25), uint8), 22: int8, 26: int8}
_ALL_FIELDS = (
    "float_data",
    "int32_data",
    "int64_data",
    "string_data",
    "double_data",
    "uint64_data",
)


class TensorReader:
    """Reads the tensors of one model."""

    def __init__(self, external: ExternalData, limits: Limits) -> None:
        self._external = external
        self._limits = limits

    def read(self, where: str, proto: Any) -> Value:
        """The value of a TensorProto. Raises FormatError naming the place."""
        element = proto.data_type
        if element not in NAMES:
            bad(where, f"the element type {name_of(element)} is unknown")
        shape = checked_shape(where, proto.dims, self._limits)
        if proto.HasField("segment"):
            bad(where, "tensors in segments are not defined by ONNX")
        if element in _PACKED:
            stored = self._packed(where, proto, math.prod(shape)).reshape(shape)
            return TensorValue(None, stored=stored, dtype=_PACKED[element], element=element)
        if element not in DTYPES:
            return ForeignValue(name_of(element))
        stored = self._stored(where, proto, math.prod(shape)).reshape(shape)
        return TensorValue(None, stored=stored, dtype=DTYPES[element])

    def _stored(self, where: str, proto: Any, count: int) -> Array:
        dtype = DTYPES[proto.data_type]
        filled = [f for f in _ALL_FIELDS if len(getattr(proto, f))]
        if proto.data_location == 1:
            if filled or proto.HasField("raw_data"):
                bad(where, "data both inside and outside the file")
            nbytes = count * BITS[proto.data_type] // 8
            return _from_bytes(
                where, self._external.read(where, proto.external_data, nbytes), dtype
            )
        if proto.data_location != 0:
            bad(where, f"the data location {proto.data_location} is unknown")
        if proto.HasField("raw_data"):
            if filled:
                bad(where, f"data both in raw_data and in {filled[0]}")
            data = proto.raw_data
            expected = count * BITS[proto.data_type] // 8
            if len(data) != expected:
                bad(
                    where,
                    f"raw_data has {len(data)} bytes, expected {expected}: "
                    f"{count} elements of {name_of(proto.data_type)}",
                )
            return _from_bytes(where, memoryview(data), dtype)
        field, _ = _FIELDS[proto.data_type]
        if any(f != field for f in filled):
            bad(where, f"data of {name_of(proto.data_type)} in {filled[0]}, expected {field}")
        found = getattr(proto, field)
        if len(found) != count:
            bad(where, f"{field} has {len(found)} elements, expected {count} as its dims say")
        return _from_field(where, np.array(found), dtype)

    def _packed(self, where: str, proto: Any, count: int) -> Array:
        """Elements of 8 bits and less: codes of floats in uint8, integers in int8 and uint8."""
        bits = BITS[proto.data_type]
        nbytes = -(-count * bits // 8)
        if proto.data_location == 1:
            raw = bytes(self._external.read(where, proto.external_data, nbytes))
        elif proto.HasField("raw_data"):
            raw = proto.raw_data
        else:
            field = np.array(proto.int32_data, np.int64)
            if field.size and not (-128 <= field.min() and field.max() <= 255):
                bad(where, "int32_data holds a value that is no byte")
            raw = field.astype(np.uint8).tobytes()
        if len(raw) != nbytes:
            name = name_of(proto.data_type)
            bad(where, f"it has {len(raw)} bytes, expected {nbytes}: {count} elements of {name}")
        packed = np.frombuffer(raw, np.uint8)
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        codes = ((packed[:, None] >> shifts) & ((1 << bits) - 1)).ravel()[:count].astype(np.uint8)
        if _PACKED[proto.data_type].name == "uint8":
            return codes
        half = 1 << (bits - 1)
        return ((codes.astype(np.int16) ^ half) - half).astype(np.int8)

    def sparse(self, where: str, proto: Any) -> Value:
        """The value of a SparseTensorProto, as a dense tensor. Raises FormatError."""
        shape = checked_shape(where, proto.dims, self._limits)
        values = self.read(f"{where}: values", proto.values)
        indices = self.read(f"{where}: indices", proto.indices)
        if not isinstance(values, TensorValue) or not isinstance(indices, TensorValue):
            return ForeignValue("sparse")
        count = math.prod(shape)
        if count * values.dtype.itemsize > self._limits.inline_bytes:
            bad(
                where,
                f"a sparse tensor of {count} elements is larger than allowed (limit inline_bytes)",
                "for a file that you trust: graphc.onnx.load(path, limits=graphc.Limits("
                "inline_bytes=...))",
            )
        stored, places = values.tensor.attr("value").stored, indices.known()
        assert places is not None
        number = len(stored) if stored.ndim == 1 else -1
        if indices.dtype.name != "int64" or places.shape not in ((number,), (number, len(shape))):
            bad(where, f"indices of shape {list(places.shape)} do not fit {number} values")
        flat = places if places.ndim == 1 else places @ np.array(_strides(shape), np.int64)
        inside = (places >= 0).all() and (
            (places < count).all() if places.ndim == 1 else (places < np.array(shape)).all()
        )
        if not inside:
            bad(where, "an index is outside the tensor")
        dense = np.zeros(count, stored.dtype)
        dense[flat] = stored
        return TensorValue(None, stored=dense.reshape(shape), dtype=values.dtype)


def checked_shape(where: str, dims: Any, limits: Limits) -> tuple[int, ...]:
    """The dims of a tensor. Raises FormatError for negative, huge or too many ones."""
    if len(dims) > limits.rank:
        bad(where, f"{len(dims)} dims, expected at most {limits.rank} (limit rank)")
    for axis, size in enumerate(dims):
        if size < 0:
            bad(where, f"dim {axis} is {size}: a size cannot be negative")
    total = math.prod(dims)
    if total > limits.size or max(dims, default=0) > limits.size:
        bad(where, f"dims {shown(list(dims))} are too large (limit size)")
    return tuple(dims)


def _strides(shape: tuple[int, ...]) -> list[int]:
    return [math.prod(shape[k + 1 :]) for k in range(len(shape))]


def _from_bytes(where: str, raw: memoryview, dtype: DType) -> Array:
    array = np.frombuffer(raw, dtype.storage.newbyteorder("<"))
    if dtype.is_bool and (array.view(np.uint8) > 1).any():
        bad(where, "a bool has a byte that is neither 0 nor 1")
    return array.astype(dtype.storage, copy=False)


def _from_field(where: str, values: Array, dtype: DType) -> Array:
    if dtype.name in ("float16", "bfloat16"):  # their bits stand in int32_data
        if values.size and (values.min() < 0 or values.max() > 0xFFFF):
            bad(where, f"int32_data holds a value that is no {dtype.name}")
        return values.astype(np.uint16).view(dtype.storage)
    if not dtype.is_float and values.size:
        low, high = (0, 1) if dtype.is_bool else _limits(dtype)
        if int(values.min()) < low or int(values.max()) > high:
            bad(where, f"a value does not fit {dtype.name} ({low} to {high})")
    return values.astype(dtype.storage)


def _limits(dtype: DType) -> tuple[int, int]:
    found = np.iinfo(dtype.numpy)
    return int(found.min), int(found.max)
