"""Attention (floor 8): heads, caches, masks, rotary positions; and what models do around it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphc.base.dims import Dim, Size, product
from graphc.base.dtypes import DType, bool_, float32, int64
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, op
from graphc.onnx.ops_activation import stepwise_softmax
from graphc.onnx.values import of_tensor
from graphc.ops import elementwise, elementwise_math, logical
from graphc.ops.axes import normalize_axis, same_size
from graphc.ops.contraction import matmul
from graphc.ops.creation import IOTA, filled
from graphc.ops.indexing import take, take_along_axis
from graphc.ops.joining import concat, padded, stack, take_slice
from graphc.ops.promotion import as_tensor, cast
from graphc.ops.reduction import MAX
from graphc.ops.reshape import split_axis, to_shape
from graphc.ops.softmax import softmax
from graphc.ops.view import broadcasted, matrix_transpose, permuted

multiply = elementwise.multiply
PREVIEW = "ai.onnx.preview"


# -- heads ----------------------------------------------------------------------------------------


def _heads(c: Context, k: int, attribute: str) -> Tensor:
    """Operand k as [batch, heads, places, features]."""
    x = c.tensor(k)
    if x.ndim == 4:
        return x
    heads = c.attribute(attribute)
    if x.ndim != 3 or not heads or heads < 0:
        c.bad(f"operand {k} is {x.type}: 3 dims need the attribute {attribute}, else 4 are due")
    size = x.shape[2]
    if not same_size(size // heads * heads, size):
        c.bad(f"operand {k} is {x.type}, which does not split into {heads} heads")
    return permuted(split_axis(x, 2, (heads, size // heads)), (0, 2, 1, 3))


def _repeated(c: Context, x: Tensor, heads: Size) -> Tensor:
    """Heads of keys or values, each for several heads of queries in a row."""
    own = x.shape[1]
    if own == heads:
        return x
    if isinstance(own, Dim) or isinstance(heads, Dim) or own < 1 or heads % own:
        c.bad(f"{heads} heads of queries are no multiple of {own} heads of keys and values")
    apart = to_shape(x, (x.shape[0], own, 1, *x.shape[2:]))
    wide = broadcasted(apart, (x.shape[0], own, heads // own, *x.shape[2:]))
    return to_shape(wide, (x.shape[0], heads, *x.shape[2:]))


def _joined(c: Context, past: int, x: Tensor) -> Tensor:
    """x behind what operand `past` holds of earlier calls."""
    return concat([c.tensor(past), x], axis=2) if c.has(past) else x


# -- masks ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bias:
    """What is added to the scores [batch, heads, queries, keys]; -inf forbids."""

    c: Context
    queries: Size
    keys: Size
    dtype: DType

    def forbidding(self, allowed: Tensor) -> Tensor:
        """0 where `allowed`, else -inf."""
        zero, never = filled(0.0, (), self.dtype), filled(-np.inf, (), self.dtype)
        return elementwise.where(allowed, zero, never)

    def mask(self, k: int) -> Tensor:
        """Operand k; keys beyond it are forbidden."""
        mask = self.c.tensor(k)
        if mask.dtype is not bool_ and not mask.dtype.is_float:
            self.c.bad(f"the mask is {mask.dtype}, expected bool or a float")
        bias = self.forbidding(mask) if mask.dtype is bool_ else cast(mask, self.dtype)
        missing = self.keys - bias.shape[-1]
        if isinstance(missing, Dim) or missing <= 0 or bias.shape[-1] == 1:
            return bias
        high = (0,) * (bias.ndim - 1) + (missing,)
        return padded(bias, (0,) * bias.ndim, high, value=-np.inf)

    def distance(self, offset: Size | Tensor) -> Tensor:
        """How far each query, moved by `offset`, lies behind each key: [(batch, 1,) q, k]."""
        query = IOTA(shape=(self.queries, 1), axis=0, dtype=int64)
        key = IOTA(shape=(1, self.keys), axis=1, dtype=int64)
        if isinstance(offset, Tensor):
            offset = to_shape(offset, (product(offset.shape), 1, 1, 1))
        return elementwise.subtract(elementwise.add(query, offset), key)


def _bias(c: Context, q: Tensor, k: Tensor) -> Tensor | None:
    """The sum of all masks of a node."""
    bias = _Bias(c, q.shape[2], k.shape[2], q.dtype)
    parts: list[Tensor] = []
    if c.has(3):
        parts.append(bias.mask(3))
    offset: Size | Tensor = 0
    if c.has(4):
        offset = c.tensor(4).shape[2]
    elif c.has(6):
        offset = elementwise.subtract(cast(c.tensor(6), int64), q.shape[2])
    left, right = c.attribute("left_window_size", -1), c.attribute("right_window_size", -1)
    if min(left, right) < -1:
        c.bad(f"the window sizes are {left} and {right}, expected -1 or more")
    if c.attribute("is_causal"):
        parts.append(bias.forbidding(logical.greater_equal(bias.distance(offset), 0)))
    if left >= 0:
        parts.append(bias.forbidding(logical.less_equal(bias.distance(offset), left)))
    if right >= 0:
        parts.append(bias.forbidding(logical.greater_equal(bias.distance(offset), -right)))
    if c.has(6):
        length = to_shape(cast(c.tensor(6), int64), (product(c.tensor(6).shape), 1, 1, 1))
        place = IOTA(shape=(1, k.shape[2]), axis=1, dtype=int64)
        parts.append(bias.forbidding(logical.less(place, length)))
    total: Tensor | None = None
    for part in parts:
        total = part if total is None else elementwise.add(total, part)
    return total


# -- attention ------------------------------------------------------------------------------------


def _scores(c: Context, q: Tensor, k: Tensor) -> Tensor:
    """q @ k.mT * scale, the factor's root on either side."""
    scale = c.attribute("scale")
    if scale is None or scale == 0.0:
        size = q.shape[-1]
        if isinstance(size, Dim):
            c.refuse(f"the size of the heads is symbolic: {size}")
        scale = 1.0 / math.sqrt(max(size, 1))
    root = math.sqrt(scale)
    return matmul(multiply(q, root), matrix_transpose(multiply(k, root)))


@op("Attention")
def attention(c: Context) -> list[Tensor | None]:
    """Scaled dot products of queries and keys as weights of values."""
    if c.has(4) != c.has(5):
        c.bad("past_key and past_value need each other")
    if c.has(6) and c.has(4):
        c.bad("nonpad_kv_seqlen and past_key exclude each other")
    q = _heads(c, 0, "q_num_heads")
    key = _joined(c, 4, _heads(c, 1, "kv_num_heads"))
    value = _joined(c, 5, _heads(c, 2, "kv_num_heads"))
    scores = _scores(c, q, _repeated(c, key, q.shape[1]))
    shown = [scores]
    cap = c.attribute("softcap")
    if cap > 0:
        scores = elementwise_math.tanh(scores / cap) * cap
    shown.append(scores)
    bias = _bias(c, q, key)
    weights, biased = _weights(c, scores, bias)
    shown += [biased, weights]
    mode = c.attribute("qk_matmul_output_mode")
    if not 0 <= mode <= 3:
        c.bad(f"attribute qk_matmul_output_mode is {mode}, expected 0 to 3")
    weights = cast(weights, q.dtype)
    out = matmul(cast(weights, value.dtype), _repeated(c, value, q.shape[1]))
    if c.tensor(0).ndim == 3:
        out = permuted(out, (0, 2, 1, 3))
        out = to_shape(out, (*out.shape[:2], product(out.shape[2:])))
    return [out, key, value, cast(shown[mode], q.dtype)]


def _weights(c: Context, scores: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Softmax of scores plus bias, and these scores; 0 for a query that may see nothing."""
    precision = c.attribute("softmax_precision")
    dtype = scores.dtype if precision is None else c.dtype(precision, "softmax_precision")
    axis = scores.ndim - 1
    if bias is None:
        return stepwise_softmax(cast(scores, dtype), axis), scores
    biased = elementwise.add(scores, bias)
    best = MAX(bias, axes=(bias.ndim - 1,), keepdims=True)
    blind = logical.equal(best, -np.inf)
    # The scores of a blind query are all -inf, of which softmax is NaN.
    seen = elementwise.where(blind, 0.0, biased)
    weights = stepwise_softmax(cast(seen, dtype), axis)
    return elementwise.where(blind, 0.0, weights), biased


@op("FlexAttention", domain=PREVIEW)
def flex_attention(c: Context) -> Tensor:
    """Attention whose scores and weights go through graphs of the node."""
    q, k, v = (c.tensor(i) for i in range(3))
    if not q.ndim == k.ndim == v.ndim == 4:
        c.bad(f"its operands are {q.type}, {k.type} and {v.type}, expected 4 dims each")
    precision = c.attribute("softmax_precision")
    dtype = float32 if q.dtype.bits == 16 else q.dtype
    if precision is not None:
        dtype = c.dtype(precision, "softmax_precision")
    scores = cast(_scores(c, q, _repeated(c, k, q.shape[1])), dtype)
    scores = _through(c, "score_mod", scores)
    weights = _through(c, "prob_mod", softmax(scores, axis=3))
    out = matmul(weights, cast(_repeated(c, v, q.shape[1]), dtype))
    return cast(out, v.dtype)


def _through(c: Context, name: str, x: Tensor) -> Tensor:
    """x through the graph of an attribute, which gives one tensor of its shape."""
    graph = c.attribute(name)
    if graph is None:
        return x
    results = c.run(graph, [of_tensor(x)])
    if len(results) != 1:
        c.bad(f"the graph {name} gives {len(results)} results, expected one")
    found = c.plain(results[0], f"the result of {name}").tensor
    if found.shape != x.shape:
        c.bad(f"the graph {name} gives {found.type}, expected the shape of {x.type}")
    return cast(found, x.dtype)


# -- positions and caches -------------------------------------------------------------------------


@op("RotaryEmbedding")
def rotary_embedding(c: Context) -> Tensor:
    """Pairs of features turned by angles that grow with the place (RoPE)."""
    given = c.tensor(0)
    x = _heads(c, 0, "num_heads")
    count = c.attribute("rotary_embedding_dim") or x.shape[3]
    cos, sin = (_angles(c, k, count) for k in (1, 2))
    turned = take_slice(x, 3, 0, count)
    if c.attribute("interleaved"):
        pairs = split_axis(turned, 3, (count // 2, 2))
        a, b = pairs[..., 0], pairs[..., 1]
    else:
        a, b = take_slice(turned, 3, 0, count // 2), take_slice(turned, 3, count // 2, count // 2)
    real = elementwise.subtract(multiply(cos, a), multiply(sin, b))
    imaginary = elementwise.add(multiply(sin, a), multiply(cos, b))
    if c.attribute("interleaved"):
        out = to_shape(stack([real, imaginary], axis=4), turned.shape)
    else:
        out = concat([real, imaginary], axis=3)
    if count != x.shape[3]:
        out = concat([out, take_slice(x, 3, count, x.shape[3] - count)], axis=3)
    if given.ndim == 4:
        return out
    return to_shape(permuted(out, (0, 2, 1, 3)), given.shape)


def _angles(c: Context, k: int, count: Size) -> Tensor:
    """Operand k, cosines or sines: [batch, 1, places, count / 2]."""
    cache = c.tensor(k)
    if c.has(3):
        cache = take(cache, c.tensor(3), axis=0)
    if cache.ndim != 3 or cache.shape[2] != count // 2:
        c.bad(f"operand {k} is {c.tensor(k).type}, expected {count // 2} angles per place")
    return to_shape(cache, (cache.shape[0], 1, *cache.shape[1:]))


@op("TensorScatter")
def tensor_scatter(c: Context) -> Tensor:
    """A cache with an update written at a place of its own per example."""
    cache, update = c.tensor(0), c.tensor(1)
    axis = normalize_axis(c.op, cache, c.attribute("axis"))
    if axis == 0 or update.ndim != cache.ndim:
        c.bad(f"operands are {cache.type} and {update.type}; axis {axis} must not be the batch")
    n, count = cache.shape[axis], update.shape[axis]
    line = tuple(n if a == axis else 1 for a in range(cache.ndim))
    place = IOTA(shape=line, axis=axis, dtype=int64)
    if c.has(2):
        start = cast(c.tensor(2), int64)
        start = to_shape(start, (product(start.shape), *(1,) * (cache.ndim - 1)))
        place = elementwise.subtract(place, start)
    mode = c.attribute("mode")
    if mode == "circular":
        place = elementwise.remainder(place, n)
    elif mode != "linear":
        c.bad(f"attribute mode is {mode!r:.40}, expected linear or circular")
    inside = logical.logical_and(logical.greater_equal(place, 0), logical.less(place, count))
    read = elementwise.where(inside, place, 0)
    return elementwise.where(inside, take_along_axis(update, read, axis=axis), cache)


@op("SwiGLU")
def swiglu(c: Context) -> Tensor:
    """a * sigmoid(alpha * a) * b."""
    a, b = c.tensor(0), c.tensor(1)
    if a.shape != b.shape:
        c.bad(f"operands are {a.type} and {b.type}, expected the same shape")
    gate = elementwise_math.sigmoid(multiply(a, as_tensor(c.attribute("alpha"), like=a)))
    return multiply(multiply(a, gate), b)
