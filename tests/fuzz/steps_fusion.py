"""Steps of random graphs: structures that are hard to cut into regions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import graphc
from tests.fuzz.building import Builder, Value

Shared = tuple[Callable[[Any, Any], Any], ...]
MIXES: Shared = (
    lambda p, q: graphc.tanh(p + q),
    lambda p, q: p * 0.5 - graphc.sigmoid(q),
    lambda p, q: graphc.where(p > q, graphc.sin(p), q * 0.25),
    lambda p, q: graphc.maximum(p, -q) * 0.75,
)


def _calm(b: Builder, ndim: int = 1) -> Value | None:
    """A float value whose dims are never 0, brought into [-1, 1]."""
    v = b.pick_float(ndim)
    if v is None or not all(b.surely(s) for s in v.tensor.shape):
        return None
    return Value(graphc.tanh(v.tensor), False, 1.0)


def fibonacci(b: Builder) -> int:
    """Each value is made of the last two: every path through it is another one."""
    v = b.pick_float()
    if v is None:
        return 0
    first, second = graphc.tanh(v.tensor), graphc.sigmoid(v.tensor)
    mix = b.choose(MIXES[:2])
    for _ in range(b.integer(5, 25)):
        first, second = second, mix(first, second)
    return b.add(second, False, 2.0) + b.add(first, False, 2.0)


def diamonds(b: Builder) -> int:
    """A value splits and comes together, again and again; some of the middle is kept."""
    v = b.pick_float()
    if v is None:
        return 0
    x, made = graphc.tanh(v.tensor), 0
    for _ in range(b.integer(2, 6)):
        left, right = graphc.sin(x), b.choose([graphc.sigmoid, graphc.abs, graphc.square])(x)
        x = b.choose(MIXES[:2])(left, right)
        if b.chance(0.4):
            made += b.add(b.choose([left, right, x]), False, 2.0)
    return made + b.add(x, False, 2.0)


def reductions_of_reductions(b: Builder) -> int:
    """One operand, reduced over different axes, the results combined with it and each other."""
    v = _calm(b, 2)
    if v is None:
        return 0
    x = v.tensor
    functions = [graphc.sum, graphc.max, graphc.mean, graphc.logsumexp, graphc.var]
    kept = []
    for _ in range(b.integer(2, 4)):
        axis: Any = b.choose(
            [*range(x.ndim), None, tuple(range(x.ndim - 1)), tuple(range(1, x.ndim))]
        )
        kept.append(b.choose(functions)(x, axis=axis, keepdims=True))
    total = x
    for r in kept:
        total = total + b.choose([graphc.tanh, graphc.sin])(r) * x
    made = sum(b.add(r, False, 1.0 + b.count(x.shape)) for r in kept if b.chance(0.5))
    return (
        made
        + b.add(graphc.sum(total, axis=b.integer(0, x.ndim - 1)), False, 5.0 * b.count(x.shape))
        + b.add(total, False, 5.0)
    )


def leaves_and_returns(b: Builder) -> int:
    """A value is used at once and after a detour through something that must be stored."""
    v = _calm(b)
    if v is None:
        return 0
    x = graphc.sin(v.tensor)
    axis = b.integer(0, x.ndim - 1)
    detours: list[Callable[[], Any]] = [
        lambda: graphc.cumulative_sum(x, axis=axis) * 0.01,
        lambda: graphc.flip(x, axis=axis),
        lambda: graphc.roll(graphc.exp(x), 1, axis=axis),
        lambda: graphc.sum(x) * 0.001 + x,
        lambda: graphc.broadcast_to(graphc.sum(graphc.flip(x), axis=axis, keepdims=True), x.shape),
        lambda: graphc.matmul(x, graphc.matmul(graphc.matrix_transpose(x), x)) if x.ndim > 1 else x,
    ]
    y = b.choose(detours)()
    middle = graphc.tanh(y)
    made = b.add(middle, False, 1.0) if b.chance(0.5) else 0
    return made + b.add(x * middle + graphc.cos(x), False, 2.0)


def transposed_sum(b: Builder) -> int:
    """x and its transpose in one expression, with reductions of both."""
    v = _calm(b, 2)
    if v is None or v.tensor.ndim != 2:
        return 0
    x = v.tensor
    square = (
        graphc.matmul(x, x.T) if b.chance(0.5) else graphc.einsum("ij,kj->ik", graphc.sin(x), x)
    )
    y = (square + square.T) * 0.5 - graphc.mean(square, axis=0)
    z = y.T - graphc.max(y, axis=b.integer(0, 1), keepdims=True)
    count = float(b.count(x.shape))
    return b.add(y, False, count) + b.add(z, False, 2 * count)


def side_by_side(b: Builder) -> int:
    """Computed values joined, cut, and joined again."""
    v = _calm(b)
    if v is None:
        return 0
    x = v.tensor
    axis = b.integer(0, x.ndim - 1)
    parts = [graphc.sin(x), x * 0.5, graphc.flip(graphc.cos(x), axis=axis)]
    joined = graphc.concat(parts, axis=axis)
    halves = joined[(slice(None),) * axis + (slice(None, None, 2),)]
    again = graphc.concat([halves, joined, graphc.sum(x, axis=axis, keepdims=True)], axis=axis)
    made = b.add(joined, False, 1.0) if b.chance(0.5) else 0
    return made + b.add(again, False, float(b.count(x.shape)))


def many_users(b: Builder) -> int:
    """One value read by reductions, views and maps of several shapes."""
    v = _calm(b)
    if v is None:
        return 0
    x = graphc.sigmoid(v.tensor) - 0.3
    options: list[Callable[[], Any]] = [
        lambda: graphc.sum(x),
        lambda: x * 2.0,
        lambda: graphc.sum(x, axis=0),
        lambda: graphc.max(x, axis=-1),
        lambda: graphc.reshape(x, (-1,)) * 3.0,
        lambda: graphc.exp(x)[..., ::-1],
        lambda: x[None] + x,
        lambda: graphc.softmax(x, axis=-1),
        lambda: graphc.cumulative_sum(x, axis=0),
        lambda: graphc.mean(x * x, axis=-1),
        lambda: graphc.pad(x, 1) if x.ndim < 3 else x,
        lambda: graphc.sum(graphc.tanh(x), axis=0) * graphc.sum(x),
    ]
    return sum(
        b.add(b.choose(options)(), False, 2.0 * b.count(x.shape)) for _ in range(b.integer(2, 6))
    )
