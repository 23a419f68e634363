"""Element types of ONNX (floor 8): which graphc dtype each is, and how it is stored in a file.

The types that graphc has no dtype for (strings, complex numbers) are known by name only, so that
an error can say them. Those of 8 bits and less that graphc has no dtype for are listed with the
number of bits that their elements take in a file.
"""

from __future__ import annotations

from graphc.base import dtypes
from graphc.base.dtypes import DType

NAMES = {
    1: "float",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "double",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8e4m3fn",
    18: "float8e4m3fnuz",
    19: "float8e5m2",
    20: "float8e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4e2m1",
    24: "float8e8m0",
    25: "uint2",
    26: "int2",
}
STRING = 8
BOOL = 9
FLOAT = 1
INT64 = 7

DTYPES: dict[int, DType] = {
    1: dtypes.float32,
    2: dtypes.uint8,
    3: dtypes.int8,
    4: dtypes.uint16,
    5: dtypes.int16,
    6: dtypes.int32,
    7: dtypes.int64,
    9: dtypes.bool_,
    10: dtypes.float16,
    11: dtypes.float64,
    12: dtypes.uint32,
    13: dtypes.uint64,
    16: dtypes.bfloat16,
}
ELEMENTS = {dtype: element for element, dtype in DTYPES.items()}

# Bits of one element in raw data.
BITS = {e: max(8, d.bits) for e, d in DTYPES.items()} | {
    14: 64,
    15: 128,
    17: 8,
    18: 8,
    19: 8,
    20: 8,
    21: 4,
    22: 4,
    23: 4,
    24: 8,
    25: 2,
    26: 2,
}


def name_of(element: int) -> str:
    """The name of an element type, for errors."""
    return NAMES.get(element, f"number {element}")
