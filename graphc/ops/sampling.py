"""Sample arrays (floor 2): what the `samples` of op definitions draw their test inputs with.

Deterministic by seed, in reference form (`dtype.numpy`; bfloat16 as float32 holding exact bfloat16
values).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.base.dtypes import Array, DType, bfloat16, round_bfloat16
from graphc.ir.opdef import Sample


def draw(
    shape: Sequence[int], dtype: DType, seed: int = 0, low: float = -3.0, high: float = 3.0
) -> Array:
    """An array of `dtype` with values in [low, high): whole numbers for integers (none negative for
    unsigned), coin flips for bool.
    """
    rng = np.random.default_rng((seed, *shape))
    if dtype.is_bool:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.is_integer:
        first = 0 if dtype.kind == "u" else int(low)
        return rng.integers(first, max(first + 1, int(high) + 1), shape).astype(dtype.numpy)
    values = np.asarray(rng.uniform(low, high, shape))
    return (
        round_bfloat16(values.astype(np.float32))
        if dtype is bfloat16
        else values.astype(dtype.numpy)
    )


def distinct(shape: Sequence[int], dtype: DType, seed: int = 0) -> Array:
    """Values in random order that differ from each other where the dtype has enough of them."""
    count = int(np.prod(shape, dtype=np.int64))
    values = np.random.default_rng(seed).permutation(count) % (2 if dtype.is_bool else 100)
    if dtype.kind in "if":
        values = values - min(count, 100) // 2
    return values.reshape(tuple(shape)).astype(dtype.numpy)


def with_nan(array: Array, *positions: int) -> Array:
    """A copy with NaN at flat positions; floats only."""
    result = array.copy()
    result.reshape(-1)[list(positions)] = np.nan
    return result


def strided(array: Array) -> Array:
    """The same values, not contiguous: every second element of a reversed buffer."""
    spread = np.zeros(tuple(2 * n for n in array.shape), array.dtype)
    view = spread[tuple(slice(None, None, -2) for _ in array.shape)]
    view[...] = array
    return view


def over_axes(dtype: DType, special: Array) -> list[Sample]:
    """Samples of an op with attributes `axes` and `keepdims`: usual shapes, the rows of the matrix
    `special`, and an operand that is not contiguous.
    """
    cases: list[tuple[tuple[int, ...], tuple[int, ...], bool]] = [
        ((), (), False),
        ((1,), (0,), False),
        ((0, 3), (1,), False),
        ((3, 5), (1,), True),
        ((3, 5), (0, 1), False),
        ((2, 3, 4), (0, 2), False),
        ((4, 131), (1,), False),
    ]
    found = [
        Sample((draw(shape, dtype),), {"axes": axes, "keepdims": keep})
        for shape, axes, keep in cases
    ]
    found.append(Sample((special,), {"axes": (1,), "keepdims": False}))
    return [*found, Sample((strided(draw((4, 6), dtype)),), {"axes": (0,), "keepdims": True})]
