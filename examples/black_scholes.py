"""Price European options and get their Greeks by differentiating the price.

The Black-Scholes price is written once. Delta, vega, theta and rho are its gradient, gamma is a
gradient of a gradient; all five come out of one compiled function, for any number of options.
Every number is then held against the textbook's closed form, in float64.

    python examples/black_scholes.py --options 100000
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import Any

import numpy as np

import graphc

Array = np.ndarray[Any, Any]
INPUTS = ("spot", "strike", "years", "rate", "volatility")


def normal_cdf(x: graphc.Tensor) -> graphc.Tensor:
    return 0.5 * (1 + graphc.erf(x / math.sqrt(2)))


def price_and_greeks(inputs: dict[str, graphc.Tensor]) -> dict[str, graphc.Tensor]:
    """Call prices (n,) and their derivatives (n,)."""
    s, k, t, r, v = (inputs[name] for name in INPUTS)
    d1 = (graphc.log(s / k) + (r + v * v / 2) * t) / (v * graphc.sqrt(t))
    d2 = d1 - v * graphc.sqrt(t)
    price = s * normal_cdf(d1) - k * graphc.exp(-r * t) * normal_cdf(d2)
    # Options do not depend on each other: the gradient of the sum holds each one's derivatives.
    delta, vega, theta, rho = graphc.grad(graphc.sum(price), [s, v, t, r])
    gamma = graphc.grad(graphc.sum(delta), s)
    return {
        "price": price, "delta": delta, "gamma": gamma, "vega": vega, "theta": -theta, "rho": rho,
    }  # fmt: skip


def closed_forms(values: dict[str, Array]) -> dict[str, Array]:
    """The same quantities from the textbook."""
    s, k, t, r, v = (values[name] for name in INPUTS)
    root = np.sqrt(t)
    d1 = (np.log(s / k) + (r + v**2 / 2) * t) / (v * root)
    d2 = d1 - v * root
    cdf = np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))
    density = np.exp(-(d1**2) / 2) / math.sqrt(2 * math.pi)
    discounted = k * np.exp(-r * t)
    return {
        "price": s * cdf(d1) - discounted * cdf(d2),
        "delta": cdf(d1),
        "gamma": density / (s * v * root),
        "vega": s * density * root,
        "theta": -s * density * v / (2 * root) - r * discounted * cdf(d2),
        "rho": discounted * t * cdf(d2),
    }


def market(n: int, seed: int) -> dict[str, Array]:
    """Inputs as they occur: within a third of the money, a week to three years."""
    rng = np.random.default_rng(seed)
    spot = rng.uniform(20, 200, n)
    return {
        "spot": spot,
        "strike": spot * rng.uniform(0.7, 1.4, n),
        "years": rng.uniform(1 / 52, 3, n),
        "rate": rng.uniform(0.0, 0.06, n),
        "volatility": rng.uniform(0.1, 0.6, n),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--options", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    inputs = {name: graphc.placeholder(("n",), "float64", name=name) for name in INPUTS}
    values = market(options.options, options.seed)
    with graphc.Session() as session:
        function = session.function(list(inputs.values()), price_and_greeks(inputs))
        result = function(**values)  # compiles
        begin = time.perf_counter()
        result = function(**values)
        seconds = time.perf_counter() - begin

    truth = closed_forms(values)
    print(f"{options.options} options, price and five Greeks: {seconds * 1e3:.2f} ms")
    print(f"{'':8}{'first option':>16}{'largest error':>16}")
    worst = 0.0
    for name, expected in truth.items():
        error = float(np.max(np.abs(result[name] - expected)) / np.max(np.abs(expected)))
        worst = max(worst, error)
        print(f"{name:8}{result[name][0]:16.8f}{error:16.1e}")
    print(f"largest error against the closed forms: {worst:.1e} of the largest value")
    return 0 if worst < 1e-12 else 1


if __name__ == "__main__":
    sys.exit(main())
