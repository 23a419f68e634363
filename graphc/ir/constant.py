"""Constant values (floor 1): arrays as attributes, interned by a digest of their bytes.

A value whose bytes lie in a file may come with the digest that the file claims.  Its bytes are then
not read before somebody wants them, and are compared with the digest at that moment.  The first
value of a variable, which nobody need compare, is hashed and interned when its digest is asked for,
where it is large.
Invariant: only values whose bytes were seen to have their digest are interned.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.dtypes import Array, DType, from_storage, to_storage
from graphc.base.errors import FormatError
from graphc.base.intern import InternTable

_VALUES: InternTable[ConstantValue] = InternTable()
_LINE = 64  # bytes
_CHUNK = 1 << 20  # bytes that are hashed at a time
_LARGE = 1 << 12  # bytes from which on hashing takes longer than all else


class ConstantValue:
    """A read-only C-contiguous array in stored form (`dtype.storage`) with its dtype and sha256
    digest.

    Equal contents (bit for bit), shape and dtype are the same object, but for values of a large
    file that nobody has read yet, and for large first values of variables.
    """

    __slots__ = (
        "__weakref__",
        "_array",
        "_digest",
        "_failed",
        "_mapped",
        "arranged",
        "dtype",
        "shape",
    )
    _array: Array
    _failed: Callable[[str], FormatError] | None  # None: the bytes are known to have the digest
    _mapped: bool  # whether the array is the memory of a file
    _digest: str  # "": not computed yet
    dtype: DType
    shape: tuple[int, ...]
    arranged: Arranged | None  # what `arrange` made it of

    @property
    def digest(self) -> str:
        """The sha256 digest of type and bytes (`digest_of`), or the one that a file claims."""
        if not self._digest:
            self._digest = digest_of(self._array, self.dtype)
            _VALUES.get(self._digest, lambda: self)  # a text that names it finds its value
        return self._digest

    @property
    def stored(self) -> Array:
        """The elements in stored form, not to be written.

        The first use of a value of a file reads it: raises FormatError where its bytes have another
        digest than the file says.
        """
        if self._failed is not None:
            self.check()
        return self._array

    @property
    def in_memory(self) -> bool:
        """Whether the elements are in memory of our own, not in that of a file."""
        return not self._mapped

    @property
    def size(self) -> int:
        """The number of elements; nothing is read."""
        return int(self._array.size)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored form; nothing is read."""
        return int(self._array.nbytes)

    @property
    def values(self) -> Array:
        """The values in reference form (`dtype.numpy`), not to be written."""
        return from_storage(self.stored, self.dtype)

    def check(self) -> ConstantValue:
        """Compare the bytes with the digest, once; the interned constant of these contents.

        Raises FormatError where they differ.
        """
        if self._failed is not None:
            found = digest_of(self._array, self.dtype)
            if found != self.digest:
                raise self._failed(found)
            self._failed = None
        return _VALUES.get(self.digest, lambda: self)

    def __repr__(self) -> str:
        return f"<constant {self.dtype.short}{list(self.shape)} {self.digest[:12]}>"

    def __deepcopy__(self, memo: Any) -> ConstantValue:
        return self


# "reshape" to a shape, "permute" of axes, "pad" with so many zeros at the end of each axis,
# "winograd": the weights of 3 x 3 windows, transformed (`tiles_of_windows`)
Step = tuple[str, tuple[int, ...]]
Arranged = tuple[ConstantValue, tuple[Step, ...]]


def arrange(source: ConstantValue, steps: tuple[Step, ...]) -> ConstantValue:
    """The constant with the elements of another one in another order, and zeros, or transformed.
    It knows what it was made of, so that what is kept of a program need not hold it.
    """
    elements = source.stored
    for kind, numbers in steps:
        if kind == "pad":
            elements = np.pad(elements, [(0, n) for n in numbers])
        elif kind == "reshape":
            elements = elements.reshape(numbers)
        elif kind == "winograd":
            elements = tiles_of_windows(elements)
        else:
            elements = elements.transpose(numbers)
    made = from_stored(elements, source.dtype)
    if made is not source and made.arranged is None:
        made.arranged = source, steps
    return made


def tiles_of_windows(g: Array) -> Array:
    """G g G' of float windows g [..., 3, 3], as [..., 16]: each element rounded once to their
    dtype. G = [[1, 0, 0], [1, 1, 1] / 2, [1, -1, 1] / 2, [0, 0, 1]] (Winograd's F(2, 3)).
    """
    wide = np.moveaxis(g, (-2, -1), (0, 1)).astype(np.float64)
    # To infinity and NaN: results are then computed without them.
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in (0, 1):  # along the first axis, which then changes places with the second
            outer, middle = (wide[0] + wide[2]) * 0.5, wide[1] * 0.5
            rows = (wide[0], outer + middle, outer - middle, wide[2])
            wide = np.stack(rows, 1)
        tiles = wide.astype(g.dtype)
    return np.moveaxis(tiles, (0, 1), (-2, -1)).reshape(*g.shape[:-2], 16)


def constant_value(values: Any, dtype: DType, interned: bool = True) -> ConstantValue:
    """The interned constant of `values` (reference form) as `dtype`; the array is copied."""
    return from_stored(to_storage(np.asarray(values), dtype), dtype, interned)


def from_stored(stored: Array, dtype: DType, interned: bool = True) -> ConstantValue:
    """The interned constant of stored elements; copied so that nobody can change it.

    interned=False: a large one is not hashed before its digest is asked for.
    """
    own = _lines(stored.shape, dtype.storage.newbyteorder("="))
    own[...] = stored
    return from_owned(own, dtype) if interned else _hashed_later(own, dtype)


def filled(shape: tuple[int, ...], dtype: DType, number: float) -> ConstantValue:
    """A constant that holds one number everywhere; a large one is not hashed before its digest is
    asked for. The dtype is no 16-bit float.
    """
    if number == 0 and math.copysign(1.0, number) > 0:  # memory that is zeros is not touched
        own = _lines(shape, dtype.storage, np.zeros)
    else:
        own = _lines(shape, dtype.storage)
        own.fill(number)
    return _hashed_later(own, dtype)


def _hashed_later(array: Array, dtype: DType) -> ConstantValue:
    if array.nbytes < _LARGE:
        return from_owned(array, dtype)
    array.flags.writeable = False
    return _new(array, dtype, "", None)


def _lines(
    shape: tuple[int, ...], dtype: np.dtype[Any], make: Callable[..., Array] = np.empty
) -> Array:
    """A new C-contiguous array at whole cache lines: kernels read it in vectors of that width."""
    size = math.prod(shape) * dtype.itemsize
    raw = make(size + _LINE, np.uint8)
    start = -int(raw.__array_interface__["data"][0]) % _LINE
    array: Array = raw[start : start + size].view(dtype).reshape(shape)
    return array


def from_owned(array: Array, dtype: DType) -> ConstantValue:
    """The interned constant of a C-contiguous array in stored form that nobody else writes."""
    array.flags.writeable = False
    digest = digest_of(array, dtype)
    return _VALUES.get(digest, lambda: _new(array, dtype, digest, None))


def from_file(
    array: Array, dtype: DType, digest: str, failed: Callable[[str], FormatError]
) -> ConstantValue:
    """The constant of a read-only mapped array; not interned, its bytes are not read yet.

    failed: called with the digest that the bytes have where that is not `digest`; gives the error.
    """
    return _new(array, dtype, digest, failed)


def _new(
    array: Array, dtype: DType, digest: str, failed: Callable[[str], FormatError] | None
) -> ConstantValue:
    value = ConstantValue()
    value._digest = digest
    value.dtype = dtype
    value.shape = array.shape
    value._array = array
    value._failed = failed
    value._mapped = failed is not None
    value.arranged = None
    return value


def digest_of(stored: Array, dtype: DType) -> str:
    """The sha256, in hexadecimal, of the type's text (`f32[2, 3]`), ":" and the stored bytes,
    little-endian. `stored` is C-contiguous.
    """
    shape = ", ".join(map(str, stored.shape))
    state = hashlib.sha256(f"{dtype.short}[{shape}]:".encode())
    for part in byte_parts(stored):
        state.update(part)
    return state.hexdigest()


def byte_parts(stored: Array) -> list[memoryview]:
    """The bytes of a C-contiguous array, little-endian, in parts: no copy of the whole is made."""
    if math.prod(stored.shape) == 0:
        return []
    if sys.byteorder == "big":  # the words of files are little-endian
        stored = stored.astype(stored.dtype.newbyteorder("<"))
    data = stored.reshape(-1).view(np.uint8).data
    return [data[k : k + _CHUNK] for k in range(0, len(data), _CHUNK)]


def by_digest(digest: str) -> ConstantValue | None:
    """The live constant of that digest, or None."""
    return _VALUES._table.get(digest)
