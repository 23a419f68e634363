"""JAX: one `jax.jit` function, arguments on its device, results waited for."""

from __future__ import annotations

import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contestants.running import Running, arrays, trained
from benchmarks.workloads.reference import BETA1, BETA2, EPSILON, RATE
from benchmarks.workloads.workload import Workload

exp, log, sqrt, tanh, erf = jnp.exp, jnp.log, jnp.sqrt, jnp.tanh, jax.scipy.special.erf
sigmoid, relu, softmax = jax.nn.sigmoid, jax.nn.relu, jax.nn.softmax
sum, reshape, transpose, concat = jnp.sum, jnp.reshape, jnp.transpose, jnp.concatenate


def gelu(x: Any) -> Any:
    return jax.nn.gelu(x, approximate=False)


def logsumexp(x: Any) -> Any:
    return jax.nn.logsumexp(x, axis=-1)


def layer_norm(x: Any, scale: Any, bias: Any) -> Any:
    centred = x - jnp.mean(x, -1, keepdims=True)
    variance = jnp.mean(centred * centred, -1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-5) * scale + bias


def linear(x: Any, w: Any, b: Any) -> Any:
    return x @ w + b


def cross_entropy(logits: Any, labels: Any) -> Any:
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
    return -jnp.mean(chosen)


def attention(q: Any, k: Any, v: Any) -> Any:
    scores = jnp.einsum("bhqe,bhke->bhqk", q, k) * (1.0 / np.sqrt(q.shape[-1]).astype(np.float32))
    return jnp.einsum("bhqk,bhke->bhqe", jax.nn.softmax(scores), v)


def lstm(x: Any, w_input: Any, w_hidden: Any, bias: Any) -> Any:
    def turn(state: Any, row: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(row + h @ w_hidden, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((x.shape[0], w_hidden.shape[0]), x.dtype)
    rows = jnp.swapaxes(x @ w_input + bias, 0, 1)
    return jnp.swapaxes(jax.lax.scan(turn, (start, start), rows)[1], 0, 1)


def image(x: Any) -> Any:
    return x


def flatten(x: Any) -> Any:
    return x.reshape(x.shape[0], -1)


def as_image(x: Any) -> Any:
    return x[:, :, None, None]


def conv(x: Any, w: Any, b: Any = None, stride: int = 1, padding: int = 0) -> Any:
    y = jax.lax.conv_general_dilated(x, w, (stride, stride), [(padding, padding)] * 2)
    return y if b is None else y + b[:, None, None]


def max_pool(x: Any, size: int, stride: int | None = None, padding: int = 0) -> Any:
    steps = (1, 1, stride or size, stride or size)
    around = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, size, size), steps, around)


def avg_pool(x: Any, size: int, stride: int) -> Any:
    steps, window = (1, 1, stride, stride), (1, 1, size, size)
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, steps, "VALID")
    return total * (1.0 / (size * size))


def global_avg_pool(x: Any) -> Any:
    return jnp.mean(x, (2, 3), keepdims=True)


def batch_norm(x: Any, scale: Any, bias: Any, mean: Any, variance: Any, epsilon: float) -> Any:
    factor = scale * jax.lax.rsqrt(variance + epsilon)
    return x * channels(factor) + channels(bias - mean * factor)


def channels(w: Any) -> Any:
    return w[:, None, None]


def concat_channels(parts: Any) -> Any:
    return jnp.concatenate(parts, 1)


_NAMESPACE = sys.modules[__name__]


class Jax:
    """XLA's CPU back end, which uses as many threads as the process may run on."""

    version = jax.__version__

    def __init__(self, threads: int) -> None:
        usable = len(os.sched_getaffinity(0))
        if usable != threads:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])

    def build(self, workload: Workload) -> Running:
        data = workload.data()
        inputs = tuple(jax.device_put(a) for a in data.inputs)
        weights = {k: jax.device_put(a) for k, a in data.weights.items()}
        if workload.training:
            return _step(workload, inputs, weights)
        run = jax.jit(lambda *x: workload.compute(_NAMESPACE, x, weights))

        def call(*x: Any) -> Any:
            return jax.block_until_ready(run(*x))

        def values(*others: Any) -> list[Any]:
            return arrays(call(*(map(jax.device_put, others) if others else inputs)))

        if workload.numpy_io:
            return Running(lambda *x: np.asarray(run(*x)), data.inputs, values)
        return Running(call, inputs, values)


def _adam(weights: Any, found: Any, state: Any) -> Any:
    mean, square, step = state
    step = step + 1
    mean = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, mean, found)
    square = jax.tree.map(lambda s, g: BETA2 * s + (1 - BETA2) * g * g, square, found)
    down, up = 1 - BETA2**step, RATE / (1 - BETA1**step)

    def moved(w: Any, m: Any, s: Any) -> Any:
        return w - up * m / (jnp.sqrt(s / down) + EPSILON)

    return jax.tree.map(moved, weights, mean, square), (mean, square, step)


def _step(workload: Workload, inputs: Any, weights: Any) -> Running:
    first = {k: np.array(v) for k, v in weights.items()}

    def plain(weights: Any, state: Any, x: Any) -> Any:
        loss, found = jax.value_and_grad(lambda w: workload.compute(_NAMESPACE, x, w))(weights)
        return loss, *_adam(weights, found, state)

    run = jax.jit(plain, donate_argnums=(0, 1))
    zeros = {k: jnp.zeros_like(v) for k, v in weights.items()}
    now = [weights, (zeros, {k: jnp.zeros_like(v) for k, v in weights.items()}, jnp.float32(0))]

    def step(*x: Any) -> Any:
        loss, now[0], now[1] = run(now[0], now[1], x)
        return jax.block_until_ready((loss, now))[0]

    return Running(step, inputs, lambda: trained(lambda: step(*inputs), first, lambda: now[0]))
