"""The gamma distribution and what is made of it (floor 8): gamma, beta, dirichlet.

Samples come from Marsaglia and Tsang's rejection method (2000), of which the ten first proposals of
each element are computed at once. One is accepted with a probability of at least 0.95, so that all
ten fail with one below 1e-12: then the mode is taken. Concentrations below 1 are drawn one higher
and multiplied by u**(1 / concentration). Everything is kept as logarithms until the end, where
small concentrations would underflow.
"""

from __future__ import annotations

from typing import Any

from graphc.base.dims import Shape, shape_text
from graphc.base.dtypes import DType, DTypeLike, float32
from graphc.ir.node import Tensor
from graphc.ir.opdef import shape_error
from graphc.ops import elementwise, elementwise_math, logical
from graphc.ops.axes import as_shape
from graphc.ops.gamma_sample import LOG_GAMMA_SAMPLE
from graphc.ops.indexing import take_along_axis
from graphc.ops.promotion import TensorLike, as_tensor, broadcast_shapes, cast
from graphc.ops.reduction import ARGMAX
from graphc.ops.reshape import expand_dims, to_shape
from graphc.ops.softmax import SOFTMAX
from graphc.ops.view import broadcasted
from graphc.random.continuous import placed, standard_normal
from graphc.random.keys import Key, checked, float_kind, inner_unit, split, words

multiply, subtract, where = elementwise.multiply, elementwise.subtract, elementwise.where
log = elementwise_math.log

PROPOSALS = 10


def _proposed(key: Tensor, d: Tensor, sizes: Shape) -> Tensor:
    """log((1 + c x)³) of the first accepted proposal, with c = 1 / sqrt(9 d)."""
    drawn, judged = (words(k, (PROPOSALS, 2)) for k in split(key, 2))
    # A key for each proposal: (*batch of keys, proposals, *sizes).
    axis = key.ndim - 1
    x = standard_normal(drawn, sizes, d.dtype)
    u = inner_unit(judged, sizes, d.dtype)
    deep = expand_dims(d, axis=axis)
    root = 1.0 + multiply(x, elementwise_math.rsqrt(9.0 * deep))
    positive = logical.greater(root, 0)
    log_v = 3.0 * log(where(positive, root, 1.0))
    v = multiply(elementwise_math.square(root), root)
    bound = 0.5 * elementwise_math.square(x) + multiply(deep, 1.0 - v + log_v)
    accepted = logical.logical_and(positive, logical.less(log(u), bound))
    # Of no accepted one the position is 0, which is then seen not to be.
    first = ARGMAX(accepted, axes=(axis,), keepdims=True)
    chosen, valid = (
        to_shape(take_along_axis(t, first, axis=axis), d.shape) for t in (log_v, accepted)
    )
    return where(valid, chosen, 0.0)


def _log_gamma(op: str, key: Tensor, concentration: Tensor, sizes: Shape) -> Tensor:
    """Logarithms of samples of shape (*batch of keys, *sizes), in the dtype of concentration."""
    whole = (*key.shape[:-1], *sizes)
    if broadcast_shapes(op, [whole, concentration.shape], [concentration]) != whole:
        shape_error(
            f"{op}: concentration {concentration.type} does not broadcast to {shape_text(whole)}",
            [concentration],
            "leave shape out for the concentration's own, or give one that holds it",
        )
    a = broadcasted(concentration, whole)
    proposals, power = split(key, 2)
    small = logical.less(a, 1.0)
    d = where(small, a + 1.0, a) - 1.0 / 3.0
    raw = elementwise.add(log(d), _proposed(proposals, d, sizes))
    lift = elementwise.divide(log(inner_unit(power, sizes, a.dtype)), a)
    return LOG_GAMMA_SAMPLE(where(small, elementwise.add(raw, lift), raw), a)


def _concentration(op: str, value: TensorLike, dtype: DTypeLike | None) -> tuple[Tensor, DType]:
    """The concentration in the dtype that is computed in, and the dtype of the result."""
    tensor = as_tensor(value, op=op)
    own = tensor.dtype if isinstance(value, Tensor) and tensor.dtype.is_float else float32
    kind = own if dtype is None else float_kind(op, dtype)
    return cast(tensor, kind.compute), kind


def gamma(
    key: Key,
    concentration: TensorLike,
    shape: Any = None,
    scale: TensorLike = 1.0,
    *,
    dtype: DTypeLike | None = None,
) -> Tensor:
    """Gamma numbers, of density proportional to x**(concentration - 1) * exp(-x / scale).

    concentration: positive, broadcast to `shape` (by default its own shape, after that of an array
    of keys). dtype: of a concentration that is a float tensor, else float32. Differentiable by
    scale and, implicitly (the quantile stays), by concentration. Raises ShapeError where shapes do
    not fit, DTypeError for a dtype that is not float.

    graphc.random.gamma(key, 2.5, (n,))
    """
    name = "random.gamma"
    source = checked(name, key)
    a, kind = _concentration(name, concentration, dtype)
    sizes = _sizes(name, a, shape, source)
    drawn = elementwise_math.exp(_log_gamma(name, source, a, sizes))
    return placed(name, drawn, 0.0, scale, kind)


def _sizes(op: str, parameter: Tensor, shape: Any, key: Tensor) -> Shape:
    """The shape that each key draws."""
    if shape is not None:
        return as_shape(op, shape, [parameter])
    batch = key.ndim - 1
    return parameter.shape[batch:] if parameter.shape[:batch] == key.shape[:-1] else parameter.shape


def beta(
    key: Key, a: TensorLike, b: TensorLike, shape: Any = None, *, dtype: DTypeLike | None = None
) -> Tensor:
    """Beta numbers, of density proportional to x**(a - 1) * (1 - x)**(b - 1), as the share of one
    of two gamma numbers in their sum.

    a, b: positive; shape, dtype and gradients as of `gamma`. Raises ShapeError where shapes do not
    fit, DTypeError for a dtype that is not float.
    """
    name = "random.beta"
    source = checked(name, key)
    first, kind = _concentration(name, a, dtype)
    second, other = _concentration(name, b, dtype)
    if first.dtype is not second.dtype:
        kind = kind if isinstance(a, Tensor) else other
        first, second = cast(first, kind.compute), cast(second, kind.compute)
    together = broadcast_shapes(name, [first.shape, second.shape], [first, second])
    sizes = _sizes(name, broadcasted(first, together), shape, source)
    keys = split(source, 2)
    logs = [_log_gamma(name, k, t, sizes) for k, t in zip(keys, (first, second), strict=True)]
    return cast(elementwise_math.sigmoid(subtract(*logs)), kind)


def dirichlet(
    key: Key, concentration: TensorLike, shape: Any = None, *, dtype: DTypeLike | None = None
) -> Tensor:
    """Probabilities along a last axis that sum to 1, of density proportional to
    prod(x**(concentration - 1)).

    concentration: (…, classes), positive. shape: of the result without the last axis (by default
    that of concentration); dtype and gradients as of `gamma`. Raises ShapeError where shapes do not
    fit, DTypeError for a dtype that is not float.
    """
    name = "random.dirichlet"
    source = checked(name, key)
    a, kind = _concentration(name, concentration, dtype)
    if not a.ndim:
        hint = "concentration is (…, classes), one number per class"
        shape_error(f"{name}: needs at least one dim, got {a.type}", [a], hint)
    sizes = _sizes(name, a, shape, source)
    whole = sizes if shape is None else (*sizes, a.shape[-1])
    logs = _log_gamma(name, source, a, whole)
    return cast(SOFTMAX(logs, axis=logs.ndim - 1), kind)


__all__ = ["beta", "dirichlet", "gamma"]
