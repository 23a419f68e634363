"""References of special functions against mpmath: the meaning itself must be right."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

import graphc
from graphc.ir.graph import Graph
from graphc.ops.state import placeholder

POINTS = np.concatenate(
    [
        np.linspace(-5.9, 8.0, 200) + 0.0123,
        np.array([1e-8, 1e-3, 0.5, 1.0, 1.5, 2.0, 15.0, 16.0, 40.0, 170.0, 1e4]),
    ]
)

TRUTH: dict[str, Any] = {
    "erf": mpmath.erf,
    "erfc": mpmath.erfc,
    "lgamma": lambda x: mpmath.re(mpmath.loggamma(x)),
    "digamma": mpmath.digamma,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
}


def reference(function: Any, points: Any) -> Any:
    """The values of a function by its reference."""
    x = placeholder(points.shape, "float64")
    return Graph([x], {"y": function(x)}).evaluate({x: points})["y"]


@pytest.mark.parametrize("name", TRUTH)
def test_against_mpmath(name: str) -> None:
    with mpmath.workdps(40):
        truth = np.array([float(TRUTH[name](mpmath.mpf(float(p)))) for p in POINTS])
    got = reference(getattr(graphc, name), POINTS)
    # Near their zeros lgamma and digamma lose relative digits, never absolute ones.
    np.testing.assert_allclose(got, truth, rtol=4e-15, atol=4e-15 if "gamma" in name else 0.0)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_polygamma(n: int) -> None:
    with mpmath.workdps(40):
        truth = np.array([float(mpmath.psi(n, mpmath.mpf(float(p)))) for p in POINTS])
    got = reference(lambda x: graphc.polygamma(n, x), POINTS)
    np.testing.assert_allclose(got, truth, rtol=2e-12)


def test_erfinv_and_erfcinv() -> None:
    y = np.concatenate([np.linspace(-0.999, 0.999, 101), 10.0 ** -np.arange(1, 17.0)])
    with mpmath.workdps(40):
        truth = np.array([float(mpmath.erfinv(mpmath.mpf(float(p)))) for p in y])
    np.testing.assert_allclose(reference(graphc.erfinv, y), truth, rtol=4e-15)
    # Far out, where erfinv has no digits left: erfc of the inverse is the number itself.
    q = np.concatenate([np.linspace(0.01, 1.99, 101), 10.0 ** -np.arange(1, 300.0, 7)])
    found = reference(graphc.erfcinv, q)
    with mpmath.workdps(40):
        back = np.array([float(mpmath.erfc(mpmath.mpf(float(p)))) for p in found])
    # The relative error of erfc(x) is 2 x² times that of x.
    assert np.all(np.abs(back / q - 1) <= 4e-16 * (2 + 2 * found**2))
    edges = np.array([0.0, 1.0, -1.0, 1.5, np.nan, np.inf])
    np.testing.assert_array_equal(
        reference(graphc.erfinv, edges), [0, np.inf, -np.inf, np.nan, np.nan, np.nan]
    )
    edges = np.array([0.0, 1.0, 2.0, -0.5, 2.5, np.nan])
    np.testing.assert_array_equal(
        reference(graphc.erfcinv, edges), [np.inf, 0, -np.inf, np.nan, np.nan, np.nan]
    )


def test_polygamma_at_poles() -> None:
    got = reference(lambda x: graphc.polygamma(1, x), np.array([0.0, -1.0, -2.0]))
    np.testing.assert_array_equal(got, [np.inf] * 3)
    assert np.all(np.isnan(reference(lambda x: graphc.polygamma(2, x), np.array([0.0, -1.0]))))
