"""CTC against the sum over all paths, its gradient, and labellings that do not fit."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn
from tests.nn.evaluation import check_gradients, evaluate, gradients

RNG = np.random.default_rng(5)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def collapsed(path: Any, blank: int) -> list[int]:
    """A path without repetitions, then without blanks."""
    return [c for c, _ in itertools.groupby(path) if c != blank]


def truth(logs: np.ndarray, labels: list[int], blank: int) -> float:
    """-log of the sum over all paths, one after another."""
    time, classes = logs.shape
    total = sum(
        np.exp(sum(logs[t, c] for t, c in enumerate(path)))
        for path in itertools.product(range(classes), repeat=time)
        if collapsed(path, blank) == labels
    )
    return float(-np.log(total)) if total else np.inf


LABELS = np.array([[1, 2], [1, 1], [2, 9], [9, 9]])
LABEL_LENGTHS = np.array([2, 2, 1, 0])
TIMES = np.array([5, 4, 3, 2])
LOGS = log_softmax(RNG.normal(size=(5, 4, 3)) * 2)


def test_ctc_is_the_sum_over_all_paths() -> None:
    for blank in (0, 1, 2):
        labels = np.where(LABELS == blank, 0 if blank else 1, LABELS)
        labels = np.where(LABELS == 9, 9, labels)
        found = evaluate(
            lambda x: nn.ctc_loss(x, labels, TIMES, LABEL_LENGTHS, blank=blank),  # noqa: B023  # called at once
            LOGS,
        )
        expected = [
            truth(LOGS[:t, i], labels[i, :n].tolist(), blank)
            for i, (t, n) in enumerate(zip(TIMES, LABEL_LENGTHS))
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_gradients() -> None:
    logits = RNG.normal(size=(4, 3, 3))

    def loss(x: Any) -> graphc.Tensor:
        return nn.ctc_loss(nn.log_softmax(x), LABELS[:3], TIMES[:3] - 1, LABEL_LENGTHS[:3])

    check_gradients(loss, logits)


def test_second_derivatives() -> None:
    graphc.testing.check_grad(
        lambda x: nn.ctc_loss(nn.log_softmax(x), LABELS[:1]), [RNG.normal(size=(3, 1, 3))], order=2
    )


def test_compiled_with_symbolic_sizes() -> None:
    t, n, s = graphc.Dim("t"), graphc.Dim("n"), graphc.Dim("s")
    x = graphc.placeholder((t, n, 3), "float64")
    labels = graphc.placeholder((n, s), "int64")
    times, counts = (graphc.placeholder((n,), "int64") for _ in range(2))
    loss = nn.ctc_loss(nn.log_softmax(x), labels, times, counts)
    inputs = [x, labels, times, counts]
    outputs = [loss, graphc.grad(graphc.sum(loss), x)]
    graph = graphc.Graph(inputs, {"loss": outputs[0], "g": outputs[1]})
    with graphc.Session(threads=1) as session:
        step = session.function(inputs, outputs)
        for size, rows in ((5, 4), (9, 2)):
            fed = [
                RNG.normal(size=(size, rows, 3)),
                LABELS[:rows],
                TIMES[:rows],
                LABEL_LENGTHS[:rows],
            ]
            expected = graph.evaluate(dict(zip(inputs, fed, strict=True)))
            found = step(*fed)
            np.testing.assert_allclose(found[0], expected["loss"], rtol=1e-10)
            np.testing.assert_allclose(found[1], expected["g"], rtol=1e-8, atol=1e-12)


def test_what_does_not_fit_into_its_time() -> None:
    logs = LOGS[:2, :3]
    labels, counts = np.array([[1, 2], [1, 1], [1, 2]]), np.array([2, 2, 1])
    each = evaluate(lambda x: nn.ctc_loss(x, labels, None, counts), logs)
    assert np.isfinite(each[[0, 2]]).all()
    assert each[1] == np.inf
    for dtype in ("float32", "float64"):
        (g,) = gradients(
            lambda x: nn.ctc_loss(x, labels, None, counts, zero_infinity=True), logs.astype(dtype)
        )
        assert np.isfinite(g).all()
        np.testing.assert_array_equal(g[:, 1], 0)
    nothing = evaluate(
        lambda x: nn.ctc_loss(x, labels, np.zeros(3, int), np.array([0, 1, 0])), logs
    )
    np.testing.assert_array_equal(nothing, [0, np.inf, 0])


def test_mean_divides_by_the_labels() -> None:
    def run(how: str) -> np.ndarray:
        return evaluate(lambda x: nn.ctc_loss(x, LABELS, TIMES, LABEL_LENGTHS, reduction=how), LOGS)

    each = run("none")
    np.testing.assert_allclose(run("mean"), (each / np.maximum(LABEL_LENGTHS, 1)).mean())
    np.testing.assert_allclose(run("sum"), each.sum())


def test_long_inputs_in_float32() -> None:
    logs = log_softmax(RNG.normal(size=(400, 2, 20)))
    labels = RNG.integers(1, 20, (2, 60))
    wide = evaluate(lambda x: nn.ctc_loss(x, labels), logs)
    narrow = evaluate(lambda x: nn.ctc_loss(x, labels), logs.astype(np.float32))
    np.testing.assert_allclose(narrow, wide, rtol=1e-5)


def test_greedy_decoding() -> None:
    logs = LOGS.copy()
    best = logs.argmax(-1)
    x = graphc.placeholder(logs.shape, "float64")
    labels, counts = nn.ctc_greedy_decode(x, TIMES)
    found = graphc.Graph([x], {"l": labels, "n": counts}).evaluate({x: logs})
    for i, time in enumerate(TIMES):
        expected = collapsed(best[:time, i].tolist(), 0)
        assert found["n"][i] == len(expected)
        assert found["l"][i].tolist() == expected + [-1] * (5 - len(expected))


def test_what_is_refused() -> None:
    with pytest.raises(graphc.ShapeError, match="needs 3 dims"):
        nn.ctc_loss(LOGS[0], LABELS)
    with pytest.raises(graphc.DTypeError, match="labels must be integers of shape"):
        nn.ctc_loss(LOGS, LABELS[:2])
    with pytest.raises(graphc.DTypeError, match="input_lengths must be integers of shape"):
        nn.ctc_loss(LOGS, LABELS, TIMES * 1.0, LABEL_LENGTHS)
    with pytest.raises(graphc.ShapeError, match="blank 3 is not one of 3 classes"):
        nn.ctc_loss(LOGS, LABELS, TIMES, LABEL_LENGTHS, blank=3)
    with pytest.raises(graphc.UnsupportedError, match="unknown reduction"):
        nn.ctc_loss(LOGS, LABELS, TIMES, LABEL_LENGTHS, reduction="average")
