"""Linear algebra (floor 8): the Array API's `linalg`, and what NumPy and SciPy have beside it.

Matrices are the last two dims, every other dim is a batch. Factorizations take float32 and float64.
Products are those of the main namespace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from graphc.linalg.norms import cond, matrix_norm, vector_norm
from graphc.linalg.spectra import (
    eigh,
    eigvalsh,
    lstsq,
    matrix_rank,
    pinv,
    qr,
    svd,
    svdvals,
)
from graphc.linalg.systems import (
    cholesky,
    det,
    expm,
    inv,
    lu,
    lu_factor,
    matrix_power,
    slogdet,
    solve,
    triangular_solve,
)
from graphc.ops.contraction import cross, matmul, outer, tensordot, trace, vecdot
from graphc.ops.view import diagonal, matrix_transpose
from graphc.other_names import missing as _missing

__all__ = [
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "expm",
    "inv",
    "lstsq",
    "lu",
    "lu_factor",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "triangular_solve",
    "vecdot",
    "vector_norm",
]

if not _TYPE_CHECKING:  # a type checker knows which names exist

    def __getattr__(name: str) -> object:
        """Say what to do instead of a factorization."""
        raise AttributeError(_missing("graphc.linalg", name, __all__))
