"""The SciPy binding of a compiled library (floor 8): `NAME_scipy.py`, a LowLevelCallable.

SciPy's integrators call `double (int, double *, void *)` without the interpreter in between:
https://docs.scipy.org/doc/scipy/reference/generated/scipy.LowLevelCallable.html
"""

from __future__ import annotations

from string import Template

from graphc.aot.c_text import one_line
from graphc.aot.interface import Interface
from graphc.base.dims import Dim
from graphc.base.errors import UnsupportedError, message


def scipy_text(interface: Interface) -> str:
    """`NAME_scipy.py`. Raises UnsupportedError for a graph that has no such form."""
    if not interface.is_scalar_function:
        raise UnsupportedError(
            message(
                f"{interface.name}: no scipy binding for this graph: it takes one float64 vector "
                "and gives one float64 scalar",
                operands=[f"{o.name}: {o.dtype}{[*map(str, o.shape)]}" for o in interface.operands],
                at="",
                hint="one input of shape (k,) or (n,), one output of shape (), no updates, "
                "weights inside",
            )
        )
    (size,) = interface.inputs[0].shape
    symbolic = isinstance(size, Dim)
    title = one_line(interface.title).replace("\\", "/").replace('"', "'")
    return _TEXT.substitute(
        p=interface.name,
        title=title,
        parameter="n" if symbolic else "",
        argument="ctypes.c_int64(n)" if symbolic else "",
        what="n: how many variables." if symbolic else f"It takes {size} variables.",
    )


_TEXT = Template('''\
"""$p: the compiled graph '$title' as a callback for SciPy. Needs $p.so beside it, and SciPy."""

import ctypes
import importlib
import os

_library = ctypes.CDLL(os.path.join(os.path.dirname(os.path.abspath(__file__)), "$p.so"))
_library.${p}_workspace_size.restype = ctypes.c_size_t
_function = _library.${p}_callable
_function.restype = ctypes.c_double
_function.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_double), ctypes.c_void_p]


class _Scratch(ctypes.Structure):
    _fields_ = [("workspace", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


def low_level_callable($parameter):
    """A scipy.LowLevelCallable, for example for scipy.integrate.quad and nquad. $what

    It owns its workspace: one for each thread. It returns NaN where the library reports an error.
    """
    need = _library.${p}_workspace_size($argument)
    if not need:
        raise ValueError("a size is out of bounds, or there is no code for this processor")
    memory = ctypes.create_string_buffer(need)
    scratch = _Scratch(ctypes.addressof(memory), need)
    scratch.memory = memory  # kept alive as long as the callable is
    data = ctypes.cast(ctypes.pointer(scratch), ctypes.c_void_p)
    scipy = importlib.import_module("scipy")
    return scipy.LowLevelCallable(_function, data, "double (int, double *, void *)")
''')
