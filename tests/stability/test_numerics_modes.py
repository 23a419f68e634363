"""The numerics modes: "exact" keeps what the user wrote, "standard" makes it stable, "fast"
reassociates; and the log of rewrites says which rule did it, and at which line of the user."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array
from graphc.ir.graph import Graph
from graphc.passes.pipeline import optimize
from graphc.rewrite.pattern import RuleClass
from graphc.rewrite.trace import Trace

SMALL = np.array([1e-20, 1e-10, 0.5], np.float64)
LARGE = np.array([-800.0, 0.0, 800.0], np.float64)


def run(function: Any, array: Array, numerics: str) -> Array:
    """The value of a function of one placeholder, compiled in a mode."""
    x = graphc.placeholder(array.shape, array.dtype, name="x")
    with graphc.Session(numerics=numerics, threads=1) as session, np.errstate(all="ignore"):
        return np.asarray(session.run(function(x), {x: array}))


def log_of(function: Any, numerics: str) -> Trace:
    """The rewrites of a function of one placeholder."""
    x = graphc.placeholder(("n",), "float64", name="x")
    trace = Trace()
    optimize(Graph([x], {"y": function(x)}), numerics, trace)
    return trace


def classes(trace: Trace) -> set[RuleClass]:
    """The classes of the rules that applied."""
    return {a.rule.cls for a in trace.applications}


NAIVE = {
    "log1p": (lambda x: graphc.log(1 + x), SMALL, np.log1p(SMALL), "log_one_plus"),
    "expm1": (lambda x: graphc.exp(x) - 1, SMALL, np.expm1(SMALL), "exp_minus_one"),
    "softplus": (
        lambda x: graphc.log(1 + graphc.exp(x)), LARGE, np.logaddexp(0, LARGE), "softplus_of_exp",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAIVE)
def test_exact_keeps_the_naive_bits(name: str) -> None:
    function, array, _, rule = NAIVE[name]
    with np.errstate(all="ignore"):
        naive = {"log1p": np.log(1 + array), "expm1": np.exp(array) - 1}.get(
            name, np.log(1 + np.exp(array))
        )
    got = run(function, array, "exact")
    # One rounding of exp or log; what cancels or overflows does so as written.
    np.testing.assert_allclose(got, naive, rtol=1e-15, atol=4e-16)
    assert rule not in log_of(function, "exact").counts()
    assert classes(log_of(function, "exact")) <= {RuleClass.EXACT}


@pytest.mark.parametrize("numerics", ["standard", "fast"])
@pytest.mark.parametrize("name", NAIVE)
def test_standard_and_fast_are_stable(name: str, numerics: str) -> None:
    function, array, true, rule = NAIVE[name]
    np.testing.assert_allclose(run(function, array, numerics), true, rtol=1e-15)
    assert rule in log_of(function, numerics).counts()


def test_standard_applies_no_rule_that_changes_infinities() -> None:
    def function(x: Any) -> Any:
        return graphc.log(graphc.exp(x)) + (x - x) * 0.0 + graphc.sqrt(x) ** 2

    assert RuleClass.DOMAIN not in classes(log_of(function, "standard"))
    assert RuleClass.DOMAIN in classes(log_of(function, "fast"))
    x = np.array([1000.0])
    assert run(lambda x: graphc.log(graphc.exp(x)), x, "standard") == np.inf
    assert run(lambda x: graphc.log(graphc.exp(x)), x, "fast") == 1000.0


def test_fast_reassociates() -> None:
    # In the order that it is written in, the first product overflows.
    def function(x: Any) -> Any:
        return (x * 2.0**1000) * 2.0**-990

    x = np.array([3.0, 2.0**100])
    for numerics in ("exact", "standard"):
        np.testing.assert_array_equal(run(function, x, numerics), [3.0 * 1024, np.inf])
    np.testing.assert_array_equal(run(function, x, "fast"), x * 1024)


def test_standard_gathers_constants_within_rounding() -> None:
    def function(x: Any) -> Any:
        return (x + 0.1) + 0.2

    x = np.linspace(-1, 1, 101)
    np.testing.assert_array_equal(run(function, x, "exact"), (x + 0.1) + 0.2)
    np.testing.assert_allclose(run(function, x, "standard"), x + (0.1 + 0.2), rtol=0, atol=4e-16)
    assert "gather_sum" in log_of(function, "standard").counts()


def test_the_log_names_the_rule_and_the_line_of_the_user() -> None:
    x = graphc.placeholder((3,), "float64", name="x")
    y = graphc.log(1 + graphc.exp(x))  # the line that the log names
    trace = Trace()
    optimize(Graph([x], {"y": y}), "standard", trace)
    line = next(text for text in str(trace).splitlines() if "softplus_of_exp" in text)
    assert re.search(
        r"softplus_of_exp \(stabilizing\)  log\(.*exp\(x\).*\)  ->  softplus\(x\)", line
    )
    assert re.search(rf"{re.escape(__file__.rsplit('/', 1)[1])}:\d+", line), line
    number = int(re.search(r":(\d+)", line.split("test_numerics_modes.py")[1])[1])
    with open(__file__) as source:
        assert "the line that the log names" in source.read().splitlines()[number - 1]


def test_an_unknown_mode_is_an_error() -> None:
    with pytest.raises(graphc.GraphcError, match="'exact', 'standard', 'fast'"):
        graphc.Session(numerics="precise")
