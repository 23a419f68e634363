"""Non-maximum suppression (floor 2): which of overlapping boxes to keep, the best ones first.

Greedy, as detectors define it: a box is kept unless it overlaps a kept one by more than a
threshold. What is decided for one box decides the next, so a line of boxes is one serial loop over
the boxes kept so far; lines run in parallel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dims import product
from graphc.base.dtypes import FLOAT, Array, DType, bool_, int64
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, shape_error
from graphc.ops.families import Opaque
from graphc.ops.sampling import draw


def _type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    boxes, candidates, limit, threshold = inputs
    assert isinstance(boxes, Tensor)
    assert isinstance(candidates, Tensor)
    if boxes.ndim < 2 or boxes.shape[-1] != 4 or candidates.shape != boxes.shape[:-1]:
        shape_error(
            f"non_max_suppression: expected boxes of shape (…, n, 4) and candidates (…, n), got "
            f"{boxes.type} and {candidates.type}",
            inputs,
        )
    if candidates.dtype is not bool_ or limit.type != TensorType((), int64):
        dtype_error("non_max_suppression: candidates are bool, the limit is i64[]", inputs)
    if threshold.type != TensorType((), boxes.dtype):
        dtype_error(f"non_max_suppression: the threshold is {boxes.dtype.short}[]", inputs)
    return TensorType(candidates.shape, bool_)


def _corners(values: Array) -> tuple[Array, Array, Array, Array]:
    y1, x1, y2, x2 = values
    return np.minimum(y1, y2), np.minimum(x1, x2), np.maximum(y1, y2), np.maximum(x1, x2)


def _overlap(a: Array, b: Array, threshold: Any) -> bool:
    """Whether the intersection of two boxes is more than `threshold` of their union."""
    top, left, bottom, right = _corners(a)
    up, west, down, east = _corners(b)
    zero = a.dtype.type(0)
    height = np.maximum(np.minimum(bottom, down) - np.maximum(top, up), zero)
    width = np.maximum(np.minimum(right, east) - np.maximum(left, west), zero)
    common = height * width
    first, second = (bottom - top) * (right - left), (down - up) * (east - west)
    union = first + second - common
    return bool(first > 0 and second > 0 and union > 0 and common / union > threshold)


def _reference(boxes: Array, candidates: Array, limit: Array, threshold: Array) -> Array:
    keep = np.zeros(candidates.shape, bool)
    for line in np.ndindex(candidates.shape[:-1]):
        kept: list[int] = []
        for i in np.flatnonzero(candidates[line]):
            box = boxes[line][i]
            if len(kept) < limit and not any(
                _overlap(box, boxes[line][j], threshold) for j in kept
            ):
                kept.append(int(i))
                keep[(*line, i)] = True
    return keep


class _Box:
    """One box as values of a kernel: corners in order, and the area."""

    def __init__(self, b: Any, place: tuple[Any, ...], dtype: DType) -> None:
        def corner(k: int) -> Any:
            return b.cast(b.load(0, (*place, b.size(k))), dtype)

        y1, x1, y2, x2 = map(corner, range(4))
        self.top, self.bottom = b.minimum(y1, y2), b.maximum(y1, y2)
        self.left, self.right = b.minimum(x1, x2), b.maximum(x1, x2)
        self.area = b.mul(b.sub(self.bottom, self.top), b.sub(self.right, self.left))

    def overlaps(self, b: Any, other: _Box, threshold: Any, zero: Any) -> Any:
        height = b.sub(b.minimum(self.bottom, other.bottom), b.maximum(self.top, other.top))
        width = b.sub(b.minimum(self.right, other.right), b.maximum(self.left, other.left))
        common = b.mul(b.maximum(height, zero), b.maximum(width, zero))
        union = b.sub(b.add(self.area, other.area), common)
        real = b.bit_and(b.gt(self.area, zero), b.gt(other.area, zero))
        real = b.bit_and(real, b.gt(union, zero))
        return b.bit_and(real, b.gt(b.div(common, union), threshold))


def _lower(b: Any, node: Tensor) -> None:
    dtype = node.inputs[0].dtype.compute
    size = node.shape[-1]

    def line(index: tuple[Any, ...]) -> None:
        kept, count = b.local((size,), int64), b.local((), int64)
        free = b.local((), bool_)
        limit = b.load(2, ())
        threshold, zero = b.cast(b.load(3, ()), dtype), b.constant(0.0, dtype)
        b.put(count, b.size(0))

        def visit(i: Any) -> None:
            found = b.get(count)
            wanted = b.bit_and(b.load(1, (*index, i)), b.lt(found, limit))
            b.put(free, wanted)

            def decide() -> None:
                box = _Box(b, (*index, i), dtype)

                def compare(k: Any) -> None:
                    other = _Box(b, (*index, b.get(kept, (k,))), dtype)
                    over = box.overlaps(b, other, threshold, zero)
                    b.put(free, b.bit_and(b.get(free), b.bit_not(over)))

                b.loop(found, compare)

                def keep() -> None:
                    b.put(kept, i, (found,))
                    b.put(count, b.add(found, b.size(1)))

                b.when(b.get(free), keep)

            b.when(wanted, decide)
            b.store((*index, i), b.get(free))

        b.loop(size, visit)

    b.parallel(node.shape[:-1], line)


def _samples(dtype: DType) -> list[Sample]:
    rng = np.random.default_rng(3)
    found = []
    for shape, limit, threshold in (
        ((7,), 5, 0.3),
        ((2, 40), 12, 0.5),
        ((2, 3, 9), 9, 0.0),
        ((3, 0), 2, 0.5),
        ((1,), 0, 0.5),
    ):
        boxes = draw((*shape, 4), dtype, low=0.0, high=4.0)
        candidates = rng.random(shape) < 0.8
        limits = np.asarray(limit, np.int64), np.asarray(threshold, dtype.numpy)
        found.append(Sample((boxes, candidates, *limits)))
    return found


NON_MAX_SUPPRESSION = REGISTRY.add(
    OpDef(
        "non_max_suppression",
        (),
        _type,
        _reference,
        None,
        Opaque(_lower, work=lambda node: product(node.shape) * 64),
        doc="Which of the candidate boxes, the best first, overlap no box kept before by more than "
        "a threshold.",
        samples=_samples,
        dtypes=FLOAT,
    )
)
