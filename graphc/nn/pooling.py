"""Pools (floor 8): max and average over windows, adaptive and global ones, of any spatial rank.

A pool is padding, `windows` and a reduction; where windows lie side by side the view is a reshape.
With `ceil_mode` the last window may reach beyond the padding, by elements that count for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Size
from graphc.base.errors import UnsupportedError
from graphc.ir.node import Tensor
from graphc.ir.opdef import fail, shape_error
from graphc.nn.convolution import channels_first, in_layout, positive, spatial_padding
from graphc.ops import elementwise, elementwise_math, rounding
from graphc.ops.axes import per_axis
from graphc.ops.contraction import EINSUM, LETTERS, tidy
from graphc.ops.creation import filled
from graphc.ops.joining import concat, padded, take_slice
from graphc.ops.promotion import TensorLike, as_tensor
from graphc.ops.reduction import MAX, MEAN, SUM, as_float, lowest
from graphc.ops.view import permuted
from graphc.ops.windows import lie_side_by_side, split_windows, window_count, window_view

Ints = tuple[int, ...]
Sizes = tuple[Size, ...]
Settings = tuple[Ints, Ints, Ints, Ints, Ints]  # size, stride, dilation, padding low and high


def _pool_operand(op: str, x: Tensor, layout: str) -> Tensor:
    if x.ndim < 3:
        hint = "x is [batch, channels, *spatial]; use x[None] where there is no batch"
        shape_error(f"{op}: needs at least 3 dims, got {x.ndim}", [x], hint)
    return channels_first(op, x, layout)


def _settings(op: str, x: Tensor, size: Any, stride: Any, padding: Any, dilation: Any) -> Settings:
    rank = x.ndim - 2
    window = positive(op, "size", size, rank, x)
    steps = window if stride is None else positive(op, "stride", stride, rank, x)
    gaps = positive(op, "dilation", dilation, rank, x)
    reach = [(k - 1) * d + 1 for k, d in zip(window, gaps, strict=True)]
    pairs = spatial_padding(op, padding, x, reach, steps)
    ends: list[list[int]] = [[], []]
    for axis, (pair, r) in enumerate(zip(pairs, reach, strict=True)):
        for side, width in zip(ends, pair, strict=True):
            if not isinstance(width, int) or width >= r:
                shape_error(
                    f"{op}: padding {width} of spatial axis {axis} must be smaller than the "
                    f"window, {r}",
                    [x],
                    "a window in the padding alone would have no element",
                )
            side.append(width)
    return window, steps, gaps, tuple(ends[0]), tuple(ends[1])


def _windowed(x: Tensor, window: Ints, steps: Ints, gaps: Ints) -> tuple[Tensor, Ints]:
    """The windows over the spatial axes of x and the axes within a window."""
    axes = tuple(range(2, x.ndim))
    if lie_side_by_side(x, axes, window, steps, gaps):
        return split_windows(x, axes, window)
    return window_view(x, axes, window, steps, gaps), tuple(range(x.ndim, 2 * x.ndim - 2))


def _beyond(
    op: str, x: Tensor, window: Ints, steps: Ints, gaps: Ints, low: Ints, high: Ints
) -> Sizes:
    """How far beyond the padding the last window of `ceil_mode` reaches, per spatial axis.

    A window that would start beyond x and the padding before it is left out.
    """
    found: list[Size] = []
    for n, k, s, d, a, b in zip(x.shape[2:], window, steps, gaps, low, high, strict=True):
        whole, reach = n + a + b, (k - 1) * d + 1
        count = window_count(whole + (s - 1), k, s, d)
        if not isinstance(n, Dim) and not isinstance(count, Dim):
            count -= (count - 1) * s >= n + a
        elif s + b > reach:
            fail(
                UnsupportedError,
                f"{op}: the number of windows over the symbolic size {n} is not known: ceil_mode "
                f"with stride {s} and padding {b} may leave the last one out",
                [x],
                "ceil_mode on symbolic sizes needs stride + padding <= window",
            )
        end = (count - 1) * s + reach
        found.append(end - whole if isinstance(end - whole, Dim) or end > whole else 0)
    return tuple(found)


def pool_windows(
    op: str,
    x: Tensor,
    size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    value: bool | int | float = 0,
) -> tuple[Tensor, Settings]:
    """The windows of a pool over x [N, C, *S], padded by `value`: [N, C, *P, *size], and its
    settings (size, stride, dilation, low, high) per axis.
    """
    settings = _settings(
        op, _pool_operand(op, x, "channels_first"), size, stride, padding, dilation
    )
    view, inner = _pooled(op, x, settings, ceil_mode, value)
    return permuted(view, (*(a for a in range(view.ndim) if a not in inner), *inner)), settings


def _pooled(
    op: str,
    x: Tensor,
    settings: Settings,
    ceil_mode: bool,
    value: bool | int | float = 0,
) -> tuple[Tensor, Ints]:
    """The windows over x, padded by `value`, and the axes within a window."""
    window, steps, gaps, low, high = settings
    more: Sizes = high
    if ceil_mode:
        more = tuple(b + e for b, e in zip(high, _beyond(op, x, *settings), strict=True))
    wide = padded(x, (0, 0, *low), (0, 0, *more), value=value)
    return _windowed(wide, window, steps, gaps)


def max_pool(
    x: TensorLike,
    size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: Any = 0,
    *,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    layout: str = "channels_first",
) -> Tensor:
    """The maximum of each window of `size`: x [N, C, *S] -> [N, C, *P]; NaN where one is in the
    window.

    stride: `size` by default. padding: as in `conv`, smaller than the window; padding is never the
    maximum. ceil_mode: a last window may reach beyond the padding. Elements that tie share the
    gradient. Raises ShapeError where windows do not fit.
    """
    first = _pool_operand("max_pool", as_tensor(x, op="max_pool"), layout)
    settings = _settings("max_pool", first, size, stride, padding, dilation)
    view, inner = _pooled("max_pool", first, settings, ceil_mode, lowest(first.dtype))
    return in_layout(MAX(view, axes=inner, keepdims=False), layout)


def avg_pool(
    x: TensorLike,
    size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: Any = 0,
    *,
    count_include_pad: bool = True,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    layout: str = "channels_first",
) -> Tensor:
    """The mean of each window of `size`: x [N, C, *S] -> [N, C, *P].

    stride: `size` by default. count_include_pad: padding counts as zeros; else only real elements
    are averaged. ceil_mode: a last window may reach beyond the padding; what lies there never
    counts. bool and integers give float64. Raises ShapeError where windows do not fit.
    """
    op = "avg_pool"
    first = _pool_operand(op, as_float(op, x), layout)
    settings = _settings(op, first, size, stride, padding, dilation)
    window, steps, gaps, low, high = settings
    view, inner = _pooled(op, first, settings, ceil_mode)
    beyond = _beyond(op, first, *settings) if ceil_mode else (0,) * len(low)
    uneven = any(isinstance(e, Dim) or e for e in beyond)
    if not uneven and (count_include_pad or not any((*low, *high))):
        return in_layout(MEAN(view, axes=inner, keepdims=False), layout)
    # Ones where an element counts.
    ones = filled(1.0, (1, 1, *first.shape[2:]), first.dtype)
    ones = padded(ones, (0, 0, *low), (0, 0, *high), value=1.0 if count_include_pad else 0.0)
    ones = padded(ones, (0,) * first.ndim, (0, 0, *beyond))
    real, _ = _windowed(ones, window, steps, gaps)
    total = SUM(view, axes=inner, keepdims=False)
    count = SUM(real, axes=inner, keepdims=False)
    return in_layout(elementwise.divide(total, count), layout)


def _root_of_powers(x: Tensor, p: float, axes: Ints, keepdims: bool) -> Tensor:
    """(sum |x|**p)**(1 / p) over axes."""
    if p == 1:
        return SUM(rounding.abs(x), axes=axes, keepdims=keepdims)
    if p == 2:
        squares = SUM(elementwise_math.square(x), axes=axes, keepdims=keepdims)
        return elementwise_math.sqrt(squares)
    powers = elementwise_math.pow(rounding.abs(x), p)
    return elementwise_math.pow(SUM(powers, axes=axes, keepdims=keepdims), 1.0 / p)


def _positive_power(op: str, p: float, x: Tensor) -> None:
    if not p > 0:
        shape_error(f"{op}: p must be positive, got {p!r:.40}", [x], "p is 1, 2, …")


def lp_pool(
    x: TensorLike,
    p: float,
    size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: Any = 0,
    *,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    layout: str = "channels_first",
) -> Tensor:
    """The p-norm of each window of `size`, (sum |x|**p)**(1 / p): x [N, C, *S] -> [N, C, *P].

    stride: `size` by default. The rest as in `avg_pool`; padding counts as zeros. Raises ShapeError
    where windows do not fit.
    """
    first = _pool_operand("lp_pool", as_float("lp_pool", x), layout)
    _positive_power("lp_pool", p, first)
    settings = _settings("lp_pool", first, size, stride, padding, dilation)
    view, inner = _pooled("lp_pool", first, settings, ceil_mode)
    return in_layout(_root_of_powers(view, p, inner, False), layout)


def _bins(op: str, x: Tensor, output: Any) -> tuple[Ints, Ints]:
    rank = x.ndim - 2
    counts = per_axis(op, "output size", output, rank, [x])
    sizes = []
    for axis, (n, p) in enumerate(zip(x.shape[2:], counts, strict=True)):
        if isinstance(n, Dim):
            hint = "adaptive windows need a known size; a global pool takes any"
            shape_error(f"{op}: spatial axis {axis} has the symbolic size {n}", [x], hint)
        if p < 1 or n < 1:
            shape_error(
                f"{op}: cannot pool {n} elements of spatial axis {axis} into {p}",
                [x],
                "both must be at least 1",
            )
        sizes.append(n)
    return tuple(sizes), counts


def _bounds(n: int, p: int) -> list[tuple[int, int]]:
    """The windows of p results over n elements: floor(i n / p) to ceil((i + 1) n / p)."""
    return [(i * n // p, -(-(i + 1) * n // p)) for i in range(p)]


def adaptive_avg_pool(
    x: TensorLike, output: int | Sequence[int], *, layout: str = "channels_first"
) -> Tensor:
    """The means over windows that give `output` results per spatial axis: x [N, C, *S] -> [N, C,
    *output].

    Window i goes from floor(i S / output) to ceil((i + 1) S / output). Raises ShapeError for
    symbolic spatial sizes.
    """
    first = _pool_operand("adaptive_avg_pool", as_float("adaptive_avg_pool", x), layout)
    sizes, counts = _bins("adaptive_avg_pool", first, output)
    if all(n % p == 0 for n, p in zip(sizes, counts, strict=True)):
        window = tuple(n // p for n, p in zip(sizes, counts, strict=True))
        view, inner = _windowed(first, window, window, (1,) * len(window))
        return in_layout(MEAN(view, axes=inner, keepdims=False), layout)
    letters = LETTERS[: first.ndim]
    for axis, (n, p) in enumerate(zip(sizes, counts, strict=True), 2):
        # Uneven windows: each axis is a product with a matrix of shares.
        shares = np.zeros((p, n))
        for i, (start, stop) in enumerate(_bounds(n, p)):
            shares[i, start:stop] = 1.0 / (stop - start)
        matrix = as_tensor(shares.astype(first.dtype.numpy))
        if matrix.dtype is not first.dtype:
            matrix = matrix.astype(first.dtype)
        new = LETTERS[first.ndim]
        result = letters.replace(letters[axis], new)
        first = EINSUM(first, matrix, spec=tidy(f"{letters},{new}{letters[axis]}->{result}"))
    return in_layout(first, layout)


def adaptive_max_pool(
    x: TensorLike, output: int | Sequence[int], *, layout: str = "channels_first"
) -> Tensor:
    """The maxima over windows that give `output` results per spatial axis, as in
    `adaptive_avg_pool`.
    """
    first = _pool_operand("adaptive_max_pool", as_tensor(x, op="adaptive_max_pool"), layout)
    sizes, counts = _bins("adaptive_max_pool", first, output)
    if all(n % p == 0 for n, p in zip(sizes, counts, strict=True)):
        window = tuple(n // p for n, p in zip(sizes, counts, strict=True))
        view, inner = _windowed(first, window, window, (1,) * len(window))
        return in_layout(MAX(view, axes=inner, keepdims=False), layout)
    for axis, (n, p) in enumerate(zip(sizes, counts, strict=True), 2):
        parts = [
            MAX(take_slice(first, axis, start, stop - start), axes=(axis,), keepdims=True)
            for start, stop in _bounds(n, p)
        ]
        first = concat(parts, axis=axis)
    return in_layout(first, layout)


def _global(op: str, x: Tensor, layout: str, keepdims: bool, reduce: Any) -> Tensor:
    first = _pool_operand(op, x, layout)
    out: Tensor = reduce(first, axes=tuple(range(2, first.ndim)), keepdims=keepdims)
    return in_layout(out, layout) if keepdims else out


def global_avg_pool(
    x: TensorLike, *, keepdims: bool = False, layout: str = "channels_first"
) -> Tensor:
    """The mean over all spatial axes: [N, C, *S] -> [N, C], or of size 1 with keepdims."""
    return _global("global_avg_pool", as_float("global_avg_pool", x), layout, keepdims, MEAN)


def global_max_pool(
    x: TensorLike, *, keepdims: bool = False, layout: str = "channels_first"
) -> Tensor:
    """The maximum over all spatial axes: [N, C, *S] -> [N, C], or of size 1 with keepdims."""
    return _global("global_max_pool", as_tensor(x, op="global_max_pool"), layout, keepdims, MAX)


def global_lp_pool(
    x: TensorLike, p: float = 2, *, keepdims: bool = False, layout: str = "channels_first"
) -> Tensor:
    """The p-norm over all spatial axes: [N, C, *S] -> [N, C], or of size 1 with keepdims."""
    first = _pool_operand("global_lp_pool", as_float("global_lp_pool", x), layout)
    _positive_power("global_lp_pool", p, first)
    out = _root_of_powers(first, p, tuple(range(2, first.ndim)), keepdims)
    return in_layout(out, layout) if keepdims else out
