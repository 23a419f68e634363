"""Where the bytes of variables and constants go (floor 8): into the library, or beside it.

Beside it is a safetensors file (https://huggingface.co/docs/safetensors: eight bytes of header
length, a JSON header, the data), which the library maps; its header is part of the library, so that
another file is refused.
"""

from __future__ import annotations

import json

import numpy as np

from graphc.aot.data import bytes_global
from graphc.aot.wrapper import Data
from graphc.artifact.tensors import CODES
from graphc.base.errors import UnsupportedError, message
from graphc.ir.constant import ConstantValue

_MOST_INSIDE = 1 << 30  # bytes; the text of a library is four times as long
_LEAST_OUTSIDE = 4096  # a smaller constant is not worth a place in the file
_HEADER_ALIGN = 64


class Weights:
    """Collects values; gives each its `Data`, the module's globals and the file."""

    def __init__(self, external: bool) -> None:
        self.external = external
        self.globals: list[str] = []
        self.sizes: dict[str, int] = {}  # of each global, for the size report
        self._inside: dict[int, Data] = {}
        self._names: dict[int, tuple[str, ConstantValue]] = {}
        self._keep: list[ConstantValue] = []
        self._offsets: dict[int, int] | None = None
        self.header = b""
        self.end = 0

    def plan_file(
        self,
        variables: list[tuple[str, ConstantValue]],
        constants: list[tuple[str, ConstantValue]],
    ) -> None:
        """Give every variable, and every large constant, its place in the file."""
        places = {id(value): (name, value) for name, value in reversed(variables)}
        taken = {name for name, _ in variables}
        for name, value in constants:
            while name in taken:
                name += "_"
            if value.nbytes >= _LEAST_OUTSIDE:
                places.setdefault(id(value), (name, value))
        # No gaps between tensors: the widest elements first keeps all of them aligned.
        items = sorted(places.values(), key=lambda item: -item[1].stored.dtype.itemsize)
        table: dict[str, object] = {"__metadata__": {"format": "graphc"}}
        offsets: dict[int, int] = {}
        end = 0
        for name, value in items:
            start, end = end, end + value.nbytes
            offsets[id(value)] = start
            table[name] = {
                "dtype": CODES[value.dtype],
                "shape": list(value.shape),
                "data_offsets": [start, end],
            }
        text = json.dumps(table, separators=(",", ":")).encode()
        text += b" " * (-(len(text) + 8) % _HEADER_ALIGN)
        self.header = len(text).to_bytes(8, "little") + text
        self._offsets = {key: len(self.header) + at for key, at in offsets.items()}
        self._names = {id(v): (n, v) for n, v in items}
        self.end = len(self.header) + end

    def data(self, name: str, value: ConstantValue) -> Data:
        """Where `value` is."""
        if self._offsets is not None and id(value) in self._offsets:
            return Data(value.nbytes, offset=self._offsets[id(value)])
        found = self._inside.get(id(value))
        if found is None:
            symbol = f"graphc.data.{len(self._inside)}"
            self.sizes[name] = value.nbytes
            if sum(self.sizes.values()) > _MOST_INSIDE:
                raise UnsupportedError(
                    message(
                        f"the weights are too large for a library: more than {_MOST_INSIDE} bytes",
                        at="",
                        hint='keep them beside it: weights="external" (--weights external)',
                    )
                )
            found = self._inside[id(value)] = Data(value.nbytes, symbol)
            self._keep.append(value)
            self.globals.append(bytes_global(symbol, _bytes(value)))
        return found

    def initial(self, name: str, value: ConstantValue) -> Data:
        """Where the first value of a member of the state is; zeros need no bytes."""
        if (
            not value.stored.view(np.uint8).any()
            if value.stored.ndim
            else not _bytes(value).strip(b"\0")
        ):
            return Data(value.nbytes, zero=True)
        return self.data(name, value)

    def file_parts(self) -> list[bytes]:
        """The weights file."""
        return [self.header, *(_bytes(value) for _, value in self._names.values())]


def _bytes(value: ConstantValue) -> bytes:
    return value.stored.astype(value.stored.dtype.newbyteorder("<"), copy=False).tobytes()
