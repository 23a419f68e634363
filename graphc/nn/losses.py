"""Losses (floor 8): one value per example, or reduced on request; finite at extreme logits.

`reduction` is "none" (default: what is computed per example or element), "mean" or "sum"; `mse`
alone is by its name a mean. Reduce with `graphc.mean` as well as with the argument.
"""

from __future__ import annotations

import functools

from graphc.base.dims import shape_text
from graphc.base.errors import UnsupportedError
from graphc.ir.node import Tensor
from graphc.ir.opdef import dtype_error, fail, shape_error
from graphc.ops import elementwise, elementwise_math, logical, rounding
from graphc.ops.axes import normalize_axis
from graphc.ops.elementwise_math import softplus
from graphc.ops.indexing import take_along_axis
from graphc.ops.norm import NORM
from graphc.ops.promotion import TensorLike, as_tensor, cast, promoted
from graphc.ops.reduction import as_float
from graphc.ops.reduction import mean as mean_
from graphc.ops.reduction import sum as sum_
from graphc.ops.reshape import expand_dims, squeeze
from graphc.ops.softmax import LOG_SOFTMAX, SOFTMAX_CROSS_ENTROPY

multiply, subtract, where = elementwise.multiply, elementwise.subtract, elementwise.where
REDUCTIONS = ("none", "mean", "sum")


def _reduced(op: str, loss: Tensor, how: str) -> Tensor:
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


def _floats(op: str, *operands: TensorLike) -> tuple[Tensor, ...]:
    tensors = promoted(op, *operands)
    return tuple(as_float(op, t) for t in tensors)


def softmax_cross_entropy(
    logits: TensorLike,
    labels: TensorLike,
    *,
    axis: int = -1,
    label_smoothing: float = 0.0,
    reduction: str = "none",
) -> Tensor:
    """-sum(p * log_softmax(logits)) along `axis`: one value per example.

    labels: integers (classes, of the shape of logits without `axis`) or probabilities p (of the
    shape of logits). label_smoothing: the share of p that is spread evenly over the classes. Finite
    for any finite logits; the gradient is softmax(logits) - p. A label out of bounds raises
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
    if labels.dtype.is_integer:
        loss = SOFTMAX_CROSS_ENTROPY(logits, labels, axis=axis)
    else:
        loss = _soft_entropy(logits, labels, axis)
    if label_smoothing:
        even = mean_(elementwise.negative(LOG_SOFTMAX(logits, axis=axis)), axis=axis)
        loss = (1.0 - label_smoothing) * loss + label_smoothing * even
    return _reduced(name, loss, reduction)


def _soft_entropy(logits: Tensor, labels: Tensor, axis: int) -> Tensor:
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
    return _reduced(name, loss, reduction)


def mse(prediction: TensorLike, target: TensorLike, *, reduction: str = "mean") -> Tensor:
    """The mean of (prediction - target)**2; operands broadcast."""
    a, b = _floats("mse", prediction, target)
    return _reduced("mse", elementwise_math.square(subtract(a, b)), reduction)


def l1(prediction: TensorLike, target: TensorLike, *, reduction: str = "none") -> Tensor:
    """|prediction - target|."""
    a, b = _floats("l1", prediction, target)
    return _reduced("l1", rounding.abs(subtract(a, b)), reduction)


def huber(
    prediction: TensorLike, target: TensorLike, *, delta: float = 1.0, reduction: str = "none"
) -> Tensor:
    """d**2 / 2 where |d| <= delta, else delta * (|d| - delta / 2), with d = prediction - target."""
    a, b = _floats("huber", prediction, target)
    if delta <= 0:
        shape_error(
            f"huber: delta must be positive, got {delta}", [a, b], "the squared part ends at delta"
        )
    size = rounding.abs(subtract(a, b))
    # The square of what is at most delta: large differences must not overflow in the other branch.
    near = elementwise.minimum(size, delta)
    loss = multiply(near, size - 0.5 * near)
    return _reduced("huber", loss, reduction)


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
    q, p = _floats("kl_divergence", log_prediction, target)
    positive = logical.greater(p, 0)
    safe = where(positive, p, 1.0)
    terms = where(positive, multiply(p, subtract(elementwise_math.log(safe), q)), 0.0)
    loss = terms if axis is None else sum_(terms, axis=axis)
    return _reduced("kl_divergence", loss, reduction)


def nll(
    log_probabilities: TensorLike,
    labels: TensorLike,
    *,
    axis: int = -1,
    reduction: str = "none",
) -> Tensor:
    """-log_probabilities at integer labels along `axis`.

    A label out of bounds raises ExecutionError at the call.
    """
    x = as_float("nll", log_probabilities)
    classes = as_tensor(labels, op="nll")
    if not classes.dtype.is_integer:
        dtype_error(
            f"nll: labels must be integers, got {classes.dtype}",
            [x, classes],
            'convert them: graphc.astype(labels, "int64")',
        )
    axis = normalize_axis("nll", x, axis)
    expected = (*x.shape[:axis], *x.shape[axis + 1 :])
    if classes.shape != expected:
        shape_error(
            f"nll: labels {classes.type} do not fit {x.type} without axis {axis}",
            [x, classes],
            f"labels have the shape {shape_text(expected)}: one class per element",
        )
    chosen = take_along_axis(x, expand_dims(classes, axis=axis), axis=axis)
    return _reduced("nll", elementwise.negative(squeeze(chosen, axis)), reduction)


def cosine_similarity(
    x1: TensorLike, x2: TensorLike, *, axis: int = -1, epsilon: float = 1e-8
) -> Tensor:
    """sum(x1 * x2) / max(|x1| * |x2|, epsilon) along `axis`.

    The gradient at a zero vector is finite.
    """
    a, b = _floats("cosine_similarity", x1, x2)
    lengths = [
        NORM(t, axes=(normalize_axis("cosine_similarity", t, axis),), keepdims=True) for t in (a, b)
    ]
    # Unit vectors first: the products of large vectors overflow, those of small ones vanish.
    units = [
        elementwise.divide(t, where(logical.equal(n, 0), 1.0, n))
        for t, n in zip((a, b), lengths, strict=True)
    ]
    if epsilon > 0:
        share = elementwise.divide(multiply(*lengths), epsilon)
        units.append(elementwise.minimum(share, 1.0))
    return sum_(functools.reduce(multiply, units), axis=axis)


def hinge(scores: TensorLike, labels: TensorLike, *, reduction: str = "none") -> Tensor:
    """max(0, 1 - labels * scores), with labels -1 and 1."""
    a, b = _floats("hinge", scores, labels)
    margin = 1.0 - multiply(a, b)
    return _reduced("hinge", where(logical.greater(margin, 0), margin, 0.0), reduction)
