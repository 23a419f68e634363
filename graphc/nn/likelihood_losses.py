"""Losses of distributions and of rare classes (floor 8): Poisson, Gauss, focal, dice.

`reduction` is "none" (default), "mean" or "sum", as in `graphc.nn.losses`.
"""

from __future__ import annotations

import math

from graphc.ir.node import Tensor
from graphc.ir.opdef import shape_error
from graphc.nn.losses import floats, reduced
from graphc.ops import elementwise, elementwise_math, logical
from graphc.ops.axes import Axes, normalize_axes
from graphc.ops.elementwise_math import sigmoid, softplus
from graphc.ops.promotion import TensorLike, as_tensor, cast
from graphc.ops.reduction import SUM, as_float
from graphc.ops.view import broadcast_arrays

add, multiply, subtract = elementwise.add, elementwise.multiply, elementwise.subtract
where = elementwise.where


def poisson_nll(
    prediction: TensorLike,
    target: TensorLike,
    *,
    log_input: bool = True,
    full: bool = False,
    epsilon: float = 1e-8,
    reduction: str = "none",
) -> Tensor:
    """rate - target * log(rate), up to terms of the target alone.

    log_input: the prediction is log(rate), else the rate, whose logarithm is taken after adding
    epsilon. full: adds Stirling's approximation of log(target!) for targets above 1.
    """
    x, y = floats("poisson_nll", prediction, target)
    if log_input:
        loss = subtract(elementwise_math.exp(x), multiply(y, x))
    else:
        loss = subtract(x, multiply(y, elementwise_math.log(x + epsilon)))
    if full:
        many = where(logical.greater(y, 1), y, 1.0)
        stirling = multiply(many, elementwise_math.log(many) - 1.0)
        stirling = stirling + 0.5 * elementwise_math.log((2 * math.pi) * many)
        loss = add(loss, where(logical.greater(y, 1), stirling, 0.0))
    return reduced("poisson_nll", loss, reduction)


def gaussian_nll(
    prediction: TensorLike,
    target: TensorLike,
    variance: TensorLike,
    *,
    full: bool = False,
    epsilon: float = 1e-6,
    reduction: str = "none",
) -> Tensor:
    """(log(variance) + (prediction - target)**2 / variance) / 2, all broadcast.

    variance: positive; what is below epsilon counts as epsilon, and no gradient flows to it then.
    full: adds log(2 pi) / 2.
    """
    x, y, v = floats("gaussian_nll", prediction, target, variance)
    spread = where(logical.less(v, epsilon), epsilon, v)
    distance = elementwise_math.square(subtract(x, y))
    loss = 0.5 * add(elementwise_math.log(spread), elementwise.divide(distance, spread))
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return reduced("gaussian_nll", loss, reduction)


def _targets(op: str, logits: TensorLike, labels: TensorLike) -> tuple[Tensor, Tensor]:
    x = as_float(op, logits)
    given = as_tensor(labels, op=op)
    a, b = floats(op, x, given if given.dtype.is_float else cast(given, x.dtype))
    return a, b


def sigmoid_focal(
    logits: TensorLike,
    labels: TensorLike,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "none",
) -> Tensor:
    """(1 - p_t)**gamma times the binary cross entropy, elementwise, p_t the probability of the
    label: what is classified well counts little (Lin et al., 2017).

    labels: 0 and 1, probabilities or bool. alpha: the weight of label 1, 1 - alpha that of label 0;
    None for none. gamma: at least 0; 0 is plain cross entropy. Raises ShapeError otherwise.
    """
    x, y = _targets("sigmoid_focal", logits, labels)
    if gamma < 0:
        hint = "0 is plain cross entropy, 2 is common"
        shape_error(f"sigmoid_focal: gamma must not be negative, got {gamma}", [x, y], hint)
    other = subtract(1.0, y)
    entropy = add(multiply(y, softplus(elementwise.negative(x))), multiply(other, softplus(x)))
    # 1 - p_t = y * (1 - p) + (1 - y) * p, each without cancellation.
    missed = add(multiply(y, sigmoid(elementwise.negative(x))), multiply(other, sigmoid(x)))
    loss = multiply(entropy, elementwise_math.pow(missed, float(gamma))) if gamma else entropy
    if alpha is not None:
        loss = multiply(loss, y * alpha + other * (1.0 - alpha))
    return reduced("sigmoid_focal", loss, reduction)


def dice(
    probabilities: TensorLike,
    labels: TensorLike,
    *,
    axis: Axes = None,
    smooth: float = 1.0,
    reduction: str = "none",
) -> Tensor:
    """1 - (2 * sum(p * labels) + smooth) / (sum(p) + sum(labels) + smooth), sums over `axis`: one
    minus twice the overlap of two masks in the share of both (Milletari, Navab and Ahmadi, 2016).

    axis: by default all but the first dim, which gives one value per example. smooth: keeps empty
    masks from 0 / 0.
    """
    p, y = _targets("dice", probabilities, labels)
    p, y = broadcast_arrays(p, y)
    axes = tuple(range(1, p.ndim)) if axis is None else normalize_axes("dice", p, axis)
    overlap, ours, theirs = (
        SUM(t, axes=tuple(sorted(axes)), keepdims=False) for t in (multiply(p, y), p, y)
    )
    share = elementwise.divide(2.0 * overlap + smooth, add(ours, theirs) + smooth)
    return reduced("dice", 1.0 - share, reduction)


__all__ = ["dice", "gaussian_nll", "poisson_nll", "sigmoid_focal"]
