"""Choosing boxes (for users): non-maximum suppression, with as many results as the graph finds."""

from __future__ import annotations

from graphc.base.dtypes import int64
from graphc.ir.node import Tensor
from graphc.ir.opdef import dtype_error, shape_error
from graphc.ops.detection import NON_MAX_SUPPRESSION
from graphc.ops.indexing import getitem, take_along_axis
from graphc.ops.joining import stack
from graphc.ops.promotion import TensorLike, as_tensor, cast, promoted
from graphc.ops.reshape import expand_dims
from graphc.ops.selection import mask_indices
from graphc.ops.sorting import argsort
from graphc.ops.view import broadcasted


def non_max_suppression(
    boxes: TensorLike,
    scores: TensorLike,
    max_output_boxes_per_class: TensorLike,
    iou_threshold: TensorLike = 0.0,
    score_threshold: TensorLike | None = None,
    *,
    center_point_box: bool = False,
) -> Tensor:
    """The boxes that stay when overlapping ones of lower score are left out, for each class.

    boxes: (batch, n, 4), two opposite corners y1, x1, y2, x2, or with center_point_box the center,
    width and height: x, y, width, height. scores: (batch, classes, n). At most
    max_output_boxes_per_class are kept per batch element and class, with scores above
    score_threshold (None: any), the best first; a box goes whose intersection with a better one is
    more than iou_threshold of their union.

    Returns int64 rows (batch, class, box) of shape (count, 3) in the order of batch, class and
    falling score; count is a dim that the graph computes. Raises ShapeError and DTypeError for
    operands that do not fit.

        chosen = graphc.nn.non_max_suppression(boxes, scores, 100, 0.5, 0.05)
    """
    box, score = promoted("non_max_suppression", boxes, scores)
    if not box.dtype.is_float:
        dtype_error(f"non_max_suppression: boxes are floats, got {box.dtype}", [box])
    if box.ndim != 3 or score.ndim != 3 or box.shape != (score.shape[0], score.shape[2], 4):
        shape_error(
            f"non_max_suppression: expected boxes (batch, n, 4) and scores (batch, classes, n), "
            f"got {box.type} and {score.type}",
            [box, score],
            "add a dim of size 1 for one image: boxes[None]",
        )
    limit = as_tensor(max_output_boxes_per_class, like=int64, op="non_max_suppression")
    if limit.ndim or not limit.dtype.is_integer:
        dtype_error(
            f"non_max_suppression: max_output_boxes_per_class is one integer, got {limit.type}",
            [limit],
        )
    threshold = cast(as_tensor(iou_threshold, like=box, op="non_max_suppression"), box.dtype)
    order = argsort(score, axis=2, descending=True)
    best = take_along_axis(score, order, axis=2)
    true = as_tensor(True)
    least = None if score_threshold is None else as_tensor(score_threshold, like=score)
    candidates = broadcasted(true, best.shape) if least is None else best > cast(least, best.dtype)
    if center_point_box:
        box = _corners(box)
    sorted_boxes = take_along_axis(expand_dims(box, axis=1), expand_dims(order, axis=3), axis=2)
    kept = NON_MAX_SUPPRESSION(sorted_boxes, candidates, cast(limit, int64), threshold)
    batch, kind, rank = mask_indices(kept)
    return stack([batch, kind, getitem(order, (batch, kind, rank))], axis=1)


def _corners(box: Tensor) -> Tensor:
    """Center x, y, width, height as corners y1, x1, y2, x2."""
    x, y, width, height = (box[..., k] for k in range(4))
    half_width, half_height = width / 2, height / 2
    parts = [y - half_height, x - half_width, y + half_height, x + half_width]
    return stack(parts, axis=2)
