"""The graphs of the golden files: small, and each with what a file can hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import graphc
from graphc.base.dtypes import ALL

GOLDEN = Path(__file__).parent / "golden"


def inference() -> graphc.Graph:
    """Symbolic dims with bounds, names, a constant and weights that are too large for the text."""
    rng = np.random.default_rng(0)
    n = graphc.Dim("n", min=1, max=1024, multiple_of=4)
    x = graphc.placeholder((n, 8), name="x")
    with graphc.name_scope("layer"):
        w = graphc.variable(rng.normal(size=(8, 6)).astype(np.float32), name="w")
        b = graphc.variable(rng.normal(size=6).astype(np.float32), name="b")
        hidden = graphc.tanh(x @ w + b).named("hidden")
    hidden.named("features")
    table = rng.integers(-5, 5, (40,)).astype(np.int64)
    picked = graphc.take(hidden, graphc.asarray(table % 6), axis=1)
    pooled = graphc.mean(graphc.reshape(picked[1:-1], (n - 2, 8, 5)), axis=2)
    halves = graphc.reshape(hidden, (n // 4, 24))
    return graphc.Graph([x], {"pooled": pooled, "halves": halves}, name="inference")


def training() -> graphc.Graph:
    """A step of Adam: updates of weights and of the optimizer's slots, a custom gradient."""
    rng = np.random.default_rng(1)
    x = graphc.placeholder(("batch", 12), name="x")
    t = graphc.placeholder(("batch",), "int64", name="t")
    w = graphc.variable(rng.normal(size=(12, 5)).astype(np.float32), name="w")
    b = graphc.variable(np.zeros(5, np.float32), name="b")

    @graphc.custom_gradient
    def halved(y: graphc.Tensor) -> tuple[graphc.Tensor, Callable[..., graphc.Tensor]]:
        return y, lambda g: g * 0.5

    loss = graphc.mean(graphc.nn.softmax_cross_entropy(halved(x @ w + b), t)).named("loss")
    updates = graphc.optimizers.adam([w, b], graphc.grad(loss, [w, b]), learning_rate=0.01)
    return graphc.Graph([x, t], {"loss": loss}, updates, name="training")


def dtypes() -> graphc.Graph:
    """Every dtype as input, literal, and tensor of the file; NaN, infinities and signed zeros."""
    outputs = {}
    inputs = []
    for k, dtype in enumerate(ALL):
        x = graphc.placeholder((3,), dtype, name=f"x_{dtype.name}")
        values = (np.arange(60).reshape(20, 3) * 37 + k) % 120
        large = graphc.variable(values % 2 if dtype.is_bool else values, dtype=dtype)
        small = graphc.constant(np.array([0, 1, 1]), dtype)
        inputs.append(x)
        outputs[dtype.name] = graphc.where(graphc.equal(large, small), x, large)
    odd = [np.nan, np.inf, -np.inf, -0.0, 5e-324]
    outputs["odd"] = graphc.constant(np.array(odd)) + 0.0
    bits = np.array([0x7FF8000000000001], np.uint64).view(np.float64)
    outputs["other nan"] = graphc.constant(bits) * 1.0
    return graphc.Graph(inputs, outputs, name="all dtypes")


def control() -> graphc.Graph:
    """Loops, branches and functions with bodies, one of which stands in several places."""
    rng = np.random.default_rng(3)
    x = graphc.placeholder(("n", 4), name="x")
    w = graphc.variable(rng.normal(size=(4, 4)).astype(np.float32), name="w")

    @graphc.function
    def layer(h: graphc.Tensor) -> graphc.Tensor:
        return graphc.tanh(h @ w) * 0.5

    @graphc.function
    def twice(h: graphc.Tensor) -> graphc.Tensor:
        return layer(layer(h))

    table = graphc.constant(rng.normal(size=(30, 4)).astype(np.float32))
    last, rows = graphc.scan(lambda c, r: (layer(c) + r + graphc.sum(table, axis=0), c), x[0], x)
    chosen = graphc.cond(last[0] > 0, lambda: layer(last), lambda: twice(last))
    final, turns = graphc.while_loop(
        lambda h: graphc.sum(h * h) > 0.01, twice, chosen, maximum=20, return_turns=True
    )
    outputs = {"final": final, "turns": turns, "rows": rows}
    return graphc.Graph([x], outputs, name="control")


MODELS = {"inference": inference, "training": training, "dtypes": dtypes, "control": control}


def feeds_of(graph: graphc.Graph) -> dict[str, np.ndarray]:
    """Arrays for all inputs, symbolic dims 8."""
    rng = np.random.default_rng(2)
    result = {}
    for name, t in graph.inputs:
        shape = tuple(s if isinstance(s, int) else 8 for s in t.shape)
        result[name] = rng.integers(0, 2, shape).astype(t.dtype.numpy)
    return result
