"""ONNX models in and out (floor 8): `graphc.onnx.load(path)`, `graphc.onnx.export(graph, path)` and
the backend of ONNX's own test suite.

Needs the extra "onnx" (`pip install graphc[onnx]`), which is loaded when a model is read or written
and not before.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any

from graphc.base.dims import Size
from graphc.base.errors import UnsupportedError, message
from graphc.base.limits import Limits
from graphc.ir.graph import SAVER

if _TYPE_CHECKING:
    from graphc.ir.graph import Graph
    from graphc.onnx import backend

__all__ = ["backend", "export", "load"]

OPSET = 21  # of exported models: what runtimes of today read


def load(
    path: str | os.PathLike[str],
    constants: Mapping[str, Any] | None = None,
    *,
    sizes: Mapping[str, Size | str] | None = None,
    limits: Limits | None = None,
) -> Graph:
    """The graph of an ONNX file.

    Its inputs, outputs and the values between keep their names; dynamic axes are symbolic dims
    under their own names; initializers are constants. constants: values of inputs that are then no
    inputs any more (`{"axes": [0, 1]}`): for those that decide what must be known when compiling,
    such as axes; an error names them. sizes: numbers for symbolic dims (`{"batch": 1}`), dims
    whose bounds say what is known of them (`{"h": graphc.Dim("h", min=4, multiple_of=4)}`), or what
    they are computed from where a model names equal sizes differently
    (`{"mask_length": "past + 1"}`). limits: what is accepted of a file; see `graphc.Limits`.

    Where ImageDecoder reads an input, the decoded tensor, uint8 [height, width, channels], is the
    graph's input in its place.

    Raises FormatError for a file that is not a valid model, UnsupportedError for operators and
    types that graphc cannot do, both naming the place; GraphError for constants and sizes that the
    model does not have. Safe for files from strangers: nothing in them is run, and external data is
    read from the model's own folder only.

        graph = graphc.onnx.load("model.onnx")
    """
    _require("load")
    importer = importlib.import_module("graphc.onnx.importer")
    graph: Graph = importer.import_file(
        path, constants or {}, sizes or {}, limits or Limits()
    ).graph
    return graph


def export(
    graph: Graph,
    path: str | os.PathLike[str],
    *,
    opset: int = OPSET,
    provenance: bool = True,
    external_data: bool | None = None,
) -> None:
    """Write a graph, with the current values of its variables, as an ONNX file.

    Names of inputs, outputs and named tensors are kept; symbolic dims are dynamic axes; variables
    are initializers. opset: from 18 to the newest of the installed onnx package. provenance: write
    file names (without folders) and lines of the code that declared the nodes. external_data: put
    large tensors into `NAME.data` beside the file; by default where one file could not hold them.

    Raises UnsupportedError, which names the op and the user's line, for what ONNX cannot say:
    random numbers, factorizations, updates of variables; GraphError for an unknown opset; OSError.
    Files are then as they were.

        graphc.onnx.export(graph, "model.onnx")
    """
    _require("export")
    importlib.import_module("graphc.onnx.exporting.file").export_file(
        graph, path, opset, provenance=provenance, external_data=external_data
    )


SAVER["onnx"] = export


def _require(name: str) -> None:
    """Raise UnsupportedError where the package that reads the files is not installed."""
    if importlib.util.find_spec("onnx") is None:
        raise UnsupportedError(
            message(
                f"graphc.onnx.{name} needs the package onnx, which is not installed",
                hint="pip install graphc[onnx]",
            )
        )


if not _TYPE_CHECKING:  # a type checker knows which names exist

    def __getattr__(name: str) -> object:
        """The backend, loaded when it is first used."""
        if name == "backend":
            _require(name)
            return importlib.import_module("graphc.onnx.backend")
        raise AttributeError(f"module 'graphc.onnx' has no attribute {name!r}")
