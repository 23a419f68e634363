"""Signals (floor 8): Fourier transforms, windows, mel filters."""

from __future__ import annotations

import numpy as np

from graphc.base.dims import Dim, Size
from graphc.base.dtypes import Array, DType, float32, float64, int64
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, op
from graphc.onnx.fourier import Pair, transformed
from graphc.onnx.values import Value, of_array
from graphc.ops import elementwise, elementwise_math
from graphc.ops.axes import normalize_axis
from graphc.ops.creation import IOTA
from graphc.ops.joining import concat, padded, stack, take_slice
from graphc.ops.promotion import as_tensor, cast
from graphc.ops.view import flip, moveaxis
from graphc.ops.windows import window_view


def _parts(c: Context, x: Tensor) -> Pair:
    """Real and imaginary part of x […, 1 or 2], in the dtype to compute in."""
    if x.ndim < 2 or x.shape[-1] not in (1, 2):
        c.bad(f"operand 0 is {x.type}, expected a last dim of 1 (real) or 2 (complex)")
    wide = cast(x, float32) if x.dtype.bits == 16 else x
    return wide[..., 0], wide[..., 1] if x.shape[-1] == 2 else None


def _length(c: Context, k: int) -> Size:
    sizes = c.sizes(k, "the length")
    if len(sizes) != 1 or (isinstance(sizes[0], int) and sizes[0] < 1):
        c.bad(f"operand {k} is {list(sizes)}, expected one positive length")
    return sizes[0]


def _of_length(x: Tensor, size: Size) -> Tensor:
    """x cut or padded by zeros at the end of its last axis."""
    n = x.shape[-1]
    missing = size - n
    if not isinstance(missing, Dim) and missing <= 0:
        return x if missing == 0 else take_slice(x, x.ndim - 1, 0, size)
    return padded(x, (0,) * x.ndim, (*(0,) * (x.ndim - 1), missing))


@op("DFT")
def dft(c: Context) -> Tensor:
    """The transform along an axis, or its inverse; one half of a real signal's where onesided."""
    x = c.tensor(0)
    if c.version >= 20:
        given = c.number(2, "axis") if c.has(2) else -2
    else:
        given = c.attribute("axis")
    axis = normalize_axis(c.op, x, given)
    if axis == x.ndim - 1:
        c.bad("the axis must not be the last one, which holds real and imaginary parts")
    inverse, onesided = bool(c.attribute("inverse")), bool(c.attribute("onesided"))
    real, imaginary = _parts(c, x)
    pair: Pair = (moveaxis(real, axis, -1), None)
    if imaginary is not None:
        pair = (pair[0], moveaxis(imaginary, axis, -1))
    n = pair[0].shape[-1]
    size = _length(c, 1) if c.has(1) else 2 * (n - 1) if inverse and onesided else n
    if inverse and onesided:
        out = moveaxis(_real_inverse(c, pair, size), -1, axis)
        return cast(out[..., None], x.dtype)
    if onesided and imaginary is not None:
        c.bad("onesided needs a real signal: a last dim of 1")
    cut = (_of_length(pair[0], size), None if pair[1] is None else _of_length(pair[1], size))
    found = transformed(cut, size, inverse)
    if onesided:
        found = _half(found, size)
    joined = stack([moveaxis(part, -1, axis) for part in found], axis=-1)
    return cast(joined, x.dtype)


def _half(pair: tuple[Tensor, Tensor], size: Size) -> tuple[Tensor, Tensor]:
    a, b = (take_slice(p, p.ndim - 1, 0, size // 2 + 1) for p in pair)
    return a, b


def _real_inverse(c: Context, pair: Pair, size: Size) -> Tensor:
    """The real signal of `size` whose transform begins with `pair`."""
    if isinstance(size, Dim):
        c.refuse(f"the inverse of half a transform of the symbolic size {size}")
    kept = size // 2 + 1
    real = _of_length(pair[0], kept)
    imaginary = _of_length(pair[1], kept) if pair[1] is not None else real * 0.0
    mirrored = (size - 1) // 2  # all but the first and, in even sizes, the middle one
    last = real.ndim - 1

    def whole(part: Tensor, sign: float) -> Tensor:
        tail = flip(take_slice(part, last, 1, mirrored), axis=last) * sign
        return concat([part, tail], axis=last)

    return transformed((whole(real, 1.0), whole(imaginary, -1.0)), size, inverse=True)[0]


@op("STFT")
def stft(c: Context) -> Tensor:
    """Transforms of the frames of a signal [N, length, 1 or 2], weighted by a window."""
    x = c.tensor(0)
    if x.ndim != 3:
        c.bad(f"operand 0 is {x.type}, expected [N, length, 1 or 2]")
    step = int(c.number(1, "frame_step"))
    window = c.optional(2)
    size: Size
    if c.has(3):
        size = int(c.number(3, "frame_length"))
    else:
        size = window.shape[0] if window is not None and window.ndim else x.shape[1]
    if step < 1 or isinstance(size, Dim) or size < 1:
        c.bad(f"frame_step is {step} and frame_length {size}, expected known positive ones")
    onesided = bool(c.attribute("onesided"))
    real, imaginary = _parts(c, x)
    if onesided and imaginary is not None:
        c.bad("onesided needs a real signal: a last dim of 1")
    frames = [
        None if part is None else _framed(c, part, size, step, window) for part in (real, imaginary)
    ]
    assert frames[0] is not None
    found = transformed((frames[0], frames[1]), size)
    if onesided:
        found = _half(found, size)
    return cast(stack(list(found), axis=-1), x.dtype)


def _framed(c: Context, x: Tensor, size: int, step: int, window: Tensor | None) -> Tensor:
    """The frames of x [N, length] as [N, frames, size], weighted."""
    frames = window_view(x, (1,), (size,), (step,), (1,))
    if window is None:
        return frames
    if window.shape != (size,):
        c.bad(f"the window is {window.type}, expected [{size}]")
    return elementwise.multiply(frames, cast(window, frames.dtype))


# -- windows and filters --------------------------------------------------------------------------

# Terms of each window: value(n) = sum of (-1)**k * a[k] * cos(2 pi k n / N).
_TERMS: dict[str, tuple[float, ...]] = {
    "HannWindow": (0.5, 0.5),
    "HammingWindow": (25.0 / 46.0, 21.0 / 46.0),
    "BlackmanWindow": (0.42, 0.5, 0.08),
}


@op("HannWindow", "HammingWindow", "BlackmanWindow")
def window_function(c: Context) -> Tensor:
    """A cosine window, periodic or symmetric."""
    sizes = c.sizes(0, "size")
    if len(sizes) != 1 or (isinstance(sizes[0], int) and sizes[0] < 0):
        c.bad(f"size is {list(sizes)}, expected one size")
    dtype = c.dtype(c.attribute("output_datatype"), "output_datatype")
    size = sizes[0]
    period = size if c.attribute("periodic") else size - 1
    if not isinstance(period, Dim):
        period = max(period, 1)
    place = IOTA(shape=(size,), axis=0, dtype=float64)
    angle = place * (2.0 * np.pi) / cast(as_tensor(period, like=int64), float64)
    total: Tensor | None = None
    for k, a in enumerate(_TERMS[c.op]):
        term = elementwise_math.cos(angle * float(k)) * (a if k % 2 == 0 else -a)
        total = term if total is None else elementwise.add(total, term)
    assert total is not None
    return cast(total, dtype)


@op("MelWeightMatrix")
def mel_weight_matrix(c: Context) -> Value:
    """Triangles over the bins of a transform, evenly spaced in mel: [bins, filters]."""
    dtype = c.dtype(c.attribute("output_datatype"), "output_datatype")
    count, length, rate = (
        int(c.number(k, what))
        for k, what in ((0, "num_mel_bins"), (1, "dft_length"), (2, "sample_rate"))
    )
    low, high = (
        float(c.number(k, what)) for k, what in ((3, "lower_edge_hertz"), (4, "upper_edge_hertz"))
    )
    bins = length // 2 + 1
    if count < 0 or length < 0 or rate < 1 or bins * max(count, 1) > c.importer.limits.size:
        c.bad(f"{count} filters of a transform of {length} at {rate} Hz, expected positive numbers")
    ends = [2595.0 * np.log10(1.0 + f / 700.0) for f in (low, high)]
    mel = ends[0] + np.arange(count + 2) * (ends[1] - ends[0]) / (count + 2)
    hertz = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    edges = np.floor((length + 1) * hertz / rate).astype(np.int64)
    if count and (edges[0] < 0 or edges[-1] >= bins + 1):
        c.bad(f"the edges {low} and {high} Hz lie outside of the transform")
    return of_array(_triangles(edges, bins, count, dtype), dtype)


def _triangles(edges: Array, bins: int, count: int, dtype: DType) -> Array:
    places = np.arange(bins)[:, None]
    left, middle, right = edges[:count], edges[1 : count + 1], edges[2:]
    rise, fall = middle - left, right - middle
    up = np.where(rise > 0, (places - left) / np.maximum(rise, 1), places == middle)
    down = np.where(fall > 0, (right - places) / np.maximum(fall, 1), 0.0)
    rising = (places >= left) & (places <= middle)
    falling = (places >= middle) & (places < right) & (fall > 0)
    found = np.where(rising, up, 0.0)
    return np.where(falling, down, found).astype(dtype.numpy)
