"""Every op module, imported (floor 2), for whoever needs the whole registry: rules, parser, tests.

Invariant: a module of `graphc.ops` that declares ops is imported here; a test compares it with the
directory.
"""

from __future__ import annotations

from types import ModuleType

from graphc.ops import (  # noqa: F401  # read from the module's names, below
    bitcast,
    contraction,
    control,
    copy,
    creation,
    cumulative,
    detection,
    einsum,
    elementwise,
    elementwise_math,
    factorization,
    factorization_eigh,
    factorization_lu,
    factorization_pinv,
    factorization_qr,
    factorization_reflectors,
    factorization_svd,
    factorization_triangular,
    gamma_sample,
    gather,
    indexing,
    inverse_erf,
    joining,
    logical,
    matrix_exponential,
    norm,
    promotion,
    random,
    reduction,
    reshape,
    rounding,
    searching,
    selection,
    softmax,
    sorting,
    special,
    stable,
    state,
    statistical,
    view,
    windows,
    winograd,
    words,
)

# What the import statement above names, in its order.
MODULES = tuple(value for value in globals().values() if isinstance(value, ModuleType))
