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
    solution, _ = remez(fit, fixed)
    # Only on one side of zero: with both, the exchange finds no alternation at zero any more.
    for _ in range(min(3, fit.degree) if fit.low > 0 else 0):
        fixed.append(round_to(solution[0], fit.bits))
        solution, _ = remez(fit, fixed)
    values = [*fixed, *(round_to(c, fit.bits) for c in solution)]
    grid = [fit.low + (fit.high - fit.low) * i / 500 for i in range(501)]
    worst = max(
        fit.weight(x) * abs(mp.polyval(values[::-1], x) - fit.function(x)) for x in grid if x != 0
    )
    print(f"{fit.name}: 2^{float(mp.log(worst, 2)):.1f}", file=sys.stderr)
    return [float(v) for v in values]


# -- the functions to fit
# -----------------------------------------------------------------------------

TINY = mpf(10) ** -24
HALF = mpf("0.501")
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


ERFC_MIDDLE = 4


def scaled_erfc(t: mpf) -> mpf:
    """exp(x**2) erfc(x) (1 + 2x) where t = (x - 4) / (x + 4)."""
    x = ERFC_MIDDLE * (1 + t) / (1 - t)
    return mp.exp(x * x) * mp.erfc(x) * (1 + 2 * x)


def erfc_fit() -> Fit:
    """`scaled_erfc` for x from 0.46 to 27.4."""
    low, high = ((mpf(x) - ERFC_MIDDLE) / (mpf(x) + ERFC_MIDDLE) for x in ("0.46", "27.4"))
    return Fit("ERFC_64", scaled_erfc, 22, low, high, lambda t: 1 / scaled_erfc(t), 53)


ERFC_LOW = mpf("0.078125")


def narrow_erfc(u: mpf) -> mpf:
    """exp(x**2) erfc(x) where u = 1 / (x + 2) - ERFC_LOW."""
    x = 1 / (u + ERFC_LOW) - 2
    return mp.exp(x * x) * mp.erfc(x)


def narrow_erfc_fit() -> Fit:
    """`narrow_erfc` for x from 0 to 10.25."""
    low, high = (1 / (mpf(x) + 2) - ERFC_LOW for x in ("10.25", "0"))
    return Fit("ERFC_32", narrow_erfc, 10, low, high, lambda u: 1 / narrow_erfc(u), 24)


def lgamma_ratio(t: mpf) -> mpf:
    """lgamma(x) / (x - 2), x = 7/4 + t."""
    x = mpf(7) / 4 + t
    return mp.loggamma(x) / (x - 2)


def stirling_rest(z: mpf) -> mpf:
    """x (lgamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2)), z = x**-2."""
    x = 1 / mp.sqrt(z)
    with mp.workdps(90):
        return x * (mp.loggamma(x) - (x - mpf(1) / 2) * mp.log(x) + x - mp.log(2 * mp.pi) / 2)


DIGAMMA_ROOT = mp.findroot(mp.digamma, mpf("1.4616321449683623412626595423"))


def digamma_ratio(t: mpf) -> mpf:
    """digamma(x) / (x - root), x = 3/2 + t."""
    x = mpf(3) / 2 + t
    return mp.digamma(x) / (x - DIGAMMA_ROOT)


def digamma_rest(z: mpf) -> mpf:
    """x**2 (log x - 1 / (2x) - digamma(x)), z = x**-2."""
    x = 1 / mp.sqrt(z)
    with mp.workdps(90):
        return (mp.log(x) - 1 / (2 * x) - mp.digamma(x)) / z


def pow_log_narrow(z: mpf) -> mpf:
    """(log2((1 + s) / (1 - s)) / s - 2 / ln 2) / z, z = s * s."""
    s = mp.sqrt(z)
    return 2 * (mp.atanh(s) / s - 1) / z / mp.log(2)


FITS: list[Fit] = [
    *both("EXP", exp_rest, -HALF_LN2, HALF_LN2, lambda r: r * r / mp.exp(r), (4, 9)),
    *both("EXPM1", exp_rest, -HALF_LN2, HALF_LN2, lambda r: abs(r * r / mp.expm1(r)), (5, 10)),
    *both("EXP2", exp2_rest, mpf("-0.501"), mpf("0.501"), lambda r: r * r / mp.exp(r), (4, 9)),
    Fit("LOG_32", log_rest, 8, LOG_LOW, LOG_HIGH, lambda f: abs(f**3 / mp.log1p(f)), 24),
    Fit("LOG2_32", lambda f: mp.log1p(f) / f / mp.log(2) - 1, 9, LOG_LOW, LOG_HIGH,
        lambda f: abs(f / mp.log1p(f)), 24),
    Fit("LOG10_32", lambda f: mp.log1p(f) / f / mp.log(10) - mpf(1) / 2, 9, LOG_LOW, LOG_HIGH,
        lambda f: abs(f / mp.log1p(f)), 24),
    Fit("LOG_BY_QUOTIENT_64", log_by_quotient, 6, TINY, mpf("0.02945"), lambda z: z / 2, 53),
    *odd("SIN", mp.sin, QUARTER_PI, (2, 5)),
    *both("COS", cos_rest, TINY, QUARTER_PI, lambda z: z**2 / mp.cos(mp.sqrt(z)), (2, 5)),
    *odd("SINH", mp.sinh, mpf("1.001"), (3, 7)),
    *odd("ATAN", mp.atan, mpf(1), (8, 19)),
    *odd("ASIN", mp.asin, mpf("0.2501"), (4, 11)),
    *odd("ATANH", mp.atanh, mpf("0.2501"), (5, 12)),
    Fit("POW_LOG_64", pow_log_rest, 6, TINY, mpf("0.02945"), lambda z: z**2 / 3, 53),
    Fit("POW_LOG_NARROW_64", pow_log_narrow, 4, TINY, mpf("0.02945"), lambda z: z / 3, 53),
    Fit("POW_EXP2_NARROW_64", exp2_rest, 5, mpf("-0.501"), mpf("0.502"), lambda r: r * r, 53),
    narrow_erfc_fit(),
    erfc_fit(),
    Fit("LGAMMA_64", lgamma_ratio, 19, -HALF, HALF, lambda t: 1 / lgamma_ratio(t), 53),
    Fit("STIRLING_64", stirling_rest, 5, mpf(10) ** -16, mpf("7.49") ** -2, mp.sqrt, 53),
    Fit("DIGAMMA_64", digamma_ratio, 20, -HALF, HALF, lambda t: 1 / digamma_ratio(t), 53),
    Fit("DIGAMMA_TAIL_64", digamma_rest, 9, mpf(10) ** -16, mpf("3.49") ** -2, lambda z: z, 53),
    *both("ERF", erf_ratio, TINY, mpf(1), erf_ratio_weight, (6, 12)),
    Fit("LOG_ERFC_32", log_erfc, 7, mpf(1), mpf("4.1"), mp.erfc, 24),
    Fit("LOG_ERFC_64", log_erfc, 17, mpf(1), mpf("6.1"), mp.erfc, 53),
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
