"""TensorFlow: `tf.function` as a graph, and compiled by XLA. Images have their channels last."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.contestants.running import Running, as_list, trained
from benchmarks.workloads.reference import BETA1, BETA2, EPSILON, RATE
from benchmarks.workloads.workload import Array, Workload

exp, log, sqrt, tanh, erf = tf.exp, tf.math.log, tf.sqrt, tf.tanh, tf.math.erf
sigmoid, relu, softmax = tf.sigmoid, tf.nn.relu, tf.nn.softmax
sum, reshape, transpose = tf.reduce_sum, tf.reshape, tf.transpose
_NAMESPACE = sys.modules[__name__]


def gelu(x: Any) -> Any:
    return tf.nn.gelu(x, approximate=False)


def logsumexp(x: Any) -> Any:
    return tf.reduce_logsumexp(x, axis=-1)


def layer_norm(x: Any, scale: Any, bias: Any) -> Any:
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, bias, scale, 1e-5)


def linear(x: Any, w: Any, b: Any) -> Any:
    return tf.nn.bias_add(tf.matmul(x, w), b)


def cross_entropy(logits: Any, labels: Any) -> Any:
    found = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(found)


def attention(q: Any, k: Any, v: Any) -> Any:
    scores = tf.matmul(q, k, transpose_b=True) * np.float32(1 / np.sqrt(q.shape[-1]))
    return tf.matmul(tf.nn.softmax(scores), v)


def lstm(x: Any, w_input: Any, w_hidden: Any, bias: Any) -> Any:
    rows = tf.transpose(tf.nn.bias_add(tf.matmul(x, w_input), bias), (1, 0, 2))

    def turn(state: Any, row: Any) -> Any:
        h, c = state
        i, f, g, o = tf.split(row + tf.matmul(h, w_hidden), 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        return tf.sigmoid(o) * tf.tanh(c), c

    start = tf.zeros((x.shape[0], w_hidden.shape[0]))
    states, _ = tf.scan(turn, rows, (start, start))
    return tf.transpose(states, (1, 0, 2))


def image(x: Any) -> Any:
    return x


def flatten(x: Any) -> Any:
    """In the order of channels first, in which the weights behind it stand."""
    return tf.reshape(tf.transpose(x, (0, 3, 1, 2)), (x.shape[0], -1))


def as_image(x: Any) -> Any:
    return x[:, None, None, :]


def conv(x: Any, w: Any, b: Any = None, stride: int = 1, padding: int = 0) -> Any:
    around = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    y = tf.nn.conv2d(x, w, stride, around)
    return y if b is None else tf.nn.bias_add(y, b)


def max_pool(x: Any, size: int, stride: int | None = None, padding: int = 0) -> Any:
    around = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    return tf.nn.max_pool2d(x, size, stride or size, around if padding else "VALID")


def avg_pool(x: Any, size: int, stride: int) -> Any:
    return tf.nn.avg_pool2d(x, size, stride, "VALID")


def global_avg_pool(x: Any) -> Any:
    return tf.reduce_mean(x, (1, 2), keepdims=True)


def batch_norm(x: Any, scale: Any, bias: Any, mean: Any, variance: Any, epsilon: float) -> Any:
    return tf.nn.batch_normalization(x, mean, variance, bias, scale, epsilon)


def channels(w: Any) -> Any:
    return w


def concat_channels(parts: Any) -> Any:
    return tf.concat(parts, 3)


def _channels_last(array: Array) -> Array:
    """Images; nothing else that is fed has four axes."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array


def _kernel(array: Array) -> Array:
    return np.ascontiguousarray(array.transpose(2, 3, 1, 0)) if array.ndim == 4 else array


class GraphMode:
    """tf.function without XLA."""

    version = tf.__version__
    xla = False

    def __init__(self, threads: int) -> None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.set_visible_devices([], "GPU")

    def build(self, workload: Workload) -> Running:
        data = workload.data()
        given = tuple(_channels_last(a) for a in data.inputs)
        inputs = tuple(tf.constant(a) for a in given)
        if workload.training:
            return self._step(workload, inputs, data.weights)
        weights = {k: tf.constant(_kernel(a)) for k, a in data.weights.items()}

        @tf.function(jit_compile=self.xla)
        def run(*x: Any) -> Any:
            return workload.compute(_NAMESPACE, x, weights)

        def values(*others: Any) -> list[Array]:
            other = [tf.constant(_channels_last(a)) for a in others]
            found = [a.numpy() for a in as_list(run(*(other or inputs)))]
            return [a.transpose(0, 3, 1, 2) if a.ndim == 4 else a for a in found]

        def from_numpy(*x: Any) -> Any:
            return run(*map(tf.constant, x)).numpy()

        if workload.numpy_io:
            return Running(from_numpy, given, values)
        return Running(run, inputs, values)

    def _step(self, workload: Workload, inputs: Any, first: Any) -> Running:
        weights = {k: tf.Variable(_kernel(a)) for k, a in first.items()}
        means, squares = ([tf.Variable(tf.zeros_like(w)) for w in weights.values()] for _ in "ms")
        count = tf.Variable(0.0)

        @tf.function(jit_compile=self.xla)
        def step(*x: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = workload.compute(_NAMESPACE, x, weights)
            wanted = list(weights.values())
            found = tape.gradient(loss, wanted)
            now = count.assign_add(1.0)
            down, up = 1 - BETA2**now, RATE / (1 - BETA1**now)
            for w, g, m, s in zip(wanted, found, means, squares, strict=True):
                mean = m.assign(BETA1 * m + (1 - BETA1) * g)
                square = s.assign(BETA2 * s + (1 - BETA2) * g * g)
                w.assign_sub(up * mean / (tf.sqrt(square / down) + EPSILON))
            return loss

        def last() -> dict[str, Array]:
            back = {k: v.numpy() for k, v in weights.items()}
            return {k: a.transpose(3, 2, 0, 1) if a.ndim == 4 else a for k, a in back.items()}

        return Running(step, inputs, lambda: trained(lambda: step(*inputs), first, last))


class Xla(GraphMode):
    """tf.function with `jit_compile=True`."""

    xla = True
