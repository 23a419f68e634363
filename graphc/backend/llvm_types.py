"""LLVM's spelling of dtypes, vectors and literals (floor 6).

A value in a register has the *compute* type of its dtype: `i1` for bool, `float` for the 16-bit
floats (already rounded to them). In memory bool is `i8` and the 16-bit floats are `i16`. Literals
are operands like any other: a scalar literal or a `splat (...)`, so that constants cost no
instruction.
"""

from __future__ import annotations

import struct

from graphc.base.dtypes import DType

_COMPUTE = {
    "bool": "i1", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "i8", "uint16": "i16", "uint32": "i32", "uint64": "i64",
    "float16": "float", "bfloat16": "float", "float32": "float", "float64": "double",
}  # fmt: skip
_MEMORY = _COMPUTE | {"bool": "i8", "float16": "i16", "bfloat16": "i16"}
_SUFFIX = {"float": "f32", "double": "f64", "half": "f16", "ptr": "p0"}

_types: dict[tuple[str, int], str] = {}


def vector_type(scalar: str, width: int) -> str:
    """`float`, or `<16 x float>` for a width above 1."""
    if width == 1:
        return scalar
    found = _types.get((scalar, width))
    if found is None:
        found = _types[scalar, width] = f"<{width} x {scalar}>"
    return found


def compute_type(dtype: DType, width: int = 1) -> str:
    """The type of a value in registers."""
    return vector_type(_COMPUTE[dtype.name], width)


def memory_type(dtype: DType, width: int = 1) -> str:
    """The type of a value in memory."""
    return vector_type(_MEMORY[dtype.name], width)


def suffix(scalar: str, width: int = 1) -> str:
    """The mangled type of an overloaded intrinsic: `f32`, `v16f32`, `i64`."""
    name = _SUFFIX.get(scalar, scalar)
    return name if width == 1 else f"v{width}{name}"


def float_literal(value: float) -> str:
    """A float or double literal, exact in its type: LLVM writes both as the bits of a double."""
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def literal(value: bool | int | float, dtype: DType, width: int = 1) -> str:
    """The literal operand of a dtype, splat over `width` lanes."""
    if dtype.is_float:
        text = float_literal(float(value))
    elif dtype.is_bool:
        text = "true" if value else "false"
    else:
        text = str(int(value))
    return splat_literal(text, _COMPUTE[dtype.name], width)


def splat_literal(text: str, scalar: str, width: int) -> str:
    """A scalar literal as an operand of `width` lanes."""
    return text if width == 1 else f"splat ({scalar} {text})"


def is_literal(operand: str) -> bool:
    """Whether an operand is a literal rather than a named value."""
    return operand[0] not in "%@<"
