"""The float64 reference: the namespace of functions in NumPy, with reverse-mode gradients.

Nothing of graphc is used, so that an error of its compiler cannot hide itself. A `Value` holds an
array and, per operand, the function that takes the gradient of the result to the gradient of that
operand; `gradients` adds them up from the last value made to the first.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads.workload import Array, Data, Workload

Backward = Callable[[Array], Array]
STEPS = 3  # of Adam, after which parameters are compared
RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
SMALL = 1e-2

_erf = np.vectorize(math.erf, otypes=[np.float64])


class Value:
    """An array and how gradients flow back from it."""

    __array_ufunc__ = None  # a NumPy scalar on the left leaves the operator to this class

    def __init__(self, data: Any, parents: Sequence[tuple[Value, Backward]] = ()) -> None:
        self.data: Array = np.asarray(data)
        self.parents = tuple(parents)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def __add__(self, other: Any) -> Value:
        a, b = self, lift(other)
        return Value(a.data + b.data, [(a, lambda g: g), (b, lambda g: g)])

    def __mul__(self, other: Any) -> Value:
        a, b = self, lift(other)
        return Value(a.data * b.data, [(a, lambda g: g * b.data), (b, lambda g: g * a.data)])

    def __truediv__(self, other: Any) -> Value:
        a, b = self, lift(other)
        quotient = a.data / b.data
        parents = [(a, lambda g: g / b.data), (b, lambda g: -g * quotient / b.data)]
        return Value(quotient, parents)

    def __matmul__(self, other: Value) -> Value:
        a, b = self, other
        left: Backward = lambda g: g @ np.swapaxes(b.data, -1, -2)  # noqa: E731 (a pair reads best)
        right: Backward = lambda g: np.swapaxes(a.data, -1, -2) @ g  # noqa: E731 (as above)
        return Value(a.data @ b.data, [(a, left), (b, right)])

    def __getitem__(self, key: Any) -> Value:
        def back(g: Array) -> Array:
            whole = np.zeros_like(self.data)
            whole[key] += g
            return whole

        return Value(self.data[key], [(self, back)])

    def __neg__(self) -> Value:
        return self * -1.0

    def __sub__(self, other: Any) -> Value:
        return self + lift(other) * -1.0

    def __radd__(self, other: Any) -> Value:
        return self + other

    def __rsub__(self, other: Any) -> Value:
        return lift(other) - self

    def __rmul__(self, other: Any) -> Value:
        return self * other

    def __rtruediv__(self, other: Any) -> Value:
        return lift(other) / self


def lift(x: Any) -> Value:
    """A value as it is, anything else as a constant."""
    return x if isinstance(x, Value) else Value(np.asarray(x, np.float64))


def _shaped(g: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of an operand that was broadcast: summed over the axes it lacked."""
    if g.shape == shape:
        return g
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    axes = tuple(k for k, n in enumerate(shape) if n == 1 and g.shape[k] != 1)
    summed: Array = g.sum(axis=axes, keepdims=True) if axes else g
    return np.broadcast_to(summed, shape)


def gradients(loss: Value, wanted: Sequence[Value]) -> list[Array]:
    """Of a scalar, with respect to each of `wanted`."""
    order: list[Value] = []
    state: dict[int, bool] = {}
    stack = [loss]
    while stack:
        value = stack[-1]
        if id(value) not in state:
            state[id(value)] = False
            stack += [p for p, _ in value.parents if id(p) not in state]
            continue
        stack.pop()
        if not state[id(value)]:
            state[id(value)] = True
            order.append(value)
    total: dict[int, Array] = {id(loss): np.ones_like(loss.data)}
    for value in reversed(order):
        for parent, back in value.parents:
            part = _shaped(back(total[id(value)]), parent.shape)
            total[id(parent)] = total.get(id(parent), 0.0) + part
    return [total[id(v)] for v in wanted]


# -- the namespace --------------------------------------------------------------------------------


def _map(x: Value, y: Array, slope: Callable[[], Array]) -> Value:
    return Value(y, [(x, lambda g: g * slope())])


def exp(x: Value) -> Value:
    y = np.exp(x.data)
    return _map(x, y, lambda: y)


def log(x: Value) -> Value:
    return _map(x, np.log(x.data), lambda: 1.0 / x.data)


def sqrt(x: Value) -> Value:
    y = np.sqrt(x.data)
    return _map(x, y, lambda: 0.5 / y)


def tanh(x: Value) -> Value:
    y = np.tanh(x.data)
    return _map(x, y, lambda: 1.0 - y * y)


def sigmoid(x: Value) -> Value:
    y = 0.5 + 0.5 * np.tanh(0.5 * x.data)
    return _map(x, y, lambda: y * (1.0 - y))


def erf(x: Value) -> Value:
    two = 2.0 / math.sqrt(math.pi)
    return _map(x, _erf(x.data), lambda: two * np.exp(-x.data * x.data))


def relu(x: Value) -> Value:
    return _map(x, np.maximum(x.data, 0.0), lambda: (x.data > 0).astype(np.float64))


def gelu(x: Value) -> Value:
    return x * (0.5 + 0.5 * erf(x * math.sqrt(0.5)))


def sum(x: Value, axis: int | tuple[int, ...], keepdims: bool = False) -> Value:
    def back(g: Array) -> Array:
        return np.broadcast_to(g if keepdims else np.expand_dims(g, axis), x.shape)

    return Value(x.data.sum(axis=axis, keepdims=keepdims), [(x, back)])


def reshape(x: Value, shape: Sequence[int]) -> Value:
    return Value(x.data.reshape(shape), [(x, lambda g: g.reshape(x.shape))])


def transpose(x: Value, axes: Sequence[int]) -> Value:
    inverse = np.argsort(axes)
    return Value(x.data.transpose(axes), [(x, lambda g: g.transpose(inverse))])


def concat(parts: Sequence[Value], axis: int) -> Value:
    edges = np.cumsum([0, *(p.shape[axis] for p in parts)])

    def back(k: int) -> Backward:
        places = range(int(edges[k]), int(edges[k + 1]))
        return lambda g: np.take(g, places, axis=axis)

    joined = np.concatenate([p.data for p in parts], axis=axis)
    return Value(joined, [(p, back(k)) for k, p in enumerate(parts)])


def softmax(x: Value) -> Value:
    e = exp(x - x.data.max(axis=-1, keepdims=True))
    return e / sum(e, -1, keepdims=True)


def logsumexp(x: Value) -> Value:
    top = x.data.max(axis=-1, keepdims=True)
    return log(sum(exp(x - top), -1)) + top[..., 0]


def layer_norm(x: Value, scale: Value, bias: Value) -> Value:
    centred = x - sum(x, -1, keepdims=True) * (1.0 / x.shape[-1])
    variance = sum(centred * centred, -1, keepdims=True) * (1.0 / x.shape[-1])
    return centred / sqrt(variance + 1e-5) * scale + bias


def linear(x: Value, w: Value, b: Value) -> Value:
    rows = reshape(x, (-1, x.shape[-1])) @ w + b
    return reshape(rows, (*x.shape[:-1], w.shape[1]))


def cross_entropy(logits: Value, labels: Value) -> Value:
    rows = np.arange(logits.shape[0])
    return sum(logsumexp(logits) - logits[rows, labels.data], 0) * (1.0 / logits.shape[0])


def attention(q: Value, k: Value, v: Value) -> Value:
    scores = q @ transpose(k, (0, 1, 3, 2)) * (1.0 / math.sqrt(q.shape[-1]))
    return softmax(scores) @ v


def lstm(x: Value, w_input: Value, w_hidden: Value, bias: Value) -> Value:
    batch, steps, size = *x.shape[:2], w_hidden.shape[0]
    h = c = Value(np.zeros((batch, size)))
    states = []
    for t in range(steps):
        z = x[:, t] @ w_input + h @ w_hidden + bias
        i, f, g, o = (z[:, k * size : (k + 1) * size] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        states.append(reshape(h, (batch, 1, size)))
    return concat(states, 1)


def image(x: Value) -> Value:
    return x


def flatten(x: Value) -> Value:
    return reshape(x, (x.shape[0], -1))


def as_image(x: Value) -> Value:
    return reshape(x, (*x.shape, 1, 1))


def _windows(x: Value, size: int, stride: int, padding: int, filler: float = 0.0) -> Value:
    """(n, c, h, w) -> (n, c, rows, columns, size, size): a view of the padded image."""
    around = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    padded = np.pad(x.data, around, constant_values=filler)
    view = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
    view = view[:, :, ::stride, ::stride]

    def back(g: Array) -> Array:
        whole = np.zeros_like(padded)
        rows, columns = (stride * n for n in g.shape[2:4])
        for i in range(size):
            for j in range(size):
                whole[:, :, i : i + rows : stride, j : j + columns : stride] += g[..., i, j]
        inside = (
            slice(padding, padded.shape[2] - padding),
            slice(padding, padded.shape[3] - padding),
        )
        result: Array = whole[:, :, *inside]
        return result

    return Value(view, [(x, back)])


def conv(x: Value, w: Value, b: Value | None = None, stride: int = 1, padding: int = 0) -> Value:
    outputs, channels, size, _ = w.shape
    patches = transpose(_windows(x, size, stride, padding), (0, 2, 3, 1, 4, 5))
    n, rows, columns = patches.shape[:3]
    flat = reshape(patches, (n * rows * columns, channels * size * size))
    product = flat @ transpose(reshape(w, (outputs, channels * size * size)), (1, 0))
    result = transpose(reshape(product, (n, rows, columns, outputs)), (0, 3, 1, 2))
    return result if b is None else result + reshape(b, (1, outputs, 1, 1))


def max_pool(x: Value, size: int, stride: int | None = None, padding: int = 0) -> Value:
    view = _windows(x, size, stride or size, padding, -np.inf)
    flat = reshape(view, (*view.shape[:4], size * size))
    places = flat.data.argmax(axis=-1)
    n, c, h, w = np.indices(places.shape)
    return flat[n, c, h, w, places]


def avg_pool(x: Value, size: int, stride: int) -> Value:
    return sum(_windows(x, size, stride, 0), (4, 5)) * (1.0 / (size * size))


def global_avg_pool(x: Value) -> Value:
    return sum(x, (2, 3), keepdims=True) * (1.0 / (x.shape[2] * x.shape[3]))


def batch_norm(
    x: Value, scale: Value, bias: Value, mean: Value, variance: Value, epsilon: float
) -> Value:
    factor = scale / sqrt(variance + epsilon)
    return x * channels(factor) + channels(bias - mean * factor)


def channels(w: Value) -> Value:
    return reshape(w, (w.shape[0], 1, 1))


def concat_channels(parts: Sequence[Value]) -> Value:
    return concat(parts, 1)


# -- what a workload should give ------------------------------------------------------------------


def expected(workload: Workload, data: Data) -> list[Array]:
    """The outputs, each followed by those of the further inputs; of a training step the losses of
    STEPS steps and then every change of a weight, joined in one array.

    Changes are NaN (not to be compared) where a gradient was below SMALL of the root mean square of
    its tensor: a step of Adam is a gradient over its own size, and of one that is nearly zero the
    rounding. A dozen such weights in a million would be the whole error.
    """
    weights = {k: Value(a.astype(np.float64)) for k, a in data.weights.items()}
    if workload.training:
        return _trained(workload, [_exact(a) for a in data.inputs], weights)
    every = []
    for inputs in (data.inputs, *data.further):
        found = workload.compute(NAMESPACE, [_exact(a) for a in inputs], weights)
        every.append([v.data for v in (found if isinstance(found, list) else [found])])
    return joined(every)


def joined(every: Sequence[Sequence[Array]]) -> list[Array]:
    """The outputs of several inputs one behind the other."""
    first, *further = every
    return [np.concatenate(o) for o in zip(*every, strict=True)] if further else list(first)


def _trained(
    workload: Workload, inputs: Sequence[Value], weights: Mapping[str, Value]
) -> list[Array]:
    first = {k: v.data for k, v in weights.items()}
    now = dict(first)
    mean = {k: np.zeros_like(a) for k, a in now.items()}
    square = {k: np.zeros_like(a) for k, a in now.items()}
    small = {k: np.zeros(a.shape, bool) for k, a in now.items()}
    losses = []
    for step in range(1, STEPS + 1):
        values = {k: Value(a) for k, a in now.items()}
        loss = workload.compute(NAMESPACE, inputs, values)
        losses.append(float(loss.data))
        for k, g in zip(values, gradients(loss, list(values.values())), strict=True):
            small[k] |= (g != 0) & (np.abs(g) < SMALL * np.sqrt(np.mean(g * g)))
            mean[k] = BETA1 * mean[k] + (1 - BETA1) * g
            square[k] = BETA2 * square[k] + (1 - BETA2) * g * g
            scaled = np.sqrt(square[k] / (1 - BETA2**step)) + EPSILON
            now[k] = now[k] - RATE * mean[k] / (1 - BETA1**step) / scaled
    left_out = np.concatenate([s.ravel() for s in small.values()])
    return [np.array(losses), np.where(left_out, np.nan, changes(first, now))]


def changes(first: Mapping[str, Array], last: Mapping[str, Array]) -> Array:
    """How far every weight moved, one after the other, in float64."""
    moved = [(last[k].astype(np.float64) - first[k]).ravel() for k in first]
    return np.concatenate(moved)


NAMESPACE = sys.modules[__name__]  # what `compute` calls its functions on


def _exact(a: Array) -> Value:
    return Value(a.astype(np.float64) if a.dtype.kind == "f" else a)
