"""PyTorch, eager and through torch.compile."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.contestants.running import Running, arrays, trained
from benchmarks.workloads.workload import Workload

exp, log, sqrt, tanh, erf = torch.exp, torch.log, torch.sqrt, torch.tanh, torch.erf
sigmoid, relu, gelu = torch.sigmoid, torch.relu, F.gelu
attention = F.scaled_dot_product_attention
sum, reshape, transpose, concat = torch.sum, torch.reshape, torch.permute, torch.cat
cross_entropy = F.cross_entropy


def softmax(x: Any) -> Any:
    return torch.softmax(x, -1)


def logsumexp(x: Any) -> Any:
    return torch.logsumexp(x, -1)


def layer_norm(x: Any, scale: Any, bias: Any) -> Any:
    return F.layer_norm(x, (x.shape[-1],), scale, bias)


def linear(x: Any, w: Any, b: Any) -> Any:
    return F.linear(x, w.T, b)


def lstm(x: Any, w_input: Any, w_hidden: Any, bias: Any) -> Any:
    state = torch.zeros(1, x.shape[0], w_hidden.shape[0])
    weights = [w_input.T.contiguous(), w_hidden.T.contiguous(), bias, torch.zeros_like(bias)]
    return torch.lstm(x, (state, state), weights, True, 1, 0.0, False, False, True)[0]


def image(x: Any) -> Any:
    return x


def flatten(x: Any) -> Any:
    return torch.flatten(x, 1)


def as_image(x: Any) -> Any:
    return x[:, :, None, None]


def conv(x: Any, w: Any, b: Any = None, stride: int = 1, padding: int = 0) -> Any:
    return F.conv2d(x, w, b, stride, padding)


def max_pool(x: Any, size: int, stride: int | None = None, padding: int = 0) -> Any:
    return F.max_pool2d(x, size, stride, padding)


def avg_pool(x: Any, size: int, stride: int) -> Any:
    return F.avg_pool2d(x, size, stride)


def global_avg_pool(x: Any) -> Any:
    return x.mean((2, 3), keepdim=True)


def batch_norm(x: Any, scale: Any, bias: Any, mean: Any, variance: Any, epsilon: float) -> Any:
    return F.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


def channels(w: Any) -> Any:
    return w[:, None, None]


def concat_channels(parts: Any) -> Any:
    return torch.cat(parts, 1)


_NAMESPACE = sys.modules[__name__]


class Eager:
    """Operations one by one."""

    version = torch.__version__

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def compiled(self, function: Any) -> Any:
        """`function` as it is timed."""
        return function

    def build(self, workload: Workload) -> Running:
        data = workload.data()
        inputs = [torch.from_numpy(a) for a in data.inputs]
        weights = {k: torch.from_numpy(a.copy()) for k, a in data.weights.items()}
        if workload.training:
            return self._step(workload, inputs, weights)

        def plain(*x: Any) -> Any:
            return workload.compute(_NAMESPACE, x, weights)

        run = self.compiled(plain)

        def call(*x: Any) -> Any:
            with torch.inference_mode():
                return run(*x)

        def from_numpy(*x: Any) -> Any:
            with torch.inference_mode():
                return run(*map(torch.from_numpy, x)).numpy()

        def values(*others: Any) -> list[Any]:
            return arrays(call(*(map(torch.from_numpy, others) if others else inputs)))

        if workload.numpy_io:
            return Running(from_numpy, data.inputs, values)
        return Running(call, tuple(inputs), values)

    def _step(self, workload: Workload, inputs: list[Any], weights: dict[str, Any]) -> Running:
        first = {k: v.numpy().copy() for k, v in weights.items()}
        for v in weights.values():
            v.requires_grad_()
        optimizer = torch.optim.Adam(weights.values(), fused=True)
        loss_of = self.compiled(lambda *x: workload.compute(_NAMESPACE, x, weights))

        def step(*x: Any) -> Any:
            optimizer.zero_grad()
            loss = loss_of(*x)
            loss.backward()
            optimizer.step()
            return loss

        def last() -> dict[str, Any]:
            return {k: v.detach().numpy() for k, v in weights.items()}

        def values() -> list[Any]:
            return trained(lambda: step(*inputs).detach(), first, last)

        return Running(step, tuple(inputs), values)


class Compiled(Eager):
    """torch.compile with its default back end, shapes as they come."""

    def compiled(self, function: Any) -> Any:
        torch._dynamo.reset()
        return torch.compile(function)
