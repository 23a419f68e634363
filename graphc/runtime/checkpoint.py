"""Checkpoints (runtime, floor 7): named arrays in a `.safetensors` file, whole at any moment.

The new file is complete and on the disk before it takes the old one's name.  Every dtype is stored
as it is, bfloat16 as BF16, whether or not `ml_dtypes` is there.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from graphc.base.atomic_file import replacing
from graphc.base.dtypes import ALL, dtype_of
from graphc.base.errors import FormatError, message
from graphc.runtime.feeding import here
from graphc.runtime.variables import Saved

_CODES = {
    d.name: "BOOL" if d.is_bool else "BF16" if d.name == "bfloat16" else d.short.upper()
    for d in ALL
}
_NAMES = {code: name for name, code in _CODES.items()}
_HINT = "give the path of a file that session.save wrote"


def write_checkpoint(path: str | os.PathLike[str], values: Mapping[str, Saved]) -> None:
    """Write `values`; the file at `path` is the old one or the new one at every moment."""
    with replacing(path) as file:
        for part in _parts(values):
            file.write(part)


def _parts(values: Mapping[str, Saved]) -> Iterator[bytes | memoryview]:
    header: dict[str, object] = {"__metadata__": {"format": "graphc"}}
    end = 0
    # The format asks for data without gaps; the widest elements first keeps all of them aligned.
    items = sorted(values.items(), key=lambda item: -item[1].stored.dtype.itemsize)
    for name, saved in items:
        start, end = end, end + saved.stored.nbytes
        header[name] = {
            "dtype": _CODES[saved.dtype],
            "shape": list(saved.stored.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little")
    yield text
    for _, saved in items:
        stored = saved.stored
        array = np.ascontiguousarray(stored, stored.dtype.newbyteorder("<"))
        yield array.reshape(-1).view(np.uint8).data


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Saved]:
    """The values in a file. Raises FormatError where it is missing, or not a whole checkpoint."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FormatError(
            message(
                f"cannot read the checkpoint {os.fspath(path)}: {error.strerror}",
                at=here(),
                hint=_HINT,
            )
        ) from error
    library = importlib.import_module("safetensors")
    try:
        found = library.deserialize(data)
    except library.SafetensorError as error:
        raise FormatError(
            message(
                f"{os.fspath(path)} is no whole safetensors file: {error}", at=here(), hint=_HINT
            )
        ) from error
    values: dict[str, Saved] = {}
    for name, record in found:
        if record["dtype"] not in _NAMES:
            raise FormatError(
                message(
                    f"{os.fspath(path)}: {name!r} has the unknown dtype {record['dtype']}",
                    at=here(),
                    hint=f"dtypes here: {', '.join(_NAMES)}",
                )
            )
        dtype = dtype_of(_NAMES[record["dtype"]])
        raw = np.frombuffer(bytes(record["data"]), dtype.storage.newbyteorder("<"))
        stored = raw.astype(dtype.storage).reshape(record["shape"])
        values[name] = Saved(dtype.name, stored)
    return values
