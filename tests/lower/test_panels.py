"""Matrices of loops in panels: copied once before the loop, and not a bit changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import graphc

TURNS = 3
Step = Callable[[graphc.Tensor, graphc.Tensor, graphc.Tensor], graphc.Tensor]


@pytest.fixture(scope="module")
def session() -> Iterator[graphc.Session]:
    with graphc.Session(threads=2) as session:
        yield session


def _square(h: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
    return graphc.tanh(h @ w)


def _turned(h: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
    return graphc.tanh(h @ w.T)


def _epilogue(h: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
    return graphc.tanh((h @ w) * 0.5 + h + b)


def _sliced(h: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
    z = h @ w + h
    half = z.shape[1] // 2
    return graphc.concat([z[:, half:], graphc.tanh(z[:, :half]) + b[:half]], axis=1)


def _twice(h: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
    z = h @ w
    return graphc.tanh(z + h @ w.T) - graphc.sigmoid(z)


STEPS = {"square": _square, "turned": _turned, "epilogue": _epilogue, "sliced": _sliced,
         "twice": _twice}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 5, 32])
def test_a_loop_is_its_turns(session: graphc.Session, name: str, dtype: str, rows: int) -> None:
    step = STEPS[name]
    if rows == 1:  # of w.T outside of a loop each row is a dot product, in another order
        step = {_turned: _square, _twice: _epilogue}.get(step, step)
    rng = np.random.default_rng(0)
    start, matrix, bias = (
        rng.standard_normal(s).astype(dtype) * 0.1 for s in ((rows, 128), (128, 128), (128,))
    )
    h = graphc.placeholder(start.shape, dtype, name="h")
    w = graphc.placeholder(matrix.shape, dtype, name="w")
    b = graphc.placeholder(bias.shape, dtype, name="b")
    looped = session.function(
        [h, w, b], graphc.scan(lambda c, _: (step(c, w, b), None), h, length=TURNS)[0]
    )
    panels = "[4, 128, 32]" if dtype == "float32" else "[8, 128, 16]"
    assert panels in looped.explain("loops")
    turn = session.function([h, w, b], step(h, w, b))
    expected = start
    for _ in range(TURNS):
        expected = turn(expected, matrix, bias)
    np.testing.assert_array_equal(looped(start, matrix, bias), expected)


def test_while_loops_have_panels_too(session: graphc.Session) -> None:
    rng = np.random.default_rng(1)
    start, matrix = (rng.standard_normal(s).astype(np.float32) for s in ((4, 256), (256, 256)))
    h, w = graphc.placeholder((4, 256), name="h"), graphc.placeholder((256, 256), name="w")
    loop = graphc.while_loop(
        lambda s: s[0] < TURNS,
        lambda s: (s[0] + 1, graphc.tanh(s[1] @ w)),
        (graphc.constant(np.int64(0)), h),
    )
    looped = session.function([h, w], loop[1])
    assert "[8, 256, 32]" in looped.explain("loops")
    turn = session.function([h, w], graphc.tanh(h @ w))
    expected = start
    for _ in range(TURNS):
        expected = turn(expected, matrix)
    np.testing.assert_array_equal(looped(start, matrix), expected)


@pytest.mark.parametrize(
    ("columns", "changes", "why"),
    [(120, False, "no whole panels"), (32, False, "one panel"), (128, True, "changes by turn")],
)
def test_what_stays_as_it_is(
    session: graphc.Session, columns: int, changes: bool, why: str
) -> None:
    h = graphc.placeholder((8, 512), name="h")
    w = graphc.placeholder((3, 512, columns) if changes else (512, columns), name="w")

    def step(carry: graphc.Tensor, row: graphc.Tensor | None) -> object:
        z = carry @ (w if row is None else row)
        return graphc.tanh(carry + graphc.sum(z)), None

    sequence = w if changes else None
    length = None if changes else TURNS
    looped = session.function([h, w], graphc.scan(step, h, sequence, length=length)[0])
    assert f"[{columns // 32}, 512, 32]" not in looped.explain("loops"), why
