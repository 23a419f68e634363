"""graphc: `session.function`, weights as constants, or as variables where they train."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import graphc
from benchmarks.contestants.running import Running, arrays, trained
from benchmarks.workloads.workload import Workload

exp, log, sqrt, tanh, erf = graphc.exp, graphc.log, graphc.sqrt, graphc.tanh, graphc.erf
sigmoid, relu, gelu = graphc.nn.sigmoid, graphc.nn.relu, graphc.nn.gelu
softmax, linear = graphc.nn.softmax, graphc.nn.linear
reshape, transpose, concat = graphc.reshape, graphc.permute_dims, graphc.concat
attention = graphc.nn.scaled_dot_product_attention
max_pool = graphc.nn.max_pool


def sum(x: Any, axis: int) -> Any:
    return graphc.sum(x, axis=axis)


def logsumexp(x: Any) -> Any:
    return graphc.logsumexp(x, axis=-1)


def layer_norm(x: Any, scale: Any, bias: Any) -> Any:
    return graphc.nn.layer_norm(x, scale, bias, epsilon=1e-5)


def cross_entropy(logits: Any, labels: Any) -> Any:
    return graphc.mean(graphc.nn.softmax_cross_entropy(logits, labels))


def lstm(x: Any, w_input: Any, w_hidden: Any, bias: Any) -> Any:
    return graphc.nn.lstm(x, graphc.nn.RecurrentWeights(w_input, w_hidden, bias))[0]


def image(x: Any) -> Any:
    return x


def flatten(x: Any) -> Any:
    return graphc.reshape(x, (x.shape[0], -1))


def conv(x: Any, w: Any, b: Any = None, stride: int = 1, padding: int = 0) -> Any:
    return graphc.nn.conv(x, w, stride=stride, padding=padding, bias=b)


_NAMESPACE = sys.modules[__name__]


class Graphc:
    """One session; a new one for each workload, so that nothing of the last stays."""

    version = graphc.__version__

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def build(self, workload: Workload) -> Running:
        data = workload.data()
        if workload.model is not None:
            return self._network(workload.model(), data.inputs)
        session = graphc.Session(threads=self._threads)
        inputs = [
            graphc.placeholder(a.shape, str(a.dtype), name=f"x{k}")
            for k, a in enumerate(data.inputs)
        ]
        if not workload.training:
            weights = {k: graphc.constant(a) for k, a in data.weights.items()}
            function = session.function(inputs, workload.compute(_NAMESPACE, inputs, weights))
            return Running(function, data.inputs, lambda *x: arrays(function(*(x or data.inputs))))
        variables = {k: graphc.variable(a, name=k) for k, a in data.weights.items()}
        loss = workload.compute(_NAMESPACE, inputs, variables)
        wanted = list(variables.values())
        updates = graphc.optimizers.adam(wanted, graphc.grad(loss, wanted))
        step = session.function(inputs, loss, updates=updates)

        def values() -> list[Any]:
            def last() -> dict[str, Any]:
                return {k: session.value(v) for k, v in variables.items()}

            return trained(lambda: step(*data.inputs), data.weights, last)

        return Running(step, data.inputs, values)

    def _network(self, model: bytes, inputs: Sequence[Any]) -> Running:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(model)
            graph = graphc.onnx.load(path)
        session = graphc.Session(threads=self._threads)
        function = session.function([t for _, t in graph.inputs], [t for _, t in graph.outputs])
        return Running(function, tuple(inputs), lambda *x: arrays(function(*(x or inputs))))
