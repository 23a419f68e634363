"""The pseudoinverse (floor 2): a composite over the singular values, with a gradient of its own.

The gradient of the singular value decomposition has gaps between singular values in denominators;
that of the pseudoinverse has none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dtypes import Array, DType
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import Sample, dtype_error, shape_error
from graphc.ops import elementwise, logical
from graphc.ops.contraction import matmul
from graphc.ops.factorization import OBLONG, check_matrices, matrix_op, smaller, spread
from graphc.ops.factorization_svd import SVD, unpacked
from graphc.ops.families import Composite
from graphc.ops.reduction import MAX, accurate
from graphc.ops.reshape import to_shape
from graphc.ops.view import matrix_transpose


def _type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    x, limit = check_matrices("pinv", inputs[0]), inputs[1]
    assert isinstance(limit, Tensor)
    smaller("pinv", x)
    if limit.dtype is not x.dtype:
        dtype_error(f"pinv: rtol is {limit.dtype} for {x.dtype} matrices", inputs)
    if limit.shape not in ((), x.shape[:-2]):
        shape_error("pinv: rtol is one number or one per matrix", inputs)
    return TensorType((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)


def _expand(node: Tensor) -> Tensor:
    x, rtol = node.inputs
    u, s, vh = unpacked(SVD(x), x.shape[-2])
    top = MAX(s, axes=(s.ndim - 1,), keepdims=True)
    limit = elementwise.multiply(top, to_shape(rtol, (*rtol.shape, 1)))
    counts = logical.greater(s, limit)
    inverse = elementwise.where(
        counts, elementwise.divide(1.0, elementwise.where(counts, s, 1.0)), 0.0
    )
    inverse = elementwise.where(logical.isnan(s), s, inverse)
    column = to_shape(inverse, (*inverse.shape, 1))
    return matmul(matrix_transpose(vh), elementwise.multiply(column, matrix_transpose(u)))


def _reference(x: Array, rtol: Array) -> Array:
    x, rtol = accurate(x), accurate(rtol)
    sound = np.isfinite(x).all((-1, -2), keepdims=True)
    u, s, vh = np.linalg.svd(np.where(sound, x, 0.0), full_matrices=False)
    limit = np.max(s, axis=-1, keepdims=True, initial=0.0) * rtol[..., None]
    counts = s > limit
    inverse = np.where(counts, 1.0 / np.where(counts, s, 1.0), 0.0)
    result = vh.swapaxes(-1, -2) @ (inverse[..., None] * u.swapaxes(-1, -2))
    return np.where(sound, result, np.nan)


def _gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    """With P = A^+: -P^T G P^T + (I - A P) G^T P P^T + P^T P G^T (I - P A) (G. H. Golub and V.
    Pereyra, The differentiation of pseudo-inverses and nonlinear least squares problems whose
    variables separate, 1973).
    """
    a, p = node.inputs[0], node
    pt, gt = matrix_transpose(p), matrix_transpose(g)
    across = matmul(matmul(gt, p), pt)
    along = matmul(pt, matmul(p, gt))
    first = elementwise.subtract(across, matmul(a, matmul(p, across)))
    second = elementwise.subtract(along, matmul(matmul(along, p), a))
    back = matmul(matmul(pt, g), pt)
    return [elementwise.subtract(elementwise.add(first, second), back), None]


def _samples(dtype: DType) -> list[Sample]:
    found = []
    for k, shape in enumerate(OBLONG[:2]):
        limit = np.full(shape[:-2], 1e-3, dtype.numpy)
        found.append(Sample((spread(shape, dtype, k), limit)))
    deficient = spread((4, 2), dtype) @ spread((2, 3), dtype)
    return [*found, Sample((deficient, np.asarray(1e-3, dtype.numpy)))]


PINV = matrix_op(
    "pinv",
    _type,
    _reference,
    _gradient,
    Composite(_expand),
    doc="The pseudoinverse of matrices, in which singular values up to x2 times the largest "
    "one count as 0.",
    samples=_samples,
)
