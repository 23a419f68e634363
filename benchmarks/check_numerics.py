"""What does check_numerics cost in training steps? (at most 1.25 times the time without)"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import graphc
from benchmarks.measure import readable
from benchmarks.models import Model, mlp_step
from benchmarks.table import Row

ROUNDS = 60


def cnn_step() -> Model:
    """A small convolutional network on 8 by 8 images, as in examples/digits.py: Adam, batch 64."""
    rng = np.random.default_rng(0)
    x = graphc.placeholder(("batch", 1, 8, 8), name="images")
    t = graphc.placeholder(("batch",), "int64", name="labels")
    shapes = [(16, 1, 3, 3), (32, 16, 3, 3), (32 * 16, 10)]
    values = [rng.normal(0, 0.1, s).astype(np.float32) for s in shapes]
    k1, k2, w = (graphc.variable(v, name=f"w{i}") for i, v in enumerate(values))
    hidden = graphc.nn.relu(graphc.nn.conv(x, k1, padding=1))
    hidden = graphc.nn.max_pool(graphc.nn.relu(graphc.nn.conv(hidden, k2, padding=1)), 2)
    logits = graphc.reshape(hidden, (x.shape[0], 32 * 16)) @ w
    loss = graphc.mean(graphc.nn.softmax_cross_entropy(logits, t))
    found = graphc.grad(loss, [k1, k2, w])
    updates = graphc.optimizers.adam([k1, k2, w], found)
    arrays = (rng.random((64, 1, 8, 8), np.float32), rng.integers(0, 10, 64))
    return Model([x, t], loss, list(arrays), updates)


def autoencoder_step() -> Model:
    """A tanh autoencoder of 64 inputs, as in examples/autoencoder.py: Adam, batch 128."""
    rng = np.random.default_rng(0)
    x = graphc.placeholder(("batch", 64), name="images")
    sizes = [64, 128, 16, 128, 64]
    weights = [
        graphc.variable(rng.normal(0, 0.1, (a, b)).astype(np.float32), name=f"w{a}_{b}")
        for a, b in itertools.pairwise(sizes)
    ]
    hidden: Any = x
    for w in weights[:-1]:
        hidden = graphc.tanh(hidden @ w)
    loss = graphc.nn.mse(graphc.nn.sigmoid(hidden @ weights[-1]), x)
    updates = graphc.optimizers.adam(weights, graphc.grad(loss, weights))
    return Model([x], loss, [rng.random((128, 64), np.float32)], updates)


STEPS: dict[str, Callable[[], Model]] = {
    "MLP 784-512-256-10": mlp_step,
    "CNN on digits": cnn_step,
    "autoencoder": autoencoder_step,
}


def run() -> Iterator[Row]:
    """Rows for training steps: medians of calls that take turns, with and without the option."""
    for name, build in STEPS.items():
        for threads in (1, None):
            plain, checked = interleaved(build, threads)
            yield {
                "step": name,
                "threads": str(threads or "all"),
                "plain": readable(plain),
                "check_numerics": readable(checked),
                "ratio": f"{checked / plain:.2f}",
            }


def interleaved(build: Callable[[], Model], threads: int | None) -> tuple[float, float]:
    """Median seconds of a call without and with check_numerics."""
    times: tuple[list[float], list[float]] = ([], [])
    with (
        graphc.Session(threads=threads) as first,
        graphc.Session(threads=threads, check_numerics=True) as second,
    ):
        model = build()
        steps = (model.compiled(first), model.compiled(second))
        for step in steps:
            step(*model.arrays)
        calls = max(1, round(2e-3 / _seconds(lambda: steps[0](*model.arrays))))
        for _ in range(ROUNDS):
            for step, found in zip(steps, times, strict=True):
                begin = time.perf_counter()
                for _ in range(calls):
                    step(*model.arrays)
                found.append((time.perf_counter() - begin) / calls)
    return statistics.median(times[0]), statistics.median(times[1])


def _seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
