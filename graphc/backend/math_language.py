"""Notation for math decompositions (floor 6): scalar-language values with operators.

`Term` wraps a value of any handler of the scalar language, so that a decomposition reads like the
formula that it is. Python numbers become literals of the other operand's dtype. Nothing is ever
rearranged: each operator is one rounding, which the error-free transforms below rely on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from graphc.base.dtypes import DType, float64, int16, int32, int64
from graphc.ir.scalar import ScalarLanguage

V = TypeVar("V")
Number = bool | int | float


@dataclass(frozen=True, eq=False, slots=True)
class Term(Generic[V]):
    """One value with the language it belongs to."""

    s: ScalarLanguage[V]
    value: V

    @property
    def dtype(self) -> DType:
        """The dtype of the value."""
        return self.s.dtype_of(self.value)

    @property
    def wide(self) -> bool:
        """Whether the value is 64 bits wide."""
        return self.dtype.bits == 64

    def like(self, number: Number) -> Term[V]:
        """A literal of the same dtype."""
        return Term(self.s, self.s.constant(number, self.dtype))

    def _other(self, other: Term[V] | Number) -> V:
        return other.value if isinstance(other, Term) else self.s.constant(other, self.dtype)

    def call(self, name: str, *others: Term[V] | Number) -> Term[V]:
        """Any regular method by name."""
        return Term(self.s, self.s.op(name, self.value, *(self._other(o) for o in others)))

    def __add__(self, other: Term[V] | Number) -> Term[V]:
        return self.call("add", other)

    def __radd__(self, other: Number) -> Term[V]:
        return self.like(other).call("add", self)

    def __sub__(self, other: Term[V] | Number) -> Term[V]:
        return self.call("sub", other)

    def __rsub__(self, other: Number) -> Term[V]:
        return self.like(other).call("sub", self)

    def __mul__(self, other: Term[V] | Number) -> Term[V]:
        return self.call("mul", other)

    def __rmul__(self, other: Number) -> Term[V]:
        return self.like(other).call("mul", self)

    def __truediv__(self, other: Term[V] | Number) -> Term[V]:
        return self.call("div", other)

    def __rtruediv__(self, other: Number) -> Term[V]:
        return self.like(other).call("div", self)

    def __neg__(self) -> Term[V]:
        return self.call("neg")

    def __abs__(self) -> Term[V]:
        return self.call("abs")

    def __and__(self, other: Term[V] | Number) -> Term[V]:
        return self.call("bit_and", other)

    def __or__(self, other: Term[V] | Number) -> Term[V]:
        return self.call("bit_or", other)

    def __xor__(self, other: Term[V] | Number) -> Term[V]:
        return self.call("bit_xor", other)

    def __invert__(self) -> Term[V]:
        return self.call("bit_not")

    def __lshift__(self, other: Term[V] | Number) -> Term[V]:
        return self.call("shift_left", other)

    def __rshift__(self, other: Term[V] | Number) -> Term[V]:
        return self.call("shift_right", other)

    def __lt__(self, other: Term[V] | Number) -> Term[V]:
        return self.call("lt", other)

    def __le__(self, other: Term[V] | Number) -> Term[V]:
        return self.call("le", other)

    def __gt__(self, other: Term[V] | Number) -> Term[V]:
        return self.call("gt", other)

    def __ge__(self, other: Term[V] | Number) -> Term[V]:
        return self.call("ge", other)

    def equals(self, other: Term[V] | Number) -> Term[V]:
        """Elementwise equality (`==` stays identity, so that terms can be kept in sets)."""
        return self.call("eq", other)

    def differs(self, other: Term[V] | Number) -> Term[V]:
        """Elementwise inequality; true for NaN."""
        return self.call("ne", other)

    def sqrt(self) -> Term[V]:
        """The correctly rounded square root."""
        return self.call("sqrt")

    def cast(self, dtype: DType) -> Term[V]:
        """Convert the value."""
        return self if self.dtype is dtype else Term(self.s, self.s.cast(self.value, dtype))

    def bits(self) -> Term[V]:
        """A float's pattern as a signed integer."""
        pattern = {16: int16, 32: int32, 64: int64}[self.dtype.bits]
        return Term(self.s, self.s.bitcast(self.value, pattern))

    def bitcast(self, dtype: DType) -> Term[V]:
        """Reinterpret the bits."""
        return Term(self.s, self.s.bitcast(self.value, dtype))


def where(condition: Term[V], a: Term[V] | Number, b: Term[V] | Number) -> Term[V]:
    """a where the condition holds, else b; at least one of them is a term."""
    if isinstance(a, Term):
        return Term(a.s, a.s.select(condition.value, a.value, a._other(b)))
    assert isinstance(b, Term)
    return Term(b.s, b.s.select(condition.value, b._other(a), b.value))


def fma(a: Term[V], b: Term[V] | Number, c: Term[V] | Number) -> Term[V]:
    """a * b + c, fused where the target can."""
    return Term(a.s, a.s.fma(a.value, a._other(b), a._other(c)))


def polynomial(x: Term[V], coefficients: Sequence[float]) -> Term[V]:
    """Sum of coefficients[k] * x**k by Horner's rule."""
    result = x.like(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = fma(result, x, c)
    return result


def choose(x: Term[V], narrow: Sequence[float], wide: Sequence[float]) -> Sequence[float]:
    """The coefficients for the width of `x`."""
    return wide if x.wide else narrow


def mantissa_bits(x: Term[V]) -> int:
    """Stored bits of the significand: 23 or 52."""
    return 52 if x.dtype is float64 else 23


def bias(x: Term[V]) -> int:
    """The exponent's bias: 127 or 1023."""
    return 1023 if x.dtype is float64 else 127


def sign_mask(x: Term[V]) -> int:
    """The sign bit of the integer type as wide as `x`, as a value of that signed type."""
    return -(1 << (x.dtype.bits - 1))


def copy_sign(magnitude: Term[V], sign: Term[V]) -> Term[V]:
    """The sign of `sign` on the magnitude of `magnitude`."""
    mask = sign_mask(magnitude)
    return ((magnitude.bits() & ~mask) | (sign.bits() & mask)).bitcast(magnitude.dtype)


def with_sign_of(positive: Term[V], sign: Term[V]) -> Term[V]:
    """`positive` (sign bit clear) negated where `sign` has its sign bit set."""
    return (positive.bits() ^ (sign.bits() & sign_mask(sign))).bitcast(positive.dtype)


def nearest_integer(x: Term[V]) -> tuple[Term[V], Term[V]]:
    """(round_even(x) as a float, the same as an integer) for |x| < 2**21 (float32) or 2**50.

    Adding 1.5 * 2**23 leaves the integer in the low bits: no conversion instruction is needed.
    """
    magic = 1.5 * 2.0 ** mantissa_bits(x)
    shifted = x + magic
    return shifted - magic, shifted.bits() - shifted.like(magic).bits()


def nearest(x: Term[V]) -> Term[V]:
    """round_even(x) for |x| < 2**21 (float32) or 2**50; the sign of a zero may differ."""
    return Term(x.s, x.s.nearest(x.value))


def scale(x: Term[V], n: Term[V]) -> Term[V]:
    """x * 2**n, rounded once, for whole n of the dtype of x up to twice the largest exponent."""
    return Term(x.s, x.s.ldexp(x.value, n.value))


def two_to(n: Term[V]) -> Term[V]:
    """2**n for whole n within the normal exponents.

    Added to 1.5 * 2**23 the biased exponent stands in the low bits, and the rest is shifted out.
    """
    shifted = n + (1.5 * 2.0 ** mantissa_bits(n) + bias(n))
    return (shifted.bits() << mantissa_bits(n)).bitcast(n.dtype)


def two_sum(a: Term[V], b: Term[V]) -> tuple[Term[V], Term[V]]:
    """(s, e): s = a + b rounded, s + e = a + b exactly (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def fast_two_sum(a: Term[V], b: Term[V]) -> tuple[Term[V], Term[V]]:
    """As `two_sum` where |a| >= |b| or a = 0 (Dekker)."""
    total = a + b
    return total, b - (total - a)


def split(x: Term[V]) -> tuple[Term[V], Term[V]]:
    """(high, low) with high + low = x; high has at most half of the bits, so products are exact.

    By masking and not by Veltkamp's multiplication: nothing overflows, and it holds without fma.
    """
    mask = -(2**27) if x.wide else -(2**12)
    high = (x.bits() & mask).bitcast(x.dtype)
    return high, x - high


def two_product(a: Term[V], b: Term[V]) -> tuple[Term[V], Term[V]]:
    """(p, e): p = a * b rounded, p + e = a * b up to one rounding of e; holds without fma."""
    product = a * b
    a_high, a_low = split(a)
    b_high, b_low = split(b)
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error
