"""Max pools that say where their maxima lie, and their partial inverse (floor 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.base.dims import Shape, Size, product
from graphc.base.dtypes import int64
from graphc.ir.node import Tensor
from graphc.ir.opdef import dtype_error, shape_error
from graphc.nn.convolution import positive
from graphc.nn.pooling import pool_windows
from graphc.ops.axes import as_shape
from graphc.ops.creation import IOTA, filled
from graphc.ops.indexing import take_along_axis
from graphc.ops.promotion import TensorLike, as_tensor, cast
from graphc.ops.reduction import ARGMAX, lowest
from graphc.ops.reshape import to_shape
from graphc.ops.scatter import SCATTER


def max_pool_with_indices(
    x: TensorLike,
    size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: Any = 0,
    *,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """`max_pool` and where its maxima lie: x [N, C, *S] -> [N, C, *P], int64 [N, C, *P].

    An index is the place within the spatial axes of x in row-major order; of equal elements the
    first one's. Raises ShapeError where windows do not fit.
    """
    op = "max_pool_with_indices"
    first = as_tensor(x, op=op)
    view, settings = pool_windows(
        op, first, size, stride, padding, dilation, ceil_mode, lowest(first.dtype)
    )
    window, steps, gaps, low, _ = settings
    rank = first.ndim - 2
    counts = view.shape[2 : 2 + rank]
    flat = to_shape(view, (*view.shape[: 2 + rank], product(window)))
    best = ARGMAX(flat, axes=(flat.ndim - 1,), keepdims=True)
    values = take_along_axis(flat, best, axis=-1)
    index: Tensor | None = None
    inner = to_shape(best, best.shape[:-1])
    for axis in range(rank):
        within = inner // int(product(window[axis + 1 :])) % window[axis]
        line = tuple(counts[a] if a == axis else 1 for a in range(rank))
        start = IOTA(shape=line, axis=axis, dtype=int64) * steps[axis]
        place = start + within * gaps[axis] - low[axis]
        index = place if index is None else index * first.shape[2 + axis] + place
    assert index is not None
    return to_shape(values, inner.shape), index


def max_unpool(
    x: TensorLike,
    indices: TensorLike,
    size: int | Sequence[int] = 2,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    *,
    output_size: Any = None,
) -> Tensor:
    """Zeros with the maxima at the places that `max_pool_with_indices` gave: [N, C, *P] -> [N, C,
    *S].

    S = (P - 1) * stride - 2 * padding + size per axis, or `output_size`. Where windows overlapped,
    the last maximum of a place stays. Raises ShapeError where shapes do not fit; indices beyond S
    raise ExecutionError at the call.
    """
    op = "max_unpool"
    first, places = as_tensor(x, op=op), as_tensor(indices, op=op)
    rank = first.ndim - 2
    if rank < 1 or places.shape != first.shape:
        shape_error(
            f"{op}: x and indices need the same shape [N, C, *P], got {first.type}, {places.type}",
            [first, places],
            "both are results of max_pool_with_indices",
        )
    if not places.dtype.is_integer:
        dtype_error(f"{op}: indices must be integers, got {places.dtype}", [first, places])
    whole = _unpooled_sizes(op, first, size, stride, padding, output_size)
    rows = product(first.shape[:2])
    flat = to_shape(first, (rows, product(first.shape[2:])))
    at = to_shape(cast(places, int64), flat.shape)
    row = IOTA(shape=(rows, 1), axis=0, dtype=int64)
    zeros = filled(0, (rows, product(whole)), first.dtype)
    out = SCATTER(zeros, flat, row, at, axes=(0, 1), position=0, mode="set")
    return to_shape(out, (*first.shape[:2], *whole))


def _unpooled_sizes(
    op: str, x: Tensor, size: Any, stride: Any, padding: Any, output_size: Any
) -> Shape:
    rank = x.ndim - 2
    if output_size is not None:
        whole = as_shape(op, output_size, [x])
        if len(whole) != rank:
            shape_error(f"{op}: output_size needs {rank} sizes, got {len(whole)}", [x])
        return whole
    window = positive(op, "size", size, rank, x)
    steps = window if stride is None else positive(op, "stride", stride, rank, x)
    pads = (padding,) * rank if isinstance(padding, int) else tuple(padding)
    found: list[Size] = []
    for p, k, s, a in zip(x.shape[2:], window, steps, pads, strict=True):
        found.append((p - 1) * s - 2 * a + k)
    return tuple(found)
