"""Measure the largest errors of the math functions here: the table of docs/math-accuracy.md.

float32: 65,536 significands of every exponent. float64: 20,000 points of each function's busy range
and the points of the tests, against mpmath. With and without fused multiply-add; the larger counts.
Run: python -m benchmarks.math_accuracy (about three minutes).
"""

from __future__ import annotations

import sys

import numpy as np

from graphc.backend.math_decompositions import DECOMPOSITIONS
from graphc.base.dtypes import float32, float64
from tests.backend.math_truth import (
    INEXACT,
    PAIRS,
    Array,
    compiled,
    error_float64,
    errors_float32,
    is_ordinary,
    truth_in_float64,
    truths,
)
from tests.backend.test_math_float32 import TARGETS, pairs
from tests.backend.test_math_float64 import BUSY, arguments


def largest_float32(name: str) -> float:
    """The largest error in float32, in units in the last place."""
    functions = [compiled(name, float32, target) for target in TARGETS]
    worst = 0.0
    for operands in [pairs()] if name in PAIRS else _float32_blocks():
        truth = truth_in_float64(name, *operands)
        worst = max([worst, *(errors_float32(f(*operands), truth).max() for f in functions)])
    return worst


def _float32_blocks() -> list[tuple[Array]]:
    # Offsets at random: short significands would make sums exact that usually are not.
    offsets = np.random.default_rng(2).integers(0, 128, 2**16, dtype=np.uint32)
    significands = np.arange(0, 2**23, 128, dtype=np.uint32) + offsets
    heads = np.arange(512, dtype=np.uint32).reshape(64, 8, 1) << np.uint32(23)
    return [((block | significands).ravel().view(np.float32),) for block in heads]


def largest_float64(name: str) -> float:
    """The largest error in float64, in units in the last place."""
    points = list(arguments(name))
    if name in BUSY:
        drawn = np.random.default_rng(1).uniform(*BUSY[name], 20_000)
        points += [(float(x),) for x in drawn if is_ordinary(name, float(x))]
    exact = truths(name, points)
    operands = [np.array(column) for column in zip(*points, strict=True)]
    worst = 0.0
    for target in TARGETS:
        got = compiled(name, float64, target)(*operands)
        triples = zip(points, got, exact, strict=True)
        worst = max([worst, *(error_float64(name, p, float(g), t) for p, g, t in triples)])
    return worst


def main() -> None:
    """Print the table, or its rows for the functions named on the command line."""
    print("| Function | float32: declared | measured | float64: declared | measured |")
    print("| --- | --- | --- | --- | --- |")
    for name in sys.argv[1:] or sorted(INEXACT):
        entry = DECOMPOSITIONS[name]
        narrow, wide = largest_float32(name), largest_float64(name)
        print(
            f"| `{name}` | {entry.ulp32} | {narrow:.2f} | {entry.ulp64} | {wide:.2f} |", flush=True
        )


if __name__ == "__main__":
    main()
