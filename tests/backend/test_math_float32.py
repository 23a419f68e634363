"""float32 math, compiled: 4,096 significands of every exponent, held to the declared bounds.

The slow version runs every float32 there is.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from graphc.backend.math_decompositions import DECOMPOSITIONS
from graphc.base.dtypes import float32
from graphc.base.target import Target
from tests.backend.math_truth import (
    PAIRS,
    UNARY,
    Array,
    compiled,
    errors_float32,
    truth_in_float64,
)
from tests.backend.running import RUNNABLE

PER_EXPONENT = 4096
# All targets with fused multiply-add give the same bits: the widest stands for them.
TARGETS = {t.has_fma: t for t in RUNNABLE}.values()


@functools.cache
def every_exponent() -> Array:
    """Every exponent and sign; significands evenly spread with a random offset, and both ends."""
    rng = np.random.default_rng(20)
    step = 2**23 // PER_EXPONENT
    significand = np.arange(PER_EXPONENT) * step + rng.integers(0, step, PER_EXPONENT)
    significand[[0, -1]] = 0, 2**23 - 1
    head = np.arange(512, dtype=np.uint32)[:, None] << np.uint32(23)
    return (head | significand.astype(np.uint32)).ravel().view(np.float32)


@functools.cache
def truth(name: str) -> Array:
    return truth_in_float64(name, every_exponent())


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: str(t.name))
@pytest.mark.parametrize("name", UNARY)
def test_every_exponent(name: str, target: Target) -> None:
    x = every_exponent()
    error = errors_float32(compiled(name, float32, target)(x), truth(name))
    worst = int(np.argmax(error))
    assert error[worst] <= DECOMPOSITIONS[name].ulp32, (x[worst], truth(name)[worst])


@functools.cache
def pairs() -> tuple[Array, Array]:
    """Pairs of random patterns, of moderate numbers, and of powers that do not overflow."""
    rng = np.random.default_rng(21)
    count = 400_000
    patterns = rng.integers(0, 2**32, (2, count), dtype=np.uint32).view(np.float32)
    near = (1 + rng.normal(size=count) * 10.0 ** rng.uniform(-7, 1, count)).astype(np.float32)
    reach = rng.uniform(-100, 100, count) / np.log(np.abs(near.astype(np.float64)) + 1e-9)
    whole = rng.integers(-40, 40, count).astype(np.float32)
    x = np.concatenate([patterns[0], near, rng.normal(size=count).astype(np.float32), near])
    y = np.concatenate([patterns[1], reach.astype(np.float32), whole, near[::-1]])
    return x, y


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: str(t.name))
@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name: str, target: Target) -> None:
    x, y = pairs()
    error = errors_float32(compiled(name, float32, target)(x, y), truth_in_float64(name, x, y))
    worst = int(np.argmax(error))
    assert error[worst] <= DECOMPOSITIONS[name].ulp32, (x[worst], y[worst])


@pytest.mark.slow
@pytest.mark.parametrize("name", UNARY)
def test_every_float32(name: str) -> None:
    function = compiled(name, float32, RUNNABLE[-1])
    significands = np.arange(2**23, dtype=np.uint32)
    for head in range(512):
        x = (significands | np.uint32(head << 23)).view(np.float32)
        error = errors_float32(function(x), truth_in_float64(name, x))
        worst = int(np.argmax(error))
        assert error[worst] <= DECOMPOSITIONS[name].ulp32, x[worst]


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_hardest_reductions(name: str) -> None:
    """The float32 numbers next to multiples of pi/2, where the reduction loses the most bits."""
    steps = np.arange(1, 2**22, dtype=np.float64)
    near = (steps * (np.pi / 2)).astype(np.float32)
    x = np.concatenate([near, np.nextafter(near, np.float32(0)), near * np.float32(2.0**80)])
    error = errors_float32(compiled(name, float32, RUNNABLE[-1])(x), truth_in_float64(name, x))
    worst = int(np.argmax(error))
    assert error[worst] <= DECOMPOSITIONS[name].ulp32, x[worst]
