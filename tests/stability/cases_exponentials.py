"""Exponentials, logarithms, the logistic family: naive and by function."""

from __future__ import annotations

from typing import Any

from tests.stability.suite import Case, Expression

WIDE = [-1e4, -700.0, -100.0, -17.0, -1e-8, 0.0, 1e-8, 0.5, 17.0, 100.0, 700.0, 1e4]
NO_DENORMALS = [-1e4, -700.0, -80.0, *WIDE[3:]]  # of sigmoid
SMALL = [-0.5, -1e-3, -1e-8, -1e-20, 0.0, 1e-20, 1e-8, 1e-3, 0.5, 3.0]
BEYOND_EXP = [-1e4, -80.0, -1.0, -1e-8, -1e-20, 1e-20, 1e-8, 1.0, 80.0]
PAIRS = ([1e4, -1e4, 0.0, 50.0, 1e4, 3.0], [1e4, -1e4, 1e4, -50.0, -1e4, 3.0])
DEEP = 4600  # digits: exp(-1e4) is seen beside 1


def _pair(
    name: str, naive: Expression, function: Expression, inputs: Any, **options: Any
) -> list[Case]:
    return [
        Case(f"{name}, naive", naive, inputs, **options),
        Case(f"{name}, function", function, inputs, **options),
    ]


def _spread(m: Any, a: Any, b: Any) -> Any:
    # exp of a difference: half a spacing of the difference is that much relative to the result.
    return m.exp(a - b) * (1 + m.abs(a - b))


CASES = [
    *_pair("log(1 + x)", lambda m, x: m.log(1 + x), lambda m, x: m.log1p(x), [SMALL]),
    *_pair("log(1 - x)", lambda m, x: m.log(1 - x), lambda m, x: m.log1p(-x), [SMALL[:-1]]),
    *_pair("exp(x) - 1", lambda m, x: m.exp(x) - 1, lambda m, x: m.expm1(x), [BEYOND_EXP]),
    Case("1 - exp(x)", lambda m, x: 1 - m.exp(x), [BEYOND_EXP]),
    Case("1 - exp(-x)", lambda m, x: 1 - m.exp(-x), [BEYOND_EXP[1:]]),
    Case(
        "(exp(x) - 1) / x",
        lambda m, x: (m.exp(x) - 1) / x,
        [BEYOND_EXP],
        gradient_scale=lambda m, x: m.exp(x) / m.abs(x) + m.abs(m.expm1(x)) / (x * x),
        why="the gradient is the difference of two terms of size 1 / x",
    ),
    Case("log(1 - exp(x))", lambda m, x: m.log(1 - m.exp(x)), [[-80.0, -20.0, -1.0, -1e-3, -1e-8]]),
    *_pair("softplus", lambda m, x: m.log(1 + m.exp(x)), lambda m, x: m.softplus(x), [WIDE]),
    Case("softplus, log1p(exp(x))", lambda m, x: m.log1p(m.exp(x)), [WIDE]),
    Case("softplus of -x, log(1 + exp(-x))", lambda m, x: m.log(1 + m.exp(-x)), [WIDE]),
    *_pair("sigmoid", lambda m, x: 1 / (1 + m.exp(-x)), lambda m, x: m.sigmoid(x), [WIDE]),
    Case("sigmoid, exp(x) / (1 + exp(x))", lambda m, x: m.exp(x) / (1 + m.exp(x)), [WIDE]),
    Case("1 - sigmoid", lambda m, x: 1 - m.sigmoid(x), [WIDE], digits=DEEP),
    Case("1 - sigmoid, naive", lambda m, x: 1 - 1 / (1 + m.exp(-x)), [WIDE], digits=DEEP),
    Case(
        "sigmoid * (1 - sigmoid)",
        lambda m, x: m.sigmoid(x) * (1 - m.sigmoid(x)),
        [WIDE[2:-2]],
        gradient_scale=lambda m, x: m.sigmoid(x) * (1 - m.sigmoid(x)),
        why="the gradient is 0 at 0, where its terms are of the size of the value",
    ),
    *_pair("log(sigmoid)", lambda m, x: m.log(m.sigmoid(x)), lambda m, x: m.log_sigmoid(x), [WIDE]),
    Case("log(sigmoid), all naive", lambda m, x: m.log(1 / (1 + m.exp(-x))), [WIDE]),
    Case("log(1 - sigmoid)", lambda m, x: m.log(1 - m.sigmoid(x)), [WIDE], digits=DEEP),
    Case(
        "log(1 - sigmoid), all naive",
        lambda m, x: m.log(1 - 1 / (1 + m.exp(-x))),
        [WIDE],
        digits=DEEP,
    ),
    Case(
        "logit of sigmoid",
        lambda m, x: m.log(m.sigmoid(x)) - m.log(1 - m.sigmoid(x)),
        [WIDE],
        digits=DEEP,
        scale=lambda m, x: abs(x) + 1,
        gradient_scale=lambda m, x: x * 0 + 3,
        why="a difference of softplus terms of the size of x; its slopes sum to 1",
    ),
    *_pair(
        "logaddexp",
        lambda m, a, b: m.log(m.exp(a) + m.exp(b)),
        lambda m, a, b: m.logaddexp(a, b),
        PAIRS,
        digits=DEEP,
        gradient_scale=lambda m, a, b: (_share(m, a, b), _share(m, b, a)),
        why="the share is exp of a difference: relative to its size",
    ),
    Case(
        "exp(a) / exp(b)",
        lambda m, a, b: m.exp(a) / m.exp(b),
        ([1e4, 1000.0, 80.0, -1e4, 5.0], [1e4, 999.5, 1.0, -9990.0, 90.0]),
    ),
    Case(
        "exp(a) * exp(b)",
        lambda m, a, b: m.exp(a) * m.exp(b),
        ([1e4, 1000.0, 80.0, -1e4, 5.0], [-1e4, -999.5, -1.0, 9990.0, -90.0]),
    ),
    Case(
        "exp(a - b)",
        lambda m, a, b: m.exp(a - b),
        ([1e4, 1000.0, 80.0, 5.0], [1e4, 999.5, 1.0, 60.0]),
        scale=_spread,
        gradient_scale=lambda m, a, b: (_spread(m, a, b) * 3, _spread(m, a, b) * 3),
        why="exp magnifies the rounding of the difference by its size",
    ),
    Case(
        "log(a * b)",
        lambda m, a, b: m.log(a * b),
        ([1e30, 1e-30, 3.0, 1e-38, 1e20], [1e30, 1e-30, 4.0, 1e30, 1e-20]),
        by_dtype={
            "float64": ([1e300, 1e-300, 3.0, 1e-308, 1e200], [1e300, 1e-300, 4.0, 1e200, 1e-200])
        },
        scale=lambda m, a, b: m.abs(m.log(a * b)) + 1,
        why="the rounding of the product is an absolute error of the logarithm",
    ),
    Case(
        "log(a / b)",
        lambda m, a, b: m.log(a / b),
        ([1e30, 1e-30, 3.0, 1e-38, 1e20], [1e-30, 1e30, 4.0, 1e30, 2e20]),
        by_dtype={
            "float64": ([1e300, 1e-300, 3.0, 1e-308, 1e200], [1e-300, 1e300, 4.0, 1e200, 2e200])
        },
        scale=lambda m, a, b: m.abs(m.log(a / b)) + 1,
        why="the rounding of the quotient is an absolute error of the logarithm",
    ),
    Case(
        "log(a) - log(b)",
        lambda m, a, b: m.log(a) - m.log(b),
        ([1e30, 1e-38, 1.0, 7.0], [1.00001e30, 1e38, 1e-20, 7.0]),
        scale=lambda m, a, b: m.abs(m.log(a)) + m.abs(m.log(b)),
        why="the terms of the difference",
    ),
    Case(
        "log(x ** 2)",
        lambda m, x: m.log(x**2),
        [[-1e30, -1e-30, 1.0001, 1e-30, 1e30, -3.0]],
        by_dtype={"float64": [[-1e300, -1e-300, 1.0001, 1e-300, 1e300, -3.0]]},
    ),
    Case("log(x ** 10)", lambda m, x: m.log(m.pow(x, 10.0)), [[-1e30, 1e-30, 1.0001, 1e30, -3.0]]),
    Case("log(x ** -1.5)", lambda m, x: m.log(m.pow(x, -1.5)), [[1e-30, 1.0001, 1e30, 3.0]]),
    Case("log(sqrt(x))", lambda m, x: m.log(m.sqrt(x)), [[1e-38, 1e-10, 3.0, 1e38]]),
    *_pair(
        "tanh",
        lambda m, x: (m.exp(x) - m.exp(-x)) / (m.exp(x) + m.exp(-x)),
        lambda m, x: m.tanh(x),
        [WIDE],
        gradient_scale=lambda m, x: x * 0 + 2,
        why="the slope is 1 - tanh², relative to the largest slope",
    ),
    Case(
        "tanh, by exp(2 x)",
        lambda m, x: (m.exp(2 * x) - 1) / (m.exp(2 * x) + 1),
        [WIDE],
        gradient_scale=lambda m, x: x * 0 + 2,
        why="as tanh",
    ),
    Case("1 - tanh", lambda m, x: 1 - m.tanh(x), [WIDE], digits=DEEP),
    Case(
        "sinh, naive",
        lambda m, x: (m.exp(x) - m.exp(-x)) / 2,
        [[-80.0, -1e-8, 0.0, 1e-20, 3.0, 80.0]],
    ),
    Case(
        "cosh, naive",
        lambda m, x: (m.exp(x) + m.exp(-x)) / 2,
        [[-80.0, -1e-8, 0.0, 1e-20, 3.0, 80.0]],
    ),
    Case(
        "silu",
        lambda m, x: m.silu(x),
        [NO_DENORMALS],
        gradient_scale=lambda m, x: _silu_terms(m, x),
        why="the gradient is the sum of sigmoid and x · sigmoid'",
    ),
    Case(
        "silu, naive",
        lambda m, x: x / (1 + m.exp(-x)),
        [NO_DENORMALS],
        gradient_scale=lambda m, x: _silu_terms(m, x),
        why="as silu",
    ),
    Case(
        "gelu",
        lambda m, x: m.gelu(x),
        [[-1e4, -30.0, -5.0, -1.0, -1e-8, 0.0, 1.0, 5.0, 1e4]],
        scale=lambda m, x: m.abs(m.gelu(x)) * (1 + x * x),
        gradient_scale=lambda m, x: m.exp(-x * x / 2) * (1 + m.abs(x)) ** 3 + m.erfc(-x / 2),
        why="erfc(y) magnifies the rounding of y = x / sqrt(2) by y²",
    ),
    Case("elu", lambda m, x: m.elu(x), [[-1e4, -1.0, -1e-8, 1e-20, 1e4]]),
    Case(
        "mish",
        lambda m, x: m.mish(x),
        [[-1e4, -80.0, -1.0, 1e-8, 30.0, 1e4]],
        scale=lambda m, x: m.abs(m.mish(x)) * 2,
        gradient_scale=lambda m, x: m.abs(x) * m.sigmoid(x) * 4 + 4 * m.softplus(x),
        why="three functions one after another; the gradient is a sum of two such",
    ),
]


def _share(m: Any, a: Any, b: Any) -> Any:
    return 4 * m.sigmoid(a - b) * (1 + m.abs(a - b))


def _silu_terms(m: Any, x: Any) -> Any:
    return 2 * m.sigmoid(x) * (1 + m.abs(x))
