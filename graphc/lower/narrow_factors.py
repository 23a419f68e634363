"""Operands of products as narrow integers (floor 5): what `narrow_products` asks of them.

An operand is int32 by type. Its values may be those of bytes, less a zero point and seen through
views, or be few enough for 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.base.dtypes import Array, DType, int8, int16, int32, uint8
from graphc.ir.constant import constant_value
from graphc.ir.node import Tensor, make
from graphc.ops import elementwise
from graphc.ops.families import Constant, Reshape
from graphc.ops.promotion import cast
from graphc.ops.reshape import to_shape
from graphc.ops.state import constant_node

_VIEWS = frozenset({"permute_dims", "windows", "slice", "flip", "broadcast_to"})
_OF_CONSTANTS = frozenset({"permute_dims", "reshape", "cast", "subtract", "add"})
_DEEPEST = 16  # views and sums between an operand and its integers

Number = int | Array | Tensor  # int32, wrapping; a tensor where it is not known yet


@dataclass(frozen=True, slots=True)
class Factor:
    """An operand as bytes: the tensor, or (of a constant) the array of its values; what is added to
    them. flips: with the sign bit of each byte changed.
    """

    narrow: Tensor | Array
    offset: int | Tensor = 0
    flips: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether nothing is added."""
        return isinstance(self.offset, int) and self.offset == 0


def bytes_of(x: Tensor, deep: int = _DEEPEST) -> Factor | None:
    """An operand as bytes, None where it is none."""
    known = constant_of(x)
    if known is not None:
        return Factor(known)
    name = x.op.name
    if name == "cast" and x.inputs[0].dtype in (int8, uint8):
        return Factor(x.inputs[0])
    if not deep or not x.inputs:
        return None
    if name in ("add", "subtract"):
        return _moved(x, deep)
    if name != "pad" and name not in _VIEWS and not isinstance(x.op.form, Reshape):
        return None
    found = bytes_of(x.inputs[0], deep - 1)
    if found is None or not isinstance(found.narrow, Tensor):
        return None
    attrs = x.attributes
    if name == "pad":
        if isinstance(found.offset, Tensor):
            return None
        attrs["value"] -= found.offset
        limits = np.iinfo(found.narrow.dtype.numpy)
        if not limits.min <= attrs["value"] <= limits.max:
            return None
    return Factor(_remade(x, found.narrow, tuple(attrs.values())), found.offset)


def _moved(x: Tensor, deep: int) -> Factor | None:
    """The bytes below an addition or subtraction of one number."""
    a, b = x.inputs
    if x.op.name == "add" and a.size == 1:
        a, b = b, a
    found = bytes_of(a, deep - 1) if b.size == 1 and a.shape == x.shape else None
    if found is None or not isinstance(found.narrow, Tensor):
        return None
    step = number_of(b)
    minus = x.op.name == "subtract"
    total = plus(found.offset, times(step, -1) if minus else step)
    assert isinstance(total, int | Tensor)
    return Factor(found.narrow, total)


def of_sign(factor: Factor, unsigned: bool) -> Factor | None:
    """The factor with unsigned or signed bytes; None for a constant of too many values."""
    low = 0 if unsigned else -128
    if isinstance(factor.narrow, Tensor):
        if (factor.narrow.dtype is uint8) == unsigned:
            return factor
        return Factor(factor.narrow, _int_or_tensor(plus(factor.offset, -128 - 2 * low)), True)
    least, most = (int(f(factor.narrow)) for f in (np.min, np.max))
    if most - least > 255:
        return None
    shift = 0 if low <= least and most <= low + 255 else least - low
    dtype = np.uint8 if unsigned else np.int8
    # In int64: what is left fits a byte, the shift of a large constant need not fit an int32.
    return Factor((factor.narrow.astype(np.int64) - shift).astype(dtype), shift)


def _int_or_tensor(number: Number) -> int | Tensor:
    assert isinstance(number, int | Tensor)
    return number


# -- 16 bits --------------------------------------------------------------------------------------


def halves_of(x: Tensor) -> Tensor | Array | None:
    """An operand as int16: a tensor, or the array of a constant; None where its values may not
    fit.
    """
    known = constant_of(x)
    if known is not None:
        limits = np.iinfo(np.int16)
        fits = known.size and limits.min <= known.min() and known.max() <= limits.max
        return known.astype(np.int16) if fits else None
    return cast_below(x, int16) if _fits(x) else None


def _fits(x: Tensor) -> bool:
    found = _limits(x, _DEEPEST)
    return found is not None and found[0] >= -(1 << 15) and found[1] < 1 << 15


def cast_below(x: Tensor, dtype: DType, deep: int = _DEEPEST) -> Tensor:
    """x as a dtype that holds its values, cast below its views."""
    if x.op.name == "cast" and x.inputs[0].dtype is dtype:
        return x.inputs[0]
    if deep and (x.op.name == "pad" or x.op.name in _VIEWS):
        return _remade(x, cast_below(x.inputs[0], dtype, deep - 1), x.attrs)
    return cast(x, dtype)


def _limits(x: Tensor, deep: int) -> tuple[int, int] | None:
    """The least and the greatest value that an integer tensor may have."""
    name = x.op.name
    if isinstance(x.op.form, Constant):
        values = x.attr("value").values
        return (int(values.min()), int(values.max())) if values.size else None
    if name == "cast" and x.inputs[0].dtype.is_integer and x.inputs[0].dtype.bits <= 16:
        own = np.iinfo(x.inputs[0].dtype.numpy)
        return int(own.min), int(own.max)
    if not deep or not x.inputs:
        return None
    first = _limits(x.inputs[0], deep - 1)
    if name == "pad" and first is not None:
        value = int(x.attr("value"))
        return min(first[0], value), max(first[1], value)
    if name in _VIEWS or isinstance(x.op.form, Reshape):
        return first
    second = _limits(x.inputs[1], deep - 1) if name in _OF_TWO else None
    if first is None or second is None:
        return None
    low, high = _OF_TWO[name](first, second)
    whole = np.iinfo(np.int32)  # beyond it a sum wraps
    return (low, high) if whole.min <= low and high <= whole.max else None


_OF_TWO: dict[str, Any] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "subtract": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "minimum": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "maximum": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
}


# -- values ---------------------------------------------------------------------------------------


def _remade(x: Tensor, operand: Tensor, attrs: tuple[Any, ...]) -> Tensor:
    made = make(x.op, (operand,), attrs)
    assert isinstance(made, Tensor)
    return made


def constant_of(x: Tensor, deep: int = _DEEPEST) -> Array | None:
    """The values of a constant with dims, seen through what graphs of quantized models do with one
    (which is not folded where it would take more memory); else None.
    """
    return _known(x, deep) if x.ndim else None


def _known(x: Tensor, deep: int) -> Array | None:
    if isinstance(x.op.form, Constant):
        values: Array = x.attr("value").values
        return values
    if not deep or x.op.name not in _OF_CONSTANTS or x.op.reference is None:
        return None
    below = [_known(operand, deep - 1) for operand in x.inputs]
    if any(values is None for values in below):
        return None
    with np.errstate(all="ignore"):
        return np.asarray(x.op.reference(*below, **x.attributes))


def number_of(x: Tensor) -> int | Tensor:
    """A tensor of one element as a number, or in no dims."""
    if isinstance(x.op.form, Constant):
        return int(x.attr("value").values.reshape(()))
    return to_shape(x, ())


def plus(a: Number, b: Number) -> Number:
    """a + b, wrapping."""
    if isinstance(a, int) and a == 0:
        return b
    if isinstance(b, int) and b == 0:
        return a
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return elementwise.add(tensor_of(a), tensor_of(b))
    return _wrapped(np.asarray(a, np.int64) + np.asarray(b, np.int64))


def times(a: Number, b: Number) -> Number:
    """a * b, wrapping."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return elementwise.multiply(tensor_of(a), tensor_of(b))
    return _wrapped(np.asarray(a, np.int64) * np.asarray(b, np.int64))


def tensor_of(number: Number) -> Tensor:
    """A number as a tensor."""
    if isinstance(number, Tensor):
        return number
    return constant_node(constant_value(_wrapped(np.asarray(number, np.int64)), int32))


def _wrapped(values: Array) -> int | Array:
    """int64 values modulo 2**32, as int32; one number in no dims as such."""
    found = values.astype(np.int32)
    return int(found) if not found.ndim else found
