"""float64 math, compiled, against mpmath: numbers of every exponent and of each busy range."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from graphc.backend.math_decompositions import DECOMPOSITIONS
from graphc.base.dtypes import float64
from graphc.base.target import Target
from tests.backend.math_truth import (
    MP,
    PAIRS,
    UNARY,
    Array,
    compiled,
    error_float64,
    is_ordinary,
    truths,
)
from tests.backend.running import RUNNABLE

TARGETS = {t.has_fma: t for t in RUNNABLE}.values()
# Where a function does something other than overflow, saturate or copy its operand.
BUSY = {
    "exp": (-746, 710), "exp2": (-1076, 1025), "expm1": (-40, 710), "log": (0, 4), "log2": (0, 4),
    "log10": (0, 4), "log1p": (-1, 4), "sin": (-30, 30), "cos": (-30, 30), "tan": (-30, 30),
    "asin": (-1, 1), "acos": (-1, 1), "atan": (-5, 5), "sinh": (-5, 5), "cosh": (-5, 5),
    "tanh": (-3, 3), "asinh": (-4, 4), "acosh": (1, 6), "atanh": (-1, 1), "erf": (-6, 6),
    "erfc": (-6, 27.3), "lgamma": (-20, 20), "digamma": (-20, 20), "reciprocal_sqrt": (0, 4),
}  # fmt: skip


@functools.cache
def arguments(name: str) -> tuple[tuple[float, ...], ...]:
    """Ordinary points of the function's domain; pairs for functions of two operands."""
    rng = np.random.default_rng(22)
    if name in PAIRS:
        points = _pairs(rng)
    else:
        head = np.arange(4096, dtype=np.uint64) << np.uint64(52)
        every = (head | rng.integers(0, 2**52, 4096, dtype=np.uint64)).view(np.float64)
        low, high = BUSY[name]
        near_one = 1 + rng.normal(size=200) * 10.0 ** rng.uniform(-12, -1, 200)
        points = np.concatenate([every, rng.uniform(low, high, 2000), near_one])[:, None]
    chosen = [tuple(float(v) for v in point) for point in points]
    return tuple(point for point in chosen if is_ordinary(name, *point))


def _pairs(rng: np.random.Generator) -> Array:
    count = 1500
    patterns = rng.integers(0, 2**64, (count, 2), dtype=np.uint64).view(np.float64)
    near = 1 + rng.normal(size=count) * 10.0 ** rng.uniform(-14, 1, count)
    reach = rng.uniform(-750, 750, count) / np.log(np.abs(near) + 1e-17)
    whole = rng.integers(-60, 60, count).astype(np.float64)
    powers = np.stack([near, reach], 1)
    return np.concatenate([patterns, powers, np.stack([rng.normal(size=count), whole], 1)])


@functools.cache
def values(name: str) -> tuple[object, ...]:
    return tuple(truths(name, list(arguments(name))))


def hold(name: str, got: Array, points: tuple[tuple[float, ...], ...], truth: object) -> None:
    assert isinstance(truth, tuple)
    errors = [error_float64(name, p, float(g), t) for p, g, t in zip(points, got, truth)]
    worst = int(np.argmax(errors))
    assert errors[worst] <= DECOMPOSITIONS[name].ulp64, (points[worst], got[worst])


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: str(t.name))
@pytest.mark.parametrize("name", UNARY + PAIRS)
def test_against_mpmath(name: str, target: Target) -> None:
    points = arguments(name)
    operands = [np.array(column) for column in zip(*points)]
    hold(name, compiled(name, float64, target)(*operands), points, values(name))


@functools.cache
def closest_to_quarter_turns() -> tuple[tuple[float, ...], ...]:
    """For each exponent the numbers closest to multiples of pi/2 (Kahan): significands that are
    denominators of convergents of the continued fraction of 2**e / (pi/2)."""
    found = []
    with MP.workprec(2400):
        for exponent in range(-52, 972):
            rest = MP.ldexp(2 / MP.pi, exponent)
            before, denominator = 1, 0
            while denominator < 2**53:
                whole = int(MP.floor(rest))
                before, denominator = denominator, whole * denominator + before
                rest = 1 / (rest - whole)
            # `before` is the last denominator that fits; its multiples come nearly as close.
            found.append((math.ldexp(before * (2**53 // before), exponent),))
    return tuple(point for point in found if 0.5 < point[0] < math.inf)


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_hardest_reductions(name: str) -> None:
    points = closest_to_quarter_turns()
    got = compiled(name, float64, RUNNABLE[-1])(np.array([p[0] for p in points]))
    hold(name, got, points, tuple(truths(name, list(points))))
    # They are hard: some reduced argument has lost all bits of a float64 but the last few.
    assert name != "cos" or min(abs(got)) < 2.0**-60
