"""A thousand forks and joins under load, on one processor, with more threads than processors."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import graphc
from graphc.runtime import processors, thread_pool

CALLS = 1_000
pytestmark = pytest.mark.slow


def _spin() -> None:
    while True:
        pass


@contextmanager
def load(processes: int) -> Iterator[None]:
    """So many processes that do nothing but run."""
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=_spin, daemon=True) for _ in range(processes)]
    for process in started:
        process.start()
    try:
        yield
    finally:
        for process in started:
            process.terminate()
            process.join()


@contextmanager
def one_processor() -> Iterator[None]:
    """This process and its threads on processor 0, as under `taskset -c 0`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture
def seven_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Seven threads, however few processors there are."""
    monkeypatch.setattr(processors, "available", lambda: 7)
    for pool in thread_pool._shared:
        pool.set_limit(7)
    yield
    monkeypatch.undo()
    for pool in thread_pool._shared:
        pool.set_limit(processors.available())


def _model() -> tuple[list[graphc.Tensor], list[graphc.Tensor]]:
    """Several parallel kernels: elementwise, a product, a reduction, a softmax, a sort."""
    x = graphc.placeholder(("n", 96), name="x")
    w = graphc.constant(np.random.default_rng(1).standard_normal((96, 64), np.float32))
    y = graphc.nn.relu(x @ w)
    return [x], [graphc.tanh(x), y, graphc.sum(y, axis=0), graphc.nn.softmax(y), graphc.sort(y)]


def _calls(threads: int) -> Callable[[], list[bytes]]:
    inputs, outputs = _model()
    session = graphc.Session(threads=threads)
    function = session.function(inputs, outputs)
    rng = np.random.default_rng(0)
    feeds = [rng.standard_normal((n, 96), np.float32) for n in (7, 400, 1_000, 3_000)]

    def run() -> list[bytes]:
        return [b"".join(r.tobytes() for r in function(feed)) for feed in feeds]

    return run


@pytest.mark.parametrize("processes", [0, 3], ids=["idle", "loaded"])
@pytest.mark.parametrize("pinned", [False, True], ids=["free", "one-processor"])
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_forks_and_joins(seven_threads: None, threads: int, processes: int, pinned: bool) -> None:
    expected = _calls(1)()
    run = _calls(threads)
    with load(processes):
        if not pinned:
            for _ in range(CALLS // 4):
                assert run() == expected
            return
        with one_processor():
            for _ in range(CALLS // 4):
                assert run() == expected
