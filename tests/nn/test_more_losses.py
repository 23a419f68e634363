"""Weighted, margin and likelihood losses, distances: formulas in NumPy, gradients, extremes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn
from tests.nn.evaluation import check_gradients, evaluate, gradients

RNG = np.random.default_rng(14)
A, B = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))
SIGNS = np.where(RNG.random((4, 3)) < 0.5, -1.0, 1.0)
LABELS = np.array([2, 0, 1, 2])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def positive(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


FORMULAS: dict[str, tuple[Callable[..., graphc.Tensor], Callable[..., np.ndarray]]] = {
    "smooth_l1": (
        lambda a, b: nn.smooth_l1(a, b, beta=0.5),
        lambda a, b: np.where(abs(a - b) < 0.5, (a - b) ** 2, abs(a - b) - 0.25),
    ),
    "log_cosh": (nn.log_cosh, lambda a, b: np.log(np.cosh(a - b))),
    "binary_cross_entropy": (
        lambda a, b: nn.binary_cross_entropy(nn.sigmoid(a), nn.sigmoid(b)),
        lambda a, b: -sigmoid(b) * np.log(sigmoid(a)) - sigmoid(-b) * np.log(sigmoid(-a)),
    ),
    "poisson_nll": (nn.poisson_nll, lambda a, b: np.exp(a) - b * a),
    "gaussian_nll": (
        lambda a, b: nn.gaussian_nll(a, b, a * a + 1),
        lambda a, b: 0.5 * (np.log(a * a + 1) + (a - b) ** 2 / (a * a + 1)),
    ),
    "sigmoid_focal": (
        lambda a, b: nn.sigmoid_focal(a, SIGNS > 0, alpha=0.3, gamma=1.5),
        lambda a, b: (
            np.where(SIGNS > 0, 0.3, 0.7)
            * (1 - sigmoid(SIGNS * a)) ** 1.5
            * -np.log(sigmoid(SIGNS * a))
        ),
    ),
    "dice": (
        lambda a, b: nn.dice(nn.sigmoid(a), nn.sigmoid(b)),
        lambda a, b: (
            1
            - (2 * (sigmoid(a) * sigmoid(b)).sum(1) + 1)
            / (sigmoid(a).sum(1) + sigmoid(b).sum(1) + 1)
        ),
    ),
    "squared_hinge": (
        lambda a, b: nn.squared_hinge(a, SIGNS),
        lambda a, b: positive(1 - SIGNS * a) ** 2,
    ),
    "soft_margin": (
        lambda a, b: nn.soft_margin(a, SIGNS),
        lambda a, b: np.log(1 + np.exp(-SIGNS * a)),
    ),
    "hinge_embedding": (
        lambda a, b: nn.hinge_embedding(a, SIGNS, margin=0.8),
        lambda a, b: np.where(SIGNS > 0, a, positive(0.8 - a)),
    ),
    "margin_ranking": (
        lambda a, b: nn.margin_ranking(a, b, SIGNS, margin=0.1),
        lambda a, b: positive(0.1 - SIGNS * (a - b)),
    ),
    "triplet_margin": (
        lambda a, b: nn.triplet_margin(a, b, a * 0.3, margin=0.5),
        lambda a, b: positive(
            np.linalg.norm(a - b + 1e-6, axis=1) - np.linalg.norm(a * 0.7 + 1e-6, axis=1) + 0.5
        ),
    ),
    "multi_margin": (
        lambda a, b: nn.multi_margin(a, LABELS),
        lambda a, b: (
            (
                positive(1 + a - np.take_along_axis(a, LABELS[:, None], 1))
                * (np.arange(3) != LABELS[:, None])
            ).sum(1)
            / 3
        ),
    ),
    "multilabel_soft_margin": (
        lambda a, b: nn.multilabel_soft_margin(a, SIGNS > 0),
        lambda a, b: -np.log(sigmoid(SIGNS * a)).mean(1),
    ),
    "pairwise_distance": (
        lambda a, b: nn.pairwise_distance(a, b, p=3.0),
        lambda a, b: (abs(a - b + 1e-6) ** 3).sum(1) ** (1 / 3),
    ),
    "cdist": (
        nn.cdist,
        lambda a, b: np.linalg.norm(a[:, None] - b[None], axis=-1),
    ),
    "cosine_embedding": (
        lambda a, b: nn.cosine_embedding(a, b, SIGNS[:, 0], margin=0.1),
        lambda a, b: np.where(SIGNS[:, 0] > 0, 1 - cosine(a, b), positive(cosine(a, b) - 0.1)),
    ),
}


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("name", FORMULAS)
def test_loss(name: str) -> None:
    ours, formula = FORMULAS[name]
    np.testing.assert_allclose(evaluate(ours, A, B), formula(A, B), rtol=1e-9)
    check_gradients(ours, A, B)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_class_weights_and_ignored_labels(smoothing: float) -> None:
    weights = np.array([0.5, 2.0, 1.0])
    labels = np.array([2, -100, 1, 0])
    logs = A - np.log(np.exp(A).sum(1, keepdims=True))
    soft = np.eye(3)[np.maximum(labels, 0)] * (1 - smoothing) + smoothing / 3
    each = -(soft * weights * logs).sum(1) * (labels >= 0)

    def loss(x: Any, how: str = "none") -> graphc.Tensor:
        return nn.softmax_cross_entropy(
            x,
            labels,
            label_smoothing=smoothing,
            class_weights=weights,
            ignore_index=-100,
            reduction=how,
        )

    np.testing.assert_allclose(evaluate(loss, A), each)
    mean = each.sum() / weights[labels[labels >= 0]].sum()
    np.testing.assert_allclose(evaluate(lambda x: loss(x, "mean"), A), mean)
    check_gradients(loss, A)
    (g,) = gradients(loss, A)
    np.testing.assert_array_equal(g[1], 0)


def test_ignored_labels_alone_divide_by_their_count() -> None:
    labels = np.array([2, 7, 1, 7])
    each = evaluate(lambda x: nn.nll(x, np.array([2, 0, 1, 0])), A)
    found = evaluate(lambda x: nn.nll(x, labels, ignore_index=7, reduction="mean"), A)
    np.testing.assert_allclose(found, (each[0] + each[2]) / 2)
    with pytest.raises(graphc.ShapeError, match=r"class_weights must have shape \[3\]"):
        nn.nll(A, labels, class_weights=np.ones(4))
    with pytest.raises(graphc.DTypeError, match="ignore_index is for integer labels"):
        nn.softmax_cross_entropy(A, abs(B), ignore_index=0)


def test_extremes_are_finite() -> None:
    far = np.array([1e4, -1e4, 0.0, 800.0])
    one = np.array([1.0, 0.0, 1.0, 0.0])
    for loss in (
        lambda a, b: nn.sigmoid_focal(a, b),
        lambda a, b: nn.log_cosh(a, b),
        lambda a, b: nn.soft_margin(a, 2 * b - 1),
        lambda a, b: nn.binary_cross_entropy(nn.sigmoid(a), b),
        lambda a, b: nn.multilabel_soft_margin(a, b),
    ):
        value = evaluate(loss, far, one)
        assert np.all(np.isfinite(value)), value
        assert all(np.all(np.isfinite(g)) for g in gradients(loss, far, one))
    zeros = np.zeros((2, 3))
    for p in (1.0, 1.5, 2.0, 4.0, math.inf):
        distance = lambda a, b: nn.pairwise_distance(a, b, p=p, epsilon=0)  # noqa: B023, E731  # called at once
        np.testing.assert_array_equal(evaluate(distance, zeros, zeros), 0)
        assert all(np.all(np.isfinite(g)) for g in gradients(distance, zeros, zeros))


def test_what_is_refused() -> None:
    with pytest.raises(graphc.ShapeError, match="p must be positive"):
        nn.cdist(A, B, p=0)
    with pytest.raises(graphc.ShapeError, match="rows of"):
        nn.cdist(A, B[:, :2])
    with pytest.raises(graphc.DTypeError, match="multi_margin: labels must be integers"):
        nn.multi_margin(A, A[:, 0])
    with pytest.raises(graphc.ShapeError, match="beta must not be negative"):
        nn.smooth_l1(A, B, beta=-1)
    with pytest.raises(graphc.ShapeError, match="gamma must not be negative"):
        nn.sigmoid_focal(A, B, gamma=-1)
