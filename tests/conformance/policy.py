"""How far a compiled value may be from its NumPy meaning, per class of op, in one place.

The reference is computed in float64 and rounded once, so a bound below is what the compiled code
may add to that rounding. `u` is the spacing of the dtype at the value.

| class                                   | bound                                                  |
|-----------------------------------------|--------------------------------------------------------|
| integers, bool, moves, comparisons      | exact, bit for bit; NaN stays NaN                      |
| + - * / sqrt and what rounds once       | exact, the sign of zero included                       |
| methods with a decomposition            | its declared ulps (+ 1: NumPy's own, in float64)       |
| several methods in one body             | STEPS ulps, relative to the terms where they cancel    |
| sums of n terms                         | n / 2 + 1 roundings of the sum of magnitudes           |
| products, norms of n terms              | n / 2 + 1 roundings of the result                      |
| factorizations                          | FACTORIZATIONS roundings of the largest element        |
| softmax family                          | n / 2 + spread of the logits + 6 roundings             |
| 16-bit floats                           | the same in float32, then one rounding: 1 u of theirs  |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.backend.math_decompositions import DECOMPOSITIONS
from graphc.base.dtypes import Array, DType, float64
from tests.ops.cases import EPSILON, Case

_METHOD_OF = {"rsqrt": "reciprocal_sqrt"}
# Several methods one after another: ulps of the result, or of the larger term where terms cancel.
STEPS = {
    "sigmoid": 4.0, "softplus": 4.0, "logaddexp": 4.0, "polygamma": 64.0,
    "exp_sum": 4.0, "log_product": 4.0, "log_quotient": 4.0, "log1mexp": 4.0,
    "erfinv": 4.0, "erfcinv": 4.0,
}  # fmt: skip
# References that are differences of larger terms in float64: exact relative to those, not to
# themselves. tests/backend holds the compiled functions against mpmath.
LARGE_TERMS = {"lgamma": 16.0, "digamma": 16.0}
# How much a rounding error in a well-determined factorization grows, in units of the largest
# element of the result: sizes up to 60, conditions up to 60, gaps of 1 between values of up to 60.
FACTORIZATIONS = {
    **dict.fromkeys(("cholesky", "triangular_solve", "lu", "lu_solve", "solve"), 64.0),
    **dict.fromkeys(("qr", "qr_complete", "expm", "repeated_squares"), 64.0),
    **dict.fromkeys(("det", "cofactor", "logabsdet"), 1024.0),
    **dict.fromkeys(("eigh", "eigvalsh", "svd", "svdvals", "pinv"), 256.0),
}
# Zero may come out with either sign: the language leaves it open, or another order of sums does.
EITHER_ZERO = frozenset((
    "maximum", "minimum", "max", "min", "cumulative_max", "cumulative_min", "scatter", "sort",
    "sum", "mean", "einsum", "conv", "cumulative_sum", "linear_recurrence", "prod",
    "winograd_convolution",
    *FACTORIZATIONS,
))  # fmt: skip
_SMALLEST_BITS = {"float16": -24, "bfloat16": -133, "float32": -149, "float64": -1074}
_LARGEST = {"float16": 2.0**16, "bfloat16": 2.0**128, "float32": 2.0**128, "float64": np.inf}


def spacing(values: Array, dtype: DType) -> Array:
    """The distance between neighbours of `dtype` at the given magnitudes."""
    digits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[dtype.name]
    _, exponent = np.frexp(np.where(np.isfinite(values), values, 1.0))
    unit: Array = np.ldexp(1.0, np.maximum(exponent - digits, _SMALLEST_BITS[dtype.name]))
    return unit


def _wide(case: Case) -> list[Array]:
    return [a.astype(np.float64) if a.dtype.kind == "f" else a for a in case.arrays]


def _reference(case: Case, arrays: list[Array]) -> Array:
    assert case.op.reference is not None
    with np.errstate(all="ignore"):
        return np.asarray(case.op.reference(*arrays, **case.sample.attrs), np.float64)


def _magnitudes(case: Case) -> Array:
    """The op of the absolute values: the size of the terms that were added up."""
    return _reference(case, [np.abs(a) if a.dtype.kind == "f" else a for a in _wide(case)])


def _terms(case: Case) -> float:
    """How many terms one element of the result has, at most."""
    sizes = [a.size for a in case.arrays if a.dtype.kind == "f"]
    attrs = case.sample.attrs
    shape = case.arrays[0].shape
    if "axes" in attrs and "keepdims" in attrs:
        return float(np.prod([shape[a] for a in attrs["axes"]]))
    if "axis" in attrs and shape:
        return float(shape[attrs["axis"]])
    if case.op.name == "einsum":
        letters, result = attrs["spec"].split("->")
        a, b = letters.split(",")
        known = dict(zip(a, shape, strict=True)) | dict(zip(b, case.arrays[1].shape, strict=True))
        return float(np.prod([n for c, n in known.items() if c not in result]))
    if case.op.name == "conv":
        return float(np.prod(case.arrays[1].shape[1:]))
    return float(max(sizes, default=1))


def _sum_bound(case: Case, ref: Array, unit: float) -> Array:
    return unit * (_terms(case) / 2 + 1) * _magnitudes(case)


def _windows_bound(case: Case, ref: Array, unit: float) -> Array:
    """Winograd's convolution: terms of a window are added before and after they are multiplied, so
    an error goes by the largest element of the windows around it.
    """
    v, w, _ = (np.abs(np.where(np.isfinite(a), a, 0.0)) for a in _wide(case))
    largest = v.max(initial=0.0, axis=(1, 2, 3, 4, 5))[:, None, None, None]
    weights = w.sum((1, 2, 3))[None, :, None, None]
    return np.asarray(np.broadcast_to(unit * w[0].size * largest * weights, ref.shape))


def _product_bound(case: Case, ref: Array, unit: float) -> Array:
    return unit * (_terms(case) / 2 + 1) * np.abs(ref)


def _spread(case: Case) -> Array:
    """Twice the largest logit, which bounds every exponent."""
    x = _wide(case)[0]
    attrs = case.sample.attrs
    axis = attrs["axes"] if "axes" in attrs else (attrs["axis"] if x.ndim else ())
    kept = attrs.get("keepdims", case.op.name in ("softmax", "log_softmax"))
    finite = np.where(np.isfinite(x), x, 0.0)
    return np.asarray(np.max(np.abs(finite), axis=axis, keepdims=kept, initial=0.0) * 2.0)


def _softmax_bound(case: Case, ref: Array, unit: float) -> Array:
    return unit * (_terms(case) / 2 + _spread(case) + 6) * np.abs(ref)


def _logsumexp_bound(case: Case, ref: Array, unit: float) -> Array:
    finite = np.abs(np.where(np.isfinite(ref), ref, 0.0))
    return unit * (_terms(case) / 2 + 2 * _spread(case) + 6 + finite)


def _factorization_bound(case: Case, ref: Array, unit: float) -> Array:
    largest = np.max(np.abs(ref), initial=0.0)
    return np.asarray(unit * FACTORIZATIONS[case.op.name] * max(1.0, float(largest)))


_BOUNDS: dict[str, Callable[[Case, Array, float], Array]] = {
    **dict.fromkeys(
        ("sum", "mean", "einsum", "conv", "cumulative_sum", "linear_recurrence"), _sum_bound
    ),
    "winograd_convolution": _windows_bound,
    **dict.fromkeys(("prod", "cumulative_prod", "norm"), _product_bound),
    "softmax": _softmax_bound,
    **dict.fromkeys(FACTORIZATIONS, _factorization_bound),
    **dict.fromkeys(("logsumexp", "log_softmax", "softmax_cross_entropy"), _logsumexp_bound),
}


def _steps_scale(case: Case, ref: Array) -> Array:
    """The larger term of bodies whose terms cancel."""
    if case.op.name in ("log_product", "log_quotient"):
        return np.maximum(np.abs(ref), 1.0)
    if case.op.name != "logaddexp":
        return np.abs(ref)
    a, b = _wide(case)
    return np.maximum(np.abs(ref), np.maximum(np.maximum(np.abs(a), np.abs(b)), 1.0))


def allowed(case: Case, ref: Array, dtype: DType) -> Array | None:
    """The absolute difference allowed from a reference of the result's dtype; None: none at all."""
    if not dtype.is_float:
        return None
    name, compute = case.op.name, dtype.compute
    wide = ref.astype(np.float64)
    own = spacing(wide, dtype)
    if name in _BOUNDS:
        extra = _BOUNDS[name](case, wide, EPSILON[compute.name])
        return own + np.where(np.isfinite(extra), extra, 0.0)
    if name == "scatter" and case.sample.attrs["mode"] in ("add", "multiply"):
        return own + EPSILON[compute.name] * case.arrays[1].size * _scatter_scale(case, wide)
    if name in LARGE_TERMS and compute is float64:
        return own + LARGE_TERMS[name] * spacing(np.maximum(np.abs(wide), 1.0), compute)
    if name in STEPS:
        scale = spacing(_steps_scale(case, wide), compute)
        return own + STEPS[name] * scale
    method = _METHOD_OF.get(name, name)
    if method not in DECOMPOSITIONS or (name == "pow" and not case.dtype.is_float):
        return None
    declared = DECOMPOSITIONS[method]
    ulps = declared.ulp64 if compute is float64 else declared.ulp32
    if ulps == 0.0:
        return None
    # The reference is within 1 ulp itself in float64, rounded (half a unit) in float32; results of
    # 16-bit floats are rounded like it.
    rounded = 0.5 if dtype is compute and compute is not float64 else 1.0
    return own * rounded + ulps * spacing(wide, compute)


def _scatter_scale(case: Case, ref: Array) -> Array:
    return _magnitudes(case) if case.sample.attrs["mode"] == "add" else np.abs(ref)


def difference(case: Case, got: Array, ref: Array, dtype: DType) -> str | None:
    """What is wrong with a compiled value, None if nothing is."""
    if got.shape != ref.shape:
        return f"shape {got.shape}, expected {ref.shape}"
    if not dtype.is_float:
        return _first(got != ref, got, ref)
    nan = np.isnan(ref)
    wrong = np.isnan(got) != nan
    with np.errstate(all="ignore"):
        bound = allowed(case, ref, dtype)
        if bound is None:
            wrong |= ~nan & (got != ref)
        else:
            limit = _LARGEST[dtype.name]
            a = np.clip(got.astype(np.float64), -limit, limit)
            b = np.clip(ref.astype(np.float64), -limit, limit)
            wrong |= ~nan & (a != b) & ~(np.abs(a - b) <= bound)
    if case.op.name not in EITHER_ZERO:
        wrong |= (ref == 0) & (got == 0) & (np.signbit(got) != np.signbit(ref))
    return _first(wrong, got, ref, bound)


def _first(wrong: Any, got: Array, ref: Array, bound: Array | None = None) -> str | None:
    wrong = np.asarray(wrong)
    if not wrong.any():
        return None
    at = np.argwhere(wrong)[0]
    index = tuple(int(i) for i in at)
    where = "" if bound is None else f", allowed ±{np.broadcast_to(bound, ref.shape)[index]:.3g}"
    return (
        f"{int(wrong.sum())} of {ref.size} differ, first at {index}: "
        f"got {got[index]!r}, expected {ref[index]!r}{where}"
    )
