"""True values of the math functions and the measure of error, for the tests of them.

float32 results are held against `NumpyScalar` in float64, float64 results against mpmath. Errors
are in units in the last place of the true value (of the least normal number where that is smaller);
lgamma and digamma of negative numbers are differences: there in units of the sum of both terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

from graphc.backend.math_decompositions import DECOMPOSITIONS
from graphc.base.dims import Dim
from graphc.base.dtypes import DType, float64
from graphc.base.target import Target
from graphc.ir.scalar import BINARY
from graphc.ir.scalar_numpy import NumpyScalar, Value
from graphc.loops.nodes import Buffer, For, Kernel, Store, load, op, size, var
from tests.backend.running import Native, single

Array = np.ndarray[Any, Any]
Function = Callable[..., Array]
# Exact by construction: held bit for bit in test_scalar_ops.py.
EXACT = ("copysign", "nextafter")
INEXACT = [name for name in DECOMPOSITIONS if name not in EXACT]
UNARY = [name for name in INEXACT if name not in BINARY]
PAIRS = [name for name in INEXACT if name in BINARY]

MP = mpmath.mp.clone()
MP.prec = 160


def compiled(name: str, dtype: DType, target: Target) -> Function:
    """The method as a native function on whole arrays of one size."""
    n = Dim("n")
    count = 2 if name in BINARY else 1
    inputs = [Buffer(f"x{k}", (n,), dtype) for k in range(count)]
    out = Buffer("y", (n,), dtype)
    i = var("i")
    value = op(name, *(load(b, (i,)) for b in inputs), dtype=dtype)
    body = For(i, size(n), (Store(out, (i,), value),), "vector", 64 // dtype.itemsize)
    native = Native(single(Kernel("k", (*inputs, out), (out,), (body,))), target)

    def call(*arrays: Array) -> Array:
        result = np.empty_like(arrays[0])
        stored = [np.ascontiguousarray(a) for a in arrays]
        assert native([*stored, result], {"n": result.size}) == 0
        return result

    return call


def interpreted(name: str, dtype: DType, has_fma: bool) -> Function:
    """The decomposition evaluated by `NumpyScalar`."""
    body = DECOMPOSITIONS[name].function

    def call(*arrays: Array) -> Array:
        with np.errstate(all="ignore"):
            return body(NumpyScalar(has_fma), *(Value(a, dtype) for a in arrays)).array

    return call


# -- float32 against float64 -------------------------------------------------------------------


def truth_in_float64(name: str, *arrays: Array) -> Array:
    """The function of float32 arrays, in float64."""
    with np.errstate(invalid="ignore"):  # a signalling NaN becomes quiet
        operands = [Value(a.astype(np.float64), float64) for a in arrays]
    return NumpyScalar().op(name, *operands).array


def errors_float32(got: Array, truth: Array) -> Array:
    """Errors in units in the last place of float32; infinite where a special value is wrong."""
    with np.errstate(all="ignore"):
        finite = np.isfinite(truth)
        # An infinity stands for the power of two that it begins at.
        limit = 2.0**128
        reference = np.clip(np.where(finite, truth, 1.0), -limit, limit)
        shown = np.clip(got.astype(np.float64), -limit, limit)
        _, exponent = np.frexp(reference)
        unit = np.ldexp(1.0, np.maximum(exponent - 24, -149))
        error = np.abs(shown - reference) / unit
        special = (got == truth) | (np.isnan(got) & np.isnan(truth))
        error = np.where(finite, error, np.where(special, 0.0, np.inf))
        wrong_zero = (truth == 0) & (np.signbit(got) != np.signbit(truth))
        return np.where(np.isnan(error) | wrong_zero, np.inf, error)


# -- float64 against mpmath --------------------------------------------------------------------


def _saturated(function: Callable[[Any], Any], low: float, high: float) -> Callable[[Any], Any]:
    """`function` on [low, high] and its value at the nearer end beyond: mpmath is slow there."""

    def call(x: Any) -> Any:
        return function(min(max(x, low), high))

    return call


def _log_gamma(x: Any) -> Any:
    if x > 0:
        return MP.loggamma(x).real
    return MP.log(MP.pi / abs(x * MP.sinpi(x))) - MP.loggamma(-x).real


def _log2(x: Any) -> Any:
    return MP.log(x) / MP.ln2


def _reciprocal_sqrt(x: Any) -> Any:
    return 1 / MP.sqrt(x)


EXACT_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": _saturated(MP.exp, -800.0, 800.0),
    "exp2": _saturated(lambda x: MP.power(2, x), -1200.0, 1200.0),
    "expm1": _saturated(MP.expm1, -800.0, 800.0),
    "log": MP.log,
    "log2": _log2,
    "log10": MP.log10,
    "log1p": MP.log1p,
    "sin": MP.sin,
    "cos": MP.cos,
    "tan": MP.tan,
    "asin": MP.asin,
    "acos": MP.acos,
    "atan": MP.atan,
    "sinh": _saturated(MP.sinh, -800.0, 800.0),
    "cosh": _saturated(MP.cosh, -800.0, 800.0),
    "tanh": _saturated(MP.tanh, -100.0, 100.0),
    "asinh": MP.asinh,
    "acosh": MP.acosh,
    "atanh": MP.atanh,
    "erf": _saturated(MP.erf, -30.0, 30.0),
    "erfc": _saturated(MP.erfc, -30.0, 30.0),
    "lgamma": _log_gamma,
    "digamma": MP.digamma,
    "reciprocal_sqrt": _reciprocal_sqrt,
    "pow": MP.power,
    "atan2": MP.atan2,
    "hypot": MP.hypot,
}


def is_ordinary(name: str, *point: float) -> bool:
    """Whether the true value at the point is a finite real number that mpmath computes."""
    if not all(math.isfinite(x) for x in point):
        return False
    x = point[0]
    if name in ("log", "log2", "log10", "reciprocal_sqrt"):
        return x > 0
    if name in ("asin", "acos"):
        return abs(x) <= 1
    if name in ("lgamma", "digamma"):
        return x > 0 or x != math.floor(x)
    if name == "pow":
        y = point[1]
        small = x == 0 or abs(y * math.log2(abs(x))) < 5000
        return small and (x > 0 or (x < 0 and y == math.floor(y)))
    return {"log1p": x > -1, "acosh": x >= 1, "atanh": abs(x) < 1}.get(name, True)


def truths(name: str, points: list[tuple[float, ...]]) -> list[Any]:
    """The true values at ordinary points, in multiple precision."""
    function = EXACT_FUNCTIONS[name]
    return [function(*(MP.mpf(x) for x in point)) for point in points]


def error_float64(name: str, point: tuple[float, ...], got: float, truth: Any) -> float:
    """The error in units in the last place of float64."""
    if math.isnan(got):
        return math.inf
    scale = abs(truth)
    if name in ("lgamma", "digamma") and point[0] < 0:
        # They are this term minus another: near a zero both are large.
        scale = scale + abs(EXACT_FUNCTIONS[name](1 - MP.mpf(point[0])))
    limit = MP.ldexp(1, 1024)
    truth = min(max(truth, -limit), limit)
    exponent = min(max(MP.frexp(scale)[1] - 53, -1074), 972) if scale else -1074
    shown = min(max(MP.mpf(got), -limit), limit)
    return float(min(abs(shown - truth) / MP.ldexp(1, exponent), MP.mpf(10) ** 300))
