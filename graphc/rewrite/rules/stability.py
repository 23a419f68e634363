"""Stability (floor 3): expressions that lose digits or overflow become the functions that do not.

STABILIZING: closer to the true value wherever the result differs. These run before composites are
expanded, on
what the user wrote: afterwards the shape of a softmax is hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from graphc.base.dtypes import FLOAT
from graphc.ir.node import Tensor
from graphc.ops.elementwise import multiply, negative, where
from graphc.ops.elementwise_math import (
    acosh,
    asinh,
    atanh,
    cosh,
    expm1,
    hypot,
    log,
    log1p,
    logaddexp,
    sigmoid,
    sin,
    sinh,
    softplus,
    sqrt,
    square,
    tanh,
)
from graphc.ops.logical import equal
from graphc.ops.norm import NORM
from graphc.ops.promotion import as_tensor
from graphc.ops.reduction import MEAN
from graphc.ops.rounding import abs as absolute_value
from graphc.ops.softmax import LOG_SOFTMAX, LOGSUMEXP, SOFTMAX
from graphc.ops.special import erfc
from graphc.ops.stable import EXP_SUM, LOG1MEXP, LOG_PRODUCT, LOG_QUOTIENT
from graphc.ops.statistical import centered
from graphc.rewrite.pattern import (
    STABILIZING,
    Match,
    OpPattern,
    Replace,
    Rule,
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
exp_, log_, log1p_, sqrt_, square_, cos_, erf_ = ops("exp log log1p sqrt square cos erf")
expm1_, tanh_, pow_, hypot_ = ops("expm1 tanh pow hypot")
sum_, mean_, max_, softmax_, sigmoid_, softplus_ = ops("sum mean max softmax sigmoid softplus")
(reciprocal_,) = ops("reciprocal")


def _stabilize(pattern: OpPattern, ulps: float = 4.0) -> Callable[[Replace], Rule]:
    return rule(pattern, cls=STABILIZING, dtypes=FLOAT, ulps=ulps)


# -- logarithms and exponentials near 1
# -----------------------------------------------------------------


@_stabilize(log_(exp_(x) + 1))
def softplus_of_exp(m: Match) -> Tensor:
    """log(1 + exp(x)) = softplus(x)"""
    return softplus(m.x)


@_stabilize(log1p_(exp_(x)))
def softplus_of_log1p(m: Match) -> Tensor:
    """log1p(exp(x)) = softplus(x)"""
    return softplus(m.x)


@_stabilize(log_(exp_(x) + exp_(y)), ulps=64)
def log_of_exponentials(m: Match) -> Tensor:
    """log(exp(x) + exp(y)) = logaddexp(x, y)"""
    return logaddexp(m.x, m.y)


@_stabilize(log_(x + 1))
def log_one_plus(m: Match) -> Tensor:
    """log(1 + x) = log1p(x)"""
    return log1p(m.x)


@_stabilize(log_(1 - x))
def log_one_minus(m: Match) -> Tensor:
    """log(1 - x) = log1p(-x)"""
    return log1p(negative(m.x))


@_stabilize(exp_(x) - 1)
def exp_minus_one(m: Match) -> Tensor:
    """exp(x) - 1 = expm1(x)"""
    return expm1(m.x)


@_stabilize(exp_(x) + -1)
def exp_plus_minus_one(m: Match) -> Tensor:
    """exp(x) + -1 = expm1(x)"""
    return expm1(m.x)


@_stabilize(1 - exp_(x))
def one_minus_exp(m: Match) -> Tensor:
    """1 - exp(x) = -expm1(x)"""
    return negative(expm1(m.x))


@_stabilize(log_(-expm1_(x)))
def log_one_minus_exp(m: Match) -> Tensor:
    """log(-expm1(x)) = log1mexp(x)"""
    return LOG1MEXP(m.x)


@_stabilize(log1p_(-exp_(x)))
def log_one_minus_exp_by_log1p(m: Match) -> Tensor:
    """log1p(-exp(x)) = log1mexp(x)"""
    return LOG1MEXP(m.x)


@_stabilize(exp_(x) / exp_(y))
def quotient_of_exponentials(m: Match) -> Tensor:
    """exp(x) / exp(y) = exp(x - y), rounded once"""
    return EXP_SUM(m.x, negative(m.y))


@_stabilize(exp_(x) * exp_(y))
def product_of_exponentials(m: Match) -> Tensor:
    """exp(x) * exp(y) = exp(x + y), rounded once"""
    return EXP_SUM(m.x, m.y)


@_stabilize(log_(x * y))
def log_of_product(m: Match) -> Tensor | None:
    """log(x * y), where x * y may overflow or underflow"""
    # A constant factor is of an ordinary size: not worth the work.
    return None if is_constant(m.x) or is_constant(m.y) else LOG_PRODUCT(m.x, m.y)


@_stabilize(log_((x + 1) / (1 - x)))
def inverse_hyperbolic_tangent(m: Match) -> Tensor:
    """log((1 + x) / (1 - x)) = 2 atanh(x)"""
    return multiply(atanh(m.x), 2.0)


@_stabilize(log_(x / y))
def log_of_quotient(m: Match) -> Tensor | None:
    """log(x / y), where x / y may overflow or underflow"""
    return None if is_constant(m.x) or is_constant(m.y) else LOG_QUOTIENT(m.x, m.y)


@_stabilize(log_(square_(x)))
def log_of_square(m: Match) -> Tensor:
    """log(x²) = 2 log|x|"""
    return multiply(log(absolute_value(m.x)), 2.0)


@_stabilize(log_(pow_(x, k)))
def log_of_power(m: Match) -> Tensor | None:
    """log(x ** k) = k log(x), of |x| for an even k"""
    exponent = uniform(m.k)
    if exponent is None or exponent == 0 or not math.isfinite(exponent):
        return None
    if exponent % 2 == 0:
        base = absolute_value(m.x)
    elif exponent % 1 == 0:
        base = m.x
    else:  # every fractional power of -inf is that of inf
        base = where(equal(m.x, -math.inf), math.inf, m.x)
    return multiply(log(base), m.k)


@_stabilize(1 - cos_(x), ulps=8)
def one_minus_cos(m: Match) -> Tensor:
    """1 - cos(x) = 2 sin(x / 2)²"""
    return multiply(square(sin(multiply(m.x, 0.5))), 2.0)


@_stabilize(1 - erf_(x))
def one_minus_erf(m: Match) -> Tensor:
    """1 - erf(x) = erfc(x)"""
    return erfc(m.x)


# -- the logistic function
# ------------------------------------------------------------------------------


@_stabilize(1 / (exp_(-x) + 1))
def logistic(m: Match) -> Tensor:
    """1 / (1 + exp(-x)) = sigmoid(x)"""
    return sigmoid(m.x)


@_stabilize(reciprocal_(exp_(-x) + 1))
def logistic_reciprocal(m: Match) -> Tensor:
    """reciprocal(1 + exp(-x)) = sigmoid(x)"""
    return sigmoid(m.x)


@_stabilize(1 / (exp_(x) + 1))
def logistic_of_negative(m: Match) -> Tensor:
    """1 / (1 + exp(x)) = sigmoid(-x)"""
    return sigmoid(negative(m.x))


@_stabilize(exp_(x).named("e") / (exp_(x) + 1))
def logistic_quotient(m: Match) -> Tensor:
    """exp(x) / (1 + exp(x)) = sigmoid(x)"""
    return sigmoid(m.x)


@_stabilize(1 - sigmoid_(x))
def one_minus_sigmoid(m: Match) -> Tensor:
    """1 - sigmoid(x) = sigmoid(-x)"""
    return sigmoid(negative(m.x))


@_stabilize(log_(sigmoid_(x)))
def log_sigmoid(m: Match) -> Tensor:
    """log(sigmoid(x)) = -softplus(-x)"""
    return negative(softplus(negative(m.x)))


@_stabilize(log1p_(-sigmoid_(x)))
def log_one_minus_sigmoid(m: Match) -> Tensor:
    """log1p(-sigmoid(x)) = -softplus(x)"""
    return negative(softplus(m.x))


# -- hyperbolic functions
# -------------------------------------------------------------------------------


@_stabilize((exp_(x) - exp_(-x)) / (exp_(x) + exp_(-x)))
def hyperbolic_tangent(m: Match) -> Tensor:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)) = tanh(x)"""
    return tanh(m.x)


@_stabilize(expm1_(x) / (exp_(x) + 1))
def hyperbolic_tangent_of_half(m: Match) -> Tensor:
    """(exp(x) - 1) / (exp(x) + 1) = tanh(x / 2)"""
    return tanh(multiply(m.x, 0.5))


@_stabilize((-expm1_(x)) / (exp_(x) + 1))
def negative_hyperbolic_tangent_of_half(m: Match) -> Tensor:
    """(1 - exp(x)) / (1 + exp(x)) = -tanh(x / 2)"""
    return negative(tanh(multiply(m.x, 0.5)))


@_stabilize(1 - tanh_(x))
def one_minus_tanh(m: Match) -> Tensor:
    """1 - tanh(x) = 2 sigmoid(-2 x)"""
    return multiply(sigmoid(multiply(m.x, -2.0)), 2.0)


@_stabilize(tanh_(x) + 1)
def tanh_plus_one(m: Match) -> Tensor:
    """1 + tanh(x) = 2 sigmoid(2 x)"""
    return multiply(sigmoid(multiply(m.x, 2.0)), 2.0)


@_stabilize((exp_(x) - exp_(-x)) * 0.5)
def hyperbolic_sine(m: Match) -> Tensor:
    """(exp(x) - exp(-x)) / 2 = sinh(x)"""
    return sinh(m.x)


@_stabilize((exp_(x) + exp_(-x)) * 0.5)
def hyperbolic_cosine(m: Match) -> Tensor:
    """(exp(x) + exp(-x)) / 2 = cosh(x)"""
    return cosh(m.x)


@_stabilize(log_(hypot_(x, 1) + x))
def inverse_hyperbolic_sine(m: Match) -> Tensor:
    """log(x + sqrt(x² + 1)) = asinh(x)"""
    return asinh(m.x)


@_stabilize(log_(sqrt_(square_(x) - 1) + x))
def inverse_hyperbolic_cosine(m: Match) -> Tensor:
    """log(x + sqrt(x² - 1)) = acosh(x)"""
    return acosh(m.x)


# -- roots and norms
# ------------------------------------------------------------------------------------


@_stabilize(sqrt_(square_(x)))
def root_of_square(m: Match) -> Tensor:
    """sqrt(x²) = |x|"""
    return absolute_value(m.x)


@_stabilize(1 / (1 / x))
def reciprocal_of_reciprocal(m: Match) -> Tensor:
    """1 / (1 / x) = x"""
    return m.x


@_stabilize(sqrt_(square_(x) + square_(y)))
def hypotenuse(m: Match) -> Tensor:
    """sqrt(x² + y²) = hypot(x, y)"""
    return hypot(m.x, m.y)


@_stabilize(sqrt_(square_(x) + k))
def hypotenuse_with_constant(m: Match) -> Tensor | None:
    """sqrt(x² + k) = hypot(x, sqrt(k)) for a positive k"""
    number = uniform(m.k)
    if number is None or not 0 < number < math.inf:
        return None
    return hypot(m.x, as_tensor(math.sqrt(number), like=m.x))


@_stabilize(sqrt_(1 - square_(x)))
def other_cathetus(m: Match) -> Tensor:
    """sqrt(1 - x²) = sqrt((1 - x) (1 + x))"""
    return sqrt(multiply(1.0 - m.x, m.x + 1.0))


@_stabilize(sqrt_(sum_(square_(x)).named("total")))
def norm(m: Match) -> Tensor:
    """sqrt(sum(x²)) = norm(x)"""
    axes, keepdims = m.total.attrs
    return NORM(m.x, axes=axes, keepdims=keepdims)


@_stabilize(pow_(sum_(square_(x)).named("total"), 0.5))
def norm_by_power(m: Match) -> Tensor:
    """sum(x²) ** 0.5 = norm(x)"""
    axes, keepdims = m.total.attrs
    return NORM(m.x, axes=axes, keepdims=keepdims)


# -- sums of exponentials
# -------------------------------------------------------------------------------


@_stabilize(log_(sum_(exp_(x)).named("total")))
def log_of_sum_of_exp(m: Match) -> Tensor | None:
    """log(sum(exp(x))) = logsumexp(x), unless x is shifted by its maximum already"""
    axes, keepdims = m.total.attrs
    if _unshifted(m.x, axes) is not m.x:
        return None
    return LOGSUMEXP(m.x, axes=axes, keepdims=keepdims)


@_stabilize(exp_(x) / sum_(exp_(x)).named("total"))
def naive_softmax(m: Match) -> Tensor | None:
    """exp(x) / sum(exp(x), axis, keepdims) = softmax(x, axis)"""
    axes, keepdims = m.total.attrs
    # A sum without kept dims lines up with the last axes of x: that is a softmax for a vector only.
    if len(axes) != 1 or not (keepdims or m.x.ndim == 1):
        return None
    return SOFTMAX(_unshifted(m.x, axes), axis=axes[0])


def _unshifted(shifted: Tensor, axes: tuple[int, ...]) -> Tensor:
    """x where `shifted` is x - max(x) over those axes, which softmax does itself."""
    if shifted.op.name != "subtract":
        return shifted
    x, top = shifted.inputs
    while top.op.name in ("stop_gradient", "barrier", "broadcast_to", "where"):
        # The maximum may be guarded: where(isfinite(top), top, 0).
        top = top.inputs[1 if top.op.name == "where" else 0]
    if top.op.name == "max" and top.inputs[0] is x and top.attrs == (axes, True):
        return x
    return shifted


@_stabilize(log_(softmax_(x).named("p")), ulps=16)
def log_of_softmax(m: Match) -> Tensor:
    """log(softmax(x)) = log_softmax(x)"""
    return LOG_SOFTMAX(m.x, axis=m.p.attr("axis"))


# What picks or moves elements: the logarithm of what it picks is picked from the logarithm.
PICKING = (
    "take_along_axis", "gather", "slice", "reshape", "permute_dims", "flip", "broadcast_to",
)  # fmt: skip


def _stable_logarithm(inner: Tensor) -> Tensor:
    if inner.op.name == "softmax":
        return LOG_SOFTMAX(inner.inputs[0], axis=inner.attr("axis"))
    return negative(softplus(negative(inner.inputs[0])))


@node_rule("log", cls=STABILIZING, ulps=16, via=("softmax", "slice", "permute_dims"))
def log_of_picked_softmax(node: Tensor) -> Tensor | None:
    """log(pick(softmax(x))) = pick(log_softmax(x)): the usual loss, before or after choosing the
    label
    """
    chain = []
    inner = node.inputs[0]
    while inner.op.name in PICKING:
        chain.append(inner)
        inner = inner.inputs[0]
    if not chain or inner.op.name not in ("softmax", "sigmoid"):
        return None
    value = _stable_logarithm(inner)
    for picker in reversed(chain):
        value = picker.op(value, *picker.inputs[1:], **picker.attributes)
    return value


# -- logistic shares, after the quotients of exponentials that have names of their own


@_stabilize(y / (exp_(-x) + 1), ulps=8)
def logistic_share(m: Match) -> Tensor:
    """y / (1 + exp(-x)) = y * sigmoid(x)"""
    return multiply(m.y, sigmoid(m.x))


@_stabilize(y / (exp_(x) + 1), ulps=8)
def logistic_share_of_negative(m: Match) -> Tensor:
    """y / (1 + exp(x)) = y * sigmoid(-x)"""
    return multiply(m.y, sigmoid(negative(m.x)))


# -- variance
# -------------------------------------------------------------------------------------------


@_stabilize(mean_(square_(x)).named("squares") - square_(mean_(x).named("average")), ulps=16)
def variance(m: Match) -> Tensor | None:
    """mean(x²) - mean(x)² = mean((x - mean(x))²), centered twice"""
    if m.squares.attrs != m.average.attrs:
        return None
    axes, _ = m.squares.attrs
    return MEAN(square(centered(m.x, axes)), axes=axes, keepdims=m.squares.attr("keepdims"))


RULES = rules_of(globals())
