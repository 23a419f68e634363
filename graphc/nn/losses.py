"""Losses (floor 8): one value per example, or reduced on request; finite at extreme logits.

`reduction` is "none" (default: what is computed per example or element), "mean" or "sum"; `mse`
alone is by its name a mean. Reduce with `graphc.mean` as well as with the argument.
"""

from __future__ import annotations

import math

from graphc.base.dims import shape_text
from graphc.base.dtypes import int64
from graphc.base.errors import UnsupportedError
from graphc.ir.node import Tensor
from graphc.ir.opdef import dtype_error, fail, shape_error
from graphc.ops import elementwise, elementwise_math, logical, rounding
from graphc.ops.axes import normalize_axis
from graphc.ops.creation import filled
from graphc.ops.elementwise_math import softplus
from graphc.ops.indexing import take, take_along_axis
from graphc.ops.promotion import TensorLike, as_tensor, cast, promoted
from graphc.ops.reduction import as_float
from graphc.ops.reduction import mean as mean_
from graphc.ops.reduction import sum as sum_
from graphc.ops.reshape import expand_dims, squeeze, to_shape
from graphc.ops.softmax import LOG_SOFTMAX, SOFTMAX_CROSS_ENTROPY

multiply, subtract, where = elementwise.multiply, elementwise.subtract, elementwise.where
REDUCTIONS = ("none", "mean", "sum")


def reduced(op: str, loss: Tensor, how: str) -> Tensor:
    """The loss as asked for. Raises UnsupportedError for an unknown reduction."""
    if how not in REDUCTIONS:
        fail(
            UnsupportedError,
            f"{op}: unknown reduction {how!r}",
            [loss],
            f"use one of {', '.join(REDUCTIONS)}",
        )
    if how == "none":
        return loss
    return mean_(loss) if how == "mean" else sum_(loss)


def floats(op: str, *operands: TensorLike) -> tuple[Tensor, ...]:
    """Operands of one float dtype."""
    tensors = promoted(op, *operands)
    return tuple(as_float(op, t) for t in tensors)


def _weights(op: str, given: TensorLike, x: Tensor, axis: int) -> Tensor:
    """One weight per class, (classes,), in the dtype of x."""
    weights = cast(as_tensor(given, like=x, op=op), x.dtype)
    if weights.shape != (x.shape[axis],):
        shape_error(
            f"{op}: class_weights must have shape {shape_text((x.shape[axis],))}, "
            f"got {weights.type}",
            [x, weights],
            "there is one weight per class",
        )
    return weights


def _counted(
    op: str, loss: Tensor, classes: Tensor, weights: Tensor | None, valid: Tensor | None, how: str
) -> Tensor:
    """Losses of integer labels, weighted already: those that are not `valid` as 0, and a mean that
    divides by the weights of those that are.
    """
    if valid is not None:
        loss = where(valid, loss, 0.0)
    if how != "mean" or (weights is None and valid is None):
        return reduced(op, loss, how)
    share = filled(1.0, (), loss.dtype) if weights is None else take(weights, classes, axis=0)
    if valid is not None:
        share = where(valid, share, 0.0)
    return elementwise.divide(sum_(loss), sum_(share))


def _safe(classes: Tensor, ignore_index: int | None) -> tuple[Tensor, Tensor | None]:
    """Labels without the ignored one, and where it was not."""
    if ignore_index is None:
        return classes, None
    wide = cast(classes, int64)  # -100 fits no unsigned dtype
    valid = logical.not_equal(wide, ignore_index)
    return where(valid, wide, 0), valid


def softmax_cross_entropy(
    logits: TensorLike,
    labels: TensorLike,
    *,
    axis: int = -1,
    label_smoothing: float = 0.0,
    class_weights: TensorLike | None = None,
    ignore_index: int | None = None,
    reduction: str = "none",
) -> Tensor:
    """-sum(p * log_softmax(logits)) along `axis`: one value per example.

    labels: integers (classes, of the shape of logits without `axis`) or probabilities p (of the
    shape of logits). label_smoothing: the share of p that is spread evenly over the classes.
    class_weights: (classes,), multiply the terms; the mean of integer labels divides by their
    weights. ignore_index: a label (integers) that counts for nothing, neither in sums nor in means.
    Finite for any finite logits; the gradient is softmax(logits) - p. A label out of bounds raises
    ExecutionError at the call. Raises ShapeError, DTypeError where labels do not fit.

        loss = graphc.mean(graphc.nn.softmax_cross_entropy(logits, labels))
    """
    name = "softmax_cross_entropy"
    logits = as_float(name, logits)
    labels = as_tensor(labels, op=name)
    if not logits.ndim:
        shape_error(
            f"{name}: logits need an axis of classes, got 0 dims",
            [logits],
            "logits are (batch, classes); two classes: binary_cross_entropy_with_logits",
        )
    axis = normalize_axis(name, logits, axis)
    if not 0 <= label_smoothing <= 1:
        shape_error(
            f"{name}: label_smoothing must be from 0 to 1, got {label_smoothing}",
            [logits],
            "0 for none; 0.1 is common",
        )
    if labels.dtype.is_bool:
        dtype_error(
            f"{name}: labels must be integers (classes) or floats (probabilities), got bool",
            [logits, labels],
            'convert them: graphc.astype(labels, "int64") for two classes, or to a float dtype',
        )
    weights = None if class_weights is None else _weights(name, class_weights, logits, axis)
    if not labels.dtype.is_integer:
        if ignore_index is not None:
            dtype_error(
                f"{name}: ignore_index is for integer labels, got {labels.dtype}",
                [logits, labels],
                "probabilities that are all 0 count for nothing",
            )
        loss = _soft_entropy(logits, labels, axis, weights)
        loss = _smoothed(loss, logits, axis, label_smoothing, weights)
        return reduced(name, loss, reduction)
    classes, valid = _safe(labels, ignore_index)
    loss = SOFTMAX_CROSS_ENTROPY(logits, classes, axis=axis)
    if weights is not None:
        loss = multiply(take(weights, classes, axis=0), loss)
    loss = _smoothed(loss, logits, axis, label_smoothing, weights)
    return _counted(name, loss, classes, weights, valid, reduction)


def _smoothed(
    loss: Tensor, logits: Tensor, axis: int, smoothing: float, weights: Tensor | None
) -> Tensor:
    if not smoothing:
        return loss
    terms = elementwise.negative(LOG_SOFTMAX(logits, axis=axis))
    if weights is not None:
        terms = multiply(terms, _along(weights, logits, axis))
    return (1.0 - smoothing) * loss + smoothing * mean_(terms, axis=axis)


def _along(weights: Tensor, x: Tensor, axis: int) -> Tensor:
    """A vector lined up with one axis of x."""
    return to_shape(weights, tuple(n if i == axis else 1 for i, n in enumerate(x.shape)))


def _soft_entropy(logits: Tensor, labels: Tensor, axis: int, weights: Tensor | None) -> Tensor:
    if labels.shape == (*logits.shape[:axis], *logits.shape[axis + 1 :]):
        dtype_error(
            f"softmax_cross_entropy: labels of the shape of classes must be integers, "
            f"got {labels.type} for {logits.type}",
            [logits, labels],
            'convert them: graphc.astype(labels, "int64")',
        )
    if labels.shape != logits.shape:
        shape_error(
            f"softmax_cross_entropy: probabilities must have the shape of logits, {logits.type}, "
            f"got {labels.type}",
            [logits, labels],
            "integer labels have the shape of logits without the axis of classes",
        )
    logits, labels = promoted("softmax_cross_entropy", logits, labels)
    # A class of probability 0 adds nothing, even where its logit is -inf.
    products = elementwise.chain_multiply(labels, LOG_SOFTMAX(logits, axis=axis))
    if weights is not None:
        products = multiply(products, _along(cast(weights, logits.dtype), logits, axis))
    return elementwise.negative(sum_(products, axis=axis))


def binary_cross_entropy_with_logits(
    logits: TensorLike,
    labels: TensorLike,
    *,
    positive_weight: TensorLike | None = None,
    reduction: str = "none",
) -> Tensor:
    """-labels * log(sigmoid(logits)) - (1 - labels) * log(1 - sigmoid(logits)), elementwise and
    without overflow.

    labels: probabilities, 0 and 1, or bool, broadcast against logits. positive_weight multiplies
    the first term.
    """
    name = "binary_cross_entropy_with_logits"
    logits = as_float(name, logits)
    targets = as_tensor(labels, op=name)
    if not targets.dtype.is_float:
        targets = cast(targets, logits.dtype)
    logits, targets = promoted(name, logits, targets)
    weighted = targets
    if positive_weight is not None:
        weighted = multiply(targets, cast(as_tensor(positive_weight, like=logits), logits.dtype))
    # Two softplus, not softplus(x) - x * y: that cancels where the loss is small.
    loss = multiply(weighted, softplus(elementwise.negative(logits))) + multiply(
        1.0 - targets, softplus(logits)
    )
    return reduced(name, loss, reduction)


def binary_cross_entropy(
    probabilities: TensorLike,
    labels: TensorLike,
    *,
    weights: TensorLike | None = None,
    reduction: str = "none",
) -> Tensor:
    """-labels * log(p) - (1 - labels) * log(1 - p) of probabilities, elementwise.

    Where p comes out of a sigmoid, `binary_cross_entropy_with_logits` keeps its digits; here the
    logarithms are not let below -100, so that a sure mistake has a finite loss. labels: 0 and 1,
    probabilities or bool. weights multiply the losses; all broadcast.
    """
    name = "binary_cross_entropy"
    p = as_float(name, probabilities)
    targets = as_tensor(labels, op=name)
    p, y = promoted(name, p, targets if targets.dtype.is_float else cast(targets, p.dtype))
    sure = elementwise.maximum(elementwise_math.log(p), -100.0)
    not_so = elementwise.maximum(elementwise_math.log1p(elementwise.negative(p)), -100.0)
    loss = elementwise.negative(
        elementwise.add(multiply(y, sure), multiply(subtract(1.0, y), not_so))
    )
    if weights is not None:
        loss = multiply(loss, cast(as_tensor(weights, like=p, op=name), p.dtype))
    return reduced(name, loss, reduction)


def mse(prediction: TensorLike, target: TensorLike, *, reduction: str = "mean") -> Tensor:
    """The mean of (prediction - target)**2; operands broadcast."""
    a, b = floats("mse", prediction, target)
    return reduced("mse", elementwise_math.square(subtract(a, b)), reduction)


def l1(prediction: TensorLike, target: TensorLike, *, reduction: str = "none") -> Tensor:
    """|prediction - target|."""
    a, b = floats("l1", prediction, target)
    return reduced("l1", rounding.abs(subtract(a, b)), reduction)


def smooth_l1(
    prediction: TensorLike, target: TensorLike, *, beta: float = 1.0, reduction: str = "none"
) -> Tensor:
    """d**2 / (2 * beta) where |d| < beta, else |d| - beta / 2, with d = prediction - target: huber
    with delta = beta, divided by it. beta = 0 is `l1`. Raises ShapeError for a negative beta.
    """
    a, b = floats("smooth_l1", prediction, target)
    if beta < 0:
        shape_error(f"smooth_l1: beta must not be negative, got {beta}", [a, b], "1.0 is common")
    size = rounding.abs(subtract(a, b))
    if beta == 0:
        return reduced("smooth_l1", size, reduction)
    near = elementwise.minimum(size, beta)
    loss = multiply(near * (1.0 / beta), size - 0.5 * near)
    return reduced("smooth_l1", loss, reduction)


def log_cosh(prediction: TensorLike, target: TensorLike, *, reduction: str = "none") -> Tensor:
    """log(cosh(prediction - target)), without overflow: near d**2 / 2, far |d| - log(2)."""
    a, b = floats("log_cosh", prediction, target)
    size = rounding.abs(subtract(a, b))
    loss = size + softplus(-2.0 * size) - math.log(2.0)
    return reduced("log_cosh", loss, reduction)


def huber(
    prediction: TensorLike, target: TensorLike, *, delta: float = 1.0, reduction: str = "none"
) -> Tensor:
    """d**2 / 2 where |d| <= delta, else delta * (|d| - delta / 2), with d = prediction - target."""
    a, b = floats("huber", prediction, target)
    if delta <= 0:
        shape_error(
            f"huber: delta must be positive, got {delta}", [a, b], "the squared part ends at delta"
        )
    size = rounding.abs(subtract(a, b))
    # The square of what is at most delta: large differences must not overflow in the other branch.
    near = elementwise.minimum(size, delta)
    loss = multiply(near, size - 0.5 * near)
    return reduced("huber", loss, reduction)


def kl_divergence(
    log_prediction: TensorLike,
    target: TensorLike,
    *,
    axis: int | None = -1,
    reduction: str = "none",
) -> Tensor:
    """sum(target * (log(target) - log_prediction)) along `axis` (None: elementwise); 0 * log 0 is
    0.

    log_prediction: log-probabilities, as log_softmax gives them; target: probabilities.
    """
    q, p = floats("kl_divergence", log_prediction, target)
    positive = logical.greater(p, 0)
    safe = where(positive, p, 1.0)
    terms = where(positive, multiply(p, subtract(elementwise_math.log(safe), q)), 0.0)
    loss = terms if axis is None else sum_(terms, axis=axis)
    return reduced("kl_divergence", loss, reduction)


def nll(
    log_probabilities: TensorLike,
    labels: TensorLike,
    *,
    axis: int = -1,
    class_weights: TensorLike | None = None,
    ignore_index: int | None = None,
    reduction: str = "none",
) -> Tensor:
    """-log_probabilities at integer labels along `axis`.

    class_weights, ignore_index and the mean: as of `softmax_cross_entropy`. A label out of bounds
    raises ExecutionError at the call. Raises ShapeError, DTypeError where labels do not fit.
    """
    x = as_float("nll", log_probabilities)
    labels = as_tensor(labels, op="nll")
    if not labels.dtype.is_integer:
        dtype_error(
            f"nll: labels must be integers, got {labels.dtype}",
            [x, labels],
            'convert them: graphc.astype(labels, "int64")',
        )
    axis = normalize_axis("nll", x, axis)
    expected = (*x.shape[:axis], *x.shape[axis + 1 :])
    if labels.shape != expected:
        shape_error(
            f"nll: labels {labels.type} do not fit {x.type} without axis {axis}",
            [x, labels],
            f"labels have the shape {shape_text(expected)}: one class per element",
        )
    weights = None if class_weights is None else _weights("nll", class_weights, x, axis)
    classes, valid = _safe(labels, ignore_index)
    chosen = take_along_axis(x, expand_dims(classes, axis=axis), axis=axis)
    loss = elementwise.negative(squeeze(chosen, axis))
    if weights is not None:
        loss = multiply(take(weights, classes, axis=0), loss)
    return _counted("nll", loss, classes, weights, valid, reduction)
