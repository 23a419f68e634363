"""Random nodes (floor 3): an op on given operands with attributes drawn at random, for the
self-tests of rules.

Draws lean towards what rules look for: a slice that undoes a pad, neighbouring slices, dims of size
1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.dtypes import ALL, DType, bool_
from graphc.ir.node import Tensor
from graphc.ir.opdef import REGISTRY
from graphc.ops.families import Reduction
from graphc.ops.promotion import as_tensor

Rng = np.random.Generator
NewSource = Callable[..., Tensor]


def draw_node(
    op: str,
    operands: tuple[Tensor, ...],
    rng: Rng,
    known: dict[Any, dict[str, Any]],
    source: NewSource | None = None,
) -> Tensor:
    """The op on `operands` (missing ones from `source`) with random attributes.

    known: attributes drawn before, per op family and shape: taken again most of the time, as equal
    axes are what rules match.
    """
    definition = REGISTRY[op]
    if source is not None:
        operands = _completed(op, operands, rng, source)
    if not definition.attributes:
        return definition(*operands)
    x = operands[0]
    if isinstance(definition.form, Reduction) or op in ("logsumexp",):
        key = ("reduction", x.shape)
        if key not in known or rng.random() < 0.2:
            known[key] = _reduction(x, rng)
        return definition(x, **known[key])
    if op in ("softmax", "log_softmax"):
        return definition(x, axis=int(rng.integers(x.ndim)))
    return DRAWN[op](x, operands, rng)


def _completed(
    op: str, operands: tuple[Tensor, ...], rng: Rng, source: NewSource
) -> tuple[Tensor, ...]:
    x = operands[0]
    if op == "where":
        return (source(bool_, x.shape), x, source(x.dtype, x.shape))
    if op in ("add", "multiply", "maximum", "minimum", "bitwise_and", "bitwise_or"):
        other = source(x.dtype, _broadcastable(x, rng)) if rng.random() < 0.7 else _scalar(x, rng)
        if rng.random() < 0.5 and x.ndim >= 2:
            # An outer product: each operand repeats what the other has.
            narrow = REGISTRY["reshape"](x, shape=(*x.shape, 1))
            return (narrow, source(x.dtype, (*x.shape[1:], 5)))
        return (other, x) if rng.random() < 0.5 else (x, other)
    if op == "einsum":
        if rng.random() < 0.2 and x.ndim == 2:
            ones = REGISTRY["broadcast_to"](as_tensor(1, like=x), shape=(x.shape[1],))
            return (x, ones)
        return (x, source(x.dtype, (x.shape[-1], 4) if x.ndim else ()))
    return operands


def _scalar(x: Tensor, rng: Rng) -> Tensor:
    return as_tensor(int(rng.integers(1, 4)) if not x.dtype.is_bool else True, like=x)


def _broadcastable(x: Tensor, rng: Rng) -> tuple[Any, ...]:
    return tuple(1 if rng.random() < 0.3 else s for s in x.shape)


def _reduction(x: Tensor, rng: Rng) -> dict[str, Any]:
    count = int(rng.integers(1, x.ndim + 1)) if x.ndim else 0
    axes = tuple(sorted(int(a) for a in rng.choice(x.ndim, count, replace=False))) if count else ()
    return {"axes": axes, "keepdims": bool(rng.random() < 0.6)}


def _permute(x: Tensor, operands: tuple[Tensor, ...], rng: Rng) -> Tensor:
    return REGISTRY["permute_dims"](x, axes=tuple(int(a) for a in rng.permutation(x.ndim)))


def _reshape(x: Tensor, operands: tuple[Tensor, ...], rng: Rng) -> Tensor:
    shapes = [x.shape, (1, *x.shape), (1, 1, *x.shape), (*x.shape, 1), (x.size,)]
    if x.ndim >= 2:
        shapes.append((x.shape[0] * x.shape[1], *x.shape[2:]))
    return REGISTRY["reshape"](x, shape=shapes[rng.integers(len(shapes))])


def _broadcast(x: Tensor, operands: tuple[Tensor, ...], rng: Rng) -> Tensor:
    lead = (3,) if rng.random() < 0.5 else ()
    shape = tuple(4 if s == 1 and rng.random() < 0.7 else s for s in x.shape)
    return REGISTRY["broadcast_to"](x, shape=(*lead, *shape))


def _slice(x: Tensor, operands: tuple[Tensor, ...], rng: Rng) -> Tensor:
    inner = x.inputs[0] if x.inputs else x
    if x.op.name == "pad" and rng.random() < 0.5:
        return REGISTRY["slice"](x, starts=x.attr("low"), steps=(1,) * x.ndim, shape=inner.shape)
    starts, steps, shape = [], [], []
    for size in x.shape:
        assert isinstance(size, int)
        whole = rng.random() < 0.4 or size < 2
        step = 1 if whole else int(rng.choice([1, 1, 2, -1]))
        count = size if whole else int(rng.integers(1, (size + abs(step) - 1) // abs(step) + 1))
        slack = size - ((count - 1) * abs(step) + 1)
        low = 0 if whole or slack <= 0 else int(rng.integers(0, slack + 1))
        starts.append(low if step > 0 else low + (count - 1) * -step)
        steps.append(step)
        shape.append(count)
    return REGISTRY["slice"](x, starts=tuple(starts), steps=tuple(steps), shape=tuple(shape))


def _concat(x: Tensor, operands: tuple[Tensor, ...], rng: Rng) -> Tensor:
    axis = int(rng.integers(x.ndim))
    size = x.shape[axis]
    concat, cut = REGISTRY["concat"], REGISTRY["slice"]
    assert isinstance(size, int)
    if rng.random() < 0.4 and size >= 2:
        middle = int(rng.integers(1, size))
        parts = []
        for start, stop in ((0, middle), (middle, size)):
            starts, shape = [0] * x.ndim, list(x.shape)
            starts[axis], shape[axis] = start, stop - start
            parts.append(cut(x, starts=tuple(starts), steps=(1,) * x.ndim, shape=tuple(shape)))
        return concat(*parts, axis=axis)
    if rng.random() < 0.2:
        return concat(x, axis=axis)
    return concat(x, concat(x, x, axis=axis) if rng.random() < 0.3 else x, axis=axis)


def _pad(x: Tensor, operands: tuple[Tensor, ...], rng: Rng) -> Tensor:
    low = tuple(int(rng.integers(0, 2)) for _ in x.shape)
    high = tuple(int(rng.integers(0, 3)) for _ in x.shape)
    if rng.random() < 0.3:
        low = high = (0,) * x.ndim
    interior = (
        tuple(int(rng.integers(0, 2)) for _ in x.shape) if rng.random() < 0.2 else (0,) * x.ndim
    )
    value = 0.0 if x.dtype.is_float else False if x.dtype.is_bool else 0
    return REGISTRY["pad"](x, low=low, high=high, interior=interior, value=value)


def _flip(x: Tensor, operands: tuple[Tensor, ...], rng: Rng) -> Tensor:
    return REGISTRY["flip"](x, axes=(int(rng.integers(x.ndim)),))


def _cast(x: Tensor, operands: tuple[Tensor, ...], rng: Rng) -> Tensor:
    target: DType = ALL[rng.integers(len(ALL))]
    return REGISTRY["cast"](x, dtype=x.dtype if rng.random() < 0.2 else target)


def _full(x: Tensor, operands: tuple[Tensor, ...], rng: Rng) -> Tensor:
    value = 0.1 if x.dtype.is_float else True if x.dtype.is_bool else 3
    return REGISTRY["full"](value=value, shape=x.shape, dtype=x.dtype)


def _einsum(x: Tensor, operands: tuple[Tensor, ...], rng: Rng) -> Tensor:
    other = operands[1]
    letters = "abcdefg"[: x.ndim]
    second = letters[-1:] + "z"[: other.ndim - 1]
    permute = REGISTRY["permute_dims"]
    result = letters[:-1] + second[1:]
    if rng.random() < 0.4 and other.ndim == 2:
        other, second = permute(other, axes=(1, 0)), second[::-1]
    return REGISTRY["einsum"](x, other, spec=f"{letters},{second}->{result}")


DRAWN: dict[str, Callable[[Tensor, tuple[Tensor, ...], Rng], Tensor]] = {
    "permute_dims": _permute,
    "reshape": _reshape,
    "broadcast_to": _broadcast,
    "slice": _slice,
    "concat": _concat,
    "pad": _pad,
    "flip": _flip,
    "cast": _cast,
    "full": _full,
    "einsum": _einsum,
}
