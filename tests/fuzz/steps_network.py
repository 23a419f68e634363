"""Steps of random graphs: functions of networks, and what speaks to differentiation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphc
from tests.fuzz.building import Builder


def activation(b: Builder) -> int:
    """A named activation."""
    v = b.pick_float()
    if v is None or v.bound > 1e3:
        return 0
    nn = graphc.nn
    functions: list[Callable[[Any], Any]] = [
        nn.relu,
        nn.gelu,
        lambda t: nn.gelu(t, approximate="tanh"),
        nn.silu,
        nn.elu,
        nn.selu,
        nn.mish,
        nn.leaky_relu,
        nn.hard_swish,
        nn.hard_sigmoid,
        nn.softsign,
        nn.log_sigmoid,
        nn.celu,
        nn.relu6,
        nn.softplus,
    ]
    return b.add(b.choose(functions)(v.tensor), False, v.bound * 2 + 1)


def normalize(b: Builder) -> int:
    """A normalization over known sizes."""
    v = b.pick_float(2)
    if v is None or v.bound > 1e3 or not all(b.surely(s) for s in v.tensor.shape):
        return 0
    x = v.tensor
    known = isinstance(x.shape[-1], int) and x.dtype.bits >= 32
    scale = b.weights((int(x.shape[-1]),), x) if known and b.chance(0.6) else None
    if x.dtype.bits < 32:
        x = graphc.astype(x, graphc.float32)
    nn = graphc.nn
    options: list[Callable[[], Any]] = [
        lambda: nn.layer_norm(x, scale, epsilon=0.01),
        lambda: nn.rms_norm(x, scale, epsilon=0.01),
        lambda: nn.batch_norm(x, epsilon=0.01)[0] if x.ndim > 2 else nn.layer_norm(x, epsilon=0.1),
        lambda: nn.instance_norm(x, epsilon=0.1) if x.ndim > 2 else nn.rms_norm(x, epsilon=0.1),
    ]
    return b.add(b.choose(options)(), False, 60.0)


def loss(b: Builder) -> int:
    """A loss per row or in all."""
    v = b.pick(
        lambda w: (
            w.tensor.dtype.is_float and w.tensor.ndim > 1 and isinstance(w.tensor.shape[-1], int)
        )
    )
    if v is None or v.bound > 300 or not v.tensor.shape[-1]:
        return 0
    x = v.tensor if v.tensor.ndim == 2 else graphc.reshape(v.tensor, (-1, v.tensor.shape[-1]))
    if x.dtype.bits < 32:
        x = graphc.astype(x, graphc.float32)
    classes = int(x.shape[1])
    places = graphc.astype(graphc.iota(x.shape[0]) * 3, graphc.int64) % classes
    target = graphc.nn.softmax(graphc.flip(x, axis=1), axis=1)
    nn = graphc.nn
    options: list[Callable[[], Any]] = [
        lambda: nn.softmax_cross_entropy(x, places),
        lambda: nn.softmax_cross_entropy(x, target),
        lambda: nn.softmax_cross_entropy(x, places, label_smoothing=0.1),
        lambda: nn.binary_cross_entropy_with_logits(x, target),
        lambda: nn.nll(nn.log_softmax(x), places),
        lambda: nn.kl_divergence(nn.log_softmax(x), target),
        lambda: nn.huber(x, target),
        lambda: nn.mse(x, target, reduction="none"),
        lambda: nn.cosine_similarity(x, target),
        lambda: nn.one_hot(places, classes) * graphc.astype(x, "float32"),
    ]
    return b.add(b.choose(options)(), False, v.bound * 20 + 20)


def convolution(b: Builder) -> int:
    """A convolution, 1-D or 2-D, of a value with channels (one is made where there is none)."""
    v = b.pick(
        lambda w: (
            w.tensor.dtype.is_float
            and w.tensor.ndim in (3, 4)
            and all(isinstance(s, int) and s >= 2 for s in w.tensor.shape[1:])
            and w.tensor.shape[1] <= 16
        )
    )
    if v is None:
        if len(b.inputs) > 6:
            return 0
        rank = b.integer(1, 2)
        shape = (
            b.choose([b.dims["n"], 2]),
            b.choose([2, 4]),
            *(b.integer(4, 9) for _ in range(rank)),
        )
        v = b.placeholder(shape, b.choose([graphc.float32, graphc.float64, graphc.float32]))
    x = v.tensor
    channels = int(x.shape[1])
    groups = 2 if channels % 2 == 0 and b.chance(0.3) else 1
    made = groups * b.choose([1, 2, 3])
    smallest = min(int(s) for s in x.shape[2:])
    width = b.integer(1, min(3, smallest))
    dilation = 2 if (width - 1) * 2 < smallest and b.chance(0.3) else 1
    options: dict[str, Any] = {
        "stride": b.integer(1, 2),
        "padding": b.integer(0, 2),
        "dilation": dilation,
        "groups": groups,
    }
    reach = channels // groups * width ** (x.ndim - 2)
    if b.chance(0.25):
        w = b.weights((channels, made // groups, *[width] * (x.ndim - 2)), x)
        options["padding"] = 0
        return b.add(graphc.nn.conv_transpose(x, w, **options), False, v.bound * 6 * reach * 4)
    w = b.weights((made, channels // groups, *[width] * (x.ndim - 2)), x)
    return b.add(graphc.nn.conv(x, w, **options), False, v.bound * 6 * reach)


def pool(b: Builder) -> int:
    """A pooling."""
    v = b.pick(
        lambda w: (
            w.tensor.dtype.is_float
            and w.tensor.ndim in (3, 4)
            and all(isinstance(s, int) and s >= 2 for s in w.tensor.shape[2:])
        )
    )
    if v is None:
        return 0
    x = v.tensor
    nn = graphc.nn
    stride = b.choose([None, 1, 2])
    padding = b.integer(0, 1)
    options: list[tuple[Callable[[], Any], bool]] = [
        (lambda: nn.max_pool(x, 2, stride, padding), v.exact),
        (lambda: nn.avg_pool(x, 2, stride, padding), False),
        (lambda: nn.avg_pool(x, 2, stride, padding, count_include_pad=False), False),
        (lambda: nn.adaptive_avg_pool(x, 2), False),
        (lambda: nn.global_avg_pool(x), False),
        (lambda: nn.adaptive_max_pool(x, 2), v.exact),
        (lambda: nn.global_max_pool(x, keepdims=True), v.exact),
    ]
    function, exact = b.choose(options)
    return b.add(function(), exact, v.bound)


def attention(b: Builder) -> int:
    """Attention of a value with itself."""
    v = b.pick(
        lambda w: (
            w.tensor.dtype.is_float
            and w.tensor.ndim in (3, 4)
            and all(b.surely(s) for s in w.tensor.shape)
        )
    )
    if v is None or v.bound > 100:
        return 0
    x = graphc.tanh(v.tensor)
    y = graphc.nn.scaled_dot_product_attention(
        x, graphc.flip(x, axis=-2), v.tensor, causal=b.chance(0.4)
    )
    return b.add(y, False, v.bound)


@graphc.custom_gradient
def _scaled_backward(x: Any) -> Any:
    return graphc.tanh(x) * 2.0, lambda g: graphc.clip(g, -0.5, 0.5) * x


def special(b: Builder) -> int:
    """stop_gradient, checkpoint, custom_gradient, jvp, dropout."""
    v = b.pick_float()
    if v is None or v.bound > 300 or v.tensor.dtype.bits < 32:
        return 0
    x = v.tensor

    def pushed() -> Any:
        return graphc.jvp(graphc.sin(x) * x, x, graphc.cos(x))

    def dropped() -> Any:
        key = graphc.random.key(int(b.rng.integers(1000)))
        return graphc.nn.dropout(x, 0.4, key)

    options: list[Callable[[], Any]] = [
        lambda: graphc.stop_gradient(x) * x,
        lambda: graphc.checkpoint(lambda t: graphc.tanh(t) * graphc.sin(t))(x),
        lambda: _scaled_backward(x),
        pushed,
        dropped,
        lambda: x + graphc.stop_gradient(graphc.sum(graphc.tanh(x))),
    ]
    bound = v.bound**2 + 2 * v.bound + b.count(x.shape)
    return b.add(b.choose(options)(), False, bound)


def random_numbers(b: Builder) -> int:
    """Numbers out of a key, of a symbolic shape sometimes."""
    v = b.pick_float()
    if v is None:
        return 0
    key = graphc.random.key(int(b.rng.integers(1000)))
    dtype = b.choose([graphc.float32, graphc.float64])
    return b.add(graphc.random.uniform(key, v.tensor.shape, dtype=dtype), False, 1.0)


def constants(b: Builder) -> int:
    """A constant array, or a filled or counted one."""
    dtype = b.choose([graphc.float32, graphc.float64, graphc.int32, graphc.int64])
    shape = tuple(b.choose([1, 2, 4, 7]) for _ in range(b.integer(0, 2)))
    options: list[Callable[[], Any]] = [
        lambda: graphc.constant(b.array(shape, dtype), dtype=dtype),
        lambda: graphc.full(shape, 3, dtype=dtype),
        lambda: graphc.arange(b.integer(1, 9), dtype=dtype),
        lambda: graphc.eye(4, dtype=dtype),
        lambda: graphc.constant(np.asarray(b.array((), dtype)), dtype=dtype),
    ]
    return b.add(b.choose(options)(), True, 10.0)
