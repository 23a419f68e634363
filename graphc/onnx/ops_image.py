"""Images (floor 8): resizing, grids, regions, blocks of elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Size
from graphc.base.dtypes import DType, float32
from graphc.ir.node import Tensor
from graphc.nn import pixels, resampling, sampling
from graphc.nn.detection import non_max_suppression
from graphc.onnx.context import Context, op
from graphc.onnx.values import static_shape
from graphc.onnx.windows import pads_of, per_axis
from graphc.ops import rounding
from graphc.ops.axes import normalize_axes
from graphc.ops.joining import padded, take_slice
from graphc.ops.promotion import cast
from graphc.ops.reshape import to_shape
from graphc.ops.view import permuted
from graphc.ops.windows import fold

_METHODS = {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}
_METHODS |= {"cubic": "cubic", "bicubic": "cubic"}


def _method(c: Context) -> str:
    word = c.attribute("mode")
    if word not in _METHODS:
        c.bad(f"attribute mode is {word!r:.40}, expected nearest, linear or cubic")
    return _METHODS[word]


def saturated(x: Tensor, dtype: DType) -> Tensor:
    """Floats as integers: halves to even, the ends of the range for what lies outside."""
    return cast(rounding.round(x), dtype) if dtype.is_integer else cast(x, dtype)


def _resized(c: Context, x: Tensor, method: str, **settings: Any) -> Tensor:
    if method == "nearest" or x.dtype.is_float:
        return resampling.resize(x, method=method, **settings)
    return saturated(resampling.resize(cast(x, float32), method=method, **settings), x.dtype)


def _scaled(c: Context, sizes: Sequence[Size], scales: Sequence[Any]) -> tuple[list[Any], Any]:
    """Sizes of the result and scales as numbers; None where a size is symbolic."""
    if len(sizes) != len(scales):
        c.bad(f"scales has {len(scales)} values, expected {len(sizes)}")
    found: list[Any] = []
    for n, scale in zip(sizes, scales, strict=True):
        if not scale > 0:
            c.bad(f"scales has the value {scale}, expected positive ones")
        # In float32, as the models that made the scales were run: 10 * 0.7 is 7.
        known = None if isinstance(n, Dim) else int(np.float32(n) * np.float32(scale))
        found.append(known)
    return found, [float(s) for s in scales]


@op("Upsample", "Resize")
def upsample(c: Context) -> Tensor:
    """Resizing by scales; place i lies at i / scale. Resize is the same before version 11."""
    x = c.tensor(0)
    scales = c.known(1, "scales").ravel() if c.version >= 9 else c.attribute("scales")
    size, scale = _scaled(c, x.shape, list(scales))
    settings = {"coordinates": "asymmetric", "rounding": "floor", "axes": range(x.ndim)}
    return _resized(c, x, _method(c), size=size, scale=scale, **settings)


@op("Resize", since=11)
def resize(c: Context) -> Tensor:
    """Resizing to sizes or by scales, along all axes or some."""
    x = c.tensor(0)
    given = c.attribute("axes")
    axes = normalize_axes(c.op, x, given) if given is not None else tuple(range(x.ndim))
    shape = [x.shape[a] for a in axes]
    scaled = c.has(2) and c.value(2).shape != (0,)
    if scaled == c.has(3):
        c.bad("it needs either scales or sizes")
    size: list[Any]
    scale: Any
    if scaled:
        size, scale = _scaled(c, shape, list(c.known(2, "scales").ravel()))
    else:
        size, scale = _given_sizes(c, shape)
    word = c.attribute("coordinate_transformation_mode")
    region = None
    if word == "tf_crop_and_resize":
        word, region = "crop_and_resize", _region(c, len(axes))
        known = [all(isinstance(v, float) for v in r) for r in region]
        whole = [k and r == (0.0, 1.0) for k, r in zip(known, region, strict=True)]
    else:
        whole = [scale is None or f == 1.0 for f in scale or size]
    kept = [k for k, w in enumerate(whole) if not (w and shape[k] == size[k])]
    if not kept:
        return x
    return _resized(
        c,
        x,
        _method(c),
        size=[size[k] for k in kept],
        scale=None if scale is None else [scale[k] for k in kept],
        axes=[axes[k] for k in kept],
        coordinates=word,
        antialias=bool(c.attribute("antialias", 0)),
        rounding=c.attribute("nearest_mode"),
        cubic_coefficient=c.attribute("cubic_coeff_a"),
        exclude_outside=bool(c.attribute("exclude_outside")),
        region=None if region is None else [region[k] for k in kept],
        fill=c.attribute("extrapolation_value"),
    )


def _given_sizes(c: Context, shape: list[Size]) -> tuple[list[Any], Any]:
    """Sizes of the result, and scales where the ratio of the sizes is kept."""
    sizes = list(c.sizes(3, "sizes"))
    if len(sizes) != len(shape):
        c.bad(f"sizes has {len(sizes)} values, expected {len(shape)}")
    policy = c.attribute("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return sizes, None
    if policy not in ("not_larger", "not_smaller"):
        c.bad(f"attribute keep_aspect_ratio_policy is {policy!r:.40}, which is unknown")
    wanted, given = static_shape(sizes), static_shape(shape)
    if wanted is None or given is None:
        c.refuse(f"keep_aspect_ratio_policy {policy} of symbolic sizes")
    if 0 in given:
        c.bad(f"keep_aspect_ratio_policy {policy} of an empty image: it has no ratio")
    ratios = [s / n for s, n in zip(wanted, given, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [int(scale * n + 0.5) for n in given], [scale] * len(given)


def _region(c: Context, count: int) -> list[Any]:
    """(start, end) per axis of the operand roi: numbers, or 0-d tensors."""
    roi = c.value(1)
    if roi.shape != (2 * count,):
        c.bad(f"roi has the shape {list(roi.shape)}, expected [{2 * count}]")
    known = roi.known()
    if known is not None:
        ends = known.astype(float).tolist()
        return [(ends[k], ends[count + k]) for k in range(count)]
    return [(roi.tensor[k], roi.tensor[count + k]) for k in range(count)]


@op("GridSample")
def grid_sample(c: Context) -> Tensor:
    """Reading at the places of a grid."""
    x = c.tensor(0)
    settings = {
        "method": _method(c),
        "padding": c.attribute("padding_mode"),
        "align_corners": bool(c.attribute("align_corners")),
    }
    if x.dtype.is_float:
        return sampling.grid_sample(x, c.tensor(1), **settings)
    wide = sampling.grid_sample(cast(x, float32), c.tensor(1), **settings)
    return cast(wide, x.dtype)


@op("AffineGrid")
def affine_grid(c: Context) -> Tensor:
    """The grid of affine maps, for results of a size [N, C, *S]."""
    size = c.sizes(1, "size")
    if len(size) not in (4, 5):
        c.bad(f"size has {len(size)} values, expected 4 or 5")
    corners = bool(c.attribute("align_corners"))
    return sampling.affine_grid(c.tensor(0), size[2:], align_corners=corners)


@op("RoiAlign")
def roi_align(c: Context) -> Tensor:
    """Regions sampled into bins; as many samples as elements where sampling_ratio is 0."""
    word = c.attribute("coordinate_transformation_mode", "output_half_pixel")
    if word not in ("half_pixel", "output_half_pixel"):
        c.bad(f"attribute coordinate_transformation_mode is {word!r:.40}, which is unknown")
    return sampling.roi_align(
        c.tensor(0),
        c.tensor(1),
        c.tensor(2),
        (c.attribute("output_height"), c.attribute("output_width")),
        scale=c.attribute("spatial_scale"),
        samples=c.attribute("sampling_ratio"),
        aligned=word == "half_pixel",
        method=c.attribute("mode"),
    )


@op("DepthToSpace")
def depth_to_space(c: Context) -> Tensor:
    """Channels as blocks of space."""
    return pixels.depth_to_space(c.tensor(0), c.attribute("blocksize"), order=_order(c))


@op("SpaceToDepth")
def space_to_depth(c: Context) -> Tensor:
    """Blocks of space as channels."""
    return pixels.space_to_depth(c.tensor(0), c.attribute("blocksize"), order=_order(c))


def _order(c: Context) -> str:
    word = c.attribute("mode", "DCR")
    if word not in ("DCR", "CRD"):
        c.bad(f"attribute mode is {word!r:.40}, expected DCR or CRD")
    return "depth_first" if word == "DCR" else "channel_first"


@op("CenterCropPad")
def center_crop_pad(c: Context) -> Tensor:
    """The middle of x, cut or padded by zeros to a shape; the odd element goes high."""
    x = c.tensor(0)
    given = c.attribute("axes")
    axes = normalize_axes(c.op, x, given) if given is not None else tuple(range(x.ndim))
    shape = c.sizes(1, "shape")
    if len(shape) != len(axes):
        c.bad(f"shape has {len(shape)} values, expected {len(axes)}")
    for axis, size in zip(axes, shape, strict=True):
        n = x.shape[axis]
        if n == size:
            continue
        if isinstance(n, Dim) or isinstance(size, Dim):
            c.refuse(f"whether axis {axis} of size {n} is cut or padded to {size} is not known")
        if size < n:
            x = take_slice(x, axis, (n - size) // 2, size)
        else:
            low = [(size - n) // 2 if a == axis else 0 for a in range(x.ndim)]
            high = [size - n - (size - n) // 2 if a == axis else 0 for a in range(x.ndim)]
            x = padded(x, tuple(low), tuple(high))
    return x


@op("Col2Im")
def col2im(c: Context) -> Tensor:
    """Blocks [N, C * prod(block), L] summed into an image [N, C, *S]."""
    x = c.tensor(0)
    image, block = c.sizes(1, "image_shape"), c.ints(2, "block_shape")
    rank = len(image)
    if x.ndim != 3 or rank != len(block) or rank < 1 or any(k < 1 for k in block):
        c.bad(f"operand 0 is {x.type}, expected [N, C * {list(block)}, L] for {list(image)}")
    steps, gaps = per_axis(c, "strides", rank, 1), per_axis(c, "dilations", rank, 1)
    pads = pads_of(c, rank)
    whole = tuple(n + a + b for n, (a, b) in zip(image, pads, strict=True))
    counts = tuple(
        (n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(whole, block, steps, gaps, strict=True)
    )
    channels = x.shape[1] // int(np.prod(block))
    apart = to_shape(x, (x.shape[0], channels, *block, *counts))
    within = tuple(range(2, 2 + rank))
    apart = permuted(apart, (0, 1, *range(2 + rank, 2 + 2 * rank), *within))
    out = fold(apart, whole, steps, gaps, axes=within)
    for axis, ((low, _), n) in enumerate(zip(pads, image, strict=True), 2):
        out = take_slice(out, axis, low, n)
    return out


@op("NonMaxSuppression")
def suppress(c: Context) -> Tensor:
    """Which boxes stay beside better ones that they overlap: (example, class, box) per row."""
    most = c.optional(2)
    return non_max_suppression(
        c.tensor(0),
        c.tensor(1),
        0 if most is None else _scalar(c, most),
        _scalar(c, c.tensor(3)) if c.has(3) else 0.0,
        _scalar(c, c.tensor(4)) if c.has(4) else None,
        center_point_box=bool(c.attribute("center_point_box")),
    )


def _scalar(c: Context, x: Tensor) -> Tensor:
    """One element as a 0-d tensor."""
    if x.shape not in ((), (1,)):
        c.bad(f"an operand is {x.type}, expected one number")
    return to_shape(x, ())
