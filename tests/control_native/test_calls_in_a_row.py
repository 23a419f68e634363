"""Many calls of one body in a row are one region and one step; everything else about them stays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphc
from graphc.lower.regions import MANY_CALLS

COUNT = MANY_CALLS + 9
DRAW = np.random.default_rng(0)
FEED = DRAW.normal(size=(5, 8)).astype(np.float32)


@graphc.function
def layer(x: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
    return graphc.nn.relu(x @ w + b)


@graphc.function
def crossed(x: graphc.Tensor, y: graphc.Tensor, w: graphc.Tensor) -> tuple[graphc.Tensor, ...]:
    return graphc.tanh(x @ w + y), y - x


def weight(*shape: int) -> graphc.Tensor:
    return graphc.variable((DRAW.normal(size=shape) * 0.4).astype(np.float32))


def chain(x: graphc.Tensor) -> list[graphc.Tensor]:
    for _ in range(COUNT):
        x = layer(x, weight(8, 8), weight(8))
    return [x]


def equal_weights(x: graphc.Tensor) -> list[graphc.Tensor]:
    w, b = weight(8, 8), weight(8)
    for _ in range(COUNT):
        x = layer(x, w, b)
    return [x]


def read_in_between(x: graphc.Tensor) -> list[graphc.Tensor]:
    found = []
    for k in range(COUNT):
        x = layer(x, weight(8, 8), weight(8))
        if k % 15 == 3:
            found.append(x)
    return [x, graphc.exp(found[0]), found[1]]


def computed_operands(x: graphc.Tensor) -> list[graphc.Tensor]:
    mean = graphc.tanh(graphc.sum(x, axis=0))
    for k in range(COUNT):
        w = graphc.reshape(weight(64), (8, 8)) if k % 16 == 7 else weight(8, 8)
        bias = graphc.sum(x, axis=0) * 0.1 if k % 16 == 12 else weight(8)
        x = layer(x, w, mean if k % 16 == 3 else bias)
    return [x]


def several_results(x: graphc.Tensor) -> list[graphc.Tensor]:
    a = b = x
    for k in range(COUNT):
        first, second = crossed(a, b, weight(8, 8))
        a, b = (first, x) if k % 11 else (second, first)
    return [a, b]


def one_operand_twice(x: graphc.Tensor) -> list[graphc.Tensor]:
    for k in range(COUNT):
        x = crossed(x, x if k % 13 == 5 else FEED[:1], weight(8, 8))[0]
    return [x]


# With how many steps of calls at most, of COUNT calls.
MODELS: dict[Callable[[graphc.Tensor], list[graphc.Tensor]], int] = {
    chain: 1,
    equal_weights: 1,
    read_in_between: 4,
    computed_operands: 12,
    several_results: 12,
    one_operand_twice: 8,
}


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_values_and_steps(model: Callable[[graphc.Tensor], list[graphc.Tensor]]) -> None:
    x = graphc.placeholder(("n", 8), name="x")
    outputs = {f"y{k}": y for k, y in enumerate(model(x))}
    wanted = graphc.Graph([x], outputs).evaluate({"x": FEED})
    with graphc.Session(cache_dir="") as session:
        function = session.function([x], outputs)
        found = function(FEED)
        calls = [line for line in function.explain("regions").split("\n") if "(control" in line]
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)
    assert len(calls) <= MODELS[model]


def test_a_profile_times_every_call_and_values_inside_are_found() -> None:
    x = y = graphc.placeholder(("n", 8), name="x")
    for k in range(COUNT):
        y = layer(y, weight(8, 8), weight(8)).named(f"layer_{k}")
    wanted = graphc.Graph([x], {"inside": y.inputs[0].inputs[0], "y": y}).evaluate({"x": FEED})
    with graphc.Session(cache_dir="") as session:
        function = session.function([x], y)
        profile = function.profile(FEED)
        inside = function.fetch([f"layer_{COUNT - 2}"], FEED)
    assert sum(kernel.name == "call" for kernel in profile.kernels) == COUNT
    np.testing.assert_allclose(inside[f"layer_{COUNT - 2}"], wanted["inside"], rtol=1e-4)


def test_fewer_calls_are_steps_of_their_own() -> None:
    x = y = graphc.placeholder((4, 8), name="x")
    for _ in range(MANY_CALLS - 1):
        y = layer(y, weight(8, 8), weight(8))
    with graphc.Session(cache_dir="") as session:
        text = session.function([x], y).explain("regions")
    assert text.count("(control") == MANY_CALLS - 1
