"""Sliding windows (floor 2): the views that convolutions and pools are made of.

`windows` gives each window its own trailing axes; its transpose `fold` sums overlapping windows
back in gather form: an aligned view, zero where a window does not reach, and a sum over the window
axes.

    windows:          out[..., o, ..., k] = x[..., o * stride + k * dilation, ...]
    align_windows:    out[..., i, ..., k] = x[..., (i - k * dilation) / stride, ..., k], or 0
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Shape, Size
from graphc.base.dtypes import ALL, Array, DType
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, shape_error
from graphc.ops.axes import Axes, normalize_axes, per_axis
from graphc.ops.families import Map
from graphc.ops.joining import take_slice
from graphc.ops.promotion import TensorLike, as_tensor
from graphc.ops.reduction import SUM
from graphc.ops.reshape import split_axis
from graphc.ops.sampling import draw, strided
from graphc.ops.view import permuted

Ints = tuple[int, ...]


def window_count(size: Size, window: int, stride: int, dilation: int) -> Size:
    """How many windows of `window` elements fit into `size`."""
    return (size - (window - 1) * dilation - 1) // stride + 1


def _place(e: Any, o: Any, k: Any, stride: int, dilation: int) -> Any:
    return e.add(e.mul(o, e.size(stride)), e.mul(k, e.size(dilation)))


# -- windows --------------------------------------------------------------------------------------


def _windows_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,), (axes, size, stride, dilation) = inputs, attrs
    assert isinstance(x, Tensor)
    shape = list(x.shape)
    for a, k, s, d in zip(axes, size, stride, dilation, strict=True):
        if k < 1 or s < 1 or d < 1:
            shape_error(
                f"windows: size, stride and dilation must be at least 1, got {k}, {s}, {d}", [x]
            )
        count = window_count(x.shape[a], k, s, d)
        if isinstance(count, int) and count < 1:
            shape_error(
                f"windows: a window of {(k - 1) * d + 1} elements does not fit axis {a} of size "
                f"{x.shape[a]}",
                [x],
                "use a smaller window, or padding",
            )
        shape[a] = count
    return TensorType((*shape, *size), x.dtype)


def _windows_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    axes, stride, dilation = node.attr("axes"), node.attr("stride"), node.attr("dilation")
    ndim = node.inputs[0].ndim
    places = list(index[:ndim])
    for a, k, s, d in zip(axes, index[ndim:], stride, dilation, strict=True):
        places[a] = _place(e, places[a], k, s, d)
    return e.element(0, places)


def _windows_reference(x: Array, axes: Ints, size: Ints, stride: Ints, dilation: Ints) -> Array:
    reach = tuple((k - 1) * d + 1 for k, d in zip(size, dilation, strict=True))
    view: Array = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
    steps = [slice(None)] * x.ndim
    for a, s in zip(axes, stride, strict=True):
        steps[a] = slice(None, None, s)
    return view[(*steps, *(slice(None, None, d) for d in dilation))]


def _windows_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    axes, shape = node.attr("axes"), node.inputs[0].shape
    return [
        folded(g, axes, node.attr("stride"), node.attr("dilation"), tuple(shape[a] for a in axes))
    ]


_WINDOWS: tuple[tuple[tuple[int, ...], Ints, Ints, Ints, Ints], ...] = (
    ((1,), (0,), (1,), (1,), (1,)),
    ((0, 5), (1,), (2,), (1,), (1,)),
    ((9,), (0,), (3,), (2,), (1,)),
    ((9,), (0,), (3,), (1,), (2,)),
    ((2, 11), (1,), (2,), (3,), (4,)),
    ((2, 3, 7, 8), (2, 3), (3, 2), (2, 1), (1, 3)),
    ((2, 3, 7, 8), (3, 2), (2, 3), (1, 1), (1, 1)),
)


def _windows_samples(dtype: DType) -> list[Sample]:
    found = []
    for shape, axes, size, stride, dilation in _WINDOWS:
        attrs = {"axes": axes, "size": size, "stride": stride, "dilation": dilation}
        found += [
            Sample((draw(shape, dtype),), attrs),
            Sample((strided(draw(shape, dtype)),), attrs),
        ]
    return found


WINDOWS = REGISTRY.add(
    OpDef(
        "windows",
        ("axes", "size", "stride", "dilation"),
        _windows_type,
        _windows_reference,
        _windows_gradient,
        Map(_windows_element),
        doc="All windows of x along axes, the place within a window as trailing axes.",
        samples=_windows_samples,
        dtypes=ALL,
    )
)


# -- align_windows and its transpose --------------------------------------------------------------


def _aligned_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,), (axes, _, _, sizes) = inputs, attrs
    assert isinstance(x, Tensor)
    shape = list(x.shape)
    for a, size in zip(axes, sizes, strict=True):
        if a >= x.ndim - len(axes):
            shape_error(f"align_windows: axis {a} of {x.type} is a window axis", [x])
        shape[a] = size
    return TensorType(tuple(shape), x.dtype)


def _align_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    (x,), (axes, stride, dilation, _) = node.inputs, node.attrs
    places = list(index)
    zero = e.size(0)
    inside = None
    for a, k, s, d in zip(axes, index[x.ndim - len(axes) :], stride, dilation, strict=True):
        start = e.sub(index[a], e.mul(k, e.size(d)))
        o = start if s == 1 else e.op("floordiv", start, e.size(s))
        ok = e.bit_and(e.ge(start, zero), e.lt(o, e.size(x.shape[a])))
        if s > 1:
            ok = e.bit_and(ok, e.eq(e.op("mod", start, e.size(s)), zero))
        inside = ok if inside is None else e.bit_and(inside, ok)
        places[a] = o
    return e.element(0, places, where=inside, fill=0)


def _align_reference(x: Array, axes: Ints, stride: Ints, dilation: Ints, sizes: Ints) -> Array:
    grids = np.indices([*_replaced(x.shape, axes, sizes)], sparse=True)
    ok: Array = np.asarray(True)
    places: list[Any] = list(grids)
    first = x.ndim - len(axes)
    for j, (a, s, d) in enumerate(zip(axes, stride, dilation, strict=True)):
        start = grids[a] - grids[first + j] * d
        o = start // s
        ok = ok & (start % s == 0) & (o >= 0) & (o < x.shape[a])
        places[a] = np.clip(o, 0, max(x.shape[a] - 1, 0))
    if x.size == 0:
        return np.zeros(_replaced(x.shape, axes, sizes), x.dtype)
    return np.where(ok, x[tuple(places)], np.zeros((), x.dtype))


def _replaced(shape: Sequence[int], axes: Ints, sizes: Ints) -> Ints:
    result = list(shape)
    for a, size in zip(axes, sizes, strict=True):
        result[a] = size
    return tuple(result)


def _align_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    (x,), (axes, stride, dilation, _) = node.inputs, node.attrs
    sizes = tuple(x.shape[a] for a in axes)
    return [UNALIGN_WINDOWS(g, axes=axes, stride=stride, dilation=dilation, sizes=sizes)]


def _unalign_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    (x,), (axes, stride, dilation, _) = node.inputs, node.attrs
    places = list(index)
    inside = None
    for a, k, s, d in zip(axes, index[x.ndim - len(axes) :], stride, dilation, strict=True):
        places[a] = _place(e, index[a], k, s, d)
        ok = e.lt(places[a], e.size(x.shape[a]))
        inside = ok if inside is None else e.bit_and(inside, ok)
    return e.element(0, places, where=inside, fill=0)


def _unalign_reference(x: Array, axes: Ints, stride: Ints, dilation: Ints, sizes: Ints) -> Array:
    shape = _replaced(x.shape, axes, sizes)
    grids = np.indices(shape, sparse=True)
    ok: Array = np.asarray(True)
    places: list[Any] = list(grids)
    first = x.ndim - len(axes)
    for j, (a, s, d) in enumerate(zip(axes, stride, dilation, strict=True)):
        i = grids[a] * s + grids[first + j] * d
        ok = ok & (i < x.shape[a])
        places[a] = np.clip(i, 0, max(x.shape[a] - 1, 0))
    if x.size == 0:
        return np.zeros(shape, x.dtype)
    return np.where(ok, x[tuple(places)], np.zeros((), x.dtype))


def _unalign_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    (x,), (axes, stride, dilation, _) = node.inputs, node.attrs
    sizes = tuple(x.shape[a] for a in axes)
    return [ALIGN_WINDOWS(g, axes=axes, stride=stride, dilation=dilation, sizes=sizes)]


def _aligned_samples(transposed: bool) -> Callable[[DType], list[Sample]]:
    def samples(dtype: DType) -> list[Sample]:
        found = []
        for shape, axes, size, stride, dilation in _WINDOWS:
            counts = tuple(
                int(window_count(shape[a], k, s, d) if not isinstance(shape[a], Dim) else 0)
                for a, k, s, d in zip(axes, size, stride, dilation, strict=True)
            )
            whole = tuple(shape[a] for a in axes)
            own, other = (whole, counts) if transposed else (counts, whole)
            x = draw((*_replaced(shape, axes, own), *size), dtype)
            attrs = {"axes": axes, "stride": stride, "dilation": dilation, "sizes": other}
            found.append(Sample((x,), attrs))
        return found

    return samples


ALIGN_WINDOWS = REGISTRY.add(
    OpDef(
        "align_windows",
        ("axes", "stride", "dilation", "sizes"),
        _aligned_type,
        _align_reference,
        _align_gradient,
        Map(_align_element),
        doc="The windows' elements at the places of the whole that they came from; 0 elsewhere.",
        samples=_aligned_samples(transposed=False),
        dtypes=ALL,
    )
)
UNALIGN_WINDOWS = REGISTRY.add(
    OpDef(
        "unalign_windows",
        ("axes", "stride", "dilation", "sizes"),
        _aligned_type,
        _unalign_reference,
        _unalign_gradient,
        Map(_unalign_element),
        doc="The transpose of align_windows: each window's own elements out of aligned ones.",
        samples=_aligned_samples(transposed=True),
        dtypes=ALL,
    )
)


# -- functions ------------------------------------------------------------------------------------


def folded(g: Tensor, axes: Ints, stride: Ints, dilation: Ints, sizes: Shape) -> Tensor:
    """The transpose of `windows`: overlapping windows summed into axes of `sizes`."""
    aligned = ALIGN_WINDOWS(g, axes=axes, stride=stride, dilation=dilation, sizes=sizes)
    return SUM(aligned, axes=tuple(range(g.ndim - len(axes), g.ndim)), keepdims=False)


def lie_side_by_side(x: Tensor, axes: Ints, size: Ints, stride: Ints, dilation: Ints) -> bool:
    """Whether windows along axes of known size neither overlap nor leave gaps."""
    for a, k, s, d in zip(axes, size, stride, dilation, strict=True):
        apart = s == k and (d == 1 or k == 1)
        if not apart or isinstance(x.shape[a], Dim) or x.shape[a] < k:
            return False
    return True


def split_windows(x: Tensor, axes: Ints, size: Ints) -> tuple[Tensor, Ints]:
    """Windows side by side as a reshape: each axis, followed by the places within its windows; and
    where those are, in the order of `axes`.
    """
    for a, k in zip(axes, size, strict=True):
        x = take_slice(x, a, 0, x.shape[a] // k * k)
    inner: dict[int, int] = {}
    for a, k in sorted(zip(axes, size, strict=True)):
        place = a + len(inner)
        x = split_axis(x, place, (x.shape[place] // k, k))
        inner[a] = place + 1
    return x, tuple(inner[a] for a in axes)


def window_view(x: Tensor, axes: Ints, size: Ints, stride: Ints, dilation: Ints) -> Tensor:
    """`windows` on checked arguments.

    Windows side by side are a reshape, whose gradient needs no sum.
    """
    if not lie_side_by_side(x, axes, size, stride, dilation):
        return WINDOWS(x, axes=axes, size=size, stride=stride, dilation=dilation)
    x, inner = split_windows(x, axes, size)
    return permuted(x, (*(i for i in range(x.ndim) if i not in inner), *inner))


def windows(
    x: TensorLike,
    size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    *,
    axes: Axes = None,
) -> Tensor:
    """All windows of `size` elements along `axes`, `stride` apart, their elements `dilation` apart.

    The result has the number of windows at each of `axes` and one more trailing axis per window
    axis: out[..., o, ..., k] = x[..., o * stride + k * dilation, ...]. Nothing is copied. Raises
    ShapeError where a window does not fit.

        graphc.windows(x, 3, axes=-1).shape      # (..., n - 2, 3)
    """
    x = as_tensor(x, op="windows")
    places = normalize_axes("windows", x, axes)
    n = len(places)
    return window_view(
        x,
        places,
        per_axis("windows", "size", size, n, [x]),
        per_axis("windows", "stride", stride, n, [x]),
        per_axis("windows", "dilation", dilation, n, [x]),
    )


def fold(
    x: TensorLike,
    sizes: Any,
    stride: int | Sequence[int] = 1,
    dilation: int | Sequence[int] = 1,
    *,
    axes: Axes,
) -> Tensor:
    """Windows (as `windows` makes them) summed back into axes of `sizes`: its transpose."""
    x = as_tensor(x, op="fold")
    count = len(axes) if isinstance(axes, Sequence) else 1
    places = normalize_axes("fold", x, axes, x.ndim - count)
    whole: Shape = tuple(sizes) if isinstance(sizes, Sequence) else (sizes,)
    if len(whole) != count:
        shape_error(f"fold: needs {count} sizes, one per axis, got {len(whole)}", [x])
    steps = per_axis("fold", "stride", stride, count, [x])
    gaps = per_axis("fold", "dilation", dilation, count, [x])
    return folded(x, places, steps, gaps, whole)
