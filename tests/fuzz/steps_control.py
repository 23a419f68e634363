"""Steps of random graphs: branches, loops and calls, with random steps inside."""

from __future__ import annotations

import copy
from typing import Any

import graphc
from tests.fuzz import steps_elementwise as elementwise
from tests.fuzz import steps_reduce as reduce
from tests.fuzz import steps_shape as shape
from tests.fuzz.building import Builder, Value

INSIDE = (
    elementwise.unary,
    elementwise.binary,
    elementwise.binary,
    elementwise.where,
    reduce.matmul,
    reduce.reduce,
    reduce.row,
    shape.view,
)


def _inside(b: Builder, values: list[Value], like: Any, depth: int) -> Any:
    """A tensor of the type of `like` out of random steps on some values, within [-1, 1]."""
    sub = copy.copy(b)
    sub.pool = list(values)
    steps = [*INSIDE, scan, branch] if depth else [*INSIDE]
    for _ in range(b.integer(0, 4)):
        try:
            b.choose(steps)(sub)
        except (graphc.ShapeError, graphc.UnsupportedError):
            continue  # sizes that do not fit, told as they should be
    same = [v.tensor for v in sub.pool if v.tensor.type == like.type]
    total = graphc.tanh(same[-1]) if same else graphc.zeros_like(like)
    others = [v for v in sub.pool if v.tensor.dtype is like.dtype and v.tensor is not total]
    if others and b.chance(0.7):
        total = total + graphc.tanh(graphc.mean(graphc.tanh(b.choose(others).tensor) * 0.5))
    return graphc.tanh(total * 0.75)


def _calm(v: Value) -> Value:
    """A float value brought into [-1, 1]: loops do not make it large."""
    return Value(graphc.tanh(v.tensor), False, 1.0)


def scan(b: Builder) -> int:
    """A scan over the first axis of a value, in one of its forms."""
    v = b.pick(lambda w: w.tensor.dtype.is_float and w.tensor.ndim > 0 and b.count(w.tensor.shape))
    if v is None or b.size(v.tensor.shape[0]) > 20:
        return 0
    rows = _calm(v).tensor
    init = graphc.mean(rows, axis=0) if b.surely(rows.shape[0]) else graphc.sum(rows, axis=0)
    init = graphc.tanh(init)
    outer = b.pick_float()
    options: dict[str, Any] = {"reverse": b.chance(0.4)}
    if b.chance(0.3):
        options["checkpoint"] = b.integer(1, 3)
    if b.chance(0.15):
        options["truncate"] = b.integer(1, 3)

    def turn(carry: Any, row: Any) -> Any:
        c, count = carry
        values = [Value(c, False, 1.0), Value(row, False, 1.0)]
        if outer is not None and outer.tensor.dtype is c.dtype:
            values.append(_calm(outer))
        new = _inside(b, values, c, depth=0)
        output = b.choose([c, row, new, graphc.sum(c * row)])
        return (graphc.tanh(new + 0.5 * row), count + 1), output

    (last, count), stacked = graphc.scan(turn, (init, 0), rows, **options)
    return b.add(last, False, 1.0) + b.add(stacked, False, 50.0) + b.add(count, True, 100.0)


def branch(b: Builder) -> int:
    """One of two branches, by an exact value."""
    v = b.pick_float()
    decides = b.pick(lambda w: w.exact and w.tensor.dtype.is_float)
    if v is None:
        return 0
    flag = graphc.any(decides.tensor > 0.5) if decides is not None else b.chance(0.5)
    x = _calm(v)
    found = graphc.cond(
        flag,
        lambda: _inside(b, [x], x.tensor, depth=0),
        lambda: _inside(b, [x], x.tensor, depth=0),
    )
    return b.add(found, False, 1.0)


def loop(b: Builder) -> int:
    """A loop of a few turns, as many as an exact value says."""
    v = b.pick_float()
    decides = b.pick(lambda w: w.exact and w.tensor.dtype.is_float)
    if v is None:
        return 0
    turns: Any = b.integer(0, 4)
    if decides is not None:
        turns = graphc.count_nonzero(decides.tensor > 0) % 5
    x = _calm(v)

    def body(carry: Any) -> Any:
        c, k = carry
        return _inside(b, [Value(c, False, 1.0), x], c, depth=1), k + 1

    last, _ = graphc.while_loop(lambda c: c[1] < turns, body, (x.tensor, 0))
    return b.add(last, False, 1.0)


def calls(b: Builder) -> int:
    """The same function a few times."""
    v = b.pick_float()
    if v is None:
        return 0
    x = _calm(v)

    @graphc.function(checkpoint=b.chance(0.3))
    def layer(t: Any) -> Any:
        return _inside(b, [Value(t, False, 1.0)], t, depth=1)

    y = x.tensor
    for _ in range(b.integer(1, 4)):
        y = layer(y)
    return b.add(y, False, 1.0)
