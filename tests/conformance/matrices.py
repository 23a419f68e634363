"""Operands of factorizations: matrices at any sizes for which the result is well determined.

Repeating the elements of a positive definite matrix gives one that is not; so the matrices of other
sizes are made new, by the makers of the ops' own samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.dtypes import Array, DType, dtype_of
from graphc.ir.opdef import REGISTRY
from graphc.ops.factorization import orthogonal, positive_definite, regular, separated, spread


def _orthogonal(shape: tuple[int, ...], dtype: DType) -> Array:
    return orthogonal(shape).astype(dtype.numpy)


def _small(shape: tuple[int, ...], dtype: DType) -> Array:
    return (regular(shape, dtype) / max(shape[-1], 1)).astype(dtype.numpy)


_MADE: dict[str, Callable[..., Array]] = {
    **dict.fromkeys(("cholesky", "det", "cofactor", "logabsdet"), positive_definite),
    **dict.fromkeys(("lu", "solve", "qr", "qr_complete"), regular),
    "repeated_squares": _orthogonal,
    "expm": _small,
    **dict.fromkeys(("eigh", "eigvalsh"), separated),
    **dict.fromkeys(("svd", "svdvals", "pinv"), spread),
}
_LARGEST = 45  # of matrices: references are loops in Python, and determinants grow


def is_factorization(name: str) -> bool:
    """Whether the op's first operand must be a matrix of a kind."""
    return name in _MADE or name in ("lu_solve", "triangular_solve")


def prepared(name: str, arrays: list[Array]) -> list[Array] | None:
    """The arrays, the first of them a fit matrix of its shape; None where it is too large."""
    first, *rest = arrays
    if max(first.shape[-2:]) > _LARGEST:
        return None
    dtype = dtype_of(first.dtype)
    if name == "pinv":
        rest = [np.full(r.shape, 1e-3, r.dtype) for r in rest]
    if name in _MADE:
        return [_MADE[name](first.shape, dtype), *rest]
    if name == "lu_solve":
        square = (*first.shape[:-1], first.shape[-2])
        reference: Any = REGISTRY["lu"].reference
        return [reference(regular(square, dtype)).astype(first.dtype), *rest]
    n = first.shape[-1]
    spread = np.clip(first, -1.0, 1.0) / max(n, 1)
    return [(spread * (1 - np.eye(n)) + 2.0 * np.eye(n)).astype(first.dtype), *rest]
