"""Running control flow: errors, threads, memory, names, profiles."""

from __future__ import annotations

import threading
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest

import graphc
from tests.control_native.checking import body, graph_of, place, run, scan, while_loop

RNG = np.random.default_rng(3)


def lookups() -> graphc.Graph:
    c, i, table = place(()), place((), dtype="int64"), place(3)
    start, at, values = place((), "start"), place(("n",), "at", "int64"), place(3, "values")
    step = body([c, i, table], [c + graphc.take(table, i)])
    return graph_of([start, at, values], scan(step, [start], [at], [values]))


def test_a_bad_value_in_a_body_names_the_line() -> None:
    feeds = {"start": np.float32(0), "at": np.array([0, 7, 1]), "values": np.ones(3, np.float32)}
    with pytest.raises(graphc.ExecutionError) as caught:
        run(lookups(), feeds)
    assert "gather" in str(caught.value)
    assert "step = body([c, i, table], [c + graphc.take(table, i)])" in str(caught.value)
    assert run(lookups(), feeds | {"at": np.array([0, 2])})["r0"] == 2


def test_the_line_is_known_to_a_cached_program(tmp_path: Any) -> None:
    feeds = [np.float32(0), np.array([9]), np.ones(3, np.float32)]
    for _ in range(2):
        graph = lookups()
        with graphc.Session(cache_dir=str(tmp_path)) as session:
            function = session.function([t for _, t in graph.inputs], dict(graph.outputs))
            with pytest.raises(graphc.ExecutionError, match=r"graphc\.take\(table, i\)"):
                function(*feeds)
    assert session.compilations == 0


def test_numerics_are_checked_in_bodies() -> None:
    c, x = place(3), place(3)
    start, rows = place(3, "start"), place(("n", 3), "rows")
    graph = graph_of([start, rows], scan(body([c, x], [c + graphc.log(x)]), [start], [rows]))
    values = np.ones((5, 3), np.float32)
    values[3, 1] = -1
    feeds = {"start": np.zeros(3, np.float32), "rows": values}
    with pytest.raises(graphc.NumericsError) as caught:
        run(graph, feeds, check_numerics=True)
    assert "log : f32[3] holds 1 nan" in str(caught.value)
    assert "from -1.0 to 1.0" in str(caught.value)  # the turn in which it happened
    assert "c + graphc.log(x)" in str(caught.value)
    values[3, 1] = 1
    run(graph, feeds, check_numerics=True)


def test_a_loop_that_turns_to_nan_is_left() -> None:
    """Its condition would hold for ever."""
    a, k = place(()), place((), dtype="int64")
    first, count = place((), "first"), place((), "count", "int64")
    condition = body([a, k], [~(a > 100)])
    graph = graph_of(
        [first, count], while_loop(condition, body([a, k], [graphc.log(a), k + 1]), [first, count])
    )
    with pytest.raises(graphc.NumericsError, match="log"):
        run(graph, {"first": np.float32(2), "count": np.int64(0)}, check_numerics=True)


def long_loop() -> tuple[list[graphc.Tensor], graphc.Graph]:
    i, stop = place((), dtype="int64"), place((), dtype="int64")
    start, last = place((), "start", "int64"), place((), "last", "int64")
    loop = while_loop(body([i, stop], [i < stop]), body([i, stop], [i + 1]), [start], [last])
    return [start, last], graph_of([start, last], loop)


def test_other_threads_run_during_a_loop() -> None:
    inputs, graph = long_loop()
    ticks: list[float] = []
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    with graphc.Session(cache_dir="", threads=1) as session:
        function = session.function(inputs, dict(graph.outputs))
        turns = 100_000
        while True:
            begin = time.perf_counter()
            function(np.int64(0), np.int64(turns))
            if time.perf_counter() - begin > 0.2:
                break
            turns *= 4
        thread = threading.Thread(target=count)
        thread.start()
        begin = time.perf_counter()
        function(np.int64(0), np.int64(turns))
        end = time.perf_counter()
        done.set()
        thread.join()
    assert sum(begin < t < end for t in ticks) > 5


def wide() -> tuple[list[graphc.Tensor], graphc.Graph]:
    """Kernels with work for several threads, and some that need scratch memory."""
    c, w = place((64, 96)), place((96, 96))
    step = body(
        [c, w], [graphc.tanh(c @ w) + graphc.cumulative_sum(c, axis=1) * 0.01, graphc.sort(c)]
    )
    start, matrix = place((64, 96), "start"), place((96, 96), "matrix")
    return [start, matrix], graph_of([start, matrix], scan(step, [start], [], [matrix], length=7))


def test_results_do_not_depend_on_threads() -> None:
    inputs, graph = wide()
    arrays = [RNG.standard_normal(t.shape).astype(np.float32) * 0.2 for t in inputs]
    found = []
    for threads in (1, 2):
        with graphc.Session(cache_dir="", threads=threads) as session:
            function = session.function(inputs, dict(graph.outputs))
            found.append([dict(function(*arrays)) for _ in range(3)])
    for results in (*found[0], *found[1]):
        for name, value in results.items():
            np.testing.assert_array_equal(value, found[0][0][name])
    expected = graph.evaluate({"start": arrays[0], "matrix": arrays[1]})
    for name, value in expected.items():
        np.testing.assert_allclose(found[0][0][name], value, rtol=1e-4, atol=1e-4)


def test_nothing_is_allocated_from_turn_to_turn() -> None:
    c, x = place(64), place(64)
    start, rows = place(64, "start"), place(("n", 64), "rows")
    reverse = body([c, x], [graphc.sort(c[::-1] + x)])
    graph = graph_of([start, rows], scan(reverse, [start], [rows]))
    arrays = [np.zeros(64, np.float32), np.ones((20_000, 64), np.float32)]
    with graphc.Session(cache_dir="") as session:
        function = session.function([start, rows], dict(graph.outputs))
        function(*arrays)
        arena = session._workshop.device.state.arena
        before = arena.capacity
        assert before < 1 << 20
        tracemalloc.start()
        try:
            function(*arrays)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert arena.capacity == before
        assert peak < 10_000


def test_profile_and_fetch() -> None:
    c, x = place(3), place(3)
    start, rows = place(3, "start"), place(("n", 3), "rows")
    (last,) = scan(body([c, x], [graphc.tanh(c + x)]), [start], [rows])
    result = graphc.exp(last.named("state") * 2)
    arrays = [np.zeros(3, np.float32), np.ones((9, 3), np.float32)]
    with graphc.Session(cache_dir="") as session:
        function = session.function([start, rows], {"result": result})
        profile = function.profile(*arrays, calls=3)
        assert profile.kernels[0].name == "scan"
        assert profile.kernels[0].nodes == ("state",)
        assert profile.kernels[0].flops == 9 * 3 * 2
        fetched = function.fetch("state", *arrays)["state"]
        np.testing.assert_allclose(np.exp(fetched * 2), function(*arrays)["result"], rtol=1e-5)


def test_a_session_profiles_repeated_calls() -> None:
    """Steps in a loop over a table are counted one by one."""
    a = place(4)
    x = y = place(4, "x")
    step = body([a], [graphc.sort(a * 0.9)])
    for _ in range(20):
        (y,) = graphc.ops.control.results_of(graphc.ops.control.CALL, (y,), step)
    with graphc.Session(cache_dir="", optimize=False) as session:
        profile = session.function([x], y).profile(np.ones(4, np.float32), calls=50)
    assert len(profile.kernels) == 20
    assert all(k.seconds > 0 for k in profile.kernels)


def test_sizes_in_bodies_are_checked() -> None:
    """A branch that could not run at these sizes is refused like anything else."""
    x = place(("n",))
    rows = place(("n",), "rows")
    small = body([x], [graphc.sum(x[3:])])
    (result,) = graphc.ops.control.results_of(graphc.ops.control.CALL, (rows,), small)
    graph = graph_of([rows], [result])
    assert run(graph, {"rows": np.ones(5, np.float32)}, optimize=False)["r0"] == 2
    with pytest.raises(graphc.ShapeError, match="-1 elements"):
        run(graph, {"rows": np.ones(2, np.float32)}, optimize=False)


def test_an_lstm_trains_over_a_thousand_steps() -> None:
    """Declared, differentiated and compiled in less than two seconds of the processor."""
    steps, batch, width = 1000, 4, 16
    x = graphc.placeholder((steps, batch, 8), name="x")
    w = graphc.variable(RNG.standard_normal((8, 4 * width)).astype(np.float32) * 0.2, name="w")
    u = graphc.variable(RNG.standard_normal((width, 4 * width)).astype(np.float32) * 0.2, name="u")

    def step(carry: Any, row: graphc.Tensor) -> Any:
        hidden, cell = carry
        z = row @ w + hidden @ u
        i, f, g, o = (z[:, k * width : (k + 1) * width] for k in range(4))
        cell = graphc.sigmoid(f) * cell + graphc.sigmoid(i) * graphc.tanh(g)
        return (graphc.sigmoid(o) * graphc.tanh(cell), cell), None

    with graphc.Session(cache_dir="") as session:
        session.run(graphc.placeholder((2,), name="y") + 1, {"y": np.ones(2, np.float32)})
        begin = time.process_time()
        zero = graphc.zeros((batch, width), dtype="float32")
        (hidden, _), _ = graphc.scan(step, (zero, zero), x)
        loss = graphc.mean((hidden - 0.5) ** 2)
        gradients = graphc.grad(loss, [w, u])
        updates = {v: v - 0.5 * g for v, g in zip((w, u), gradients, strict=True)}
        train = session.function([x], loss, updates=updates)
        assert time.process_time() - begin < 2
        data = RNG.standard_normal((steps, batch, 8)).astype(np.float32)
        losses = [float(train(data)) for _ in range(5)]
    assert losses[-1] < losses[0]
