"""Statistics (floor 2): variance and deviation; median and quantile, by sorting, with linear
interpolation.

Compositions of reductions, sort, slices and arithmetic: a line with a NaN gives NaN, as in NumPy.
"""

from __future__ import annotations

import math

from graphc.base.dims import Dim
from graphc.ir.node import Tensor
from graphc.ir.opdef import REGISTRY, shape_error
from graphc.ops import elementwise, elementwise_math, logical, reduction
from graphc.ops.axes import Axes, normalize_axes
from graphc.ops.joining import stack, take_slice
from graphc.ops.norm import NORM
from graphc.ops.promotion import TensorLike, as_tensor, cast
from graphc.ops.reduction import MEAN, count_of, reduced_shape
from graphc.ops.reshape import to_shape
from graphc.ops.sorting import sort
from graphc.ops.view import permuted


def centered(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """x - mean(x) over axes, also where the mean is so large that its rounding is seen in it."""
    distances = elementwise.subtract(x, MEAN(x, axes=axes, keepdims=True))
    # What is left of the mean is rounding, and has no derivative.
    rest = REGISTRY["stop_gradient"](MEAN(distances, axes=axes, keepdims=True))
    return elementwise.subtract(distances, rest)


def var(
    x: TensorLike, /, *, axis: Axes = None, correction: int | float = 0.0, keepdims: bool = False
) -> Tensor:
    """The variance over `axis`: sum((x - mean(x))**2) / (count - correction).

    The distances are centered twice, so that not even the rounding of a large mean shows.
    """
    x = reduction.as_float("var", x)
    axes = tuple(sorted(normalize_axes("var", x, axis)))
    squares = elementwise_math.square(centered(x, axes))
    if correction == 0:
        return MEAN(squares, axes=axes, keepdims=bool(keepdims))
    count = as_tensor(count_of(x.shape, axes), like=x.dtype.compute)
    share = elementwise.divide(count, _freedom(x, axes, correction))
    mean = MEAN(squares, axes=axes, keepdims=bool(keepdims))
    return elementwise.multiply(mean, cast(share, x.dtype))


def _freedom(x: Tensor, axes: tuple[int, ...], correction: float) -> Tensor:
    """count - correction, at least 0, in a dtype that holds it."""
    count = as_tensor(count_of(x.shape, axes), like=x.dtype.compute)
    return elementwise.maximum(elementwise.subtract(count, float(correction)), 0.0)


def std(
    x: TensorLike, /, *, axis: Axes = None, correction: int | float = 0.0, keepdims: bool = False
) -> Tensor:
    """The standard deviation over `axis`: sqrt(var(x)).

    Its gradient is 0 where all elements are equal; squares neither overflow nor vanish.
    """
    x = reduction.as_float("std", x)
    axes = tuple(sorted(normalize_axes("std", x, axis)))
    root = elementwise_math.sqrt(_freedom(x, axes, correction))
    length = NORM(centered(x, axes), axes=axes, keepdims=bool(keepdims))
    return elementwise.divide(length, cast(root, x.dtype))


def _line(op: str, x: Tensor, axis: Axes) -> tuple[Tensor, tuple[int, ...]]:
    """x with the axes as one last, sorted line; and those axes."""
    axes = tuple(sorted(normalize_axes(op, x, axis)))
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    count = count_of(x.shape, axes)
    if isinstance(count, int) and count == 0:
        shape_error(f"{op}: {x.type} has no elements along axis {axes}", [x])
    moved = permuted(x, (*rest, *axes))
    return sort(to_shape(moved, (*(x.shape[i] for i in rest), count))), axes


def _with_nan(value: Tensor, line: Tensor) -> Tensor:
    # A NaN sorts last: the line has one if its last element is one.
    last = take_slice(line, line.ndim - 1, line.shape[-1] - 1, 1)
    return elementwise.where(logical.isnan(last), last, value)


def median(x: TensorLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The middle element of x in order over `axis`, the mean of the two middle ones of an even
    number.

    bool and integers give float64. NaN where an element is. Raises ShapeError where there are no
    elements.
    """
    x = reduction.as_float("median", x)
    line, axes = _line("median", x, axis)
    count = line.shape[-1]
    last = line.ndim - 1
    low = take_slice(line, last, (count - 1) // 2, 1)
    high = take_slice(line, last, count // 2, 1)
    same = logical.equal(low, high)  # an infinity would not survive the mean of itself
    middle = elementwise.where(same, low, elementwise.add(low * 0.5, high * 0.5))
    return to_shape(_with_nan(middle, line), reduced_shape(x.shape, axes, keepdims))


def quantile(
    x: TensorLike,
    q: float | list[float] | tuple[float, ...],
    /,
    *,
    axis: Axes = None,
    keepdims: bool = False,
) -> Tensor:
    """The `q`-quantile (0 <= q <= 1) over `axis`, with linear interpolation; several q give a
    leading axis.

    bool and integers give float64. NaN where an element is. Raises ShapeError for q out of range,
    for no elements, and where the number of elements is symbolic (only the median of those is
    known).
    """
    x = reduction.as_float("quantile", x)
    if isinstance(q, list | tuple):
        return stack([quantile(x, p, axis=axis, keepdims=keepdims) for p in q], axis=0)
    if isinstance(q, Tensor) or not 0 <= q <= 1:
        shape_error(f"quantile: q must be a number from 0 to 1, got {q!r:.40}", [x])
    line, axes = _line("quantile", x, axis)
    count = line.shape[-1]
    if isinstance(count, Dim):
        if q == 0.5:
            return median(x, axis=axis, keepdims=keepdims)
        shape_error(
            f"quantile: the number of elements, {count}, is not known before the function is "
            f"called",
            [x],
            "use graphc.median, or a dim declared as an int",
        )
    place = q * (count - 1)
    below = min(math.floor(place), count - 1)
    share = place - below
    last = line.ndim - 1
    low = take_slice(line, last, below, 1)
    if share:
        high = take_slice(line, last, below + 1, 1)
        step = elementwise.multiply(elementwise.subtract(high, low), share)
        low = elementwise.where(logical.equal(low, high), low, elementwise.add(low, step))
    return to_shape(_with_nan(low, line), reduced_shape(x.shape, axes, keepdims))
