"""Elementwise expressions: memory-bound when large, all overhead when small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.workloads.workload import Array, Data, Workload, normal

SQRT_HALF = 0.7071067811865476


def chain(count: int, aim: float | None = None) -> Workload:
    """tanh(a*b+c)*sigmoid(d)-exp(-a*a) on `count` elements."""

    def compute(ns: Any, x: Sequence[Any], _: Mapping[str, Any]) -> Any:
        a, b, c, d = x
        return ns.tanh(a * b + c) * ns.sigmoid(d) - ns.exp(-a * a)

    return Workload(
        f"tanh(a*b+c)*sigmoid(d)-exp(-a*a), {count:,} elements",
        "elementwise",
        lambda: Data(tuple(normal(count, seed=k) for k in range(4))),
        compute,
        flops=50.0 * count,
        moved=20.0 * count,
        numpy_io=True,
        aim=aim,
    )


def black_scholes(count: int, aim: float | None = None) -> Workload:
    """Prices of European calls and puts (Black and Scholes 1973), at a fixed rate and volatility.

    Inputs: price of the share, strike, years; outputs: call, put.
    """
    rate, volatility = 0.02, 0.3

    def compute(ns: Any, x: Sequence[Any], _: Mapping[str, Any]) -> Any:
        spot, strike, years = x
        deviation = volatility * ns.sqrt(years)
        d1 = (ns.log(spot / strike) + (rate + 0.5 * volatility**2) * years) / deviation
        d2 = d1 - deviation
        discounted = strike * ns.exp(-rate * years)
        first, second = (0.5 + 0.5 * ns.erf(d * SQRT_HALF) for d in (d1, d2))
        call = spot * first - discounted * second
        return [call, call - spot + discounted]

    def data() -> Data:
        def between(low: float, high: float, seed: int) -> Array:
            spread = 0.5 + 0.5 * normal(count, seed=seed).clip(-1, 1)
            return (low + (high - low) * spread).astype("float32")

        return Data((between(10, 50, 0), between(10, 50, 1), between(0.2, 2, 2)))

    return Workload(
        f"Black-Scholes call and put, {count:,}",
        "elementwise",
        data,
        compute,
        flops=100.0 * count,
        moved=20.0 * count,
        aim=aim,
    )


def workloads(*, tiny: bool = False) -> list[Workload]:
    """The rows of the table, or the same at sizes that a test can afford."""
    if tiny:
        return [chain(1003), black_scholes(517)]
    return [
        chain(10_000_000, aim=5.5e-3),
        chain(1000, aim=0.6e-6),
        black_scholes(4_000_000, aim=6e-3),
    ]
