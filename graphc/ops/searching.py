"""Searching and sets (floor 2): isin, nonzero, unique, compress: composed of sorting, running
counts and gathers.

The sizes of most results depend on values: they are dims that the graph computes (`ops/sizes.py`).
"""

from __future__ import annotations

from typing import NamedTuple

from graphc.base.dims import Size
from graphc.base.dtypes import bool_, int64
from graphc.ir.node import Tensor
from graphc.ir.opdef import dtype_error, shape_error
from graphc.ops import logical, reduction
from graphc.ops.axes import normalize_axis
from graphc.ops.creation import filled
from graphc.ops.cumulative import cumulative_sum
from graphc.ops.elementwise import maximum
from graphc.ops.gather import GATHER
from graphc.ops.joining import concat, stack, take_slice
from graphc.ops.promotion import TensorLike, as_tensor, cast, promoted
from graphc.ops.reshape import expand_dims, to_shape
from graphc.ops.scatter import SCATTER
from graphc.ops.selection import (
    counted,
    flattened,
    mask_indices,
    true_positions,
    unraveled,
)
from graphc.ops.sizes import size_tensor
from graphc.ops.sorting import argsort


class UniqueAll(NamedTuple):
    """What `unique_all` gives."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """What `unique_counts` gives."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """What `unique_inverse` gives."""

    values: Tensor
    inverse_indices: Tensor


def isin(x1: TensorLike, x2: TensorLike, /, *, invert: bool = False) -> Tensor:
    """Whether each element of x1 is among the elements of x2 (NaN never is); bool, of the shape of
    x1.
    """
    x, items = promoted("isin", x1, x2)
    found = reduction.any(
        logical.equal(expand_dims(x, axis=-1), to_shape(items, (items.size,))), axis=-1
    )
    return logical.logical_not(found) if invert else found


def nonzero(x: TensorLike, /) -> tuple[Tensor, ...]:
    """The int64 indices of the elements that are not zero, in row-major order: a vector per dim.

    Their length is a dim that the graph computes. Raises ShapeError for a 0-d x.

        rows, columns = graphc.nonzero(x > 0)
    """
    x = as_tensor(x, op="nonzero")
    if not x.ndim:
        shape_error("nonzero: x is 0-d", [x], "make it a vector: graphc.reshape(x, (1,))")
    return mask_indices(cast(x, bool_))


def argwhere(x: TensorLike, /) -> Tensor:
    """The indices of `nonzero` as rows: int64, of shape (count, x.ndim)."""
    x = as_tensor(x, op="argwhere")
    return stack(nonzero(x), axis=1)


def compress(condition: TensorLike, x: TensorLike, /, *, axis: int | None = None) -> Tensor:
    """The slices of x along `axis` (None: the elements of the flattened x) where `condition`, a
    bool vector that may be shorter than the axis, is True.

    Their number is a dim that the graph computes. Raises ShapeError for a condition that is no
    vector or is longer than the axis, DTypeError for one that is not bool.
    """
    mask, x = as_tensor(condition, op="compress"), as_tensor(x, op="compress")
    if mask.dtype is not bool_:
        dtype_error(
            f"compress: the condition must be bool, got {mask.dtype}", [mask], "compare: x != 0"
        )
    if axis is None:
        x, axis = flattened(x), 0
    axis = normalize_axis("compress", x, axis)
    size: Size = x.shape[axis]
    if mask.ndim != 1 or (
        isinstance(size, int) and isinstance(mask.shape[0], int) and mask.shape[0] > size
    ):
        shape_error(
            f"compress: the condition must be a vector of at most {size} elements",
            [mask, x],
            "x[mask] selects by a mask of several dims",
        )
    return GATHER(x, true_positions(mask), axes=(axis,), position=axis)


# -- sets -----------------------------------------------------------------------------------------


class _Groups:
    """The elements of x, sorted, in runs of equal ones (each NaN is a run of its own)."""

    def __init__(self, op: str, x: TensorLike) -> None:
        self.x = as_tensor(x, op=op)
        flat = flattened(self.x)
        (self.size,) = flat.shape
        # Stable: of equal elements the first one comes first.
        self.order = argsort(flat, axis=0)
        self.sorted = GATHER(flat, self.order, axes=(0,), position=0)
        place = counted(self.size)
        before = GATHER(self.sorted, maximum(place - 1, 0), axes=(0,), position=0)
        first = logical.equal(place, 0)
        self.is_new = logical.logical_or(first, logical.not_equal(self.sorted, before))
        self.starts = true_positions(self.is_new)

    def values(self) -> Tensor:
        return GATHER(self.sorted, self.starts, axes=(0,), position=0)

    def indices(self) -> Tensor:
        return GATHER(self.order, self.starts, axes=(0,), position=0)

    def counts(self) -> Tensor:
        (count,) = self.starts.shape
        ends = concat([self.starts, expand_dims(size_tensor(self.size))])
        return take_slice(ends, 0, 1, count) - self.starts

    def inverse(self) -> Tensor:
        run = cumulative_sum(cast(self.is_new, int64), axis=0) - 1
        none = filled(0, (self.size,), int64)
        flat = SCATTER(none, run, self.order, axes=(0,), position=0, mode="set")
        return to_shape(flat, self.x.shape)


def unique_values(x: TensorLike, /) -> Tensor:
    """The distinct elements of x in ascending order, a vector; each NaN is distinct.

    Its size is a dim that the graph computes.
    """
    return _Groups("unique_values", x).values()


def unique_counts(x: TensorLike, /) -> UniqueCounts:
    """The distinct elements of x in ascending order, and how often each occurs (int64)."""
    groups = _Groups("unique_counts", x)
    return UniqueCounts(groups.values(), groups.counts())


def unique_inverse(x: TensorLike, /) -> UniqueInverse:
    """The distinct elements of x in ascending order, and for each element of x its position among
    them (int64, of the shape of x).
    """
    groups = _Groups("unique_inverse", x)
    return UniqueInverse(groups.values(), groups.inverse())


def unique_all(x: TensorLike, /) -> UniqueAll:
    """(values, indices, inverse_indices, counts): the distinct elements of x in ascending order,
    the position of the first of each in the flattened x, and as `unique_inverse`, `unique_counts`.
    """
    groups = _Groups("unique_all", x)
    return UniqueAll(groups.values(), groups.indices(), groups.inverse(), groups.counts())


__all__ = [
    "UniqueAll",
    "UniqueCounts",
    "UniqueInverse",
    "argwhere",
    "compress",
    "isin",
    "nonzero",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "unraveled",
]
