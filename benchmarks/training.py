"""How long is a training step, what does check_numerics cost, does a new batch size compile?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import graphc
from benchmarks.measure import measure, once, readable
from benchmarks.models import mlp_step
from benchmarks.table import Row


def run() -> Iterator[Row]:
    """Rows for the MLP step (784-512-256-10, Adam, batch 128)."""
    model = mlp_step()
    times = {}
    for label, options in (
        ("1 thread", {"threads": 1}),
        ("all threads", {}),
        ("all threads, check_numerics", {"check_numerics": True}),
    ):
        with graphc.Session(**options) as session:
            step = model.compiled(session)
            times[label] = measure(lambda f=step: f(*model.arrays), seconds=2).best
        yield {"step": label, "time": readable(times[label])}
    ratio = times["all threads, check_numerics"] / times["all threads"]
    yield {"step": "cost of check_numerics", "time": f"{ratio:.2f} ×"}

    with graphc.Session() as session:
        step = model.compiled(session)
        images, labels = (np.resize(a, (1000, *a.shape[1:])) for a in model.arrays)
        sizes = [once(lambda n=n: step(images[:n], labels[:n])) for n in range(1, 1001)]
    yield {"step": "slowest first call of 1,000 batch sizes", "time": readable(max(sizes))}
