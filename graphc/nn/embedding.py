"""Embeddings and linear maps (floor 8): linear, embedding, one_hot."""

from __future__ import annotations

from graphc.base.dims import Size
from graphc.base.dtypes import DTypeLike
from graphc.ir.node import Tensor
from graphc.ir.opdef import dtype_error, shape_error
from graphc.ops import elementwise, logical
from graphc.ops.axes import as_size, normalize_axis
from graphc.ops.contraction import matmul
from graphc.ops.creation import iota
from graphc.ops.indexing import take
from graphc.ops.promotion import TensorLike, as_tensor, cast, to_dtype
from graphc.ops.reshape import expand_dims, to_shape


def linear(x: TensorLike, w: TensorLike, bias: TensorLike | None = None) -> Tensor:
    """x @ w + bias: (..., in) @ (in, out) + (out,). Raises ShapeError where sizes differ."""
    product = matmul(x, w)
    return product if bias is None else elementwise.add(product, bias)


def embedding(table: TensorLike, ids: TensorLike) -> Tensor:
    """The rows of `table` at integer `ids`: shape ids.shape + table.shape[1:].

    The gradient adds up rows that occur more than once. An id out of bounds raises ExecutionError
    at the call. Raises DTypeError for ids that are not integers, ShapeError for a table without
    rows.
    """
    rows, places = as_tensor(table, op="embedding"), as_tensor(ids, op="embedding")
    if not places.dtype.is_integer:
        dtype_error(
            f"embedding: ids must be integers, got {places.dtype}",
            [rows, places],
            'convert them: graphc.astype(ids, "int64")',
        )
    if rows.ndim < 1:
        shape_error(
            "embedding: the table needs at least one dim",
            [rows, places],
            "a table is (number of ids, features)",
        )
    return take(rows, places, axis=0)


def one_hot(
    ids: TensorLike, classes: Size, *, axis: int = -1, dtype: DTypeLike = "float32"
) -> Tensor:
    """1 at each id along a new `axis` of size `classes`, 0 elsewhere; all zeros for an id out of
    bounds.

    Raises DTypeError for ids that are not integers.
    """
    places = as_tensor(ids, op="one_hot")
    if not places.dtype.is_integer:
        dtype_error(
            f"one_hot: ids must be integers, got {places.dtype}",
            [places],
            'convert them: graphc.astype(ids, "int64")',
        )
    kind = to_dtype(dtype, "one_hot", [places])
    size = as_size("one_hot", classes, [places])
    axis = normalize_axis("one_hot", places, axis, places.ndim + 1)
    line = to_shape(
        iota((size,), 0), tuple(size if i == axis else 1 for i in range(places.ndim + 1))
    )
    return cast(logical.equal(expand_dims(places, axis=axis), line), kind)
