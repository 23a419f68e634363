"""Searching and sets (floor 2): isin; and the functions whose result's size depends on values,
refused by name.

A graph's shapes are known before it runs, so nonzero, unique and boolean selection cannot be
tensors; each error names the way to write what is meant with sizes that are known.
"""

from __future__ import annotations

from typing import NoReturn

from graphc.base.errors import UnsupportedError
from graphc.ir.node import Tensor
from graphc.ir.opdef import fail
from graphc.ops import logical, reduction
from graphc.ops.promotion import TensorLike, as_tensor, promoted
from graphc.ops.reshape import expand_dims, to_shape


def isin(x1: TensorLike, x2: TensorLike, /, *, invert: bool = False) -> Tensor:
    """Whether each element of x1 is among the elements of x2 (NaN never is); bool, of the shape of
    x1.
    """
    x, items = promoted("isin", x1, x2)
    found = reduction.any(
        logical.equal(expand_dims(x, axis=-1), to_shape(items, (items.size,))), axis=-1
    )
    return logical.logical_not(found) if invert else found


def _refuse(op: str, x: TensorLike, hint: str) -> NoReturn:
    fail(
        UnsupportedError,
        f"{op}: the size of the result depends on the values of x",
        [as_tensor(x, op=op)],
        hint,
    )


_SORTED = (
    "sort x and mark the first of equal neighbours: s = graphc.sort(x); graphc.diff(s) != 0; "
    "or compute it with NumPy outside the graph"
)


def nonzero(x: TensorLike, /) -> NoReturn:
    """Refused: raises UnsupportedError, which names graphc.where, count_nonzero and argsort."""
    _refuse(
        "nonzero",
        x,
        "use graphc.where(x != 0, a, b) to choose, graphc.count_nonzero(x) to count, "
        "graphc.argsort(x == 0) to bring the positions to the front",
    )


def argwhere(x: TensorLike, /) -> NoReturn:
    """Refused, as `nonzero`."""
    nonzero(x)


def unique_all(x: TensorLike, /) -> NoReturn:
    """Refused: raises UnsupportedError."""
    _refuse("unique_all", x, _SORTED)


def unique_counts(x: TensorLike, /) -> NoReturn:
    """Refused: raises UnsupportedError."""
    _refuse("unique_counts", x, _SORTED)


def unique_inverse(x: TensorLike, /) -> NoReturn:
    """Refused: raises UnsupportedError."""
    _refuse("unique_inverse", x, _SORTED)


def unique_values(x: TensorLike, /) -> NoReturn:
    """Refused: raises UnsupportedError."""
    _refuse("unique_values", x, _SORTED)
