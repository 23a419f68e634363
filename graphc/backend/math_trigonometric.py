"""sin, cos, tan over the full range, and their inverses (floor 6), in the scalar language.

|x| = n pi/2 + r. Up to `LIMIT` by subtracting n pi/2 in pieces whose products with n are exact
(Cody and Waite, with error-free sums, so it holds without fma). Beyond it exactly: float32 sums the
products of x with 28-bit pieces of 2/pi modulo 4 in float64; float64 multiplies integers with the
192 bits of 1/(2 pi) that matter (Payne and Hanek). r comes as a sum of two floats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from graphc.backend import math_coefficients as fits
from graphc.backend.math_language import (
    Term,
    choose,
    fast_two_sum,
    fma,
    nearest_integer,
    polynomial,
    two_product,
    two_sum,
    where,
    with_sign_of,
)
from graphc.base.dtypes import float32, float64, int32, uint64
from graphc.ir.scalar import ScalarLanguage

V = TypeVar("V")
Reduced = tuple[Term[V], Term[V], Term[V]]
Finish = Callable[[Term[Any], tuple[Term[Any], Term[Any], Term[Any]]], Term[Any]]
Body = Callable[[Any, Any], Any]

TWO_OVER_PI = 0.6366197723675814
LIMIT_32 = 8192.0
LIMIT_64 = 1048576.0
# pi/2 in pieces of 11 (33) bits: n < 2**13 (2**20) times one is exact. The last is the rest.
HALF_PI_32 = (
    1.5703125,
    0.0004837512969970703,
    7.549533620476723e-08,
    2.5632829192545614e-12,
    6.123234262925839e-17,
)
HALF_PI_64 = (
    1.5707963267341256,
    6.077100506303966e-11,
    2.0222662487111665e-21,
    8.4784276603689e-32,
)
HALF_PI_OF_FLOATS = (1.5707963705062866, -4.371138828673793e-08)
HALF_PI = (1.5707963267948966, 6.123233995736766e-17)
# 2/pi in pieces of 28 bits, each aligned at a multiple of 2**-28.
TWO_OVER_PI_PIECES = (
    0.6366197690367699,
    3.3308114738561656e-09,
    2.276010047810136e-18,
    2.5268260189002822e-26,
    1.6682867657019525e-34,
    1.158871328288855e-43,
    7.053959174404295e-52,
    8.910067885731021e-60,
)
# One word of zeros, then the bits of 1 / (2 pi) after the point, 64 at a time.
TURN_WORDS = (
    0,
    0x28BE60DB9391054A,
    0x7F09D5F47D4D3770,
    0x36D8A5664F10E410,
    0x7F9458EAF7AEF158,
    0x6DC91B8E909374B8,
    0x01924BBA82746487,
    0x3F877AC72C4A69CF,
    0xBA208D7D4BAED121,
    0x3A671C09AD17DF90,
    0x4E64758E60D4CE7D,
    0x272117E2EF7E4A0E,
    0xC7FE25FFF7816603,
    0xFBCBC462D6829B47,
    0xDB4D9FB3C9F2C26D,
    0xD3D18FD9A797FA8B,
    0x5D49EEB1FAF97C5E,
    0xCF41CE7DE294A4BA,
    0x9AFED7EC47E35742,
    0x1580CC11BF1EDAEA,
)
LOW_WORD = 0xFFFFFFFF


def subtract_exact(r: Term[V], lost: Term[V], product: Term[V]) -> tuple[Term[V], Term[V]]:
    """r - product with the rounding error added to `lost`; exact when the two nearly cancel."""
    total = r - product
    return total, lost + ((r - total) - product)


def reduce_common(size: Term[V]) -> Reduced[V]:
    """(quadrant, r, rest of r) for 0 <= size <= LIMIT; NaN for infinity and NaN."""
    whole, n = nearest_integer(size * TWO_OVER_PI)
    pieces = choose(size, HALF_PI_32, HALF_PI_64)
    r = size
    for piece in pieces[:-3]:
        r = fma(whole, -piece, r)
    lost = size.like(0.0)
    for piece in pieces[-3:-1]:
        r, lost = subtract_exact(r, lost, whole * piece)
    lost = fma(whole, -pieces[-1], lost)
    near = r + lost
    return n, near, (r - near) + lost


def reduce_rare(size: Term[V]) -> Reduced[V]:
    """(quadrant, r, rest of r) for finite size > LIMIT."""
    return _reduce_by_integers(size) if size.wide else _reduce_by_pieces(size)


def _reduce_by_pieces(size: Term[V]) -> Reduced[V]:
    x = size.cast(float64)
    total, lost = x.like(0.0), x.like(0.0)
    for piece in TWO_OVER_PI_PIECES:
        # Exact: 24 + 28 bits. So is taking away the multiple of four turns' quarters.
        product = x * piece
        remainder = product - (product * 0.25).call("round_even") * 4.0
        total, error = two_sum(total, remainder)
        lost = lost + error
    whole = total.call("round_even")
    r = ((total - whole) + lost) * HALF_PI[0]
    near = r.cast(float32)
    return whole.cast(int32), near, (r - near.cast(float64)).cast(float32)


def _turn_window(position: Term[V]) -> tuple[Term[V], Term[V], Term[V]]:
    """The 192 bits of `TURN_WORDS` from bit `position` on, highest word first."""
    index = position >> 6
    words = [Term(position.s, position.s.constant(w, uint64)) for w in TURN_WORDS]
    zero = Term(position.s, position.s.constant(0, uint64))
    for step in (16, 8, 4, 2, 1):
        taken = (index & step).differs(0)
        reach = step + 3
        words = [
            where(taken, words[k + step] if k + step < len(words) else zero, words[k])
            for k in range(min(reach, len(words)))
        ]
    left = (position & 63).bitcast(uint64)
    right = 63 - left
    funnel = [(words[k] << left) | ((words[k + 1] >> 1) >> right) for k in range(3)]
    return funnel[0], funnel[1], funnel[2]


def _turn_fraction(size: Term[V]) -> tuple[Term[V], Term[V]]:
    """size / (2 pi) modulo 1 as a 128-bit fraction: (high word, low word)."""
    bits = size.bits()
    significand = ((bits & (2**52 - 1)) | 2**52).bitcast(uint64)
    # size = significand * 2**(exponent - 1075); the bits above weight 1 are whole turns.
    window = _turn_window((bits >> 52) - (1075 - 64))
    limbs = [part for word in reversed(window) for part in (word & LOW_WORD, word >> 32)]
    low, high = significand & LOW_WORD, significand >> 32
    by_low = [low * limb for limb in limbs]
    by_high = [high * limb for limb in limbs[:5]]
    columns = []
    carry = None
    for k in range(2, 6):
        column = (by_low[k] & LOW_WORD) + (by_low[k - 1] >> 32)
        column = column + ((by_high[k - 1] & LOW_WORD) + (by_high[k - 2] >> 32))
        column = column if carry is None else column + carry
        carry = column >> 32
        columns.append(column & LOW_WORD)
    return (columns[3] << 32) | columns[2], (columns[1] << 32) | columns[0]


def _reduce_by_integers(size: Term[V]) -> Reduced[V]:
    turn, turn_low = _turn_fraction(size)
    quadrant = (turn + 2**61) >> 62
    # Four times the fraction without its integer part, as a signed number in [-1/2, 1/2).
    high = ((turn << 2) | (turn_low >> 62)).bitcast(size.bits().dtype)
    low = turn_low << 2
    first = (high >> 22).cast(float64) * 2.0**-42
    middle = ((high & (2**22 - 1)) << 20) | (low >> 44).bitcast(high.dtype)
    last = ((low >> 2) & (2**42 - 1)).bitcast(high.dtype)
    total, lost = two_sum(first, middle.cast(float64) * 2.0**-84)
    total, lost = fast_two_sum(total, lost + last.cast(float64) * 2.0**-126)
    r, error = two_product(total, total.like(HALF_PI[0]))
    error = error + (lost * HALF_PI[0] + total * HALF_PI[1])
    near, rest = fast_two_sum(r, error)
    return quadrant.bitcast(high.dtype), near, rest


def is_rare(s: ScalarLanguage[V], operand: V) -> V:
    """Whether the operand needs the long reduction."""
    size = abs(Term(s, operand))
    return ((size > (LIMIT_64 if size.wide else LIMIT_32)) & (size < float("inf"))).value


def reduce_any(x: Term[V]) -> Reduced[V]:
    """(quadrant, r, rest of r) of |x|, by whichever reduction it needs."""
    size = abs(x)
    rare = Term(x.s, is_rare(x.s, x.value))
    n, r, rest = (
        where(rare, a, b) for a, b in zip(reduce_rare(size), reduce_common(size), strict=True)
    )
    return n, r, rest


def sin_cos(r: Term[V], rest: Term[V]) -> tuple[Term[V], Term[V]]:
    """(sin, cos) of r + rest for |r| <= pi/4."""
    z = r * r
    half = z * 0.5
    tail = fma(z * r, polynomial(z, choose(r, fits.SIN_32, fits.SIN_64)), rest - rest * half)
    top = 1.0 - half
    bend = fma(z * z, polynomial(z, choose(r, fits.COS_32, fits.COS_64)), -(r * rest))
    return r + tail, top + (((1.0 - top) - half) + bend)


def sin_from(x: Term[V], reduced: Reduced[V]) -> Term[V]:
    """sin x from the reduction of |x|."""
    n, r, rest = reduced
    sine, cosine = sin_cos(r, rest)
    result = where((n & 1).differs(0), cosine, sine)
    flip = n << (62 if x.wide else 30)
    return with_sign_of(with_sign_of(result, flip), x)


def cos_from(x: Term[V], reduced: Reduced[V]) -> Term[V]:
    """cos x from the reduction of |x|."""
    n, r, rest = reduced
    sine, cosine = sin_cos(r, rest)
    result = where((n & 1).differs(0), sine, cosine)
    return with_sign_of(result, (n + 1) << (62 if x.wide else 30))


def tan_from(x: Term[V], reduced: Reduced[V]) -> Term[V]:
    """tan x from the reduction of |x|."""
    n, r, rest = reduced
    sine, cosine = sin_cos(r, rest)
    odd = (n & 1).differs(0)
    return with_sign_of(where(odd, -cosine, sine) / where(odd, sine, cosine), x)


def any_operand(finish: Finish) -> Body:
    """The function that ends in `finish` (`sin_from`, ...), for every operand."""

    def function(s: Any, operand: Any) -> Any:
        x = Term(s, operand)
        return finish(x, reduce_any(x)).value

    return function


def common_operand(finish: Finish) -> Body:
    """The same where `is_rare` is false."""

    def function(s: Any, operand: Any) -> Any:
        x = Term(s, operand)
        return finish(x, reduce_common(abs(x))).value

    return function


def rare_operand(finish: Finish) -> Body:
    """The same where `is_rare` is true."""

    def function(s: Any, operand: Any) -> Any:
        x = Term(s, operand)
        return finish(x, reduce_rare(abs(x))).value

    return function


def atan_below_one(t: Term[V]) -> Term[V]:
    """atan t for 0 <= t <= 1."""
    z = t * t
    return fma(z * t, polynomial(z, choose(t, fits.ATAN_32, fits.ATAN_64)), t)


def half_pi(x: Term[V]) -> tuple[float, float]:
    """pi/2 as a sum of two floats of the width of `x`."""
    return HALF_PI if x.wide else HALF_PI_OF_FLOATS


def atan(s: ScalarLanguage[V], operand: V) -> V:
    """The arc tangent: pi/2 - atan(1/x) above 1."""
    x = Term(s, operand)
    size = abs(x)
    above = size > 1.0
    angle = atan_below_one(where(above, 1.0 / size, size))
    high, low = half_pi(x)
    return with_sign_of(where(above, high - (angle - low), angle), x).value


def atan2(s: ScalarLanguage[V], ordinate: V, abscissa: V) -> V:
    """The angle of the point (x, y), in [-pi, pi]; zeros and infinities as C99 says."""
    y, x = Term(s, ordinate), Term(s, abscissa)
    height, width = abs(y), abs(x)
    steep = height > width
    longer, shorter = where(steep, height, width), where(steep, width, height)
    ratio = shorter / where(longer.equals(0.0), 1.0, longer)
    ratio = where(shorter.equals(float("inf")), 1.0, ratio)
    angle = atan_below_one(ratio)
    high, low = half_pi(x)
    angle = where(steep, high - (angle - low), angle)
    # The sign bit of x and not x < 0, because -0 counts as negative.
    angle = where(x.bits() < 0, 2.0 * high - (angle - 2.0 * low), angle)
    angle = where(height.differs(height) | width.differs(width), y + x, angle)
    return with_sign_of(angle, y).value


def arcs(size: Term[V]) -> tuple[Term[V], Term[V], Term[V]]:
    """(outer, base, bend): asin(base) = base + bend; base: size, outer sqrt((1 - size) / 2)."""
    outer = size > 0.5
    z = where(outer, (1.0 - size) * 0.5, size * size)
    base = where(outer, z.sqrt(), size)
    return outer, base, z * base * polynomial(z, choose(size, fits.ASIN_32, fits.ASIN_64))


def asin(s: ScalarLanguage[V], operand: V) -> V:
    """The arc sine; above 1/2 it is pi/2 - 2 asin(sqrt((1 - x) / 2))."""
    x = Term(s, operand)
    outer, base, bend = arcs(abs(x))
    high, low = half_pi(x)
    far = ((high * 0.5 - base) - (bend - low * 0.5)) * 2.0
    return with_sign_of(where(outer, far, base + bend), x).value


def acos(s: ScalarLanguage[V], operand: V) -> V:
    """The arc cosine, from the same pieces as `asin`."""
    x = Term(s, operand)
    outer, base, bend = arcs(abs(x))
    high, low = half_pi(x)
    negative = x < 0.0
    double = (base + bend) * 2.0
    far = where(negative, ((high - base) - (bend - low)) * 2.0, double)
    signed_base, signed_bend = where(negative, -base, base), where(negative, -bend, bend)
    return where(outer, far, (high - signed_base) - (signed_bend - low)).value
