"""Losses and distances of graphc.nn against torch.nn.functional: values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphc import nn
from tests.torch_compare.comparing import compare, draw, torch

REDUCTIONS = ["none", "mean", "sum"]
CLASSES = np.array([0, 6, 3, 3, 1])


def functional() -> Any:
    """torch.nn.functional."""
    return torch().nn.functional


def signs(*shape: int) -> np.ndarray:
    """-1 and 1."""
    return np.where(np.random.default_rng(1).random(shape) < 0.5, -1.0, 1.0)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignored", [None, 3])
def test_class_weights_and_ignored_labels(reduction: str, smoothing: float, ignored: Any) -> None:
    t, (logits,) = torch(), draw((5, 7))
    weights = np.linspace(0.2, 2.0, 7)
    theirs = {} if ignored is None else {"ignore_index": ignored}
    compare(
        lambda x: nn.softmax_cross_entropy(
            x,
            CLASSES,
            label_smoothing=smoothing,
            class_weights=weights,
            ignore_index=ignored,
            reduction=reduction,
        ),
        lambda x: functional().cross_entropy(
            x,
            t.tensor(CLASSES),
            weight=t.tensor(weights),
            label_smoothing=smoothing,
            reduction=reduction,
            **theirs,
        ),
        [logits],
    )
    if not smoothing:
        compare(
            lambda x: nn.nll(
                x, CLASSES, class_weights=weights, ignore_index=ignored, reduction=reduction
            ),
            lambda x: functional().nll_loss(
                x, t.tensor(CLASSES), weight=t.tensor(weights), reduction=reduction, **theirs
            ),
            [logits],
        )


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_soft_labels_with_class_weights(reduction: str) -> None:
    t, (logits, soft) = torch(), draw((4, 5, 3), (4, 5, 3))
    soft = np.exp(soft) / np.exp(soft).sum(1, keepdims=True)
    weights = np.linspace(0.2, 2.0, 5)
    compare(
        lambda x: nn.softmax_cross_entropy(
            x, soft, axis=1, class_weights=weights, label_smoothing=0.1, reduction=reduction
        ),
        lambda x: functional().cross_entropy(
            x,
            t.tensor(soft),
            weight=t.tensor(weights),
            label_smoothing=0.1,
            reduction=reduction,
        ),
        [logits],
    )


PAIRS: dict[str, tuple[Any, Any]] = {
    "smooth_l1": (nn.smooth_l1, lambda f, x, y, **k: f.smooth_l1_loss(x, y, **k)),
    "smooth_l1 0.3": (
        lambda x, y, **k: nn.smooth_l1(x, y, beta=0.3, **k),
        lambda f, x, y, **k: f.smooth_l1_loss(x, y, beta=0.3, **k),
    ),
    "smooth_l1 0": (
        lambda x, y, **k: nn.smooth_l1(x, y, beta=0, **k),
        lambda f, x, y, **k: f.smooth_l1_loss(x, y, beta=0.0, **k),
    ),
    "soft_margin": (
        lambda x, y, **k: nn.soft_margin(x, signs(5, 7), **k),
        lambda f, x, y, **k: f.soft_margin_loss(x, torch().tensor(signs(5, 7)), **k),
    ),
    "hinge_embedding": (
        lambda x, y, **k: nn.hinge_embedding(x, signs(5, 7), margin=0.7, **k),
        lambda f, x, y, **k: f.hinge_embedding_loss(
            x, torch().tensor(signs(5, 7)), margin=0.7, **k
        ),
    ),
    "margin_ranking": (
        lambda x, y, **k: nn.margin_ranking(x, y, signs(5, 7), margin=0.2, **k),
        lambda f, x, y, **k: f.margin_ranking_loss(
            x, y, torch().tensor(signs(5, 7)), margin=0.2, **k
        ),
    ),
    "cosine_embedding": (
        lambda x, y, **k: nn.cosine_embedding(x, y, signs(5), margin=-0.1, **k),
        lambda f, x, y, **k: f.cosine_embedding_loss(
            x, y, torch().tensor(signs(5)), margin=-0.1, **k
        ),
    ),
    "poisson_nll": (nn.poisson_nll, lambda f, x, y, **k: f.poisson_nll_loss(x, y, **k)),
    "poisson_nll full": (
        lambda x, y, **k: nn.poisson_nll(x, 3 + y, full=True, **k),
        lambda f, x, y, **k: f.poisson_nll_loss(x, 3 + y, full=True, **k),
    ),
    "poisson_nll rate": (
        lambda x, y, **k: nn.poisson_nll(x * x, 3 + y, log_input=False, **k),
        lambda f, x, y, **k: f.poisson_nll_loss(x * x, 3 + y, log_input=False, **k),
    ),
    "gaussian_nll": (
        lambda x, y, **k: nn.gaussian_nll(x, y, x * x, full=True, **k),
        lambda f, x, y, **k: f.gaussian_nll_loss(x, y, x * x, full=True, **k),
    ),
    "multi_margin": (
        lambda x, y, **k: nn.multi_margin(
            x, CLASSES, margin=1.5, class_weights=np.arange(1.0, 8.0), **k
        ),
        lambda f, x, y, **k: f.multi_margin_loss(
            x,
            torch().tensor(CLASSES),
            margin=1.5,
            weight=torch().arange(1.0, 8.0, dtype=torch().float64),
            **k,
        ),
    ),
    "multi_margin squared": (
        lambda x, y, **k: nn.multi_margin(x, CLASSES, p=2, **k),
        lambda f, x, y, **k: f.multi_margin_loss(x, torch().tensor(CLASSES), p=2, **k),
    ),
    "multilabel_soft_margin": (
        lambda x, y, **k: nn.multilabel_soft_margin(x, signs(5, 7) > 0, **k),
        lambda f, x, y, **k: f.multilabel_soft_margin_loss(
            x, torch().tensor((signs(5, 7) > 0) * 1.0), **k
        ),
    ),
    "binary_cross_entropy": (
        lambda x, y, **k: nn.binary_cross_entropy(nn.sigmoid(x), signs(5, 7) > 0, **k),
        lambda f, x, y, **k: f.binary_cross_entropy(
            torch().sigmoid(x), torch().tensor((signs(5, 7) > 0) * 1.0), **k
        ),
    ),
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", PAIRS)
def test_loss(name: str, reduction: str) -> None:
    ours, theirs = PAIRS[name]
    compare(
        lambda x, y: ours(x, y, reduction=reduction),
        lambda x, y: theirs(functional(), x, y, reduction=reduction),
        draw((5, 7), (5, 7)),
    )


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_triplet_margin(p: float, swap: bool) -> None:
    compare(
        lambda a, b, c: nn.triplet_margin(a, b, c, p=p, swap=swap, margin=0.8),
        lambda a, b, c: functional().triplet_margin_loss(
            a, b, c, p=p, swap=swap, margin=0.8, reduction="none"
        ),
        draw((6, 4), (6, 4), (6, 4)),
    )


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5, float("inf")])
def test_distances(p: float) -> None:
    compare(
        lambda a, b: nn.pairwise_distance(a, b, p=p),
        lambda a, b: functional().pairwise_distance(a, b, p=p),
        draw((6, 4), (6, 4)),
    )
    compare(
        lambda a, b: nn.cdist(a, b, p=p),
        lambda a, b: torch().cdist(a, b, p=p),
        draw((2, 6, 4), (2, 5, 4)),
    )


CTC = [
    # time, classes, input lengths, longest labelling, label lengths
    (12, 5, (12, 12, 12), 4, (4, 4, 4)),
    (12, 5, (12, 7, 10), 4, (4, 3, 1)),
    (9, 3, (9, 9, 5), 4, (4, 0, 2)),
    (60, 30, (60, 41, 55), 20, (20, 13, 18)),
]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", CTC, ids=str)
def test_ctc(case: Any, reduction: str) -> None:
    time, classes, times, longest, counts = case
    labels = np.random.default_rng(3).integers(1, classes, (3, longest))
    t = torch()
    compare(
        lambda x: nn.ctc_loss(
            nn.log_softmax(x), labels, np.array(times), np.array(counts), reduction=reduction
        ),
        lambda x: functional().ctc_loss(
            functional().log_softmax(x, -1),
            t.tensor(labels),
            t.tensor(times),
            t.tensor(counts),
            reduction=reduction,
        ),
        draw((time, 3, classes)),
    )


def test_ctc_of_impossible_labellings() -> None:
    labels = np.array([[1, 1, 1], [1, 2, 3]])
    t = torch()
    compare(
        lambda x: nn.ctc_loss(nn.log_softmax(x), labels, zero_infinity=True),
        lambda x: functional().ctc_loss(
            functional().log_softmax(x, -1),
            t.tensor(labels),
            t.tensor([4, 4]),
            t.tensor([3, 3]),
            zero_infinity=True,
            reduction="none",
        ),
        draw((4, 2, 5)),
    )
