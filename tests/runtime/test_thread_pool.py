"""The thread pool: every chunk once, no thread too many, forks, two callers, nesting, sleep."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from graphc.runtime import support_code, thread_pool
from graphc.runtime.cache import ObjectCache
from graphc.runtime.object_loader import LoadedObject, load
from graphc.runtime.thread_pool import ThreadPool, load_pool, pool_text
from tests.threads import at_once

Compile = Callable[..., bytes]

pytestmark = pytest.mark.skipif(
    support_code.support_target() is None, reason="no native support code here"
)

# args: [0] int64 counts per index, [1] int64 worker per index, [2] steps of spinning per index,
# [3] address of graphc_parallel for the nested kernel
KERNELS = """
define void @mark(ptr %args, i64 %begin, i64 %end, i64 %worker) {
entry:
  %counts = load ptr, ptr %args
  %p1 = getelementptr ptr, ptr %args, i64 1
  %workers = load ptr, ptr %p1
  %p2 = getelementptr i64, ptr %args, i64 2
  %work = load i64, ptr %p2
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %done ]
  %p = getelementptr i64, ptr %counts, i64 %i
  %v = load i64, ptr %p
  %n = add i64 %v, 1
  store i64 %n, ptr %p
  %q = getelementptr i64, ptr %workers, i64 %i
  store i64 %worker, ptr %q
  br label %burn
burn:
  %k = phi i64 [ 0, %loop ], [ %k1, %burn ]
  %k1 = add i64 %k, 1
  call void asm sideeffect "", "r"(i64 %k1)
  %more = icmp slt i64 %k1, %work
  br i1 %more, label %burn, label %done
done:
  %next = add i64 %i, 1
  %again = icmp slt i64 %next, %end
  br i1 %again, label %loop, label %out
out:
  ret void
}
define void @nested(ptr %args, i64 %begin, i64 %end, i64 %worker) {
  %p3 = getelementptr ptr, ptr %args, i64 3
  %parallel = load ptr, ptr %p3
  %length = sub i64 %end, %begin
  %counts = load ptr, ptr %args
  %p1 = getelementptr ptr, ptr %args, i64 1
  %workers = load ptr, ptr %p1
  %inner = alloca [4 x ptr]
  %c = getelementptr i64, ptr %counts, i64 %begin
  store ptr %c, ptr %inner
  %w = getelementptr i64, ptr %workers, i64 %begin
  %i1 = getelementptr ptr, ptr %inner, i64 1
  store ptr %w, ptr %i1
  %i2 = getelementptr ptr, ptr %inner, i64 2
  store ptr null, ptr %i2
  call void %parallel(ptr @mark, ptr %inner, i64 %length, i64 1, i64 8)
  ret void
}
"""

PARALLEL = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3)


class Runner:
    """Calls `mark` through a pool and returns (counts, workers)."""

    def __init__(self, pool: ThreadPool, kernels: LoadedObject) -> None:
        self.pool = pool
        self.parallel = PARALLEL(pool.parallel)
        self.kernels = kernels

    def __call__(
        self, n: int, chunk: int, threads: int, work: int = 0, name: str = "mark"
    ) -> tuple[np.ndarray, np.ndarray]:
        counts, workers = np.zeros(max(n, 1), np.int64), np.full(max(n, 1), -1, np.int64)
        args = np.array(
            [counts.ctypes.data, workers.ctypes.data, work, self.pool.parallel], np.int64
        )
        self.parallel(self.kernels.address(name), args.ctypes.data, n, chunk, threads)
        return counts[:n], workers[:n]


@pytest.fixture(scope="module")
def kernels(compile_text: Compile) -> LoadedObject:
    return load(compile_text(KERNELS), permanent=True)


@pytest.fixture
def pool(
    compile_text: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ThreadPool]:
    """A new pool per test."""
    monkeypatch.setattr(
        support_code, "compile_support_code", lambda text, target: compile_text(text)
    )
    pool = load_pool(ObjectCache(tmp_path))
    pool.set_limit(8)
    yield pool
    pool.stop()


@pytest.fixture
def run(pool: ThreadPool, kernels: LoadedObject) -> Runner:
    return Runner(pool, kernels)


def threads_of_process() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_every_index_once(run: Runner, threads: int) -> None:
    for n in (1, 2, 3, 7, 64, 1000, 4099):
        for chunk in (1, 2, 3, 64, n - 1, n, n + 1, 10**9, 0, -5):
            counts, workers = run(n, chunk, threads)
            assert (counts == 1).all(), (n, chunk)
            assert (workers >= 0).all() and (workers < threads).all(), (n, chunk)


@pytest.mark.parametrize(
    ("n", "chunk", "threads", "chunks"),
    [
        (18, 2, 2, 10),
        (36, 4, 2, 10),
        (25, 3, 2, 10),
        (9, 1, 2, 9),
        (1003, 10, 8, 104),
        (7, 2, 8, 4),
    ],
)
def test_threads_have_equal_shares(
    run: Runner, n: int, chunk: int, threads: int, chunks: int
) -> None:
    """As many chunks for each thread, none longer than asked for, lengths that differ by one."""
    seen = []
    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)(
        lambda *a: seen.append(a[1:3])
    )
    run.parallel(ctypes.cast(callback, ctypes.c_void_p).value, 0, n, chunk, threads)
    lengths = [end - begin for begin, end in sorted(seen)]
    assert sum(lengths) == n and len(lengths) == chunks
    assert lengths == sorted(lengths, reverse=True)
    assert max(lengths) <= chunk and max(lengths) - min(lengths) <= 1


def test_chunks_stay_whole(run: Runner) -> None:
    _, workers = run(1003, 10, 8, work=200)
    ends = np.cumsum([0] + [10] * 67 + [9] * 37)
    for start, end in itertools.pairwise(ends):
        assert len(set(workers[start:end])) == 1


@pytest.mark.parametrize("n", [0, -1, -(2**62)])
def test_nothing_to_do(run: Runner, n: int) -> None:
    run(n, 1, 8)
    assert run.pool.workers == 0


def test_huge_counts_run_serially(run: Runner, kernels: LoadedObject) -> None:
    """2**40 chunks do not fit the word; a kernel that looks at the range tells."""
    seen = []
    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)(
        lambda *a: seen.append(a[1:])
    )
    run.parallel(ctypes.cast(callback, ctypes.c_void_p).value, 0, 2**40, 1, 8)
    assert seen == [(0, 2**40, 0)]


def test_threads_start_when_needed_and_no_more(run: Runner) -> None:
    before = threads_of_process()
    run(1000, 1, 1)
    run(1000, 1000, 8)  # one chunk
    run(0, 1, 8)
    assert run.pool.workers == 0 and threads_of_process() == before
    run(1000, 1, 2)
    assert run.pool.workers == 1 and threads_of_process() == before + 1
    run(3, 1, 8)  # three chunks: two helpers
    assert run.pool.workers == 2
    for _ in range(100):
        run(1000, 1, 4)
    assert run.pool.workers == 3 and threads_of_process() == before + 3


def test_the_limit_holds(run: Runner) -> None:
    run.pool.set_limit(2)
    _, workers = run(1000, 1, 64, work=100)
    assert run.pool.workers == 1 and workers.max() <= 1
    run.pool.set_limit(1)
    _, workers = run(1000, 1, 64, work=100)
    assert workers.max() == 0


def test_several_threads_take_part(run: Runner) -> None:
    for _ in range(50):
        _, workers = run(64, 1, 2, work=200_000)
        if set(workers.tolist()) == {0, 1}:
            return
    pytest.fail("the worker never took a chunk")


def test_many_jobs_of_all_kinds(run: Runner) -> None:
    rng = np.random.default_rng(0)
    for job in range(20_000):
        n, chunk, threads = (int(k) for k in rng.integers((1, 1, 1), (40, 6, 9)))
        counts, workers = run(n, chunk, threads, work=int(rng.integers(0, 60)))
        assert (counts == 1).all() and (workers < threads).all(), job
        if job % 4000 == 3999:
            time.sleep(0.05)  # the workers fall asleep


def test_idle_workers_sleep(run: Runner) -> None:
    run(1000, 1, 8, work=100)
    time.sleep(0.3)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.05


@pytest.mark.parametrize("idle", [0.0, 0.3], ids=["spinning", "asleep"])
def test_stopped_threads_are_gone_and_come_again(run: Runner, idle: float) -> None:
    before = threads_of_process()
    for _ in range(3):
        counts, _ = run(1000, 1, 8, work=100)
        assert (counts == 1).all() and run.pool.workers == 7
        time.sleep(idle)
        run.pool.stop()
        assert run.pool.workers == 0
        deadline = time.monotonic() + 10
        while threads_of_process() > before:  # a thread that has ended leaves a moment later
            assert time.monotonic() < deadline
            time.sleep(0.001)
    run.pool.stop()


def test_stopping_waits_for_a_call(run: Runner) -> None:
    stopped = threading.Event()

    def stop() -> None:
        for _ in range(200):
            run.pool.stop()
        stopped.set()

    thread = threading.Thread(target=stop)
    thread.start()
    calls = 0
    while not stopped.is_set() or calls < 50:
        counts, _ = run(64, 1, 4, work=1000)
        assert (counts == 1).all()
        calls += 1
    thread.join()


def test_a_nested_call_runs_serially(run: Runner) -> None:
    counts, workers = run(800, 100, 4, name="nested")
    assert (counts == 1).all()
    assert (workers == 0).all()  # the inner calls ran as their caller's worker 0


def test_two_python_threads_at_once(run: Runner) -> None:
    failures: list[str] = []

    def hammer(seed: int) -> None:
        for k in range(3000):
            counts, _ = run(50 + seed, 1 + k % 5, 4, work=50)
            if not (counts == 1).all():
                failures.append(f"thread {seed}, call {k}")

    at_once(hammer, 4)
    assert not failures


def in_child(check: Callable[[], bool]) -> int:
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # a child that hangs dies
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_fork(run: Runner) -> None:
    run(1000, 1, 4)
    assert run.pool.workers == 3

    def check() -> bool:
        fresh = run.pool.workers == 0 and threads_of_process() == 1
        good = all((run(1000, 1, 4, work=50)[0] == 1).all() for _ in range(200))
        return (
            fresh
            and good
            and run.pool.workers == 3
            and in_child(lambda: run.pool.workers == 0) == 0
        )

    for _ in range(5):
        assert in_child(check) == 0
    assert (run(1000, 1, 4)[0] == 1).all() and run.pool.workers == 3


def test_fork_while_another_thread_is_inside(run: Runner) -> None:
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            run(64, 1, 4, work=20_000)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(10):
            assert (
                in_child(
                    lambda: bool((run(100, 1, 4, work=100)[0] == 1).all() and run.pool.workers == 3)
                )
                == 0
            )
    finally:
        stop.set()
        thread.join()


def blocked_signals() -> list[int]:
    masks = []
    for task in Path("/proc/self/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("SigBlk:"):
                masks.append(int(line.split()[1], 16))
    return masks


def test_signals_are_left_to_python(run: Runner) -> None:
    run(1000, 1, 4, work=1000)
    time.sleep(0.1)  # a thread starts with every signal blocked, then takes its own mask
    interrupt, fault = (1 << (number - 1) for number in (signal.SIGINT, signal.SIGSEGV))
    workers = [mask for mask in blocked_signals() if mask & interrupt]
    assert len(workers) >= 3
    assert not any(mask & fault for mask in workers)


def test_the_second_process_does_not_compile(
    compile_text: Compile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []

    def compile_it(text: str, target: object) -> bytes:
        compiled.append(text)
        return compile_text(text)

    monkeypatch.setattr(support_code, "compile_support_code", compile_it)
    for _ in range(3):
        assert load_pool(ObjectCache(tmp_path)).parallel
    assert len(compiled) == 1


def test_other_systems_are_serial_and_say_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(thread_pool, "support_target", lambda: None)
    pool = load_pool(ObjectCache(None))
    assert pool.parallel == 0 and pool.workers == 0
    assert "one thread" in caplog.text


def test_both_machines_compile(compile_text: Compile) -> None:
    for name, machine in (("x86-64", "x86_64"), ("aarch64-linux", "aarch64")):
        assert compile_text(pool_text(name), machine).startswith(b"\x7fELF")
