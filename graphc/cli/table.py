"""Tables and JSON on stdout (the command line, floor 8).

Invariant: names out of a file reach a terminal as printable characters only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, object]


def table(rows: Sequence[Row], indent: str = "  ") -> str:
    """Rows as text with a head of their keys; numbers stand at the right. Empty for no rows."""
    if not rows:
        return ""
    heads = list(rows[0])
    cells = [heads, *([_cell(row[h]) for h in heads] for row in rows)]
    right = [all(type(row[h]) in (int, float) for row in rows) for h in heads]
    widths = [max(len(line[k]) for line in cells) for k in range(len(heads))]
    lines = []
    for line in cells:
        padded = [
            text.rjust(width) if numeric else text.ljust(width)
            for text, width, numeric in zip(line, widths, right, strict=True)
        ]
        lines.append((indent + "  ".join(padded)).rstrip())
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(value))


def printable(text: str) -> str:
    """Text of a file that may come from strangers, without characters that steer a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def json_text(value: Any) -> str:
    """JSON; what JSON has no word for (NaN, infinities) becomes a string."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def bytes_text(count: float) -> str:
    """`1.50 MB`, in powers of ten."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count:.0f} bytes"


def time_text(seconds: float) -> str:
    """`1.25 ms`"""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
