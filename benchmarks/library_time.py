"""How fast is a training step as a C library, beside the session? (the same kernels in both)"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import graphc
from benchmarks.check_numerics import STEPS
from benchmarks.measure import measure, readable
from benchmarks.table import Row
from graphc.aot.library import Library


def run() -> Iterator[Row]:
    """A row per step and number of threads; the library is called through ctypes."""
    for title, declare in STEPS.items():
        model = declare()
        graph = graphc.Graph(model.inputs, model.outputs, updates=model.updates)
        feeds = dict(zip((name for name, _ in graph.inputs), model.arrays, strict=True))
        with tempfile.TemporaryDirectory() as folder:
            graphc.compile(graph, Path(folder) / "step")
            library = Library(graph, Path(folder) / "step")
            state = library.new_state()
            for threads in (1, 2):
                library.set_threads(threads)
                call, _ = library.bind(feeds, state)
                with graphc.Session(threads=threads) as session:
                    function = session.function(model.inputs, model.outputs, updates=model.updates)
                    in_session = measure(lambda f=function, m=model: f(*m.arrays))
                    in_library = measure(call)
                    yield {
                        "step": title,
                        "threads": threads,
                        "session": readable(in_session.median),
                        "library": readable(in_library.median),
                        "ratio": f"{in_library.median / in_session.median:.2f}",
                    }
            library.close()
