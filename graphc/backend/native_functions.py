"""Internal functions of an emitted module (floor 6): fmod, integer powers, decompositions.

Each is defined once per module, type and width, on the first call, in `ScalarEmitter.functions`.
Those with loops work lane by lane where the trip count differs by lane. Names start with
`graphc.`, which no user name can.
"""

from __future__ import annotations

import functools
from math import inf
from typing import TYPE_CHECKING

from graphc.backend.llvm_types import (
    compute_type,
    float_literal,
    literal,
    splat_literal,
    suffix,
    vector_type,
)
from graphc.backend.math_decompositions import DECOMPOSITIONS
from graphc.base.dtypes import DType
from graphc.base.errors import CompileError
from graphc.base.order import topological
from graphc.ir.scalar import BINARY
from graphc.loops.build import EXPR
from graphc.loops.nodes import Bitcast, Cast, Const, Expr, Op, Select, Var, var

if TYPE_CHECKING:
    from graphc.backend.scalar_emitter import ScalarEmitter

ATTRIBUTES = 'nounwind willreturn memory(none) "min-legal-vector-width"="512"'

# With scaling as an instruction these are so short that the spills around a call cost as much.
_SHORT = frozenset(("exp", "tanh", "erfc"))
# In one kernel. What does not fit into the registers anyway is spilled around its copies too, which
# take LLVM a millisecond each.
_MOST_COPIES = 40


def call(e: ScalarEmitter, name: str, dtype: DType, width: int, args: tuple[str, ...]) -> str:
    """A transcendental method on float32 or float64 by its decomposition, inlined where cheap."""
    if not dtype.is_float or name not in DECOMPOSITIONS:
        raise CompileError(f"the method {name!r} has no meaning for {dtype}")
    short = name in _SHORT and width > 1 and e.target.has_scaling
    if short:
        e.copies += 1
    if DECOMPOSITIONS[name].cheap or (short and e.copies <= _MOST_COPIES):
        return _replay(e, _trace(name, dtype, "function"), width, args)
    t = compute_type(dtype, width)
    function = f"graphc.{name}.{suffix(compute_type(dtype), width)}"
    if function not in e.functions:
        e.functions[function] = ""  # taken: a decomposition never calls itself
        params = tuple(f"%p{k}" for k in range(len(args)))
        outer, e.lines = e.lines, []
        result = _body(e, name, dtype, width, params)
        body, e.lines = e.lines, outer
        operands = ", ".join(f"{t} {p}" for p in params)
        header = f"define internal {t} @{function}({operands}) {ATTRIBUTES} {{"
        e.functions[function] = "\n".join([header, "entry:", *body, f"  ret {t} {result}", "}"])
    return e.emit(f"call {t} @{function}({', '.join(f'{t} {a}' for a in args)})")


def _body(e: ScalarEmitter, name: str, dtype: DType, width: int, params: tuple[str, ...]) -> str:
    """The result of a decomposition; the rare part behind a branch on whether any lane needs it."""
    if DECOMPOSITIONS[name].is_rare is None:
        return _replay(e, _trace(name, dtype, "function"), width, params)
    t, m = compute_type(dtype, width), vector_type("i1", width)
    common = _replay(e, _trace(name, dtype, "common"), width, params)
    mask = _replay(e, _trace(name, dtype, "is_rare"), width, params)
    some = mask
    if width > 1:
        some = e.emit(f"call i1 @llvm.vector.reduce.or.v{width}i1({m} {mask})")
    e.do(f"br i1 {some}, label %rare, label %done")
    e.lines.append("rare:")
    rare = _replay(e, _trace(name, dtype, "rare"), width, params)
    merged = e.select(mask, rare, common, dtype, width)
    e.do("br label %done")
    e.lines.append("done:")
    return e.emit(f"phi {t} [ {common}, %entry ], [ {merged}, %rare ]")


Traced = tuple[tuple[Var, ...], tuple[Expr, ...]]


@functools.cache
def _trace(name: str, dtype: DType, part: str) -> Traced:
    """The parameters and the expressions of a decomposition, in an order in which they can be
    computed.
    """
    params = tuple(var(f"p{k}", dtype) for k in range(2 if name in BINARY else 1))
    root = getattr(DECOMPOSITIONS[name], part)(EXPR, *params)
    return params, tuple(topological([root], operands))


def operands(node: Expr) -> tuple[Expr, ...]:
    """What a pure node is computed from."""
    return node.args


def _replay(e: ScalarEmitter, traced: Traced, width: int, args: tuple[str, ...]) -> str:
    params, order = traced
    values: dict[Expr, str] = dict(zip(params, args, strict=True))
    for node in order:
        if node not in values:
            values[node] = emit_node(e, node, [values[a] for a in node.args], width)
    return values[order[-1]]


def emit_node(e: ScalarEmitter, node: Expr, args: list[str], width: int) -> str:
    """One expression node other than a variable, size or load, on operands of the same width."""
    if isinstance(node, Op):
        return e.op(node.name, node.args[0].dtype, width, *args)
    if isinstance(node, Const):
        return literal(node.value, node.dtype, width)
    if isinstance(node, Select):
        return e.select(args[0], args[1], args[2], node.dtype, width)
    if isinstance(node, Cast):
        return e.cast(args[0], node.args[0].dtype, node.dtype, width)
    if isinstance(node, Bitcast):
        return e.bitcast(args[0], node.args[0].dtype, node.dtype, width)
    raise CompileError(f"unexpected expression {type(node).__name__} in a pure computation")


# -- integer powers
# -----------------------------------------------------------------------------------

_POW = """define internal {t} @{name}({t} %base, {t} %exponent) {attributes} {{
entry:
  br label %loop
loop:
  %b = phi {t} [ %base, %entry ], [ %square, %loop ]
  %e = phi {t} [ %exponent, %entry ], [ %rest, %loop ]
  %r = phi {t} [ {one}, %entry ], [ %next, %loop ]
  %low = and {t} %e, {one}
  %odd = icmp ne {t} %low, zeroinitializer
  %product = mul {t} %r, %b
  %next = select {m} %odd, {t} %product, {t} %r
  %square = mul {t} %b, %b
  %rest = lshr {t} %e, {one}
  %going = icmp ne {t} %rest, zeroinitializer
{any}
  br i1 %more, label %loop, label %done
done:
{finish}
}}"""
# A negative exponent: 1 stays 1, -1 alternates, everything else truncates to 0.
_POW_SIGNED = """  %negative = icmp slt {t} %exponent, zeroinitializer
  %is_one = icmp eq {t} %base, {one}
  %is_minus = icmp eq {t} %base, {minus}
  %lowest = and {t} %exponent, {one}
  %is_odd = icmp ne {t} %lowest, zeroinitializer
  %alternating = select {m} %is_odd, {t} {minus}, {t} {one}
  %for_minus = select {m} %is_minus, {t} %alternating, {t} zeroinitializer
  %for_one = select {m} %is_one, {t} {one}, {t} %for_minus
  %result = select {m} %negative, {t} %for_one, {t} %next
  ret {t} %result"""


def call_integer_pow(e: ScalarEmitter, dtype: DType, width: int, a: str, b: str) -> str:
    """Wrapping power by squaring, all lanes together until the longest exponent is used up."""
    t, m = compute_type(dtype, width), vector_type("i1", width)
    function = f"graphc.pow.{dtype.short}.{width}"
    if function not in e.functions:
        one, minus = literal(1, dtype, width), literal(-1, dtype, width)
        reduce = f"call i1 @llvm.vector.reduce.or.v{width}i1({m} %going)" if width > 1 else None
        finish = f"  ret {t} %next"
        if dtype.kind == "i":
            finish = _POW_SIGNED.format(t=t, m=m, one=one, minus=minus)
        e.functions[function] = _POW.format(
            t=t, m=m, name=function, attributes=ATTRIBUTES, one=one,
            any=f"  %more = {reduce or 'or i1 %going, false'}",
            finish=finish,
        )  # fmt: skip
    return e.emit(f"call {t} @{function}({t} {a}, {t} {b})")


# -- fmod
# ---------------------------------------------------------------------------------------------

# Long division on the mantissas: `chunk` quotient bits at a time, so that the shifted remainder
# stays in 64 bits. Everything is exact, as C's fmod is.
_FMOD = """define internal {f} @{name}({f} %x, {f} %y) {attributes} {{
entry:
  %xb = bitcast {f} %x to {i}
  %yb = bitcast {f} %y to {i}
  %sign = and {i} %xb, {sign}
  %xa = and {i} %xb, {magnitude}
  %ya = and {i} %yb, {magnitude}
  %xbad = icmp uge {i} %xa, {infinity}
  %ynan = icmp ugt {i} %ya, {infinity}
  %yzero = icmp eq {i} %ya, 0
  %bad1 = or i1 %xbad, %ynan
  %bad = or i1 %bad1, %yzero
  br i1 %bad, label %invalid, label %valid
invalid:
  %xy = fmul {f} %x, %y
  %nan0 = fsub {f} %xy, %xy
  %nan = fdiv {f} %nan0, %nan0
  ret {f} %nan
valid:
  %less = icmp ult {i} %xa, %ya
  br i1 %less, label %same, label %divide
same:
  ret {f} %x
divide:
  %xe0 = lshr {i} %xa, {mantissa}
  %ye0 = lshr {i} %ya, {mantissa}
  %xf = and {i} %xa, {fraction}
  %yf = and {i} %ya, {fraction}
  %xn = icmp ne {i} %xe0, 0
  %yn = icmp ne {i} %ye0, 0
  %xh = select i1 %xn, {i} {hidden}, {i} 0
  %yh = select i1 %yn, {i} {hidden}, {i} 0
  %xm0 = or {i} %xf, %xh
  %ym0 = or {i} %yf, %yh
  %xe = call {i} @llvm.umax.{i}({i} %xe0, {i} 1)
  %ye = call {i} @llvm.umax.{i}({i} %ye0, {i} 1)
  %shift0 = sub {i} %xe, %ye
  %xm = {to64}
  %ym = {to64_y}
  %shift = {to64_s}
  %first = urem i64 %xm, %ym
  %done0 = icmp eq i64 %shift, 0
  br i1 %done0, label %pack, label %loop
loop:
  %r = phi i64 [ %first, %divide ], [ %rest, %loop ]
  %n = phi i64 [ %shift, %divide ], [ %left, %loop ]
  %step = call i64 @llvm.umin.i64(i64 %n, i64 {chunk})
  %wide = shl i64 %r, %step
  %rest = urem i64 %wide, %ym
  %left = sub i64 %n, %step
  %more = icmp ne i64 %left, 0
  br i1 %more, label %loop, label %pack
pack:
  %m = phi i64 [ %first, %divide ], [ %rest, %loop ]
  %zero = icmp eq i64 %m, 0
  br i1 %zero, label %nothing, label %normalize
nothing:
  %z = bitcast {i} %sign to {f}
  ret {f} %z
normalize:
  %zeros = call i64 @llvm.ctlz.i64(i64 %m, i1 true)
  %up0 = sub i64 %zeros, {lead}
  %ye64 = {to64_e}
  %room = sub i64 %ye64, 1
  %up = call i64 @llvm.umin.i64(i64 %up0, i64 %room)
  %mm = shl i64 %m, %up
  %e1 = sub i64 %room, %up
  %e2 = shl i64 %e1, {mantissa}
  %bits64 = add i64 %e2, %mm
  %bits = {from64}
  %signed = or {i} %bits, %sign
  %result = bitcast {i} %signed to {f}
  ret {f} %result
}}"""
# Where every lane's quotient is small, one division and one exact multiplication do; else each
# lane by itself.
_FMOD_LANES = """define internal {t} @{name}({t} %x, {t} %y) {attributes} {{
entry:
{fast}
  br i1 {all}, label %quick, label %loop
quick:
{quick}
  ret {t} {result}
loop:
  %k = phi i64 [ 0, %entry ], [ %next, %loop ]
  %r = phi {t} [ poison, %entry ], [ %s, %loop ]
  %a = extractelement {t} %x, i64 %k
  %b = extractelement {t} %y, i64 %k
  %c = call {f} @{scalar}({f} %a, {f} %b)
  %s = insertelement {t} %r, {f} %c, i64 %k
  %next = add i64 %k, 1
  %more = icmp ult i64 %next, {width}
  br i1 %more, label %loop, label %done
done:
  ret {t} %s
}}"""


def call_fmod(e: ScalarEmitter, scalar: str, width: int, a: str, b: str) -> str:
    """C's fmod on float or double, bit for bit."""
    name = f"graphc.fmod.{suffix(scalar)}"
    if name not in e.functions:
        e.functions[name] = _fmod_text(name, scalar)
    if width == 1:
        return e.emit(f"call {scalar} @{name}({scalar} {a}, {scalar} {b})")
    t = vector_type(scalar, width)
    lanes = f"graphc.fmod.{suffix(scalar, width)}"
    if lanes not in e.functions:
        e.functions[lanes] = _fmod_lanes_text(e, lanes, name, scalar, width)
    return e.emit(f"call {t} @{lanes}({t} {a}, {t} {b})")


def _fmod_lanes_text(e: ScalarEmitter, lanes: str, name: str, scalar: str, width: int) -> str:
    """The quick way is exact: a small quotient times the divisor is, and so is the difference.

    float computes in double, where 28 + 24 bits fit; double needs a fused multiplication, and its
    rounded quotient may be one too large.
    """
    t, d, m = (vector_type(x, width) for x in (scalar, "double", "i1"))
    single = scalar == "float"
    outer, e.lines = e.lines, []
    ax, ay = (e.emit(f"call {t} @llvm.fabs.{suffix(scalar, width)}({t} {v})") for v in ("%x", "%y"))
    if single:
        ax, ay = (e.emit(f"fpext {t} {v} to {d}") for v in (ax, ay))
    quotient = e.emit(f"fdiv {d} {ax}, {ay}")
    limit, infinity = (
        splat_literal(float_literal(x), "double", width)
        for x in (2.0**28 if single else 2.0**51, inf)
    )
    small = e.emit(f"fcmp olt {d} {quotient}, {limit}")
    finite = e.emit(f"fcmp olt {d} {ay}, {infinity}")
    both = e.emit(f"and {m} {small}, {finite}")
    every = e.emit(f"call i1 @llvm.vector.reduce.and.v{width}i1({m} {both})")
    if not single and not e.target.has_fma:
        every = "false"
    fast, e.lines = e.lines, []
    if single:
        i = vector_type("i32", width)
        whole = e.emit(f"sitofp {i} {e.emit(f'fptosi {d} {quotient} to {i}')} to {d}")
        rest = e.emit(f"fsub {d} {ax}, {e.emit(f'fmul {d} {whole}, {ay}')}")
        rest = e.emit(f"fptrunc {d} {rest} to {t}")
    else:
        whole = e.emit(f"call {d} @llvm.trunc.{suffix('double', width)}({d} {quotient})")
        rest = e.fma(e.emit(f"fneg {d} {whole}"), ay, ax, "double", width)
        below = e.emit(f"fcmp olt {d} {rest}, {splat_literal(float_literal(0.0), 'double', width)}")
        rest = e.choose(below, e.emit(f"fadd {d} {rest}, {ay}"), rest, "double", width)
    result = e.emit(f"call {t} @llvm.copysign.{suffix(scalar, width)}({t} {rest}, {t} %x)")
    quick, e.lines = e.lines, outer
    if every == "false":
        quick, result = [], "%x"
    return _FMOD_LANES.format(
        t=t, f=scalar, name=lanes, scalar=name, width=width, attributes=ATTRIBUTES,
        fast="\n".join(fast), quick="\n".join(quick), all=every, result=result,
    )  # fmt: skip


def _fmod_text(name: str, scalar: str) -> str:
    double = scalar == "double"
    bits, mantissa = (64, 52) if double else (32, 23)
    integer = f"i{bits}"

    def widen(value: str) -> str:
        return f"add i64 {value}, 0" if double else f"zext i32 {value} to i64"

    exponent_ones = (1 << (bits - 1 - mantissa)) - 1
    return _FMOD.format(
        f=scalar, i=integer, name=name, attributes=ATTRIBUTES, mantissa=mantissa,
        sign=-(1 << bits - 1), magnitude=(1 << bits - 1) - 1, infinity=exponent_ones << mantissa,
        fraction=(1 << mantissa) - 1, hidden=1 << mantissa, chunk=63 - mantissa, lead=63 - mantissa,
        to64=widen("%xm0"), to64_y=widen("%ym0"), to64_s=widen("%shift0"), to64_e=widen("%ye"),
        from64="add i64 %bits64, 0" if double else "trunc i64 %bits64 to i32",
    )  # fmt: skip
