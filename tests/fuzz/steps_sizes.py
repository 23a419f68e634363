"""Steps of random graphs: values whose sizes the graph computes.

For limits on how large a graph becomes, a computed size counts as the largest that it can be.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc
from graphc.ir.bindings import computed_symbols
from tests.fuzz.building import Builder, Value


def _known(b: Builder, tensor: graphc.Tensor, most: int) -> graphc.Tensor:
    for symbol in computed_symbols(tensor.shape):
        b.sizes.setdefault(symbol.name, most)
    return tensor


def _add(b: Builder, tensor: graphc.Tensor, most: int, exact: bool, bound: float) -> int:
    return b.add(_known(b, tensor, most), exact, bound)


def _number(b: Builder, low: int, high: int) -> graphc.Tensor:
    """An integer from low to high that the graph computes of exact values."""
    v = b.pick(lambda w: w.exact and w.tensor.dtype.is_float)
    if v is None:
        return graphc.constant(np.int64(b.integer(low, high)))
    return graphc.count_nonzero(v.tensor > 0) % (high - low + 1) + low


def select(b: Builder) -> int:
    """What a mask of exact values selects: of the whole, or of the first dim."""
    v = b.pick(lambda w: w.tensor.ndim > 0)
    if v is None:
        return 0
    x = v.tensor
    decides = v
    if not v.exact or v.tensor.dtype.is_bool or b.chance(0.3):
        other = b.pick(lambda w: w.exact and w.tensor.shape == x.shape)
        if other is None:
            return 0
        decides = other
    mask = decides.tensor if decides.tensor.dtype.is_bool else decides.tensor > b.integer(-1, 1)
    if b.chance(0.5) or x.ndim == 1:
        return _add(b, x[mask], b.count(x.shape), v.exact, v.bound)
    rows = graphc.any(mask, axis=tuple(range(1, x.ndim)))
    return _add(b, x[rows], b.size(x.shape[0]), v.exact, v.bound)


def positions(b: Builder) -> int:
    """Indices of what is not zero, and distinct elements."""
    v = b.pick(lambda w: w.exact and 0 < w.tensor.ndim and not w.tensor.dtype.is_bool)
    if v is None:
        return 0
    most = b.count(v.tensor.shape)
    if b.chance(0.4):
        found = b.choose(graphc.nonzero(v.tensor > 0))
        return _add(b, found, most, True, 1e3)
    part = b.choose(["values", "counts", "indices", "inverse_indices"])
    rounded = graphc.round(v.tensor) if v.tensor.dtype.is_float else v.tensor
    groups = graphc.unique_all(rounded)
    _known(b, groups.values, most)
    return _add(b, getattr(groups, part), most, True, v.bound + 1e3)


def cut(b: Builder) -> int:
    """A slice with computed bounds."""
    v = b.pick(lambda w: w.tensor.ndim > 0)
    if v is None:
        return 0
    start, stop = _number(b, -3, 3), _number(b, -2, 6)
    step = b.choose([1, 1, 2, -1])
    key: Any = b.choose([slice(start, stop, step), slice(None, stop, step), slice(start, None)])
    return _add(b, v.tensor[key], b.size(v.tensor.shape[0]), v.exact, v.bound)


def repetition(b: Builder) -> int:
    """Rows as often as exact values say, or a computed number of new rows."""
    v = b.pick(lambda w: w.tensor.ndim > 0)
    if v is None or b.count(v.tensor.shape) > 500:
        return 0
    x, size = v.tensor, b.size(v.tensor.shape[0])
    if b.chance(0.5):
        count = _number(b, 0, 3)
        return _add(b, graphc.repeat(x, count, axis=0), 3 * size, v.exact, v.bound)
    counts = graphc.arange(x.shape[0]) % 3
    return _add(b, graphc.repeat(x, counts, axis=0), 2 * size, v.exact, v.bound)


def shape_of_count(b: Builder) -> int:
    """Values of a computed shape: ranges, tables, reshapes."""
    n = graphc.as_dim(_number(b, 0, 5))
    v = b.pick_float(1)
    if v is None:
        return 0
    x = v.tensor
    options: list[tuple[Any, bool, float]] = [
        (lambda: graphc.astype(graphc.arange(n), x.dtype), True, 6.0),
        (lambda: graphc.broadcast_to(graphc.mean(graphc.tanh(x)), (2, n)), False, 2.0),
        (lambda: graphc.reshape(graphc.repeat(x, n, axis=0), (n, -1)), v.exact, v.bound),
    ]
    make, exact, bound = b.choose(options)
    return _add(b, make(), 6 * b.count(x.shape) + 6, exact, bound)


def together(b: Builder) -> int:
    """Two values of the same computed size."""
    v = b.pick(lambda w: w.tensor.dtype.is_float and computed_symbols(w.tensor.shape))
    if v is None:
        return 0
    x = v.tensor
    w: Value | None = b.pick(lambda w: w.tensor.type == x.type)
    other = x if w is None else w.tensor
    joined = b.choose([graphc.add, graphc.maximum, lambda p, q: p - 0.5 * q])(x, other)
    return _add(b, joined, b.count(x.shape), False, v.bound * 2 + 4)
