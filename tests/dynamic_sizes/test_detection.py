"""Non-maximum suppression against a plain loop, and the cases of the operator's definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc

RANDOM = np.random.default_rng(2)


def plain(
    boxes: Any, scores: Any, limit: int, threshold: float, least: float | None, center: bool
) -> Any:
    """The rows, box by box, in float32."""
    found = []
    for batch in range(scores.shape[0]):
        for kind in range(scores.shape[1]):
            kept: list[int] = []
            for i in np.argsort(-scores[batch, kind], kind="stable"):
                if least is not None and scores[batch, kind, i] <= least:
                    continue
                if len(kept) < limit and all(
                    _union(boxes[batch, i], boxes[batch, j], center) <= threshold for j in kept
                ):
                    kept.append(int(i))
            found += [(batch, kind, i) for i in kept]
    return np.array(found, np.int64).reshape(-1, 3)


def _union(a: Any, b: Any, center: bool) -> float:
    def corners(v: Any) -> Any:
        if center:
            x, y, w, h = v
            return y - h / 2, x - w / 2, y + h / 2, x + w / 2
        return min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3])

    (t, f, d, r), (u, m, e, s) = corners(a), corners(b)
    common = max(min(d, e) - max(t, u), np.float32(0)) * max(min(r, s) - max(f, m), np.float32(0))
    first, second = (d - t) * (r - f), (e - u) * (s - m)
    union = first + second - common
    return float(common / union) if first > 0 and second > 0 and union > 0 else 0.0


@pytest.mark.parametrize("center", [False, True])
def test_random_boxes(center: bool) -> None:
    boxes = graphc.placeholder(("b", "n", 4), name="boxes")
    scores = graphc.placeholder(("b", 3, "n"), name="scores")
    limit = graphc.placeholder((), "int64", name="limit")
    chosen = graphc.nn.non_max_suppression(boxes, scores, limit, 0.4, 0.25, center_point_box=center)
    with graphc.Session(threads=2) as session:
        function = session.function([boxes, scores, limit], chosen)
        for b, n, most in ((1, 1, 3), (2, 40, 9), (0, 5, 2), (2, 0, 2), (1, 300, 1000), (2, 30, 0)):
            fed = (RANDOM.uniform(0, 3, (b, n, 4)) + [0, 0, 1, 1]).astype(np.float32)
            values = RANDOM.uniform(size=(b, 3, n)).round(2).astype(np.float32)
            found = function(fed, values, most)
            expected = plain(fed, values, most, 0.4, 0.25, center)
            np.testing.assert_array_equal(found, expected)
            reference = function.graph.evaluate(
                {"boxes": fed, "scores": values, "limit": np.int64(most)}
            )
            np.testing.assert_array_equal(reference["output"], expected)


def test_identical_flipped_and_degenerate_boxes() -> None:
    box = np.array([[0, 0, 1, 1]] * 3 + [[1, 1, 0, 0], [2, 2, 2, 5]], np.float32)[None]
    scores = np.array([[[0.9, 0.9, 0.8, 0.95, 0.1]]], np.float32)
    chosen = graphc.nn.non_max_suppression(box, scores, 9, 0.5)
    np.testing.assert_array_equal(chosen.eval(), [[0, 0, 3], [0, 0, 4]])
    everything = graphc.nn.non_max_suppression(box, scores, 9, 1.0)
    np.testing.assert_array_equal(everything.eval()[:, 2], [3, 0, 1, 2, 4])


def test_wrong_operands() -> None:
    boxes, scores = np.zeros((1, 5, 4), np.float32), np.zeros((1, 2, 5), np.float32)
    with pytest.raises(graphc.ShapeError, match="boxes \\(batch, n, 4\\)"):
        graphc.nn.non_max_suppression(boxes[0], scores, 1)
    with pytest.raises(graphc.ShapeError, match="add a dim"):
        graphc.nn.non_max_suppression(boxes, scores[:, :, :4], 1)
    with pytest.raises(graphc.DTypeError, match="one integer"):
        graphc.nn.non_max_suppression(boxes, scores, 1.5)
    with pytest.raises(graphc.DTypeError, match="boxes are floats"):
        graphc.nn.non_max_suppression(boxes.astype(int), scores.astype(int), 1)
