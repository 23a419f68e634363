"""Comparisons, tests, logic and bits (floor 2): elementwise ops without gradients.

`logical_*` are the bitwise ops on bool: one op per idea, so that rules are written once.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from graphc.base.dtypes import ALL, INTEGER, bool_, uint8, uint64
from graphc.ir.node import Tensor
from graphc.ops.declaration import Binary, binary, unary
from graphc.ops.promotion import TensorLike, as_tensor, as_tensors, cast

# -- comparisons ----------------------------------------------------------------

# The comparison with its operands exchanged, and what holds where x1 < 0 <= x2.
_EXCHANGED = {
    "equal": ("equal", False),
    "not_equal": ("not_equal", True),
    "less": ("greater", True),
    "less_equal": ("greater_equal", True),
    "greater": ("less", False),
    "greater_equal": ("less_equal", False),
}
_PLAIN: dict[str, Binary] = {}


def _comparison(name: str, scalar: str, reference: Any, doc: str, *traits: str) -> Binary:
    """A comparison that is exact between uint64 and signed integers, which meet in float64."""
    plain = _PLAIN[name] = binary(
        name, scalar, reference, doc=doc, dtypes=ALL, result=bool_, traits=traits
    )

    @functools.wraps(plain)
    def function(x1: TensorLike, x2: TensorLike, /) -> Tensor:
        a, b = as_tensors(name, x1, x2)
        if a.dtype is uint64 and b.dtype.kind == "i":
            return _signs_apart(_EXCHANGED[name][0], b, a)
        if b.dtype is uint64 and a.dtype.kind == "i":
            return _signs_apart(name, a, b)
        return plain(a, b)

    return function


def _signs_apart(name: str, signed: Tensor, unsigned: Tensor) -> Tensor:
    negative, rest = _PLAIN["less"](signed, 0), _PLAIN[name](cast(signed, uint64), unsigned)
    if _EXCHANGED[name][1]:
        return bitwise_or(negative, rest)
    return bitwise_and(bitwise_invert(negative), rest)


equal = _comparison(
    "equal",
    "eq",
    np.equal,
    "Whether x1 == x2: false where either is NaN. The result is bool.",
    "commutative",
)
not_equal = _comparison(
    "not_equal",
    "ne",
    np.not_equal,
    "Whether x1 != x2: true where either is NaN. The result is bool.",
    "commutative",
)
less = _comparison("less", "lt", np.less, "Whether x1 < x2. The result is bool.")
less_equal = _comparison("less_equal", "le", np.less_equal, "Whether x1 <= x2. The result is bool.")
greater = _comparison("greater", "gt", np.greater, "Whether x1 > x2. The result is bool.")
greater_equal = _comparison(
    "greater_equal", "ge", np.greater_equal, "Whether x1 >= x2. The result is bool."
)

# -- tests ----------------------------------------------------------------

isnan = unary("isnan", "isnan", np.isnan, doc="Whether x is NaN. The result is bool.", result=bool_)
isinf = unary(
    "isinf", "isinf", np.isinf, doc="Whether x is infinite. The result is bool.", result=bool_
)
isfinite = unary(
    "isfinite",
    "isfinite",
    np.isfinite,
    doc="Whether x is neither infinite nor NaN. The result is bool.",
    result=bool_,
)
signbit = unary(
    "signbit",
    "signbit",
    np.signbit,
    doc="Whether the sign bit of x is set (-0.0 too). The result is bool.",
    result=bool_,
)

# -- bits ----------------------------------------------------------------

_BITS = (bool_, *INTEGER)
_BITS_HINT = "bits belong to integers and bool: compare, or convert with graphc.astype"

bitwise_and = binary(
    "bitwise_and",
    "bit_and",
    np.bitwise_and,
    doc="Bitwise `and` of integers, logical `and` of bool.",
    dtypes=_BITS,
    traits=("commutative", "associative", "idempotent"),
    hint=_BITS_HINT,
)
bitwise_or = binary(
    "bitwise_or",
    "bit_or",
    np.bitwise_or,
    doc="Bitwise `or` of integers, logical `or` of bool.",
    dtypes=_BITS,
    traits=("commutative", "associative", "idempotent"),
    hint=_BITS_HINT,
)
bitwise_xor = binary(
    "bitwise_xor",
    "bit_xor",
    np.bitwise_xor,
    doc="Bitwise exclusive `or` of integers, logical of bool.",
    dtypes=_BITS,
    traits=("commutative", "associative"),
    hint=_BITS_HINT,
)
bitwise_invert = unary(
    "bitwise_invert",
    "bit_not",
    np.invert,
    doc="Every bit inverted; logical `not` of bool.",
    dtypes=_BITS,
    traits=("involution",),
    hint=_BITS_HINT,
)
bitwise_left_shift = binary(
    "bitwise_left_shift",
    "shift_left",
    np.left_shift,
    doc="x1 shifted left by x2 bits: 0 from the width of the dtype on.",
    dtypes=INTEGER,
    hint=_BITS_HINT,
)
bitwise_right_shift = binary(
    "bitwise_right_shift",
    "shift_right",
    np.right_shift,
    doc="x1 shifted right by x2 bits, copies of the sign bit coming in.",
    dtypes=INTEGER,
    hint=_BITS_HINT,
)


def _count_bits(s: Any, x: Any) -> Any:
    dtype = s.dtype_of(x)
    if dtype.kind == "i":
        x = s.op("abs", x)
    return s.cast(s.op("count_ones", x), uint8)


bitwise_count = unary(
    "bitwise_count",
    _count_bits,
    np.bitwise_count,
    doc="The number of ones in the binary form of abs(x), as NumPy. The result is uint8.",
    dtypes=INTEGER,
    result=uint8,
    hint=_BITS_HINT,
)


# -- logic ----------------------------------------------------------------


def _truths(op: str, *operands: Any) -> tuple[Tensor, ...]:
    return tuple(cast(t, bool_) for t in as_tensors(op, *operands))


def logical_and(x1: TensorLike, x2: TensorLike, /) -> Tensor:
    """Whether x1 and x2 are both true (not zero); both broadcast. The result is bool.

    Raises ShapeError where shapes do not broadcast.

        graphc.logical_and(x > 0, y > 0)
    """
    return bitwise_and(*_truths("logical_and", x1, x2))


def logical_or(x1: TensorLike, x2: TensorLike, /) -> Tensor:
    """Whether x1 or x2 is true (not zero); both broadcast. The result is bool.

    Raises ShapeError where shapes do not broadcast.

        graphc.logical_or(x > 0, y > 0)
    """
    return bitwise_or(*_truths("logical_or", x1, x2))


def logical_xor(x1: TensorLike, x2: TensorLike, /) -> Tensor:
    """Whether exactly one of x1 and x2 is true (not zero); both broadcast. The result is bool.

    Raises ShapeError where shapes do not broadcast.

        graphc.logical_xor(x > 0, y > 0)
    """
    return bitwise_xor(*_truths("logical_xor", x1, x2))


def logical_not(x: TensorLike, /) -> Tensor:
    """Whether x is false (zero). The result is bool.

    graphc.logical_not(x > 0)
    """
    return bitwise_invert(cast(as_tensor(x, op="logical_not"), bool_))
