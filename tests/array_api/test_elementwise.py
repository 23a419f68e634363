"""Elementwise functions on all dtypes and pairs of dtypes, special values included: NumPy's dtype,
values, NaN, infinities and zero signs.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import graphc
from tests.array_api.against_numpy import DTYPES, FLOATS, Cases, specials

UNARY = """
abs acos acosh asin asinh atan atanh bitwise_count bitwise_invert ceil cos cosh exp exp2 expm1 floor
isfinite isinf isnan log log10 log1p log2 logical_not negative positive round sign signbit sin sinh
sqrt square tan tanh trunc
""".split()
BINARY = """
add atan2 bitwise_and bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor copysign divide
equal floor_divide greater greater_equal hypot less less_equal logaddexp logical_and logical_or
logical_xor maximum minimum multiply nextafter not_equal pow remainder subtract
""".split()
# The standard wants numbers here; NumPy takes bool too (and gives bool, int8 or float16).
NUMBERS_ONLY = """
abs bitwise_count bitwise_left_shift bitwise_right_shift ceil floor floor_divide pow remainder round
square trunc
""".split()
ULPS = 8


@pytest.mark.parametrize("name", UNARY)
def test_one_operand(name: str) -> None:
    cases = Cases(ulps=ULPS)
    for dtype in DTYPES:
        if dtype == "bool" and name in NUMBERS_ONLY:
            with pytest.raises(graphc.DTypeError):
                getattr(graphc, name)(graphc.placeholder((2,), "bool"))
            continue
        cases.add(f"{name} {dtype}", getattr(graphc, name), getattr(np, name), specials(dtype))
    cases.check()


@pytest.mark.parametrize("name", BINARY)
def test_two_operands(name: str) -> None:
    # Which zero is larger is open in the standard, and NumPy's own dtypes differ.
    # logaddexp takes the difference of nearly equal numbers near 0, in NumPy too.
    ulps = 64 if name == "logaddexp" else ULPS
    cases = Cases(ulps=ulps, zero_signs=name not in ("maximum", "minimum", "nextafter"))
    for first, second in itertools.product(DTYPES, DTYPES):
        if first == second == "bool" and name in NUMBERS_ONLY:
            with pytest.raises(graphc.DTypeError):
                both = [graphc.placeholder((2,), "bool") for _ in "ab"]
                getattr(graphc, name)(*both)
            continue
        if name == "nextafter" and not {first, second} <= set(FLOATS):
            continue  # floats only in the standard
        x, y = specials(first)[:, None], specials(second)[None, :]
        integers = np.result_type(first, second).kind in "iu"
        if name == "pow" and integers:
            y = y[y >= 0][None, :]  # a negative integer power of an integer is undefined
        cases.add(f"{name} {first} {second}", getattr(graphc, name), getattr(np, name), x, y)
    cases.check()


SCALARS: tuple[Any, ...] = (0, 1, 2, -1, 3, 100, 2.5, -0.5, 1e300, np.inf, np.nan, True, False)
OPERATORS: dict[str, Any] = {
    "x + s": lambda x, s: x + s,
    "s - x": lambda x, s: s - x,
    "x * s": lambda x, s: x * s,
    "s * x": lambda x, s: s * x,
    "x / s": lambda x, s: x / s,
    "s / x": lambda x, s: s / x,
    "x // s": lambda x, s: x // s,
    "s % x": lambda x, s: s % x,
    "x < s": lambda x, s: x < s,
    "s <= x": lambda x, s: s <= x,
    "x == s": lambda x, s: x == s,
    "x != s": lambda x, s: x != s,
    "x & s": lambda x, s: x & s,
    "s ^ x": lambda x, s: s ^ x,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_python_scalars(name: str) -> None:
    # 0 added or taken off: `standard` numerics may change the sign of a zero.
    cases = Cases(ulps=ULPS, zero_signs=name not in ("x + s", "s - x"))
    operator = OPERATORS[name]
    for dtype, scalar in itertools.product(DTYPES, SCALARS):
        if dtype == "bool" and isinstance(scalar, bool) and name in ("x // s", "s % x"):
            continue  # numbers only
        negative = isinstance(scalar, int) and scalar < 0 and dtype.startswith("uint")
        if negative and name in ("x < s", "s <= x", "x == s", "x != s", "x / s", "s / x"):
            continue  # refused: the number does not fit the dtype
        cases.add(
            f"{name}: {dtype}, {scalar!r}",
            lambda x, s=scalar: operator(x, s),
            lambda x, s=scalar: operator(x, s),
            specials(dtype),
        )
    cases.check()
