"""Elementwise math functions (floor 2): powers, roots, exponentials, logarithms, trigonometry,
rounding.

Each is one method or a short body of the scalar language; backends decompose the methods
themselves. References compute in float64. Gradients use `chain_multiply` and `chain_divide`, where
a zero cotangent stays zero; derivatives are written so that they do not overflow before the
function itself does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.base.dtypes import NUMERIC, Array
from graphc.ir.node import Tensor, as_index
from graphc.ir.opdef import dtype_error
from graphc.ops.declaration import (
    Domain,
    Unary,
    binary,
    by_scalar,
    in_compute_dtype,
    method,
    unary,
    widely,
)
from graphc.ops.elementwise import (
    chain_divide,
    chain_multiply,
    scalar_like,
    where,
)
from graphc.ops.promotion import (
    TensorLike,
    as_tensor,
)

LN2 = math.log(2.0)
LN10 = math.log(10.0)

# -- exponentials and logarithms ----------------------------------------------------------------

exp = unary(
    "exp",
    "exp",
    widely(np.exp),
    lambda g, out, x: chain_multiply(g, out),
    doc="e to the power x.",
    traits=("monotone",),
)
exp2 = unary(
    "exp2",
    "exp2",
    widely(np.exp2),
    lambda g, out, x: chain_multiply(g, out * LN2),
    doc="2 to the power x.",
    traits=("monotone",),
)
expm1 = unary(
    "expm1",
    "expm1",
    widely(np.expm1),
    lambda g, out, x: chain_multiply(g, exp(x)),
    doc="e to the power x, minus 1: accurate near zero.",
    traits=("monotone",),
)
log = unary(
    "log",
    "log",
    widely(np.log),
    lambda g, out, x: chain_divide(g, x),
    doc="Natural logarithm: -inf at 0, NaN below.",
    domain=Domain(0.05, 8.0),
    traits=("monotone",),
)
log1p = unary(
    "log1p",
    "log1p",
    widely(np.log1p),
    lambda g, out, x: chain_divide(g, x + 1.0),
    doc="Natural logarithm of 1 + x: accurate near zero.",
    domain=Domain(-0.9, 8.0),
    traits=("monotone",),
)
log2 = unary(
    "log2",
    "log2",
    widely(np.log2),
    lambda g, out, x: chain_divide(g * (1.0 / LN2), x),
    doc="Logarithm to base 2.",
    domain=Domain(0.05, 8.0),
    traits=("monotone",),
)
log10 = unary(
    "log10",
    "log10",
    widely(np.log10),
    lambda g, out, x: chain_divide(g * (1.0 / LN10), x),
    doc="Logarithm to base 10.",
    domain=Domain(0.05, 8.0),
    traits=("monotone",),
)


def _logaddexp_scalar(s: Any, a: Any, b: Any) -> Any:
    smaller = s.op("log1p", s.exp(s.neg(s.abs(s.sub(a, b)))))
    # Equal operands first: the difference of two equal infinities is NaN.
    same = s.add(a, s.like(a, LN2))
    return s.select(s.eq(a, b), same, s.add(s.maximum(a, b), smaller))


logaddexp = binary(
    "logaddexp",
    in_compute_dtype(_logaddexp_scalar),
    widely(np.logaddexp),
    (
        lambda g, out, x, y: chain_multiply(g, _softmax_share(x, y)),
        lambda g, out, x, y: chain_multiply(g, _softmax_share(y, x)),
    ),
    doc="log(exp(x1) + exp(x2)) without overflow.",
    traits=("commutative",),
)


def _softmax_share(x: Tensor, y: Tensor) -> Tensor:
    return where(x == y, scalar_like(x, 0.5), sigmoid(x - y))


# -- the logistic function ----------------------------------------------------------------


def _sigmoid_scalar(s: Any, x: Any) -> Any:
    # exp of a negative number never overflows, and small results keep their precision.
    small = s.exp(s.neg(s.abs(x)))
    one = s.like(x, 1.0)
    return s.div(s.select(s.lt(x, s.like(x, 0.0)), small, one), s.add(one, small))


def _sigmoid_reference(x: Array) -> Array:
    wide = np.asarray(x, np.float64)
    small = np.exp(-np.abs(wide))
    return np.where(wide < 0, small, 1.0) / (1.0 + small)


sigmoid = unary(
    "sigmoid",
    in_compute_dtype(_sigmoid_scalar),
    _sigmoid_reference,
    lambda g, out, x: chain_multiply(g, out * (1.0 - out)),
    doc="1 / (1 + exp(-x)).",
    traits=("monotone",),
)


def _softplus_scalar(s: Any, x: Any) -> Any:
    return s.add(s.maximum(x, s.like(x, 0.0)), s.op("log1p", s.exp(s.neg(s.abs(x)))))


def _softplus_reference(x: Array) -> Array:
    wide = np.asarray(x, np.float64)
    return np.asarray(np.maximum(wide, 0.0) + np.log1p(np.exp(-np.abs(wide))))


softplus = unary(
    "softplus",
    in_compute_dtype(_softplus_scalar),
    _softplus_reference,
    lambda g, out, x: chain_multiply(g, sigmoid(x)),
    doc="log(1 + exp(x)) without overflow.",
    traits=("monotone",),
)

# -- powers and roots ----------------------------------------------------------------


def _square_scalar(s: Any, x: Any) -> Any:
    return s.mul(x, x)


sqrt = unary(
    "sqrt",
    "sqrt",
    np.sqrt,
    lambda g, out, x: chain_divide(g * 0.5, out),
    doc="Square root: NaN below 0. At 0 the derivative is infinite, unless the cotangent is 0.",
    domain=Domain(0.05, 8.0),
    traits=("monotone",),
)
rsqrt = unary(
    "rsqrt",
    "reciprocal_sqrt",
    widely(lambda x: 1.0 / np.sqrt(x)),
    lambda g, out, x: chain_divide(chain_multiply(g * -0.5, out), x),
    doc="1 / sqrt(x).",
    domain=Domain(0.05, 8.0),
)
square = unary(
    "square",
    _square_scalar,
    np.square,
    lambda g, out, x: chain_multiply(g * 2.0, x),
    doc="x * x. Integers wrap.",
    dtypes=NUMERIC,
)


def _reciprocal_scalar(s: Any, x: Any) -> Any:
    return s.div(s.like(x, 1.0), x)


reciprocal = unary(
    "reciprocal",
    _reciprocal_scalar,
    np.reciprocal,
    lambda g, out, x: -chain_multiply(g, square(out)),
    doc="1 / x.",
    domain=Domain(0.3, 4.0),
)


def _pow_reference(x: Array, y: Array) -> Array:
    return widely(np.power)(x, y) if x.dtype.kind == "f" else by_scalar(method("pow"))(x, y)


def _pow_by_base(g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Tensor:
    if y.op.name == "constant" and not y.shape:
        exponent = float(y.attr("value").values)
        if exponent == 2.0:
            return chain_multiply(g * 2.0, x)
        if exponent == 1.0:
            return g
        if exponent == 0.0:
            return chain_multiply(g, scalar_like(g, 0.0))
        return chain_multiply(g * exponent, _pow(x, scalar_like(y, exponent - 1.0)))
    # y * x ** (y - 1) is 0 * inf at x = 0, y = 0: the product is 0 wherever y is.
    return chain_multiply(chain_multiply(g, y), _pow(x, y - 1.0))


def _pow_by_exponent(g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Tensor:
    # At x = 0 the function is constant in y (0) on the side where it is finite.
    return chain_multiply(chain_multiply(g, out), log(where(x == 0.0, scalar_like(x, 1.0), x)))


_pow = binary(
    "pow",
    "pow",
    _pow_reference,
    (_pow_by_base, _pow_by_exponent),
    doc="x1 to the power x2. Integers wrap; a negative integer exponent truncates the exact power.",
    dtypes=NUMERIC,
    domain=Domain(0.3, 3.0, second=(-2.0, 2.0)),
    hint='for bool convert first: graphc.astype(x, "int8")',
)


def pow(x1: TensorLike, x2: TensorLike, /) -> Tensor:
    """x1 to the power x2; both broadcast as in NumPy.

    Integers wrap. A negative integer exponent in a tensor truncates the exact power to 1, -1 or 0;
    a negative Python int as exponent of an integer tensor is an error, as in NumPy.

    Raises ShapeError where shapes do not broadcast, DTypeError for bool.

        graphc.pow(x, 3)
    """
    exponent = as_index(x2)
    if exponent is not None and exponent < 0:
        base = as_tensor(x1, op="pow")
        if not base.dtype.is_float:
            dtype_error(
                f"pow: an integer to the negative power {exponent} is not an integer",
                [base],
                f"write x ** {exponent}.0, which gives float64",
            )
    return _pow(x1, x2)


pow.__module__ = "graphc"

hypot = binary(
    "hypot",
    "hypot",
    widely(np.hypot),
    (
        lambda g, out, x, y: chain_multiply(g, chain_divide(x, out)),
        lambda g, out, x, y: chain_multiply(g, chain_divide(y, out)),
    ),
    doc="sqrt(x1 ** 2 + x2 ** 2) without overflow. The gradient at (0, 0) is 0.",
    traits=("commutative",),
)

# -- trigonometry ----------------------------------------------------------------

sin = unary(
    "sin",
    "sin",
    widely(np.sin),
    lambda g, out, x: chain_multiply(g, cos(x)),
    doc="Sine of radians.",
)
cos: Unary = unary(
    "cos",
    "cos",
    widely(np.cos),
    lambda g, out, x: -chain_multiply(g, sin(x)),
    doc="Cosine of radians.",
)
tan = unary(
    "tan",
    "tan",
    widely(np.tan),
    lambda g, out, x: chain_multiply(g, square(out) + 1.0),
    doc="Tangent of radians.",
    domain=Domain(-1.4, 1.4),
)
asin = unary(
    "asin",
    "asin",
    widely(np.arcsin),
    lambda g, out, x: chain_divide(g, sqrt((1.0 - x) * (x + 1.0))),
    doc="Inverse sine: NaN outside [-1, 1].",
    domain=Domain(-0.95, 0.95),
    traits=("monotone",),
)
acos = unary(
    "acos",
    "acos",
    widely(np.arccos),
    lambda g, out, x: -chain_divide(g, sqrt((1.0 - x) * (x + 1.0))),
    doc="Inverse cosine: NaN outside [-1, 1].",
    domain=Domain(-0.95, 0.95),
)
atan = unary(
    "atan",
    "atan",
    widely(np.arctan),
    lambda g, out, x: chain_divide(g, square(x) + 1.0),
    doc="Inverse tangent.",
    traits=("monotone",),
)
atan2 = binary(
    "atan2",
    "atan2",
    widely(np.arctan2),
    (
        lambda g, out, y, x: chain_multiply(
            chain_divide(g, hypot(x, y)), chain_divide(x, hypot(x, y))
        ),
        lambda g, out, y, x: (
            -chain_multiply(chain_divide(g, hypot(x, y)), chain_divide(y, hypot(x, y)))
        ),
    ),
    doc="The angle of the point (x2, x1) in radians, in (-pi, pi]. The gradient at (0, 0) is 0.",
    domain=Domain(0.2, 3.0, second=(-3.0, 3.0)),
)
sinh = unary(
    "sinh",
    "sinh",
    widely(np.sinh),
    lambda g, out, x: chain_multiply(g, cosh(x)),
    doc="Hyperbolic sine.",
    traits=("monotone",),
)
cosh: Unary = unary(
    "cosh",
    "cosh",
    widely(np.cosh),
    lambda g, out, x: chain_multiply(g, sinh(x)),
    doc="Hyperbolic cosine.",
)
tanh = unary(
    "tanh",
    "tanh",
    widely(np.tanh),
    lambda g, out, x: chain_multiply(g, 1.0 - square(out)),
    doc="Hyperbolic tangent.",
    traits=("monotone",),
)
asinh = unary(
    "asinh",
    "asinh",
    widely(np.arcsinh),
    lambda g, out, x: chain_divide(g, hypot(x, scalar_like(x, 1.0))),
    doc="Inverse hyperbolic sine.",
    traits=("monotone",),
)
acosh = unary(
    "acosh",
    "acosh",
    widely(np.arccosh),
    lambda g, out, x: chain_divide(g, sqrt(x - 1.0) * sqrt(x + 1.0)),
    doc="Inverse hyperbolic cosine: NaN below 1.",
    domain=Domain(1.1, 8.0),
    traits=("monotone",),
)
atanh = unary(
    "atanh",
    "atanh",
    widely(np.arctanh),
    lambda g, out, x: chain_divide(g, (1.0 - x) * (x + 1.0)),
    doc="Inverse hyperbolic tangent: infinite at -1 and 1, NaN outside.",
    domain=Domain(-0.95, 0.95),
    traits=("monotone",),
)
