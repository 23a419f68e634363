"""Formulas in ONNX (floor 8): functions that ONNX has no operator for, out of those that it has.

A `Formula` writes arithmetic on values of one float dtype; constants are 0-d and broadcast.
"""

from __future__ import annotations

import math

from graphc.backend.math_coefficients import ERFC_64
from graphc.base.dtypes import DType, bool_
from graphc.onnx.exporting.writer import Value, Writer

Operand = Value | float


class Formula:
    """Arithmetic in a float dtype. Operands are values of it, or numbers."""

    def __init__(self, writer: Writer, dtype: DType) -> None:
        self._writer = writer
        self.dtype = dtype

    def value(self, x: Operand) -> Value:
        """A number as a constant."""
        return x if isinstance(x, Value) else self._writer.number(x, self.dtype)

    def op(self, op_type: str, *xs: Operand, **attrs: object) -> Value:
        """An operator whose result has the dtype."""
        return self._writer.op(op_type, *map(self.value, xs), dtype=self.dtype, **attrs)

    def add(self, a: Operand, b: Operand) -> Value:
        """a + b"""
        return self.op("Add", a, b)

    def sub(self, a: Operand, b: Operand) -> Value:
        """a - b"""
        return self.op("Sub", a, b)

    def mul(self, a: Operand, b: Operand) -> Value:
        """a * b"""
        return self.op("Mul", a, b)

    def div(self, a: Operand, b: Operand) -> Value:
        """a / b"""
        return self.op("Div", a, b)

    def test(self, op_type: str, a: Operand, b: Operand) -> Value:
        """A comparison: "Less", "Equal" …"""
        return self._writer.op(op_type, self.value(a), self.value(b), dtype=bool_)

    def both(self, a: Value, b: Value) -> Value:
        """a and b"""
        return self._writer.op("And", a, b, dtype=bool_)

    def either(self, a: Value, b: Value) -> Value:
        """a or b"""
        return self._writer.op("Or", a, b, dtype=bool_)

    def differ(self, a: Value, b: Value) -> Value:
        """Whether exactly one of two truths holds."""
        return self._writer.op("Xor", a, b, dtype=bool_)

    def where(self, condition: Value, a: Operand, b: Operand) -> Value:
        """a where the condition holds, else b."""
        xs = (condition, self.value(a), self.value(b))
        return self._writer.op("Where", *xs, dtype=self.dtype)

    # -- functions --------------------------------------------------------------------------------
    def negative_sign(self, x: Operand) -> Value:
        """Whether x is negative, -0 included."""
        below_zero = self.test("Less", x, 0.0)
        minus_zero = self.test("Less", self.div(1.0, x), 0.0)
        return self.either(below_zero, self.both(self.test("Equal", x, 0.0), minus_zero))

    def expm1(self, x: Operand) -> Value:
        """exp(x) - 1 = 2 sinh(x / 2) exp(x / 2), which keeps its digits near 0."""
        # Below -80 the result is -1 in every dtype, and the first factor would overflow.
        half = self.mul(self.op("Max", x, -80.0), 0.5)
        return self.mul(self.mul(self.op("Sinh", half), self.op("Exp", half)), 2.0)

    def log1p(self, x: Operand) -> Value:
        """log(1 + x); near 0 as 2 atanh(x / (2 + x)), which keeps its digits."""
        small = self.test("Less", self.op("Abs", x), 0.5)
        inner = self.where(small, x, 0.0)
        near = self.mul(self.op("Atanh", self.div(inner, self.add(inner, 2.0))), 2.0)
        return self.where(small, near, self.op("Log", self.add(x, 1.0)))

    def remainder(self, x: Operand, y: Operand) -> tuple[Value, Value, Value]:
        """x mod y with the sign of x, with the sign of y, and whether they differ."""
        first = self.op("Mod", x, y, fmod=1)
        nonzero = self._writer.op("Not", self.test("Equal", first, 0.0), dtype=bool_)
        apart = self.differ(self.test("Less", first, 0.0), self.test("Less", y, 0.0))
        moved = self.both(nonzero, apart)
        return first, self.where(moved, self.add(first, y), first), moved

    def floor_divide(self, x: Operand, y: Operand) -> Value:
        """floor(x / y) as Python's `//` rounds it: exact multiples of y give whole numbers."""
        first, _, moved = self.remainder(x, y)
        whole = self.op("Round", self.div(self.sub(x, first), y))
        result = self.sub(whole, self.where(moved, 1.0, 0.0))
        return self.where(self.test("Equal", y, 0.0), self.div(x, y), result)

    def hypot(self, x: Operand, y: Operand) -> Value:
        """sqrt(x² + y²), scaled by the larger one."""
        a, b = self.op("Abs", x), self.op("Abs", y)
        large, small = self.op("Max", a, b), self.op("Min", a, b)
        infinite = self.test("Equal", self.either_infinite(a, b), math.inf)
        plain = self.either(infinite, self.test("Equal", large, 0.0))
        ratio = self.div(small, self.where(plain, 1.0, large))
        root = self.op("Sqrt", self.add(self.mul(ratio, ratio), 1.0))
        scaled = self.mul(large, root)
        return self.where(infinite, math.inf, self.where(plain, large, scaled))

    def either_infinite(self, a: Value, b: Value) -> Value:
        """inf where one of two values that are not negative is infinite, also beside a NaN."""
        one = self.where(self.test("Equal", a, math.inf), math.inf, 0.0)
        return self.where(self.test("Equal", b, math.inf), math.inf, one)

    def logaddexp(self, x: Operand, y: Operand) -> Value:
        """log(exp(x) + exp(y)) = max + log1p(exp(-|x - y|))."""
        large = self.op("Max", x, y)
        same = self.test("Equal", x, y)  # infinities would give NaN
        gap = self.op("Neg", self.op("Abs", self.where(same, 0.0, self.sub(x, y))))
        return self.add(large, self.log1p(self.op("Exp", gap)))

    def atan2(self, y: Operand, x: Operand) -> Value:
        """The angle of the point (x, y)."""
        a, b = self.op("Abs", y), self.op("Abs", x)
        infinite = self.both(self.test("Equal", a, math.inf), self.test("Equal", b, math.inf))
        none = self.both(self.test("Equal", a, 0.0), self.test("Equal", b, 0.0))
        ratio = self.div(a, b)
        ratio = self.where(infinite, 1.0, self.where(none, 0.0, ratio))
        angle = self.op("Atan", ratio)  # of (|x|, |y|), in [0, pi / 2]
        angle = self.where(self.negative_sign(x), self.sub(math.pi, angle), angle)
        return self.where(self.negative_sign(y), self.op("Neg", angle), angle)

    def erfc(self, x: Operand) -> Value:
        """1 - erf(x) near 0, else exp(-x²) times a fit, which keeps the digits of small results."""
        size = self.op("Min", self.op("Abs", x), 27.5)  # beyond, the result rounds to 0
        ratio = self.div(self.sub(size, 4.0), self.add(size, 4.0))
        shape = self.value(ERFC_64[-1])
        for c in reversed(ERFC_64[:-1]):
            shape = self.add(self.mul(shape, ratio), c)
        power = self.op("Exp", self.op("Neg", self.mul(size, size)))
        tail = self.mul(self.div(shape, self.add(self.mul(size, 2.0), 1.0)), power)
        outer = self.where(self.test("Less", x, 0.0), self.sub(2.0, tail), tail)
        inner = self.sub(1.0, self.op("Erf", x))
        return self.where(self.test("Less", size, 0.47), inner, outer)

    def log1mexp(self, x: Operand) -> Value:
        """log(1 - exp(x)), by the formula that keeps the digits on each side of -log 2."""
        near = self.test("Greater", x, -math.log(2.0))
        by_expm1 = self.op("Log", self.op("Neg", self.expm1(x)))
        by_log1p = self.log1p(self.op("Neg", self.op("Exp", x)))
        return self.where(near, by_expm1, by_log1p)
