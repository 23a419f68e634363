"""Bags of embeddings (floor 8): sums, means and maxima of a table's rows, without their matrix."""

from __future__ import annotations

import math

from graphc.base.dims import Size, shape_text
from graphc.base.errors import UnsupportedError
from graphc.ir.node import Tensor
from graphc.ir.opdef import dtype_error, fail, shape_error
from graphc.nn.embedding import embedding
from graphc.ops import elementwise, logical
from graphc.ops.creation import filled, iota
from graphc.ops.indexing import IndexUpdater
from graphc.ops.joining import take_slice
from graphc.ops.promotion import TensorLike, as_tensor, cast
from graphc.ops.reduction import MAX, SUM, as_float
from graphc.ops.reshape import expand_dims
from graphc.ops.sorting import searchsorted

MODES = ("sum", "mean", "max")
multiply, where = elementwise.multiply, elementwise.where


def embedding_bag(
    table: TensorLike,
    ids: TensorLike,
    offsets: TensorLike | None = None,
    *,
    mode: str = "mean",
    per_sample_weights: TensorLike | None = None,
    padding_index: int | None = None,
    include_last_offset: bool = False,
) -> Tensor:
    """The sum, mean or maximum of the rows of `table` (ids, features) in each bag: (bags,
    features).

    ids: (bags, length), a bag per row; or (n,) with offsets (bags,), the places where bags start,
    ascending from 0 (include_last_offset: n itself comes last). per_sample_weights: of the shape
    of ids, multiply the rows (mode "sum" only). padding_index: an id that counts for nothing. An
    empty bag gives zeros. An id out of bounds raises ExecutionError at the call. Raises ShapeError,
    DTypeError where operands do not fit, UnsupportedError for an unknown mode.
    """
    name = "embedding_bag"
    rows, places = as_float(name, table), as_tensor(ids, op=name)
    _check(name, rows, places, offsets, mode)
    drawn = embedding(rows, places)
    weights = None
    if per_sample_weights is not None:
        weights = cast(as_tensor(per_sample_weights, like=rows, op=name), rows.dtype)
        if weights.shape != places.shape or mode != "sum":
            shape_error(
                f"{name}: per_sample_weights {weights.type} do not fit ids {places.type} in mode "
                f"{mode!r}",
                [rows, places, weights],
                'they have the shape of ids, and mode is "sum"',
            )
        drawn = multiply(drawn, expand_dims(weights, axis=-1))
    counted = None if padding_index is None else logical.not_equal(places, padding_index)
    if offsets is None:
        return _padded(drawn, counted, mode)
    starts = as_tensor(offsets, op=name)
    bags = starts.shape[0]
    if include_last_offset:
        bags = bags - 1
        starts = take_slice(starts, 0, 0, bags)
    return _scattered(drawn, counted, starts, bags, mode)


def _check(name: str, rows: Tensor, places: Tensor, offsets: TensorLike | None, mode: str) -> None:
    if mode not in MODES:
        hint = f"use one of {', '.join(MODES)}"
        fail(UnsupportedError, f"{name}: unknown mode {mode!r}", [rows, places], hint)
    wanted = 2 if offsets is None else 1
    if rows.ndim != 2 or places.ndim != wanted:
        shape_error(
            f"{name}: table {shape_text(rows.shape)} and ids {shape_text(places.shape)} "
            f"{'without' if offsets is None else 'with'} offsets do not fit",
            [rows, places],
            "table is (ids, features); ids is (bags, length), or (n,) with offsets",
        )
    if offsets is None:
        return
    starts = as_tensor(offsets, op=name)
    if starts.ndim != 1 or not starts.dtype.is_integer:
        dtype_error(
            f"{name}: offsets must be one line of integers, got {starts.type}",
            [places, starts],
            "they are the places in ids where bags start",
        )


def _padded(drawn: Tensor, counted: Tensor | None, mode: str) -> Tensor:
    """Bags along axis 1 of (bags, length, features)."""
    empty = -math.inf if mode == "max" else 0.0
    if counted is not None:
        drawn = where(expand_dims(counted, axis=-1), drawn, empty)
    if mode == "max":
        top = MAX(drawn, axes=(1,), keepdims=False)
        return where(logical.equal(top, -math.inf), 0.0, top)
    total = SUM(drawn, axes=(1,), keepdims=False)
    if mode == "sum":
        return total
    if counted is None:
        count = as_tensor(drawn.shape[1], like=drawn)
    else:
        count = SUM(cast(counted, drawn.dtype), axes=(1,), keepdims=True)
    return elementwise.divide(total, elementwise.maximum(count, 1.0))


def _scattered(
    drawn: Tensor, counted: Tensor | None, starts: Tensor, bags: Size, mode: str
) -> Tensor:
    """Bags of neighbouring rows of (n, features): each row is combined into its bag."""
    line = cast(iota((drawn.shape[0],)), starts.dtype)
    bag = searchsorted(starts, line, side="right") - 1
    inside = logical.greater_equal(bag, 0)
    if counted is not None:
        inside = logical.bitwise_and(inside, counted)
    bag = elementwise.maximum(bag, 0)
    shape = (bags, drawn.shape[1])
    if mode == "max":
        floor = filled(-math.inf, shape, drawn.dtype)
        entered = where(expand_dims(inside, axis=-1), drawn, -math.inf)
        top = IndexUpdater(floor)[bag].max(entered)
        return where(logical.equal(top, -math.inf), 0.0, top)
    entered = where(expand_dims(inside, axis=-1), drawn, 0.0)
    total = IndexUpdater(filled(0, shape, drawn.dtype))[bag].add(entered)
    if mode == "sum":
        return total
    count = IndexUpdater(filled(0, (bags,), drawn.dtype))[bag].add(cast(inside, drawn.dtype))
    return elementwise.divide(total, expand_dims(elementwise.maximum(count, 1.0), axis=-1))
