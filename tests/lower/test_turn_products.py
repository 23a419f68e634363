"""Products of sequences that a loop computes turn by turn: where they go, and not a bit changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array

TURNS, ROWS, FEATURES, HIDDEN = 34, 32, 64, 64
Tensor = graphc.Tensor
Project = Callable[[Tensor, Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def session() -> Iterator[graphc.Session]:
    with graphc.Session(threads=2) as session:
        yield session


def cell(z: Tensor, h: Tensor, u: Tensor) -> Tensor:
    v = z + h @ u
    parts = [v[:, k * HIDDEN : (k + 1) * HIDDEN] for k in range(4)]
    return graphc.tanh(parts[0]) * h + graphc.sigmoid(parts[1]) * parts[2] - parts[3]


def operands(rows: int = ROWS, features: int = FEATURES, turns: int = TURNS) -> list[Array]:
    rng = np.random.default_rng(0)
    shapes = (
        (turns, rows, features),
        (features, 4 * HIDDEN),
        (4 * HIDDEN,),
        (rows, HIDDEN),
        (HIDDEN, 4 * HIDDEN),
    )
    return [rng.standard_normal(s).astype(np.float32) * np.float32(0.2) for s in shapes]


def declared(given: list[Array], shapes: dict[int, tuple[Any, ...]] | None = None) -> list[Tensor]:
    return [
        graphc.placeholder((shapes or {}).get(k, a.shape), "float32", name=name)
        for k, (a, name) in enumerate(zip(given, "xwbhu", strict=True))
    ]


def looped(
    places: list[Tensor], project: Project, *, reverse: bool = False, whole: bool = False
) -> list[Tensor]:
    x, w, b, h, u = places
    z = project(x, w, b)

    def turn(state: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        new = cell(row, state, u)
        return new, new

    found = graphc.scan(turn, h, z, reverse=reverse)
    return [*found, z] if whole else list(found)


def expected(
    session: graphc.Session, given: list[Array], project: Project, reverse: bool = False
) -> tuple[Array, Array]:
    """The same turn by turn, each a program of its own."""
    x, w, b, h, u = declared(given)
    before = session.function([x, w, b], project(x, w, b))
    row = graphc.placeholder((h.shape[0], 4 * HIDDEN), "float32", name="row")
    turn = session.function([row, h, u], cell(row, h, u))
    z, state = before(*given[:3]), given[3]
    states = np.empty((len(z), *state.shape), np.float32)
    for k in reversed(range(len(z))) if reverse else range(len(z)):
        states[k] = state = turn(z[k], state, given[4])
    return state, states


def products_inside(function: graphc.Function) -> int:
    """How many products stand in the loop."""
    body = function.explain("regions").split("\n\n")[0]
    assert body.startswith("body ")
    return sum(" = einsum :" in line for line in body.split("\n"))


def _twice(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    return graphc.tanh((x @ w + b) * 0.5 - b)


MOVED: dict[str, Project] = {
    "plain": lambda x, w, b: x @ w,
    "bias": lambda x, w, b: x @ w + b,
    "bias with a dim for turns": lambda x, w, b: x @ w + graphc.reshape(b, (1, 1, 4 * HIDDEN)),
    "more elementwise work": _twice,
    "matrix first": lambda x, w, b: graphc.einsum("fc,trf->trc", w, x) + b,
    "turns in the middle": lambda x, w, b: (
        graphc.einsum("rtf,fc->trc", graphc.permute_dims(x, (1, 0, 2)), w) + b
    ),
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", MOVED)
def test_moved(session: graphc.Session, name: str, reverse: bool) -> None:
    given = operands()
    places = declared(given)
    function = session.function(places, looped(places, MOVED[name], reverse=reverse))
    assert products_inside(function) == 2
    assert "%parts" in function.explain("loops")
    for a, b in zip(function(*given), expected(session, given, MOVED[name], reverse), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rows", [32, 45])
def test_sizes_that_run_time_knows(session: graphc.Session, rows: int) -> None:
    given = operands(rows)
    n, t = graphc.Dim("n", min=32), graphc.Dim("t")
    places = declared(given, {0: (t, n, FEATURES), 3: (n, HIDDEN)})
    function = session.function(places, looped(places, MOVED["bias"]))
    assert products_inside(function) == 2
    for a, b in zip(function(*given), expected(session, given, MOVED["bias"]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_gradients_keep_their_bits(session: graphc.Session) -> None:
    """The forward loop of a training step, held against one whose product also leaves it."""
    given = operands()
    x, w, b, _, u = places = declared(given)
    results = []
    for whole in (False, True):
        found = looped(places, MOVED["bias"], whole=whole)
        gradients = graphc.grad(graphc.sum(found[1] * found[1]), [x, w, b, u])
        results.append(session.function(places, [*found, *gradients])(*given))
    moved, stayed = results
    for a, b_ in zip(moved, [*stayed[:2], *stayed[3:]], strict=True):
        np.testing.assert_array_equal(a, b_)


def _exact(state: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    new = graphc.tanh(row[:, :HIDDEN] * state)
    return new, new


STAYING = ("few rows", "read elsewhere", "short", "large matrices", "no product of the state")


@pytest.mark.parametrize("name", STAYING)
def test_staying(session: graphc.Session, name: str) -> None:
    given = operands(
        rows=16 if name == "few rows" else ROWS,
        turns=8 if name == "short" else 2 * TURNS,
        features=2048 if name == "large matrices" else FEATURES,
    )
    places = declared(given)
    if name == "no product of the state":
        x, w, b, h, _ = places
        function = session.function(places, list(graphc.scan(_exact, h, x @ w + b)))
        assert products_inside(function) == 0
        return
    results = looped(places, MOVED["bias"], whole=name == "read elsewhere")
    function = session.function(places, results)
    assert products_inside(function) == 1
    for a, b_ in zip(function(*given), expected(session, given, MOVED["bias"]), strict=False):
        np.testing.assert_array_equal(a, b_)
