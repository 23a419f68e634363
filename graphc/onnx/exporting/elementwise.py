"""Elementwise ops in ONNX (floor 8): operators of the same meaning, formulas for the others."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphc.base.dtypes import DType, bool_, uint8, uint16, uint32, uint64
from graphc.ir.node import Tensor
from graphc.onnx.exporting.formula import Formula
from graphc.onnx.exporting.table import REFUSED, Making, exports
from graphc.onnx.exporting.writer import Value, type_number

_SAME = {
    "acos": "Acos", "acosh": "Acosh", "add": "Add", "asin": "Asin", "asinh": "Asinh",
    "atan": "Atan", "atanh": "Atanh", "cos": "Cos", "cosh": "Cosh", "divide": "Div", "erf": "Erf",
    "exp": "Exp", "log": "Log", "maximum": "Max", "minimum": "Min", "multiply": "Mul",
    "reciprocal": "Reciprocal", "sigmoid": "Sigmoid", "sin": "Sin", "sinh": "Sinh",
    "softplus": "Softplus", "sqrt": "Sqrt", "subtract": "Sub", "tan": "Tan", "tanh": "Tanh",
}  # fmt: skip
# On bool these are logic; the others of the table do not take bool.
_LOGIC = {
    "add": "Or", "maximum": "Or", "multiply": "And", "minimum": "And",
    "bitwise_and": "And", "bitwise_or": "Or", "bitwise_xor": "Xor", "bitwise_invert": "Not",
}  # fmt: skip
_BITS = {
    "bitwise_and": "BitwiseAnd",
    "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor",
    "bitwise_invert": "BitwiseNot",
}
_COMPARISONS = {
    "equal": "Equal",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "less": "Less",
    "less_equal": "LessOrEqual",
}
_UNSIGNED: dict[int, DType] = {8: uint8, 16: uint16, 32: uint32, 64: uint64}

REFUSED.update(
    dict.fromkeys(
        ("digamma", "erfcinv", "erfinv", "lgamma", "nextafter", "polygamma", "bitwise_count"),
        "ONNX has no operator for it",
    )
)
REFUSED.update(
    dict.fromkeys(
        ("random_bits", "random_long_bits"), "ONNX's random numbers are not functions of a key"
    )
)


@exports(*_SAME)
def _same(m: Making, node: Tensor, xs: list[Value]) -> Value:
    if xs[0].dtype.is_bool:
        return m.writer.op(_LOGIC[node.op.name], *xs, dtype=bool_)
    return m.writer.apply(_SAME[node.op.name], *xs)


@exports(*_BITS)
def _bits(m: Making, node: Tensor, xs: list[Value]) -> Value:
    table = _LOGIC if xs[0].dtype.is_bool else _BITS
    return m.writer.op(table[node.op.name], *xs, dtype=xs[0].dtype)


@exports(*_COMPARISONS)
def _comparison(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return m.writer.apply(_COMPARISONS[node.op.name], *xs, result=bool_)


@exports("not_equal")
def _not_equal(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return m.writer.op("Not", m.writer.apply("Equal", *xs, result=bool_), dtype=bool_)


@exports("where")
def _where(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return m.writer.op("Where", *xs, dtype=node.dtype)


@exports("cast")
def _cast(m: Making, node: Tensor, xs: list[Value]) -> Value:
    (x,), w, dtype = xs, m.writer, node.dtype
    if not x.dtype.is_float or not dtype.is_integer:
        return w.cast(x, dtype)
    return saturated(m, x, dtype)


def saturated(m: Making, x: Value, dtype: DType) -> Value:
    """Floats as integers: those beyond the range as its ends, NaN as 0, which ONNX leaves open."""
    w = m.writer
    wide = x.dtype.compute
    limits = np.iinfo(dtype.numpy)
    low, high = wide.numpy.type(limits.min), wide.numpy.type(limits.max)
    rounded = float(high) > limits.max  # the float next to the end lies behind it
    if rounded:
        high = np.nextafter(high, wide.numpy.type(0))
    x = w.cast(x, wide)
    number = w.op("Where", w.op("IsNaN", x, dtype=bool_), w.number(0, wide), x, dtype=wide)
    bounded = w.op("Max", number, w.number(low, wide), dtype=wide)
    bounded = w.op("Min", bounded, w.number(high, wide), dtype=wide)
    found = w.cast(bounded, dtype)
    if not rounded:
        return found
    above = w.op("Greater", x, w.number(high, wide), dtype=bool_)
    return w.op("Where", above, w.number(limits.max, dtype), found, dtype=dtype)


@exports("bitcast")
def _bitcast(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return m.writer.op("BitCast", xs[0], dtype=node.dtype, to=type_number(node.dtype))


@exports("stop_gradient", "with_gradient", "barrier", "copy", "log_gamma_sample")
def _alias(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return xs[0]


# -- signs and rounding ---------------------------------------------------------------------------


@exports("abs", "sign", "square")
def _sign(m: Making, node: Tensor, xs: list[Value]) -> Value:
    if node.op.name == "square":
        return m.writer.apply("Mul", xs[0], xs[0])
    return m.writer.apply({"abs": "Abs", "sign": "Sign"}[node.op.name], xs[0])


@exports("negative")
def _negative(m: Making, node: Tensor, xs: list[Value]) -> Value:
    if xs[0].dtype.kind == "u":
        return m.writer.apply("Sub", m.writer.number(0, xs[0].dtype), xs[0])
    return m.writer.apply("Neg", xs[0])


@exports("ceil", "floor", "round", "trunc")
def _rounded(m: Making, node: Tensor, xs: list[Value]) -> Value:
    (x,), w = xs, m.writer
    if not x.dtype.is_float:
        return x
    if node.op.name != "trunc":
        return w.apply(node.op.name.capitalize(), x)
    below = w.apply("Less", x, w.number(0, x.dtype), result=bool_)
    return w.op("Where", below, w.apply("Ceil", x), w.apply("Floor", x), dtype=x.dtype)


@exports("isnan", "isinf", "isfinite", "signbit")
def _tests(m: Making, node: Tensor, xs: list[Value]) -> Value:
    (x,), w, name = xs, m.writer, node.op.name
    if not x.dtype.is_float:
        if name == "signbit" and x.dtype.kind == "i":
            return w.apply("Less", x, w.number(0, x.dtype), result=bool_)
        same = w.apply("Equal", x, x, result=bool_)
        return same if name == "isfinite" else w.op("Not", same, dtype=bool_)
    if name == "signbit":
        return _formula(m, [x], lambda f, x: f.negative_sign(x), bool_)
    nan = w.apply("IsNaN", x, result=bool_)
    if name == "isnan":
        return nan
    infinite = w.apply("IsInf", x, result=bool_)
    if name == "isinf":
        return infinite
    return w.op("Not", w.op("Or", nan, infinite, dtype=bool_), dtype=bool_)


# -- formulas -------------------------------------------------------------------------------------


def _formula(
    m: Making,
    xs: list[Value],
    write: Callable[..., Value],
    result: DType | None = None,
) -> Value:
    """A formula in the compute dtype of the operands."""
    w, dtype = m.writer, xs[0].dtype
    # Mod of 16-bit floats and the like: everything in float32.
    found = write(Formula(w, dtype.compute), *(w.cast(x, dtype.compute) for x in xs))
    return w.cast(found, result or dtype)


_FORMULAS: dict[str, Callable[..., Value]] = {
    "atan2": lambda f, y, x: f.atan2(y, x),
    "chain_divide": lambda f, a, b: f.where(f.test("Equal", a, 0.0), 0.0, f.div(a, b)),
    "chain_multiply": lambda f, a, b: f.where(
        f.either(f.test("Equal", a, 0.0), f.test("Equal", b, 0.0)), 0.0, f.mul(a, b)
    ),
    "copysign": lambda f, a, b: f.where(
        f.negative_sign(b), f.op("Neg", f.op("Abs", a)), f.op("Abs", a)
    ),
    "erfc": lambda f, x: f.erfc(x),
    "exp2": lambda f, x: f.op("Pow", 2.0, x),
    "exp_sum": lambda f, a, b: f.op("Exp", f.add(a, b)),
    "expm1": lambda f, x: f.expm1(x),
    "hypot": lambda f, a, b: f.hypot(a, b),
    "log10": lambda f, x: f.mul(f.op("Log", x), 1.0 / math.log(10.0)),
    "log1mexp": lambda f, x: f.log1mexp(x),
    "log1p": lambda f, x: f.log1p(x),
    "log2": lambda f, x: f.mul(f.op("Log", x), 1.0 / math.log(2.0)),
    "logaddexp": lambda f, a, b: f.logaddexp(a, b),
    "rsqrt": lambda f, x: f.op("Reciprocal", f.op("Sqrt", x)),
}


@exports(*_FORMULAS)
def _by_formula(m: Making, node: Tensor, xs: list[Value]) -> Value:
    return _formula(m, xs, _FORMULAS[node.op.name])


@exports("log_product", "log_quotient")
def _log_of_two(m: Making, node: Tensor, xs: list[Value]) -> Value:
    product = node.op.name == "log_product"

    def write(f: Formula, a: Value, b: Value) -> Value:
        # Logarithms of the sizes: no product leaves the range. NaN where it is below zero.
        first, second = (f.op("Log", f.op("Abs", x)) for x in (a, b))
        found = f.op("Add" if product else "Sub", first, second)
        below = f.differ(f.negative_sign(a), f.negative_sign(b))
        # What makes the product or quotient a zero, whose logarithm is -inf whatever its sign.
        zeros = [f.test("Equal", a, 0.0)]
        if product:
            zeros.append(f.test("Equal", b, 0.0))
        else:
            zeros.append(m.writer.op("IsInf", b, dtype=bool_))
        below = f.both(below, m.writer.op("Not", f.either(*zeros), dtype=bool_))
        return f.where(below, math.nan, found)

    return _formula(m, xs, write)


# -- division, powers, shifts ---------------------------------------------------------------------


@exports("floor_divide", "remainder")
def _division(m: Making, node: Tensor, xs: list[Value]) -> Value:
    quotient = node.op.name == "floor_divide"
    if xs[0].dtype.is_float:
        if quotient:
            return _formula(m, xs, lambda f, x, y: f.floor_divide(x, y))
        return _formula(m, xs, lambda f, x, y: f.remainder(x, y)[1])
    x, y = xs
    return _whole_division(m, x, y, quotient)


def _whole_division(m: Making, x: Value, y: Value, quotient: bool) -> Value:
    """Division of integers, rounded down. ONNX leaves division by 0 open, and that of the smallest
    integer by -1.
    """
    w, dtype = m.writer, x.dtype
    zero, one = w.number(0, dtype), w.number(1, dtype)
    none = w.op("Equal", y, zero, dtype=bool_)
    divisor = w.op("Where", none, one, y, dtype=dtype)
    if dtype.kind == "u":
        found = w.apply("Div" if quotient else "Mod", x, divisor)
        return w.op("Where", none, zero, found, dtype=dtype)
    minus = w.op("Equal", y, w.number(-1, dtype), dtype=bool_)
    divisor = w.op("Where", minus, one, divisor, dtype=dtype)
    rest = w.apply("Mod", x, divisor)
    if not quotient:
        return w.op("Where", none, zero, rest, dtype=dtype)
    # ONNX rounds towards zero: where that is above, one less.
    found = w.apply("Div", x, divisor)
    left = w.apply("Sub", x, w.apply("Mul", found, divisor))
    above = w.op(
        "Xor", *(w.apply("Less", v, zero, result=bool_) for v in (left, divisor)), dtype=bool_
    )
    inexact = w.op("Not", w.op("Equal", left, zero, dtype=bool_), dtype=bool_)
    above = w.op("And", above, inexact, dtype=bool_)
    found = w.op("Where", above, w.apply("Sub", found, one), found, dtype=dtype)
    found = w.op("Where", minus, w.apply("Neg", x), found, dtype=dtype)
    return w.op("Where", none, zero, found, dtype=dtype)


@exports("pow")
def _pow(m: Making, node: Tensor, xs: list[Value]) -> Value:
    w, dtype = m.writer, xs[0].dtype
    if dtype.is_float:
        return w.apply("Pow", *xs)
    x, y = xs
    if dtype.kind == "u":
        return w.apply("Pow", x, y)
    # A negative exponent gives 1 / power, truncated: 1 of 1, ±1 of -1, else 0.
    zero, one, minus = w.number(0, dtype), w.number(1, dtype), w.number(-1, dtype)
    below = w.apply("Less", y, zero, result=bool_)
    power = w.apply("Pow", x, w.op("Where", below, zero, y, dtype=dtype))
    odd = w.op("Equal", w.apply("Mod", y, w.number(2, dtype)), one, dtype=bool_)
    sign = w.op("Where", odd, minus, one, dtype=dtype)
    of_minus = w.op("Where", w.op("Equal", x, minus, dtype=bool_), sign, zero, dtype=dtype)
    inverse = w.op("Where", w.op("Equal", x, one, dtype=bool_), one, of_minus, dtype=dtype)
    return w.op("Where", below, inverse, power, dtype=dtype)


@exports("bitwise_left_shift", "bitwise_right_shift")
def _shift(m: Making, node: Tensor, xs: list[Value]) -> Value:
    w, dtype = m.writer, node.dtype
    left = node.op.name == "bitwise_left_shift"
    unsigned = _UNSIGNED[dtype.bits]
    x, count = xs
    inverted: Value | None = None
    if dtype.kind == "i" and not left:
        # Copies of the sign bit come in: shift the complement of a negative number.
        inverted = w.apply("Less", x, w.number(0, dtype), result=bool_)
        x = w.op("Where", inverted, w.op("BitwiseNot", x, dtype=dtype), x, dtype=dtype)
    # Counts from the width on shift everything out; ONNX leaves them open. Negative ones count as
    # large.
    places = w.cast(count, unsigned)
    most = w.number(dtype.bits - 1, unsigned)
    beyond = w.apply("Greater", places, most, result=bool_)
    inside = w.op("Where", beyond, most, places, dtype=unsigned)
    direction = "LEFT" if left else "RIGHT"
    moved = w.op("BitShift", w.cast(x, unsigned), inside, dtype=unsigned, direction=direction)
    moved = w.op("Where", beyond, w.number(0, unsigned), moved, dtype=unsigned)
    found = w.cast(moved, dtype)
    if inverted is None:
        return found
    return w.op("Where", inverted, w.op("BitwiseNot", found, dtype=dtype), found, dtype=dtype)
