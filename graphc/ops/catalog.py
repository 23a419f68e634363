"""Every op module, imported (floor 2), for whoever needs the whole registry: rules, parser, tests.

Invariant: a module of `graphc.ops` that declares ops is in the list; a test compares it with the
directory.
"""

from __future__ import annotations

from graphc.ops import (
    contraction,
    copy,
    creation,
    cumulative,
    einsum,
    elementwise,
    elementwise_math,
    gather,
    indexing,
    joining,
    logical,
    norm,
    promotion,
    random,
    reduction,
    reshape,
    rounding,
    searching,
    softmax,
    sorting,
    special,
    stable,
    state,
    statistical,
    view,
    windows,
)

MODULES = (
    contraction,
    copy,
    creation,
    cumulative,
    einsum,
    elementwise,
    elementwise_math,
    gather,
    indexing,
    joining,
    logical,
    norm,
    promotion,
    random,
    reduction,
    reshape,
    rounding,
    searching,
    softmax,
    sorting,
    special,
    stable,
    state,
    statistical,
    view,
    windows,
)
