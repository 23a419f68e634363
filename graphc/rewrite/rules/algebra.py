"""Algebra (floor 3): identities of arithmetic, selection, comparison and bits.

EXACT only where IEEE arithmetic gives the same bits for every operand, infinities, NaN and signed
zeros included; integers wrap, so their identities are exact. What overflow, NaN or a zero's sign
can tell apart is in another class.
"""

from __future__ import annotations

import math

from graphc.base.dtypes import FLOAT, INTEGER, NUMERIC, SIGNED, DType, bool_
from graphc.ir.node import Tensor
from graphc.ops.elementwise import divide, multiply, negative, subtract, where
from graphc.ops.elementwise_math import reciprocal, sqrt, square
from graphc.ops.logical import (
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    not_equal,
)
from graphc.ops.promotion import as_tensor, cast
from graphc.ops.rounding import abs as absolute_value
from graphc.rewrite.pattern import (
    DOMAIN,
    EXACT,
    ROUNDING,
    Match,
    is_constant,
    node_rule,
    ops,
    rule,
    rules_of,
    uniform,
    wildcards,
)

x, y, a, b = wildcards("x y a b")
(c,) = wildcards("c", dtype=bool_)
(k,) = wildcards("k", constant=True)
exp, log, sqrt_, pow_ = ops("exp log sqrt pow")
negative_, absolute, square_ = ops("negative abs square")
where_, minimum_, maximum_ = ops("where minimum maximum")
and_, or_, xor_, invert = ops("bitwise_and bitwise_or bitwise_xor bitwise_invert")
equal_, not_equal_, less_, less_equal_, greater_, greater_equal_ = ops(
    "equal not_equal less less_equal greater greater_equal"
)
chain_multiply, chain_divide = ops("chain_multiply chain_divide")


def _zero_like(tensor: Tensor) -> Tensor:
    return as_tensor(0.0 if tensor.dtype.is_float else 0, like=tensor)


# -- neutral elements
# ---------------------------------------------------------------------------------


@rule(x * 1, cls=EXACT, dtypes=NUMERIC)
def multiply_one(m: Match) -> Tensor:
    """x * 1 = x"""
    return m.x


@rule(x / 1, cls=EXACT, dtypes=FLOAT)
def divide_one(m: Match) -> Tensor:
    """x / 1 = x"""
    return m.x


@rule(x + -0.0, cls=EXACT, dtypes=FLOAT)
def add_negative_zero(m: Match) -> Tensor:
    """x + -0.0 = x, for -0.0 too"""
    return m.x


@rule(x - 0.0, cls=EXACT, dtypes=FLOAT)
def subtract_zero(m: Match) -> Tensor:
    """x - 0.0 = x, for -0.0 too"""
    return m.x


@rule(x + 0.0, cls=ROUNDING, dtypes=FLOAT, ulps=0)
def add_zero(m: Match) -> Tensor:
    """x + 0.0 = x, but for the sign of a zero"""
    return m.x


@rule(x + 0, cls=EXACT, dtypes=INTEGER)
def add_integer_zero(m: Match) -> Tensor:
    """x + 0 = x"""
    return m.x


@rule(x - 0, cls=EXACT, dtypes=INTEGER)
def subtract_integer_zero(m: Match) -> Tensor:
    """x - 0 = x"""
    return m.x


@rule(x * 0, cls=EXACT, dtypes=INTEGER)
def multiply_integer_zero(m: Match) -> Tensor:
    """x * 0 = 0"""
    return _zero_like(m.x)


@rule(x * 0.0, cls=DOMAIN, dtypes=FLOAT)
def multiply_zero(m: Match) -> Tensor:
    """x * 0 = 0, unless x is infinite or NaN"""
    return _zero_like(m.x)


@rule(0.0 / x, cls=DOMAIN, dtypes=FLOAT)
def zero_divided(m: Match) -> Tensor:
    """0 / x = 0, unless x is 0 or NaN"""
    return _zero_like(m.x)


@rule(x - x, cls=EXACT, dtypes=INTEGER)
def subtract_integer_self(m: Match) -> Tensor:
    """x - x = 0"""
    return _zero_like(m.x)


@rule(x - x, cls=DOMAIN, dtypes=FLOAT)
def subtract_self(m: Match) -> Tensor:
    """x - x = 0, unless x is infinite or NaN"""
    return _zero_like(m.x)


@rule(x / x, cls=DOMAIN, dtypes=FLOAT)
def divide_self(m: Match) -> Tensor:
    """x / x = 1, unless x is 0, infinite or NaN"""
    return as_tensor(1.0, like=m.x)


# -- signs
# --------------------------------------------------------------------------------------------


@rule(negative_(negative_(x)), cls=EXACT, dtypes=NUMERIC)
def negative_negative(m: Match) -> Tensor:
    """-(-x) = x"""
    return m.x


@rule(x * -1, cls=EXACT, dtypes=FLOAT + SIGNED)
def multiply_minus_one(m: Match) -> Tensor:
    """x * -1 = -x"""
    return negative(m.x)


@rule(x / -1, cls=EXACT, dtypes=FLOAT)
def divide_minus_one(m: Match) -> Tensor:
    """x / -1 = -x"""
    return negative(m.x)


@rule((-x) * (-y), cls=EXACT, dtypes=NUMERIC)
def multiply_negatives(m: Match) -> Tensor:
    """(-x) * (-y) = x * y"""
    return multiply(m.x, m.y)


@rule((-x) * k, cls=EXACT, dtypes=FLOAT)
def multiply_negative_constant(m: Match) -> Tensor | None:
    """(-x) * k = x * (-k)"""
    number = uniform(m.k)
    return None if number is None else multiply(m.x, as_tensor(-number, like=m.k))


@rule(x + (-y), cls=EXACT, dtypes=NUMERIC)
def add_negative(m: Match) -> Tensor:
    """x + (-y) = x - y"""
    return subtract(m.x, m.y)


@rule(x - (-y), cls=EXACT, dtypes=NUMERIC)
def subtract_negative(m: Match) -> Tensor:
    """x - (-y) = x + y"""
    return m.x + m.y


@rule(0.0 - x, cls=ROUNDING, dtypes=FLOAT, ulps=0)
def zero_minus(m: Match) -> Tensor:
    """0 - x = -x, but for the sign of a zero"""
    return negative(m.x)


@rule(-0.0 - x, cls=EXACT, dtypes=FLOAT)
def negative_zero_minus(m: Match) -> Tensor:
    """-0.0 - x = -x"""
    return negative(m.x)


@rule(0 - x, cls=EXACT, dtypes=INTEGER)
def integer_zero_minus(m: Match) -> Tensor:
    """0 - x = -x"""
    return negative(m.x)


@rule(-(x - y), cls=ROUNDING, dtypes=FLOAT, ulps=0)
def negative_difference(m: Match) -> Tensor:
    """-(x - y) = y - x, but for the sign of a zero"""
    return subtract(m.y, m.x)


@rule(-(x - y), cls=EXACT, dtypes=INTEGER)
def negative_integer_difference(m: Match) -> Tensor:
    """-(x - y) = y - x"""
    return subtract(m.y, m.x)


@rule(absolute(-x), cls=EXACT, dtypes=FLOAT + SIGNED)
def absolute_negative(m: Match) -> Tensor:
    """|-x| = |x|"""
    return absolute_value(m.x)


@rule(absolute(absolute(x).named("inner")), cls=EXACT, dtypes=NUMERIC)
def absolute_absolute(m: Match) -> Tensor:
    """||x|| = |x|"""
    return m.inner


@rule(square_(-x), cls=EXACT, dtypes=NUMERIC)
def square_negative(m: Match) -> Tensor:
    """(-x)² = x²"""
    return square(m.x)


@rule(square_(absolute(x)), cls=EXACT, dtypes=NUMERIC)
def square_absolute(m: Match) -> Tensor:
    """|x|² = x²"""
    return square(m.x)


@rule(x * x, cls=EXACT, dtypes=NUMERIC)
def multiply_self(m: Match) -> Tensor:
    """x * x = x², one form for what follows"""
    return square(m.x)


# -- powers, roots, quotients
# -------------------------------------------------------------------------


@rule(pow_(x, k), cls=EXACT, dtypes=INTEGER)
def integer_power(m: Match) -> Tensor | None:
    """x ** 1 = x, x ** 2 = x² (integers wrap in either)"""
    number = uniform(m.k)
    return m.x if number == 1 else square(m.x) if number == 2 else None


@rule(pow_(x, k), cls=ROUNDING, dtypes=FLOAT, ulps=4)
def constant_power(m: Match) -> Tensor | None:
    """x ** k by multiplication for k in 0, 1, 2, 3, -1"""
    number = uniform(m.k)
    if number is None:
        return None
    if number == 0:
        return as_tensor(1.0, like=m.x)
    if number == -1:
        return reciprocal(m.x)
    if number == 3:
        return multiply(square(m.x), m.x)
    return m.x if number == 1 else square(m.x) if number == 2 else None


@rule(pow_(x, 0.5), cls=DOMAIN, dtypes=FLOAT)
def power_one_half(m: Match) -> Tensor:
    """x ** 0.5 = sqrt(x), unless x is -inf or -0.0"""
    return sqrt(m.x)


@rule(square_(sqrt_(x)), cls=DOMAIN, dtypes=FLOAT)
def square_of_root(m: Match) -> Tensor:
    """sqrt(x)² = x, unless x < 0"""
    return m.x


@rule(sqrt_(square_(x)), cls=DOMAIN, dtypes=FLOAT)
def root_of_square(m: Match) -> Tensor:
    """sqrt(x²) = |x|, unless x² overflows or underflows"""
    return absolute_value(m.x)


@rule(log(exp(x)), cls=DOMAIN, dtypes=FLOAT)
def log_of_exp(m: Match) -> Tensor:
    """log(exp(x)) = x, unless exp overflows or underflows"""
    return m.x


@rule(exp(log(x)), cls=DOMAIN, dtypes=FLOAT, ulps=512)
def exp_of_log(m: Match) -> Tensor:
    """exp(log(x)) = x, unless x < 0; exp magnifies the rounding of log by |log(x)|"""
    return m.x


@rule(x / k, cls=EXACT, dtypes=FLOAT)
def divide_power_of_two(m: Match) -> Tensor | None:
    """x / k = x * (1 / k) for a power of two whose reciprocal is normal"""
    number = uniform(m.k)
    if number is None or not _is_normal_power_of_two(float(number), m.k.dtype):
        return None
    return multiply(m.x, as_tensor(1.0 / number, like=m.k))


SMALLEST_NORMAL = {"float16": -14, "bfloat16": -126, "float32": -126, "float64": -1022}


def _is_normal_power_of_two(number: float, dtype: DType) -> bool:
    if not math.isfinite(number) or number == 0:
        return False
    fraction, exponent = math.frexp(number)
    lowest = SMALLEST_NORMAL[dtype.name]
    # frexp's fraction is in [1/2, 1): the number is 2 ** (exponent - 1), its reciprocal 2 ** (1 -
    # exponent).
    return abs(fraction) == 0.5 and lowest <= 1 - exponent <= -lowest and exponent - 1 >= lowest


@rule(1.0 / (1.0 / x), cls=DOMAIN, dtypes=FLOAT)
def reciprocal_of_reciprocal(m: Match) -> Tensor:
    """1 / (1 / x) = x, unless 1 / x overflows or underflows"""
    return m.x


# -- products of gradients
# ----------------------------------------------------------------------------


@rule(chain_multiply(x, k), cls=ROUNDING, dtypes=FLOAT, ulps=0)
def plain_chain_product(m: Match) -> Tensor | None:
    """a gradient's product with a finite constant that is not 0 is an ordinary one, but for the
    sign of a zero
    """
    number = uniform(m.k)
    if number is None or not math.isfinite(number) or number == 0:
        return None
    return multiply(m.x, m.k)


@rule(chain_divide(x, k), cls=ROUNDING, dtypes=FLOAT, ulps=0)
def plain_chain_quotient(m: Match) -> Tensor | None:
    """a gradient's quotient by a finite constant that is not 0 is an ordinary one, but for the sign
    of a zero
    """
    number = uniform(m.k)
    if number is None or not math.isfinite(number) or number == 0:
        return None
    return divide(m.x, m.k)


@rule(chain_multiply(x, 0.0), cls=EXACT, dtypes=FLOAT)
def chain_product_zero(m: Match) -> Tensor:
    """a gradient's product with 0 is 0"""
    return _zero_like(m.x)


@rule(chain_multiply(x, y), cls=DOMAIN, dtypes=FLOAT)
def chain_product(m: Match) -> Tensor:
    """a gradient's product is an ordinary one, unless an operand is infinite or NaN"""
    return multiply(m.x, m.y)


@rule(chain_divide(x, y), cls=DOMAIN, dtypes=FLOAT)
def chain_quotient(m: Match) -> Tensor:
    """a gradient's quotient is an ordinary one, unless the divisor is 0 or NaN"""
    return divide(m.x, m.y)


# -- selection
# ----------------------------------------------------------------------------------------


@rule(where_(c, x, x), cls=EXACT)
def where_same(m: Match) -> Tensor:
    """where(c, x, x) = x"""
    return m.x


@rule(where_(True, x, y), cls=EXACT)
def where_true(m: Match) -> Tensor:
    """where(True, x, y) = x"""
    return m.x


@rule(where_(False, x, y), cls=EXACT)
def where_false(m: Match) -> Tensor:
    """where(False, x, y) = y"""
    return m.y


@rule(where_(invert(c), x, y), cls=EXACT)
def where_not(m: Match) -> Tensor:
    """where(not c, x, y) = where(c, y, x)"""
    return where(m.c, m.y, m.x)


@rule(where_(c, where_(c, x, y), a), cls=EXACT)
def where_where_first(m: Match) -> Tensor:
    """where(c, where(c, x, y), a) = where(c, x, a)"""
    return where(m.c, m.x, m.a)


@rule(where_(c, a, where_(c, x, y)), cls=EXACT)
def where_where_second(m: Match) -> Tensor:
    """where(c, a, where(c, x, y)) = where(c, a, y)"""
    return where(m.c, m.a, m.y)


@rule(maximum_(x, x), cls=EXACT)
def maximum_same(m: Match) -> Tensor:
    """max(x, x) = x"""
    return m.x


@rule(minimum_(x, x), cls=EXACT)
def minimum_same(m: Match) -> Tensor:
    """min(x, x) = x"""
    return m.x


@rule(maximum_(maximum_(x, k).named("inner"), k), cls=EXACT)
def maximum_again(m: Match) -> Tensor:
    """max(max(x, k), k) = max(x, k)"""
    return m.inner


@rule(minimum_(minimum_(x, k).named("inner"), k), cls=EXACT)
def minimum_again(m: Match) -> Tensor:
    """min(min(x, k), k) = min(x, k)"""
    return m.inner


# -- bits and truth
# -----------------------------------------------------------------------------------


@rule(invert(invert(x)), cls=EXACT, dtypes=(bool_, *INTEGER))
def invert_invert(m: Match) -> Tensor:
    """~~x = x"""
    return m.x


@rule(and_(x, x), cls=EXACT, dtypes=(bool_, *INTEGER))
def and_same(m: Match) -> Tensor:
    """x & x = x"""
    return m.x


@rule(or_(x, x), cls=EXACT, dtypes=(bool_, *INTEGER))
def or_same(m: Match) -> Tensor:
    """x | x = x"""
    return m.x


@rule(xor_(x, x), cls=EXACT, dtypes=INTEGER)
def xor_same(m: Match) -> Tensor:
    """x ^ x = 0"""
    return _zero_like(m.x)


@rule(and_(x, True), cls=EXACT, dtypes=(bool_,))
def and_true(m: Match) -> Tensor:
    """x & True = x"""
    return m.x


@rule(and_(x, False), cls=EXACT, dtypes=(bool_,))
def and_false(m: Match) -> Tensor:
    """x & False = False"""
    return as_tensor(False)


@rule(or_(x, False), cls=EXACT, dtypes=(bool_,))
def or_false(m: Match) -> Tensor:
    """x | False = x"""
    return m.x


@rule(or_(x, True), cls=EXACT, dtypes=(bool_,))
def or_true(m: Match) -> Tensor:
    """x | True = True"""
    return as_tensor(True)


@rule(and_(x, 0), cls=EXACT, dtypes=INTEGER)
def and_zero(m: Match) -> Tensor:
    """x & 0 = 0"""
    return _zero_like(m.x)


@rule(or_(x, 0), cls=EXACT, dtypes=INTEGER)
def or_zero(m: Match) -> Tensor:
    """x | 0 = x"""
    return m.x


@rule(xor_(x, 0), cls=EXACT, dtypes=INTEGER)
def xor_zero(m: Match) -> Tensor:
    """x ^ 0 = x"""
    return m.x


@rule(invert(equal_(x, y)), cls=EXACT)
def not_of_equal(m: Match) -> Tensor:
    """not (x == y) = x != y, NaN included"""
    return not_equal(m.x, m.y)


@rule(invert(not_equal_(x, y)), cls=EXACT)
def not_of_not_equal(m: Match) -> Tensor:
    """not (x != y) = x == y, NaN included"""
    return equal(m.x, m.y)


@rule(invert(less_(x, y)), cls=EXACT, dtypes=INTEGER)
def not_of_less(m: Match) -> Tensor:
    """not (x < y) = x >= y for integers"""
    return greater_equal(m.x, m.y)


@rule(invert(less_equal_(x, y)), cls=EXACT, dtypes=INTEGER)
def not_of_less_equal(m: Match) -> Tensor:
    """not (x <= y) = x > y for integers"""
    return greater(m.x, m.y)


@rule(invert(greater_(x, y)), cls=EXACT, dtypes=INTEGER)
def not_of_greater(m: Match) -> Tensor:
    """not (x > y) = x <= y for integers"""
    return less_equal(m.x, m.y)


@rule(invert(greater_equal_(x, y)), cls=EXACT, dtypes=INTEGER)
def not_of_greater_equal(m: Match) -> Tensor:
    """not (x >= y) = x < y for integers"""
    return less(m.x, m.y)


# -- casts
# --------------------------------------------------------------------------------------------


def keeps_values(source: DType, target: DType) -> bool:
    """Whether every value of `source` is a value of `target`, so that a cast loses nothing."""
    if source is target or source.is_bool:
        return True
    if target.is_bool:
        return False
    if source.is_float:
        return target.is_float and target.bits > source.bits
    if target.is_float:
        digits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[target.name]
        return source.bits - (source.kind == "i") <= digits
    if source.kind == target.kind:
        return target.bits > source.bits
    return source.kind == "u" and target.bits > source.bits


@node_rule("cast", cls=EXACT)
def cast_of_cast(node: Tensor) -> Tensor | None:
    """cast(cast(x, d), e) = cast(x, e) where the first loses nothing"""
    inner = node.inputs[0]
    if inner.op.name != "cast":
        return None
    x = inner.inputs[0]
    if not keeps_values(x.dtype, inner.dtype):
        return None
    # From float an integer is saturated, from an integer it wraps.
    if x.dtype.is_integer and inner.dtype.is_float and node.dtype.is_integer:
        return None
    return cast(x, node.dtype)


@node_rule("cast", cls=EXACT)
def cast_to_same(node: Tensor) -> Tensor | None:
    """cast(x, dtype of x) = x"""
    return node.inputs[0] if node.dtype is node.inputs[0].dtype else None


# -- canonical form
# -----------------------------------------------------------------------------------


@node_rule("add", "multiply", "maximum", "minimum", "bitwise_and", "bitwise_or", cls=EXACT)
def constant_right(node: Tensor) -> Tensor | None:
    """k ∘ x = x ∘ k: constants stand on the right"""
    left, right = node.inputs
    if is_constant(left) and not is_constant(right):
        return node.op(right, left)
    return None


RULES = rules_of(globals())
