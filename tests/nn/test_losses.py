"""Losses against formulas in NumPy, extreme logits, and wrong labels."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc import nn
from tests.nn.evaluation import check_gradients, evaluate, gradients

RNG = np.random.default_rng(4)
LOGITS = RNG.normal(size=(5, 7))
LABELS = RNG.integers(0, 7, 5)
SOFT = RNG.dirichlet(np.ones(7), 5)
P, T = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))


def _log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_softmax_cross_entropy_of_classes() -> None:
    expected = -_log_softmax(LOGITS)[np.arange(5), LABELS]
    np.testing.assert_allclose(evaluate(nn.softmax_cross_entropy, LOGITS, LABELS), expected)
    check_gradients(nn.softmax_cross_entropy, LOGITS, LABELS)


def test_softmax_cross_entropy_of_probabilities() -> None:
    expected = -(SOFT * _log_softmax(LOGITS)).sum(-1)
    np.testing.assert_allclose(evaluate(nn.softmax_cross_entropy, LOGITS, SOFT), expected)
    check_gradients(nn.softmax_cross_entropy, LOGITS, SOFT)


def test_label_smoothing_and_axis() -> None:
    smooth = np.full((5, 7), 0.1 / 7)
    smooth[np.arange(5), LABELS] += 0.9
    expected = -(smooth * _log_softmax(LOGITS)).sum(-1)

    def first(x: graphc.Tensor, t: graphc.Tensor) -> graphc.Tensor:
        return nn.softmax_cross_entropy(x, t, axis=0, label_smoothing=0.1)

    np.testing.assert_allclose(evaluate(first, LOGITS.T.copy(), LABELS), expected)
    check_gradients(first, LOGITS.T.copy(), LABELS)


def test_reductions() -> None:
    each = evaluate(nn.softmax_cross_entropy, LOGITS, LABELS)
    for how, expected in (("mean", each.mean()), ("sum", each.sum())):
        loss = nn.softmax_cross_entropy(LOGITS, LABELS, reduction=how)
        np.testing.assert_allclose(graphc.Graph([], {"o": loss}).evaluate()["o"], expected)
    with pytest.raises(graphc.UnsupportedError, match="unknown reduction 'avg'"):
        nn.l1(P, T, reduction="avg")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_logits(dtype: str) -> None:
    logits = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0], [-1e4, -1e4, -1e4], [0, -np.inf, 1]], dtype)
    labels = np.array([0, 1, 2, 2])
    found = evaluate(nn.softmax_cross_entropy, logits, labels)
    np.testing.assert_allclose(found, [0, 2e4, np.log(3), np.log1p(np.exp(-1))], rtol=1e-6)
    (g,) = gradients(nn.softmax_cross_entropy, logits, labels)
    assert np.all(np.isfinite(g))
    soft = np.eye(3, dtype=dtype)[labels]
    np.testing.assert_allclose(evaluate(nn.softmax_cross_entropy, logits, soft), found, rtol=1e-6)
    np.testing.assert_allclose(gradients(nn.softmax_cross_entropy, logits, soft)[0], g, atol=1e-6)


def test_second_derivative_of_cross_entropy() -> None:
    x = graphc.placeholder((3,), "float64")
    h = graphc.hessian(nn.softmax_cross_entropy(x, np.array(1)), x)
    data = np.array([0.3, -0.2, 0.9])
    p = np.exp(data) / np.exp(data).sum()
    found = graphc.Graph([x], {"h": h}).evaluate({x: data})["h"]
    np.testing.assert_allclose(found, np.diag(p) - np.outer(p, p), atol=1e-12)


def test_binary_cross_entropy() -> None:
    x, y = P, (T > 0).astype(float)
    p = 1 / (1 + np.exp(-x))
    expected = -y * np.log(p) - (1 - y) * np.log(1 - p)
    np.testing.assert_allclose(evaluate(nn.binary_cross_entropy_with_logits, x, y), expected)
    np.testing.assert_allclose(evaluate(nn.binary_cross_entropy_with_logits, x, T > 0), expected)
    check_gradients(nn.binary_cross_entropy_with_logits, x, y)
    weighted = nn.binary_cross_entropy_with_logits(x, y, positive_weight=3.0)
    expected = -3 * y * np.log(p) - (1 - y) * np.log(1 - p)
    np.testing.assert_allclose(graphc.Graph([], {"o": weighted}).evaluate()["o"], expected)
    extreme = np.array([-1e4, 1e4, -1e4, 1e4, 800.0])
    labels = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    found = evaluate(nn.binary_cross_entropy_with_logits, extreme, labels)
    np.testing.assert_allclose(found, [0, 0, 1e4, 1e4, 0], atol=1e-300)
    (g, _) = gradients(nn.binary_cross_entropy_with_logits, extreme, labels)
    assert np.all(np.isfinite(g))


def test_distances() -> None:
    d = P - T
    np.testing.assert_allclose(evaluate(nn.mse, P, T), np.mean(d * d))
    np.testing.assert_allclose(evaluate(nn.l1, P, T), np.abs(d))
    expected = np.where(np.abs(d) <= 0.7, d * d / 2, 0.7 * (np.abs(d) - 0.35))
    np.testing.assert_allclose(evaluate(lambda a, b: nn.huber(a, b, delta=0.7), P, T), expected)
    for loss in (nn.mse, nn.l1, lambda a, b: nn.huber(a, b, delta=0.7), nn.cosine_similarity):
        check_gradients(loss, P, T)
    cosine = (P * T).sum(-1) / np.linalg.norm(P, axis=-1) / np.linalg.norm(T, axis=-1)
    np.testing.assert_allclose(evaluate(nn.cosine_similarity, P, T), cosine)
    (g, _) = gradients(nn.cosine_similarity, np.zeros((2, 3)), np.ones((2, 3)))
    assert np.all(np.isfinite(g))


def test_kl_nll_hinge() -> None:
    q = _log_softmax(LOGITS)
    target = SOFT.copy()
    target[0] = np.eye(7)[2]
    with np.errstate(all="ignore"):
        expected = np.where(target > 0, target * (np.log(target) - q), 0).sum(-1)
    np.testing.assert_allclose(evaluate(nn.kl_divergence, q, target), expected)
    (_, g) = gradients(nn.kl_divergence, q, target)
    assert np.all(np.isfinite(g))
    np.testing.assert_allclose(evaluate(nn.nll, q, LABELS), -q[np.arange(5), LABELS])
    signs = np.sign(T)
    np.testing.assert_allclose(evaluate(nn.hinge, P, signs), np.maximum(0, 1 - signs * P))


def test_wrong_labels() -> None:
    with pytest.raises(graphc.ShapeError, match=r"labels of shape \[4\] do not fit[\s\S]*\[5\]"):
        nn.softmax_cross_entropy(LOGITS, np.zeros(4, np.int64))
    with pytest.raises(graphc.ShapeError, match="probabilities must have the shape of logits"):
        nn.softmax_cross_entropy(LOGITS, np.zeros((5, 6)))
    with pytest.raises(graphc.DTypeError, match="must be integers"):
        nn.softmax_cross_entropy(LOGITS, np.zeros(5))
    with pytest.raises(graphc.DTypeError, match="got bool"):
        nn.softmax_cross_entropy(LOGITS, np.zeros(5, bool))
    with pytest.raises(graphc.DTypeError, match="labels must be integers"):
        nn.nll(LOGITS, SOFT)
