"""How fast do compiled graphs run, beside NumPy doing the same?

NumPy computes each expression as its users write it, on float32 arrays of the same size; it uses
one thread except in matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import graphc
from benchmarks.measure import measure, readable
from benchmarks.table import Row

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """One expression in both languages, and the shapes of its inputs."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    graph: Callable[..., graphc.Tensor]
    numpy: Callable[..., Array]


def _numpy_softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    result: Array = e / e.sum(axis=-1, keepdims=True)
    return result


def _numpy_layer_norm(x: Array) -> Array:
    result: Array = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return result


def _chain(a: Any, b: Any, c: Any, d: Any, *, tanh: Any, exp: Any) -> Any:
    return tanh(a * b + c) * (1 / (1 + exp(-d))) - exp(-a * a)


CASES = (
    Case(
        "chain, 10 million",
        ((10_000_000,),) * 4,
        lambda *x: _chain(*x, tanh=graphc.tanh, exp=graphc.exp),
        lambda *x: _chain(*x, tanh=np.tanh, exp=np.exp),
    ),
    Case("sum, 10 million", ((10_000_000,),), graphc.sum, np.sum),
    Case("column sums, 4000 × 2500", ((4000, 2500),), lambda x: graphc.sum(x, axis=0), lambda x:
    x.sum(0)), Case("softmax, 4096 × 1000", ((4096, 1000),), lambda x: graphc.nn.softmax(x),
    _numpy_softmax), Case("layer norm, 4096 × 768", ((4096, 768),), lambda x:
    graphc.nn.layer_norm(x), _numpy_layer_norm), Case("matmul, 512³", ((512, 512), (512, 512)),
    graphc.matmul, np.matmul), Case("transpose, 4096²", ((4096, 4096),), lambda x: x.T + 1, lambda
    x: x.T + 1), Case("small, 16", ((16,),), lambda x: graphc.tanh(x) + 1, lambda x: np.tanh(x) +
    1),
)  # fmt: skip


def run() -> Iterator[Row]:
    """One row per expression, on one thread and on all."""
    rng = np.random.default_rng(0)
    for case in CASES:
        arrays = [rng.normal(size=shape).astype(np.float32) for shape in case.shapes]
        inputs = [graphc.placeholder(a.shape, name=f"x{k}") for k, a in enumerate(arrays)]
        row: dict[str, object] = {"expression": case.name}
        for label, threads in (("1 thread", 1), ("all threads", None)):
            with graphc.Session(threads=threads) as session:
                function = session.function(inputs, case.graph(*inputs))
                out = function(*arrays)
                timing = measure(lambda f=function, a=arrays, o=out: f(*a, out=o), seconds=0.7)
            row[label] = readable(timing.best)
        reference = measure(lambda c=case, a=arrays: c.numpy(*a), seconds=0.7)
        yield {**row, "NumPy": readable(reference.best)}
