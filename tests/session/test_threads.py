"""One session, many threads: updates are serialized, nothing is compiled twice."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import graphc
from graphc.runtime import processors
from graphc.runtime.support_code import support_target

THREADS = 8


def in_threads(work: Callable[[int], object]) -> list[object]:
    barrier = threading.Barrier(THREADS)

    def start(k: int) -> object:
        barrier.wait()
        return work(k)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(start, range(THREADS)))


def test_updates_are_not_lost(session: graphc.Session) -> None:
    x = graphc.placeholder((), "int64", name="x")
    total = graphc.variable(np.int64(0), name="total")
    count = graphc.variable(np.zeros(50, np.int64), name="count")
    add = session.function([x], total, updates={total: total + x, count: count + 1})
    in_threads(lambda k: [add(k) for _ in range(500)])
    assert session.value(total) == 500 * sum(range(THREADS))
    assert (session.value(count) == 500 * THREADS).all()


def test_readers_see_whole_updates(session: graphc.Session) -> None:
    a = graphc.variable(np.zeros(20_000, np.float32), name="a")
    b = graphc.variable(np.zeros(20_000, np.float32), name="b")
    step = session.function([], None, updates={a: a + 1, b: b + 1})
    read = session.function([], [graphc.min(a), graphc.max(a), graphc.min(b), graphc.max(b)])

    def work(k: int) -> bool:
        for i in range(100):
            if k % 2:
                step()
                continue
            values = read() if i % 2 else session.run([a[0], a[-1], b[0], b[-1]])
            if len({float(v) for v in values}) != 1:
                return False
            value = session.value(b)
            if not (value == value[0]).all():
                return False
        return True

    assert all(in_threads(work))
    assert session.value(a)[0] == 100 * THREADS / 2


def test_pure_calls_of_different_sizes(uncached: graphc.Session) -> None:
    x = graphc.placeholder(("n", 16), name="x")
    w = graphc.variable(np.eye(16, dtype=np.float32), name="w")
    f = uncached.function([x], graphc.tanh(x @ w))

    def work(k: int) -> bool:
        rng = np.random.default_rng(k)
        for _ in range(100):
            a = rng.normal(size=(int(rng.integers(0, 400)), 16)).astype(np.float32)
            if not np.allclose(f(a), np.tanh(a), atol=1e-6):
                return False
        return True

    assert all(in_threads(work))
    assert uncached.compilations == 1


def test_first_calls_at_once_compile_once(uncached: graphc.Session) -> None:
    x = graphc.placeholder(("n",), name="x")
    y = graphc.exp(x)
    a = np.arange(5, dtype=np.float32)
    results = in_threads(lambda k: uncached.run(y, {x: a}))
    assert all(np.allclose(r, np.exp(a)) for r in results)
    functions = in_threads(lambda k: uncached.function([x], y * 2))
    assert all(f is functions[0] for f in functions)
    fetched = in_threads(lambda k: functions[0].fetch("x", a))
    assert all((r["x"] == a).all() for r in fetched)
    assert uncached.compilations == 3


def test_graphs_are_declared_in_many_threads(session: graphc.Session) -> None:
    def work(k: int) -> float:
        x = graphc.placeholder((3,), "float64", name="x")
        y = graphc.sum(x * k + graphc.sin(x))
        gradient = graphc.grad(y, x)
        return float(session.run(gradient, {x: [0.0, 0.0, 0.0]})[0])

    assert in_threads(work) == [k + 1 for k in range(THREADS)]


def test_errors_in_one_thread_do_not_hurt_others(session: graphc.Session) -> None:
    x, k = graphc.placeholder((4,), name="x"), graphc.placeholder((1,), "int64", name="k")
    count = graphc.variable(np.int64(0), name="count")
    f = session.function([x, k], graphc.take(x, k), updates={count: count + 1})
    a = np.arange(4, dtype=np.float32)

    def work(thread: int) -> int:
        errors = 0
        for i in range(200):
            try:
                index = (thread + i) % 5
                assert f(a, [index]) == [index]
            except graphc.ExecutionError:
                errors += 1
        return errors

    assert in_threads(work) == [40] * THREADS
    assert session.value(count) == THREADS * 160


def test_nothing_runs_after_the_last_session() -> None:
    """In a process of its own: other tests keep sessions open."""
    code = """
        import os, time
        import numpy as np, graphc
        def threads():
            return len(os.listdir("/proc/self/task"))
        x = graphc.placeholder(("n",), name="x")
        a = np.ones(1_000_000, np.float32)
        before = threads()
        first, second = graphc.Session(threads=2), graphc.Session(threads=2)
        for session in (first, second):
            session.function([x], graphc.tanh(x))(a)
        first.close()
        kept = threads()
        second.run(graphc.exp(x), {x: a})
        second.close()
        deadline = time.monotonic() + 10
        while threads() > before and time.monotonic() < deadline:
            time.sleep(0.001)
        print(kept - before, threads() - before)
        with graphc.Session(threads=2) as third:
            third.run(graphc.tanh(x), {x: a})
        third.close()  # once more does no harm
        """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    workers = 1 if processors.available() > 1 and support_target() is not None else 0
    assert found.stdout.split() == [str(workers), "0"]


@pytest.mark.parametrize("threads", [1, 2])
def test_results_do_not_depend_on_the_number_of_threads(threads: int) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 1000)).astype(np.float32)
    x = graphc.placeholder(("n", 1000), name="x")
    y = [graphc.sum(x), graphc.nn.softmax(x), x @ x.T]
    with graphc.Session(threads=1) as one, graphc.Session(threads=threads) as more:
        for p, q in zip(one.run(y, {x: a}), more.run(y, {x: a})):
            np.testing.assert_array_equal(p, q)
