"""Recurrent layers against loops in NumPy, by the reference evaluator and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn
from graphc.nn import RecurrentWeights

Array = Any
TIME, BATCH, FEATURES, HIDDEN = 5, 3, 4, 2


def sigmoid(x: Array) -> Array:
    """The logistic function."""
    return 1 / (1 + np.exp(-x))


def draw(gates: int, seed: int, *, state: int = HIDDEN, peephole: bool = False) -> RecurrentWeights:
    """Weights of one direction."""
    rng = np.random.default_rng(seed)
    return RecurrentWeights(
        rng.normal(size=(FEATURES, gates * HIDDEN)),
        rng.normal(size=(state, gates * HIDDEN)),
        rng.normal(size=gates * HIDDEN),
        rng.normal(size=gates * HIDDEN),
        rng.normal(size=(3, HIDDEN)) if peephole else None,
        rng.normal(size=(HIDDEN, state)) if state != HIDDEN else None,
    )


def rnn_step(x: Array, state: tuple[Array, ...], w: Any) -> tuple[Array, ...]:
    return (np.tanh(x @ w.w_input + w.bias + state[0] @ w.w_hidden + w.bias_hidden),)


def lstm_step(x: Array, state: tuple[Array, ...], w: Any) -> tuple[Array, ...]:
    h, c = state
    i, f, g, o = np.split(x @ w.w_input + w.bias + h @ w.w_hidden + w.bias_hidden, 4, axis=-1)
    p = np.zeros((3, HIDDEN)) if w.peephole is None else w.peephole
    cell = sigmoid(f + p[1] * c) * c + sigmoid(i + p[0] * c) * np.tanh(g)
    h = sigmoid(o + p[2] * cell) * np.tanh(cell)
    return (h if w.projection is None else h @ w.projection), cell


def gru_step(x: Array, state: tuple[Array, ...], w: Any) -> tuple[Array, ...]:
    (h,) = state
    xr, xz, xn = np.split(x @ w.w_input + w.bias, 3, axis=-1)
    hr, hz, hn = np.split(h @ w.w_hidden + w.bias_hidden, 3, axis=-1)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    return ((1 - z) * np.tanh(xn + r * hn) + z * h,)


def gru_before_step(x: Array, state: tuple[Array, ...], w: Any) -> tuple[Array, ...]:
    (h,) = state
    xr, xz, xn = np.split(x @ w.w_input + w.bias, 3, axis=-1)
    ur, uz, un = np.split(w.w_hidden, 3, axis=-1)
    br, bz, bn = np.split(w.bias_hidden, 3)
    r, z = sigmoid(xr + h @ ur + br), sigmoid(xz + h @ uz + bz)
    return ((1 - z) * np.tanh(xn + (r * h) @ un + bn) + z * h,)


def loop(
    step: Callable[..., tuple[Array, ...]],
    x: Array,
    state: tuple[Array, ...],
    weights: RecurrentWeights,
    lengths: Array,
    reverse: bool,
) -> tuple[Array, tuple[Array, ...]]:
    """One direction over (batch, time, features)."""
    outputs = np.zeros((BATCH, TIME, state[0].shape[-1]))
    state = tuple(s.copy() for s in state)
    for b in range(BATCH):
        one = tuple(s[b] for s in state)
        steps = range(lengths[b])
        for t in reversed(steps) if reverse else steps:
            one = step(x[b, t], one, weights)
            outputs[b, t] = one[0]
        for part, value in zip(state, one, strict=True):
            part[b] = value
    return outputs, state


def run(outputs: Any, feeds: dict[Any, Array]) -> list[Array]:
    """Values by the reference, checked against the compiled function."""
    graph = graphc.Graph(list(feeds), list(outputs))
    expected = list(graph.evaluate(feeds).values())
    with graphc.Session() as session:
        found = session.run(list(outputs), feeds)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    return expected


CASES = {
    "rnn": (nn.rnn, rnn_step, 1, 1, {}),
    "lstm": (nn.lstm, lstm_step, 4, 2, {}),
    "gru": (nn.gru, gru_step, 3, 1, {}),
    "gru-before": (nn.gru, gru_before_step, 3, 1, {"reset_after": False}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_one_layer(name: str, reverse: bool, masked: bool) -> None:
    layer, step, gates, parts, options = CASES[name]
    rng = np.random.default_rng(1)
    values = rng.normal(size=(BATCH, TIME, FEATURES))
    starts = tuple(rng.normal(size=(1, BATCH, HIDDEN)) for _ in range(parts))
    lengths = np.array([2, 5, 0]) if masked else np.full(BATCH, TIME)
    weights = draw(gates, 2, peephole=name == "lstm")
    initial = starts if parts == 2 else starts[0]
    x = graphc.placeholder((BATCH, "time", FEATURES), "float64")
    n = graphc.placeholder((BATCH,), "int64")
    outputs, last = layer(
        x, weights, initial=initial, lengths=n if masked else None, reverse=reverse, **options
    )
    tails = last if isinstance(last, tuple) else (last,)
    feeds = {x: values, n: lengths} if masked else {x: values}
    found = run([outputs, *tails], feeds)
    expected, ends = loop(step, values, tuple(s[0] for s in starts), weights, lengths, reverse)
    np.testing.assert_allclose(found[0], expected, rtol=1e-12)
    for a, b in zip(found[1:], ends, strict=True):
        np.testing.assert_allclose(a[0], b, rtol=1e-12)


def test_two_bidirectional_layers_with_a_symbolic_batch() -> None:
    values = np.random.default_rng(3).normal(size=(BATCH, TIME, FEATURES))
    first = (draw(3, 4), draw(3, 5))
    second = tuple(
        w._replace(w_input=np.random.default_rng(k).normal(size=(2 * HIDDEN, 3 * HIDDEN)))
        for k, w in enumerate((draw(3, 6), draw(3, 7)))
    )
    x = graphc.placeholder(("batch", "time", FEATURES), "float64")
    outputs, last = nn.gru(x, [first, second])
    assert last.shape == (4, x.shape[0], HIDDEN)
    found = run([outputs, last], {x: values})
    below = values
    ends = []
    for layer in (first, second):
        sides = []
        for reverse, weights in enumerate(layer):
            zero = (np.zeros((BATCH, HIDDEN)),)
            side, end = loop(gru_step, below, zero, weights, np.full(BATCH, TIME), bool(reverse))
            sides.append(side)
            ends.append(end[0])
        below = np.concatenate(sides, axis=-1)
    np.testing.assert_allclose(found[0], below, rtol=1e-12)
    np.testing.assert_allclose(found[1], np.stack(ends), rtol=1e-12)


def test_projection_time_first_and_coupled_gates() -> None:
    values = np.random.default_rng(8).normal(size=(BATCH, TIME, FEATURES))
    weights = draw(4, 9, state=3)
    x = graphc.placeholder((TIME, BATCH, FEATURES), "float64")
    outputs, (h, c) = nn.lstm(x, weights, time_first=True)
    found = run([outputs, h, c], {x: values.transpose(1, 0, 2)})
    zero = (np.zeros((BATCH, 3)), np.zeros((BATCH, HIDDEN)))
    expected, ends = loop(lstm_step, values, zero, weights, np.full(BATCH, TIME), False)
    np.testing.assert_allclose(found[0], expected.transpose(1, 0, 2), rtol=1e-12)
    np.testing.assert_allclose(found[1][0], ends[0], rtol=1e-12)
    np.testing.assert_allclose(found[2][0], ends[1], rtol=1e-12)

    cell_x, cell_h, cell_c = (graphc.placeholder((BATCH, n), "float64") for n in (4, 2, 2))
    weights = draw(4, 10)
    new_h, new_c = nn.lstm_cell(cell_x, (cell_h, cell_c), weights, coupled=True)
    rng = np.random.default_rng(11)
    feeds = {t: rng.normal(size=t.shape) for t in (cell_x, cell_h, cell_c)}
    found = run([new_h, new_c], feeds)
    xv, hv, cv = feeds.values()
    w: Any = weights
    i, _, g, o = np.split(xv @ w.w_input + w.bias + hv @ w.w_hidden + w.bias_hidden, 4, axis=-1)
    cell = (1 - sigmoid(i)) * cv + sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(found[1], cell, rtol=1e-12)
    np.testing.assert_allclose(found[0], sigmoid(o) * np.tanh(cell), rtol=1e-12)


@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("checkpoint", [None, 2])
def test_gradients(name: str, checkpoint: int | None) -> None:
    layer, _, gates, _, options = CASES[name]
    weights = draw(gates, 12)
    lengths = np.array([5, 3, 1])
    rng = np.random.default_rng(13)

    def cost(x: Any, w_input: Any, w_hidden: Any) -> Any:
        used = weights._replace(w_input=w_input, w_hidden=w_hidden)
        outputs, _ = layer(x, used, lengths=lengths, checkpoint=checkpoint, **options)
        return graphc.sum(outputs * np.random.default_rng(1).uniform(0.5, 1.5, outputs.shape))

    arrays = [rng.normal(size=(BATCH, TIME, FEATURES)), weights.w_input, weights.w_hidden]
    graphc.testing.check_grad(cost, arrays)


@pytest.mark.parametrize(
    ("arguments", "options", "what"),
    [
        ((np.zeros((3, 4)), draw(1, 0)), {}, r"rnn: x must be \(batch, time, features\)"),
        ((np.zeros((3, 5, 9)), draw(1, 0)), {}, "rnn: the input has 9 features, w_input takes 4"),
        ((np.zeros((3, 5, 4)), []), {}, "rnn: expected at least one layer"),
        (
            (np.zeros((3, 5, 4)), draw(1, 0)),
            {"lengths": np.zeros(2, int)},
            r"rnn: lengths must be integers of shape \(3,\)",
        ),
        (
            (np.zeros((3, 5, 4)), draw(1, 0)),
            {"initial": np.zeros((2, 3, 2))},
            r"rnn: an initial state must have shape \(1, 3, 2\)",
        ),
        (
            (np.zeros((3, 5, 4)), draw(1, 0)._replace(bias=np.zeros(3))),
            {},
            r"rnn: bias must have shape \(2\)",
        ),
    ],
)
def test_errors(arguments: Any, options: Any, what: str) -> None:
    with pytest.raises(graphc.ShapeError, match=what):
        nn.rnn(*arguments, **options)
