"""Reinterpretation of bits (floor 2): the stored bytes of each element read as another dtype of the
same width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.base.dtypes import (
    NUMERIC,
    Array,
    DType,
    DTypeLike,
    dtype_of,
    from_storage,
    to_storage,
)
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error
from graphc.ir.scalar_numpy import NumpyScalar, Value
from graphc.ops.families import Elementwise
from graphc.ops.promotion import TensorLike, as_tensor, to_dtype
from graphc.ops.sampling import draw, strided


def _type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,), (dtype,) = inputs, attrs
    assert isinstance(x, Tensor)
    if x.dtype.is_bool or dtype.is_bool or x.dtype.bits != dtype.bits:
        dtype_error(
            f"bitcast: expected a dtype of {x.dtype.bits} bits, got {dtype}",
            [x],
            "widths must be equal; bool has no bits of its own: compare, or use graphc.astype",
        )
    return TensorType(x.shape, dtype)


def _scalar(s: Any, x: Any, dtype: DType) -> Any:
    return s.bitcast(x, dtype)


def _reference(x: Array, dtype: DType) -> Array:
    # float32 holds what is no float32 in two cases: the values of a bfloat16, whose bits are the
    # upper half of theirs.
    source = dtype_of(x.dtype)
    if source.bits == 2 * dtype.bits:
        return from_storage(to_storage(x, dtype_of("bfloat16")).view(dtype.storage), dtype)
    return NumpyScalar().bitcast(Value(x, source), dtype).array


def _samples(dtype: DType) -> Sequence[Sample]:
    plain = draw((4, 33), dtype)
    if dtype.is_float:
        edges = np.array([0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, 6e-5, 65504.0])
        edges = from_storage(to_storage(edges.astype(dtype.numpy), dtype), dtype)
    else:
        limits = np.iinfo(dtype.numpy)
        # Bits of quiet NaNs and denormals are kept by loads and stores; those of signaling NaNs
        # need not be, so none is among them.
        edges = np.array([limits.max // 2 + 1, 0, 1, 2, 100]).astype(dtype.numpy)
    same = [d for d in NUMERIC if d.bits == dtype.bits]
    found = [Sample((edges,), {"dtype": d}) for d in same]
    return [
        *found,
        Sample((plain[:0],), {"dtype": same[0]}),
        Sample((strided(plain),), {"dtype": same[0]}),
    ]


BITCAST = REGISTRY.add(
    OpDef(
        "bitcast",
        ("dtype",),
        _type,
        _reference,
        None,
        Elementwise(_scalar),
        doc="The bits of each element, read as another dtype of the same width.",
        samples=_samples,
        dtypes=NUMERIC,
        not_differentiable="bits are no numbers to differentiate by; use astype to convert values",
    )
)


def bitcast(x: TensorLike, dtype: DTypeLike, /) -> Tensor:
    """The bits of each element of `x`, read as another dtype of the same width; the shape stays.

    Raises DTypeError for another width and for bool.

        graphc.bitcast(x, "uint32")
    """
    tensor = as_tensor(x, op="bitcast")
    kind = to_dtype(dtype, "bitcast", (tensor,))
    return tensor if tensor.dtype is kind else BITCAST(tensor, dtype=kind)


__all__ = ["BITCAST", "bitcast"]
