"""Steps of random graphs: views, joins, gathers, scatters, windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphc
from tests.fuzz.building import Builder, Value


def view(b: Builder) -> int:
    """Another arrangement of the same elements."""
    v = b.pick(lambda w: w.tensor.ndim > 0)
    if v is None:
        return 0
    x = v.tensor
    axis = b.integer(0, x.ndim - 1)
    order = tuple(int(a) for a in b.rng.permutation(x.ndim))
    low, high = b.integer(0, 2), b.integer(0, 2)
    step = b.choose([1, 2, -1])
    options: list[Callable[[], Any]] = [
        lambda: graphc.permute_dims(x, order),
        lambda: graphc.permute_dims(x, order),
        lambda: graphc.flip(x, axis=axis),
        lambda: graphc.roll(x, b.integer(-2, 2), axis=axis),
        lambda: graphc.expand_dims(x, axis=axis),
        lambda: graphc.reshape(x, (-1,)),
        lambda: graphc.pad(x, [(low, high) if a == axis else (0, 0) for a in range(x.ndim)]),
        lambda: x[(slice(None),) * axis + (slice(None, None, step),)],
        lambda: graphc.broadcast_to(x, (b.integer(1, 3), *x.shape)),
        lambda: (
            graphc.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))
            if x.ndim > 1
            else graphc.flip(x)
        ),
        lambda: graphc.tile(x, tuple(2 if a == axis else 1 for a in range(x.ndim))),
        lambda: graphc.repeat(x, 2, axis=axis),
        lambda: _split_axis(x, axis),
        lambda: x[(slice(None),) * axis + (slice(0, 1),)] if b.surely(x.shape[axis]) else x[None],
        lambda: graphc.tril(x) if x.ndim > 1 else graphc.flip(x),
        lambda: graphc.diagonal(x) if x.ndim > 1 else graphc.flip(x),
    ]
    return b.add(b.choose(options)(), v.exact, v.bound)


def _split_axis(x: Any, axis: int) -> Any:
    size = x.shape[axis]
    factor = next((f for f in (2, 3, 7) if isinstance(size, int) and size > f and size % f == 0), 0)
    if not factor:
        return graphc.flip(x, axis=axis)
    return graphc.reshape(x, (*x.shape[:axis], factor, size // factor, *x.shape[axis + 1 :]))


def long_views(b: Builder) -> int:
    """A chain of more views than one region reads through."""
    before = len(b.pool)
    for _ in range(b.integer(6, 14)):
        view(b)
    return len(b.pool) - before


def join(b: Builder) -> int:
    """Tensors side by side."""
    v = b.pick(lambda w: w.tensor.ndim > 0)
    if v is None:
        return 0
    x = v.tensor
    axis = b.integer(0, x.ndim - 1)
    o = b.pick(lambda w: w.tensor.dtype is x.dtype and w.tensor.shape == x.shape) or v
    parts = [x, o.tensor, x] if b.chance(0.3) else [x, o.tensor]
    joined = graphc.concat(parts, axis=axis) if b.chance(0.6) else graphc.stack(parts, axis=axis)
    return b.add(joined, v.exact and o.exact, max(v.bound, o.bound))


def _fixed_axis(b: Builder) -> tuple[Value, int, int] | None:
    """A value, an axis of it with a known size that is not 0, and that size."""

    def axes(w: Value) -> list[int]:
        return [a for a, s in enumerate(w.tensor.shape) if isinstance(s, int) and s > 0]

    v = b.pick(axes)
    if v is None:
        return None
    axis = b.choose(axes(v))
    return v, axis, int(v.tensor.shape[axis])


def gather(b: Builder) -> int:
    """Elements at integer places: constants, or an input of indices."""
    found = _fixed_axis(b)
    if found is None:
        return 0
    v, axis, size = found
    index: Any = graphc.constant(b.rng.integers(-size, size, b.integer(1, 5)))
    if b.chance(0.4):
        index = b.pick(lambda w: w.exact and w.tensor.dtype.is_integer and w.tensor.ndim <= 2)
        if index is None:
            return 0
        index = graphc.astype(index.tensor, graphc.int64) % size
    return b.add(graphc.take(v.tensor, index, axis=axis), v.exact, v.bound)


def gather_along(b: Builder) -> int:
    """take_along_axis by the order of exact values."""
    v = b.pick(lambda w: w.exact and w.tensor.ndim > 0)
    if v is None:
        return 0
    o = b.pick(lambda w: w.tensor.shape == v.tensor.shape) or v
    axis = b.integer(0, v.tensor.ndim - 1)
    order = graphc.argsort(v.tensor, axis=axis, descending=b.chance(0.3))
    return b.add(graphc.take_along_axis(o.tensor, order, axis=axis), o.exact, o.bound)


def scatter(b: Builder) -> int:
    """x.at[indices] combined with values."""
    found = _fixed_axis(b)
    if found is None or found[0].tensor.dtype.is_bool:
        return 0
    v, axis, size = found
    x = v.tensor
    places = graphc.constant(b.rng.integers(-size, size, b.integer(1, 6)))
    at = x.at[(slice(None),) * axis + (places,)]
    taken = graphc.take(x, places, axis=axis)
    value = graphc.flip(taken, axis=axis) if b.chance(0.5) else taken + taken
    how = b.choose(["set", "add", "max", "min", "multiply"])
    exact = v.exact and (x.dtype.is_integer or how in ("set", "max", "min"))
    bound = v.bound ** (1 + b.size(places.shape[0])) if how == "multiply" else v.bound * 14
    return b.add(getattr(at, how)(value), exact, bound)


def scatter_range(b: Builder) -> int:
    """x.at[slice] combined with values."""
    found = _fixed_axis(b)
    if found is None or found[0].tensor.dtype.is_bool or found[2] < 2:
        return 0
    v, axis, size = found
    start = b.integer(0, size - 2)
    key = (slice(None),) * axis + (slice(start, None, b.integer(1, 2)),)
    how = b.choose(["set", "add"])
    value = getattr(v.tensor.at[key], how)(v.tensor[key] + 1)
    return b.add(value, v.exact and v.tensor.dtype.is_integer, v.bound * 2 + 1)


def windows(b: Builder) -> int:
    """Sliding windows, sometimes folded back."""
    found = _fixed_axis(b)
    if found is None or found[2] < 3 or found[0].tensor.ndim > 3:
        return 0
    v, axis, size = found
    x = v.tensor
    width, stride = b.integer(1, 3), b.integer(1, 3)
    dilation = b.integer(1, 2) if (width - 1) * 2 < size else 1
    w = graphc.windows(x, width, stride, dilation, axes=axis)
    if x.dtype.is_bool or b.chance(0.5):
        return b.add(w, v.exact, v.bound)
    scaled = w * 2 if x.dtype.is_integer else w * 0.5
    back = graphc.fold(scaled, size, stride, dilation, axes=axis)
    return b.add(back, v.exact and x.dtype.is_integer, v.bound * 6)


def index_mix(b: Builder) -> int:
    """Integers, slices and new axes in one key."""
    found = _fixed_axis(b)
    if found is None:
        return 0
    v, axis, size = found
    place = b.integer(-size, size - 1)
    rest = (None, Ellipsis) if b.chance(0.3) else (Ellipsis,)
    key = (slice(None),) * axis + (place, *rest)
    if b.chance(0.3):
        key = (slice(None),) * axis + (np.array([[place, 0]]), *rest)
    return b.add(v.tensor[key], v.exact, v.bound)
