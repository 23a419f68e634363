"""Are the bits of every workload the same with 1, 2, 3 and 7 threads?

More threads than processors take turns. Training steps are compared after several steps: losses and
the changes of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

from benchmarks.contestants.with_graphc import Graphc
from benchmarks.table import Row
from benchmarks.workloads import every
from benchmarks.workloads.workload import Unsupported, Workload
from graphc.runtime import processors, thread_pool

THREADS = (1, 2, 3, 7)


def run() -> Iterator[Row]:
    """A row per workload: "same", or the numbers of threads whose bits differ from one thread's."""
    with mock.patch.object(processors, "available", lambda: max(THREADS)):
        for pool in thread_pool._shared:
            pool.set_limit(max(THREADS))
        for workload in every():
            yield _row(workload)


def _row(workload: Workload) -> Row:
    try:
        first, *others = (_bits(workload, threads) for threads in THREADS)
    except Unsupported as reason:
        return {"workload": workload.name, "bits": f"not run: {reason}"}
    wrong = [str(n) for n, bits in zip(THREADS[1:], others, strict=True) if bits != first]
    return {"workload": workload.name, "bits": f"differ: {', '.join(wrong)}" if wrong else "same"}


def _bits(workload: Workload, threads: int) -> list[bytes]:
    return [array.tobytes() for array in Graphc(threads).build(workload).values()]
