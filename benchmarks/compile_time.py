"""How long does a first call take, by number of nodes, and from the disk cache?

Each graph is declared and compiled in an empty cache folder, then compiled again in a new session
that finds the compiled code on disk. The time includes the first call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

import graphc
from benchmarks.measure import once, readable
from benchmarks.models import Model, fibonacci, mixed_nodes, mlp_step, unrolled_loop
from benchmarks.table import Row

CASES: dict[str, Callable[[], Model]] = {
    "mixed, 100 nodes": lambda: mixed_nodes(100),
    "mixed, 1,000 nodes": lambda: mixed_nodes(1_000),
    "mixed, 10,000 nodes": lambda: mixed_nodes(10_000),
    "mixed, 100,000 nodes": lambda: mixed_nodes(100_000),
    "loop of 1,000 turns, unrolled": unrolled_loop,
    "Fibonacci, depth 1,000": fibonacci,
    "MLP training step, Adam": mlp_step,
}


def run() -> Iterator[Row]:
    """One row per graph."""
    mixed_nodes(10).compiled(graphc.Session())  # loads the compiler itself
    for name, declare in CASES.items():
        made: list[Model] = []
        declaring = once(lambda made=made, declare=declare: made.append(declare()))
        model = made[0]
        nodes = len(graphc.Graph(model.inputs, model.outputs, updates=model.updates or None).nodes)
        with tempfile.TemporaryDirectory() as folder:
            with graphc.Session(cache_dir=folder) as session:
                cold = once(lambda m=model, s=session: m.compiled(s))
            with graphc.Session(cache_dir=folder) as session:
                cached = once(lambda m=model, s=session: m.compiled(s))
        yield {
            "graph": name,
            "nodes": nodes,
            "declare": readable(declaring),
            "compile": readable(cold),
            "per node": readable(cold / nodes),
            "from disk": readable(cached),
        }
