"""Normalization, attention, embeddings and dropout against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn
from tests.nn.evaluation import check_gradients, evaluate, gradients

RNG = np.random.default_rng(6)
X = RNG.normal(3.0, 2.0, size=(4, 6, 5))


def constant(tensor: graphc.Tensor) -> np.ndarray:
    """The value of a tensor without inputs."""
    return graphc.Graph([], {"o": tensor}).evaluate()["o"]


def normal(x: np.ndarray, axes: Any, epsilon: float = 1e-5) -> np.ndarray:
    """x normalized over axes."""
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def test_layer_norm() -> None:
    scale, bias = RNG.normal(size=5), RNG.normal(size=5)
    found = evaluate(nn.layer_norm, X, scale, bias)
    np.testing.assert_allclose(found, normal(X, -1) * scale + bias)
    np.testing.assert_allclose(
        evaluate(lambda x: nn.layer_norm(x, axis=(1, 2)), X), normal(X, (1, 2))
    )
    check_gradients(nn.layer_norm, X[:2, :2], scale, bias)
    with pytest.raises(graphc.ShapeError, match="layer_norm: scale must have shape"):
        nn.layer_norm(X, np.ones(4))


def test_rms_norm() -> None:
    scale = RNG.normal(size=5)
    expected = X / np.sqrt((X * X).mean(-1, keepdims=True) + 1e-6) * scale
    np.testing.assert_allclose(evaluate(nn.rms_norm, X, scale), expected)
    check_gradients(nn.rms_norm, X[:1, :2], scale)


def test_batch_norm() -> None:
    scale, bias = RNG.normal(size=6), RNG.normal(size=6)
    out, mean, variance = (constant(t) for t in nn.batch_norm(X, scale, bias))
    np.testing.assert_allclose(out, normal(X, (0, 2)) * scale[:, None] + bias[:, None])
    np.testing.assert_allclose(mean, X.mean((0, 2)))
    np.testing.assert_allclose(variance, X.var((0, 2)))
    found = constant(nn.batch_norm(X, scale, bias, mean, variance))
    np.testing.assert_allclose(found, out, rtol=1e-9, atol=1e-9)
    check_gradients(lambda x, s, b: nn.batch_norm(x, s, b)[0], X[:2, :, :2], scale, bias)
    with pytest.raises(graphc.ShapeError, match="both mean and variance"):
        nn.batch_norm(X, None, None, np.zeros(6))


def test_group_and_instance_norm() -> None:
    grouped = normal(X.reshape(4, 3, 2, 5), (2, 3)).reshape(X.shape)
    np.testing.assert_allclose(evaluate(lambda x: nn.group_norm(x, 3), X), grouped)
    np.testing.assert_allclose(evaluate(nn.instance_norm, X), normal(X, 2))
    check_gradients(lambda x: nn.group_norm(x, 2), X[:1, :4, :2])
    with pytest.raises(graphc.ShapeError, match="6 channels do not split into 4 groups"):
        nn.group_norm(X, 4)


def test_norms_of_large_means_and_constant_rows() -> None:
    x = (1e8 + RNG.normal(size=(3, 64))).astype(np.float64)
    np.testing.assert_allclose(evaluate(nn.layer_norm, x), normal(x, -1), rtol=1e-6, atol=1e-6)
    (g,) = gradients(nn.layer_norm, np.ones((2, 4)))
    assert np.all(np.isfinite(g))


def attention(q: Any, k: Any, v: Any, allowed: Any = True) -> np.ndarray:
    """The definition, in NumPy."""
    scores = np.where(allowed, q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def test_attention() -> None:
    q, k, v = (
        RNG.normal(size=(2, 3, 4, 5)),
        RNG.normal(size=(2, 3, 6, 5)),
        RNG.normal(size=(2, 3, 6, 7)),
    )
    run = nn.scaled_dot_product_attention
    np.testing.assert_allclose(evaluate(run, q, k, v), attention(q, k, v), rtol=1e-10)
    mask = RNG.random((4, 6)) < 0.6
    mask[:, 0] = True
    np.testing.assert_allclose(evaluate(run, q, k, v, mask), attention(q, k, v, mask), rtol=1e-10)
    added = np.where(mask, 0.0, -1e9)
    np.testing.assert_allclose(evaluate(run, q, k, v, added), attention(q, k, v, mask), rtol=1e-10)
    past = np.tril(np.ones((4, 6), bool))
    causal = evaluate(lambda a, b, c: run(a, b, c, causal=True), q, k, v)
    np.testing.assert_allclose(causal, attention(q, k, v, past), rtol=1e-10)
    small = (q[0, 0, :2], k[0, 0, :3], v[0, 0, :3])
    check_gradients(lambda a, b, c: run(a, b, c, causal=True), *small)


def test_attention_to_nothing_is_zero_with_finite_gradients() -> None:
    q, k, v = (RNG.normal(size=(2, 3)) for _ in range(3))
    mask = np.array([[True, True], [False, False]])

    def run(a: Any, b: Any, c: Any) -> graphc.Tensor:
        return nn.scaled_dot_product_attention(a, b, c, mask)

    found = evaluate(run, q, k, v)
    np.testing.assert_array_equal(found[1], 0.0)
    assert all(np.all(np.isfinite(g)) for g in gradients(run, q, k, v))


def test_linear_embedding_one_hot() -> None:
    w, b = RNG.normal(size=(5, 2)), RNG.normal(size=2)
    np.testing.assert_allclose(evaluate(nn.linear, X, w, b), X @ w + b)
    ids = np.array([[1, 3], [1, 0]])
    table = RNG.normal(size=(4, 3))
    np.testing.assert_array_equal(evaluate(nn.embedding, table, ids), table[ids])
    check_gradients(nn.embedding, table, ids)
    np.testing.assert_array_equal(constant(nn.one_hot(ids, 4)), np.eye(4)[ids])
    first = constant(nn.one_hot(np.array([0, 7, -1]), 3, axis=0, dtype="int8"))
    np.testing.assert_array_equal(first, [[1, 0, 0], [0, 0, 0], [0, 0, 0]])
    with pytest.raises(graphc.DTypeError, match="ids must be integers"):
        nn.embedding(table, table)


# -- dropout ---------------------------------------------------------------------------------------


def test_dropout() -> None:
    key = graphc.random.key(1)
    x = np.ones(10000)
    kept = evaluate(lambda a: nn.dropout(a, 0.3, key), x)
    assert set(np.round(np.unique(kept), 12)) == {0.0, np.round(1 / 0.7, 12)}
    assert abs((kept != 0).mean() - 0.7) < 0.02
    (g,) = gradients(lambda a: nn.dropout(a, 0.3, key), x[:50])
    mask = evaluate(lambda a: nn.dropout(a, 0.3, key), x[:50]) != 0
    np.testing.assert_array_equal(g != 0, mask)
    same = graphc.placeholder((3,))
    assert nn.dropout(same, 0.5, key, training=False) is same
    with pytest.raises(graphc.ShapeError, match="rate must be"):
        nn.dropout(x, 1.0, key)


def test_dropout_of_a_symbolic_batch() -> None:
    x = graphc.placeholder(("n", 3), "float32")
    graph = graphc.Graph([x], {"y": nn.dropout(x, 0.5, graphc.random.key(2))})
    assert graph.evaluate({x: np.ones((5, 3), np.float32)})["y"].shape == (5, 3)
