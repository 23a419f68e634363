"""Losses (floor 8): negative log likelihood and cross entropy of softmax."""

from __future__ import annotations

from graphc.base.dtypes import int64
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, op
from graphc.ops import elementwise, logical
from graphc.ops.indexing import take, take_along_axis
from graphc.ops.promotion import cast
from graphc.ops.reduction import mean
from graphc.ops.reduction import sum as total
from graphc.ops.reshape import expand_dims, squeeze
from graphc.ops.softmax import log_softmax

where = elementwise.where


def _reduced(c: Context, scores: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """-scores[n, target[n, …], …] times the class's weight, reduced as the attribute says."""
    if scores.ndim < 2 or target.shape != (scores.shape[0], *scores.shape[2:]):
        c.bad(f"operand 1 is {target.type}, expected the shape of {scores.type} without dim 1")
    reduction = c.attribute("reduction")
    ignored = c.attribute("ignore_index")
    target = cast(target, int64)
    kept: Tensor | None = None
    if ignored is not None:
        kept = logical.not_equal(target, ignored)
        target = where(kept, target, 0)
    picked = squeeze(take_along_axis(scores, expand_dims(target, 1), axis=1), axis=1)
    loss = elementwise.negative(picked)
    share: Tensor | None = None
    if weight is not None:
        share = take(cast(weight, loss.dtype), target, axis=0)
    if kept is not None:
        share = cast(kept, loss.dtype) if share is None else where(kept, share, 0.0)
    if share is not None:
        # An ignored element counts for nothing, even where its score is infinite.
        loss = elementwise.multiply(loss, share)
        loss = loss if kept is None else where(kept, loss, 0.0)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return total(loss)
    if reduction != "mean":
        c.bad(f"attribute reduction is {reduction!r:.40}, expected none, sum or mean")
    if share is None:
        return mean(loss)
    return elementwise.divide(total(loss), total(share))


@op("NegativeLogLikelihoodLoss")
def negative_log_likelihood_loss(c: Context) -> Tensor:
    """The loss of log probabilities."""
    return _reduced(c, c.tensor(0), c.tensor(1), c.optional(2))


@op("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy_loss(c: Context) -> list[Tensor]:
    """The loss of scores, and their log probabilities."""
    scores = log_softmax(c.tensor(0), axis=1)
    return [_reduced(c, scores, c.tensor(1), c.optional(2)), scores]
