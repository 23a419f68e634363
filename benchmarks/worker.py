"""One contestant in a process of its own: `python -m benchmarks.worker NAME THREADS`.

It reads one JSON object a line and answers each with one. The commands: `build` a workload, run a
`block` of timed calls, `drop` what was built. What libraries print goes to standard error.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from benchmarks.catalogue import named
from benchmarks.contestants import Entry, entry
from benchmarks.contestants.running import Contestant, Running
from benchmarks.workloads.workload import Array, Unsupported

SHORTEST = 50e-6  # seconds of a sample: shorter calls are timed several at once
MOST = 400  # samples in a block
FEWEST = 3


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # prints of libraries must not mix with the answers
    name, threads = sys.argv[1:3]
    serve(entry(name), int(threads), sys.stdin, channel)


def serve(found: Entry, threads: int, commands: TextIO, channel: TextIO) -> None:
    """Answer commands until there are no more."""

    def answer(**fields: Any) -> None:
        channel.write(json.dumps(fields) + "\n")
        channel.flush()

    os.environ.update(found.environment)
    try:
        contestant = found.make(threads)
    except ImportError as missing:
        answer(missing=f"not installed ({missing})")
        return
    answer(version=contestant.version)
    desk = Desk(contestant)
    actions: dict[str, Callable[..., dict[str, Any]]] = {
        "build": desk.build,
        "block": desk.block,
        "drop": desk.drop,
    }
    for line in commands:
        command = json.loads(line)
        answer(**actions[command.pop("do")](**command))


class Desk:
    """The workload that is built now, and how it is timed."""

    def __init__(self, contestant: Contestant) -> None:
        self._contestant = contestant
        self._timer: timeit.Timer | None = None
        self._inner = 1
        self._once = 0.0

    def build(self, workload: str, reference: str) -> dict[str, Any]:
        """Build, call, compare; the reason if it cannot run, what was raised if it fails."""
        begin = time.perf_counter()
        try:
            described = named(workload)
            running = self._contestant.build(described)
            own = running.values()
            first = time.perf_counter() - begin
            values = running.with_further(own, described.data())
        except Unsupported as reason:
            return {"missing": str(reason)}
        except Exception as error:  # any failure of a peer is a row's reason, never a lost table
            text = str(error).strip().splitlines()
            return {"missing": f"{type(error).__name__}: {text[0][:120] if text else ''}"}
        found = errors(values, _load(Path(reference)))
        del own, values
        self._calibrate(running)
        return {"first": first, **found}

    def _calibrate(self, running: Running) -> None:
        names = [f"a{k}" for k in range(len(running.args))]
        scope = dict(zip(names, running.args, strict=True)) | {"call": running.call}
        self._timer = timeit.Timer(f"call({', '.join(names)})", globals=scope)
        self._timer.timeit(2)
        self._once = min(self._timer.repeat(3, 1))
        if self._once < SHORTEST:
            self._once = self._timer.timeit(100) / 100
        self._inner = max(1, round(SHORTEST / self._once))

    def block(self, seconds: float) -> dict[str, Any]:
        """Seconds of single calls, sample by sample, after one that is not counted.

        wall, own: seconds of the whole block and of this process's processors in it.
        """
        assert self._timer is not None
        count = int(seconds / (self._once * self._inner))
        count = min(max(count, FEWEST), MOST)
        begin, own = time.perf_counter(), time.process_time()
        self._timer.timeit(self._inner)
        samples = [t / self._inner for t in self._timer.repeat(count, self._inner)]
        wall, own = time.perf_counter() - begin, time.process_time() - own
        return {"samples": samples, "wall": wall, "own": own}

    def drop(self) -> dict[str, Any]:
        """Forget the workload and its memory."""
        self._timer = None
        gc.collect()
        return {}


def _load(path: Path) -> list[Array]:
    with np.load(path) as stored:
        return [stored[k] for k in stored.files]


def errors(values: list[Array], expected: list[Array]) -> dict[str, float]:
    """The largest over outputs of: root mean square error over root mean square value (`rms`), and
    the largest error over the largest value (`worst`), where a value is expected (not NaN).
    """
    rms = worst = 0.0
    for found, wanted in zip(values, expected, strict=True):
        if found.shape != wanted.shape:
            raise ValueError(f"an output has shape {found.shape}, expected {wanted.shape}")
        compared = ~np.isnan(wanted)
        found, wanted = found[compared], wanted[compared]
        off = np.abs(found.astype(np.float64) - wanted)
        scale = float(np.sqrt(np.mean(wanted * wanted))) or 1.0
        # Not a number stays one: max() would hide it.
        rms = float(np.maximum(rms, np.sqrt(np.mean(off * off)) / scale))
        worst = float(np.maximum(worst, off.max() / (np.abs(wanted).max() or 1.0)))
    return {"rms": rms, "worst": worst}


if __name__ == "__main__":
    main()
