"""Gates of recurrent cells: computed in the kernel of their product, and not a bit changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array

TURNS = 3
HIDDEN = 64
Step = Callable[[graphc.Tensor, graphc.Tensor, graphc.Tensor], graphc.Tensor]


@pytest.fixture(scope="module")
def session() -> Iterator[graphc.Session]:
    with graphc.Session(threads=2) as session:
        yield session


def _part(z: graphc.Tensor, number: int, shift: int = 0) -> graphc.Tensor:
    return z[:, number * HIDDEN + shift : (number + 1) * HIDDEN + shift]


def _gates(h: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
    z = b + h @ w
    i, f, o = (graphc.sigmoid(_part(z, k)) for k in (0, 1, 3))
    return o * graphc.tanh(f * h + i * graphc.tanh(_part(z, 2)))


def _uneven(h: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
    z = h @ w + b
    return _part(z, 3) * graphc.tanh(_part(z, 0)) - graphc.exp(_part(z, 1))


def _two(h: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
    z = h @ w
    return graphc.tanh(_part(z, 0, 32)) + h * _part(z, 2, 32)


def _whole(h: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
    z = h @ w
    return graphc.tanh(_part(z, 0)) * _part(z, 1) + graphc.mean(z, axis=1, keepdims=True)


def _no_panels(h: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
    z = h @ w
    return graphc.tanh(_part(z, 0, 5)) * _part(z, 1, 5)


def _too_many(h: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
    z = h @ w
    parts = [_part(z, k, shift) for k in (0, 1, 2) for shift in (0, 32)]
    return graphc.tanh(parts[0] * parts[1] + parts[2] * parts[3] - parts[4] * parts[5])


IN_PARTS = {"gates": _gates, "uneven": _uneven, "two": _two}
APART = {"whole": _whole, "no panels": _no_panels, "too many": _too_many}
STEPS = IN_PARTS | APART


def _operands(rows: int, dtype: str) -> list[Array]:
    rng = np.random.default_rng(0)
    shapes = (rows, HIDDEN), (HIDDEN, 4 * HIDDEN), (rows, 4 * HIDDEN)
    return [rng.standard_normal(s).astype(dtype) * 0.3 for s in shapes]


def _looped(session: graphc.Session, step: Step, operands: list[Array]) -> graphc.Function:
    h, w, b = (
        graphc.placeholder(a.shape, a.dtype, name=n) for n, a in zip("hwb", operands, strict=True)
    )
    return session.function(
        [h, w, b], graphc.scan(lambda c, _: (step(c, w, b), c), h, length=TURNS)[0]
    )


def _turns(session: graphc.Session, step: Step, operands: list[Array]) -> Array:
    h, w, b = (
        graphc.placeholder(a.shape, a.dtype, name=n) for n, a in zip("hwb", operands, strict=True)
    )
    turn = session.function([h, w, b], step(h, w, b))
    expected, matrix, bias = operands
    for _ in range(TURNS):
        expected = turn(expected, matrix, bias)
    return expected


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize(("rows", "dtype"), [(5, "float32"), (45, "float32"), (33, "float64")])
def test_a_loop_is_its_turns(session: graphc.Session, name: str, rows: int, dtype: str) -> None:
    operands = _operands(rows, dtype)
    looped = _looped(session, STEPS[name], operands)
    assert ("%parts" in looped.explain("loops")) == (name in IN_PARTS)
    np.testing.assert_array_equal(looped(*operands), _turns(session, STEPS[name], operands))


def test_one_row(session: graphc.Session) -> None:
    operands = _operands(1, "float32")
    looped = _looped(session, _gates, operands)
    assert "%parts" in looped.explain("loops")
    np.testing.assert_array_equal(looped(*operands), _turns(session, _gates, operands))


@pytest.mark.parametrize("rows", [1, 7, 32, 45])
def test_sizes_that_run_time_knows(session: graphc.Session, rows: int) -> None:
    operands = _operands(rows, "float32")
    h = graphc.placeholder(("batch", HIDDEN), name="h")
    w = graphc.placeholder((HIDDEN, 4 * HIDDEN), name="w")
    b = graphc.placeholder(("batch", 4 * HIDDEN), name="b")
    looped = session.function(
        [h, w, b], graphc.scan(lambda c, _: (_gates(c, w, b), c), h, length=TURNS)[0]
    )
    assert "%parts" in looped.explain("loops")
    np.testing.assert_array_equal(looped(*operands), _turns(session, _gates, operands))


def test_states_of_all_turns_are_stored_by_the_same_kernel(session: graphc.Session) -> None:
    operands = _operands(32, "float32")
    h, w, b = (
        graphc.placeholder(a.shape, a.dtype, name=n) for n, a in zip("hwb", operands, strict=True)
    )

    def step(c: graphc.Tensor, _: object) -> tuple[graphc.Tensor, graphc.Tensor]:
        new = _gates(c, w, b)
        return new, new

    looped = session.function([h, w, b], graphc.scan(step, h, length=TURNS)[1])
    kernels = [k for k in looped.explain("loops").split("\n") if k.startswith("kernel ")]
    assert sum("copy" in k for k in kernels) == 1
    (fused,) = [k for k in kernels if "copy" in k]
    assert "[4, 64, 32]" not in fused and "out %copy" in fused
    every = looped(*operands)
    np.testing.assert_array_equal(every[-1], _turns(session, _gates, operands))
