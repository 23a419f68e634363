"""Callers: native and Python ones take, return and raise the same; state changes as a whole."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphc.base.dims import Dim, symbols
from graphc.base.dtypes import float32, int64
from graphc.base.errors import DTypeError, ExecutionError, ShapeError
from graphc.runtime import caller as caller_module
from graphc.runtime import python_entry
from graphc.runtime.caller import Bindings, Caller, make_caller
from graphc.runtime.device import LoadedProgram
from graphc.runtime.object_loader import LoadedObject
from graphc.runtime.python_entry import object_layout
from graphc.runtime.signature import ArraySpec, CallSignature
from graphc.runtime.state import CallState, Cell
from graphc.runtime.thread_pool import ThreadPool

n, m = Dim("n"), Dim("m")


def test_results_are_new_arrays(make: Any) -> None:
    double = make({"x": ("f32", (n,))}, {"y": ("f32", (n,))}, "double", single=True).function
    for length in (0, 1, 5, 1000, 3):
        x = np.arange(length, dtype=np.float32)
        y, again = double(x), double(x)
        assert type(y) is np.ndarray and y.dtype == np.float32 and y.tolist() == (2 * x).tolist()
        assert y.flags.owndata and y.flags.writeable and not np.shares_memory(y, again)


def test_kinds_of_result(make: Any) -> None:
    x = np.zeros(3, np.float32)
    none = make({"x": ("f32", (n,))}).function(x)
    assert none is None
    pair = make({"x": ("f32", (n,))}, {"y": ("i8", (n, 2)), "z": ("f64", ())}).function(x)
    assert (
        type(pair) is tuple
        and [a.shape for a in pair] == [(3, 2), ()]
        and [str(a.dtype) for a in pair] == ["int8", "float64"]
    )
    one = make({"x": ("f32", (n,))}, {"y": ("bool", (n,))}).function(x)
    assert type(one) is tuple and len(one) == 1 and one[0].dtype == np.bool_
    gc.collect()
    assert [a.shape for a in pair] == [(3, 2), ()]


def test_the_arena_grows(make: Any) -> None:
    made = make({"x": ("f32", (n,))}, program="touch_arena", arena="big_arena")
    for length in (1, 100, 5, 20_000, 1):
        made.function(np.zeros(length, np.float32))
        assert make.state.arena.capacity >= 1000 * length
    before = make.state.arena.address
    made.function(np.zeros(20_000, np.float32))
    assert make.state.arena.address == before


def test_updates_commit_together_or_not_at_all(make: Any) -> None:
    (cell,) = Cell.of([np.array(0, np.int64)])
    sites: list[int] = []

    def on_error(site: int) -> None:
        sites.append(site)
        raise ExecutionError(f"site {site}")

    made = make(
        {"limit": ("i64", ())},
        {"old": ("i64", ())},
        "count",
        single=True,
        cells=(cell,),
        updates=(0,),
        on_error=on_error,
    )
    limit = np.array(3, np.int64)
    assert [int(made.function(limit)) for _ in range(3)] == [0, 1, 2]
    assert int(cell.current) == 3
    for _ in range(3):
        with pytest.raises(ExecutionError, match="site 7"):
            made.function(limit)
        assert int(cell.current) == 3
    assert sites == [7, 7, 7]
    assert int(made.function(np.array(9, np.int64))) == 3
    assert int(cell.current) == 4


def test_an_error_site_without_a_handler(make: Any) -> None:
    function = make({"x": ("f32", (n,))}, {"a": ("f32", (n,)), "b": ("f32", (n,))}, "site").function
    with pytest.raises(ExecutionError, match="f: error site 5"):
        function(np.zeros(5, np.float32))
    function(np.zeros(0, np.float32))


def test_into_given_arrays(make: Any) -> None:
    made = make({"x": ("f32", (n,))}, {"y": ("f32", (n,))}, "double")
    x, y = np.arange(5, dtype=np.float32), np.zeros(5, np.float32)
    made.into([x], [y])
    assert y.tolist() == [0, 2, 4, 6, 8]
    made.into([[5, 6, 7, 8, 9]], [y])
    assert y.tolist() == [10, 12, 14, 16, 18]
    read_only = np.zeros(5, np.float32)
    read_only.flags.writeable = False
    for bad in (
        read_only,
        np.zeros(10, np.float32)[::2],
        np.zeros(4, np.float32),
        np.zeros(5),
        [0.0] * 5,
    ):
        with pytest.raises(
            (ShapeError, DTypeError), match="y: out must be a writable C-contiguous float32 array"
        ):
            made.into([x], [bad])
    assert read_only.tolist() == [0] * 5


def test_constants_reach_the_program(make: Any) -> None:
    # `double` reads buffers[0] and writes buffers[1]: here the only output and a constant
    constant = np.zeros(4, np.float32)
    made = make({"x": ("f32", (n,))}, {}, "double", constants=(constant,))
    made.function(np.arange(4, dtype=np.float32))
    assert constant.tolist() == [0, 2, 4, 6]


def test_no_references_leak(make: Any) -> None:
    (cell,) = Cell.of([np.array(0, np.int64)])
    plain = make({"x": ("f32", (n,))}, {"y": ("f32", (n,)), "z": ("f32", (n, 2))}).function
    wrong = make({"x": ("f32", (n,))}, {"y": ("f32", (n,)), "z": ("f32", (n,))}, "site").function
    count = make(
        {"limit": ("i64", ())}, {"old": ("i64", ())}, "count", cells=(cell,), updates=(0,)
    ).function
    x, limit = np.zeros(3, np.float32), np.array(10**9, np.int64)

    def everything() -> None:
        plain(x)
        plain([1.0])
        count(limit)
        with pytest.raises(ExecutionError):
            wrong(x)
        with pytest.raises(DTypeError):
            plain(x.astype(np.float64))

    for _ in range(20):
        everything()
    gc.collect()
    objects = (x, np.dtype(np.float32), None, limit)
    before = [sys.getrefcount(o) for o in objects]
    blocks = sys.getallocatedblocks()
    for _ in range(200):
        everything()
    gc.collect()
    after = [sys.getrefcount(o) for o in objects]
    assert max(abs(a - b) for a, b in zip(before, after)) < 50, (before, after)
    assert sys.getallocatedblocks() - blocks < 400


def test_callers_are_collected(native: Any) -> None:
    (cell,) = Cell.of([np.array(0, np.int64)])
    watched = weakref.ref(cell)
    made = native(
        {"limit": ("i64", ())}, {"old": ("i64", ())}, "count", cells=(cell,), updates=(0,)
    )
    made.function(np.array(10, np.int64))
    function = made.function
    del made, cell
    gc.collect()
    assert watched() is not None, "the function alone keeps what it needs"
    function(np.array(10, np.int64))
    del function
    gc.collect()
    assert watched() is None


def test_long_calls_let_other_threads_run(native: Any) -> None:
    release = native({"x": ("f32", (n,))}, program="spin", work=n * 10**6).function
    keep = native({"x": ("f32", (n,))}, program="spin", work=1).function

    def progress(function: Callable[..., Any]) -> int:
        ticks, stop = [0], threading.Event()

        def tick() -> None:
            while not stop.is_set():
                ticks[0] += 1
                time.sleep(0.001)

        thread = threading.Thread(target=tick)
        thread.start()
        time.sleep(0.02)
        before = ticks[0]
        function(np.zeros(200, np.float32))  # 200 million steps
        ran = ticks[0] - before
        stop.set()
        thread.join()
        return ran

    assert progress(release) > 10
    # On a busy machine the thread may tick a few times before and after the call.
    assert min(progress(keep) for _ in range(3)) <= 2


def test_many_threads_one_state(make: Any) -> None:
    """Counting is exact though calls overlap: the interpreter's lock is not held all the time."""
    (cell,) = Cell.of([np.array(0, np.int64)])
    count = make(
        {"limit": ("i64", ())},
        {"old": ("i64", ())},
        "count",
        single=True,
        cells=(cell,),
        updates=(0,),
        work=10**9,
    ).function
    double = make(
        {"x": ("f32", (n,))}, {"y": ("f32", (n,))}, "double", single=True, work=n * 1000
    ).function
    seen: list[int] = []
    failures: list[object] = []

    def work() -> None:
        limit, x = np.array(10**9, np.int64), np.arange(500, dtype=np.float32)
        try:
            for k in range(300):
                seen.append(int(count(limit)))
                if not (double(x[: 100 + k]) == 2 * x[: 100 + k]).all():
                    failures.append(k)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert sorted(seen) == list(range(1200)) and int(cell.current) == 1200


def test_the_lock_holds_calls_back(make: Any) -> None:
    function = make({"x": ("f32", (n,))}).function
    done = threading.Event()

    def call() -> None:
        function(np.zeros(3, np.float32))
        done.set()

    with make.state.lock.threads, make.state.lock:
        thread = threading.Thread(target=call)
        thread.start()
        assert not done.wait(0.05)
    assert done.wait(10)
    thread.join()


def test_a_forked_child_is_free(make: Any) -> None:
    spin = make({"x": ("f32", (n,))}, program="spin", work=n * 10**6).function
    thread = threading.Thread(target=lambda: spin(np.zeros(500, np.float32)))
    thread.start()
    time.sleep(0.05)  # the other thread is inside, and holds the lock
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        spin(np.zeros(1, np.float32))
        os._exit(0)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_sizes_too_deep_for_native_checks(programs: LoadedObject, entry: LoadedObject) -> None:
    size: Any = n
    for k in range(100):
        size = 1000 // (size + k + 1)
    spec = ArraySpec("x", float32, (n,))
    signature = CallSignature(
        (spec,), (ArraySpec("y", int64, (size,)),), symbols((n,)), single=True
    )
    program = LoadedProgram(programs.address("nothing"), programs.address("no_arena"), programs)
    state = CallState(ThreadPool(), 1, entry.address("graphc_try_lock"))
    made = make_caller(signature, program, Bindings(), state, entry)
    assert type(made) is Caller
    assert made.function(np.zeros(3, np.float32)).shape == (size.evaluate({"n": 3}),)


def test_many_arguments(make: Any) -> None:
    inputs = {f"x{k}": ("f32", (n, k)) for k in range(120)}
    outputs = {f"y{k}": ("f32", (k, n)) for k in range(60)}
    arrays = [np.zeros((2, k), np.float32) for k in range(120)]
    results = make(inputs, outputs).function(*arrays)
    assert [a.shape for a in results] == [(k, 2) for k in range(60)]


def test_a_huge_result_raises_and_changes_nothing(make: Any) -> None:
    function = make(
        {"x": ("f32", (n,))}, {"small": ("f32", (n,)), "y": ("f32", (10**12, n, 1000))}
    ).function
    with pytest.raises(MemoryError):
        function(np.zeros(3, np.float32))
    with make.state.lock.threads, make.state.lock:
        pass  # it was given back


def test_layout_is_refused_where_it_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert object_layout() is not None
    monkeypatch.setattr(
        python_entry, "ObjectLayout", lambda items: caller_module and python_entry_layout(items)
    )
    assert object_layout() is None


def python_entry_layout(items: int) -> Any:
    class Shifted:
        type, data, ndim, shape, descr, flags = 8, 16, 24, 40, 56, 64

    layout = Shifted()
    layout.items = items
    return layout


def test_calls_are_quick(native: Any) -> None:
    function = native(
        {"x": ("f32", (n, 8)), "y": ("f32", (n,)), "z": ("i64", ())},
        {"o": ("f32", (n,))},
        single=True,
    ).function
    x, y, z = np.zeros((4, 8), np.float32), np.zeros(4, np.float32), np.zeros((), np.int64)
    best = 1.0
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(1000):
            function(x, y, z)
        best = min(best, (time.perf_counter() - start) / 1000)
    assert best < 5e-6, "far above what is measured; tells only the native path from the slow one"
