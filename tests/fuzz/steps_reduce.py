"""Steps of random graphs: reductions, rows, cumulatives, sorting, searching, contractions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import graphc
from tests.fuzz.building import Builder


def reduce(b: Builder) -> int:
    """A reduction over some axes."""
    v = b.pick(lambda w: w.tensor.ndim > 0)
    if v is None:
        return 0
    x = v.tensor
    axes = [a for a in range(x.ndim) if b.chance(0.5)]
    axis: Any = None if not axes else (axes[0] if len(axes) == 1 else tuple(axes))
    keep = b.chance(0.4)
    count = max(1, b.count(x.shape))
    if x.dtype.is_bool:
        function = b.choose([graphc.any, graphc.all, graphc.count_nonzero])
        return b.add(function(x, axis=axis, keepdims=keep), True, 1e3)
    exact_sum = v.exact and x.dtype.is_integer
    nonempty = all(b.surely(x.shape[a]) for a in (axes or range(x.ndim)))
    options: list[tuple[Callable[..., Any], bool, float]] = [
        (graphc.sum, exact_sum, v.bound * count)
    ]
    if x.dtype.is_integer:
        options += [(graphc.prod, True, 2.0**64)]
    if x.dtype.is_float and nonempty:
        options += [
            (graphc.mean, False, v.bound),
            (graphc.logsumexp, False, v.bound + 8),
            (graphc.var, False, v.bound**2),
            (graphc.std, False, v.bound),
        ]
    if nonempty:
        options += [(graphc.max, v.exact, v.bound), (graphc.min, v.exact, v.bound)]
    function, exact, bound = b.choose(options)
    return b.add(function(x, axis=axis, keepdims=keep), exact, bound)


def position(b: Builder) -> int:
    """argmax and argmin of exact values."""
    v = b.pick(lambda w: w.exact and any(b.surely(s) for s in w.tensor.shape))
    if v is None or v.tensor.dtype.is_bool:
        return 0
    axis = b.choose([a for a, s in enumerate(v.tensor.shape) if b.surely(s)])
    function = b.choose([graphc.argmax, graphc.argmin])
    return b.add(function(v.tensor, axis=axis, keepdims=b.chance(0.3)), True, 1e3)


def row(b: Builder) -> int:
    """Every element and a reduction of its row in one result."""
    v = b.pick_float(1)
    if v is None or v.bound > 1e3:
        return 0
    x = v.tensor
    axis = b.integer(0, x.ndim - 1)
    if not b.surely(x.shape[axis]):
        return 0

    def mean(t: Any) -> Any:
        return graphc.mean(t, axis=axis, keepdims=True)

    options: list[Callable[[], Any]] = [
        lambda: graphc.nn.softmax(x, axis=axis),
        lambda: graphc.nn.log_softmax(x, axis=axis),
        lambda: x - mean(x),
        lambda: x - graphc.max(x, axis=axis, keepdims=True),
        lambda: (x - mean(x)) / graphc.sqrt(graphc.var(x, axis=axis, keepdims=True) + 0.1),
        lambda: graphc.exp(x - graphc.logsumexp(x, axis=axis, keepdims=True)),
        lambda: x / (1.0 + graphc.sum(abs(x), axis=axis, keepdims=True)),
        lambda: (
            graphc.log(graphc.sum(graphc.exp(graphc.minimum(x, 3.0)), axis=axis, keepdims=True)) + x
        ),
    ]
    return b.add(b.choose(options)(), False, v.bound * 3 + 10)


def both_axes(b: Builder) -> int:
    """Reductions that feed broadcasts that feed reductions over other axes."""
    v = b.pick_float(2)
    if v is None or v.bound > 300:
        return 0
    x = v.tensor
    if not all(b.surely(s) for s in x.shape):
        return 0
    for _ in range(b.integer(2, 4)):
        axis = b.integer(0, x.ndim - 1)
        reduced = b.choose([graphc.mean, graphc.max, graphc.logsumexp])(x, axis=axis, keepdims=True)
        x = b.choose(
            [
                lambda p, q: p - q,
                lambda p, q: graphc.tanh(p) * q,
                lambda p, q: p / (abs(q) + 1.0),
                lambda p, q: graphc.permute_dims(p - q, tuple(reversed(range(p.ndim)))),
            ]
        )(x, reduced)
    return b.add(x, False, v.bound * 30)


def cumulative(b: Builder) -> int:
    """Running sums, products, maxima."""
    v = b.pick(lambda w: w.tensor.ndim > 0 and not w.tensor.dtype.is_bool)
    if v is None:
        return 0
    x = v.tensor
    axis = b.integer(0, x.ndim - 1)
    whole = v.exact and x.dtype.is_integer
    kind = b.choose(["sum", "max", "min", "prod"])
    if kind in ("max", "min"):
        function = graphc.cumulative_max if kind == "max" else graphc.cumulative_min
        return b.add(function(x, axis=axis), v.exact, v.bound)
    if kind == "prod":
        if x.dtype.is_float:
            x = graphc.sigmoid(x)
        return b.add(
            graphc.cumulative_prod(x, axis=axis), whole, 1.0 if x.dtype.is_float else 2.0**64
        )
    bound = v.bound * max(1, b.size(x.shape[axis]))
    first = b.chance(0.3)
    return b.add(graphc.cumulative_sum(x, axis=axis, include_initial=first), whole, bound)


def order(b: Builder) -> int:
    """Sorting of exact values."""
    v = b.pick(lambda w: w.exact and w.tensor.ndim > 0)
    if v is None:
        return 0
    x = v.tensor
    axis = b.integer(0, x.ndim - 1)
    down = b.chance(0.4)
    size = x.shape[axis]
    kind = b.choose(["sort", "argsort", "top_k", "median"])
    if kind == "sort":
        return b.add(graphc.sort(x, axis=axis, descending=down), True, v.bound)
    if kind == "argsort":
        return b.add(graphc.argsort(x, axis=axis, descending=down), True, 1e3)
    if kind == "top_k" and isinstance(size, int):
        values, places = graphc.top_k(x, b.integer(0, size), axis=axis, largest=not down)
        return b.add(values, True, v.bound) + b.add(places, True, 1e3)
    if kind == "median" and x.dtype.is_float and b.surely(size):
        return b.add(graphc.median(x, axis=axis), False, v.bound)
    return 0


def search(b: Builder) -> int:
    """searchsorted in a sorted exact vector."""
    v = b.pick(lambda w: w.exact and w.tensor.ndim > 0 and not w.tensor.dtype.is_bool)
    if v is None:
        return 0
    t = v.tensor
    queries = b.pick(lambda w: w.exact and w.tensor.dtype is t.dtype) or v
    table = graphc.sort(graphc.reshape(t, (-1,)))
    side = b.choose(["left", "right"])
    return b.add(graphc.searchsorted(table, queries.tensor, side=side), True, 1e3)


def matmul(b: Builder) -> int:
    """A contraction."""
    v = b.pick(lambda w: w.tensor.ndim >= 1 and not w.tensor.dtype.is_bool)
    if v is None:
        return 0
    x = v.tensor
    whole = x.dtype.is_integer and v.exact
    inner = max(1, b.size(x.shape[-1]))
    o = b.pick(
        lambda w: (
            w.tensor.dtype is x.dtype and w.tensor.ndim == 2 and w.tensor.shape[0] == x.shape[-1]
        )
    )
    if o is not None and b.chance(0.6):
        return b.add(graphc.matmul(x, o.tensor), whole and o.exact, v.bound * o.bound * inner)
    if isinstance(x.shape[-1], int) and b.chance(0.4):
        w = b.weights((int(x.shape[-1]), b.choose([1, 3, 8, 16, 19])), x)
        return b.add(graphc.matmul(x, w), whole, v.bound * 9 * inner)
    if x.ndim != 2:
        return 0
    spec = b.choose(
        ["ij,kj->ik", "ij,ij->i", "ij,ij->j", "ij,ik->jk", "ij,ij->", "ij,kl->ik", "ij,ji->ij"]
    )
    if spec == "ij,ji->ij" and x.shape[0] != x.shape[1]:
        return 0
    count = max(1, b.count(x.shape))
    return b.add(graphc.einsum(spec, x, x), whole, v.bound**2 * count)


def batched_matmul(b: Builder) -> int:
    """A product of two stacks of matrices, with work before and after it."""
    v = b.pick(lambda w: w.tensor.ndim in (3, 4) and w.tensor.dtype.is_float)
    if v is None:
        return 0
    x = v.tensor
    inner = max(1, b.size(x.shape[-1]))
    y = graphc.matmul(graphc.tanh(x), graphc.matrix_transpose(graphc.sigmoid(x)))
    return b.add(y * 0.25 + 1.0, False, inner + 1.0)
