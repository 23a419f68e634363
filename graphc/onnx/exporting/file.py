"""ONNX files (floor 8): written whole or not at all, large weights in a file of their own.

A model is one protobuf message, which ends at 2 GiB: beyond, the tensors go to `NAME.data` beside
it, as external data.
"""

from __future__ import annotations

import os
from pathlib import Path

import onnx

from graphc.base.atomic_file import replacing
from graphc.ir.graph import Graph
from graphc.onnx.exporting.model import model_of

_MESSAGE_BYTES = 1 << 30  # weights beyond this are external; a message of 2 GiB cannot be read
_ALIGNMENT = 4096  # of a tensor in the file, so that it can be mapped
_SMALL = 1024  # tensors up to this many bytes stay in the message


def export_file(
    graph: Graph,
    path: str | os.PathLike[str],
    opset: int,
    *,
    provenance: bool,
    external_data: bool | None,
) -> None:
    """Write the ONNX file of a graph. Raises UnsupportedError for what ONNX cannot say, OSError;
    files are then as they were.
    """
    model = model_of(graph, opset, provenance=provenance)
    tensors = model.graph.initializer
    if external_data is None:
        external_data = sum(len(t.raw_data) for t in tensors) > _MESSAGE_BYTES
    target = Path(path)
    if external_data:
        # The data first: a model never names data that is not there.
        _write_data(list(tensors), target.with_name(target.name + ".data"))
    with replacing(target) as file:
        file.write(model.SerializeToString(deterministic=True))


def _write_data(tensors: list[onnx.TensorProto], path: Path) -> None:
    """Move the tensors' bytes to a file that they name by place and length."""
    offset = 0
    with replacing(path) as file:
        for tensor in tensors:
            size = len(tensor.raw_data)
            if size <= _SMALL:
                continue
            padding = -offset % _ALIGNMENT
            file.write(bytes(padding))
            file.write(tensor.raw_data)
            offset += padding
            entries = {"location": path.name, "offset": str(offset), "length": str(size)}
            for key, value in entries.items():
                tensor.external_data.add(key=key, value=value)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.ClearField("raw_data")
            offset += size
