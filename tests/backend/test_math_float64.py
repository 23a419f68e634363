"""float64 math, compiled, against mpmath: numbers of every exponent and of each busy range."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from graphc.backend.math_decompositions import DECOMPOSITIONS
from graphc.base.dtypes import float64
from graphc.base.target import Target
from tests.backend.math_truth import (
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


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_hardest_reductions(name: str) -> None:
    """Numbers that come closest to multiples of pi/2: convergents of x / (pi/2), each exponent."""
    hardest = [6381956970095103.0 * 2.0**797, 5319372648326541.0 * 2.0**30, 1e22, 2.0**1023, 1e300]
    steps = 10.0 ** np.random.default_rng(23).uniform(0, 17, 1500)
    near = np.round(steps) * (np.pi / 2)
    points = tuple((float(v),) for v in np.concatenate([hardest, near, np.nextafter(near, 0)]))
    got = compiled(name, float64, RUNNABLE[-1])(np.array([p[0] for p in points]))
    hold(name, got, points, tuple(truths(name, list(points))))
