"""Connectionist temporal classification (floor 8): labels without an alignment (Graves et al.,
2006).

The probability of a labelling is the sum over all paths of classes, one per time, that give it when
repetitions are merged and blanks are dropped. The forward variables of that sum run through a
`scan` as logarithms; the backward pass is its gradient. "Impossible" is a large negative number,
not -inf: sums and gradients stay finite.
"""

from __future__ import annotations

import math

from graphc.base.dims import Size, shape_text
from graphc.base.dtypes import int64
from graphc.control_flow import scan
from graphc.ir.node import Tensor
from graphc.ir.opdef import dtype_error, shape_error
from graphc.nn.losses import REDUCTIONS, reduced
from graphc.ops import elementwise, logical
from graphc.ops.creation import filled, iota
from graphc.ops.elementwise_math import logaddexp
from graphc.ops.indexing import take_along_axis
from graphc.ops.joining import concat, padded, stack
from graphc.ops.promotion import TensorLike, as_tensor, cast
from graphc.ops.reduction import SUM, argmax, as_float
from graphc.ops.reduction import mean as mean_
from graphc.ops.reshape import expand_dims, squeeze, to_shape
from graphc.ops.sorting import argsort
from graphc.ops.view import broadcasted, permute_dims

add, where = elementwise.add, elementwise.where
IMPOSSIBLE = -1e30


def _lengths(op: str, what: str, given: TensorLike, batch: Size, x: Tensor) -> Tensor:
    lengths = as_tensor(given, op=op)
    if lengths.shape != (batch,) or not lengths.dtype.is_integer:
        dtype_error(
            f"{op}: {what} must be integers of shape {shape_text((batch,))}, got {lengths.type}",
            [x, lengths],
            "there is one length per example",
        )
    return cast(lengths, int64)


def _operands(
    op: str, log_probabilities: TensorLike, input_lengths: TensorLike | None
) -> tuple[Tensor, Tensor]:
    x = as_float(op, log_probabilities)
    if x.ndim != 3:
        hint = "log_probabilities is (time, batch, classes), as graphc.nn.log_softmax gives it"
        shape_error(f"{op}: needs 3 dims, got {x.type}", [x], hint)
    if input_lengths is None:
        return x, broadcasted(as_tensor(x.shape[0], like=int64), (x.shape[1],))
    return x, _lengths(op, "input_lengths", input_lengths, x.shape[1], x)


def ctc_loss(
    log_probabilities: TensorLike,
    labels: TensorLike,
    input_lengths: TensorLike | None = None,
    label_lengths: TensorLike | None = None,
    *,
    blank: int = 0,
    zero_infinity: bool = False,
    reduction: str = "none",
) -> Tensor:
    """-log of the probability of each labelling: (batch,).

    log_probabilities: (time, batch, classes), normalized, as log_softmax gives them. labels:
    (batch, longest), integers, of which the first label_lengths count (all by default); what is
    behind them may be anything. input_lengths: how many times of each example count, all by
    default. blank: the class that stands for no label. A labelling that does not fit into its time
    has an infinite loss (zero_infinity: 0) and no gradient. reduction "mean" divides each loss by
    its number of labels (at least 1) before the mean over the batch. Any size may be symbolic. A
    label out of bounds raises ExecutionError at the call. Raises ShapeError, DTypeError where
    operands do not fit.
    """
    name = "ctc_loss"
    x, times = _operands(name, log_probabilities, input_lengths)
    batch, classes = x.shape[1], x.shape[2]
    targets = as_tensor(labels, op=name)
    if not targets.dtype.is_integer or targets.ndim != 2 or targets.shape[0] != batch:
        dtype_error(
            f"{name}: labels must be integers of shape [{batch}, longest], got {targets.type}",
            [x, targets],
            "pad the labels of the batch to one length, and give their own as label_lengths",
        )
    if blank < 0 or (isinstance(classes, int) and blank >= classes):
        hint = "blank is one of the classes"
        shape_error(f"{name}: blank {blank} is not one of {classes} classes", [x], hint)
    longest = targets.shape[1]
    if label_lengths is None:
        counts = broadcasted(as_tensor(longest, like=int64), (batch,))
    else:
        counts = _lengths(name, "label_lengths", label_lengths, batch, targets)
    states = _states(cast(targets, int64), counts, blank)
    total = _forward(cast(x, x.dtype.compute), states, times, blank)
    likelihood = _finished(total, counts)
    # Every term of an impossible labelling holds the large number at least once.
    found = logical.greater(likelihood, IMPOSSIBLE / 2)
    otherwise = 0.0 if zero_infinity else math.inf
    loss = cast(where(found, elementwise.negative(likelihood), otherwise), x.dtype)
    if reduction != "mean" or reduction not in REDUCTIONS:
        return reduced(name, loss, reduction)
    share = cast(elementwise.maximum(counts, 1), loss.dtype)
    return mean_(elementwise.divide(loss, share))


def _states(targets: Tensor, counts: Tensor, blank: int) -> Tensor:
    """Labels with blanks between, before and behind them: (batch, 2 * longest + 1)."""
    batch, longest = targets.shape
    real = logical.less(iota((longest,)), expand_dims(counts, axis=-1))
    kept = where(real, targets, blank)
    pairs = stack([filled(blank, targets.shape, int64), kept], axis=-1)
    line = to_shape(pairs, (batch, 2 * longest))
    return concat([line, filled(blank, (batch, 1), int64)], axis=1)


def _forward(x: Tensor, states: Tensor, times: Tensor, blank: int) -> Tensor:
    """log of the sum over paths that end in each state, after each example's last time."""
    time = x.shape[0]
    emitted = take_along_axis(x, broadcasted(states, (time, *states.shape)), axis=2)
    before = padded(states, (0, 2), (0, -2), value=blank)
    # From label to label, past the blank between them, unless they are equal.
    skips = logical.bitwise_and(logical.not_equal(states, blank), logical.not_equal(states, before))

    def later(a: Tensor, places: int) -> Tensor:
        return padded(a, (0, places), (0, -places), value=IMPOSSIBLE)

    def turn(a: Tensor, items: tuple[Tensor, Tensor]) -> tuple[Tensor, None]:
        emission, t = items
        skipped = where(skips, later(a, 2), IMPOSSIBLE)
        following = add(logaddexp(logaddexp(a, later(a, 1)), skipped), emission)
        return where(expand_dims(logical.less(t, times), axis=-1), following, a), None

    place = iota(states.shape, 1)
    start = where(logical.equal(place, 0), filled(0, (), x.dtype), IMPOSSIBLE)
    last: Tensor = scan(turn, start, (emitted, iota((time,))))[0]
    return last


def _finished(total: Tensor, counts: Tensor) -> Tensor:
    """Paths may end in the last label or in the blank behind it."""
    end = expand_dims(2 * counts, axis=-1)
    blank = squeeze(take_along_axis(total, end, axis=1), 1)
    label = squeeze(take_along_axis(total, elementwise.maximum(end - 1, 0), axis=1), 1)
    return logaddexp(blank, where(logical.greater(counts, 0), label, IMPOSSIBLE))


def ctc_greedy_decode(
    log_probabilities: TensorLike,
    input_lengths: TensorLike | None = None,
    *,
    blank: int = 0,
    padding: int = -1,
) -> tuple[Tensor, Tensor]:
    """The labelling of the most probable path: labels (batch, time), `padding` behind the last one,
    and their numbers (batch,), int64.

    Operands as of `ctc_loss`. Of equal scores the first class counts.
    """
    name = "ctc_greedy_decode"
    x, times = _operands(name, log_probabilities, input_lengths)
    best = permute_dims(argmax(x, axis=2), (1, 0))
    before = padded(best, (0, 1), (0, -1), value=-1)
    inside = logical.less(iota((x.shape[0],)), expand_dims(times, axis=-1))
    kept = logical.bitwise_and(
        logical.bitwise_and(logical.not_equal(best, blank), logical.not_equal(best, before)),
        inside,
    )
    # A stable sort brings what is kept to the front, in its order.
    order = argsort(cast(logical.logical_not(kept), int64), axis=1)
    counts = SUM(cast(kept, int64), axes=(1,), keepdims=False)
    found = take_along_axis(best, order, axis=1)
    real = logical.less(iota((x.shape[0],)), expand_dims(counts, axis=-1))
    return where(real, found, padding), counts


__all__ = ["ctc_greedy_decode", "ctc_loss"]
