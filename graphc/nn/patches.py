"""Spatial padding, and windows as columns (floor 8): pad, unfold, fold, of any spatial rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.base.dims import Size, product, shape_text
from graphc.base.errors import UnsupportedError
from graphc.ir.node import Tensor
from graphc.ir.opdef import fail, shape_error
from graphc.nn.convolution import channels_first, in_layout, positive, spatial_padding
from graphc.ops import joining
from graphc.ops.axes import as_shape
from graphc.ops.joining import padded, take_slice
from graphc.ops.promotion import TensorLike, as_tensor
from graphc.ops.reshape import to_shape
from graphc.ops.view import permuted
from graphc.ops.windows import folded, window_count, window_view

# What the field calls a way to pad, and what `graphc.pad` does.
MODES = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
    "symmetric": "symmetric",
}


def pad(
    x: TensorLike,
    padding: Any,
    *,
    mode: str = "constant",
    value: float = 0.0,
    layout: str = "channels_first",
) -> Tensor:
    """x [N, C, *S] with its spatial axes padded.

    padding: an int for all sides, or one int or (low, high) pair per spatial axis. mode: constant
    (`value`), reflect (mirrored at the edge element), replicate (the edge element), circular (from
    the other end), symmetric (mirrored, the edge twice). Raises ShapeError where padding does not
    fit, UnsupportedError for an unknown mode.
    """
    tensor = as_tensor(x, op="nn.pad")
    if tensor.ndim < 3:
        hint = "x is [batch, channels, *spatial]; graphc.pad pads any axes"
        shape_error(f"nn.pad: needs at least 3 dims, got {tensor.ndim}", [tensor], hint)
    if mode not in MODES:
        hint = f"use one of {', '.join(MODES)}"
        fail(UnsupportedError, f"nn.pad: unknown mode {mode!r}", [tensor], hint)
    first = channels_first("nn.pad", tensor, layout)
    ones = (1,) * (first.ndim - 2)
    pairs = [(0, 0), (0, 0), *spatial_padding("nn.pad", padding, first, ones, ones)]
    return in_layout(joining.pad(first, pairs, mode=MODES[mode], value=value), layout)


def unfold(
    x: TensorLike,
    size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    *,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """Every window of x as a column: [N, C, *S] -> [N, C * window elements, windows] (im2col).

    Windows and elements in row-major order, channels outermost; padding as in `conv`. Raises
    ShapeError where windows do not fit.
    """
    tensor = as_tensor(x, op="unfold")
    if tensor.ndim < 3:
        hint = "x is [batch, channels, *spatial]; use x[None] where there is no batch"
        shape_error(f"unfold: needs at least 3 dims, got {tensor.ndim}", [tensor], hint)
    rank = tensor.ndim - 2
    window, steps, gaps = _settings("unfold", tensor, size, stride, dilation, rank)
    reach = [(k - 1) * d + 1 for k, d in zip(window, gaps, strict=True)]
    pairs = spatial_padding("unfold", padding, tensor, reach, steps)
    wide = padded(tensor, (0, 0, *(p[0] for p in pairs)), (0, 0, *(p[1] for p in pairs)))
    view = window_view(wide, tuple(range(2, tensor.ndim)), window, steps, gaps)
    counts = view.shape[2 : 2 + rank]
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    rows = tensor.shape[1] * product(window)
    return to_shape(permuted(view, order), (tensor.shape[0], rows, product(counts)))


def _settings(
    op: str, x: Tensor, size: Any, stride: Any, dilation: Any, rank: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    return (
        positive(op, "size", size, rank, x),
        positive(op, "stride", stride, rank, x),
        positive(op, "dilation", dilation, rank, x),
    )


def fold(
    x: TensorLike,
    output: Any,
    size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    *,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """Columns of windows summed back to where they came from: the transpose of `unfold` (col2im).

    x [N, C * window elements, windows] -> [N, C, *output]; output: the spatial sizes. Raises
    ShapeError where the columns are not those of that size.
    """
    tensor = as_tensor(x, op="fold")
    spatial = as_shape("fold", output, [tensor])
    rank = len(spatial)
    if tensor.ndim != 3:
        hint = "x is [batch, channels * window elements, windows]"
        shape_error(f"fold: needs 3 dims, got {tensor.ndim}", [tensor], hint)
    window, steps, gaps = _settings("fold", tensor, size, stride, dilation, rank)
    reach = [(k - 1) * d + 1 for k, d in zip(window, gaps, strict=True)]
    like = to_shape(take_slice(tensor, 2, 0, 1), (tensor.shape[0], tensor.shape[1], *(1,) * rank))
    pairs = spatial_padding("fold", padding, like, reach, steps)
    whole = tuple(n + low + high for n, (low, high) in zip(spatial, pairs, strict=True))
    counts = tuple(
        window_count(n, k, s, d) for n, k, s, d in zip(whole, window, steps, gaps, strict=True)
    )
    elements = product(window)
    channels: Size = tensor.shape[1] // elements
    if channels * elements != tensor.shape[1] or product(counts) != tensor.shape[2]:
        shape_error(
            f"fold: {tensor.type} is not made of windows {shape_text(window)} at "
            f"{shape_text(counts)} places of {shape_text(spatial)}",
            [tensor],
            f"dim 1 is a multiple of {elements}, dim 2 is {product(counts)}",
        )
    view = to_shape(tensor, (tensor.shape[0], channels, *window, *counts))
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    summed = folded(permuted(view, order), tuple(range(2, 2 + rank)), steps, gaps, whole)
    for axis, (n, (low, _)) in enumerate(zip(spatial, pairs, strict=True), 2):
        summed = take_slice(summed, axis, low, n)
    return summed


__all__ = ["fold", "pad", "unfold"]
