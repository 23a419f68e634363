"""Whole networks: training steps of a perceptron and of LeNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.workloads.workload import Array, Data, Workload, kernel, normal, weight


def _labels(batch: int, classes: int) -> Array:
    return np.random.default_rng(1).integers(0, classes, batch)


def mlp_step(
    batch: int = 128, sizes: tuple[int, ...] = (784, 512, 256, 10), aim: float | None = None
) -> Workload:
    """A training step of a perceptron with relu; Adam."""
    pairs = list(pairwise(sizes))

    def data() -> Data:
        weights: dict[str, Array] = {}
        for k, (m, n) in enumerate(pairs):
            weights |= {f"w{k}": weight(m, n) * np.float32(1.4), f"b{k}": np.zeros(n, np.float32)}
        return Data((normal(batch, sizes[0]), _labels(batch, sizes[-1])), weights)

    def compute(ns: Any, x: Sequence[Any], w: Mapping[str, Any]) -> Any:
        h = x[0]
        for k in range(len(pairs)):
            h = ns.linear(ns.relu(h) if k else h, w[f"w{k}"], w[f"b{k}"])
        return ns.cross_entropy(h, x[1])

    products = [2.0 * batch * m * n for m, n in pairs]
    return Workload(
        f"MLP training step {'-'.join(map(str, sizes))}, batch {batch}",
        "networks",
        data,
        compute,
        flops=3 * sum(products) - products[0],
        moved=4.0 * 6 * sum(m * n for m, n in pairs),  # weights and both moments, read and written
        training=True,
        aim=aim,
    )


def lenet_step(
    batch: int = 64,
    size: int = 28,
    widths: tuple[int, int, int] = (20, 50, 500),
    aim: float | None = None,
) -> Workload:
    """A training step of LeNet with relu and max pooling (as Caffe's example has it); Adam."""
    first, second, third = widths
    side = ((size - 4) // 2 - 4) // 2
    flat = second * side * side

    def data() -> Data:
        weights = {
            "k1": kernel(first, 1, 5, 5),
            "k2": kernel(second, first, 5, 5),
            "w1": weight(flat, third),
            "w2": weight(third, 10),
        }
        sizes = {"c1": first, "c2": second, "b1": third, "b2": 10}
        weights |= {k: np.zeros(n, np.float32) for k, n in sizes.items()}
        return Data((normal(batch, 1, size, size), _labels(batch, 10)), weights)

    def compute(ns: Any, x: Sequence[Any], w: Mapping[str, Any]) -> Any:
        h = ns.max_pool(ns.relu(ns.conv(ns.image(x[0]), w["k1"], w["c1"])), 2)
        h = ns.max_pool(ns.relu(ns.conv(h, w["k2"], w["c2"])), 2)
        h = ns.relu(ns.linear(ns.flatten(h), w["w1"], w["b1"]))
        return ns.cross_entropy(ns.linear(h, w["w2"], w["b2"]), x[1])

    one = 2.0 * batch * 25 * first * (size - 4) ** 2
    two = 2.0 * batch * 25 * first * second * ((size - 4) // 2 - 4) ** 2
    rest = 2.0 * batch * (flat * third + third * 10)
    return Workload(
        f"LeNet training step, batch {batch}",
        "networks",
        data,
        compute,
        flops=2 * one + 3 * (two + rest),
        moved=4.0 * 6 * flat * third,
        training=True,
        aim=aim,
    )


def workloads(*, tiny: bool = False) -> list[Workload]:
    """The rows of the table, or the same at sizes that a test can afford."""
    if tiny:
        return [mlp_step(5, (7, 6, 4)), lenet_step(2, 16, (3, 4, 5))]
    return [mlp_step(aim=1.75e-3), lenet_step(aim=6.8e-3)]
