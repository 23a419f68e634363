"""Sampling at computed places (floor 8): grids, affine maps, regions, deformable convolutions.

All read x at places that are data. `interpolated` is their core: per spatial axis one, two or four
taps, per combination of taps one gather, weighted. Gradients flow to x through the gathers and to
the places through the weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphc.base.dims import Dim, Shape, Size, product, shape_text
from graphc.base.dtypes import DType, float32, int64
from graphc.ir.node import Tensor
from graphc.ir.opdef import shape_error
from graphc.nn.convolution import (
    channels_fit,
    int_size,
    positive,
    spatial_padding,
    with_bias,
)
from graphc.nn.resampling import cubic_weights
from graphc.ops import elementwise, logical, rounding
from graphc.ops.axes import as_shape, same_size
from graphc.ops.contraction import matmul
from graphc.ops.creation import IOTA, filled
from graphc.ops.einsum import einsum
from graphc.ops.gather import GATHER
from graphc.ops.indexing import take_along_axis
from graphc.ops.joining import concat, stack
from graphc.ops.promotion import TensorLike, as_tensor, cast
from graphc.ops.reduction import MAX, SUM, as_float, lowest
from graphc.ops.reduction import max as reduced_max
from graphc.ops.reshape import to_shape
from graphc.ops.sizes import as_dim
from graphc.ops.view import broadcasted, permuted
from graphc.ops.windows import window_count

METHODS = ("nearest", "linear", "cubic")
PADDINGS = ("zeros", "border", "reflection")
CUBIC_COEFFICIENT = -0.75


def _one_of(op: str, what: str, given: str, known: Sequence[str], x: Tensor) -> None:
    if given not in known:
        shape_error(f"{op}: unknown {what} {given!r:.40}", [x], f"use one of {', '.join(known)}")


def _as_number(size: Size, like: Tensor) -> Tensor:
    """A size as a 0-d tensor of the dtype of `like`."""
    return cast(as_tensor(size, like=int64), like.dtype)


# -- the core -------------------------------------------------------------------------------------


def _reflected(place: Tensor, low: Tensor | float, high: Tensor) -> Tensor:
    """Places folded back and forth into [low, high]."""
    span = high - low
    safe = elementwise.where(span > 0, span, 1.0)
    distance = elementwise.remainder(rounding.abs(place - low), 2.0 * safe)
    folded = low + elementwise.minimum(distance, 2.0 * safe - distance)
    return elementwise.where(span > 0, folded, low)


def _clipped(place: Tensor, last: Tensor) -> Tensor:
    return elementwise.minimum(elementwise.maximum(place, 0.0), last)


def _axis_taps(place: Tensor, method: str) -> list[tuple[Tensor, Tensor | None]]:
    """(place of the tap, weight) along one axis; a weight of None is 1."""
    if method == "nearest":
        return [(rounding.round(place), None)]
    below = rounding.floor(place)
    t = place - below
    if method == "linear":
        return [(below, 1.0 - t), (below + 1.0, t)]
    weights = cubic_weights(t, CUBIC_COEFFICIENT)
    return [(below + float(i), w) for i, w in zip((-1, 0, 1, 2), weights, strict=True)]


def _padded_taps(
    place: Tensor, last: Tensor, method: str, padding: str, edge: float
) -> list[tuple[Tensor, Tensor | None]]:
    """`_axis_taps` of places that padding moved to elements of the axis; `last` is the last one.

    edge: about which places and taps are reflected, `last - edge` at the other end.
    """
    if method == "nearest":
        place = rounding.round(place)
    low, high = edge, last - edge
    if padding == "border" and method != "cubic":
        place = _clipped(place, last)  # the taps of "cubic" are clipped each by itself
    elif padding == "reflection":
        outside = logical.logical_or(place < low, place > high)
        place = elementwise.where(outside, _reflected(place, low, high), place)
    taps = _axis_taps(place, method)
    if padding == "reflection":
        taps = [(_reflected(p, low, high), w) for p, w in taps]
    return taps


def _read(x: Tensor, rows: Tensor | None, index: Tensor) -> Tensor:
    """x [N, C, S] at flat places `index` [R, P] -> [R, C, P]; example rows[r], or r itself."""
    if rows is None:
        return take_along_axis(x, to_shape(index, (index.shape[0], 1, index.shape[1])), axis=2)
    example = to_shape(rows, (rows.shape[0], 1))
    return permuted(GATHER(x, example, index, axes=(0, 2), position=0), (0, 2, 1))


def _flat_index(places: Sequence[Tensor], sizes: Shape) -> Tensor:
    index: Tensor | None = None
    for place, size in zip(places, sizes, strict=True):
        whole = cast(place, int64)
        index = whole if index is None else elementwise.add(index * size, whole)
    assert index is not None
    return index


def _inside(places: Sequence[Tensor], lasts: Sequence[Tensor]) -> Tensor:
    found: Tensor | None = None
    for place, last in zip(places, lasts, strict=True):
        ok = logical.logical_and(place >= 0.0, place <= last)
        found = ok if found is None else logical.logical_and(found, ok)
    assert found is not None
    return found


def interpolated(
    x: Tensor,
    places: Sequence[Tensor],
    method: str,
    padding: str,
    corners: bool = False,
    rows: Tensor | None = None,
) -> Tensor:
    """x [N, C, *S] at one tensor of places [R, P] per spatial axis, in elements -> [R, C, P].

    rows: [R], which example each row of places reads; R = N and row r reads example r without.
    padding: what lies outside of x: "zeros", the edge ("border"), or a reflection, about the
    elements at the edge where `corners`, else about their outer sides.
    """
    sizes = x.shape[2:]
    flat = to_shape(x, (*x.shape[:2], product(sizes)))
    lasts = [_as_number(n, p) - 1.0 for n, p in zip(sizes, places, strict=True)]
    edge = 0.0 if corners else -0.5
    per_axis = [
        _padded_taps(place, last, method, padding, edge)
        for place, last in zip(places, lasts, strict=True)
    ]
    total: Tensor | None = None
    for combination in itertools.product(*per_axis):
        at = [p for p, _ in combination]
        # NaN places and taps beyond the edge read the nearest element that exists.
        index = _flat_index([_clipped(p, n) for p, n in zip(at, lasts, strict=True)], sizes)
        value = _read(flat, rows, index)
        weight = _product([w for _, w in combination if w is not None])
        if padding == "zeros":
            inside = _inside(at, lasts)
            zero = filled(0.0, (), value.dtype)
            value = elementwise.where(_per_channel(inside), value, zero)
        if weight is not None:
            value = elementwise.multiply(value, cast(_per_channel(weight), value.dtype))
        total = value if total is None else elementwise.add(total, value)
    assert total is not None
    return total


def _product(factors: Sequence[Tensor]) -> Tensor | None:
    result: Tensor | None = None
    for factor in factors:
        result = factor if result is None else elementwise.multiply(result, factor)
    return result


def _per_channel(x: Tensor) -> Tensor:
    """[R, P] as [R, 1, P]."""
    return to_shape(x, (x.shape[0], 1, x.shape[1]))


def _wide(x: Tensor) -> Tensor:
    """16-bit floats as float32: a place needs more digits than they have."""
    return cast(x, float32) if x.dtype.bits == 16 else x


# -- grids ----------------------------------------------------------------------------------------


def grid_sample(
    x: TensorLike,
    grid: TensorLike,
    *,
    method: str = "linear",
    padding: str = "zeros",
    align_corners: bool = False,
) -> Tensor:
    """x [N, C, *S] read at the places of grid [N, *P, D] -> [N, C, *P], D = len(S).

    The last axis of grid holds coordinates from the last spatial axis to the first (x, y, z), from
    -1 to 1: the centres of the outer elements with align_corners, else their outer sides. method:
    "nearest" (halves to even), "linear" or "cubic". padding: what lies outside: "zeros", "border"
    (the edge repeats) or "reflection". Raises ShapeError where shapes do not fit.
    """
    op = "grid_sample"
    first, places = as_float(op, x), _wide(as_float(op, grid))
    _one_of(op, "method", method, METHODS, first)
    _one_of(op, "padding", padding, PADDINGS, first)
    rank = first.ndim - 2
    fits = rank >= 1 and places.ndim == first.ndim and places.shape[-1] == rank
    if not fits or not same_size(places.shape[0], first.shape[0]):
        shape_error(
            f"{op}: the grid {places.type} does not fit x, {first.type}",
            [first, places],
            "x is [N, C, *S]; the grid is [N, *P, D], D the number of spatial axes of x",
        )
    shape = places.shape[1:-1]
    flat = to_shape(places, (places.shape[0], product(shape), rank))
    at = []
    for axis in range(rank):
        size = _as_number(first.shape[2 + axis], places)
        unit = flat[:, :, rank - 1 - axis]
        if align_corners:
            at.append((unit + 1.0) * 0.5 * (size - 1.0))
        else:
            at.append(((unit + 1.0) * size - 1.0) * 0.5)
    out = interpolated(_wide(first), at, method, padding, align_corners)
    return cast(to_shape(out, (first.shape[0], first.shape[1], *shape)), first.dtype)


def affine_grid(theta: TensorLike, size: Any, *, align_corners: bool = False) -> Tensor:
    """The grid of `grid_sample` for affine maps: theta [N, D, D + 1], size (*S) -> [N, *S, D].

    Each row of theta gives one coordinate (x, y, z) of the source out of those of the result and 1.
    size: the spatial sizes of the result, ints or dims. Raises ShapeError where theta does not fit.
    """
    op = "affine_grid"
    matrix = as_float(op, theta)
    sizes = as_shape(op, size, [matrix])
    rank = len(sizes)
    if matrix.shape[1:] != (rank, rank + 1):
        shape_error(
            f"{op}: theta must be [N, {rank}, {rank + 1}] for {rank} sizes, got {matrix.type}",
            [matrix],
            "a row of theta has one factor per coordinate and a shift",
        )
    columns = []
    for axis in range(rank - 1, -1, -1):
        steps = IOTA(shape=sizes, axis=axis, dtype=matrix.dtype)
        n = _as_number(sizes[axis], matrix)
        if align_corners:
            wide = elementwise.where(n > 1, n - 1.0, 1.0)
            columns.append(elementwise.where(n > 1, 2.0 * steps / wide - 1.0, 0.0 * steps))
        else:
            columns.append((2.0 * steps + 1.0) / n - 1.0)
    points = stack([*columns, filled(1.0, sizes, matrix.dtype)], axis=-1)
    flat = to_shape(points, (product(sizes), rank + 1))
    grid = matmul(flat, permuted(matrix, (0, 2, 1)))
    return to_shape(grid, (matrix.shape[0], *sizes, rank))


# -- regions --------------------------------------------------------------------------------------


def _regions(op: str, x: Any, boxes: Any, rows: Any) -> tuple[Tensor, Tensor, Tensor]:
    first, rois = as_float(op, x), as_float(op, boxes)
    index = cast(as_tensor(rows, op=op), int64)
    if first.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 4 or index.ndim != 1:
        shape_error(
            f"{op}: needs x [N, C, H, W], boxes [R, 4] and rows [R], got {first.type}, "
            f"{rois.type}, {index.type}",
            [first, rois, index],
            "boxes hold (x1, y1, x2, y2), rows the example that each box lies in",
        )
    return first, rois, index


def _two_sizes(op: str, size: Any, x: Tensor) -> tuple[int, int]:
    found = positive(op, "size", size, 2, x)
    return found[0], found[1]


@dataclass(frozen=True)
class _Bins:
    """The samples of regions along one axis. at: their places, [R, bins * most]; real: whether each
    is one of its region's own (None: all are); count: of these per bin, as [R].
    """

    at: Tensor
    bins: int
    most: Size
    real: Tensor | None
    count: Tensor


def _sampled(start: Tensor, extent: Tensor, bins: int, samples: int) -> _Bins:
    """`samples` per bin over [start, start + extent]; 0: about one per element of x."""
    rows = extent.shape[0]
    if samples:
        count = filled(float(samples), (rows,), start.dtype)
        most: Size = samples
    else:
        count = rounding.ceil(elementwise.maximum(extent / float(bins), 0.0))
        # Regions without any sample leave a bin empty; no region at all needs no sample.
        largest = reduced_max(concat([count, filled(1.0, (1,), count.dtype)]))
        most = as_dim(cast(largest, int64), min=1)
    lines = (rows, bins, most)
    bin_ = IOTA(shape=(1, bins, 1), axis=1, dtype=start.dtype)
    step = IOTA(shape=(1, 1, most), axis=2, dtype=start.dtype)
    each = to_shape(elementwise.maximum(count, 1.0), (rows, 1, 1))
    share = bin_ + elementwise.divide(step + 0.5, each)
    width = to_shape(extent / float(bins), (rows, 1, 1))
    place = to_shape(start, (rows, 1, 1)) + elementwise.multiply(share, width)
    real = None
    if not samples:
        inside = logical.less(step, to_shape(count, (rows, 1, 1)))
        real = to_shape(broadcasted(inside, lines), (rows, product((bins, most))))
    return _Bins(to_shape(place, (rows, product((bins, most)))), bins, most, real, count)


def _bilinear(bins: _Bins, shape: Shape, size: Size) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(low, high, weight of high, whether it counts) of the samples along an axis, in a shape."""
    place = to_shape(bins.at, shape)
    last = _as_number(size, place) - 1.0
    counts = logical.logical_and(place >= -1.0, place <= last + 1.0)
    if bins.real is not None:
        counts = logical.logical_and(counts, to_shape(bins.real, shape))
    clipped = _clipped(place, last)
    low = rounding.floor(clipped)
    return low, elementwise.minimum(low + 1.0, last), clipped - low, counts


def roi_align(
    x: TensorLike,
    boxes: TensorLike,
    rows: TensorLike,
    size: int | Sequence[int],
    *,
    scale: float = 1.0,
    samples: int = 2,
    aligned: bool = True,
    method: str = "avg",
) -> Tensor:
    """Regions sampled into bins: x [N, C, H, W], boxes [R, 4] in examples rows [R] -> [R, C,
    *size].

    A box is (x1, y1, x2, y2) times `scale` in elements of x; aligned: less half an element, else a
    box is at least one element wide. Each bin is the mean ("avg") of samples x samples places,
    linear between elements, or ("max") the largest of their elements times their weights. samples
    of 0: as many as a bin of the box spans elements, rounded up, per axis. Places more than one
    element outside count as 0. Raises ShapeError where shapes do not fit.
    """
    op = "roi_align"
    first, rois, index = _regions(op, x, boxes, rows)
    _one_of(op, "method", method, ("avg", "max"), first)
    height, width = _two_sizes(op, size, first)
    if samples < 0:
        shape_error(f"{op}: samples must not be negative, got {samples}", [first])
    scaled = _wide(rois) * scale
    if aligned:
        scaled = scaled - 0.5
    extent = scaled[:, 2:] - scaled[:, :2]
    if not aligned:
        extent = elementwise.maximum(extent, 1.0)
    down = _sampled(scaled[:, 1], extent[:, 1], height, samples)
    across = _sampled(scaled[:, 0], extent[:, 0], width, samples)
    parts = _corner_values(_wide(first), index, down, across)
    shape = (index.shape[0], first.shape[1], height, down.most, width, across.most)
    reduced = _mean_of_bins if method == "avg" else _max_of_bins
    return cast(reduced(parts, shape, down, across), first.dtype)


def _bin_counts(down: _Bins, across: _Bins, dtype: DType) -> Tensor:
    """Samples per bin of each region, [R, 1, 1, 1]."""
    count = elementwise.multiply(down.count, across.count)
    return cast(to_shape(count, (count.shape[0], 1, 1, 1)), dtype)


def _mean_of_bins(parts: Sequence[Tensor], shape: Shape, down: _Bins, across: _Bins) -> Tensor:
    total = elementwise.add(
        elementwise.add(parts[0], parts[1]), elementwise.add(parts[2], parts[3])
    )
    summed = SUM(to_shape(total, shape), axes=(3, 5), keepdims=False)
    count = elementwise.maximum(_bin_counts(down, across, summed.dtype), 1.0)
    return elementwise.divide(summed, count)


def _max_of_bins(parts: Sequence[Tensor], shape: Shape, down: _Bins, across: _Bins) -> Tensor:
    best = elementwise.maximum(
        elementwise.maximum(parts[0], parts[1]), elementwise.maximum(parts[2], parts[3])
    )
    best = to_shape(best, shape)
    if down.real is None or across.real is None:
        return MAX(best, axes=(3, 5), keepdims=False)
    real = logical.logical_and(
        to_shape(down.real, (shape[0], 1, *shape[2:4], 1, 1)),
        to_shape(across.real, (shape[0], 1, 1, 1, *shape[4:])),
    )
    least = filled(lowest(best.dtype), (), best.dtype)
    found = MAX(elementwise.where(real, best, least), axes=(3, 5), keepdims=False)
    empty = logical.equal(_bin_counts(down, across, best.dtype), 0.0)
    return elementwise.where(empty, 0.0, found)


def _corner_values(x: Tensor, rows: Tensor, down: _Bins, across: _Bins) -> list[Tensor]:
    """The four elements around each crossing of places down [R, P] and across [R, Q], times their
    weights: [R, C, P * Q] each.
    """
    height, width = x.shape[2:]
    flat = to_shape(x, (*x.shape[:2], product((height, width))))
    count, p, q = down.at.shape[0], down.at.shape[1], across.at.shape[1]
    top, bottom, low_share, down_counts = _bilinear(down, (count, p, 1), height)
    left, right, right_share, across_counts = _bilinear(across, (count, 1, q), width)
    counts = logical.logical_and(down_counts, across_counts)
    parts = []
    for y, wy in ((top, 1.0 - low_share), (bottom, low_share)):
        for at, wx in ((left, 1.0 - right_share), (right, right_share)):
            index = to_shape(_flat_index([y, at], (height, width)), (count, product((p, q))))
            weight = elementwise.where(counts, elementwise.multiply(wy, wx), 0.0)
            weight = to_shape(weight, (count, product((p, q))))
            value = _read(flat, rows, index)
            parts.append(elementwise.multiply(value, cast(_per_channel(weight), value.dtype)))
    return parts


def _pool_bins(low: Tensor, high: Tensor, bins: int, size: Size) -> Tensor:
    """Whether element i of an axis lies in bin b over [low, high]: bool [R, bins, size]."""
    count = low.shape[0]
    extent = elementwise.maximum(high - low + 1.0, 1.0) / float(bins)
    extent = to_shape(extent, (count, 1))
    steps = IOTA(shape=(1, bins), axis=1, dtype=low.dtype)
    origin = to_shape(low, (count, 1))
    start = rounding.floor(steps * extent) + origin
    stop = rounding.ceil((steps + 1.0) * extent) + origin
    places = IOTA(shape=(1, 1, size), axis=2, dtype=low.dtype)
    start, stop = to_shape(start, (count, bins, 1)), to_shape(stop, (count, bins, 1))
    return logical.logical_and(places >= start, places < stop)


def roi_pool(
    x: TensorLike,
    boxes: TensorLike,
    rows: TensorLike,
    size: int | Sequence[int],
    *,
    scale: float = 1.0,
) -> Tensor:
    """The maxima of bins of regions: x [N, C, H, W], boxes [R, 4], rows [R] -> [R, C, *size].

    Corners (x1, y1, x2, y2) times `scale` are rounded (halves up) to elements; both belong to the
    box (Girshick, 2015). An empty bin gives 0. Raises ShapeError where shapes do not fit.
    """
    op = "roi_pool"
    first, rois, index = _regions(op, x, boxes, rows)
    bins_down, bins_across = _two_sizes(op, size, first)
    corners = rounding.floor(_wide(rois) * scale + 0.5)
    down = _pool_bins(corners[:, 1], corners[:, 3], bins_down, first.shape[2])
    across = _pool_bins(corners[:, 0], corners[:, 2], bins_across, first.shape[3])
    count = index.shape[0]
    least = filled(lowest(first.dtype), (), first.dtype)
    picked = GATHER(first, index, axes=(0,), position=0)  # [R, C, H, W]
    picked = to_shape(picked, (*picked.shape[:3], 1, picked.shape[3]))
    mask = to_shape(across, (count, 1, 1, *across.shape[1:]))
    lines = MAX(elementwise.where(mask, picked, least), axes=(4,), keepdims=False)
    lines = to_shape(lines, (*lines.shape[:2], 1, *lines.shape[2:]))  # [R, C, 1, H, bins]
    mask = to_shape(down, (count, 1, *down.shape[1:], 1))
    best = MAX(elementwise.where(mask, lines, least), axes=(3,), keepdims=False)
    return elementwise.where(logical.equal(best, least), filled(0.0, (), first.dtype), best)


# -- deformable convolution -----------------------------------------------------------------------


def _deformed_places(
    offset: Tensor, kernel: Shape, stride: Sequence[int], dilation: Sequence[int], low: Shape
) -> list[Tensor]:
    """Where each element of the kernel reads: offset [N, G, K, D, *P] -> D times [N, G, K, *P]."""
    rank = len(kernel)
    shape = offset.shape[4:]
    found = []
    for axis in range(rank):
        own = offset[:, :, :, axis]
        taps = IOTA(shape=kernel, axis=axis, dtype=offset.dtype) * float(dilation[axis])
        taps = to_shape(taps, (product(kernel), *(1,) * rank))
        line = tuple(shape[a] if a == axis else 1 for a in range(rank))
        origin = IOTA(shape=line, axis=axis, dtype=offset.dtype) * float(stride[axis])
        found.append(own + (taps + (origin - _as_number(low[axis], offset))))
    return found


def deform_conv(
    x: TensorLike,
    w: TensorLike,
    offset: TensorLike,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    mask: TensorLike | None = None,
    offset_groups: int = 1,
    bias: TensorLike | None = None,
) -> Tensor:
    """A convolution whose kernel reads at shifted places (Dai et al., 2017): x [N, C, *S] -> [N, O,
    *P].

    w [O, C / groups, *K]; offset [N, offset_groups * K * D, *P]: per element of the kernel a shift
    in elements along each of the D spatial axes; linear between elements, 0 outside. mask [N,
    offset_groups * K, *P]: factors of what is read. The rest as in `conv`. Raises ShapeError where
    shapes do not fit.
    """
    op = "deform_conv"
    first, kernel = as_float(op, x), as_float(op, w)
    rank = first.ndim - 2
    window = _known_kernel(op, first, kernel, groups)
    steps = positive(op, "stride", stride, rank, first)
    gaps = positive(op, "dilation", dilation, rank, first)
    reach = [(k - 1) * d + 1 for k, d in zip(window, gaps, strict=True)]
    pairs = spatial_padding(op, padding, first, reach, steps)
    shape = tuple(
        window_count(n + a + b, k, s, d)
        for n, (a, b), k, s, d in zip(first.shape[2:], pairs, window, steps, gaps, strict=True)
    )
    n, channels = first.shape[:2]
    taps = math.prod(window)
    shifts = _wide(as_float(op, offset))
    if shifts.shape != (n, offset_groups * taps * rank, *shape):
        shape_error(
            f"{op}: offset must be [{n}, {offset_groups * taps * rank}, {shape_text(shape)}], got "
            f"{shifts.type}",
            [first, shifts],
            "one shift per element of the kernel, axis and place of the result",
        )
    shifts = to_shape(shifts, (n, offset_groups, taps, rank, *shape))
    places = _deformed_places(shifts, window, steps, gaps, tuple(a for a, _ in pairs))
    rows, points = product((n, offset_groups)), product((taps, *shape))
    flat = [to_shape(p, (rows, points)) for p in places]
    grouped = to_shape(_wide(first), (rows, channels // offset_groups, *first.shape[2:]))
    read = interpolated(grouped, flat, "linear", "zeros")
    if mask is not None:
        factors = cast(as_float(op, mask), read.dtype)
        read = elementwise.multiply(read, to_shape(factors, (rows, 1, points)))
    read = to_shape(read, (n, groups, channels // groups, taps, product(shape)))
    count = kernel.shape[0]
    weights = to_shape(kernel, (groups, count // groups, channels // groups, taps))
    out = einsum("ngckp,gock->ngop", read, cast(weights, read.dtype))
    return with_bias(op, cast(to_shape(out, (n, count, *shape)), first.dtype), bias)


def _known_kernel(op: str, x: Tensor, w: Tensor, groups: int) -> tuple[int, ...]:
    """The sizes of a kernel that fits x in groups."""
    if w.ndim != x.ndim or x.ndim < 3 or any(isinstance(k, Dim) for k in w.shape[2:]):
        shape_error(f"{op}: x and w need equal ranks and a known kernel", [x, w])
    channels_fit(op, x.shape[1], w, groups, x)
    return tuple(int_size(k) for k in w.shape[2:])
