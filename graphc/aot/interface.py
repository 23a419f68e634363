"""What a compiled library offers to C (floor 8): names, types, order of arguments, status codes.

Everything that describes the library (header, wrapper code, example, bindings, report) is written
from one `Interface`, so that they cannot disagree.
Invariant: every C name is an identifier of C and C++, and unique in its function or struct.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from graphc.aot.c_words import is_word, why_not_a_library
from graphc.base.dims import Dim, Shape, Size, Symbol, product
from graphc.base.dtypes import DType, float64
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.ops.conditions import Condition, size_conditions

ABI_VERSION = 1
# Codes from FIRST_SITE on name a place in the graph that met a value it cannot compute with.
FIRST_SITE = 100
STATUSES = (
    ("OK", 0, "success"),
    ("NULL_POINTER", 1, "a pointer is NULL"),
    ("BAD_SIZE", 2, "a size is outside of its bounds, or the sizes together are too large"),
    ("WORKSPACE_TOO_SMALL", 3, "the workspace is smaller than the workspace size"),
    ("UNSUPPORTED_CPU", 4, "the processor lacks the instructions that the library was made for"),
    ("BAD_STATE", 5, "the state was not made by the init function of this library"),
    ("MISALIGNED", 6, "a pointer is not aligned to its element type"),
    ("BAD_WEIGHTS", 7, "the weights file cannot be mapped, or is not the one of this library"),
)
_TYPES = {
    "bool": "bool",
    "float16": "uint16_t",
    "bfloat16": "uint16_t",
    "float32": "float",
    "float64": "double",
}


def c_type(dtype: DType) -> str:
    """The C type that holds one stored element; 16-bit floats are their bits."""
    return _TYPES.get(dtype.name, f"{dtype.name}_t")


@dataclass(frozen=True, slots=True)
class Operand:
    """An array that crosses the boundary. name: in C; label: in the graph."""

    name: str
    label: str
    dtype: DType
    shape: Shape

    @property
    def elements(self) -> Size:
        """How many elements it holds."""
        return product(self.shape)

    @property
    def nbytes(self) -> Size:
        """How many bytes it takes."""
        return self.elements * self.dtype.itemsize

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "name": self.name,
            "label": self.label,
            "dtype": self.dtype.name,
            "shape": [s if isinstance(s, int) else str(s) for s in self.shape],
        }


@dataclass(frozen=True, slots=True)
class SizeArgument:
    """A symbolic size as an int64_t argument."""

    name: str
    symbol: Symbol


@dataclass(frozen=True, slots=True)
class Interface:
    """All that a caller sees.

    state: the variables that a call updates, members of the caller's struct in this order;
    conditions: what the sizes inside the graph must satisfy;
    sites: what each status from FIRST_SITE on says; external: the weights are in a file of their
    own.
    """

    name: str
    title: str
    sizes: tuple[SizeArgument, ...]
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    state: tuple[Operand, ...]
    conditions: tuple[Condition, ...]
    sites: tuple[str, ...]
    external: bool

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Inputs, then outputs: the order of the arguments."""
        return self.inputs + self.outputs

    @property
    def is_scalar_function(self) -> bool:
        """One float64 vector in, one float64 scalar out, nothing else: it is a callback of C too.

        Its shape is a number, or the only size of the library.
        """
        if len(self.inputs) != 1 or len(self.outputs) != 1 or self.state or self.external:
            return False
        ((given,), (result,)) = (self.inputs, self.outputs)
        symbols = [s.symbol for s in self.sizes]
        sizes = tuple(Dim(s.name, s.min, s.max, s.multiple_of) for s in symbols)
        return (
            given.dtype is result.dtype is float64
            and result.shape == ()
            and len(given.shape) == 1
            and (isinstance(given.shape[0], int) if not sizes else given.shape == sizes)
        )

    def state_offsets(self) -> tuple[tuple[int, ...], int]:
        """Where each member of the state starts, in bytes, and the size of the struct.

        C's own layout: each member at a multiple of its element's size; the layout mark first.
        """
        offsets = []
        end = 8
        for member in self.state:
            size = member.dtype.itemsize
            end = -(-end // size) * size
            offsets.append(end)
            end += _fixed(member.nbytes)
        return tuple(offsets), -(-end // 8) * 8

    def layout_mark(self) -> int:
        """A number that says which state struct it is, in its first member."""
        text = repr([(m.name, m.dtype.name, m.shape) for m in self.state])
        digest = hashlib.sha256(f"graphc state {ABI_VERSION} {text}".encode()).digest()
        return int.from_bytes(digest[:8], "little") | 1

    def describe(self) -> dict[str, Any]:
        """As JSON: what `NAME.json` holds."""
        offsets, size = self.state_offsets()
        return {
            "abi": ABI_VERSION,
            "name": self.name,
            "sizes": [
                {
                    "name": s.name,
                    "symbol": s.symbol.name,
                    "min": s.symbol.min,
                    "max": s.symbol.max,
                    "multiple_of": s.symbol.multiple_of,
                }
                for s in self.sizes
            ],
            "inputs": [o.describe() for o in self.inputs],
            "outputs": [o.describe() for o in self.outputs],
            "state": [
                o.describe() | {"offset": at} for o, at in zip(self.state, offsets, strict=True)
            ],
            "state_bytes": size if self.state else 0,
            "external_weights": self.external,
            "messages": {str(k + FIRST_SITE): text for k, text in enumerate(self.sites)},
        }


def _fixed(size: Size) -> int:
    assert isinstance(size, int), "a variable has a fixed shape"
    return size


def identifier(text: str) -> str:
    """`text` as an identifier of C and C++."""
    name = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_") or "value"
    if name[0].isdigit():
        name = f"n{name}"
    return name + "_" if is_word(name) else name


def library_name(text: str) -> str:
    """`text`, a folder's name, as the name of a library."""
    name = identifier(text)
    return f"{name}_" if why_not_a_library(name) else name


class _Names:
    def __init__(self) -> None:
        self.taken: set[str] = set()

    def new(self, text: str) -> str:
        base = name = identifier(text)
        number = 2
        while name in self.taken:
            name, number = f"{base}_{number}", number + 1
        self.taken.add(name)
        return name


def interface(graph: Graph, name: str, sites: Iterable[str], *, external: bool) -> Interface:
    """The interface of a graph's library."""
    arguments, members = _Names(), _Names()
    updated = {id(v) for v, _ in graph.updates}
    sizes = tuple(SizeArgument(arguments.new(s.name), s) for s in graph.symbols)

    def operand(names: _Names, label: str, tensor: Tensor) -> Operand:
        return Operand(names.new(label), label, tensor.dtype, tensor.shape)

    return Interface(
        name,
        graph.name,
        sizes,
        tuple(operand(arguments, label, t) for label, t in graph.inputs),
        tuple(operand(arguments, label, t) for label, t in graph.outputs),
        tuple(operand(members, graph.name_of(v), v) for v in graph.variables if id(v) in updated),
        size_conditions(graph),
        tuple(sites),
        external,
    )


def public_symbols(interface: Interface) -> tuple[str, ...]:
    """The functions that a library exports."""
    names = ["abi_version", "isa", "message", "run", "select_isa", "set_threads", "threads"]
    names.append("workspace_size")
    if interface.state:
        names += ["state_init", "state_size"]
    if interface.external:
        names += ["weights_close", "weights_open"]
    if interface.is_scalar_function:
        names.append("callable")
    return tuple(f"{interface.name}_{name}" for name in names)
