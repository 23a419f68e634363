"""Where the bytes of variables and constants go (floor 8): into the library, or beside it.

Beside it is a safetensors file (https://huggingface.co/docs/safetensors: eight bytes of header
length, a JSON header, the data), which the library maps; its header is part of the library, so that
a file of other names, dtypes or shapes is refused.
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
        self.header = b""
        self.end = 0
        self._inside: dict[int, tuple[ConstantValue, Data]] = {}
        self._outside: dict[int, tuple[ConstantValue, int]] = {}  # with offsets in the file
        self._total = 0

    def plan_file(
        self,
        variables: list[tuple[str, ConstantValue]],
        constants: list[tuple[str, ConstantValue]],
    ) -> None:
        """Give every one of the variables, and every large constant, its place in the file."""
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
        starts: list[int] = []
        end = 0
        for name, value in items:
            starts.append(end)
            start, end = end, end + value.nbytes
            table[name] = {
                "dtype": CODES[value.dtype],
                "shape": list(value.shape),
                "data_offsets": [start, end],
            }
        text = json.dumps(table, separators=(",", ":")).encode()
        text += b" " * (-(len(text) + 8) % _HEADER_ALIGN)
        self.header = len(text).to_bytes(8, "little") + text
        self._outside = {
            id(value): (value, len(self.header) + start)
            for (_, value), start in zip(items, starts, strict=True)
        }
        self.end = len(self.header) + end

    def data(self, name: str, value: ConstantValue) -> Data:
        """Where `value` is."""
        if id(value) in self._outside:
            _, offset = self._outside[id(value)]
            return Data(value.nbytes, offset=offset)
        if id(value) not in self._inside:
            self.sizes[name] = value.nbytes
            self._total += value.nbytes
            if self._total > _MOST_INSIDE:
                raise UnsupportedError(
                    message(
                        f"the weights are too large for a library: more than {_MOST_INSIDE} bytes",
                        at="",
                        hint='keep them beside it: weights="external" (--weights external)',
                    )
                )
            symbol = f"graphc.data.{len(self._inside)}"
            self._inside[id(value)] = (value, Data(value.nbytes, symbol))
            self.globals.append(bytes_global(symbol, _bytes(value)))
        return self._inside[id(value)][1]

    def initial(self, name: str, value: ConstantValue) -> Data:
        """Where the first value of a member of the state is; zeros need no bytes."""
        return Data(value.nbytes, zero=True) if is_zero(value) else self.data(name, value)

    def file_parts(self) -> list[bytes]:
        """The weights file."""
        return [self.header, *(_bytes(value) for value, _ in self._outside.values())]


def is_zero(value: ConstantValue) -> bool:
    """Whether all its bytes are zero."""
    return not value.stored.reshape(-1).view(np.uint8).any()


def _bytes(value: ConstantValue) -> bytes:
    return value.stored.astype(value.stored.dtype.newbyteorder("<"), copy=False).tobytes()
