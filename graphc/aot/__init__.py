"""Ahead of time (floor 8): a graph as a C library, object, program or text that needs no Python.

Everything behind `compile` is loaded when it is called.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from graphc.aot.options import Options
from graphc.base.errors import GraphError, message
from graphc.ir.graph import Graph

if TYPE_CHECKING:
    from graphc.aot.build import Artifact


def compile(
    graph: Graph,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    target: str = "host",
    emit: str = "c-library",
    weights: str = "inside",
    bindings: Sequence[str] = (),
    max_size: int | None = None,
    numerics: str = "standard",
    check_numerics: bool = False,
    linker: str | None = None,
) -> Artifact:
    """Compile a graph ahead of time into the folder `path`: a C library, and what builds with it.

    name: of the library and all its C names; the folder's name by default. target: "native" (this
    processor), "host" (every instruction set of this architecture, chosen when the library runs),
    or one of "x86-64-linux x86-64 x86-64-v3 x86-64-v4 x86-64-v4-vnni aarch64-linux
    riscv64-linux". emit:
    "c-library" (NAME.so), "static" (NAME.a), "executable" (reads and writes .npy files), "object",
    or "llvm" (text). weights: "inside", or "external" (NAME.safetensors, mapped at run time).
    bindings: of "python cpp rust scipy". max_size: bytes of the main file beyond its weights.
    numerics: as of a session. check_numerics: stop at the first NaN or infinity with a status that
    names the place. linker: the compiler or linker to use; found by itself otherwise.

    Variables that the graph updates are the caller's state, with their values as first values; all
    others are constants of the library.  Raises GraphError for a wrong option, UnsupportedError for
    what cannot be compiled ahead of time, CompileError where linking fails or the library is larger
    than max_size; then no file is changed.
    """
    if not isinstance(graph, Graph):
        raise GraphError(
            message(
                f"compile needs a Graph, got {type(graph).__name__}",
                hint="graphc.Graph(inputs, outputs), a function's .graph, or graphc.load(path)",
            )
        )
    options = Options(
        name,
        target,
        emit,
        weights,
        bindings if isinstance(bindings, str) else tuple(bindings),
        max_size,
        numerics,
        check_numerics,
        linker,
    )
    made: Artifact = importlib.import_module("graphc.aot.build").build(graph, path, options)
    return made
