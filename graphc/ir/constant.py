"""Constant values (floor 1): arrays as attributes, interned by a digest of their bytes."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from graphc.base.dtypes import Array, DType, from_storage, to_storage
from graphc.base.intern import InternTable

_VALUES: InternTable[ConstantValue] = InternTable()


class ConstantValue:
    """A read-only C-contiguous array in stored form (`dtype.storage`) with its dtype and sha256
    digest.

    Equal contents (bit for bit), shape and dtype are the same object.
    """

    __slots__ = ("__weakref__", "digest", "dtype", "stored")
    digest: str
    dtype: DType
    stored: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    @property
    def values(self) -> Array:
        """The values in reference form (`dtype.numpy`), not to be written."""
        return from_storage(self.stored, self.dtype)

    def __repr__(self) -> str:
        return f"<constant {self.dtype.short}{list(self.shape)} {self.digest[:12]}>"

    def __deepcopy__(self, memo: Any) -> ConstantValue:
        return self


def constant_value(values: Any, dtype: DType) -> ConstantValue:
    """The interned constant of `values` (reference form) as `dtype`; the array is copied."""
    return from_stored(to_storage(np.asarray(values), dtype), dtype)


def from_stored(stored: Array, dtype: DType) -> ConstantValue:
    """The interned constant of stored elements; copied so that nobody can change it."""
    array = np.array(stored, dtype=dtype.storage.newbyteorder("="), order="C", copy=True)
    array.flags.writeable = False
    header = f"{dtype.name}:{array.shape}:".encode()
    digest = hashlib.sha256(header + array.tobytes()).hexdigest()

    def build() -> ConstantValue:
        value = ConstantValue()
        value.digest = digest
        value.dtype = dtype
        value.stored = array
        return value

    return _VALUES.get(digest, build)


def by_digest(digest: str) -> ConstantValue | None:
    """The live constant of that digest, or None."""
    return _VALUES._table.get(digest)
