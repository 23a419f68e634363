"""Scalar-language methods that take several instructions (floor 6), by kind of dtype.

Each function writes its instructions through the emitter it is handed and returns the value's name.
They have no branches, so they serve every vector width. Divisions never trap: the divisor is made
safe first and the defined answer is selected afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from graphc.backend import integer_dots, native_functions
from graphc.backend.llvm_types import (
    compute_type,
    float_literal,
    is_literal,
    splat_literal,
    suffix,
    vector_type,
)
from graphc.base.dtypes import DType, float32

if TYPE_CHECKING:
    from graphc.backend.scalar_emitter import ScalarEmitter

Sequence = Callable[..., str]


def _int_literal(value: int, dtype: DType, width: int) -> str:
    return splat_literal(str(value), compute_type(dtype), width)


def _float_literal(value: float, dtype: DType, width: int) -> str:
    return splat_literal(float_literal(value), compute_type(dtype), width)


# -- floats
# -------------------------------------------------------------------------------------------


def _extreme(predicate: str) -> Sequence:
    def sequence(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str) -> str:
        # The select form is one hardware min/max that gives a where either side is NaN; a NaN in
        # `b` is put back afterwards. Not one in `a`: there stands what has been accumulated, and
        # each step would wait for the test of the one before. Limits are literals, often `b`.
        t = compute_type(dtype, width)
        c = e.emit(f"fcmp {predicate} {t} {b}, {a}")
        chosen = e.select(c, b, a, dtype, width)
        if is_literal(b) and b != _float_literal(math.nan, dtype, width):
            return chosen
        nan = e.emit(f"fcmp uno {t} {b}, {b}")
        return e.select(nan, b, chosen, dtype, width)

    return sequence


def _rounding(intrinsic: str, emulate: Sequence) -> Sequence:
    def sequence(e: ScalarEmitter, dtype: DType, width: int, x: str) -> str:
        if not e.target.has_rounding:
            return emulate(e, dtype, width, x)
        scalar = compute_type(dtype)
        t = vector_type(scalar, width)
        return e.emit(f"call {t} @llvm.{intrinsic}.{suffix(scalar, width)}({t} {x})")

    return sequence


def _copysign(e: ScalarEmitter, dtype: DType, width: int, x: str, sign: str) -> str:
    scalar = compute_type(dtype)
    t = vector_type(scalar, width)
    return e.emit(f"call {t} @llvm.copysign.{suffix(scalar, width)}({t} {x}, {t} {sign})")


def _abs(e: ScalarEmitter, dtype: DType, width: int, x: str) -> str:
    scalar = compute_type(dtype)
    t = vector_type(scalar, width)
    return e.emit(f"call {t} @llvm.fabs.{suffix(scalar, width)}({t} {x})")


def _nearest(e: ScalarEmitter, dtype: DType, width: int, magnitude: str) -> str:
    """round_even of x >= 0: adding and subtracting 2^mantissa lets the hardware round."""
    t = compute_type(dtype, width)
    big = _float_literal(2.0**23 if dtype.compute is float32 else 2.0**52, dtype, width)
    rounded = e.emit(f"fsub {t} {e.emit(f'fadd {t} {magnitude}, {big}')}, {big}")
    small = e.emit(f"fcmp olt {t} {magnitude}, {big}")
    return e.select(small, rounded, magnitude, dtype, width)


def _emulate_round_even(e: ScalarEmitter, dtype: DType, width: int, x: str) -> str:
    return _copysign(e, dtype, width, _nearest(e, dtype, width, _abs(e, dtype, width, x)), x)


def _emulate_trunc(e: ScalarEmitter, dtype: DType, width: int, x: str) -> str:
    magnitude = _abs(e, dtype, width, x)
    near = _nearest(e, dtype, width, magnitude)
    return _copysign(e, dtype, width, _step(e, dtype, width, near, "ogt", magnitude, -1.0), x)


def _emulate_floor(e: ScalarEmitter, dtype: DType, width: int, x: str) -> str:
    near = _emulate_round_even(e, dtype, width, x)
    return _copysign(e, dtype, width, _step(e, dtype, width, near, "ogt", x, -1.0), x)


def _emulate_ceil(e: ScalarEmitter, dtype: DType, width: int, x: str) -> str:
    near = _emulate_round_even(e, dtype, width, x)
    return _copysign(e, dtype, width, _step(e, dtype, width, near, "olt", x, 1.0), x)


def _step(
    e: ScalarEmitter, dtype: DType, width: int, near: str, predicate: str, x: str, step: float
) -> str:
    t = compute_type(dtype, width)
    past = e.emit(f"fcmp {predicate} {t} {near}, {x}")
    moved = e.emit(f"fadd {t} {near}, {_float_literal(step, dtype, width)}")
    return e.select(past, moved, near, dtype, width)


def _isinf(e: ScalarEmitter, dtype: DType, width: int, x: str) -> str:
    t = compute_type(dtype, width)
    return e.emit(
        f"fcmp oeq {t} {_abs(e, dtype, width, x)}, {_float_literal(float('inf'), dtype, width)}"
    )


def _isfinite(e: ScalarEmitter, dtype: DType, width: int, x: str) -> str:
    t = compute_type(dtype, width)
    return e.emit(
        f"fcmp olt {t} {_abs(e, dtype, width, x)}, {_float_literal(float('inf'), dtype, width)}"
    )


def _signbit(e: ScalarEmitter, dtype: DType, width: int, x: str) -> str:
    bits = vector_type("i64" if compute_type(dtype) == "double" else "i32", width)
    whole = e.emit(f"bitcast {compute_type(dtype, width)} {x} to {bits}")
    return e.emit(f"icmp slt {bits} {whole}, zeroinitializer")


def _reciprocal_sqrt(e: ScalarEmitter, dtype: DType, width: int, x: str) -> str:
    scalar = compute_type(dtype)
    t = vector_type(scalar, width)
    root = e.emit(f"call {t} @llvm.sqrt.{suffix(scalar, width)}({t} {x})")
    return e.emit(f"fdiv {t} {_float_literal(1.0, dtype, width)}, {root}")


def _nextafter(e: ScalarEmitter, dtype: DType, width: int, x: str, towards: str) -> str:
    if dtype.bits != 16:
        return native_functions.call(e, "nextafter", dtype, width, (x, towards))
    # One step of the 16 stored bits: outward where both point the same way, inward otherwise.
    f, i, m = (vector_type(t, width) for t in ("float", "i16", "i1"))
    zero = _float_literal(0.0, dtype, width)
    one, minus = (splat_literal(str(k), "i16", width) for k in (1, -1))
    up = e.emit(f"fcmp ogt {f} {towards}, {x}")
    positive = e.emit(f"fcmp ogt {f} {x}, {zero}")
    inward = e.emit(f"xor {m} {up}, {positive}")
    bits = e.to_memory(x, dtype, width)
    stepped = e.emit(f"add {i} {bits}, {e.choose(inward, minus, one, 'i16', width)}")
    smallest = e.choose(up, one, splat_literal("-32767", "i16", width), "i16", width)
    at_zero = e.emit(f"fcmp oeq {f} {x}, {zero}")
    stepped = e.choose(at_zero, smallest, stepped, "i16", width)
    moved = e.from_memory(stepped, dtype, width)
    equal = e.emit(f"fcmp oeq {f} {x}, {towards}")
    result = e.select(equal, towards, moved, dtype, width)
    nan = e.emit(f"fcmp uno {f} {x}, {towards}")
    return e.select(nan, e.emit(f"fadd {f} {x}, {towards}"), result, dtype, width)


def _fma(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str, c: str) -> str:
    return e.fma(a, b, c, compute_type(dtype), width)


def _magic(dtype: DType, width: int) -> str:
    """1.5 * 2**mantissa: what is added to it loses its fraction."""
    return _float_literal(1.5 * 2.0 ** (52 if dtype.bits == 64 else 23), dtype, width)


def _near_integer(e: ScalarEmitter, dtype: DType, width: int, x: str) -> str:
    t = compute_type(dtype, width)
    if e.target.has_scaling:  # a single instruction there, on any width
        scalar = compute_type(dtype)
        return e.emit(f"call {t} @llvm.roundeven.{suffix(scalar, width)}({t} {x})")
    magic = _magic(dtype, width)
    return e.emit(f"fsub {t} {e.emit(f'fadd {t} {x}, {magic}')}, {magic}")


def _ldexp(e: ScalarEmitter, dtype: DType, width: int, x: str, n: str) -> str:
    scalar, whole = compute_type(dtype), f"i{dtype.bits}"
    t, i = vector_type(scalar, width), vector_type(whole, width)
    register = width * dtype.bits
    if e.target.has_scaling and register in (128, 256, 512):
        kind, mask = "pd" if dtype.bits == 64 else "ps", f"i{max(width, 8)} -1"
        rounding = ", i32 4" if register == 512 else ""  # 4: as the control register says
        return e.emit(
            f"call {t} @llvm.x86.avx512.mask.scalef.{kind}.{register}("
            f"{t} {x}, {t} {n}, {t} zeroinitializer, {mask}{rounding})"
        )
    mantissa, bias = (52, 1023) if dtype.bits == 64 else (23, 127)
    shifted = e.emit(f"fadd {t} {n}, {_magic(dtype, width)}")
    low = f"sub {i} {e.emit(f'bitcast {t} {shifted} to {i}')}, "
    pattern = (bias + mantissa << mantissa) + (1 << mantissa - 1)  # of 1.5 * 2**mantissa
    n = e.emit(low + splat_literal(str(pattern), whole, width))

    def power(k: str) -> str:
        biased = e.emit(f"add {i} {k}, {splat_literal(str(bias), whole, width)}")
        moved = e.emit(f"shl {i} {biased}, {splat_literal(str(mantissa), whole, width)}")
        return e.emit(f"bitcast {i} {moved} to {t}")

    half = e.emit(f"ashr {i} {n}, {splat_literal('1', whole, width)}")
    first = e.emit(f"fmul {t} {x}, {power(half)}")
    return e.emit(f"fmul {t} {first}, {power(e.emit(f'sub {i} {n}, {half}'))}")


def _fmod(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str) -> str:
    return native_functions.call_fmod(e, compute_type(dtype), width, a, b)


def _sign_differs(e: ScalarEmitter, dtype: DType, width: int, remainder: str, b: str) -> str:
    """Whether a remainder is non-zero and its sign is not that of `b`."""
    t = compute_type(dtype, width)
    zero = _float_literal(0.0, dtype, width)
    nonzero = e.emit(f"fcmp une {t} {remainder}, {zero}")
    below = e.emit(f"fcmp olt {t} {remainder}, {zero}")
    b_below = e.emit(f"fcmp olt {t} {b}, {zero}")
    m = vector_type("i1", width)
    return e.emit(f"and {m} {nonzero}, {e.emit(f'xor {m} {below}, {b_below}')}")


def _float_mod(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str) -> str:
    # np.remainder: fmod, then the sign of the divisor; a zero result takes the divisor's sign.
    t = compute_type(dtype, width)
    remainder = _fmod(e, dtype, width, a, b)
    differs = _sign_differs(e, dtype, width, remainder, b)
    moved = e.select(differs, e.emit(f"fadd {t} {remainder}, {b}"), remainder, dtype, width)
    zero = _float_literal(0.0, dtype, width)
    is_zero = e.emit(f"fcmp oeq {t} {remainder}, {zero}")
    return e.select(is_zero, _copysign(e, dtype, width, zero, b), moved, dtype, width)


def _float_floordiv(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str) -> str:
    # np.floor_divide: the quotient of what fmod left over is an integer up to rounding; snap it.
    t = compute_type(dtype, width)
    zero, one = _float_literal(0.0, dtype, width), _float_literal(1.0, dtype, width)
    remainder = _fmod(e, dtype, width, a, b)
    differs = _sign_differs(e, dtype, width, remainder, b)
    quotient = e.emit(f"fdiv {t} {e.emit(f'fsub {t} {a}, {remainder}')}, {b}")
    quotient = e.select(differs, e.emit(f"fsub {t} {quotient}, {one}"), quotient, dtype, width)
    floor = SEQUENCES["f"]["floor"](e, dtype, width, quotient)
    over = e.emit(f"fsub {t} {quotient}, {floor}")
    half = _float_literal(0.5, dtype, width)
    rounds_up = e.emit(f"fcmp ogt {t} {over}, {half}")
    snapped = e.select(rounds_up, e.emit(f"fadd {t} {floor}, {one}"), floor, dtype, width)
    plain = e.emit(f"fdiv {t} {a}, {b}")
    is_zero = e.emit(f"fcmp oeq {t} {quotient}, {zero}")
    result = e.select(is_zero, _copysign(e, dtype, width, zero, plain), snapped, dtype, width)
    by_zero = e.emit(f"fcmp oeq {t} {b}, {zero}")
    return e.select(by_zero, plain, result, dtype, width)


def float_to_integer(e: ScalarEmitter, x: str, source: DType, dtype: DType, width: int) -> str:
    """Truncate toward zero and saturate; NaN gives 0.

    Written out because LLVM turns the saturating intrinsics into scalar code on x86.
    """
    t = compute_type(source, width)
    signed = dtype.kind == "i"
    low = -(1 << dtype.bits - 1) if signed else 0
    high = (1 << dtype.bits - 1) if signed else 1 << dtype.bits  # first value above the range
    # Everything above low - 1 truncates into the range; where low - 1 is no float, low is the
    # bound.
    mantissa = 24 if source.compute is float32 else 53
    if dtype.bits <= mantissa:
        return _cut_to_integer(e, x, source, dtype, width, (low, high - 1))
    exact = not signed
    bound = _float_literal(float(low - 1 if exact else low), source, width)
    above = e.emit(f"fcmp {'ogt' if exact else 'oge'} {t} {x}, {bound}")
    limit = _float_literal(float(high), source, width)
    below = e.emit(f"fcmp olt {t} {x}, {limit}")
    m = vector_type("i1", width)
    inside = e.emit(f"and {m} {above}, {below}")
    safe = e.select(inside, x, _float_literal(0.0, source, width), source, width)
    d = compute_type(dtype, width)
    whole = e.emit(f"{'fptosi' if signed else 'fptoui'} {t} {safe} to {d}")
    too_high = e.emit(f"fcmp oge {t} {x}, {limit}")
    whole = e.select(too_high, _int_literal(high - 1, dtype, width), whole, dtype, width)
    if not signed:
        return whole
    too_low = e.emit(f"fcmp {'ole' if exact else 'olt'} {t} {x}, {bound}")
    return e.select(too_low, _int_literal(low, dtype, width), whole, dtype, width)


def _cut_to_integer(
    e: ScalarEmitter, x: str, source: DType, dtype: DType, width: int, ends: tuple[int, int]
) -> str:
    """The same where the ends of the range are floats: cut to them first."""
    t, d = compute_type(source, width), compute_type(dtype, width)
    cut = x
    for end, test in zip(ends, ("ogt", "olt"), strict=True):
        limit = _float_literal(float(end), source, width)
        cut = e.select(e.emit(f"fcmp {test} {t} {cut}, {limit}"), cut, limit, source, width)
    whole = e.emit(f"{'fptosi' if dtype.kind == 'i' else 'fptoui'} {t} {cut} to {d}")
    nan = e.emit(f"fcmp uno {t} {x}, {x}")
    return e.select(nan, _int_literal(0, dtype, width), whole, dtype, width)


# -- integers
# -----------------------------------------------------------------------------------------


def _known_divisor(b: str) -> int | None:
    """The value of a literal divisor, scalar or splat."""
    return int(b.strip("splat()").rpartition(" ")[2]) if is_literal(b) else None


def _signed_division(remainder: bool) -> Sequence:
    def sequence(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str) -> str:
        t, m = compute_type(dtype, width), vector_type("i1", width)
        divisor = _known_divisor(b)
        if divisor is not None and divisor > 0 and divisor & (divisor - 1) == 0:
            if remainder:
                return e.emit(f"and {t} {a}, {_int_literal(divisor - 1, dtype, width)}")
            shift = _int_literal(divisor.bit_length() - 1, dtype, width)
            return e.emit(f"ashr {t} {a}, {shift}")
        safe = b
        if divisor is None or divisor in (0, -1):
            is_zero = e.emit(f"icmp eq {t} {b}, zeroinitializer")
            is_minus = e.emit(f"icmp eq {t} {b}, {_int_literal(-1, dtype, width)}")
            either = e.emit(f"or {m} {is_zero}, {is_minus}")
            safe = e.select(either, _int_literal(1, dtype, width), b, dtype, width)
        quotient = e.emit(f"sdiv {t} {a}, {safe}")
        rest = e.emit(f"sub {t} {a}, {e.emit(f'mul {t} {quotient}, {safe}')}")
        nonzero = e.emit(f"icmp ne {t} {rest}, zeroinitializer")
        signs = e.emit(f"xor {t} {rest}, {safe}")
        differs = e.emit(f"and {m} {nonzero}, {e.emit(f'icmp slt {t} {signs}, zeroinitializer')}")
        if remainder:
            # A safe divisor of 1 leaves 0, which is the answer for 0 and for -1.
            return e.select(differs, e.emit(f"add {t} {rest}, {safe}"), rest, dtype, width)
        lowered = e.emit(f"add {t} {quotient}, {_int_literal(-1, dtype, width)}")
        result = e.select(differs, lowered, quotient, dtype, width)
        if safe is not b:
            negated = e.emit(f"sub {t} zeroinitializer, {a}")
            result = e.select(is_minus, negated, result, dtype, width)
            result = e.select(is_zero, _int_literal(0, dtype, width), result, dtype, width)
        return result

    return sequence


def _unsigned_division(instruction: str) -> Sequence:
    def sequence(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str) -> str:
        t = compute_type(dtype, width)
        is_zero = e.emit(f"icmp eq {t} {b}, zeroinitializer")
        safe = e.select(is_zero, _int_literal(1, dtype, width), b, dtype, width)
        result = e.emit(f"{instruction} {t} {a}, {safe}")
        return e.select(is_zero, _int_literal(0, dtype, width), result, dtype, width)

    return sequence


def _shift_left(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str) -> str:
    return _logical_shift(e, "shl", dtype, width, a, b)


def _logical_shift(
    e: ScalarEmitter, instruction: str, dtype: DType, width: int, a: str, b: str
) -> str:
    t = compute_type(dtype, width)
    inside = e.emit(f"icmp ult {t} {b}, {_int_literal(dtype.bits, dtype, width)}")
    amount = e.emit(f"and {t} {b}, {_int_literal(dtype.bits - 1, dtype, width)}")
    shifted = e.emit(f"{instruction} {t} {a}, {amount}")
    return e.select(inside, shifted, _int_literal(0, dtype, width), dtype, width)


def _shift_right_unsigned(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str) -> str:
    return _logical_shift(e, "lshr", dtype, width, a, b)


def _shift_right_signed(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str) -> str:
    scalar = compute_type(dtype)
    t = vector_type(scalar, width)
    last = _int_literal(dtype.bits - 1, dtype, width)
    amount = e.emit(f"call {t} @llvm.umin.{suffix(scalar, width)}({t} {b}, {t} {last})")
    return e.emit(f"ashr {t} {a}, {amount}")


def _integer_fma(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str, c: str) -> str:
    t = compute_type(dtype, width)
    return e.emit(f"add {t} {e.emit(f'mul {t} {a}, {b}')}, {c}")


def _integer_pow(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str) -> str:
    return native_functions.call_integer_pow(e, dtype, width, a, b)


_INTEGER: dict[str, Sequence] = {
    "shift_left": _shift_left,
    "pow": _integer_pow,
    "fma": _integer_fma,
}
SEQUENCES: dict[str, dict[str, Sequence]] = {
    "f": {
        "minimum": _extreme("olt"),
        "maximum": _extreme("ogt"),
        "floor": _rounding("floor", _emulate_floor),
        "ceil": _rounding("ceil", _emulate_ceil),
        "trunc": _rounding("trunc", _emulate_trunc),
        "round_even": _rounding("roundeven", _emulate_round_even),
        "isinf": _isinf,
        "isfinite": _isfinite,
        "signbit": _signbit,
        "reciprocal_sqrt": _reciprocal_sqrt,
        "nextafter": _nextafter,
        "fma": _fma,
        "nearest": _near_integer,
        "ldexp": _ldexp,
        "floordiv": _float_floordiv,
        "mod": _float_mod,
    },
    "i": _INTEGER
    | integer_dots.DOTS
    | {
        "floordiv": _signed_division(remainder=False),
        "mod": _signed_division(remainder=True),
        "shift_right": _shift_right_signed,
    },
    "u": _INTEGER
    | {
        "floordiv": _unsigned_division("udiv"),
        "mod": _unsigned_division("urem"),
        "shift_right": _shift_right_unsigned,
    },
    "b": {},
}
