"""A Transformer block (attention and a perceptron, each behind a layer norm): forward, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads.workload import Data, Workload, normal, weight


def _weights(width: int) -> dict[str, Any]:
    columns = {"qkv": 3 * width, "out": width, "up": 4 * width}
    made = {f"w_{k}": weight(width, n, seed=i) for i, (k, n) in enumerate(columns.items())}
    made["w_down"] = weight(4 * width, width)
    biases = {"out": width, "up": 4 * width, "down": width}
    made |= {f"b_{k}": normal(n, scale=0.1) for k, n in biases.items()}
    for k in ("1", "2"):
        made |= {f"scale_{k}": 1 + normal(width, scale=0.1), f"shift_{k}": normal(width, scale=0.1)}
    return made


def block(ns: Any, x: Any, w: Mapping[str, Any], shape: tuple[int, int, int], heads: int) -> Any:
    """x (batch, tokens, width) -> the same shape."""
    batch, tokens, width = shape

    def apart(y: Any) -> Any:
        return ns.transpose(ns.reshape(y, (batch, tokens, heads, width // heads)), (0, 2, 1, 3))

    # No bias here: that of the keys has no gradient, and Adam would make steps of its rounding.
    qkv = ns.layer_norm(x, w["scale_1"], w["shift_1"]) @ w["w_qkv"]
    q, k, v = (apart(qkv[:, :, i * width : (i + 1) * width]) for i in range(3))
    mixed = ns.transpose(ns.attention(q, k, v), (0, 2, 1, 3))
    x = x + ns.linear(ns.reshape(mixed, shape), w["w_out"], w["b_out"])
    h = ns.linear(ns.layer_norm(x, w["scale_2"], w["shift_2"]), w["w_up"], w["b_up"])
    return x + ns.linear(ns.gelu(h), w["w_down"], w["b_down"])


def _flops(batch: int, tokens: int, width: int) -> float:
    products = 2.0 * batch * tokens * width * width * 12
    return products + 2.0 * batch * 2 * tokens * tokens * width


def forward(batch: int, tokens: int, width: int, heads: int, aim: float | None = None) -> Workload:
    """The block alone."""
    shape = (batch, tokens, width)
    return Workload(
        f"Transformer block d {width}, {batch}×{tokens} tokens: forward",
        "transformer",
        lambda: Data((normal(*shape),), _weights(width)),
        lambda ns, x, w: block(ns, x[0], w, shape, heads),
        flops=_flops(batch, tokens, width),
        moved=8.0 * batch * tokens * width,
        aim=aim,
    )


def training(
    batch: int, tokens: int, width: int, heads: int, classes: int, aim: float | None = None
) -> Workload:
    """The block, its tokens averaged and classified; Adam."""
    shape = (batch, tokens, width)

    def data() -> Data:
        labels = np.random.default_rng(1).integers(0, classes, batch)
        head = {"w": weight(width, classes), "b": np.zeros(classes, np.float32)}
        return Data((normal(*shape), labels), {**_weights(width), **head})

    def compute(ns: Any, x: Sequence[Any], w: Mapping[str, Any]) -> Any:
        mean = ns.sum(block(ns, x[0], w, shape, heads), 1) * (1.0 / tokens)
        return ns.cross_entropy(ns.linear(mean, w["w"], w["b"]), x[1])

    return Workload(
        f"Transformer block d {width}, {batch}×{tokens} tokens: training step",
        "transformer",
        data,
        compute,
        flops=3.0 * _flops(batch, tokens, width),
        training=True,
        aim=aim,
    )


def workloads(*, tiny: bool = False) -> list[Workload]:
    """The rows of the table, or the same at sizes that a test can afford."""
    if tiny:
        return [forward(2, 3, 8, 2), training(2, 3, 8, 2, 3)]
    return [
        forward(8, 128, 256, 8, aim=8.8e-3),
        training(8, 128, 256, 8, 10, aim=28e-3),
    ]
