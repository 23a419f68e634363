"""Bytes as LLVM globals (floor 8): strings, weights and constants inside a library."""

from __future__ import annotations

import numpy as np

_PLAIN = frozenset(range(32, 127)) - {ord('"'), ord("\\")}


def _table() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Row b: backslash and the two hexadecimal digits of byte b."""
    text = "".join(f"\\{b:02X}" for b in range(256))
    return np.frombuffer(text.encode(), np.uint8).reshape(256, 3)


_ESCAPES = _table()


def bytes_global(name: str, data: bytes | memoryview, align: int = 64) -> str:
    """A constant global with these bytes; 64-byte aligned, as the kernels like their operands."""
    escaped = _ESCAPES[np.frombuffer(data, np.uint8)].tobytes().decode("ascii")
    return f'@{name} = internal constant [{len(data)} x i8] c"{escaped}", align {align}'


def c_string(name: str, text: str) -> str:
    """A constant global with the text and the zero that ends it."""
    data = text.encode() + b"\0"
    plain = "".join(chr(b) if b in _PLAIN else f"\\{b:02X}" for b in data)
    return f'@{name} = internal constant [{len(data)} x i8] c"{plain}", align 1'
