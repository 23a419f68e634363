"""Elementwise math functions (floor 2): powers, roots, exponentials, logarithms, trigonometry, rounding.

Each is one method or a short body of the scalar language; backends decompose the methods themselves.
References compute in float64. Gradients use `chain_multiply` and `chain_divide`, where a zero cotangent
stays zero; derivatives are written so that they do not overflow before the function itself does.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from graphc.base.dtypes import FLOAT, NUMERIC, Array, DType
from graphc.base.errors import UnsupportedError
from graphc.ir.node import Tensor, TensorType, as_index
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, fail
from graphc.ir.scalar_numpy import NumpyScalar, value
from graphc.ops.declaration import (
    Domain,
    ElementwiseSamples,
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
    maximum,
    minimum,
    scalar_like,
    where,
)
from graphc.ops.families import Elementwise
from graphc.ops.logical import isnan, signbit
from graphc.ops.promotion import (
    TensorLike,
    as_tensor,
    broadcast_shapes,
    cast,
    float_dtype,
    promoted,
)

LN2 = math.log(2.0)
LN10 = math.log(10.0)

# -- exponentials and logarithms ------------------------------------------------------------------------

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


# -- the logistic function --------------------------------------------------------------------------------


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

# -- powers and roots -------------------------------------------------------------------------------------


def _square_scalar(s: Any, x: Any) -> Any:
    return s.mul(x, x)


sqrt = unary(
    "sqrt",
    "sqrt",
    np.sqrt,
    lambda g, out, x: chain_divide(g * 0.5, out),
    doc="Square root: NaN below 0. At 0 the derivative is infinite, except where the cotangent is 0.",
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

    Integers wrap. A negative integer exponent in a tensor truncates the exact power to 1, -1 or 0; a
    negative Python int as exponent of an integer tensor is an error, as in NumPy.

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
        lambda g, out, x, y: chain_divide(chain_multiply(g, x), out),
        lambda g, out, x, y: chain_divide(chain_multiply(g, y), out),
    ),
    doc="sqrt(x1 ** 2 + x2 ** 2) without overflow. The gradient at (0, 0) is 0.",
    traits=("commutative",),
)

# -- trigonometry -----------------------------------------------------------------------------------------

sin = unary(
    "sin",
    "sin",
    widely(np.sin),
    lambda g, out, x: chain_multiply(g, cos(x)),
    doc="Sine of radians.",
)
cos = unary(
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
        lambda g, out, y, x: chain_divide(
            chain_divide(chain_multiply(g, x), hypot(x, y)), hypot(x, y)
        ),
        lambda g, out, y, x: (
            -chain_divide(chain_divide(chain_multiply(g, y), hypot(x, y)), hypot(x, y))
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
cosh = unary(
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

# -- signs and rounding -----------------------------------------------------------------------------------


def _sign_scalar(s: Any, x: Any) -> Any:
    dtype = s.dtype_of(x)
    zero, one = s.constant(0, dtype), s.constant(1, dtype)
    if dtype.kind == "u":
        return s.select(s.gt(x, zero), one, zero)
    signed = s.select(s.gt(x, zero), one, s.select(s.lt(x, zero), s.constant(-1, dtype), zero))
    return s.select(s.isnan(x), x, signed) if dtype.is_float else signed


abs = unary(
    "abs",
    "abs",
    np.abs,
    lambda g, out, x: chain_multiply(g, sign(x)),
    doc="The absolute value. The smallest integer stays. The gradient at 0 is 0.",
    dtypes=NUMERIC,
    domain=Domain(away=(0.0,)),
    traits=("idempotent",),
)
sign = unary(
    "sign",
    _sign_scalar,
    np.sign,
    doc="-1, 0 or 1; NaN for NaN. No gradient flows.",
    dtypes=NUMERIC,
    traits=("idempotent", "monotone"),
)
floor = unary(
    "floor",
    "floor",
    np.floor,
    doc="The largest whole number not above x. No gradient flows.",
    dtypes=NUMERIC,
    traits=("idempotent", "monotone"),
)
ceil = unary(
    "ceil",
    "ceil",
    np.ceil,
    doc="The smallest whole number not below x. No gradient flows.",
    dtypes=NUMERIC,
    traits=("idempotent", "monotone"),
)
trunc = unary(
    "trunc",
    "trunc",
    np.trunc,
    doc="x without its fraction. No gradient flows.",
    dtypes=NUMERIC,
    traits=("idempotent", "monotone"),
)
round = unary(
    "round",
    "round_even",
    np.round,
    doc="The nearest whole number, halves to even. No gradient flows.",
    dtypes=NUMERIC,
    traits=("idempotent", "monotone"),
)
copysign = binary(
    "copysign",
    "copysign",
    np.copysign,
    (lambda g, out, x, y: where(signbit(x) == signbit(y), g, -g), None),
    doc="x1 with the sign of x2.",
    domain=Domain(away=(0.0,)),
)


def _nextafter_type(inputs: tuple[Any, ...], attrs: tuple[Any, ...]) -> TensorType:
    dtype = attrs[0]
    if not dtype.is_float or any(x.dtype is not dtype for x in inputs):
        dtype_error(f"nextafter: expected two operands of the float dtype {dtype}", inputs)
    return TensorType(broadcast_shapes("nextafter", [x.shape for x in inputs], inputs), dtype)


def _nextafter_scalar(s: Any, a: Any, b: Any, dtype: DType) -> Any:
    return s.op("nextafter", a, b)


def _nextafter_reference(x: Array, y: Array, dtype: DType) -> Array:
    # The dtype is an attribute because bfloat16 has the same reference form as float32, and other neighbours.
    return NumpyScalar().op("nextafter", value(x, dtype), value(y, dtype)).array


_NEXTAFTER_SAMPLES = ElementwiseSamples(2, Domain())

NEXTAFTER = REGISTRY.add(
    OpDef(
        "nextafter",
        ("dtype",),
        _nextafter_type,
        _nextafter_reference,
        None,
        Elementwise(_nextafter_scalar),
        doc="The next representable value after x1 towards x2. No gradient flows.",
        samples=lambda dtype: [
            Sample(c.inputs, {"dtype": dtype}) for c in _NEXTAFTER_SAMPLES(dtype)
        ],
        dtypes=FLOAT,
    )
)


def nextafter(x1: TensorLike, x2: TensorLike, /) -> Tensor:
    """The next representable value after x1 towards x2; both broadcast. No gradient flows.

    Dtypes: floats; integers are converted. Raises ShapeError where shapes do not broadcast.

        graphc.nextafter(x, math.inf)
    """
    a, b = promoted("nextafter", x1, x2)
    dtype = float_dtype(a.dtype)
    return NEXTAFTER(cast(a, dtype), cast(b, dtype), dtype=dtype)


def clip(x: TensorLike, /, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
    """x limited to [min, max]; a limit may be a tensor (all broadcast) or None for no limit.

    NaN stays NaN. Where min > max the result is max. The gradient is 0 outside of the limits.

    Raises ShapeError where shapes do not broadcast.

        graphc.clip(x, -1, 1)
    """
    result = as_tensor(x, op="clip")
    if min is not None:
        result = maximum(result, min)
    if max is not None:
        result = minimum(result, max)
    return result


def nan_to_num(
    x: TensorLike,
    /,
    *,
    nan: float = 0.0,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:
    """x with NaN, infinity and -infinity replaced; by 0 and the largest finite values by default.

    Integers are returned as they are.

        graphc.nan_to_num(x, posinf=1e6)
    """
    tensor = as_tensor(x, op="nan_to_num")
    if not tensor.dtype.is_float:
        return tensor
    largest = LARGEST[tensor.dtype.name]
    high = largest if posinf is None else posinf
    low = -largest if neginf is None else neginf
    result = where(isnan(tensor), scalar_like(tensor, nan), tensor)
    result = where(tensor == math.inf, scalar_like(tensor, high), result)
    return where(tensor == -math.inf, scalar_like(tensor, low), result)


LARGEST = {
    "float16": 65504.0,
    "bfloat16": (2.0 - 2.0**-7) * 2.0**127,
    "float32": float(np.finfo(np.float32).max),
    "float64": float(np.finfo(np.float64).max),
}


def _no_complex(name: str, x: TensorLike) -> NoReturn:
    tensor = as_tensor(x, op=name)
    fail(
        UnsupportedError,
        f"{name}: complex numbers are not supported",
        [tensor],
        "keep real and imaginary parts in two tensors",
    )


def real(x: TensorLike, /) -> Tensor:
    """Refused: raises UnsupportedError, since there are no complex tensors."""
    _no_complex("real", x)


def imag(x: TensorLike, /) -> Tensor:
    """Refused: raises UnsupportedError, since there are no complex tensors."""
    _no_complex("imag", x)


def conj(x: TensorLike, /) -> Tensor:
    """Refused: raises UnsupportedError, since there are no complex tensors."""
    _no_complex("conj", x)
