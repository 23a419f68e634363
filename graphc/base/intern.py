"""Interning (floor 0): a weak table in which equal structure is the same object.

Keys hold ids of children, which is sound because a live value keeps its children alive and a dead
value's entry is gone before their ids can be used again.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

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
