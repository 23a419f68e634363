"""The scalar language (floor 1): what one element of a kernel can be computed with.

An op's scalar body and every math decomposition is a function over a `ScalarLanguage`; handlers
give it a meaning: `NumpyScalar` (values), `loops.build.ExprScalar` (loop-IR expressions). Each
method's result dtype is that of its operands unless stated; operands of a binary method have the
same dtype. 16-bit floats compute in float32 and round after each method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from graphc.base.dtypes import DType, int32, int64

V = TypeVar("V")

# name -> number of operands. result: same dtype as the operands.
UNARY = (
    "neg abs floor ceil trunc round_even sqrt reciprocal_sqrt exp exp2 expm1 log log2 log10 log1p "
    "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc lgamma digamma bit_not "
    "count_ones"
).split()
BINARY = (
    "add sub mul div floordiv mod minimum maximum pow atan2 hypot copysign nextafter "
    "bit_and bit_or bit_xor shift_left shift_right"
).split()
COMPARE = "eq ne lt le gt ge".split()  # -> bool
PREDICATE = "isnan isinf isfinite signbit".split()  # -> bool
# Of int32 words that hold several narrow integers, the first one lowest: see `ScalarLanguage.dot`.
DOTS = ("dot4", "dot2")
TERNARY = ("fma", *DOTS)
# By width: stored bits of the significand, bias of the exponent, the integer as wide.
_LAYOUT = {32: (23, 127, int32), 64: (52, 1023, int64)}


class ScalarLanguage(ABC, Generic[V]):
    """Abstract vocabulary. `op` is the one method a handler must give for the regular names above.

    Semantics that are easy to get wrong:
    - minimum/maximum propagate NaN (NumPy's), minimum(-0, 0) may be either zero;
    - div is true division, floats only; floordiv/mod follow Python's sign rule (NumPy's
      floor_divide, remainder); integer division by zero gives 0, INT_MIN // -1 wraps, mod by zero
      gives 0;
    - integer add, sub, mul, neg, abs, pow wrap; pow with a negative integer exponent gives
      1, -1 or 0 as the exact power truncated toward zero (0 ** -1 gives 0);
    - shifts by the width or more give 0 (or -1 for a negative signed right shift), as NumPy;
    - cast float -> int truncates toward zero and saturates, NaN -> 0; cast to bool is x != 0;
      int -> int wraps; float64 -> float16 rounds once;
    - fma(a, b, c) rounds once where the target can (`has_fma`), otherwise it is a * b + c: use it
      only inside decompositions whose tested bound allows both.
    - logical and/or/xor/not on bool are bit_and, bit_or, bit_xor, bit_not.
    """

    @abstractmethod
    def op(self, name: str, *operands: V) -> V:
        """Any method of UNARY, BINARY, COMPARE or PREDICATE by name."""

    @abstractmethod
    def constant(self, value: bool | int | float, dtype: DType) -> V:
        """A literal; floats are rounded to `dtype` (inf and nan allowed)."""

    @abstractmethod
    def dtype_of(self, x: V) -> DType:
        """The dtype of a value."""

    @abstractmethod
    def select(self, condition: V, a: V, b: V) -> V:
        """a where the bool `condition` holds, else b; both are computed."""

    @abstractmethod
    def cast(self, x: V, dtype: DType) -> V:
        """Convert the value."""

    @abstractmethod
    def bitcast(self, x: V, dtype: DType) -> V:
        """Reinterpret the bits; equal widths."""

    @abstractmethod
    def fma(self, a: V, b: V, c: V) -> V:
        """a * b + c."""

    def dot(self, name: str, a: V, b: V, c: V) -> V:
        """c + the products of narrow integers that the int32 words a and b hold, modulo 2**32.

        dot4: four bytes each, those of a unsigned, those of b signed. dot2: two signed halves each.
        """
        count = 4 if name == "dot4" else 2
        bits = 32 // count
        total = c
        for place in range(count):
            left = self.op("shift_left", a, self.like(a, 32 - bits * (place + 1)))
            left = self.op("shift_right", left, self.like(a, 32 - bits))
            if name == "dot4":
                left = self.op("bit_and", left, self.like(a, 255))
            right = self.op("shift_left", b, self.like(b, 32 - bits * (place + 1)))
            right = self.op("shift_right", right, self.like(b, 32 - bits))
            total = self.op("add", total, self.op("mul", left, right))
        return total

    # Conveniences over the primitives.
    def like(self, x: V, value: bool | int | float) -> V:
        """A literal of the dtype of `x`."""
        return self.constant(value, self.dtype_of(x))

    def nearest(self, x: V) -> V:
        """A float rounded to a whole number, ties to even, for |x| < 2**21 (float32) or 2**50.

        Adding 1.5 * 2**23 leaves no room for a fraction.
        """
        magic = self.like(x, 1.5 * 2.0 ** _LAYOUT[self.dtype_of(x).bits][0])
        return self.op("sub", self.op("add", x, magic), magic)

    def ldexp(self, x: V, n: V) -> V:
        """x * 2**n, rounded once; n a whole number of the dtype of x, |n| up to twice the largest
        exponent. In two factors: 2**n itself may be no float.
        """
        dtype = self.dtype_of(x)
        mantissa, bias, integer = _LAYOUT[dtype.bits]
        magic = self.like(x, 1.5 * 2.0**mantissa)
        shifted = self.bitcast(self.op("add", n, magic), integer)
        whole = self.op("sub", shifted, self.bitcast(magic, integer))

        def power(k: V) -> V:
            biased = self.op("add", k, self.like(k, bias))
            return self.bitcast(self.op("shift_left", biased, self.like(k, mantissa)), dtype)

        half = self.op("shift_right", whole, self.like(whole, 1))
        first = self.op("mul", x, power(half))
        return self.op("mul", first, power(self.op("sub", whole, half)))

    def neg(self, x: V) -> V:
        return self.op("neg", x)

    def abs(self, x: V) -> V:
        return self.op("abs", x)

    def sqrt(self, x: V) -> V:
        return self.op("sqrt", x)

    def exp(self, x: V) -> V:
        return self.op("exp", x)

    def log(self, x: V) -> V:
        return self.op("log", x)

    def tanh(self, x: V) -> V:
        return self.op("tanh", x)

    def add(self, a: V, b: V) -> V:
        return self.op("add", a, b)

    def sub(self, a: V, b: V) -> V:
        return self.op("sub", a, b)

    def mul(self, a: V, b: V) -> V:
        return self.op("mul", a, b)

    def div(self, a: V, b: V) -> V:
        return self.op("div", a, b)

    def minimum(self, a: V, b: V) -> V:
        return self.op("minimum", a, b)

    def maximum(self, a: V, b: V) -> V:
        return self.op("maximum", a, b)

    def bit_and(self, a: V, b: V) -> V:
        return self.op("bit_and", a, b)

    def bit_or(self, a: V, b: V) -> V:
        return self.op("bit_or", a, b)

    def bit_not(self, a: V) -> V:
        return self.op("bit_not", a)

    def eq(self, a: V, b: V) -> V:
        return self.op("eq", a, b)

    def ne(self, a: V, b: V) -> V:
        return self.op("ne", a, b)

    def lt(self, a: V, b: V) -> V:
        return self.op("lt", a, b)

    def le(self, a: V, b: V) -> V:
        return self.op("le", a, b)

    def gt(self, a: V, b: V) -> V:
        return self.op("gt", a, b)

    def ge(self, a: V, b: V) -> V:
        return self.op("ge", a, b)

    def isnan(self, x: V) -> V:
        return self.op("isnan", x)
