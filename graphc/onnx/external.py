"""External data (floor 8): tensors whose bytes lie in files beside the model.

A location is a relative path inside the model's folder. Each of its parts is opened by itself,
inside the folder before it and without following links, so that neither `..` nor a link leads out,
whatever changes while the file is read. Offset and length are checked against the file, which is
mapped and not copied.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from graphc.onnx.refusal import bad, shown

_HINT = "external data lies in the model's folder: a relative path without '..' and without links"
_FIELDS = ("location", "offset", "length", "checksum", "basepath")


class ExternalData:
    """The files beside one model; each is opened and mapped once."""

    def __init__(self, folder: Path | None) -> None:
        """folder: that of the model; None where the model came as bytes."""
        self._folder = folder
        self._mapped: dict[str, memoryview] = {}

    def read(self, where: str, entries: Iterable[Any], nbytes: int) -> memoryview:
        """The `nbytes` bytes that `external_data` of a tensor names. Raises FormatError."""
        fields: dict[str, str] = {}
        for entry in entries:
            if entry.key in fields:
                bad(where, f"external data says {shown(entry.key)} twice")
            fields[entry.key] = entry.value
        if "location" not in fields:
            bad(where, "external data without a location", _HINT)
        data = self._file(where, fields["location"])
        offset = _number(where, fields, "offset", 0)
        length = _number(where, fields, "length", len(data) - offset)
        if length != nbytes:
            bad(where, f"external data has the length {length}, expected {nbytes} as its type says")
        if offset + length > len(data):
            bad(
                where,
                f"external data ends at byte {offset + length} of {shown(fields['location'])}, "
                f"which has {len(data)} bytes",
                "the data file is cut short: copy it again",
            )
        return data[offset : offset + length]

    def _file(self, where: str, location: str) -> memoryview:
        if location in self._mapped:
            return self._mapped[location]
        if self._folder is None:
            bad(where, "external data in a model that is not a file", "load the model by its path")
        parts = location.split("/")
        wrong = not location or "\\" in location or "\0" in location or ":" in parts[0]
        if wrong or any(p in ("", "..") for p in parts):
            bad(where, f"external data must not lie at {shown(location)}", _HINT)
        try:
            self._mapped[location] = _map(self._folder, [p for p in parts if p != "."])
        except OSError as error:
            loop = error.errno in (errno.ELOOP, errno.ENOTDIR)
            reason = "it is a link or no file" if loop else error.strerror
            bad(where, f"external data {shown(location)} cannot be read: {reason}", _HINT)
        return self._mapped[location]


def _number(where: str, fields: dict[str, str], key: str, default: int) -> int:
    text = fields.get(key)
    if text is None or text == "":
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        bad(where, f"external data has the {key} {shown(text)}, expected a number of bytes")
    return int(text)


def _map(folder: Path, parts: list[str]) -> memoryview:
    """The mapped file; raises OSError for links on the way and for what is no file."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(part, flags, dir_fd=directory)
            os.close(directory)
            directory = inner
        # A pipe or a device is refused, not waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(parts[-1] if parts else ".", flags, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        if status.st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)
