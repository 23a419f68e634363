"""Resizing (floor 8): nearest, linear and cubic along any axes, each axis by itself.

Per axis a few *taps* are read: at result i the elements k[i] + 0, 1, … of x, weighted. Where the
sizes are known, places and weights are constants of NumPy; where they are symbolic, the same
expressions, written in NumPy's words, are computed by the graph. The cubic kernel is that of Keys
(1981); `antialias` widens the kernel by the factor of shrinking.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Size
from graphc.base.dtypes import DType, float32, float64, int64
from graphc.base.errors import UnsupportedError
from graphc.ir.node import Tensor
from graphc.ir.opdef import fail, shape_error
from graphc.ops import elementwise
from graphc.ops.axes import Axes, as_size, normalize_axes
from graphc.ops.contraction import EINSUM, LETTERS, tidy
from graphc.ops.creation import IOTA
from graphc.ops.indexing import take
from graphc.ops.promotion import TensorLike, as_tensor, cast
from graphc.ops.reduction import as_float
from graphc.ops.reshape import to_shape

METHODS = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "crop_and_resize",
)
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")

# Up to so many taps are read one by one; more are a product with a matrix.
_FEW_TAPS = 4


def cubic_weights(t: Any, a: float) -> list[Any]:
    """Keys' weights of the elements -1, 0, 1, 2 around a place `t` (0 to 1) past element 0."""
    u = 1.0 - t
    return [
        ((a * (t + 1.0) - 5.0 * a) * (t + 1.0) + 8.0 * a) * (t + 1.0) - 4.0 * a,
        ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0,
        ((a + 2.0) * u - (a + 3.0)) * u * u + 1.0,
        ((a * (u + 1.0) - 5.0 * a) * (u + 1.0) + 8.0 * a) * (u + 1.0) - 4.0 * a,
    ]


def _number(value: Any) -> Any:
    """A size or a number as what arithmetic of coordinates takes: a float, or a 0-d float64."""
    if isinstance(value, Dim | Tensor):
        return cast(as_tensor(value, like=int64), float64)
    return float(value)


def _coordinates(word: str, n: Size, count: Size, scale: Any, span: Any) -> Any:
    """Where results 0 … count - 1 lie in x, as float64: of NumPy where everything is known.

    span: (start, end) of "crop_and_resize" as shares of the axis.
    """
    known = not any(isinstance(v, Dim | Tensor) for v in (n, count, scale, *(span or ())))
    y: Any
    if known and not isinstance(count, Dim):
        y = np.arange(count, dtype=np.float64)
    else:
        y = IOTA(shape=(count,), axis=0, dtype=float64)
    size = _number(n)
    factor = _number(scale)
    wide = factor * size  # the size of the result before it was rounded down
    if word == "asymmetric":
        return y / factor
    if word in ("align_corners", "crop_and_resize"):
        start, end = (0.0, 1.0) if word == "align_corners" else (_number(v) for v in span)
        reach = (end - start) * (size - 1.0)
        # One result alone lies at the start (corners) or in the middle (of a crop).
        middle = 0.0 if word == "align_corners" else 0.5
        if isinstance(wide, Tensor):
            one = np.equal(wide, 1.0)
            steps = np.where(one, 1.0, wide - 1.0)
            place = np.where(one, middle * reach, y * reach / steps)
        else:
            place = y * 0.0 + middle * reach if wide == 1.0 else y * reach / (wide - 1.0)
        return place + start * (size - 1.0)
    place = (y + 0.5) / factor - 0.5
    if word == "pytorch_half_pixel":
        if not isinstance(wide, Tensor):
            return place if wide != 1.0 else y * 0.0 - 0.5
        return np.where(np.equal(wide, 1.0), -0.5, place)
    if word == "half_pixel_symmetric":
        # The cut-off rest of the result is shared by both ends.
        place = place + size / 2.0 * (1.0 - _number(count) / wide)
    return place


def _nearest(place: Any, rounding: str) -> Any:
    if rounding == "floor":
        return np.floor(place)
    if rounding == "ceil":
        return np.ceil(place)
    if rounding == "round_prefer_floor":
        return np.ceil(place - 0.5)
    return np.floor(place + 0.5)


def _kernel(t: Any, method: str, shrink: float, a: float) -> tuple[int, list[Any]]:
    """The first tap relative to the element at or below a place and the weights of the taps.

    t: how far the place is past that element, over 0 to 1.
    """
    if shrink >= 1.0:
        return (0, [1.0 - t, t]) if method == "linear" else (-1, cubic_weights(t, a))
    reach = 1.0 if method == "linear" else 2.0
    first = math.floor(-reach / shrink) + 1
    weights = []
    for i in range(first, 2 - first):
        d = np.abs((i - t) * shrink)
        if method == "linear":
            weights.append(np.clip(1.0 - d, 0.0, 1.0))
        else:
            near = ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
            far = ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
            weights.append(np.where(d <= 1.0, near, np.where(d < 2.0, far, 0.0)))
    total = _total(weights)
    return first, [w / total for w in weights]


def _total(terms: Sequence[Any]) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _taps(
    place: Any, n: Size, method: str, shrink: float, a: float, exclude_outside: bool
) -> list[tuple[Any, Any]]:
    """(index, weight) per tap; indices within 0 … n - 1, outside the edge repeats."""
    # The element below a place that is an element itself is the one to its left: with t = 1.
    below = np.ceil(place) - 1.0
    first, weights = _kernel(place - below, method, shrink, a)
    last = _number(n) - 1.0
    places = [below + float(first + i) for i in range(len(weights))]
    if exclude_outside:
        inside = [np.logical_and(p >= 0.0, p <= last) for p in places]
        weights = [np.where(i, w, 0.0) for i, w in zip(inside, weights, strict=True)]
        total = _total(weights)
        total = np.where(total == 0.0, 1.0, total)
        weights = [w / total for w in weights]
    return [(_index(p, last), w) for p, w in zip(places, weights, strict=True)]


def _index(place: Any, last: Any) -> Any:
    inside = np.minimum(np.maximum(place, 0.0), last)
    return cast(inside, int64) if isinstance(inside, Tensor) else inside.astype(np.int64)


def _along(x: Tensor, axis: int, values: Any) -> Tensor:
    """Values per place of an axis, so shaped that they broadcast with x, in its dtype."""
    tensor = cast(as_tensor(values), x.dtype)
    return to_shape(tensor, (*tensor.shape, *(1,) * (x.ndim - 1 - axis)))


def _weighted(x: Tensor, axis: int, taps: Sequence[tuple[Any, Any]]) -> Tensor:
    """The sum of x at the taps' indices along an axis times their weights."""
    n = x.shape[axis]
    dense = len(taps) > _FEW_TAPS and isinstance(n, int)
    if not dense or any(isinstance(v, Tensor) for tap in taps for v in tap):
        terms = [elementwise.multiply(take(x, i, axis=axis), _along(x, axis, w)) for i, w in taps]
        total: Tensor = _total(terms)
        return total
    assert isinstance(n, int)
    rows = np.arange(len(taps[0][0]))
    matrix = np.zeros((len(rows), n))
    for i, w in taps:
        np.add.at(matrix, (rows, i), w)
    letters, new = LETTERS[: x.ndim], LETTERS[x.ndim]
    result = letters.replace(letters[axis], new)
    spec = tidy(f"{letters},{new}{letters[axis]}->{result}")
    return EINSUM(x, cast(as_tensor(matrix), x.dtype), spec=spec)


def _scaled_size(x: Tensor, n: Size, scale: float) -> Size:
    """floor(n * scale); of a symbolic size only for scales that are simple fractions."""
    if not isinstance(n, Dim):
        return math.floor(n * scale)
    ratio = importlib.import_module("graphc.nn.simple_fractions").simple_fraction(scale)
    if ratio is None:
        fail(
            UnsupportedError,
            f"resize: the symbolic size {n} times {scale} is no size",
            [x],
            "scale symbolic sizes by simple fractions such as 2, 0.5 or 1.5, or give the size",
        )
    above, below = ratio
    return n * int(above) // int(below)


def _settings(x: Tensor, axes: tuple[int, ...], size: Any, scale: Any) -> list[tuple[Size, Any]]:
    """(size, scale) of the result per axis. A scale is a float, or a 0-d tensor for symbols."""
    if size is None and scale is None:
        shape_error("resize: needs a size or a scale", [x], "size=(224, 224), or scale=2")

    def given(what: str, value: Any) -> list[Any]:
        if value is None:
            return [None] * len(axes)
        if isinstance(value, Sequence | np.ndarray):
            if len(value) != len(axes):
                shape_error(
                    f"resize: needs one {what} per resized axis ({len(axes)}), got {len(value)}",
                    [x],
                    f"one {what} for all, or one per axis of axes={axes}",
                )
            return list(value)
        return [value] * len(axes)

    found: list[tuple[Size, Any]] = []
    for axis, s, f in zip(axes, given("size", size), given("scale", scale), strict=True):
        n = x.shape[axis]
        if f is not None and not f > 0:
            shape_error(f"resize: a scale must be positive, got {f!r:.40}", [x])
        if s is None:
            found.append((_scaled_size(x, n, float(f)), float(f)))
            continue
        count = as_size("resize", s, [x])
        if f is None and not isinstance(n, Dim) and not isinstance(count, Dim):
            f = count / n if n else 1.0
        elif f is None:
            f = 1.0 if count == n else elementwise.divide(_number(count), _number(n))
        found.append((count, f))
    return found


def _regions(x: Tensor, coordinates: str, axes: tuple[int, ...], region: Any) -> Sequence[Any]:
    """The region's (start, end) per axis; None per axis without."""
    if (region is None) == (coordinates == "crop_and_resize"):
        shape_error(
            'resize: region and coordinates="crop_and_resize" need each other',
            [x],
            "region has a (start, end) per axis, as shares of it",
        )
    spans = [None] * len(axes) if region is None else list(region)
    if len(spans) != len(axes):
        shape_error(f"resize: region needs {len(axes)} pairs, got {len(spans)}", [x])
    return spans


def _filled_outside(x: Tensor, axis: int, place: Any, n: Size, fill: float) -> Tensor:
    """`fill` at the results of an axis whose places lie outside of its n elements."""
    inside = as_tensor(np.logical_and(place >= 0.0, place <= _number(n) - 1.0))
    inside = to_shape(inside, (*inside.shape, *(1,) * (x.ndim - 1 - axis)))
    return elementwise.where(inside, x, cast(as_tensor(fill), x.dtype))


def _word(what: str, given: str, known: Sequence[str], x: Tensor) -> None:
    if given not in known:
        shape_error(f"resize: unknown {what} {given!r:.40}", [x], f"use one of {', '.join(known)}")


def _shrinking(x: Tensor, antialias: bool, scale: Any) -> float:
    if not antialias:
        return 1.0
    if isinstance(scale, Tensor):
        fail(
            UnsupportedError,
            "resize: the kernel of antialias=True depends on a symbolic size",
            [x],
            "give the scale as a number, or declare the sizes as ints",
        )
    return min(float(scale), 1.0)


def _work_dtype(x: Tensor) -> DType:
    return float32 if x.dtype.bits == 16 else x.dtype


def resize(
    x: TensorLike,
    size: Any = None,
    *,
    scale: Any = None,
    axes: Axes = None,
    method: str = "linear",
    coordinates: str = "half_pixel",
    antialias: bool = False,
    rounding: str = "round_prefer_floor",
    cubic_coefficient: float = -0.75,
    exclude_outside: bool = False,
    region: Any = None,
    fill: float = 0.0,
) -> Tensor:
    """x resized along `axes` (by default all but the first two: x is [N, C, *S]).

    size: of the results, one or one per axis, ints or dims. scale: the factors; alone it gives
    sizes floor(n * scale), beside `size` it only says how far results lie apart. method: "nearest"
    (any dtype), "linear", "cubic" (bool and integers give float64).

    coordinates: where result i lies in x. "half_pixel": (i + 1/2) / scale - 1/2;
    "half_pixel_symmetric": as that, what sizes cut off shared by both ends; "pytorch_half_pixel":
    as that, one result alone at 0; "align_corners": first and last on first and last;
    "asymmetric": i / scale; "crop_and_resize": within `region`, a (start, end) per axis as shares
    of it, numbers or 0-d tensors; places outside of x give `fill`.

    rounding: of "nearest": round_prefer_floor, round_prefer_ceil, floor or ceil. antialias: the
    kernel is widened where x shrinks. exclude_outside: weights outside of x are 0, not the edge's.
    Sizes may be symbolic. Raises ShapeError for what does not fit, UnsupportedError where a
    symbolic size cannot be resized so.

        graphc.nn.resize(images, scale=2, method="nearest")
    """
    first = as_tensor(x, op="resize")
    _word("method", method, METHODS, first)
    _word("coordinates", coordinates, COORDINATES, first)
    _word("rounding", rounding, ROUNDINGS, first)
    places = normalize_axes("resize", first, range(2, first.ndim) if axes is None else axes)
    settings = _settings(first, places, size, scale)
    spans = _regions(first, coordinates, places, region)
    out = first if method == "nearest" else as_float("resize", first)
    own = out.dtype
    out = out if method == "nearest" else cast(out, _work_dtype(out))
    for axis, (count, factor), span in zip(places, settings, spans, strict=True):
        n = out.shape[axis]
        if count == n and not isinstance(factor, Tensor) and factor == 1 and span is None:
            continue
        place = _coordinates(coordinates, n, count, factor, span)
        resized: Tensor
        if method == "nearest":
            index = _index(_nearest(place, rounding), _number(n) - 1.0)
            resized = take(out, index, axis=axis)
        else:
            shrink = _shrinking(out, antialias, factor)
            taps = _taps(place, n, method, shrink, cubic_coefficient, exclude_outside)
            resized = _weighted(out, axis, taps)
        out = resized if span is None else _filled_outside(resized, axis, place, n, fill)
    return cast(out, own)
