"""Interning (floor 0): a weak table in which equal structure is the same object.

Keys hold ids of children, which is sound because a live value keeps its children alive and a dead
value's entry is gone before their ids can be used again.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class InternTable(Generic[T]):
    """`get(key, build)` returns the live value of that key, or stores what `build()` makes."""

    __slots__ = ("_lock", "_table")

    def __init__(self) -> None:
        self._table: weakref.WeakValueDictionary[Hashable, T] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def get(self, key: Hashable, build: Callable[[], T]) -> T:
        value = self._table.get(key)
        if value is not None:
            return value
        # Built outside the lock: building may itself intern. The lock only decides who was first.
        fresh = build()
        with self._lock:
            return self._table.setdefault(key, fresh)

    def __len__(self) -> int:
        return len(self._table)


class IdentityTable(Generic[K, T]):
    """A weak table from objects, compared by identity, to values.

    `weakref.WeakKeyDictionary` compares keys with `==`, which tensors turn into a new node.
    """

    __slots__ = ("_table",)

    def __init__(self) -> None:
        self._table: dict[int, tuple[weakref.ref[K], T]] = {}

    def __contains__(self, key: K) -> bool:
        return id(key) in self._table

    def get(self, key: K, default: T) -> T:
        found = self._table.get(id(key))
        return default if found is None else found[1]

    def among(self, keys: Iterable[K]) -> dict[int, T]:
        """The values of those keys that have one, by id."""
        table = self._table
        found = [id(key) for key in keys if id(key) in table]
        return {identity: table[identity][1] for identity in found}

    def __setitem__(self, key: K, value: T) -> None:
        identity = id(key)
        found = self._table.get(identity)
        if found is not None:
            self._table[identity] = (found[0], value)
            return
        table = self._table

        def forget(_: weakref.ref[K]) -> None:
            table.pop(identity, None)

        table[identity] = (weakref.ref(key, forget), value)

    def __len__(self) -> int:
        return len(self._table)
