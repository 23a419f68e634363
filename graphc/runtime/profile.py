"""Time per kernel of a compiled function (runtime, floor 7), as a table and as a Chrome trace.

The compiled entry counts the processor's ticks of each launch; ticks become seconds by the wall
time of the same calls.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

_PRINTED = 30  # rows of the table: an unrolled loop has hundreds of kernels


@dataclass(frozen=True, slots=True)
class KernelTime:
    """One launch: what it computes; seconds, scalar operations and bytes moved per call."""

    name: str
    nodes: tuple[str, ...]
    lines: tuple[str, ...]
    seconds: float
    flops: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Profile:
    """The kernels of a function in the order in which they run; the slowest print as a table.

    calls: how often the function ran; seconds: wall time of one call, entering native code
    included.
    """

    function: str
    calls: int
    seconds: float
    kernels: tuple[KernelTime, ...]

    def __str__(self) -> str:
        head = f"{self.function}: {_time(self.seconds)} per call ({self.calls} calls)"
        rows: list[tuple[str, ...]] = [
            ("time", "share", "GB/s", "Gop/s", "kernel", "computes", "lines")
        ]
        slowest = sorted(self.kernels, key=lambda k: -k.seconds)
        for kernel in slowest[:_PRINTED]:
            rows.append(self._row(kernel))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = [head]
        for row in rows:
            numbers = [text.rjust(width) for text, width in zip(row[:4], widths, strict=False)]
            lines.append("  ".join([*numbers, row[4].ljust(widths[4]), *row[5:]]).rstrip())
        rest = slowest[_PRINTED:]
        if rest:
            together = sum(k.seconds for k in rest)
            lines.append(f"{_time(together)} in {len(rest)} more kernels; all of them: .kernels")
        return "\n".join(lines)

    def _row(self, kernel: KernelTime) -> tuple[str, ...]:
        total = sum(k.seconds for k in self.kernels) or 1.0
        return (
            _time(kernel.seconds),
            f"{kernel.seconds / total:.0%}",
            _rate(kernel.bytes, kernel.seconds),
            _rate(kernel.flops, kernel.seconds),
            kernel.name,
            ", ".join(kernel.nodes),
            ", ".join(kernel.lines),
        )

    def chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write one call as trace events, for a trace viewer (chrome://tracing, Perfetto)."""
        events: list[dict[str, object]] = []
        start = 0.0
        for kernel in self.kernels:
            events.append(
                {
                    "name": kernel.name,
                    "cat": "kernel",
                    "ph": "X",
                    "ts": start,
                    "dur": kernel.seconds * 1e6,
                    "pid": 1,
                    "tid": 1,
                    "args": {
                        "computes": ", ".join(kernel.nodes),
                        "lines": ", ".join(kernel.lines),
                        "bytes": kernel.bytes,
                        "operations": kernel.flops,
                    },
                }
            )
            start += kernel.seconds * 1e6
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": events, "displayTimeUnit": "ns"}, file)


def seconds_of_ticks(ticks: Sequence[int], whole: int, seconds: float, calls: int) -> list[float]:
    """Seconds per call of each launch.

    whole: ticks of the whole entry over all calls (0: not counted, the launches are then taken as
    all of it); seconds: wall time of all calls.
    """
    total = max(whole, sum(ticks))
    return [tick * seconds / total / calls if total else 0.0 for tick in ticks]


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _rate(amount: int, seconds: float) -> str:
    return f"{amount / seconds / 1e9:.3g}" if seconds > 0 and amount else "-"
