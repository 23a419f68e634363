"""Fit the polynomials of graphc/backend/math_*.py and print graphc/backend/math_coefficients.py.

Each entry is a minimax fit (Remez exchange in multiple precision) of a smooth remainder function
on the interval to which the argument reduction brings the operand. The leading coefficients are
rounded one after another and the rest fitted again, so that rounding them costs nothing. Run:
python benchmarks/fit_math.py > graphc/backend/math_coefficients.py (needs mpmath, a few minutes).
The largest weighted error of each fit goes to stderr as a power of two.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from mpmath import mp, mpf

mp.dps = 50
Function = Callable[[mpf], mpf]


@dataclass(frozen=True)
class Fit:
    """One polynomial: sum of coefficient[k] * x**k close to `function` on [low, high].

    `weight` turns the absolute error of the polynomial into what it costs the final result.
    """

    name: str
    function: Function
    degree: int
    low: mpf
    high: mpf
    weight: Function
    bits: int
    rounded: int = 3


def round_to(value: mpf, bits: int) -> mpf:
    """`value` as float32 (24 bits) or float64 (53 bits)."""
    return mpf(float(np.float32(float(value)))) if bits == 24 else mpf(float(value))


def remez(fit: Fit, fixed: Sequence[mpf]) -> tuple[list[mpf], mpf]:
    """The minimax coefficients after the `fixed` leading ones, and the largest weighted error."""
    first = len(fixed)
    unknown = fit.degree + 1 - first
    middle, half = (fit.low + fit.high) / 2, (fit.high - fit.low) / 2
    count = 24 * (unknown + 1)
    grid = [middle - half * mp.cos(mp.pi * (i + mpf(1) / 2) / count) for i in range(count)]
    grid = [fit.low, *grid, fit.high]
    target = [
        fit.function(x) - mp.polyval(list(fixed)[::-1], x) if fixed else fit.function(x)
        for x in grid
    ]
    weights = [fit.weight(x) for x in grid]
    points = [round(i * (len(grid) - 1) / unknown) for i in range(unknown + 1)]
    points = [
        min(
            range(len(grid)),
            key=lambda j: abs(grid[j] - (middle - half * mp.cos(mp.pi * i / unknown))),
        )
        for i in range(unknown + 1)
    ]
    solution: list[mpf] = []
    worst = mpf(0)
    for _ in range(30):
        matrix = mp.matrix(unknown + 1, unknown + 1)
        right = mp.matrix(unknown + 1, 1)
        for row, j in enumerate(points):
            for k in range(unknown):
                matrix[row, k] = weights[j] * grid[j] ** (first + k)
            matrix[row, unknown] = (-1) ** row
            right[row] = weights[j] * target[j]
        solved = mp.lu_solve(matrix, right)
        solution = [solved[k] for k in range(unknown)]
        level = abs(solved[unknown])
        errors = [
            w * (x**first * mp.polyval(solution[::-1], x) - t)
            for x, t, w in zip(grid, target, weights, strict=True)
        ]
        worst = max(abs(e) for e in errors)
        if worst <= level * mpf("1.01"):
            break
        points = alternating(errors, unknown + 1)
    return solution, worst


def alternating(errors: Sequence[mpf], count: int) -> list[int]:
    """Indices of `count` extrema of alternating sign, the smallest dropped from the ends."""
    chosen: list[int] = []
    for i, error in enumerate(errors):
        if chosen and (errors[chosen[-1]] > 0) == (error > 0):
            if abs(error) > abs(errors[chosen[-1]]):
                chosen[-1] = i
        elif error != 0:
            chosen.append(i)
    while len(chosen) > count:
        chosen.pop(0 if abs(errors[chosen[0]]) < abs(errors[chosen[-1]]) else -1)
    if len(chosen) < count:
        raise ArithmeticError(
            f"only {len(chosen)} of {count} extrema: raise the precision or change the degree"
        )
    return chosen


def coefficients(fit: Fit) -> list[float]:
    """The rounded coefficients, lowest first."""
    fixed: list[mpf] = []
    solution, worst = remez(fit, fixed)
    for _ in range(min(fit.rounded, fit.degree)):
        fixed.append(round_to(solution[0], fit.bits))
        solution, worst = remez(fit, fixed)
    values = [*fixed, *(round_to(c, fit.bits) for c in solution)]
    print(f"{fit.name}: 2^{float(mp.log(worst, 2)):.1f}", file=sys.stderr)
    return [float(v) for v in values]


# -- the functions to fit
# -----------------------------------------------------------------------------

TINY = mpf(10) ** -24
HALF_LN2 = mp.log(2) / 2 * mpf("1.01")
QUARTER_PI = (mp.pi / 4 * mpf("1.01")) ** 2
LOG_LOW, LOG_HIGH = mp.sqrt(mpf(1) / 2) - 1 - mpf("1e-6"), mp.sqrt(2) - 1 + mpf("1e-6")


def even_rest(function: Function) -> Function:
    """z -> (function(x) - x) / x**3 with z = x * x, for odd functions that start with x."""

    def rest(z: mpf) -> mpf:
        x = mp.sqrt(z)
        return (function(x) - x) / (x * z)

    return rest


def even_weight(function: Function) -> Function:
    """What an error of `even_rest` costs relative to the function."""

    def weight(z: mpf) -> mpf:
        x = mp.sqrt(z)
        return x * z / function(x)

    return weight


def odd(name: str, function: Function, high: mpf, degrees: tuple[int, int]) -> list[Fit]:
    """Fits of an odd function x + x**3 * p(x * x) for both float widths."""
    rest, weight = even_rest(function), even_weight(function)
    return [
        Fit(f"{name}_32", rest, degrees[0], TINY, high, weight, 24),
        Fit(f"{name}_64", rest, degrees[1], TINY, high, weight, 53),
    ]


def both(
    name: str, function: Function, low: mpf, high: mpf, weight: Function, degrees: tuple[int, int]
) -> list[Fit]:
    """The same fit for both float widths."""
    return [
        Fit(f"{name}_32", function, degrees[0], low, high, weight, 24),
        Fit(f"{name}_64", function, degrees[1], low, high, weight, 53),
    ]


def exp_rest(r: mpf) -> mpf:
    return (mp.expm1(r) - r) / r**2


def exp2_rest(r: mpf) -> mpf:
    return (mp.expm1(r * mp.log(2)) - r * mp.log(2)) / r**2


def log_rest(f: mpf) -> mpf:
    return (mp.log1p(f) - f + f * f / 2) / f**3


def log_by_quotient(z: mpf) -> mpf:
    """(log((1 + s) / (1 - s)) - 2 s) / (s z), z = s * s."""
    s = mp.sqrt(z)
    return (2 * mp.atanh(s) - 2 * s) / (s * z)


def pow_log_rest(z: mpf) -> mpf:
    """3 (atanh(s) / s - 1 - z / 3) / z**2, z = s * s."""
    s = mp.sqrt(z)
    return 3 * (mp.atanh(s) / s - 1 - z / 3) / z**2


def cos_rest(z: mpf) -> mpf:
    return (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2


def erf_ratio(z: mpf) -> mpf:
    x = mp.sqrt(z)
    return mp.erf(x) / x - 1


def erf_ratio_weight(z: mpf) -> mpf:
    x = mp.sqrt(z)
    return x / mp.erf(x)


def log_erfc(x: mpf) -> mpf:
    return -mp.log(mp.erfc(x))


FITS: list[Fit] = [
    *both("EXP", exp_rest, -HALF_LN2, HALF_LN2, lambda r: r * r / mp.exp(r), (4, 9)),
    *both("EXPM1", exp_rest, -HALF_LN2, HALF_LN2, lambda r: abs(r * r / mp.expm1(r)), (5, 10)),
    *both("EXP2", exp2_rest, mpf("-0.501"), mpf("0.501"), lambda r: r * r / mp.exp(r), (4, 9)),
    Fit("LOG_32", log_rest, 8, LOG_LOW, LOG_HIGH, lambda f: abs(f**3 / mp.log1p(f)), 24),
    Fit("LOG2_32", lambda f: mp.log1p(f) / f / mp.log(2) - 1, 9, LOG_LOW, LOG_HIGH,
        lambda f: abs(f / mp.log1p(f)), 24),
    Fit("LOG10_32", lambda f: mp.log1p(f) / f / mp.log(10), 9, LOG_LOW, LOG_HIGH,
        lambda f: abs(f / mp.log1p(f)), 24),
    *both("LOG_BY_QUOTIENT", log_by_quotient, TINY, mpf("0.02945"), lambda z: z / 2, (3, 6)),
    *odd("SIN", mp.sin, QUARTER_PI, (2, 5)),
    *both("COS", cos_rest, TINY, QUARTER_PI, lambda z: z**2 / mp.cos(mp.sqrt(z)), (2, 5)),
    *odd("TANH", mp.tanh, mpf("0.551") ** 2, (4, 10)),
    *odd("SINH", mp.sinh, mpf("1.001"), (3, 7)),
    *odd("ATAN", mp.atan, mpf(1), (8, 19)),
    *odd("ASIN", mp.asin, mpf("0.2501"), (4, 11)),
    *odd("ATANH", mp.atanh, mpf("0.2501"), (5, 12)),
    Fit("POW_LOG_64", pow_log_rest, 6, TINY, mpf("0.02945"), lambda z: z**2 / 3, 53),
    *both("ERF", erf_ratio, TINY, mpf(1), erf_ratio_weight, (6, 12)),
    Fit("LOG_ERFC_32", log_erfc, 7, mpf(1), mpf("4.1"), mp.erfc, 24, 2),
    Fit("LOG_ERFC_64", log_erfc, 17, mpf(1), mpf("6.1"), mp.erfc, 53, 2),
]  # fmt: skip

HEADER = '''"""Minimax coefficients of the math decompositions (floor 6), lowest power first.

Generated by `python benchmarks/fit_math.py`; the fitted function, interval and weight of each are
there. A name ends with the width of the float type whose values the coefficients are.
"""

from __future__ import annotations

'''


def main() -> None:
    """Print the module of coefficients."""
    print(HEADER, end="")
    for fit in FITS:
        values = coefficients(fit)
        print(f"{fit.name} = (")
        for value in values:
            print(f"    {value!r},")
        print(")")


if __name__ == "__main__":
    main()
