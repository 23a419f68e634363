"""Pools over windows and over all places, and what undoes them (floor 8)."""

from __future__ import annotations

from typing import Any

from graphc.base.dims import Dim, Size, product
from graphc.base.dtypes import int64
from graphc.ir.node import Tensor
from graphc.nn import pooling, unpooling
from graphc.nn.sampling import roi_pool
from graphc.onnx.context import Context, op
from graphc.onnx.windows import Windows, pads_of, per_axis, windows_of
from graphc.ops.creation import IOTA
from graphc.ops.joining import padded
from graphc.ops.promotion import cast
from graphc.ops.reshape import to_shape


def _settings(c: Context, x: Tensor) -> tuple[Windows, bool]:
    at = windows_of(c, x, tuple(c.attribute("kernel_shape")))
    # Padding by a word leaves no rest for a further window.
    return at, bool(c.attribute("ceil_mode", 0)) and c.attribute("auto_pad", "NOTSET") == "NOTSET"


@op("AveragePool")
def average_pool(c: Context) -> Tensor:
    """Means over windows."""
    x = c.tensor(0)
    at, ceil = _settings(c, x)
    counted = bool(c.attribute("count_include_pad"))
    return pooling.avg_pool(
        x,
        at.size,
        at.stride,
        at.padding,
        count_include_pad=counted,
        dilation=at.dilation,
        ceil_mode=ceil,
    )


@op("LpPool")
def lp_pool(c: Context) -> Tensor:
    """p-norms over windows."""
    x = c.tensor(0)
    at, ceil = _settings(c, x)
    p = c.attribute("p")
    return pooling.lp_pool(
        x, p, at.size, at.stride, at.padding, dilation=at.dilation, ceil_mode=ceil
    )


@op("MaxPool")
def max_pool(c: Context) -> Tensor | list[Tensor]:
    """Maxima over windows, and where they lie in the whole operand."""
    x = c.tensor(0)
    at, ceil = _settings(c, x)
    place = (at.size, at.stride, at.padding)
    if not c.wants(1):
        return pooling.max_pool(x, *place, dilation=at.dilation, ceil_mode=ceil)
    best, index = unpooling.max_pool_with_indices(x, *place, dilation=at.dilation, ceil_mode=ceil)
    sizes = x.shape[2:]
    if c.attribute("storage_order", 0):
        index = _column_major(index, sizes)
    return [best, index + _planes(x, product(sizes))]


def _column_major(index: Tensor, sizes: tuple[Size, ...]) -> Tensor:
    """Row-major places as column-major ones."""
    total: Any = 0
    for axis in range(len(sizes)):
        inner = product(sizes[axis + 1 :])
        place = index // inner % sizes[axis]
        total = total + place * product(sizes[:axis])
    found: Tensor = total
    return found


def _planes(x: Tensor, elements: Size) -> Tensor:
    """The place of the first element of each plane of x [N, C, *S]: [N, C, 1, …]."""
    planes = product(x.shape[:2])
    first = IOTA(shape=(planes,), axis=0, dtype=int64) * elements
    return to_shape(first, (*x.shape[:2], *(1,) * (x.ndim - 2)))


@op("MaxUnpool")
def max_unpool(c: Context) -> Tensor:
    """Maxima back at their places, which count through the whole result."""
    x = c.tensor(0)
    rank = x.ndim - 2
    size = tuple(c.attribute("kernel_shape"))
    stride = per_axis(c, "strides", rank, 1)
    pads = pads_of(c, rank)
    if len(size) != rank:
        c.bad(f"attribute kernel_shape has {len(size)} values, expected {rank}")
    whole = tuple(
        (n - 1) * s - a - b + k
        for n, s, (a, b), k in zip(x.shape[2:], stride, pads, size, strict=True)
    )
    index = cast(c.tensor(1), int64)
    index = index - _planes(x, product(whole))
    out = unpooling.max_unpool(x, index, size, output_size=whole)
    if not c.has(2):
        return out
    wanted = c.sizes(2, "output_shape")
    if len(wanted) != out.ndim:
        c.bad(f"output_shape has {len(wanted)} sizes, expected {out.ndim}")
    more = tuple(a - b for a, b in zip(wanted, out.shape, strict=True))
    if any(not isinstance(m, Dim) and m < 0 for m in more):
        c.bad(f"output_shape {list(wanted)} is smaller than the result, {list(out.shape)}")
    return padded(out, (0,) * out.ndim, more)


@op("GlobalAveragePool")
def global_average_pool(c: Context) -> Tensor:
    """Means over all spatial axes."""
    return pooling.global_avg_pool(c.tensor(0), keepdims=True)


@op("GlobalMaxPool")
def global_max_pool(c: Context) -> Tensor:
    """Maxima over all spatial axes."""
    return pooling.global_max_pool(c.tensor(0), keepdims=True)


@op("GlobalLpPool")
def global_lp_pool(c: Context) -> Tensor:
    """p-norms over all spatial axes."""
    return pooling.global_lp_pool(c.tensor(0), c.attribute("p"), keepdims=True)


@op("MaxRoiPool")
def max_roi_pool(c: Context) -> Tensor:
    """Maxima of bins of regions; rois [R, 5] begin with the example."""
    x, rois = c.tensor(0), c.tensor(1)
    if rois.ndim != 2 or rois.shape[1] != 5:
        c.bad(f"rois is {rois.type}, expected [number, 5]")
    size = tuple(c.attribute("pooled_shape"))
    return roi_pool(
        x, rois[:, 1:], cast(rois[:, 0], int64), size, scale=c.attribute("spatial_scale")
    )
