"""A layer of LSTM over a sequence: inference and a training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads.workload import Data, Workload, normal, weight


def _data(batch: int, steps: int, features: int, hidden: int) -> Data:
    weights = {
        "input": weight(features, 4 * hidden),
        "hidden": weight(hidden, 4 * hidden),
        "bias": normal(4 * hidden, scale=0.1),
    }
    return Data((normal(batch, steps, features),), weights)


def _flops(batch: int, steps: int, features: int, hidden: int) -> float:
    return 2.0 * batch * steps * 4 * hidden * (features + hidden)


def inference(
    batch: int, steps: int, features: int, hidden: int, aim: float | None = None
) -> Workload:
    """x (batch, steps, features) -> the states of all steps (batch, steps, hidden)."""
    return Workload(
        f"LSTM {features}→{hidden}, batch {batch}, {steps} steps: inference",
        "recurrent",
        lambda: _data(batch, steps, features, hidden),
        lambda ns, x, w: ns.lstm(x[0], w["input"], w["hidden"], w["bias"]),
        flops=_flops(batch, steps, features, hidden),
        moved=4.0 * batch * steps * (features + hidden),
        aim=aim,
    )


def training(
    batch: int, steps: int, features: int, hidden: int, classes: int, aim: float | None = None
) -> Workload:
    """The last state classified; Adam."""

    def data() -> Data:
        made = _data(batch, steps, features, hidden)
        labels = np.random.default_rng(1).integers(0, classes, batch)
        head = {"w": weight(hidden, classes), "b": np.zeros(classes, np.float32)}
        return Data((*made.inputs, labels), {**made.weights, **head})

    def compute(ns: Any, x: Sequence[Any], w: Mapping[str, Any]) -> Any:
        states = ns.lstm(x[0], w["input"], w["hidden"], w["bias"])
        return ns.cross_entropy(ns.linear(states[:, -1], w["w"], w["b"]), x[1])

    # Backwards each product has two of its size, but for the gradient of the inputs.
    backward = 2.0 * batch * steps * 4 * hidden * (features + 2 * hidden)
    return Workload(
        f"LSTM {features}→{hidden}, batch {batch}, {steps} steps: training step",
        "recurrent",
        data,
        compute,
        flops=_flops(batch, steps, features, hidden) + backward,
        training=True,
        aim=aim,
    )


def workloads(*, tiny: bool = False) -> list[Workload]:
    """The rows of the table, or the same at sizes that a test can afford."""
    if tiny:
        return [inference(2, 4, 5, 6), training(2, 4, 5, 6, 3)]
    return [
        inference(32, 64, 128, 256, aim=7.9e-3),
        training(32, 64, 128, 256, 10, aim=24e-3),
    ]
