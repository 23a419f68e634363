"""Functions called without Python in between (runtime, floor 7): `__call__` as a native method.

A method of a class that is written in Python costs a frame, a tuple and a dict at each call, more
than the whole entry. Once the entry is loaded, `Function.__call__` is replaced by a method
descriptor of CPython's own over the entry; an instance keeps what the entry needs in a slot whose
offset is found by looking. Invariant: every instance has filled the slot before it is called.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from typing import Any

from graphc.runtime.object_loader import LoadedObject
from graphc.runtime.python_entry import METHOD_FLAGS

_log = logging.getLogger("graphc.runtime")


class MethodDef(ctypes.Structure):
    """CPython's description of a native function."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_replaced: set[type] = set()
_lock = threading.Lock()


def replace_call(cls: type, slot: str, entry: LoadedObject) -> None:
    """Let `cls.__call__` be the entry's method. slot: the name of the one in `cls.__slots__` that
    holds what `caller.bound_for_method` gives. Done twice it does nothing.
    """
    with _lock:
        if cls in _replaced:
            return
        _replaced.add(cls)
        offset = _offset_of(cls, slot)
        if offset is None:
            _log.warning("graphc calls functions through Python: objects are laid out unknown")
            return
        bind = ctypes.PYFUNCTYPE(None, ctypes.c_int64)(entry.address("graphc_method_bind"))
        bind(offset)
        # The words before the line give `inspect.signature` what it shows.
        doc = f"__call__($self, /, *args, out=None, **kwargs)\n--\n\n{cls.__call__.__doc__}"
        address = entry.address("graphc_method_call")
        method = MethodDef(b"__call__", address, METHOD_FLAGS, doc.encode())
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(method))  # CPython refers to it for ever
        prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_void_p)
        new = prototype(("PyDescr_NewMethod", ctypes.pythonapi))
        replaced: Any = cls
        replaced.__call__ = new(cls, ctypes.addressof(method))


def _offset_of(cls: type, slot: str) -> int | None:
    """Where instances keep a slot: the one word that changes when it is filled."""
    instance: Any = object.__new__(cls)
    mark = object()
    setattr(instance, slot, mark)
    words = (ctypes.c_int64 * (cls.__basicsize__ // 8)).from_address(id(instance))
    found = [8 * k for k, word in enumerate(words) if word == id(mark)]
    return found[0] if len(found) == 1 else None
