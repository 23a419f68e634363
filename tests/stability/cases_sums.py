"""Sums, means, variances, softmax and its losses, attention: elements that meet each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.stability.suite import Case

ROWS = [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 9999.5, 9999.0], [0.1, 0.2, -0.3]]
MASKED = [
    [1.0, float("-inf"), 2.0],
    [float("-inf"), 1e4, float("-inf")],
    [-1e4, 3.0, float("-inf")],
]
LABELS = np.array([1, 0, 2, 1])
HARD = np.eye(3)[LABELS]
SOFT = np.array([[0.25, 0.5, 0.25], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.125, 0.125, 0.75]])
SIGNS = np.array([0.0, 1.0, 1.0, 0.0, 0.5, 1.0])
LOGITS = [-1e4, -1e4, 1e4, 1e4, 100.0, -3.0]
OFFSET = {
    "float32": [[1e8, 1e8 + 8, 1e8 - 16, 1e8 + 24], [1e4, 1e4 + 1, 1e4 - 2, 1e4 + 4]],
    "float64": [[1e8, 1e8 + 1e-1, 1e8 - 1e-1, 1e8 + 2e-1], [1e15, 1e15 + 1, 1e15 - 2, 1e15]],
}
STATES = {k: [v] for k, v in OFFSET.items()}
DEEP = 600
KEYS = np.array([[1.0, 0.5, -1.0], [0.25, -1.0, 1.0]], np.float32)
VALUES = np.array([[1.0, 2.0, -4.0], [0.5, 0.25, 3.0], [-1.0, 1.0, 1.0]], np.float32)


def _spread(m: Any, x: Any) -> Any:
    """1 + the distance to the largest: what exp makes of the rounding of a difference."""
    finite = m.where(x > -1e30, x, 0.0)
    return 1 + m.max(finite, axis=-1, keepdims=True) - finite


def _terms(m: Any, x: Any) -> Any:
    return 0 * _spread(m, x) + 4


def _softmax_scale(m: Any, x: Any) -> Any:
    return m.softmax(x, axis=-1) * m.minimum(_spread(m, x), 0 * _spread(m, x) + 110)


def _log_scale(m: Any, x: Any) -> Any:
    return m.max(m.abs(m.where(x > -1e30, x, 0.0)), axis=-1, keepdims=True) + 0 * _spread(m, x)


def _logs(m: Any, x: Any) -> Any:
    return m.abs(m.log_softmax(x)) + 1


def _kl(m: Any, x: Any, y: Any) -> Any:
    p, q = m.softmax(x), m.softmax(y)
    return m.sum(p * (m.log(p) - m.log(q)), axis=-1)


def _layer_norm(m: Any, x: Any) -> Any:
    centered = x - m.mean(x, axis=-1, keepdims=True)
    variance = m.mean(centered**2, axis=-1, keepdims=True)
    return centered / m.sqrt(variance + 2.0**-16)


def _per_row(f: Any) -> Any:
    def scale(m: Any, x: Any) -> Any:
        return f(m, x) + 0 * x

    return scale


def _mean_square(m: Any, x: Any) -> Any:
    return m.mean(x * x, axis=-1) - m.mean(x, axis=-1) ** 2


def _variance(m: Any, x: Any) -> Any:
    return m.var(x, axis=-1)


def _deviation(m: Any, x: Any) -> Any:
    return m.sqrt(m.mean((x - m.mean(x, axis=-1, keepdims=True)) ** 2, axis=-1))


CENTRED = "the mean is rounded at the size of the elements: an error of that size in each distance"


def _distance_scale(m: Any, x: Any) -> Any:
    return m.max(m.abs(x), axis=-1, keepdims=True) + 0 * x


CASES = [
    Case(
        "softmax, naive",
        lambda m, x: m.exp(x) / m.sum(m.exp(x), axis=-1, keepdims=True),
        [ROWS],
        mixes=True,
        digits=DEEP,
        scale=_softmax_scale,
        gradient_scale=_terms,
        why="exp magnifies the rounding of x - max; the gradient's terms are up to the weights",
    ),
    Case(
        "softmax, shifted by hand",
        lambda m, x: (lambda e: e / m.sum(e, axis=-1, keepdims=True))(
            m.exp(x - m.max(x, axis=-1, keepdims=True))
        ),
        [ROWS],
        mixes=True,
        digits=DEEP,
        scale=_softmax_scale,
        gradient_scale=_terms,
        why="as softmax",
        exact=lambda m, x: m.softmax(x),
    ),
    Case(
        "softmax, function",
        lambda m, x: m.softmax(x),
        [ROWS],
        mixes=True,
        digits=DEEP,
        scale=_softmax_scale,
        gradient_scale=_terms,
        why="as softmax, naive",
    ),
    Case(
        "softmax of masked rows",
        lambda m, x: m.softmax(x),
        [MASKED],
        mixes=True,
        digits=DEEP,
        scale=_softmax_scale,
        gradient_scale=_terms,
        why="as softmax, naive",
    ),
    Case(
        "log(softmax)",
        lambda m, x: m.log(m.softmax(x)),
        [ROWS],
        mixes=True,
        digits=DEEP,
        scale=_logs,
        gradient_scale=_terms,
        why="a logarithm of weights near 1 is a sum of terms up to 1",
    ),
    Case(
        "log(exp(x) / sum(exp(x)))",
        lambda m, x: m.log(m.exp(x) / m.sum(m.exp(x), axis=-1, keepdims=True)),
        [ROWS],
        mixes=True,
        digits=DEEP,
        scale=_logs,
        gradient_scale=_terms,
        why="as log(softmax)",
    ),
    Case(
        "x - log(sum(exp(x)))",
        lambda m, x: x - m.log(m.sum(m.exp(x), axis=-1, keepdims=True)),
        [ROWS],
        mixes=True,
        digits=DEEP,
        scale=_log_scale,
        gradient_scale=_terms,
        why="a difference of terms of the size of x",
    ),
    Case(
        "log_softmax",
        lambda m, x: m.log_softmax(x),
        [ROWS],
        mixes=True,
        digits=DEEP,
        scale=_logs,
        gradient_scale=_terms,
        why="as log(softmax)",
    ),
    Case(
        "log_softmax of masked rows",
        lambda m, x: m.where(x > -1e30, m.log_softmax(x), 0.0),
        [MASKED],
        mixes=True,
        digits=DEEP,
        scale=lambda m, x: _spread(m, x),
        gradient_scale=_terms,
        why="a difference of x and its logsumexp",
    ),
    Case(
        "log(sum(exp(x)))",
        lambda m, x: m.log(m.sum(m.exp(x), axis=-1)),
        [ROWS],
        mixes=True,
        digits=DEEP,
        scale=lambda m, x: m.abs(m.logsumexp(x, axis=-1)) + 1,
        gradient_scale=_terms,
        why="the terms: the maximum and a logarithm",
    ),
    Case(
        "max + log(sum(exp(x - max)))",
        lambda m, x: (
            m.max(x, axis=-1) + m.log(m.sum(m.exp(x - m.max(x, axis=-1, keepdims=True)), axis=-1))
        ),
        [ROWS],
        mixes=True,
        digits=DEEP,
        scale=lambda m, x: m.abs(m.logsumexp(x, axis=-1)) + 1,
        gradient_scale=_terms,
        why="as log(sum(exp(x)))",
        exact=lambda m, x: m.logsumexp(x, axis=-1),
    ),
    Case(
        "logsumexp",
        lambda m, x: m.logsumexp(x, axis=-1),
        [ROWS],
        mixes=True,
        digits=DEEP,
        scale=lambda m, x: m.abs(m.logsumexp(x, axis=-1)) + 1,
        gradient_scale=_terms,
        why="as log(sum(exp(x)))",
    ),
    Case(
        "cross entropy, hard labels, naive",
        lambda m, x: -m.sum(HARD.astype(np.int64) * m.log(m.softmax(x)), axis=-1),
        [ROWS],
        mixes=True,
        digits=DEEP,
        scale=lambda m, x: 1 + m.sum(HARD * m.abs(m.log_softmax(x)), axis=-1),
        gradient_scale=_terms,
        why="log-probabilities near 0 are sums of terms up to 1",
    ),
    Case(
        "cross entropy, hard labels",
        lambda m, x, t: m.softmax_cross_entropy(x, t),
        [ROWS],
        extra=[LABELS],
        mixes=True,
        digits=DEEP,
        scale=lambda m, x, t: 1 + m.softmax_cross_entropy(x, t),
        gradient_scale=lambda m, x, t: _terms(m, x),
        why="as naive",
    ),
    Case(
        "binary cross entropy, naive",
        lambda m, x: (
            -(m.sigmoid(x) * 0 + SIGNS) * m.log(m.sigmoid(x))
            - (1 - SIGNS) * m.log(1 - m.sigmoid(x))
        ),
        [LOGITS],
        digits=4600,
        scale=lambda m, x: m.softplus(x) + m.softplus(-x),
        gradient_scale=lambda m, x: 0 * x + 4,
        why="a sum of two terms",
    ),
    Case("variance, E[x²] - E[x]²", _mean_square, [], by_dtype=STATES, mixes=True),
    Case("variance, function", _variance, [], by_dtype=STATES, mixes=True),
    Case(
        "std, centered once by hand",
        _deviation,
        [],
        by_dtype=STATES,
        mixes=True,
        scale=lambda m, x: m.max(m.abs(x), axis=-1),
        gradient_scale=lambda m, x: _distance_scale(m, x) / m.std(x, axis=-1, keepdims=True),
        why=CENTRED,
    ),
    Case("std, function", lambda m, x: m.std(x, axis=-1), [], by_dtype=STATES, mixes=True),
    Case(
        "layer norm, naive",
        _layer_norm,
        [[[1.0, 2.0, 3.0, -5.0], [1e4, 1e4, 1e4, 1e4], [0.0] * 4]],
        mixes=True,
        scale=_distance_scale,
        gradient_scale=lambda m, x: 0 * x + 1024,
        why="constant rows: the slope is 1 / sqrt(epsilon) = 256",
    ),
    Case(
        "layer norm of constant rows",
        lambda m, x: m.layer_norm(x, epsilon=2.0**-16),
        [[[1.0, 2.0, 3.0, -5.0], [1e4, 1e4, 1e4, 1e4], [0.0] * 4]],
        mixes=True,
        scale=_distance_scale,
        gradient_scale=lambda m, x: 0 * x + 1024,
        why="as layer norm, naive",
    ),
    Case(
        "kl divergence of softmaxes, naive",
        _kl,
        [ROWS, [[0.0, 1.0, -1e4], [-1e4, 3.0, 3.0], [9999.0, 1e4, 9999.0], [1.0, 2.0, 3.0]]],
        mixes=True,
        digits=DEEP,
        scale=lambda m, x, y: (
            1 + m.sum(m.softmax(x) * (m.abs(m.log_softmax(x)) + m.abs(m.log_softmax(y))), axis=-1)
        ),
        gradient_scale=lambda m, x, y: (
            4 + m.sum(m.softmax(x) * m.abs(m.log_softmax(y)), axis=-1, keepdims=True) * 4 + 0 * x,
            _terms(m, y),
        ),
        why="a sum of terms p log p and p log q",
    ),
    Case(
        "sum of large and small",
        lambda m, x: m.sum(x, axis=-1),
        [[[1e8, *[1.0] * 60, -1e8], [1e-8] * 62]],
        mixes=True,
        scale=lambda m, x: m.sum(m.abs(x), axis=-1),
        why="a sum of terms that cancel",
    ),
    Case(
        "cumulative sum",
        lambda m, x: m.cumulative_sum(x, axis=0),
        [[1e8, 1.0, -1e8, 1e-8, 3.0, 1e4]],
        mixes=True,
        scale=lambda m, x: m.cumulative_sum(m.abs(x), axis=0),
        why="running sums of terms that cancel",
    ),
    Case("mean", lambda m, x: m.mean(x, axis=-1), [[[1e38, 1e37], [1e-30, 3e-30]]], mixes=True),
    Case(
        "product",
        lambda m, x: m.prod(x, axis=-1),
        [[[1e20, 1e-20, 1e10, 3.0], [1e-10, 1e10, 1e-5, 1e5]]],
        mixes=True,
    ),
    Case(
        "attention",
        lambda m, q: m.matmul(m.softmax(m.matmul(q, KEYS)), VALUES),
        [[[1e4, 0.0], [0.0, -1e4], [1.0, 2.0]]],
        mixes=True,
        digits=DEEP,
        scale=lambda m, q: 0 * m.matmul(q, KEYS) + 8,
        gradient_scale=lambda m, q: 0 * q + 64,
        why="sums of values up to 4",
    ),
]
