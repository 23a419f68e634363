"""16-bit floats in float registers (floor 6): rounding, packing and unpacking, one rounding each.

float16 uses the target's conversion instructions where it has them and integer arithmetic
elsewhere; bfloat16 is always integer arithmetic. NaN stays NaN (quiet); denormals are exact. Never
a library call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.backend.llvm_types import float_literal, splat_literal, suffix, vector_type
from graphc.base.dtypes import DType, float16

if TYPE_CHECKING:
    from graphc.backend.scalar_emitter import ScalarEmitter


class _Bits:
    """Integer arithmetic on the bits of one vector of floats."""

    def __init__(self, e: ScalarEmitter, width: int, scalar: str = "i32") -> None:
        self.e, self.width, self.scalar = e, width, scalar
        self.t = vector_type(scalar, width)

    def k(self, value: int) -> str:
        return splat_literal(str(value), self.scalar, self.width)

    def of(self, instruction: str, a: str, b: str | int) -> str:
        return self.e.emit(f"{instruction} {self.t} {a}, {self.k(b) if isinstance(b, int) else b}")

    def choose(self, condition: str, a: str, b: str | int) -> str:
        return self.e.choose(
            condition, a, self.k(b) if isinstance(b, int) else b, self.scalar, self.width
        )

    def cast(self, x: str, source: str, to: str) -> str:
        return self.e.emit(
            f"bitcast {vector_type(source, self.width)} {x} to {vector_type(to, self.width)}"
        )


def round16(e: ScalarEmitter, x: str, dtype: DType, width: int) -> str:
    """A float rounded to `dtype` (ties to even), still float."""
    if dtype is float16:
        return unpack(e, pack(e, x, dtype, width), dtype, width)
    return _Bits(e, width).cast(_round_bfloat16_bits(e, x, width), "i32", "float")


def pack(e: ScalarEmitter, x: str, dtype: DType, width: int) -> str:
    """A float rounded to `dtype`, as its 16 bits."""
    f, h, i = (vector_type(s, width) for s in ("float", "half", "i16"))
    if dtype is not float16:
        bits = _round_bfloat16_bits(e, x, width)
        high = _Bits(e, width).of("lshr", bits, 16)
        return e.emit(f"trunc {vector_type('i32', width)} {high} to {i}")
    if e.target.has_f16_conversion:
        half = e.emit(f"fptrunc {f} {x} to {h}")
        return e.emit(f"bitcast {h} {half} to {i}")
    return _pack_float16(e, x, width)


def unpack(e: ScalarEmitter, bits: str, dtype: DType, width: int) -> str:
    """The float of 16 stored bits."""
    f, h, i = (vector_type(s, width) for s in ("float", "half", "i16"))
    if dtype is float16 and e.target.has_f16_conversion:
        half = e.emit(f"bitcast {i} {bits} to {h}")
        return e.emit(f"fpext {h} {half} to {f}")
    b = _Bits(e, width)
    wide = e.emit(f"zext {i} {bits} to {b.t}")
    if dtype is not float16:
        return b.cast(b.of("shl", wide, 16), "i32", "float")
    # Exponent and mantissa land 112 exponents too low; one exact multiplication puts them right,
    # denormals included. Infinity and NaN get the full exponent by hand.
    magnitude = b.of("shl", b.of("and", wide, 0x7FFF), 13)
    scale = splat_literal(float_literal(2.0**112), "float", width)
    scaled = e.emit(f"fmul {f} {b.cast(magnitude, 'i32', 'float')}, {scale}")
    value = b.cast(scaled, "float", "i32")
    special = e.emit(f"icmp uge {b.t} {magnitude}, {b.k(0x7C00 << 13)}")
    value = b.choose(special, b.of("or", value, 0x7F800000), value)
    sign = b.of("shl", b.of("and", wide, 0x8000), 16)
    return b.cast(b.of("or", value, sign), "i32", "float")


def narrow_to_odd(e: ScalarEmitter, x: str, width: int) -> str:
    """A double as a float rounded to odd, so that rounding again to float16 is one rounding."""
    d, f = vector_type("double", width), vector_type("float", width)
    b = _Bits(e, width)
    near = e.emit(f"fptrunc {d} {x} to {f}")
    back = e.emit(f"fpext {f} {near} to {d}")
    inexact = e.emit(f"fcmp one {d} {back}, {x}")
    m = suffix("double", width)
    above = e.emit(
        f"fcmp ogt {d} {e.emit(f'call {d} @llvm.fabs.{m}({d} {back})')}, "
        f"{e.emit(f'call {d} @llvm.fabs.{m}({d} {x})')}"
    )
    bits = b.cast(near, "float", "i32")
    # One step toward zero where rounding went away from it, then the sticky bit.
    below = b.choose(above, b.of("sub", bits, 1), bits)
    return b.cast(b.choose(inexact, b.of("or", below, 1), bits), "i32", "float")


def _round_bfloat16_bits(e: ScalarEmitter, x: str, width: int) -> str:
    b = _Bits(e, width)
    f = vector_type("float", width)
    bits = b.cast(x, "float", "i32")
    lowest = b.of("and", b.of("lshr", bits, 16), 1)
    rounded = b.of("add", b.of("add", bits, 0x7FFF), lowest)
    nan = e.emit(f"fcmp uno {f} {x}, {x}")
    kept = b.choose(nan, b.of("or", bits, 0x400000), rounded)
    return b.of("and", kept, -65536)


def _pack_float16(e: ScalarEmitter, x: str, width: int) -> str:
    b = _Bits(e, width)
    f = vector_type("float", width)
    bits = b.cast(x, "float", "i32")
    sign = b.of("and", b.of("lshr", bits, 16), 0x8000)
    magnitude = b.of("and", bits, 0x7FFFFFFF)
    # Normal results: rebias by -112 exponents and round the 13 bits that go, ties to even.
    odd = b.of("and", b.of("lshr", magnitude, 13), 1)
    rebiased = b.of("add", b.of("sub", magnitude, (112 << 23) - 0xFFF), odd)
    normal = b.of("lshr", rebiased, 13)
    # Denormal results: adding 0.5 makes 2^-24 the last place, so the hardware does the rounding.
    half = splat_literal(float_literal(0.5), "float", width)
    shifted = e.emit(f"fadd {f} {b.cast(magnitude, 'i32', 'float')}, {half}")
    denormal = b.of("sub", b.cast(shifted, "float", "i32"), 0x3F000000)
    small = e.emit(f"icmp ult {b.t} {magnitude}, {b.k(113 << 23)}")
    result = b.choose(small, denormal, normal)
    large = e.emit(f"icmp uge {b.t} {magnitude}, {b.k(143 << 23)}")
    result = b.choose(large, b.k(0x7C00), result)
    nan = e.emit(f"icmp ugt {b.t} {magnitude}, {b.k(0x7F800000)}")
    quiet = b.of("or", b.of("and", b.of("lshr", magnitude, 13), 0x3FF), 0x7E00)
    result = b.of("or", b.choose(nan, quiet, result), sign)
    return e.emit(f"trunc {b.t} {result} to {vector_type('i16', width)}")
