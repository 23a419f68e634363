"""Softmax and its relatives (floor 2): composites with gradients of their own, stable at any input.

Attributes: `axes` and `keepdims` for logsumexp, `axis` for the others. Each expands to a maximum, a
shift and a sum, which the compiler fuses into one kernel. Where there is a NaN, its shifted element
makes the sum NaN, whatever the maximum is: logsumexp takes that of numbers, which is quicker. The
others do not: rows of 16 MB that are read so quickly wait for those that are being written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.dims import shape_text
from graphc.base.dtypes import FLOAT, Array, DType, int64
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, shape_error
from graphc.ops import elementwise, elementwise_math, logical
from graphc.ops.axes import Axes, normalize_axes, normalize_axis
from graphc.ops.creation import iota
from graphc.ops.families import Composite
from graphc.ops.indexing import take_along_axis
from graphc.ops.promotion import TensorLike, as_tensor, cast
from graphc.ops.reduction import (
    MAX,
    MAX_NUMBER,
    SUM,
    accurate,
    as_float,
    count_of,
    reduced_shape,
    restored,
)
from graphc.ops.reshape import to_shape
from graphc.ops.sampling import draw, over_axes, strided

add, subtract, divide = elementwise.add, elementwise.subtract, elementwise.divide
exp, log = elementwise_math.exp, elementwise_math.log


def _float_type(name: str) -> Callable[..., TensorType]:
    def infer(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
        (x,) = inputs
        assert isinstance(x, Tensor)
        if not x.dtype.is_float:
            dtype_error(f"{name}: expected a float dtype, got {x.dtype}", [x])
        return x.type

    return infer


def _finite_maximum(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    # Subtracting an infinite maximum would make NaN of rows of -inf: shift those by nothing.
    top = MAX_NUMBER(x, axes=axes, keepdims=True)
    return elementwise.where(logical.isfinite(top), top, 0.0)


# -- logsumexp ------------------------------------------------------------------------------------


def _logsumexp_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    x = _float_type("logsumexp")(inputs, attrs)
    return TensorType(reduced_shape(x.shape, *attrs), x.dtype)


def in_compute_dtype(expand: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`expand` in float32 for 16-bit floats: the composition is rounded once, not at every step."""

    def widened(node: Tensor) -> Tensor:
        x, *others = node.inputs
        if x.dtype.compute is x.dtype:
            return expand(node)
        wide = node.op(cast(x, x.dtype.compute), *others, **node.attributes)
        return cast(expand(wide), node.dtype)

    return widened


def _logsumexp_expand(node: Tensor) -> Tensor:
    (x,), (axes, _) = node.inputs, node.attrs
    top = _finite_maximum(x, axes)
    total = SUM(exp(subtract(x, top)), axes=axes, keepdims=True)
    return to_shape(add(log(total), top), node.shape)


def _logsumexp_reference(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    x = accurate(x)
    top = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0.0)
    result = np.log(np.sum(np.exp(x - top), axis=axes, keepdims=True)) + top
    return np.asarray(result if keepdims else np.squeeze(result, axes))


def _logsumexp_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    # The softmax, not exp(x - out): out is rounded at its own size, which exp would magnify.
    # Rows of nothing but -inf have weights 0, not NaN; they are set apart before the softmax.
    x, axes = node.inputs[0], node.attr("axes")
    empty = logical.equal(restored(node, node), -np.inf)
    weights = _softmax_over(elementwise.where(empty, 0.0, x), axes)
    return [elementwise.chain_multiply(restored(g, node), elementwise.where(empty, 0.0, weights))]


def _softmax_over(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The softmax over any number of axes: they become one, and apart again."""
    if len(axes) == 1:
        return SOFTMAX(x, axis=axes[0])
    order = (*(a for a in range(x.ndim) if a not in axes), *axes)
    moved = REGISTRY["permute_dims"](x, axes=order)
    kept = moved.shape[: x.ndim - len(axes)]
    weights = SOFTMAX(to_shape(moved, (*kept, count_of(x.shape, axes))), axis=len(kept))
    back = tuple(order.index(a) for a in range(x.ndim))
    return REGISTRY["permute_dims"](to_shape(weights, moved.shape), axes=back)


def _extremes(dtype: DType) -> Array:
    big = 1e4 if dtype.name != "float16" else 6e4
    rows = [
        [big, big, 0.0],
        [-big, -big, -big],
        [-np.inf, 1.0, 2.0],
        [-np.inf] * 3,
        [big, -big, 0.5],
    ]
    return np.asarray(rows).astype(dtype.numpy)


def _logsumexp_samples(dtype: DType) -> list[Sample]:
    return over_axes(dtype, _extremes(dtype))


LOGSUMEXP = REGISTRY.add(
    OpDef(
        "logsumexp",
        ("axes", "keepdims"),
        _logsumexp_type,
        _logsumexp_reference,
        _logsumexp_gradient,
        Composite(in_compute_dtype(_logsumexp_expand)),
        doc="log(sum(exp(x))) over axes, without overflow; -inf of nothing.",
        samples=_logsumexp_samples,
        dtypes=FLOAT,
    )
)


def logsumexp(x: TensorLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, without overflow; its gradient is softmax(x).

    bool and integers give float64. Raises ShapeError for an axis out of bounds.
    """
    x = as_float("logsumexp", x)
    axes = tuple(sorted(normalize_axes("logsumexp", x, axis)))
    return LOGSUMEXP(x, axes=axes, keepdims=bool(keepdims))


# -- softmax, log_softmax -------------------------------------------------------------------------


def _softmax_expand(node: Tensor) -> Tensor:
    (x,), (axis,) = node.inputs, node.attrs
    weights = exp(subtract(x, MAX(x, axes=(axis,), keepdims=True)))
    return divide(weights, SUM(weights, axes=(axis,), keepdims=True))


def _softmax_reference(x: Array, axis: int) -> Array:
    x = accurate(x)
    weights = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    return np.asarray(weights / np.sum(weights, axis=axis, keepdims=True))


def _softmax_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    weighted = elementwise.multiply(g, node)
    mean = SUM(weighted, axes=(node.attr("axis"),), keepdims=True)
    return [subtract(weighted, elementwise.multiply(node, mean))]


def _log_softmax_expand(node: Tensor) -> Tensor:
    (x,), (axis,) = node.inputs, node.attrs
    shifted = subtract(x, MAX(x, axes=(axis,), keepdims=True))
    return subtract(shifted, log(SUM(exp(shifted), axes=(axis,), keepdims=True)))


def _log_softmax_reference(x: Array, axis: int) -> Array:
    x = accurate(x)
    shifted = x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True)))


def _log_softmax_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    total = SUM(g, axes=(node.attr("axis"),), keepdims=True)
    return [
        subtract(g, elementwise.multiply(SOFTMAX(node.inputs[0], axis=node.attr("axis")), total))
    ]


def _softmax_samples(dtype: DType) -> list[Sample]:
    cases: list[tuple[tuple[int, ...], int]] = [
        ((1,), 0),
        ((0, 3), 1),
        ((2, 0), 1),
        ((3, 5), 1),
        ((3, 5), 0),
        ((2, 3, 4), 1),
        ((4, 131), 1),
        ((2, 1), 1),
    ]
    found = [Sample((draw(shape, dtype),), {"axis": axis}) for shape, axis in cases]
    found.append(Sample((_extremes(dtype),), {"axis": 1}))
    return [*found, Sample((strided(draw((4, 6), dtype)),), {"axis": 0})]


def _declare(
    name: str,
    reference: Callable[..., Array],
    gradient: Callable[..., Any],
    expand: Callable[[Tensor], Tensor],
    doc: str,
) -> OpDef:
    return REGISTRY.add(
        OpDef(
            name,
            ("axis",),
            _float_type(name),
            reference,
            gradient,
            Composite(in_compute_dtype(expand)),
            doc=doc,
            samples=_softmax_samples,
            dtypes=FLOAT,
        )
    )


SOFTMAX = _declare(
    "softmax",
    _softmax_reference,
    _softmax_gradient,
    _softmax_expand,
    "exp(x) / sum(exp(x)) along an axis, without overflow.",
)
LOG_SOFTMAX = _declare(
    "log_softmax",
    _log_softmax_reference,
    _log_softmax_gradient,
    _log_softmax_expand,
    "x - logsumexp(x) along an axis, without overflow.",
)


def softmax(x: TensorLike, /, *, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis`, computed without overflow; a row of only -inf gives NaN.

    Shape and dtype of x; bool and integers give float64. Raises ShapeError for an axis out of
    bounds.
    """
    x = as_float("softmax", x)
    return SOFTMAX(x, axis=normalize_axis("softmax", x, axis))


def log_softmax(x: TensorLike, /, *, axis: int = -1) -> Tensor:
    """log(softmax(x)) along `axis`, computed as x - logsumexp(x): finite where softmax underflows.

    Shape and dtype of x; bool and integers give float64. Raises ShapeError for an axis out of
    bounds.
    """
    x = as_float("log_softmax", x)
    return LOG_SOFTMAX(x, axis=normalize_axis("log_softmax", x, axis))


# -- cross entropy of integer labels --------------------------------------------------------------


def _entropy_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    logits, labels = inputs
    (axis,) = attrs
    assert isinstance(logits, Tensor)
    assert isinstance(labels, Tensor)
    if not logits.dtype.is_float or not labels.dtype.is_integer:
        dtype_error(
            f"softmax_cross_entropy: expected float logits and integer labels, got {logits.dtype} "
            f"and {labels.dtype}",
            inputs,
        )
    shape = (*logits.shape[:axis], *logits.shape[axis + 1 :])
    if labels.shape != shape:
        shape_error(
            f"softmax_cross_entropy: labels of shape {shape_text(labels.shape)} do not fit logits "
            f"without axis {axis}: {shape_text(shape)}",
            inputs,
            "integer labels have the shape of logits without the axis of classes: "
            "graphc.squeeze drops a dim of size 1",
        )
    return TensorType(shape, logits.dtype)


def _with_axis(x: Tensor, axis: int) -> Tensor:
    return to_shape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def _entropy_expand(node: Tensor) -> Tensor:
    (logits, labels), (axis,) = node.inputs, node.attrs
    chosen = take_along_axis(LOG_SOFTMAX(logits, axis=axis), _with_axis(labels, axis), axis=axis)
    return elementwise.negative(to_shape(chosen, node.shape))


def _entropy_reference(logits: Array, labels: Array, axis: int) -> Array:
    picked = np.expand_dims(labels.astype(np.int64), axis)
    found = np.take_along_axis(_log_softmax_reference(logits, axis), picked, axis)
    return -np.squeeze(found, axis)


def _entropy_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    # softmax(logits) with 1 subtracted at the label.
    (logits, labels), (axis,) = node.inputs, node.attrs
    classes = iota(logits.shape, axis)
    wanted = cast(_with_axis(labels, axis), int64)
    size = as_tensor(logits.shape[axis], like=int64)
    wanted = elementwise.where(logical.less(wanted, 0), elementwise.add(wanted, size), wanted)
    hit = cast(logical.equal(classes, wanted), logits.dtype)
    error = subtract(SOFTMAX(logits, axis=axis), hit)
    return [elementwise.multiply(_with_axis(g, axis), error), None]


def _entropy_samples(dtype: DType) -> list[Sample]:
    found = []
    cases: list[tuple[tuple[int, ...], int]] = [
        ((1,), 0),
        ((5,), 0),
        ((0, 4), 1),
        ((6, 10), 1),
        ((4, 3), 0),
        ((2, 5, 3), 1),
        ((3, 131), 1),
    ]
    for shape, axis in cases:
        rest = (*shape[:axis], *shape[axis + 1 :])
        labels = np.random.default_rng(3).integers(0, shape[axis], rest)
        found.append(Sample((draw(shape, dtype), labels.astype(np.int64)), {"axis": axis}))
    big = 1e4 if dtype.name != "float16" else 6e4
    rows = np.asarray([[big, -big, 0.0], [big, -big, 0.0], [1.0, -np.inf, 2.0]]).astype(dtype.numpy)
    found.append(Sample((rows, np.array([0, 1, 2], np.int32)), {"axis": 1}))
    return found


SOFTMAX_CROSS_ENTROPY = REGISTRY.add(
    OpDef(
        "softmax_cross_entropy",
        ("axis",),
        _entropy_type,
        _entropy_reference,
        _entropy_gradient,
        Composite(in_compute_dtype(_entropy_expand)),
        doc="-log_softmax(logits) at integer labels along an axis.",
        samples=_entropy_samples,
        dtypes=FLOAT,
    )
)
