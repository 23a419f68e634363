"""One contestant's first call of one workload in a new process, printed as JSON.

`python -m benchmarks.first_call CONTESTANT WORKLOAD THREADS`: seconds of loading its framework, of
building and calling once (the arrays are there before), and the peak memory after some more calls.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import replace

from benchmarks.catalogue import named
from benchmarks.contestants import entry
from benchmarks.workloads.workload import Unsupported

CALLS = 20


def main() -> None:
    name, title, threads = sys.argv[1:4]
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    workload = named(title)
    data = workload.data()  # drawing random numbers is nobody's work
    workload = replace(workload, data=lambda: data)
    found: dict[str, object] = {}
    begin = time.perf_counter()
    try:
        contestant = entry(name).make(int(threads))
        ready = time.perf_counter()
        running = contestant.build(workload)
        running.call(*running.args)
        found["first"] = time.perf_counter() - ready
        found["loading"] = ready - begin
        for _ in range(CALLS):
            running.call(*running.args)
        found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    except (ImportError, Unsupported) as reason:
        found["missing"] = str(reason)
    channel.write(json.dumps(found) + "\n")
    channel.flush()


if __name__ == "__main__":
    main()
