"""The Python binding of a compiled library (floor 8): `NAME_numpy.py`, which needs NumPy alone.

Not `NAME.py`: Python would take NAME.so beside it for an extension module of that name.
The module has the names, dtypes and shapes of this library as literals; arrays are checked against
them before their addresses go to C.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable
from string import Template

from graphc.aot.c_text import factor, names_for, one_line, shape_text, size_text, symbol_names
from graphc.aot.interface import ABI_VERSION, Interface, Operand
from graphc.base.dims import Dim, Size, Symbol
from graphc.base.dtypes import DType

# Names that the generated module or its functions use themselves.
_TAKEN = frozenset(
    {"arrays", "ctypes", "map", "out", "state", "weights", "workspace_size", "OUTPUTS"}
)


def python_text(interface: Interface) -> str:
    """`NAME_numpy.py`."""
    p = interface.name
    parts = [_HEAD.substitute(p=p, abi=ABI_VERSION, title=_quoted(interface.title))]
    parts.append(_tables(interface))
    parts.append(_ARRAYS)
    if interface.external:
        parts.append(_WEIGHTS.substitute(p=p))
    if interface.state:
        weights = ("weights", "weights._handle") if interface.external else ("", "")
        names = {"p": p, "weights": weights[0] and f", {weights[0]}: Weights"}
        names |= {"argument": weights[1] and f", ctypes.byref({weights[1]})"}
        parts.append(_STATE.substitute(names))
    parts.append(_run(interface))
    return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"


def _names(interface: Interface) -> Callable[[str], str]:
    """C names as Python parameters."""
    return names_for(interface, {*keyword.kwlist, *_TAKEN})


def python_size(size: Size, interface: Interface) -> str:
    """A size as a Python expression over the sizes' parameters."""
    names, python_name = symbol_names(interface), _names(interface)

    def name(symbol: Symbol) -> str:
        return python_name(names(symbol))

    return size_text(size, name, lambda a, b: f"({factor(a)} // {_denominator(b)})")


def _denominator(text: str) -> str:
    return f"({text})" if " " in text else text


def _quoted(text: str) -> str:
    """Text inside a docstring."""
    return one_line(text).replace("\\", "/").replace('"', "'")


def numpy_name(dtype: DType) -> str:
    """The NumPy dtype of a stored array; bfloat16 as its bits."""
    return dtype.storage.name


def _tables(interface: Interface) -> str:
    python_name = _names(interface)
    parameters = ", ".join(python_name(s.name) for s in interface.sizes)
    lines = ["# For each array: name in the graph, dtype, shape by the sizes."]
    for title, operands in (("INPUTS", interface.inputs), ("OUTPUTS", interface.outputs)):
        lines.append(f"{title} = {{")
        for o in operands:
            shape = "".join(f"{python_size(s, interface)}, " for s in o.shape).rstrip()
            lines.append(
                f"    {python_name(o.name)!r}: ({o.label!r}, {numpy_name(o.dtype)!r}, "
                f"lambda {parameters}: ({shape}), {_shown(o, interface)!r}),"
            )
        lines.append("}")
    lines.append("# Sizes: least, most, multiple; and the dims of inputs that tell them.")
    lines.append("SIZES = {")
    for s in interface.sizes:
        bounds = (s.symbol.min, s.symbol.max, s.symbol.multiple_of)
        places = [
            (python_name(o.name), axis)
            for o in interface.inputs
            for axis, size in enumerate(o.shape)
            if isinstance(size, Dim) and size == Dim(s.symbol.name, *bounds)
        ]
        lines.append(f"    {python_name(s.name)!r}: ({bounds!r}, {places!r}),")
    lines.append("}")
    if interface.state:
        offsets, _ = interface.state_offsets()
        lines.append("# Members of the state: name in the graph, dtype, shape, offset in bytes.")
        lines.append("MEMBERS = {")
        for m, at in zip(interface.state, offsets, strict=True):
            lines.append(
                f"    {m.name!r}: ({m.label!r}, {numpy_name(m.dtype)!r}, {m.shape!r}, {at}),"
            )
        lines.append("}")
    return "\n".join(lines)


def _shown(operand: Operand, interface: Interface) -> str:
    return shape_text(operand, symbol_names(interface))


def _run(interface: Interface) -> str:
    p, python_name = interface.name, _names(interface)
    inputs = [python_name(o.name) for o in interface.inputs]
    sizes = [python_name(s.name) for s in interface.sizes]
    given = ["state"] if interface.state else []
    given += ["weights"] if interface.external else []
    handles = [
        f"ctypes.byref({g}._handle)" if g == "weights" else "state._pointer()" for g in given
    ]
    parameters = [*given, *inputs, "*", *(f"{s}=None" for s in sizes), "out=None"]
    notes = [f"    {python_name(o.name)}: {_about(o, interface)}" for o in interface.inputs]
    results = [f"    '{_quoted(o.label)}': {_about(o, interface)}" for o in interface.outputs]
    feeds = ", ".join(f"{name!r}: {name}" for name in inputs)
    known = ", ".join(f"{name!r}: {name}" for name in sizes)
    lines = [
        f"def run({', '.join(parameters)}):",
        f'    """Compute {_quoted(p)}; returns a dict of arrays by the outputs\' graph names.',
        "",
        *([f"    Inputs:\n{chr(10).join(notes)}"] if notes else []),
        f"    Outputs:\n{chr(10).join(results)}" if results else "    There are no outputs.",
        "    Sizes are those of the inputs where they tell them. out: arrays to write into, by the",
        "    same names. May be called in several threads"
        + (", each with a state of its own." if interface.state else "."),
        "    Raises TypeError for a wrong dtype, ValueError for a wrong shape or size, Error where",
        "    the library reports one.",
        '    """',
        f"    arrays = {{{feeds}}}",
        f"    sizes = _sizes(arrays, {{{known}}})",
        "    inputs = {n: _input(n, a, sizes) for n, a in arrays.items()}",
        "    outputs = _outputs(out, sizes, inputs)",
        "    need = workspace_size(*sizes.values())",
        "    workspace = _workspace(need)",
        "    pointers = [a.ctypes.data for a in (*inputs.values(), *outputs.values())]",
        "    status = _library." + p + "_run(",
        "        " + "".join(f"{h}, " for h in handles) + "*map(ctypes.c_int64, sizes.values()),",
        "        *map(ctypes.c_void_p, pointers),",
        "        ctypes.c_void_p(workspace.ctypes.data), ctypes.c_size_t(need),",
        "    )",
        "    _check(status)",
        "    return {OUTPUTS[n][0]: a for n, a in outputs.items()}",
    ]
    return "\n".join(lines)


def _about(o: Operand, interface: Interface) -> str:
    bits = " (bfloat16 as its bits)" if o.dtype.name == "bfloat16" else ""
    shape = _quoted(_shown(o, interface))
    return f"{numpy_name(o.dtype)}{bits}, shape {shape}, '{_quoted(o.label)}' of the graph"


_HEAD = Template('''\
"""$p: the compiled graph '$title', called through ctypes. Needs NumPy and $p.so beside it."""

import ctypes
import os
import threading

import numpy as np

_library = ctypes.CDLL(os.path.join(os.path.dirname(os.path.abspath(__file__)), "$p.so"))
_library.${p}_message.restype = ctypes.c_char_p
_library.${p}_isa.restype = ctypes.c_char_p
_library.${p}_workspace_size.restype = ctypes.c_size_t
if _library.${p}_abi_version() != $abi:
    raise ImportError("$p.so and ${p}_numpy.py do not belong together")


class Error(RuntimeError):
    """The library reports a status other than 0, in .status."""

    def __init__(self, status):
        super().__init__(_library.${p}_message(status).decode())
        self.status = status


def _check(status):
    if status:
        raise Error(status)


def set_threads(threads):
    """Let a call use up to 256 threads (the default is 1); returns the number set."""
    return _library.${p}_set_threads(ctypes.c_int32(threads))


def isa():
    """The instruction set in use."""
    return _library.${p}_isa().decode()


def workspace_size(*sizes):
    """Bytes of scratch memory that a call with these sizes needs; `run` brings it itself."""
    need = _library.${p}_workspace_size(*map(ctypes.c_int64, sizes))
    if not need:
        raise ValueError(f"sizes out of bounds, {sizes}, or no code for this processor")
    return need


_local = threading.local()


def _workspace(need):
    """This thread's scratch memory: kept, and made larger when a call needs more."""
    kept = getattr(_local, "workspace", None)
    if kept is None or kept.nbytes < need:
        kept = _local.workspace = np.empty(need, np.uint8)
    return kept
''')

_ARRAYS = '''
def _as_array(name, value, dtype):
    if not isinstance(value, (np.ndarray, np.generic)):
        value = np.asarray(value, dtype)
    if value.dtype.name == "bfloat16" and dtype == "uint16":
        value = value.view(np.uint16)
    if value.dtype != np.dtype(dtype):
        raise TypeError(f"{name}: expected dtype {dtype}, got {value.dtype}")
    return np.require(value, requirements=["C", "A"])


def _sizes(arrays, given):
    """The size of every symbol, from arguments, then from the shapes of inputs."""
    sizes = {}
    for name, ((least, most, multiple), places) in SIZES.items():
        found = given[name]
        for array, axis in places:
            shape = np.shape(arrays[array])
            if found is None and axis < len(shape):
                found = shape[axis]
        if found is None:
            raise ValueError(f"no input tells the size {name}: give {name}=N")
        if found < least or (most is not None and found > most) or found % multiple:
            bounds = f"min={least}, max={most}, multiple_of={multiple}"
            raise ValueError(f"the size {name} = {found} is out of its bounds ({bounds})")
        sizes[name] = int(found)
    return sizes


def _input(name, value, sizes):
    _, dtype, shape, shown = INPUTS[name]
    array = _as_array(name, value, dtype)
    if array.shape != shape(**sizes):
        raise ValueError(f"{name}: expected shape {shown} = {shape(**sizes)}, got {array.shape}")
    return array


def _outputs(out, sizes, inputs):
    given = dict(out or {})
    outputs = {}
    for name, (label, dtype, shape, shown) in OUTPUTS.items():
        array = given.pop(label, None)
        if array is None:
            array = np.empty(shape(**sizes), dtype)
        elif array.shape != shape(**sizes) or array.dtype != np.dtype(dtype):
            raise ValueError(
                f"out[{label!r}]: expected {dtype} of shape {shown} = {shape(**sizes)}, "
                f"got {array.dtype} of shape {array.shape}"
            )
        elif not (array.flags.carray and array.flags.writeable):
            raise ValueError(f"out[{label!r}]: expected a writable C-contiguous array")
        elif any(np.may_share_memory(array, a) for a in (*inputs.values(), *outputs.values())):
            raise ValueError(f"out[{label!r}]: overlaps an input or another output")
        outputs[name] = array
    if given:
        raise ValueError(f"out: no such output: {', '.join(map(repr, given))}")
    return outputs
'''

_WEIGHTS = Template('''
class _WeightsHandle(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p)]


class Weights:
    """The weights file, mapped; a context manager. path: beside this module by default."""

    def __init__(self, path=None):
        self._handle = _WeightsHandle()
        here = os.path.dirname(os.path.abspath(__file__))
        path = os.path.join(here, "$p.safetensors") if path is None else path
        _check(_library.${p}_weights_open(ctypes.byref(self._handle), os.fsencode(path)))

    def close(self):
        """Unmap the file; no call may be running."""
        _library.${p}_weights_close(ctypes.byref(self._handle))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __del__(self):
        if hasattr(self, "_handle"):
            self.close()
''')

_STATE = Template('''
class State:
    """The variables that `run` updates: state["name in the graph"] is a view of one."""

    def __init__(self$weights):
        self._words = np.zeros(_library.${p}_state_size() // 8, np.uint64)
        _check(_library.${p}_state_init(self._pointer()$argument))

    def _pointer(self):
        return ctypes.c_void_p(self._words.ctypes.data)

    def names(self):
        """The variables' names in the graph."""
        return [label for label, *_ in MEMBERS.values()]

    def __getitem__(self, name):
        for label, dtype, shape, offset in MEMBERS.values():
            if label == name:
                return np.ndarray(shape, dtype, self._words, offset)
        raise KeyError(f"no variable {name!r}: there are {', '.join(self.names())}")

    def __setitem__(self, name, value):
        member = self[name]
        array = _as_array(name, value, member.dtype.name)
        if array.shape != member.shape:
            raise ValueError(f"{name}: expected shape {member.shape}, got {array.shape}")
        member[...] = array

    def save(self, path):
        """Write the bytes of the state, as the stand-alone program does."""
        self._words.tofile(path)

    def load(self, path):
        """Read what `save` wrote. Raises ValueError for the state of another library."""
        words = np.fromfile(path, np.uint64)
        right = words.shape == self._words.shape and words[0] == self._words[0]
        if not right or os.path.getsize(path) != words.nbytes:
            raise ValueError(f"{path}: not a state of $p")
        self._words[:] = words
''')
