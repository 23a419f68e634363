"""MODEL: the graph of a file (the command line, floor 8).

What a file is decides its content, not its name: a `.graphc` file is a zip archive, an ONNX file
begins with the number of a field, a text graph is UTF-8 without NUL bytes.
"""

from __future__ import annotations

import importlib
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import graphc
from graphc.base.atomic_file import replacing
from graphc.base.errors import FormatError, GraphError, message
from graphc.compiler import Compilation
from graphc.ir.bindings import rebuilt
from graphc.ir.constant import constant_value
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, fresh_uid, make
from graphc.ir.opdef import REGISTRY
from graphc.program_lookup import schedules_of_user
from graphc.runtime.executable import CompileOptions
from graphc.runtime.function import Function
from graphc.runtime.session import Session
from graphc.runtime.structure import Structure

_ZIP = b"PK\x03\x04"
_ONNX = b"\x08"


@dataclass(frozen=True)
class Model:
    """A graph and where it came from. members: names and bytes of the parts of a `.graphc` file."""

    graph: Graph
    source: str
    kind: str
    members: tuple[tuple[str, int], ...] = ()


def load(source: str) -> Model:
    """The model of a path, or the text graph on stdin for "-".

    Raises OSError, FormatError for what is neither a `.graphc` or ONNX file nor a text graph,
    UnsupportedError for what graphc cannot do of an ONNX file, or without the package onnx.
    """
    if source == "-":
        return Model(_parse(sys.stdin.buffer.read(), "stdin"), "stdin", "text")
    path = Path(source)
    with open(path, "rb") as file:
        head = file.read(len(_ZIP))
        if head == _ZIP:
            with _naming(source):
                return Model(graphc.load(path), source, "graphc", _members(path))
        data = head + file.read()
    # The first field of an ONNX file is its version; no text begins with that byte.
    if path.suffix.lower() == ".onnx" or data.startswith(_ONNX):
        with _naming(source):
            return Model(graphc.onnx.load(path), source, "onnx")
    return Model(_parse(data, source), source, "text")


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Name the file in errors about what stands in it."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{source}: {error}") from None


def _members(path: Path) -> tuple[tuple[str, int], ...]:
    with zipfile.ZipFile(path) as archive:
        return tuple((info.filename, info.file_size) for info in archive.infolist())


def _parse(data: bytes, source: str) -> Graph:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_a_model(source, f"the byte at {error.start} is no UTF-8 text") from None
    if "\0" in text:
        raise _not_a_model(source, f"there is a NUL byte at {text.index(chr(0))}")
    with _naming(source):
        return graphc.parse(text, file=source)


def _not_a_model(source: str, why: str) -> FormatError:
    return FormatError(
        message(
            f"{source}: expected a .graphc file, an ONNX file or a text graph, but {why}",
            at="",
            hint="write one with graph.save(path), or as text with str(graph)",
        )
    )


def save(graph: Graph, target: str) -> None:
    """Write a graph: to stdout for "-", as a `.graphc` file by its name, as text otherwise."""
    if target == "-":
        print(graph.text)
    elif target.endswith(".graphc"):
        graph.save(target)
    else:
        with replacing(target) as file:
            file.write(f"{graph.text}\n".encode())


def check_folder(target: str | None) -> None:
    """Raise FileNotFoundError now, not after the work, where a file cannot be written later."""
    if target not in (None, "-"):
        folder = os.path.dirname(os.path.abspath(str(target)))
        if not os.path.isdir(folder):
            raise FileNotFoundError(2, f"cannot write here: no such folder as {folder}", target)


def compiled(session: Session, graph: Graph) -> Function:
    """The graph as a function; a call returns a dict by output name."""
    outputs = dict(graph.outputs)
    return Function(session._workshop, graph, Structure(outputs, "outputs"))


def compilation(graph: Graph, numerics: str = "standard") -> Compilation:
    """The graph on its way through the compiler's stages, for this machine."""
    target = importlib.import_module("graphc.backend.llvm_cpu").host_target()
    return Compilation(graph, CompileOptions(numerics=numerics), target, schedules_of_user())


def check_sizes(graph: Graph, sizes: dict[str, int]) -> None:
    """Raise GraphError where a size is not that of a symbolic dim, or outside its bounds."""
    symbols = {s.name: s for s in graph.symbols}
    for name, size in sizes.items():
        symbol = symbols.get(name)
        if symbol is None:
            known = ", ".join(symbols) or "none: all its sizes are fixed"
            what = f"--dim {name}={size}: the graph has no symbolic dim {name!r}"
            raise GraphError(message(what, at="", hint=f"its symbolic dims: {known}"))
        above = symbol.max is not None and size > symbol.max
        if size < symbol.min or above or size % symbol.multiple_of:
            limits = f"min={symbol.min}, max={symbol.max}, multiple_of={symbol.multiple_of}"
            what = f"--dim {name}={size}: expected a size within the bounds of {name!r} ({limits})"
            raise GraphError(message(what, at="", hint="the bounds are declared in the model"))


def with_values(graph: Graph, values: dict[int, Any]) -> Graph:
    """The graph whose variables start with other values, given by id of variable."""
    mapping: dict[int, Node] = {}
    for node in graph.nodes:
        inputs = tuple(mapping.get(id(i), i) for i in node.inputs)
        if id(node) in values and isinstance(node, Tensor):
            value = constant_value(values[id(node)], node.dtype)
            attrs = (node.attr("name"), value, node.attr("trainable"), fresh_uid())
            mapping[id(node)] = make(REGISTRY["variable"], (), attrs)
        elif any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
            mapping[id(node)] = make(node.op, inputs, node.attrs)

    def new(tensor: Tensor) -> Tensor:
        found = mapping.get(id(tensor), tensor)
        assert isinstance(found, Tensor)
        return found

    return Graph.build(
        graph.inputs,
        tuple((name, new(t)) for name, t in graph.outputs),
        tuple((new(v), new(t)) for v, t in graph.updates),
        graph.name,
        {name: mapping.get(id(node), node) for name, node in graph.names.items()},
        rebuilt(graph.bindings, mapping),
    )
