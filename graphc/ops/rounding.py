"""Signs, rounding and limits of numbers (floor 2): abs, sign, floor, clip, nextafter, nan_to_num …

Ops whose result is piecewise constant have no gradient: none flows through them.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from graphc.base.dtypes import FLOAT, NUMERIC, Array, DType
from graphc.base.errors import UnsupportedError
from graphc.ir.node import Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, fail
from graphc.ir.scalar_numpy import NumpyScalar, value
from graphc.ops.declaration import Domain, ElementwiseSamples, Unary, binary, unary
from graphc.ops.elementwise import chain_multiply, maximum, minimum, scalar_like, where
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

# -- signs and rounding ----------------------------------------------------------------


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
sign: Unary = unary(
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
    # The dtype is an attribute because bfloat16 has the same reference form as float32, and other
    # neighbours.
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
