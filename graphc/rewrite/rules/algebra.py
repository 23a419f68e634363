"""Algebra (floor 3): identities of arithmetic, signs, powers and gradient products.

EXACT only where IEEE arithmetic gives the same bits for every operand, infinities, NaN and signed
zeros included; integers wrap, so their identities are exact. What overflow, NaN or a zero's sign
can tell apart is in another class.
"""

from __future__ import annotations

import math

from graphc.base.dtypes import FLOAT, INTEGER, NUMERIC, SIGNED, DType
from graphc.ir.node import Tensor
from graphc.ops.elementwise import divide, multiply, negative, subtract
from graphc.ops.elementwise_math import reciprocal, sqrt, square
from graphc.ops.promotion import as_tensor
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

x, y = wildcards("x y")
(k,) = wildcards("k", constant=True)
exp, log, sqrt_, pow_ = ops("exp log sqrt pow")
negative_, absolute, square_ = ops("negative abs square")
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


@rule(x + 0.0, cls=DOMAIN, dtypes=FLOAT)
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


@rule(0.0 - x, cls=DOMAIN, dtypes=FLOAT)
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


@rule(-(x - y), cls=DOMAIN, dtypes=FLOAT)
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


# -- products of gradients
# ----------------------------------------------------------------------------
# With a general operand these stay as they are in every class: there 0 times infinity is not what
# users risk by asking for speed, but what the chain rule meets behind each `where`.


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
