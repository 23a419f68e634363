"""Rows of a benchmark as aligned text or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

Row = Mapping[str, object]


def text(rows: Iterable[Row]) -> str:
    """A table whose columns are the keys of the rows, in order of first use."""
    listed = [{k: str(v) for k, v in row.items()} for row in rows]
    columns = list(dict.fromkeys(k for row in listed for k in row))
    width = {c: max([len(c), *(len(row.get(c, "")) for row in listed)]) for c in columns}
    lines = ["  ".join(c.ljust(width[c]) for c in columns).rstrip()]
    lines.append("  ".join("-" * width[c] for c in columns))
    for row in listed:
        lines.append("  ".join(row.get(c, "").ljust(width[c]) for c in columns).rstrip())
    return "\n".join(lines)


def json_lines(name: str, machine: str, rows: Iterable[Row]) -> str:
    """One JSON object per row, for keeping."""
    return "\n".join(
        json.dumps({"benchmark": name, "machine": machine, **{k: str(v) for k, v in row.items()}})
        for row in rows
    )
