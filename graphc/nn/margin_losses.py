"""Losses with margins (floor 8): hinges on scores, rankings, and distances of embeddings.

`reduction` is "none" (default), "mean" or "sum", as in `graphc.nn.losses`. Signs in `labels` are
-1 and 1.
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.base.dims import shape_text
from graphc.ir.node import Tensor
from graphc.ir.opdef import dtype_error, shape_error
from graphc.nn.distances import cosine_similarity, pairwise_distance
from graphc.nn.losses import floats, reduced
from graphc.ops import elementwise, logical
from graphc.ops.creation import iota
from graphc.ops.elementwise_math import softplus
from graphc.ops.indexing import take, take_along_axis
from graphc.ops.promotion import TensorLike, as_tensor, cast
from graphc.ops.reduction import as_float
from graphc.ops.reduction import mean as mean_
from graphc.ops.reshape import expand_dims

multiply, subtract, where = elementwise.multiply, elementwise.subtract, elementwise.where


def _positive(x: Tensor) -> Tensor:
    """max(x, 0), with gradient 0 at 0."""
    return where(logical.greater(x, 0), x, 0.0)


def hinge(
    scores: TensorLike, labels: TensorLike, *, margin: float = 1.0, reduction: str = "none"
) -> Tensor:
    """max(0, margin - labels * scores), with labels -1 and 1."""
    a, b = floats("hinge", scores, labels)
    return reduced("hinge", _positive(margin - multiply(a, b)), reduction)


def squared_hinge(
    scores: TensorLike, labels: TensorLike, *, margin: float = 1.0, reduction: str = "none"
) -> Tensor:
    """max(0, margin - labels * scores)**2, with labels -1 and 1."""
    a, b = floats("squared_hinge", scores, labels)
    short = _positive(margin - multiply(a, b))
    return reduced("squared_hinge", multiply(short, short), reduction)


def soft_margin(scores: TensorLike, labels: TensorLike, *, reduction: str = "none") -> Tensor:
    """log(1 + exp(-labels * scores)), with labels -1 and 1."""
    a, b = floats("soft_margin", scores, labels)
    return reduced("soft_margin", softplus(elementwise.negative(multiply(a, b))), reduction)


def hinge_embedding(
    distances: TensorLike, labels: TensorLike, *, margin: float = 1.0, reduction: str = "none"
) -> Tensor:
    """A distance where its label is 1 (alike), max(0, margin - distance) where it is -1."""
    a, b = floats("hinge_embedding", distances, labels)
    loss = where(logical.greater(b, 0), a, _positive(margin - a))
    return reduced("hinge_embedding", loss, reduction)


def margin_ranking(
    x1: TensorLike,
    x2: TensorLike,
    labels: TensorLike,
    *,
    margin: float = 0.0,
    reduction: str = "none",
) -> Tensor:
    """max(0, margin - labels * (x1 - x2)): label 1 where x1 should come out larger, -1 where x2."""
    a, b, y = floats("margin_ranking", x1, x2, labels)
    loss = _positive(margin - multiply(y, subtract(a, b)))
    return reduced("margin_ranking", loss, reduction)


def cosine_embedding(
    x1: TensorLike,
    x2: TensorLike,
    labels: TensorLike,
    *,
    margin: float = 0.0,
    axis: int = -1,
    reduction: str = "none",
) -> Tensor:
    """1 - cosine_similarity(x1, x2) where the label is 1, max(0, cosine_similarity - margin) where
    it is -1: one value per pair of vectors along `axis`.
    """
    a, b, y = floats("cosine_embedding", x1, x2, labels)
    cosine = cosine_similarity(a, b, axis=axis)
    loss = where(logical.greater(y, 0), 1.0 - cosine, _positive(cosine - margin))
    return reduced("cosine_embedding", loss, reduction)


Distance = Callable[[Tensor, Tensor], Tensor]


def triplet_margin(
    anchor: TensorLike,
    positive: TensorLike,
    negative: TensorLike,
    *,
    margin: float = 1.0,
    p: float = 2.0,
    swap: bool = False,
    distance: Distance | None = None,
    reduction: str = "none",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), one value per vector of the last
    axis.

    d: `pairwise_distance` with p, or a function of two tensors. swap: the smaller of the distances
    of anchor and of positive from negative counts (Balntas et al., 2016).
    """
    a, near, far = floats("triplet_margin", anchor, positive, negative)

    def apart(x: Tensor, y: Tensor) -> Tensor:
        return pairwise_distance(x, y, p=p) if distance is None else distance(x, y)

    away = apart(a, far)
    if swap:
        away = elementwise.minimum(away, apart(near, far))
    loss = _positive(subtract(apart(a, near), away) + margin)
    return reduced("triplet_margin", loss, reduction)


def multi_margin(
    scores: TensorLike,
    labels: TensorLike,
    *,
    p: int = 1,
    margin: float = 1.0,
    class_weights: TensorLike | None = None,
    reduction: str = "none",
) -> Tensor:
    """sum over the other classes of max(0, margin - scores[label] + score)**p, divided by the
    number of classes: scores (…, classes), labels (…) of integers.

    p: 1 or 2. class_weights: (classes,), of the label. Raises ShapeError, DTypeError where labels
    do not fit; a label out of bounds raises ExecutionError at the call.
    """
    name = "multi_margin"
    x, classes = as_float(name, scores), as_tensor(labels, op=name)
    if not classes.dtype.is_integer:
        hint = 'convert them: graphc.astype(labels, "int64")'
        dtype_error(f"{name}: labels must be integers, got {classes.dtype}", [x, classes], hint)
    if not x.ndim or classes.shape != x.shape[:-1]:
        shape_error(
            f"{name}: labels {classes.type} do not fit scores {x.type}",
            [x, classes],
            f"labels have the shape {shape_text(x.shape[:-1])}: one class per row of scores",
        )
    if p not in (1, 2):
        shape_error(f"{name}: p must be 1 or 2, got {p}", [x], "p is the power of each term")
    column = expand_dims(classes, axis=-1)
    own = take_along_axis(x, column, axis=-1)
    short = _positive(subtract(x, own) + margin)
    short = short if p == 1 else multiply(short, short)
    if class_weights is not None:
        weights = cast(as_tensor(class_weights, like=x, op=name), x.dtype)
        short = multiply(short, take(weights, column, axis=0))
    line = iota((x.shape[-1],), 0)
    others = where(logical.equal(column, cast(line, column.dtype)), 0.0, short)
    return reduced(name, mean_(others, axis=-1), reduction)


def multilabel_soft_margin(
    scores: TensorLike,
    labels: TensorLike,
    *,
    class_weights: TensorLike | None = None,
    reduction: str = "none",
) -> Tensor:
    """The mean over the last axis of binary cross entropies of sigmoid(scores), labels 0 and 1."""
    name = "multilabel_soft_margin"
    x = as_float(name, scores)
    given = as_tensor(labels, op=name)
    x, y = floats(name, x, given if given.dtype.is_float else cast(given, x.dtype))
    loss = elementwise.add(
        multiply(y, softplus(elementwise.negative(x))), multiply(1.0 - y, softplus(x))
    )
    if class_weights is not None:
        loss = multiply(loss, cast(as_tensor(class_weights, like=x, op=name), x.dtype))
    return reduced(name, mean_(loss, axis=-1), reduction)


__all__ = [
    "cosine_embedding",
    "hinge",
    "hinge_embedding",
    "margin_ranking",
    "multi_margin",
    "multilabel_soft_margin",
    "soft_margin",
    "squared_hinge",
    "triplet_margin",
]
