"""Powers, roots, norms, trigonometry, special functions: at their edges."""

from __future__ import annotations

from typing import Any

from tests.stability.suite import Case

TINY_TO_HUGE = {
    "float32": [[1e-38, 1e-20, 1e-8, 1.0, 1e8, 1e20, 1e38]],
    "float64": [[1e-300, 1e-200, 1e-8, 1.0, 1e8, 1e200, 1e300]],
}
SIGNED = {
    "float32": [[-1e30, -1e-30, 3.0, 1e-25, 1e25]],
    "float64": [[-1e300, -1e-300, 3.0, 1e-250, 1e250]],
}
SIDES = {
    "float32": ([3e30, 3e-30, 3.0, 1e38, 0.0], [4e30, 4e-30, -4.0, 1e-38, 2e-30]),
    "float64": ([3e300, 3e-300, 3.0, 1e308, 0.0], [4e300, 4e-300, -4.0, 1e-308, 2e-300]),
}
VECTORS = {
    "float32": [[[3e30, 4e30, -1e30], [3e-30, 4e-30, 1e-33], [1e-38, 1e30, 2.0]]],
    "float64": [[[3e300, 4e300, -1e300], [3e-300, 4e-300, 1e-303], [1e-300, 1e300, 2.0]]],
}
NEAR_ONE = [-0.999999, -0.5, -1e-10, 0.0, 1e-20, 0.5, 0.999, 0.9999999]
ANGLES = [-100.0, -1.0, -1e-8, 1e-20, 1e-4, 1.0, 3.0, 1e3]


def _normalized(m: Any, x: Any) -> Any:
    return x / m.sqrt(m.sum(x * x, axis=-1, keepdims=True))


def _cosine(m: Any, a: Any, b: Any) -> Any:
    norms = m.sqrt(m.sum(a * a, axis=-1)) * m.sqrt(m.sum(b * b, axis=-1))
    return m.sum(a * b, axis=-1) / norms


def _directions(m: Any, a: Any, b: Any) -> Any:
    la = m.sqrt(m.sum(a * a, axis=-1, keepdims=True))
    lb = m.sqrt(m.sum(b * b, axis=-1, keepdims=True))
    return (4 / la + 0 * a, 4 / lb + 0 * b)


CASES = [
    Case("sqrt(x) ** 2", lambda m, x: m.sqrt(x) ** 2, [], by_dtype=TINY_TO_HUGE),
    Case("sqrt(x ** 2)", lambda m, x: m.sqrt(x**2), [], by_dtype=SIGNED),
    Case(
        "x / sqrt(x * x + 1)",
        lambda m, x: x / m.sqrt(x * x + 1),
        [],
        by_dtype=SIGNED,
        gradient_scale=lambda m, x: 4 / m.sqrt(x * x + 1),
        why="the gradient is the difference of two terms of the size 1 / hypot(x, 1)",
    ),
    Case("sqrt(x * x + 1)", lambda m, x: m.sqrt(1 + x * x), [], by_dtype=SIGNED, digits=1500),
    Case("sqrt(1 - x * x)", lambda m, x: m.sqrt(1 - x * x), [NEAR_ONE]),
    Case("1 / sqrt(x)", lambda m, x: 1 / m.sqrt(x), [], by_dtype=TINY_TO_HUGE),
    Case("rsqrt", lambda m, x: m.rsqrt(x), [], by_dtype=TINY_TO_HUGE),
    Case("hypot, naive", lambda m, x, y: m.sqrt(x * x + y * y), [], by_dtype=SIDES),
    Case("hypot, function", lambda m, x, y: m.hypot(x, y), [], by_dtype=SIDES),
    Case(
        "norm, naive",
        lambda m, x: m.sqrt(m.sum(x * x, axis=-1)),
        [],
        by_dtype=VECTORS,
        mixes=True,
        digits=1500,
    ),
    Case(
        "norm, sum(x ** 2) ** 0.5",
        lambda m, x: m.sum(x**2, axis=-1) ** 0.5,
        [],
        by_dtype=VECTORS,
        mixes=True,
        digits=1500,
    ),
    Case(
        "norm, function",
        lambda m, x: m.vector_norm(x, axis=-1),
        [],
        by_dtype=VECTORS,
        mixes=True,
        digits=1500,
    ),
    Case(
        "x / norm(x)",
        _normalized,
        [],
        by_dtype=VECTORS,
        mixes=True,
        digits=1500,
        gradient_scale=lambda m, x: 8 / m.sqrt(m.sum(x * x, axis=-1, keepdims=True)) + 0 * x,
        why="the gradient is a difference of terms of size 1 / norm",
    ),
    Case(
        "cosine similarity, naive",
        _cosine,
        [],
        by_dtype={
            "float32": (
                [[3e15, 4e15], [3e-16, 4e-16], [1.0, 2.0]],
                [[1e15, 2e15], [5e-16, 1e-17], [-2.0, 1.0]],
            ),
            "float64": (
                [[3e150, 4e150], [3e-150, 4e-150], [1.0, 2.0]],
                [[1e150, 2e150], [5e-150, 1e-152], [-2.0, 1.0]],
            ),
        },
        mixes=True,
        scale=lambda m, a, b: _cosine(m, a, b) * 0 + 1,
        gradient_scale=_directions,
        why="a sum of terms up to 1 that may cancel; the gradient's terms have size 1 / norm",
    ),
    Case(
        "cosine similarity, function",
        lambda m, a, b: m.cosine_similarity(a, b),
        [],
        by_dtype={
            "float32": ([[3e30, 4e30], [1.0, 2.0]], [[1e30, 2e30], [-2.0, 1.0]]),
            "float64": ([[3e300, 4e300], [1.0, 2.0]], [[1e300, 2e300], [-2.0, 1.0]]),
        },
        exact=_cosine,
        mixes=True,
        scale=lambda m, a, b: _cosine(m, a, b) * 0 + 1,
        gradient_scale=_directions,
        why="as naive",
    ),
    Case("x ** 3", lambda m, x: x**3, [[-1e10, -1e-10, 0.5, 1e10]]),
    Case("x ** 0.5", lambda m, x: x**0.5, [], by_dtype=TINY_TO_HUGE),
    Case(
        "pow",
        lambda m, x, y: m.pow(x, y),
        [[1.0000001, 0.5, 1e-10, 2.0, 10.0], [1e6, 100.0, 3.5, -100.0, 37.5]],
    ),
    Case(
        "(1 + x) ** n",
        lambda m, x: (1 + x) ** 1000.0,
        [[1e-3, 1e-2, -1e-3]],
        scale=lambda m, x: 1000 * (1 + x) ** 1000,
        gradient_scale=lambda m, x: 1000000 * (1 + x) ** 999,
        why="the rounding of 1 + x, 1000 times",
    ),
    Case(
        "sin(x) / x",
        lambda m, x: m.sin(x) / x,
        [ANGLES],
        gradient_scale=lambda m, x: 1 / m.abs(x) + m.abs(m.sin(x)) / (x * x),
        why="the gradient is the difference of two terms of size 1 / x",
    ),
    Case("1 - cos(x)", lambda m, x: 1 - m.cos(x), [ANGLES]),
    Case(
        "(1 - cos(x)) / x ** 2",
        lambda m, x: (1 - m.cos(x)) / x**2,
        [[1e-8, 1e-4, 1e-2, 1.0]],
        gradient_scale=lambda m, x: 2 / m.abs(x),
        why="the gradient is the difference of terms of size 1 / x",
    ),
    Case("tan", lambda m, x: m.tan(x), [[1e-20, 1.0, 1.5707, -1.5707, 3.0]]),
    Case("asin", lambda m, x: m.asin(x), [NEAR_ONE]),
    Case("acos", lambda m, x: m.acos(x), [NEAR_ONE]),
    Case("atanh", lambda m, x: m.atanh(x), [NEAR_ONE]),
    Case("atanh, naive", lambda m, x: 0.5 * m.log((1 + x) / (1 - x)), [NEAR_ONE]),
    Case("asinh", lambda m, x: m.asinh(x), [], by_dtype=SIGNED),
    Case(
        "asinh, naive",
        lambda m, x: m.log(x + m.sqrt(x * x + 1)),
        [],
        by_dtype={
            "float32": [[1e-30, 1e-4, 3.0, 1e25, -1e4]],
            "float64": [[1e-30, 1e-4, 3.0, 1e250, -1e9]],
        },
    ),
    Case("acosh", lambda m, x: m.acosh(x), [[1.0000001, 1.5, 10.0, 1e30]]),
    Case("atan", lambda m, x: m.atan(x), [], by_dtype=SIGNED, digits=1500),
    Case("atan2", lambda m, y, x: m.atan2(y, x), [], by_dtype=SIDES, digits=1500),
    Case(
        "erf",
        lambda m, x: m.erf(x),
        [[-30.0, -3.0, -1e-8, 1e-20, 0.5, 5.0, 30.0]],
        gradient_scale=lambda m, x: m.exp(-x * x) * (1 + x * x),
        why="exp magnifies the rounding of x² by its size",
    ),
    Case(
        "erfc",
        lambda m, x: m.erfc(x),
        [[-30.0, -3.0, 0.5, 3.0, 9.0]],
        scale=lambda m, x: m.erfc(x) * (1 + x * x),
        gradient_scale=lambda m, x: m.exp(-x * x) * (1 + x * x),
        why="exp(-x²) magnifies the rounding of x² by its size",
    ),
    Case(
        "1 - erf(x)",
        lambda m, x: 1 - m.erf(x),
        [[-30.0, -3.0, 0.5, 3.0, 9.0]],
        scale=lambda m, x: m.erfc(x) * (1 + x * x),
        gradient_scale=lambda m, x: m.exp(-x * x) * (1 + x * x),
        why="as erfc",
    ),
    Case(
        "lgamma",
        lambda m, x: m.lgamma(x),
        [[1e-20, 1e-3, 0.5, 3.5, 1e4, 1e8, 1e30]],
        gradient_ulps=16,
        why="digamma is a sum of a series and a logarithm",
    ),
    Case("log2", lambda m, x: m.log2(x), [], by_dtype=TINY_TO_HUGE),
    Case("log10", lambda m, x: m.log10(x), [], by_dtype=TINY_TO_HUGE),
    Case("1 / (1 + x * x)", lambda m, x: 1 / (1 + x * x), [], by_dtype=SIGNED, digits=1500),
    Case(
        "1 / (1 / x)",
        lambda m, x: 1 / (1 / x),
        [],
        by_dtype={"float32": [[1e-37, 1.0, 1e37]], "float64": [[1e-307, 1.0, 1e307]]},
    ),
    Case(
        "where with a bad branch",
        lambda m, x: m.where(x > 0, m.log(m.maximum(x, 1e-30)), x),
        [[-1.0, 0.5, 1e10]],
    ),
]
