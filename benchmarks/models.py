"""The graphs that several benchmarks measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

import graphc

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Model:
    """Inputs, what is computed, and arrays to call it with."""

    inputs: list[graphc.Tensor]
    outputs: Any
    arrays: list[Array]
    updates: dict[graphc.Tensor, graphc.Tensor] = field(default_factory=dict)

    def compiled(self, session: graphc.Session) -> graphc.Function:
        """The function, compiled (called once)."""
        function = session.function(self.inputs, self.outputs, updates=self.updates or None)
        function(*self.arrays)
        return function


def mlp_step(batch: int = 128, sizes: tuple[int, ...] = (784, 512, 256, 10)) -> Model:
    """One training step of a multilayer perceptron with Adam."""
    rng = np.random.default_rng(0)
    x = graphc.placeholder(("batch", sizes[0]), name="x")
    t = graphc.placeholder(("batch",), "int64", name="t")
    h, variables = x, []
    for k, (rows, columns) in enumerate(pairwise(sizes)):
        value = rng.normal(0, np.sqrt(2 / rows), (rows, columns)).astype(np.float32)
        variables += [
            graphc.variable(value, name=f"w{k}"),
            graphc.variable(np.zeros(columns, np.float32), name=f"b{k}"),
        ]
        h = (graphc.nn.relu(h) if k else h) @ variables[-2] + variables[-1]
    loss = graphc.mean(graphc.nn.softmax_cross_entropy(h, t))
    updates = graphc.optimizers.adam(variables, graphc.grad(loss, variables))
    images = rng.normal(size=(batch, sizes[0])).astype(np.float32)
    labels = rng.integers(0, sizes[-1], batch)
    return Model([x, t], loss, [images, labels], updates)


def mixed_nodes(count: int, seed: int = 0) -> Model:
    """About `count` distinct nodes: elementwise, reductions, views and small products, all used."""
    rng = np.random.default_rng(seed)
    x = graphc.placeholder(("n", 8), name="x")
    w = graphc.constant(rng.normal(0, 0.3, (8, 8)).astype(np.float32))
    steps: list[Callable[[graphc.Tensor, graphc.Tensor], graphc.Tensor]] = [
        lambda a, b: a + b,
        lambda a, b: graphc.tanh(a),
        lambda a, b: a * 0.5,
        lambda a, b: graphc.maximum(a, b),
        lambda a, b: a - graphc.mean(a, axis=1, keepdims=True),
        lambda a, b: graphc.flip(a, axis=1),
        lambda a, b: graphc.where(a > b, a, b * 0.9),
        lambda a, b: a @ w,
        lambda a, b: graphc.exp(-abs(a)),
    ]
    values = [x]
    made = 0
    while made < count:
        kind = int(rng.integers(len(steps)))
        recent = values[-8:]
        other = recent[int(rng.integers(len(recent)))]
        values.append(steps[kind](values[-1], other))
        made += (1, 1, 1, 1, 2, 1, 3, 1, 3)[kind]
    output = graphc.sum(values[-1])
    return Model([x], output, [rng.normal(size=(4, 8)).astype(np.float32)])


def unrolled_loop(turns: int = 1000) -> Model:
    """A recurrence written out: deep, with the same work in every turn."""
    x = graphc.placeholder(("n",), name="x")
    h = x
    for _ in range(turns):
        h = graphc.tanh(h * 0.9 + x)
    return Model([x], h, [np.linspace(-1, 1, 16, dtype=np.float32)])


def fibonacci(depth: int = 1000) -> Model:
    """Every node is used twice: exponentially many paths, linearly many nodes."""
    x = graphc.placeholder(("n",), name="x")
    a, b = x, x * 0.5
    for _ in range(depth):
        a, b = b, (a + b) * 0.5
    return Model([x], b, [np.linspace(-1, 1, 16, dtype=np.float32)])
