"""Every optimizer against its rule written in NumPy, step by step; clipping; schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import optimizers

Array = np.ndarray[Any, Any]
STEPS = 25
RATE = 0.05
RNG = np.random.default_rng(3)
START = RNG.normal(size=(4, 3))
SLOPES = RNG.normal(size=(STEPS, 4, 3))


def sgd(weight_decay: float = 0.0) -> Iterator[Array]:
    v = START.copy()
    for g in SLOPES:
        v = v - RATE * (g + weight_decay * v)
        yield v


def momentum(nesterov: bool) -> Iterator[Array]:
    v, m = START.copy(), np.zeros_like(START)
    for g in SLOPES:
        m = 0.9 * m + g
        v = v - RATE * (g + 0.9 * m if nesterov else m)
        yield v


def adagrad() -> Iterator[Array]:
    v, a = START.copy(), np.full_like(START, 0.1)
    for g in SLOPES:
        a = a + g**2
        v = v - RATE * g / (np.sqrt(a) + 1e-7)
        yield v


def rmsprop(centered: bool) -> Iterator[Array]:
    v, s, m = START.copy(), np.zeros_like(START), np.zeros_like(START)
    for g in SLOPES:
        s = 0.9 * s + 0.1 * g**2
        m = 0.9 * m + 0.1 * g
        v = v - RATE * g / (np.sqrt(np.maximum(s - m**2, 0) if centered else s) + 1e-7)
        yield v


def adam(weight_decay: float = 0.0, amsgrad: bool = False) -> Iterator[Array]:
    v, m, s, top = START.copy(), *(np.zeros_like(START) for _ in range(3))
    for t, g in enumerate(SLOPES, 1):
        m = 0.9 * m + 0.1 * g
        s = 0.999 * s + 0.001 * g**2
        top = np.maximum(top, s)
        spread = (top if amsgrad else s) / (1 - 0.999**t)
        v = v - RATE * (m / (1 - 0.9**t) / (np.sqrt(spread) + 1e-8) + weight_decay * v)
        yield v


def lion() -> Iterator[Array]:
    v, m = START.copy(), np.zeros_like(START)
    for g in SLOPES:
        v = v - RATE * (np.sign(0.9 * m + 0.1 * g) + 0.01 * v)
        m = 0.99 * m + 0.01 * g
        yield v


RULES: dict[str, tuple[Callable[..., Any], dict[str, Any], Callable[[], Iterator[Array]]]] = {
    "sgd": (optimizers.sgd, {}, sgd),
    "sgd, decay": (optimizers.sgd, {"weight_decay": 0.1}, lambda: sgd(0.1)),
    "momentum": (optimizers.momentum, {}, lambda: momentum(False)),
    "nesterov": (optimizers.momentum, {"nesterov": True}, lambda: momentum(True)),
    "adagrad": (optimizers.adagrad, {}, adagrad),
    "rmsprop": (optimizers.rmsprop, {}, lambda: rmsprop(False)),
    "rmsprop, centered": (optimizers.rmsprop, {"centered": True}, lambda: rmsprop(True)),
    "adam": (optimizers.adam, {}, adam),
    "amsgrad": (optimizers.adam, {"amsgrad": True}, lambda: adam(amsgrad=True)),
    "adamw": (optimizers.adamw, {"weight_decay": 0.1}, lambda: adam(0.1)),
    "lion": (optimizers.lion, {"weight_decay": 0.01}, lion),
}


def walk(name: str, dtype: str) -> list[Array]:
    """The values of the variable after each step; the gradient is what is fed."""
    rule, options, _ = RULES[name]
    v = graphc.variable(START.astype(dtype), name="v")
    g = graphc.placeholder((4, 3), dtype, name="g")
    with graphc.Session() as session:
        step = session.function([g], [], updates=rule([v], [g], learning_rate=RATE, **options))
        found = []
        for slope in SLOPES:
            step(slope.astype(dtype))
            found.append(session.value(v))
    return found


@pytest.mark.parametrize("name", RULES)
def test_steps_follow_the_rule(name: str) -> None:
    expected = list(RULES[name][2]())
    np.testing.assert_allclose(walk(name, "float64"), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(walk(name, "float32"), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", RULES)
def test_small_floats_keep_float32_slots(name: str) -> None:
    rule, options, reference = RULES[name]
    v = graphc.variable(START.astype(np.float16), name="v")
    g = graphc.placeholder((4, 3), "float16")
    updates = rule([v], [g], learning_rate=RATE, **options)
    assert all(slot.dtype.name in ("float16", "float32", "float64") for slot in updates)
    assert all(slot.dtype.name != "float16" for slot in updates if slot is not v)
    np.testing.assert_allclose(walk(name, "float16")[-1], list(reference())[-1], atol=0.15)


def test_variables_and_gradients_may_be_nests() -> None:
    parameters = {"w": graphc.variable(np.ones((2, 2)), name="w"), "b": [graphc.variable(1.0)]}
    cost = graphc.sum(parameters["w"] ** 2) + 3 * parameters["b"][0]
    gradients = graphc.grad(cost, parameters)
    backwards = dict(reversed(gradients.items()))
    clipped = optimizers.clip_by_norm(backwards, 1e9)
    assert list(clipped) == ["b", "w"]
    updates = optimizers.sgd(parameters, clipped, learning_rate=0.25)
    with graphc.Session() as session:
        session.function([], [], updates=updates)()
        np.testing.assert_allclose(session.value(parameters["w"]), np.full((2, 2), 0.5))
        assert session.value(parameters["b"][0]) == 0.25
    with pytest.raises(graphc.GraphError, match="'b' in one only"):
        optimizers.sgd(parameters, {"w": gradients["w"]})


def test_clipping() -> None:
    a, b = graphc.placeholder((2,), "float64"), graphc.placeholder((), "float64")
    feeds = {a: np.array([3.0, 0.0]), b: np.float64(4.0)}
    with graphc.Session() as session:
        clipped = session.run(optimizers.clip_by_norm([a, b], 1.0), feeds)
        np.testing.assert_allclose(np.hstack(clipped), [0.6, 0.0, 0.8])
        kept = session.run(optimizers.clip_by_norm((a, b), 5.0), feeds)
        np.testing.assert_allclose(np.hstack(kept), [3.0, 0.0, 4.0])
        zero = session.run(optimizers.clip_by_norm([a], 1.0), {a: np.zeros(2)})
        np.testing.assert_array_equal(zero[0], np.zeros(2))
        limited = session.run(optimizers.clip_by_value({"a": a}, -1.0, 2.0), {a: feeds[a]})
        np.testing.assert_allclose(limited["a"], [2.0, 0.0])
        assert session.run(optimizers.global_norm([a, b]), feeds) == 5.0


SCHEDULES: dict[str, tuple[Callable[[Any], Any], Callable[[int], float]]] = {
    "exponential": (
        lambda s: optimizers.exponential_decay(s, 0.1, 0.5, 10),
        lambda k: 0.1 * 0.5 ** (k / 10),
    ),
    "staircase": (
        lambda s: optimizers.exponential_decay(s, 0.1, 0.5, 10, staircase=True),
        lambda k: 0.1 * 0.5 ** (k // 10),
    ),
    "cosine": (
        lambda s: optimizers.cosine_decay(s, 0.1, 20, final=0.01),
        lambda k: 0.01 + 0.09 * (1 + np.cos(np.pi * min(k, 20) / 20)) / 2,
    ),
    "piecewise": (
        lambda s: optimizers.piecewise_constant(s, [5, 15], [0.3, 0.2, 0.1]),
        lambda k: 0.3 if k < 5 else 0.2 if k < 15 else 0.1,
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    schedule, expected = SCHEDULES[name]
    step = graphc.placeholder((), "int64", name="step")
    with graphc.Session() as session:
        rate = session.function([step], schedule(step))
        for k in (0, 1, 4, 5, 6, 9, 10, 14, 15, 16, 20, 35):
            assert rate(k) == pytest.approx(expected(k), rel=1e-5), k


def test_warmup_rises_to_the_schedule() -> None:
    step = graphc.placeholder((), "int64", name="step")
    with graphc.Session() as session:
        rate = session.function([step], optimizers.warmup(step, 10, 0.5))
        values = [float(rate(k)) for k in range(15)]
    assert values[0] < values[5] < values[9] <= 0.5
    assert values[10:] == [0.5] * 5
