"""Calling a compiled library from Python (floor 8), to check it against the graph it was made from.

For tests and `graphc verify`; a program that only uses the library wants the bindings.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphc.aot.interface import ABI_VERSION, FIRST_SITE, STATUSES, Interface, Operand, interface
from graphc.base.dtypes import Array, from_storage, to_storage
from graphc.base.errors import CompileError, ExecutionError, FormatError, GraphError, message
from graphc.ir.evaluate import bind_feeds
from graphc.ir.graph import Graph
from graphc.ir.meaning import bind_sizes

_MANIFEST_BYTES = 1 << 26
_MISMATCH = "compile the graph again into this folder, or give the graph that it was made from"


class Library:
    """A library that `graphc.compile` wrote into `folder`, with the graph it was made from.

    Raises FormatError where there is none, GraphError where it was made from another graph.
    """

    def __init__(self, graph: Graph, folder: str | os.PathLike[str]) -> None:
        self.graph = graph
        self.folder = Path(folder)
        manifest = _manifest(self.folder)
        own = interface(graph, str(manifest["name"]), (), external=manifest["external_weights"])
        self.interface: Interface = own
        self.targets: tuple[str, ...] = tuple(manifest["targets"])
        self.numerics: str = manifest["numerics"]
        self.check_numerics = bool(manifest.get("check_numerics"))
        described = {k: v for k, v in own.describe().items() if k != "messages"}
        if any(manifest.get(key) != value for key, value in described.items()):
            raise GraphError(
                message(
                    f"the library {own.name} in {self.folder} was made from another graph",
                    at="",
                    hint=_MISMATCH,
                )
            )
        self._library = _open(self.folder / f"{own.name}.so")
        self._weights: Array | None = None
        if own.external:
            self._weights = np.zeros(1, np.uint64)
            path = os.fsencode(self.folder / f"{own.name}.safetensors")
            self._check(self._call("weights_open", _address(self._weights), path))

    def close(self) -> None:
        """Unmap the weights and end the workers."""
        self.set_threads(1)
        if self._weights is not None:
            self._call("weights_close", _address(self._weights), restype=None)
            self._weights = None

    # -- what it runs on --------------------------------------------------------------------------
    def available(self) -> tuple[str, ...]:
        """The instruction sets of the library that this machine has."""
        chosen = self.chosen
        found = tuple(t for t in self.targets if self._call("select_isa", t.encode()) == 0)
        if chosen != "none":
            self.select(chosen)
        return found

    @property
    def chosen(self) -> str:
        """The instruction set that runs."""
        name: bytes = self._call("isa", restype=ctypes.c_char_p)
        return name.decode()

    def select(self, target: str) -> None:
        """Run that instruction set from now on. Raises ExecutionError where it cannot run here."""
        self._check(self._call("select_isa", target.encode()))

    def set_threads(self, threads: int) -> int:
        """Allow that many threads a call; the number allowed (1 to 256)."""
        return int(self._call("set_threads", ctypes.c_int32(threads)))

    # -- calls ------------------------------------------------------------------------------------
    def new_state(self) -> Array:
        """The bytes of a state with the variables' first values."""
        _, size = self.interface.state_offsets()
        state = np.zeros(-(-size // 8), np.uint64)
        arguments = [_address(state)]
        if self._weights is not None:
            arguments.append(_address(self._weights))
        self._check(self._call("state_init", *arguments))
        return state

    def values(self, state: Array) -> dict[str, Array]:
        """The variables of a state by name, copied, in reference form."""
        offsets, _ = self.interface.state_offsets()
        raw = state.view(np.uint8)
        found = {}
        for member, at in zip(self.interface.state, offsets, strict=True):
            shape = tuple(int(str(s)) for s in member.shape)
            count = int(np.prod(shape, dtype=np.int64)) * member.dtype.itemsize
            stored = raw[at : at + count].view(member.dtype.storage).reshape(shape)
            found[member.label] = np.array(from_storage(stored, member.dtype))
        return found

    def run(
        self, feeds: Mapping[str, Any], state: Array | None = None, *, shift: int = 0
    ) -> dict[str, Array]:
        """One call on inputs by name; outputs by name, in reference form. `state` is changed (None:
        one of first values, which is lost).

        shift: bytes by which the workspace is moved from its natural place, to try its alignment.
        Raises ExecutionError with the library's own message.
        """
        call, made = self.bind(feeds, state, shift=shift)
        self._check(call())
        return {
            operand.label: np.asarray(from_storage(stored, operand.dtype))
            for operand, stored in zip(self.interface.outputs, made, strict=True)
        }

    def bind(
        self, feeds: Mapping[str, Any], state: Array | None = None, *, shift: int = 0
    ) -> tuple[Callable[[], int], list[Array]]:
        """A function that calls the library on these arrays, and the arrays of its outputs in
        stored form. It returns the status.
        """
        inputs, sizes = bind_feeds(self.graph, feeds)
        kept: list[Array] = []  # whose addresses the call uses

        def address(array: Array) -> ctypes.c_void_p:
            kept.append(array)
            return _address(array)

        arguments: list[Any] = []
        if self.interface.state:
            arguments.append(address(self.new_state() if state is None else state))
        if self._weights is not None:
            arguments.append(address(self._weights))
        dims = [ctypes.c_int64(sizes[s.symbol.name]) for s in self.interface.sizes]
        arguments += dims
        for operand, (_, tensor) in zip(self.interface.inputs, self.graph.inputs, strict=True):
            stored = to_storage(np.asarray(inputs[id(tensor)]), operand.dtype)
            arguments.append(address(np.ascontiguousarray(stored)))
        made = [_output(operand, sizes) for operand in self.interface.outputs]
        arguments += map(address, made)
        need = int(self._call("workspace_size", *dims, restype=ctypes.c_size_t))
        workspace = address(np.empty(need + shift, np.uint8)).value or 0
        arguments += [ctypes.c_void_p(workspace + shift), ctypes.c_size_t(need)]
        function = getattr(self._library, f"{self.interface.name}_run")
        function.restype = ctypes.c_int32

        def call(_kept: list[Array] = kept) -> int:
            return int(function(*arguments))

        return call, made

    def _call(self, name: str, *arguments: Any, restype: Any = ctypes.c_int32) -> Any:
        function = getattr(self._library, f"{self.interface.name}_{name}")
        function.restype = restype
        return function(*arguments)

    def _check(self, status: int) -> None:
        if status == 0:
            return
        text: bytes = self._call("message", ctypes.c_int32(status), restype=ctypes.c_char_p)
        names = {code: name for name, code, _ in STATUSES}
        kind = names.get(status, f"place {status - FIRST_SITE + 1} of the graph")
        raise ExecutionError(
            message(f"{self.interface.name}: {text.decode()} (status {status}, {kind})", at="")
        )


def _output(operand: Operand, sizes: Mapping[str, int]) -> Array:
    return np.empty(bind_sizes(operand.shape, sizes), operand.dtype.storage)


def _address(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _manifest(folder: Path) -> dict[str, Any]:
    """The one NAME.json of a folder."""
    found = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        if path.stat().st_size <= _MANIFEST_BYTES:
            try:
                content = json.loads(path.read_text())
            except ValueError as error:
                raise FormatError(message(f"{path} is no JSON: {error}", at="")) from error
            if isinstance(content, dict) and content.get("abi") == ABI_VERSION:
                found.append(content)
    if len(found) != 1:
        what = "no library" if not found else f"{len(found)} libraries"
        raise FormatError(
            message(
                f"{what} in {folder}: expected one NAME.json of ABI version {ABI_VERSION}",
                at="",
                hint="give the folder that `graphc compile -o` wrote",
            )
        )
    content = found[0]
    required = {"name": str, "targets": list, "numerics": str, "external_weights": bool}
    for key, kind in required.items():
        if not isinstance(content.get(key), kind):
            raise FormatError(
                message(f"{folder}: its JSON has no {key!r} of type {kind.__name__}", at="")
            )
    return content


def _open(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path.resolve()))
    except OSError as error:
        raise CompileError(
            message(
                f"cannot load {path}: {error}",
                at="",
                hint="only a C library (--emit c-library) for this machine can be checked here",
            )
        ) from error
