"""Calls so small that only the way from Python to native code and back counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.workloads.workload import Data, Workload, normal, weight


def add_one(count: int = 8, aim: float | None = None) -> Workload:
    """x + 1 on a few numbers."""
    return Workload(
        f"add one to {count} numbers",
        "calls",
        lambda: Data((normal(count),)),
        lambda ns, x, _: x[0] + 1.0,
        flops=float(count),
        numpy_io=True,
        aim=aim,
    )


FURTHER = 500  # inputs of the tiny perceptron whose errors count


def tiny_mlp(sizes: tuple[int, ...] = (4, 32, 32, 2), aim: float | None = None) -> Workload:
    """A perceptron with tanh for one example, as in a controller."""
    pairs = list(pairwise(sizes))

    def data() -> Data:
        weights = {f"w{k}": weight(m, n) for k, (m, n) in enumerate(pairs)}
        weights |= {f"b{k}": normal(n, scale=0.1) for k, (_, n) in enumerate(pairs)}
        further = tuple((normal(1, sizes[0], seed=k),) for k in range(1, FURTHER))
        return Data((normal(1, sizes[0]),), weights, further)

    def compute(ns: Any, x: Sequence[Any], w: Mapping[str, Any]) -> Any:
        h = x[0]
        for k in range(len(pairs)):
            h = ns.linear(h, w[f"w{k}"], w[f"b{k}"])
            h = h if k == len(pairs) - 1 else ns.tanh(h)
        return h

    return Workload(
        f"tiny MLP {'-'.join(map(str, sizes))}, batch 1",
        "calls",
        data,
        compute,
        flops=2.0 * sum(m * n for m, n in pairs),
        numpy_io=True,
        aim=aim,
    )


def workloads(*, tiny: bool = False) -> list[Workload]:
    """The rows of the table; they are tiny already."""
    return [tiny_mlp(aim=0.5e-6), add_one(aim=0.2e-6)]
