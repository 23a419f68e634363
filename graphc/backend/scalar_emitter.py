"""The scalar language as LLVM IR text at any vector width (floor 6).

`ScalarEmitter.op` looks a method up in one table per kind of dtype: a single instruction
(`INSTRUCTIONS`), a sequence of them (`scalar_sequences.SEQUENCES`), an internal function with a
loop (`native_functions`), or a math decomposition. No emitted code calls into a library, on any
target. Invariant: every value is the same bits at every width, so vector bodies and scalar tails
agree.
"""

from __future__ import annotations

from graphc.backend import float_formats, native_functions, scalar_sequences
from graphc.backend.llvm_types import (
    compute_type,
    float_literal,
    is_literal,
    literal,
    memory_type,
    splat_literal,
    suffix,
    vector_type,
)
from graphc.base.dtypes import DType, bfloat16, bool_, float16, float32, float64, int64
from graphc.base.errors import CompileError
from graphc.base.target import Target
from graphc.ir.scalar import COMPARE, PREDICATE

_SHARED_INT = {
    "add": "add {t} {a}, {b}",
    "sub": "sub {t} {a}, {b}",
    "mul": "mul {t} {a}, {b}",
    "neg": "sub {t} zeroinitializer, {a}",
    "bit_and": "and {t} {a}, {b}",
    "bit_or": "or {t} {a}, {b}",
    "bit_xor": "xor {t} {a}, {b}",
    "bit_not": "xor {t} {a}, {ones}",
    "count_ones": "call {t} @llvm.ctpop.{m}({t} {a})",
    "eq": "icmp eq {t} {a}, {b}",
    "ne": "icmp ne {t} {a}, {b}",
}
# One instruction per method, by kind of dtype: f float, i signed, u unsigned, b bool.
INSTRUCTIONS: dict[str, dict[str, str]] = {
    "f": {
        "add": "fadd {t} {a}, {b}",
        "sub": "fsub {t} {a}, {b}",
        "mul": "fmul {t} {a}, {b}",
        "div": "fdiv {t} {a}, {b}",
        "neg": "fneg {t} {a}",
        "abs": "call {t} @llvm.fabs.{m}({t} {a})",
        "sqrt": "call {t} @llvm.sqrt.{m}({t} {a})",
        "copysign": "call {t} @llvm.copysign.{m}({t} {a}, {t} {b})",
        "eq": "fcmp oeq {t} {a}, {b}",
        "ne": "fcmp une {t} {a}, {b}",
        "lt": "fcmp olt {t} {a}, {b}",
        "le": "fcmp ole {t} {a}, {b}",
        "gt": "fcmp ogt {t} {a}, {b}",
        "ge": "fcmp oge {t} {a}, {b}",
        "isnan": "fcmp uno {t} {a}, {a}",
    },
    "i": _SHARED_INT
    | {
        "abs": "call {t} @llvm.abs.{m}({t} {a}, i1 false)",
        "minimum": "call {t} @llvm.smin.{m}({t} {a}, {t} {b})",
        "maximum": "call {t} @llvm.smax.{m}({t} {a}, {t} {b})",
        "lt": "icmp slt {t} {a}, {b}",
        "le": "icmp sle {t} {a}, {b}",
        "gt": "icmp sgt {t} {a}, {b}",
        "ge": "icmp sge {t} {a}, {b}",
        "signbit": "icmp slt {t} {a}, zeroinitializer",
    },
    "u": _SHARED_INT
    | {
        "minimum": "call {t} @llvm.umin.{m}({t} {a}, {t} {b})",
        "maximum": "call {t} @llvm.umax.{m}({t} {a}, {t} {b})",
        "lt": "icmp ult {t} {a}, {b}",
        "le": "icmp ule {t} {a}, {b}",
        "gt": "icmp ugt {t} {a}, {b}",
        "ge": "icmp uge {t} {a}, {b}",
    },
    "b": {
        "add": "or {t} {a}, {b}",
        "mul": "and {t} {a}, {b}",
        "minimum": "and {t} {a}, {b}",
        "maximum": "or {t} {a}, {b}",
        "bit_and": "and {t} {a}, {b}",
        "bit_or": "or {t} {a}, {b}",
        "bit_xor": "xor {t} {a}, {b}",
        "bit_not": "xor {t} {a}, {ones}",
        "eq": "icmp eq {t} {a}, {b}",
        "ne": "icmp ne {t} {a}, {b}",
        "lt": "icmp ult {t} {a}, {b}",
        "le": "icmp ule {t} {a}, {b}",
        "gt": "icmp ugt {t} {a}, {b}",
        "ge": "icmp uge {t} {a}, {b}",
    },
}
# Methods on integers and bool whose answer is the operand or a constant.
_IDENTITY = frozenset({"floor", "ceil", "trunc", "round_even"})
_CONSTANT = {"isnan": False, "isinf": False, "isfinite": True, "signbit": False}
# Methods whose float32 result on 16-bit operands is a 16-bit value already: no rounding needed.
_EXACT_16 = frozenset(
    "neg abs floor ceil trunc round_even minimum maximum copysign".split() + COMPARE + PREDICATE
)
_TO_BOOL = frozenset(COMPARE + PREDICATE)


class ScalarEmitter:
    """Writes instructions to `lines` (swap it to write elsewhere), with fresh names.

    functions: definitions of internal functions that the written code calls, by name. copies: how
    many of those were written in line.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.lines: list[str] = []
        self.functions: dict[str, str] = {}
        self.copies = 0
        self._count = 0

    # -- text -----------------------------------------------------------------------------------
    def fresh(self) -> str:
        """A fresh value name."""
        self._count += 1
        return f"%v{self._count}"

    def emit(self, instruction: str) -> str:
        """Write an instruction and return the name of its value."""
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        """Write an instruction that has no value."""
        self.lines.append("  " + instruction)

    # -- the scalar language --------------------------------------------------------------------
    def op(self, name: str, dtype: DType, width: int, *args: str) -> str:
        """A regular method or `fma` on operands of `dtype`."""
        if dtype is int64 and width == 1 and len(args) == 2:
            folded = fold_index(name, *args)
            if folded is not None:
                return folded
        result = self._op(name, dtype, width, args)
        if dtype.bits == 16 and dtype.is_float and name not in _EXACT_16:
            return self.round16(result, dtype, width)
        return result

    def _op(self, name: str, dtype: DType, width: int, args: tuple[str, ...]) -> str:
        template = INSTRUCTIONS[dtype.kind].get(name)
        if template is not None:
            compute = compute_type(dtype)
            return self.emit(
                template.format(
                    t=vector_type(compute, width),
                    m=suffix(compute, width),
                    a=args[0],
                    b=args[-1],
                    ones=splat_literal("true" if compute == "i1" else "-1", compute, width),
                )
            )
        sequence = scalar_sequences.SEQUENCES[dtype.kind].get(name)
        if sequence is not None:
            return sequence(self, dtype, width, *args)
        if not dtype.is_float:
            if name in _CONSTANT:
                return literal(_CONSTANT[name], bool_, width)
            if name in _IDENTITY or (name == "abs" and dtype.kind in "ub"):
                return args[0]
        return native_functions.call(self, name, dtype.compute, width, args)

    def select(self, condition: str, a: str, b: str, dtype: DType, width: int) -> str:
        """Lanes of `a` where the condition holds, else of `b`."""
        return self.choose(condition, a, b, compute_type(dtype), width)

    def choose(self, condition: str, a: str, b: str, scalar: str, width: int) -> str:
        """`select` on values of an LLVM type."""
        t = vector_type(scalar, width)
        return self.emit(f"select {vector_type('i1', width)} {condition}, {t} {a}, {t} {b}")

    def fma(self, a: str, b: str, c: str, scalar: str, width: int) -> str:
        """a * b + c: fused where the target can, never by a library call."""
        t = vector_type(scalar, width)
        if self.target.has_fma:
            return self.emit(
                f"call {t} @llvm.fma.{suffix(scalar, width)}({t} {a}, {t} {b}, {t} {c})"
            )
        product = self.emit(f"fmul {t} {a}, {b}")
        return self.emit(f"fadd {t} {product}, {c}")

    def cast(self, x: str, source: DType, dtype: DType, width: int) -> str:
        """Value conversion with the semantics of `ScalarLanguage.cast`."""
        if source is dtype:
            return x
        s, d = compute_type(source), compute_type(dtype)
        st, dt = vector_type(s, width), vector_type(d, width)
        if dtype.is_bool:
            if source.is_float:
                return self.emit(
                    f"fcmp une {st} {x}, {splat_literal(float_literal(0.0), s, width)}"
                )
            return self.emit(f"icmp ne {st} {x}, {splat_literal('0', s, width)}")
        if source.is_float:
            if dtype.is_float:
                return self._cast_float(x, source, dtype, width)
            return scalar_sequences.float_to_integer(self, x, source, dtype, width)
        if dtype.is_float:
            instruction = "sitofp" if source.kind == "i" else "uitofp"
            result = self.emit(f"{instruction} {st} {x} to {dt}")
            return self.round16(result, dtype, width) if dtype.bits == 16 else result
        if source.bits == dtype.bits:
            return x
        if source.bits > dtype.bits:
            return self.emit(f"trunc {st} {x} to {dt}")
        return self.emit(f"{'sext' if source.kind == 'i' else 'zext'} {st} {x} to {dt}")

    def _cast_float(self, x: str, source: DType, dtype: DType, width: int) -> str:
        if source is float64:
            if dtype is float16:
                x = float_formats.narrow_to_odd(self, x, width)
            else:
                x = self.emit(
                    f"fptrunc {vector_type('double', width)} {x} to {vector_type('float', width)}"
                )
            return x if dtype is float32 else self.round16(x, dtype, width)
        if dtype is float64:
            return self.emit(
                f"fpext {vector_type('float', width)} {x} to {vector_type('double', width)}"
            )
        return x if dtype is float32 else self.round16(x, dtype, width)

    def bitcast(self, x: str, source: DType, dtype: DType, width: int) -> str:
        """The same bits as `dtype`; 16-bit floats are packed and unpacked on the way."""
        if source.bits != dtype.bits:
            raise CompileError(f"bitcast from {source} to {dtype}: the widths differ")
        bits = self.to_memory(x, source, width)
        a, b = memory_type(source, width), memory_type(dtype, width)
        if a != b:
            bits = self.emit(f"bitcast {a} {bits} to {b}")
        return self.from_memory(bits, dtype, width)

    # -- memory forms ---------------------------------------------------------------------------
    def round16(self, x: str, dtype: DType, width: int) -> str:
        """A float rounded to a 16-bit float dtype, still float."""
        return float_formats.round16(self, x, dtype, width)

    def to_memory(self, x: str, dtype: DType, width: int) -> str:
        """A register value in its memory form."""
        if dtype.is_bool:
            return self.emit(f"zext {vector_type('i1', width)} {x} to {vector_type('i8', width)}")
        if dtype is float16 or dtype is bfloat16:
            return float_formats.pack(self, x, dtype, width)
        return x

    def from_memory(self, x: str, dtype: DType, width: int) -> str:
        """A value in memory form as a register value."""
        if dtype.is_bool:
            return self.emit(
                f"icmp ne {vector_type('i8', width)} {x}, {splat_literal('0', 'i8', width)}"
            )
        if dtype is float16 or dtype is bfloat16:
            return float_formats.unpack(self, x, dtype, width)
        return x

    def splat(self, x: str, scalar: str, width: int) -> str:
        """A scalar operand of an LLVM type in every lane."""
        if width == 1:
            return x
        if is_literal(x):
            return splat_literal(x, scalar, width)
        t = vector_type(scalar, width)
        first = self.emit(f"insertelement {t} poison, {scalar} {x}, i64 0")
        return self.emit(f"shufflevector {t} {first}, {t} poison, <{width} x i32> zeroinitializer")


def fold_index(name: str, a: str, b: str) -> str | None:
    """The operand that an int64 operation on literals comes to, or None."""
    a_known, b_known = is_literal(a), is_literal(b)
    if a_known and b_known:
        x, y = int(a), int(b)
        if name == "add":
            value = x + y
        elif name == "sub":
            value = x - y
        elif name == "mul":
            value = x * y
        elif name == "floordiv":
            value = x // y if y else 0
        elif name == "mod":
            value = x % y if y else 0
        else:
            return _fold_compare(name, x, y)
        return str((value + (1 << 63)) % (1 << 64) - (1 << 63))
    if name == "add":
        return b if a == "0" else a if b == "0" else None
    if name == "mul":
        if a == "0" or b == "0":
            return "0"
        return b if a == "1" else a if b == "1" else None
    if b == "1" and name == "floordiv":
        return a
    return "0" if b == "1" and name == "mod" else a if b == "0" and name == "sub" else None


def _fold_compare(name: str, x: int, y: int) -> str | None:
    truth = {
        "eq": x == y, "ne": x != y, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y,
    }.get(name)  # fmt: skip
    if truth is not None:
        return "true" if truth else "false"
    if name == "minimum":
        return str(min(x, y))
    return str(max(x, y)) if name == "maximum" else None
