"""Which instruction set a library runs (floor 8): asked of the processor, once, at the first call.

`graphc.level()` returns the index of the best of the library's instruction sets that this processor
has, or -1. x86-64 levels are those of the psABI ("x86-64-v3" and so on), asked by CPUID and XGETBV.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from graphc.base.errors import UnsupportedError, message
from graphc.base.target import (
    AARCH64,
    RISCV64,
    X86_BASELINE,
    X86_V3,
    X86_V4,
    X86_V4_VNNI,
    Target,
)


@dataclass(frozen=True, slots=True)
class Level:
    """What a level asks of x86-64: bits of CPUID's answers, and of the state the system saves."""

    leaf1_ecx: tuple[int, ...] = ()
    leaf7_ebx: tuple[int, ...] = ()
    leaf7_ecx: tuple[int, ...] = ()
    extended_ecx: tuple[int, ...] = ()
    saved_state: int = 0


# Intel SDM volume 2A, CPUID: SSE3 0, SSSE3 9, FMA 12, CX16 13, SSE4.1 19, SSE4.2 20, MOVBE 22,
# POPCNT 23, OSXSAVE 27, AVX 28, F16C 29; BMI1 3, AVX2 5, BMI2 8, AVX512F 16, DQ 17, CD 28, BW 30,
# VL 31, VNNI 11 of ECX; LAHF 0, LZCNT 5. XCR0: XMM and YMM 6, with opmask and ZMM 0xE6.
_V3 = Level((0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29), (3, 5, 8), (), (0, 5), 0x6)
_V4 = Level(_V3.leaf1_ecx, (*_V3.leaf7_ebx, 16, 17, 28, 30, 31), (), _V3.extended_ecx, 0xE6)
_V4_VNNI = replace(_V4, leaf7_ecx=(11,))
LEVELS = {
    X86_BASELINE.name: Level(),
    X86_V3.name: _V3,
    X86_V4.name: _V4,
    X86_V4_VNNI.name: _V4_VNNI,
}
# What `target` may say: one instruction set, or all of an architecture, the plainest first.
FAMILIES: dict[str, tuple[Target, ...]] = {
    "x86-64-linux": (X86_BASELINE, X86_V3, X86_V4),
    "x86-64": (X86_BASELINE,),
    "x86-64-v3": (X86_V3,),
    "x86-64-v4": (X86_V4,),
    "x86-64-v4-vnni": (X86_V4_VNNI,),
    "aarch64-linux": (AARCH64,),
    "riscv64-linux": (RISCV64,),
}


def targets_of(name: str, host: Target) -> tuple[Target, ...]:
    """The instruction sets of a target's name; "native" is this machine's best, "host" all of its
    architecture. Raises UnsupportedError for an unknown name.
    """
    if name == "native":
        return (host,)
    if name == "host":
        return FAMILIES["x86-64-linux"] if is_x86(host) else (host,)
    found = FAMILIES.get(name)
    if found is None:
        raise UnsupportedError(
            message(
                f"no ahead-of-time code for target {name!r}",
                hint=f"targets: native, host, {', '.join(FAMILIES)}",
            )
        )
    return found


def is_x86(target: Target) -> bool:
    """Whether the target is of the x86-64 architecture."""
    return target.triple.startswith("x86_64")


def baseline_of(target: Target) -> Target:
    """The instruction set that every processor of the target's architecture has."""
    return X86_BASELINE if is_x86(target) else target


def dispatch_text(targets: Sequence[Target]) -> str:
    """LLVM text of `graphc.level` and of the choice that a caller may make."""
    if not is_x86(targets[0]):
        return "\n".join(
            [
                "@graphc.chosen = internal global i64 -2, align 64",
                "define internal i64 @graphc.has(i64 %index) nounwind {",
                "  ret i64 1",
                "}",
                _LEVEL.format(last=len(targets) - 1),
            ]
        )
    return "\n".join([_CPUID, _has(targets), _LEVEL.format(last=len(targets) - 1)])


def _has(targets: Sequence[Target]) -> str:
    lines = [
        "@graphc.chosen = internal global i64 -2, align 64",
        "define internal i64 @graphc.has(i64 %index) nounwind {",
        "entry:",
        "  %leaf1 = call i32 @graphc.cpuid.ecx(i32 1)",
        "  %extended = call i32 @graphc.cpuid.ecx(i32 -2147483647)",
        "  %seven = call { i32, i32 } @graphc.cpuid.seven()",
        "  %leaf7 = extractvalue { i32, i32 } %seven, 0",
        "  %more7 = extractvalue { i32, i32 } %seven, 1",
        "  %saved = call i32 @graphc.saved(i32 %leaf1)",
        "  switch i64 %index, label %none [",
        *(f"    i64 {k}, label %level{k}" for k in range(len(targets))),
        "  ]",
    ]
    for k, target in enumerate(targets):
        level = LEVELS[target.name]
        lines.append(f"level{k}:")
        names = []
        wanted = (
            ("leaf1", _mask(level.leaf1_ecx)),
            ("leaf7", _mask(level.leaf7_ebx)),
            ("more7", _mask(level.leaf7_ecx)),
            ("extended", _mask(level.extended_ecx)),
            ("saved", level.saved_state),
        )
        for source, mask in wanted:
            lines += [
                f"  %{source}.and{k} = and i32 %{source}, {_signed(mask)}",
                f"  %{source}.ok{k} = icmp eq i32 %{source}.and{k}, {_signed(mask)}",
            ]
            names.append(f"%{source}.ok{k}")
        total = names[0]
        for j, name in enumerate(names[1:]):
            lines.append(f"  %all{k}.{j} = and i1 {total}, {name}")
            total = f"%all{k}.{j}"
        lines += [f"  %answer{k} = zext i1 {total} to i64", f"  ret i64 %answer{k}"]
    return "\n".join([*lines, "none:", "  ret i64 0", "}"])


def _mask(bits: Sequence[int]) -> int:
    return sum(1 << bit for bit in bits)


def _signed(mask: int) -> int:
    return mask - (1 << 32) if mask >> 31 else mask


_ASM = 'asm sideeffect "cpuid", "={ax},={bx},={cx},={dx},{ax},{cx},~{dirflag},~{fpsr},~{flags}"'
_XGETBV = 'asm sideeffect "xgetbv", "={ax},={dx},{cx},~{dirflag},~{fpsr},~{flags}"'
_CPUID = f"""
define internal i32 @graphc.cpuid.ecx(i32 %leaf) nounwind {{
entry:
  ; The highest leaf of the range: a leaf above it would answer for another.
  %base = and i32 %leaf, -2147483648
  %top = call {{ i32, i32, i32, i32 }} {_ASM}(i32 %base, i32 0)
  %highest = extractvalue {{ i32, i32, i32, i32 }} %top, 0
  %known = icmp uge i32 %highest, %leaf
  br i1 %known, label %ask, label %none
ask:
  %r = call {{ i32, i32, i32, i32 }} {_ASM}(i32 %leaf, i32 0)
  %ecx = extractvalue {{ i32, i32, i32, i32 }} %r, 2
  ret i32 %ecx
none:
  ret i32 0
}}

define internal {{ i32, i32 }} @graphc.cpuid.seven() nounwind {{
entry:
  %top = call {{ i32, i32, i32, i32 }} {_ASM}(i32 0, i32 0)
  %highest = extractvalue {{ i32, i32, i32, i32 }} %top, 0
  %known = icmp uge i32 %highest, 7
  br i1 %known, label %ask, label %none
ask:
  %r = call {{ i32, i32, i32, i32 }} {_ASM}(i32 7, i32 0)
  %ebx = extractvalue {{ i32, i32, i32, i32 }} %r, 1
  %ecx = extractvalue {{ i32, i32, i32, i32 }} %r, 2
  %first = insertvalue {{ i32, i32 }} zeroinitializer, i32 %ebx, 0
  %both = insertvalue {{ i32, i32 }} %first, i32 %ecx, 1
  ret {{ i32, i32 }} %both
none:
  ret {{ i32, i32 }} zeroinitializer
}}

; The registers that the system saves (XCR0), where it says that it does.
define internal i32 @graphc.saved(i32 %leaf1) nounwind {{
entry:
  %bit = and i32 %leaf1, 134217728
  %readable = icmp ne i32 %bit, 0
  br i1 %readable, label %ask, label %none
ask:
  %r = call {{ i32, i32 }} {_XGETBV}(i32 0)
  %eax = extractvalue {{ i32, i32 }} %r, 0
  ret i32 %eax
none:
  ret i32 0
}}
"""

# @graphc.chosen: -2 not asked yet, -1 none fits, else the index. Read and written by locked
# instructions, so that any number of threads may ask first.
_LEVEL = """
define internal i64 @graphc.level() nounwind {{
entry:
  %pair = cmpxchg ptr @graphc.chosen, i64 -2, i64 -2 seq_cst seq_cst, align 8
  %known = extractvalue {{ i64, i1 }} %pair, 0
  %asked = icmp ne i64 %known, -2
  br i1 %asked, label %done, label %ask
done:
  ret i64 %known
ask:
  br label %try
try:
  %k = phi i64 [ {last}, %ask ], [ %less, %next ]
  %negative = icmp slt i64 %k, 0
  br i1 %negative, label %found, label %test
test:
  %has = call i64 @graphc.has(i64 %k)
  %yes = icmp ne i64 %has, 0
  br i1 %yes, label %found, label %next
next:
  %less = sub i64 %k, 1
  br label %try
found:
  %first = cmpxchg ptr @graphc.chosen, i64 -2, i64 %k seq_cst seq_cst, align 8
  ret i64 %k
}}
"""
