"""Timing one call, and what the machine did meanwhile.

The best of several runs is reported beside the median: the best says what the code can do, the
gap says how disturbed the machine was.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Timing:
    """Seconds of single calls, and the number of calls that were measured."""

    best: float
    median: float
    calls: int

    def __str__(self) -> str:
        return f"{readable(self.best)} (median {readable(self.median)}, {self.calls} runs)"


def measure(call: Callable[[], object], *, seconds: float = 1.0, rounds: int = 7) -> Timing:
    """Time `call` in rounds of equal length that together take about `seconds`, after a warm-up."""
    call()
    begin = time.perf_counter()
    call()
    once = max(time.perf_counter() - begin, 1e-8)
    inner = max(1, int(seconds / rounds / once))
    samples = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(inner):
            call()
        samples.append((time.perf_counter() - begin) / inner)
    return Timing(min(samples), statistics.median(samples), inner * rounds)


def once(call: Callable[[], object]) -> float:
    """Seconds of one call that cannot be repeated (a first compilation)."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def readable(seconds: float) -> str:
    """`1.25 ms`"""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def machine() -> str:
    """Processor, number of usable processors, system, Python."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        names = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")]
        model = names[0] if names else model
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = platform.python_version()
    return (
        f"{model}, {usable} processors, {platform.system()} {platform.machine()}, Python {python}"
    )


class OutsideLoad:
    """Processor seconds that other processes used while the `with` block ran."""

    def __enter__(self) -> OutsideLoad:
        self._begin = (time.perf_counter(), busy_seconds(), _own())
        return self

    def __exit__(self, *_: object) -> None:
        wall, busy, own = self._begin
        self.seconds = time.perf_counter() - wall
        self.outside = max(0.0, (busy_seconds() - busy) - (_own() - own))

    def __str__(self) -> str:
        share = self.outside / self.seconds if self.seconds else 0.0
        return f"other processes used {share:.2f} processors meanwhile"


def busy_seconds() -> float:
    """Seconds that all processors were busy since the machine started; 0 where it is not told."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    ticks = [int(v) for v in path.read_text().split("\n", 1)[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK")


def _own() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
