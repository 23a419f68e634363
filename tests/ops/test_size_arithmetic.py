"""Arithmetic on symbolic sizes: equal values are equal expressions where that can be told."""

from __future__ import annotations

import random

import numpy as np

import graphc
from graphc.base.dims import Dim, Size, evaluate

N = Dim("n")
FOURS = Dim("h", multiple_of=4)


def test_quotients_of_quotients_are_one() -> None:
    assert ((N + 1) // 2 + 1) // 2 == (N + 3) // 4
    assert str(((N + 1) // 2 - 3) // 2) == "((n + 3) // 4) - 2"
    m = Dim("m", min=1)
    assert (N // m + 1) // 3 == (N + m) // (3 * m)


def test_multiples_divide_evenly() -> None:
    assert FOURS // 4 * 4 == FOURS
    assert 2 * (FOURS // 4) == FOURS // 2 == FOURS // 4 + FOURS // 4
    assert (FOURS // 4) * (FOURS // 2) * 8 == FOURS * FOURS
    assert FOURS // 4 * 4 - FOURS == 0
    assert str(8 * (FOURS // 8)) == "8*(h // 8)"  # not surely a multiple of 8
    assert N // 4 * 4 != N


def test_values_are_those_of_the_integers() -> None:
    rng = random.Random(2)
    calls = [{"n": k, "h": 4 * j} for k in range(6) for j in range(4)]
    for _ in range(2000):
        size: Size = N
        values = [call["n"] for call in calls]
        for _ in range(rng.randint(1, 6)):
            number, name = rng.randint(1, 9), rng.choice("nh")
            dim = N if name == "n" else FOURS
            match rng.randrange(5):
                case 0:
                    size, values = size * number, [v * number for v in values]
                case 1:
                    size, values = size - number, [v - number for v in values]
                case 2:
                    size, values = size // number, [v // number for v in values]
                case 3:
                    size = size + number * (dim // 4)
                    values = [v + number * (c[name] // 4) for v, c in zip(values, calls)]
                case 4:
                    size = size * (dim // 2)
                    values = [v * (c[name] // 2) for v, c in zip(values, calls)]
        assert [evaluate(size, call) for call in calls] == values, size


def test_halves_and_wholes_join() -> None:
    """A path that halves a picture and doubles it again meets the picture."""
    x = graphc.placeholder((FOURS, 3), name="x")
    halves = graphc.reshape(x, (FOURS // 2, 2, 3))[:, 0]
    quarters = graphc.reshape(halves, (FOURS // 4, 2, 3))[:, 1]
    again = graphc.repeat(graphc.repeat(quarters, 2, axis=0), 2, axis=0)
    y = graphc.concat([x, again], axis=1) + graphc.concat([again, x], axis=1)
    value = np.arange(24, dtype=np.float32).reshape(8, 3)
    with graphc.Session() as session:
        found = session.run(y, {x: value})
    wide = np.repeat(value[2::4], 4, axis=0)
    np.testing.assert_array_equal(found[:, :3], value + wide)
