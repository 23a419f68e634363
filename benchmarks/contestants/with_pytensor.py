"""PyTensor, compiled to C (with BLAS where the system has OpenBLAS) and through Numba.

Its flags are environment variables, set in `benchmarks.contestants` before it is imported.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt

from benchmarks.contestants.running import Running, arrays, trained
from benchmarks.workloads.reference import BETA1, BETA2, EPSILON, RATE
from benchmarks.workloads.workload import Unsupported, Workload

exp, log, sqrt, tanh, erf = pt.exp, pt.log, pt.sqrt, pt.tanh, pt.erf
sigmoid, sum, reshape, transpose = pt.sigmoid, pt.sum, pt.reshape, pt.transpose
_NAMESPACE = sys.modules[__name__]


def relu(x: Any) -> Any:
    return pt.maximum(x, np.float32(0))


def gelu(x: Any) -> Any:
    return x * (np.float32(0.5) + np.float32(0.5) * pt.erf(x * np.float32(np.sqrt(0.5))))


def softmax(x: Any) -> Any:
    return pt.special.softmax(x, axis=-1)


def logsumexp(x: Any) -> Any:
    return pt.logsumexp(x, axis=-1)


def layer_norm(x: Any, scale: Any, bias: Any) -> Any:
    size = np.float32(1) / pt.cast(x.shape[-1], "float32")
    centred = x - pt.sum(x, axis=-1, keepdims=True) * size
    variance = pt.sum(centred * centred, axis=-1, keepdims=True) * size
    return centred / pt.sqrt(variance + np.float32(1e-5)) * scale + bias


def linear(x: Any, w: Any, b: Any) -> Any:
    return pt.matmul(x, w) + b


def cross_entropy(logits: Any, labels: Any) -> Any:
    found = pt.special.log_softmax(logits, axis=-1)
    return -pt.mean(found[pt.arange(labels.shape[0]), labels])


def attention(q: Any, k: Any, v: Any) -> Any:
    scale = np.float32(1) / pt.sqrt(pt.cast(q.shape[-1], "float32"))
    return pt.matmul(softmax(pt.matmul(q, k.transpose(0, 1, 3, 2)) * scale), v)


def lstm(x: Any, w_input: Any, w_hidden: Any, bias: Any) -> Any:
    size = w_hidden.shape[0]
    rows = (pt.matmul(x, w_input) + bias).transpose(1, 0, 2)

    def turn(row: Any, h: Any, c: Any, w: Any) -> Any:
        z = row + h @ w
        i, f, g, o = (z[:, k * size : (k + 1) * size] for k in range(4))
        c = pt.sigmoid(f) * c + pt.sigmoid(i) * pt.tanh(g)
        return pt.sigmoid(o) * pt.tanh(c), c

    start = pt.zeros((x.shape[0], size), dtype="float32")
    (states, _), _ = pytensor.scan(turn, [rows], [start, start], [w_hidden])
    return states.transpose(1, 0, 2)


def image(*_: Any, **__: Any) -> Any:
    raise Unsupported("has no convolution of images with channels")


conv = max_pool = flatten = image


class C:
    """Nodes as C functions, elementwise groups fused, run by its C virtual machine."""

    version = pytensor.__version__
    mode = pytensor.compile.mode.Mode(linker="cvm", optimizer="fast_run")

    def __init__(self, threads: int) -> None:
        os.environ["OPENBLAS_NUM_THREADS"] = str(threads)

    def build(self, workload: Workload) -> Running:
        if workload.model is not None:
            raise Unsupported("has no convolution of images with channels")
        data = workload.data()
        inputs = [
            pt.tensor(f"x{k}", dtype=a.dtype, shape=a.shape) for k, a in enumerate(data.inputs)
        ]
        weights = {k: pytensor.shared(a, name=k, shape=a.shape) for k, a in data.weights.items()}
        found = workload.compute(_NAMESPACE, inputs, weights)
        updates = _adam(found, list(weights.values())) if workload.training else None
        function = pytensor.function(inputs, found, updates=updates, mode=self.mode)
        function.trust_input = True

        def values(*others: Any) -> list[Any]:
            if not workload.training:
                return arrays(function(*(others or data.inputs)))

            def last() -> dict[str, Any]:
                return {k: v.get_value() for k, v in weights.items()}

            return trained(lambda: function(*data.inputs), data.weights, last)

        return Running(function, data.inputs, values)


class Numba(C):
    """The whole graph as one function that Numba compiles."""

    mode = pytensor.compile.mode.Mode(linker="numba", optimizer="fast_run")


def _adam(loss: Any, weights: list[Any]) -> list[tuple[Any, Any]]:
    f32 = np.float32
    step = pytensor.shared(f32(0))
    now = step + f32(1)
    updates = [(step, now)]
    down, up = f32(1) - f32(BETA2) ** now, f32(RATE) / (f32(1) - f32(BETA1) ** now)
    for w, g in zip(weights, pt.grad(loss, weights), strict=True):
        mean, square = (pytensor.shared(np.zeros_like(w.get_value())) for _ in range(2))
        new_mean = f32(BETA1) * mean + f32(1 - BETA1) * g
        new_square = f32(BETA2) * square + f32(1 - BETA2) * g * g
        moved = w - up * new_mean / (pt.sqrt(new_square / down) + f32(EPSILON))
        updates += [(mean, new_mean), (square, new_square), (w, moved)]
    return updates
