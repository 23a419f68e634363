"""Control flow in C libraries: entry, workspace, state and files, on every instruction set."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc.aot.library import Library
from tests.control_native.checking import agree, body, call, cond, place, scan, while_loop

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None, reason="no C compiler (cc) to link a library with"
)


def model() -> graphc.Graph:
    """A scan over symbolic sizes, a branch, a loop, calls; a state that all of them see."""
    w = graphc.variable(np.eye(3, dtype=np.float32) * 0.5, name="w")
    total = graphc.variable(np.zeros(3, np.float32), name="total")
    count = graphc.variable(np.int64(0), name="count")
    c, x, m = place(("b", 3)), place(("b", 3)), place((3, 3))
    constant = graphc.constant(np.arange(3, dtype=np.float32))
    step = body([c, x, m], [graphc.tanh(c @ m + x), c * x + constant])
    first, rows = place(("b", 3), "first"), place(("n", "b", 3), "rows")
    last, stacked = scan(step, [first], [rows], [w], reverse=True)
    a = place(("b", 3))
    positive = graphc.sum(last) > 0
    (chosen,) = cond(positive, body([a], [graphc.exp(a)]), body([a], [a * 3]), last)
    s, t = place(3), place(3)
    turns = while_loop(
        body([s, t], [graphc.max(s) < 20]), body([s, t], [s * 2 + 1, s]), [total, w[0]]
    )
    layer = body([a, m], [a + graphc.tanh(a @ m)])
    deep = chosen
    for _ in range(40):  # so many in a row are one step
        (deep,) = call(layer, deep, w)
    outputs = {"last": last, "stacked": stacked, "chosen": chosen, "turns": turns[2], "deep": deep}
    updates = {total: turns[0], count: count + turns[2], w: w * 0.9}
    return graphc.Graph([first, rows], outputs, updates, name="controlled")


def test_library(tmp_path: Path) -> None:
    graph = model()
    rng = np.random.default_rng(0)
    made = graphc.compile(graph, tmp_path / "controlled")
    parts = {(part.kind, part.name) for part in made.size.parts if part.set != "all"}
    assert ("table", "buffers of steps that repeat") in parts
    assert {name for kind, name in parts if kind == "calls"} == {"calls of the kernels"}
    assert not any(name.startswith("table") for kind, name in parts if kind == "math")
    library = Library(graph, tmp_path / "controlled")
    for target in library.available():
        library.select(target)
        for threads in (1, 3):
            library.set_threads(threads)
            for n, b in ((0, 2), (1, 1), (5, 3)):
                feeds = {
                    "first": rng.standard_normal((b, 3)).astype(np.float32),
                    "rows": rng.standard_normal((n, b, 3)).astype(np.float32),
                }
                expected = graph.evaluate(feeds, updates=True)
                state = library.new_state()
                found = library.run(feeds, state, shift=1)
                found |= {f"update:{k}": v for k, v in library.values(state).items()}
                agree(found, expected, 1e-5)
    library.close()


def test_a_check_in_a_body_stops_the_call(tmp_path: Path) -> None:
    c, i, table = place(()), place((), dtype="int64"), place(3)
    start, at = place((), "start"), place(("n",), "at", "int64")
    values = graphc.variable(np.arange(3, dtype=np.float32), name="values")
    (last,) = scan(body([c, i, table], [c + graphc.take(table, i)]), [start], [at], [values])
    graph = graphc.Graph([start, at], {"last": last}, {values: values + 1}, name="looks_up")
    graphc.compile(graph, tmp_path / "looks_up", target="native")
    library = Library(graph, tmp_path / "looks_up")
    state = library.new_state()
    with pytest.raises(graphc.ExecutionError, match="out of bounds"):
        library.run({"start": np.float32(0), "at": np.array([0, 7])}, state)
    np.testing.assert_array_equal(library.values(state)["values"], [0, 1, 2])
    found = library.run({"start": np.float32(0), "at": np.array([2, 1])}, state)
    assert found["last"] == 3
    np.testing.assert_array_equal(library.values(state)["values"], [1, 2, 3])
    library.close()
