"""Sample operands of reductions (floor 2): shapes and axes, strides, none, NaN and infinities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc.base.dtypes import DType
from graphc.ir.opdef import Sample
from graphc.ops.sampling import distinct, draw, strided, with_nan

_CASES: tuple[tuple[tuple[int, ...], tuple[int, ...], bool], ...] = (
    ((), (), False),
    ((1,), (0,), False),
    ((7,), (0,), True),
    ((3, 5), (0,), False),
    ((3, 5), (1,), True),
    ((3, 5), (0, 1), False),
    ((3, 5), (), False),
    ((2, 3, 4), (0, 2), False),
    ((2, 3, 4), (1,), True),
    ((4, 131), (1,), False),
    ((131, 4), (0,), False),
    ((1030,), (0,), False),
)
_EMPTY: tuple[tuple[tuple[int, ...], tuple[int, ...], bool], ...] = (
    ((0,), (0,), False),
    ((2, 0), (1,), False),
    ((2, 0), (0,), True),
)


def reduction_samples(
    empty: bool = True, near_one: bool = False, nan: bool = True
) -> Callable[[DType], list[Sample]]:
    """Samples for each dtype. empty: of no elements as well; near_one: products stay finite; nan:
    with what is not finite.
    """

    def samples(dtype: DType) -> list[Sample]:
        found = []
        for shape, axes, keepdims in _CASES + (_EMPTY if empty else ()):
            attrs = {"axes": axes, "keepdims": keepdims}
            low, high = (0.7, 1.4) if near_one and dtype.is_float else (-3.0, 3.0)
            found.append(Sample((draw(shape, dtype, low=low, high=high),), attrs))
        attrs = {"axes": (1,), "keepdims": False}
        found.append(Sample((strided(distinct((5, 6), dtype)),), attrs))
        if dtype.is_float and nan:
            found.append(Sample((with_nan(draw((3, 7), dtype), 0, 8, 11),), attrs))
            infinite = draw((3, 7), dtype)
            infinite[0, 2], infinite[1, 3] = np.inf, -np.inf
            found.append(Sample((infinite,), attrs))
        return found

    return samples
