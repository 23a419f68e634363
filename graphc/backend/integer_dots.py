"""Dot products of narrow integers in int32 words (floor 6): one instruction where there is one.

`dot4` is VPDPBUSD of AVX-512 VNNI, `dot2` is PMADDWD and an addition, which are one instruction
(VPDPWSSD) there. None of them saturates: sums are modulo 2**32, so that the other targets, which
take the words apart, give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from graphc.backend.llvm_types import splat_literal, vector_type
from graphc.base.dtypes import DType

if TYPE_CHECKING:
    from graphc.backend.scalar_emitter import ScalarEmitter

# By lanes of int32.
_BYTES = {
    16: "@llvm.x86.avx512.vpdpbusd.512",
    8: "@llvm.x86.avx512.vpdpbusd.256",
    4: "@llvm.x86.avx512.vpdpbusd.128",
}
_PAIRS = {
    16: "@llvm.x86.avx512.pmaddw.d.512",
    8: "@llvm.x86.avx2.pmadd.wd",
    4: "@llvm.x86.sse2.pmadd.wd",
}


def dot4(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str, c: str) -> str:
    """c + four products of unsigned bytes of a and signed bytes of b."""
    if e.target.has_dot_bytes and width in _BYTES:
        t, bytes_ = vector_type("i32", width), vector_type("i8", 4 * width)
        a, b = (e.emit(f"bitcast {t} {x} to {bytes_}") for x in (a, b))
        return e.emit(f"call {t} {_BYTES[width]}({t} {c}, {bytes_} {a}, {bytes_} {b})")
    t = vector_type("i32", width)
    mask = splat_literal("255", "i32", width)
    for place in range(4):
        left = e.emit(f"lshr {t} {a}, {splat_literal(str(8 * place), 'i32', width)}")
        left = e.emit(f"and {t} {left}, {mask}")
        c = _added(e, width, left, _signed_part(e, width, b, place, 8), c)
    return c


def dot2(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str, c: str) -> str:
    """c + two products of signed halves of a and b."""
    t = vector_type("i32", width)
    if e.target.has_dot_pairs and width in _PAIRS:
        most = e.target.register_bytes // 4
        parts = []
        for first in range(0, width, most):
            left, right = (_part(e, x, width, first, most) for x in (a, b))
            parts.append(_pairs(e, min(width, most), left, right))
        return e.emit(f"add {t} {_joined(e, parts, min(width, most))}, {c}")
    for place in range(2):
        left, right = (_signed_part(e, width, x, place, 16) for x in (a, b))
        c = _added(e, width, left, right, c)
    return c


def _signed_part(e: ScalarEmitter, width: int, x: str, place: int, bits: int) -> str:
    t = vector_type("i32", width)
    up = splat_literal(str(32 - bits * (place + 1)), "i32", width)
    down = splat_literal(str(32 - bits), "i32", width)
    return e.emit(f"ashr {t} {e.emit(f'shl {t} {x}, {up}')}, {down}")


def _added(e: ScalarEmitter, width: int, a: str, b: str, c: str) -> str:
    t = vector_type("i32", width)
    return e.emit(f"add {t} {e.emit(f'mul {t} {a}, {b}')}, {c}")


def _pairs(e: ScalarEmitter, width: int, a: str, b: str) -> str:
    t, halves = vector_type("i32", width), vector_type("i16", 2 * width)
    a, b = (e.emit(f"bitcast {t} {x} to {halves}") for x in (a, b))
    return e.emit(f"call {t} {_PAIRS[width]}({halves} {a}, {halves} {b})")


def _part(e: ScalarEmitter, x: str, width: int, first: int, count: int) -> str:
    """The lanes from `first` on that one register holds."""
    if count >= width:
        return x
    return _shuffled(e, x, "poison", width, range(first, first + count))


def _joined(e: ScalarEmitter, parts: list[str], width: int) -> str:
    """Vectors one after another as one."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [_shuffled(e, a, b, width, range(2 * width)) for a, b in pairs]
        width *= 2
    return parts[0]


def _shuffled(e: ScalarEmitter, a: str, b: str, width: int, lanes: range) -> str:
    t = vector_type("i32", width)
    mask = ", ".join(f"i32 {lane}" for lane in lanes)
    return e.emit(f"shufflevector {t} {a}, {t} {b}, <{len(lanes)} x i32> <{mask}>")


DOTS: dict[str, Callable[..., str]] = {"dot4": dot4, "dot2": dot2}
