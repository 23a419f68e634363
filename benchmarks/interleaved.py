"""Contestants in processes of their own, timed in turns: the heart of the table against peers.

Each library then runs with its own settings and thread pool, at its best, and none can disturb
another: all sleep but the one whose turn it is, which is checked (`outside` counts processor time
that others used during a block, idle contestants included).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import Entry
from benchmarks.measure import busy_seconds
from benchmarks.workloads.reference import expected
from benchmarks.workloads.workload import Workload

ROOT = Path(__file__).parents[1]
# Between two turns threads that spin must fall asleep: the processors are looked at in windows of
# WINDOW seconds, until one has hardly any work in it or PATIENCE seconds are over.
WINDOW, PATIENCE = 0.03, 1.0


@dataclass(frozen=True)
class Plan:
    """How long to measure: `rounds` turns of `seconds` for each contestant."""

    threads: int = 2
    rounds: int = 5
    seconds: float = 0.05


@dataclass
class Measured:
    """A contestant's result on one workload, or the reason why there is none."""

    missing: str | None = None
    first: float = 0.0
    rms: float = 0.0
    worst: float = 0.0
    samples: list[float] = field(default_factory=list)
    wall: float = 0.0
    outside: float = 0.0

    def row(self) -> dict[str, Any]:
        """As JSON keeps it: quartiles of the seconds of a call, errors, outside processors."""
        if self.missing is not None:
            return {"missing": self.missing}
        low, middle, high = statistics.quantiles(self.samples, n=4)
        return {
            "median": middle,
            "q1": low,
            "q3": high,
            "best": min(self.samples),
            "samples": len(self.samples),
            "first": self.first,
            "rms": self.rms,
            "worst": self.worst,
            "outside": self.outside / self.wall if self.wall else 0.0,
        }


class Worker:
    """The process of one contestant."""

    def __init__(self, entry: Entry, python: str, threads: int) -> None:
        self.entry = entry
        command = [python, "-m", "benchmarks.worker", entry.name, str(threads)]
        environment = os.environ | entry.environment
        environment |= {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if "GRAPHC_BENCH_DEBUG" not in os.environ else None,
            text=True,
            env=environment,
        )
        self.missing: str | None = None
        self.version = ""

    def wait_ready(self) -> None:
        """Until its framework is loaded; sets `version` or `missing`."""
        answer = self._answer()
        self.version, self.missing = answer.get("version", ""), answer.get("missing")

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command; the answer, which tells when the process has died."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._died()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            return self._died()
        found: dict[str, Any] = json.loads(line)
        return found

    def _died(self) -> dict[str, Any]:
        self.missing = f"its process ended with status {self._process.wait()}"
        return {"missing": self.missing}

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def workers(
    entries: Sequence[Entry], pythons: Mapping[str, str], threads: int
) -> Iterator[list[Worker]]:
    """All contestants, started; each with the interpreter that has its framework."""
    started = [Worker(e, pythons.get(e.name, sys.executable), threads) for e in entries]
    try:
        for worker in started:
            worker.wait_ready()
        yield started
    finally:
        for worker in started:
            worker.close()


def race(workload: Workload, contestants: Sequence[Worker], plan: Plan) -> dict[str, Measured]:
    """Measure one workload: all build it, then all run it in turns, each round begun by another."""
    found: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "expected.npz"
        wanted = expected(workload, workload.data())
        np.savez(path, *wanted)
        del wanted
        for worker in contestants:
            found[worker.entry.name] = _built(worker, workload, path)
    running = [w for w in contestants if found[w.entry.name].missing is None]
    for turn in range(plan.rounds):
        shift = turn % max(len(running), 1)
        for worker in running[shift:] + running[:shift]:
            _block(worker, found[worker.entry.name], plan.seconds)
    for worker in running:
        if worker.missing is None:
            worker.ask(do="drop")
    return found


def _built(worker: Worker, workload: Workload, reference: Path) -> Measured:
    if worker.missing is not None:
        return Measured(missing=worker.missing)
    answer = worker.ask(do="build", workload=workload.name, reference=str(reference))
    if "missing" in answer:
        return Measured(missing=answer["missing"])
    return Measured(first=answer["first"], rms=answer["rms"], worst=answer["worst"])


def settle() -> None:
    """Wait until the machine is idle, or not a second longer where others keep it busy."""
    end = time.perf_counter() + PATIENCE
    while time.perf_counter() < end:
        before = busy_seconds()
        time.sleep(WINDOW)
        if busy_seconds() - before <= WINDOW / 3:
            return


def _block(worker: Worker, result: Measured, seconds: float) -> None:
    if worker.missing is not None:
        result.missing = worker.missing
        return
    settle()
    before = busy_seconds()
    answer = worker.ask(do="block", seconds=seconds)
    if "missing" in answer:
        result.missing = answer["missing"]
        return
    result.samples += answer["samples"]
    result.wall += answer["wall"]
    # Clock ticks are 10 ms: single blocks are rounded, their sum tells.
    result.outside += busy_seconds() - before - answer["own"]
