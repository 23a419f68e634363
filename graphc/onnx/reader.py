"""Reading ONNX files (floor 8): from bytes to a model whose frame is checked.

Checked here is what concerns the file as a whole: that it is a model, its versions, its functions.
What concerns single nodes and tensors is checked when they are imported, where the place is known.
Nothing of the file is believed, and whatever is wrong with it is a FormatError.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx.defs

from graphc.base.errors import FormatError, message
from graphc.base.limits import Limits
from graphc.onnx.external import ExternalData
from graphc.onnx.refusal import bad, shown, unsupported
from graphc.onnx.tensors import TensorReader

FunctionKey = tuple[str, str, str]  # domain, name, overload


@dataclass(frozen=True)
class Model:
    """A model: its proto, the versions of its operators by domain, its own functions, its data."""

    proto: Any
    opsets: dict[str, int]
    functions: dict[FunctionKey, Any]
    tensors: TensorReader
    limits: Limits


def domain_of(name: str) -> str:
    """The default domain has two names."""
    return "" if name == "ai.onnx" else name


def read_file(path: str | os.PathLike[str], limits: Limits) -> Model:
    """The model of a file; external data is looked for in its folder. Raises FormatError."""
    shown_path = os.fspath(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FormatError(
                    message(f"{shown_path!r} is no file", at="", hint="give the path of a file")
                )
            data = file.read()
    except (OSError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        text = f"cannot read {shown_path!r}: {reason}"
        raise FormatError(message(text, at="", hint="give the path of an .onnx file")) from error
    return read_bytes(data, limits, Path(os.path.abspath(path)).parent)


def read_bytes(data: bytes, limits: Limits, folder: Path | None = None) -> Model:
    """The model of a file's bytes. Raises FormatError."""
    if not data:
        bad("the file", "it is empty")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception as error:  # the protobuf package's own class, which has no public name
        if type(error).__name__ not in ("DecodeError", "UnicodeDecodeError", "RuntimeError"):
            raise
        bad("the file", f"it is no ONNX model: {error}", "give a file that holds a ModelProto")
    return checked_model(proto, limits, folder)


def checked_model(proto: Any, limits: Limits, folder: Path | None = None) -> Model:
    """A ModelProto as a model. Raises FormatError."""
    if not proto.HasField("graph") or not proto.opset_import:
        bad("the file", "it is no ONNX model: it has no graph or names no opset")
    if not 1 <= proto.ir_version <= onnx.IR_VERSION:
        what = f"the IR version is {proto.ir_version}, expected 1 to {onnx.IR_VERSION}"
        bad("the model", what, "a newer onnx package may know it: pip install -U onnx")
    _check_texts(proto)
    opsets = checked_opsets("the model", proto.opset_import)
    functions: dict[FunctionKey, Any] = {}
    for function in proto.functions:
        where = f"function {shown(function.name)}"
        key = (domain_of(function.domain), function.name, function.overload)
        if not function.name:
            bad(where, "it has no name")
        if key in functions:
            bad(where, "it is defined twice")
        checked_opsets(where, function.opset_import)
        for names, what in ((function.input, "input"), (function.output, "output")):
            if len(set(names)) != len(names):
                bad(where, f"two {what}s have the same name")
        functions[key] = function
    _check_cycles(functions)
    tensors = TensorReader(ExternalData(folder), limits)
    return Model(proto, opsets, functions, tensors, limits)


_TEXT, _MESSAGE = 9, 11  # kinds of fields


def _check_texts(proto: Any) -> None:
    """Raise FormatError for a name that is no UTF-8: it would be bytes instead of a text."""
    stack = [proto]
    while stack:
        message_ = stack.pop()
        for kind, value in message_.ListFields():
            if kind.type == _TEXT:
                for text in (value,) if isinstance(value, str | bytes) else value:
                    if not isinstance(text, str):
                        place = f"the model: {message_.DESCRIPTOR.name}: {kind.name}"
                        bad(place, f"{shown(text)} is no UTF-8 text")
            elif kind.type == _MESSAGE:
                stack += [value] if hasattr(value, "ListFields") else value


def checked_opsets(where: str, imports: Any) -> dict[str, int]:
    """Versions by domain. Raises FormatError, and UnsupportedError for one that is too new."""
    newest = onnx.defs.onnx_opset_version()
    found: dict[str, int] = {}
    for item in imports:
        domain = domain_of(item.domain)
        if domain in found:
            bad(where, f"it imports the domain {shown(domain)} twice")
        if not 1 <= item.version < 2**31:
            what = f"the opset version {item.version} of {shown(domain)}"
            bad(where, f"{what} is {'too large' if item.version > 0 else 'not positive'}")
        if domain == "" and item.version > newest:
            unsupported(
                where,
                f"it needs opset {item.version}; this version of onnx knows opsets up to {newest}",
                "pip install -U onnx",
            )
        found[domain] = item.version
    return found


def _check_cycles(functions: dict[FunctionKey, Any]) -> None:
    """Raise FormatError where functions call each other in a circle; iterative."""
    edges = {key: _called(function, functions) for key, function in functions.items()}
    state: dict[FunctionKey, int] = {}
    for root in edges:
        stack = [(root, iter(edges[root]))] if root not in state else []
        state.setdefault(root, 1)
        while stack:
            key, rest = stack[-1]
            for other in rest:
                if state.get(other) == 1:
                    bad(f"function {shown(other[1])}", "it calls itself, directly or by others")
                if other not in state:
                    state[other] = 1
                    stack.append((other, iter(edges[other])))
                    break
            else:
                state[key] = 2
                stack.pop()


def _called(function: Any, functions: dict[FunctionKey, Any]) -> list[FunctionKey]:
    """The functions of the model that a function calls, in subgraphs too."""
    found: list[FunctionKey] = []
    stack = [*function.node]
    while stack:
        node = stack.pop()
        key = (domain_of(node.domain), node.op_type, node.overload)
        if key in functions:
            found.append(key)
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                stack += graph.node
    return found
