"""`graphc bench`: how long a call takes (the command line, floor 8).

Calls are timed in rounds of about a fiftieth of the whole time. The best round says what the code
can do, the median what it does, the distance between the quartiles how disturbed the machine was.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphc.base.dims import evaluate
from graphc.cli.inputs import gather
from graphc.cli.model import check_folder, compiled, load
from graphc.cli.progress import progress
from graphc.cli.table import bytes_text, json_text, time_text
from graphc.runtime.session import Session

ROUNDS = 50


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median and best of the rounds, quartile distance over the median."""

    median: float
    best: float
    spread: float
    calls: int


def execute(options: argparse.Namespace) -> int:
    """Print the times of the model; 0."""
    check_folder(options.trace)
    graph = load(options.model).graph
    inputs = gather(graph, options.feed, options.dim, random=True, seed=options.seed)
    arrays = list(inputs.arrays.values())
    with Session(threads=options.threads, numerics=options.numerics) as session:
        begin = time.perf_counter()
        function = compiled(session, graph)
        build = time.perf_counter() - begin
        timing = measure(lambda: function(*arrays), options.seconds)
        kernels = function._program.executable.kernels
        sizes = {**inputs.sizes, **function.computed_sizes}
        flops = sum(evaluate(k.flops, sizes) for k in kernels)
        moved = sum(evaluate(k.bytes, sizes) for k in kernels)
        profile = function.profile(*arrays) if options.profile or options.trace else None
        threads = session.threads
    if profile is not None and options.trace:
        profile.chrome_trace(options.trace)
    facts: dict[str, Any] = {
        "graph": graph.name,
        "dims": inputs.sizes,
        "threads": threads,
        "numerics": options.numerics,
        "build_seconds": build,
        "median_seconds": timing.median,
        "best_seconds": timing.best,
        "spread": timing.spread,
        "calls": timing.calls,
        "kernels": len(kernels),
        "operations": flops,
        "bytes": moved,
        "operations_per_second": flops / timing.median,
        "bytes_per_second": moved / timing.median,
    }
    if options.json:
        if profile is not None and options.profile:
            rows = [
                (k.name, k.nodes, k.lines, k.seconds, k.flops, k.bytes) for k in profile.kernels
            ]
            heads = ("name", "computes", "lines", "seconds", "operations", "bytes")
            facts["profile"] = [dict(zip(heads, row, strict=True)) for row in rows]
        print(json_text(facts))
        return 0
    print(_text(facts))
    if profile is not None and options.profile:
        print(profile)
    if options.trace:
        print(f"trace of one call in {options.trace}: open it in chrome://tracing or Perfetto")
    return 0


def measure(call: Callable[[], object], seconds: float) -> Timing:
    """Time a call for about so long, after a first one that reserves memory."""
    call()
    begin = time.perf_counter()
    call()
    once = max(time.perf_counter() - begin, 1e-8)
    inner = max(1, int(seconds / ROUNDS / once))
    rounds = max(3, min(ROUNDS, int(seconds / once / inner)))
    samples = []
    for _ in progress(range(rounds), "bench"):
        begin = time.perf_counter()
        for _ in range(inner):
            call()
        samples.append((time.perf_counter() - begin) / inner)
    low, median, high = statistics.quantiles(samples, n=4)
    return Timing(median, min(samples), (high - low) / median, inner * rounds)


def _text(facts: dict[str, Any]) -> str:
    dims = "".join(f", {name}={size}" for name, size in facts["dims"].items())
    return "\n".join(
        [
            f"{facts['graph']}: {facts['kernels']} kernels, {facts['threads']} threads, "
            f"numerics {facts['numerics']}{dims}",
            f"  built in {time_text(facts['build_seconds'])}",
            f"  median {time_text(facts['median_seconds'])}, best "
            f"{time_text(facts['best_seconds'])}, spread {facts['spread']:.1%} "
            f"({facts['calls']} calls)",
            f"  {facts['operations']} operations, {facts['operations_per_second'] / 1e9:.3g} "
            "billion a second",
            f"  {bytes_text(facts['bytes'])} moved, {facts['bytes_per_second'] / 1e9:.3g} GB/s",
        ]
    )
