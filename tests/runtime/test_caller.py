"""Callers: the native entry and the Python one take, return and raise the same; state changes as a whole."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphc.base.dims import Dim, Symbol, symbols
from graphc.base.dtypes import ALL, DType, dtype_of, float32, host_bfloat16, int64
from graphc.base.errors import DTypeError, ExecutionError, GraphError, ShapeError
from graphc.runtime import caller as caller_module
from graphc.runtime import python_entry, support_code
from graphc.runtime.cache import ObjectCache
from graphc.runtime.caller import Bindings, Caller, NativeCaller, make_caller
from graphc.runtime.device import LoadedProgram
from graphc.runtime.object_loader import LoadedObject, load
from graphc.runtime.python_entry import load_entry, object_layout
from graphc.runtime.signature import ArraySpec, CallSignature
from graphc.runtime.state import CallState, Cell
from graphc.runtime.thread_pool import ThreadPool

Compile = Callable[..., bytes]

n, m = Dim("n"), Dim("m")

# Programs. `copy`: buffers[1] = bytes of buffers[0], as many as dims[0] says (float32).
# `site`: returns dims[0] as the error site. `count`: variable + 1 -> update, output = variable (int64 scalars).
PROGRAMS = """
define i64 @no_arena(ptr %dims, i64 %threads) { ret i64 0 }
define i64 @big_arena(ptr %dims, i64 %threads) { %n = load i64, ptr %dims  %b = mul i64 %n, 1000  ret i64 %b }
define i64 @nothing(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) { ret i64 0 }
define i64 @site(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) { %n = load i64, ptr %dims  ret i64 %n }
define i64 @double(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) {
entry:
  %in = load ptr, ptr %buffers
  %p = getelementptr ptr, ptr %buffers, i64 1
  %out = load ptr, ptr %p
  %n = load i64, ptr %dims
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %one ]
  %last = icmp sge i64 %i, %n
  br i1 %last, label %done, label %one
one:
  %ip = getelementptr float, ptr %in, i64 %i
  %v = load float, ptr %ip
  %w = fadd float %v, %v
  %op = getelementptr float, ptr %out, i64 %i
  store float %w, ptr %op
  %i1 = add i64 %i, 1
  br label %loop
done:
  ret i64 0
}
define i64 @touch_arena(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) {
  %n = load i64, ptr %dims
  %b = mul i64 %n, 1000
  %l = sub i64 %b, 8
  %p = getelementptr i8, ptr %arena, i64 %l
  store volatile i64 1, ptr %p
  store volatile i64 1, ptr %arena
  ret i64 0
}
; buffers: limit (input), variable, output, update
define i64 @count(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) {
  %limit.p = load ptr, ptr %buffers
  %limit = load i64, ptr %limit.p
  %b1 = getelementptr ptr, ptr %buffers, i64 1
  %variable.p = load ptr, ptr %b1
  %variable = load i64, ptr %variable.p
  %b2 = getelementptr ptr, ptr %buffers, i64 2
  %output.p = load ptr, ptr %b2
  %b3 = getelementptr ptr, ptr %buffers, i64 3
  %update.p = load ptr, ptr %b3
  store i64 %variable, ptr %output.p
  %next = add i64 %variable, 1
  store i64 %next, ptr %update.p
  %bad = icmp sge i64 %variable, %limit
  %site = select i1 %bad, i64 7, i64 0
  ret i64 %site
}
; sleeps without Python: spins dims[0] million steps
define i64 @spin(ptr %ctx, ptr %buffers, ptr %dims, ptr %arena) {
entry:
  %n = load i64, ptr %dims
  %steps = mul i64 %n, 1000000
  br label %loop
loop:
  %k = phi i64 [ 0, %entry ], [ %k1, %loop ]
  call void asm sideeffect "", "r"(i64 %k)
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %steps
  br i1 %more, label %loop, label %done
done:
  ret i64 0
}
"""


@pytest.fixture(scope="module")
def programs(compile_text: Compile) -> LoadedObject:
    return load(compile_text(PROGRAMS), permanent=True)


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> LoadedObject:
    if support_code.support_target() is None or object_layout() is None:
        pytest.skip("no native entry here")
    return load_entry(ObjectCache(tmp_path_factory.mktemp("cache")))


class Maker:
    """Makes callers of one kind, native or Python."""

    def __init__(self, programs: LoadedObject, entry: LoadedObject | None) -> None:
        self.programs = programs
        self.entry = entry
        self.state = CallState(ThreadPool(), 1, entry.address("graphc_try_lock") if entry else 0)

    def __call__(
        self,
        inputs: dict[str, tuple[DType | str, tuple[Any, ...]]],
        outputs: dict[str, tuple[DType | str, tuple[Any, ...]]] | None = None,
        program: str = "nothing",
        arena: str = "no_arena",
        single: bool = False,
        work: Any = 0,
        **bindings: Any,
    ) -> Caller:
        specs = [
            tuple(ArraySpec(name, dtype_of(dtype), shape) for name, (dtype, shape) in group.items())
            for group in (inputs, outputs or {})
        ]
        found: dict[str, Symbol] = {}
        for spec in (*specs[0], *specs[1]):
            found.update({symbol.name: symbol for symbol in symbols(spec.shape)})
        signature = CallSignature(specs[0], specs[1], tuple(found.values()), single, work, "f")
        loaded = LoadedProgram(
            self.programs.address(program), self.programs.address(arena), self.programs
        )
        made = make_caller(signature, loaded, Bindings(**bindings), self.state, self.entry)
        assert isinstance(made, NativeCaller) == (self.entry is not None)
        return made


@pytest.fixture(params=["native", "python"])
def make(request: pytest.FixtureRequest, programs: LoadedObject) -> Maker:
    return Maker(programs, request.getfixturevalue("entry") if request.param == "native" else None)


@pytest.fixture
def native(programs: LoadedObject, entry: LoadedObject) -> Maker:
    return Maker(programs, entry)


def test_results_are_new_arrays(make: Maker) -> None:
    double = make({"x": ("f32", (n,))}, {"y": ("f32", (n,))}, "double", single=True).function
    for length in (0, 1, 5, 1000, 3):
        x = np.arange(length, dtype=np.float32)
        y, again = double(x), double(x)
        assert type(y) is np.ndarray and y.dtype == np.float32 and y.tolist() == (2 * x).tolist()
        assert y.flags.owndata and y.flags.writeable and not np.shares_memory(y, again)


def test_kinds_of_result(make: Maker) -> None:
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


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_every_dtype_passes_the_quick_check(native: Maker, dtype: DType) -> None:
    made = native({"x": (dtype, (n, 3))}, {"y": (dtype, (3, n))})
    assert isinstance(made, NativeCaller)
    if not made.signature.has_foreign_dtypes:
        x = np.zeros((4, 3), ArraySpec("x", dtype, ()).host)
        (y,) = made._attempt(x)
        assert y.shape == (3, 4) and y.dtype == x.dtype


def accepted(made: Caller, *args: object) -> bool:
    assert isinstance(made, NativeCaller)
    return type(made._attempt(*args)) is not int


def test_what_the_quick_check_refuses(native: Maker) -> None:
    made = native({"x": ("f32", (n, 3)), "k": ("i64", ())})
    x, k = np.zeros((4, 3), np.float32), np.zeros((), np.int64)
    assert accepted(made, x, k)
    assert accepted(made, np.zeros((0, 3), np.float32), k)
    buffer = np.zeros(100, np.uint8)
    for bad in (
        x.astype(np.float64),
        x.astype(">f4"),
        x.view(np.int32),
        np.zeros((3, 4), np.float32).T,
        np.zeros((8, 3), np.float32)[::2],
        np.zeros((4, 6), np.float32)[:, ::2],
        np.zeros((4, 4), np.float32),
        np.zeros((4, 3, 1), np.float32),
        np.zeros((4,), np.float32),
        buffer[1:49].view(np.float32).reshape(4, 3),
        x.view(np.recarray),
        [[1.0, 2.0, 3.0]],
        None,
        1.0,
        np.float32(1),
        np.zeros((4, 3), object),
    ):
        assert not accepted(made, bad, k), repr(bad)
    assert not accepted(made, x, np.int64(3))
    assert not accepted(made, x, 3)
    assert not accepted(made, x, np.zeros(1, np.int64))
    assert not accepted(made, x)
    assert not accepted(made, x, k, k)
    assert not accepted(made)


def test_the_slow_path_takes_what_can_be_taken(make: Maker) -> None:
    double = make({"x": ("f32", (n,))}, {"y": ("f32", (n,))}, "double", single=True).function
    for x in (
        [1, 2, 3],
        [1.0, 2.0, 3.0],
        (True, False),
        [],
        range(3),
        np.arange(3, dtype=np.float16),
        np.arange(3, dtype=np.int8),
        np.arange(3, dtype=">f4"),
        np.arange(6, dtype=np.float32)[::2],
        np.zeros(50, np.uint8)[1:41].view(np.float32),
        np.arange(3, dtype=np.float32).view(np.recarray),
        np.broadcast_to(np.float32(3), (4,)),
    ):
        assert double(x).tolist() == (2 * np.asarray(x, np.float32)).tolist(), repr(x)
    read_only = np.arange(3, dtype=np.float32)
    read_only.flags.writeable = False
    assert double(read_only).tolist() == [0, 2, 4]
    assert double(x=[1.0]).tolist() == [2]


def test_equal_dtypes_that_are_other_objects(make: Maker) -> None:
    made = make({"x": ("i64", (n,))}, {"y": ("i64", (n,))}, single=True)
    made.function(np.zeros(3, np.longlong))
    made.function(np.zeros(3, np.dtype("i8", metadata={"a": 1})))
    with pytest.raises(DTypeError):
        made.function(np.zeros(3, np.uint64))


def test_zero_dimensional_arguments(make: Maker) -> None:
    made = make({"x": ("f32", ()), "k": ("i64", ())}, {"y": ("f32", ())}, single=True)
    for x in (1.0, 1, True, np.float32(2), np.array(2, np.float32), np.zeros((), ">f4")):
        assert made.function(x, 3).shape == ()


@pytest.mark.parametrize(
    ("args", "keywords", "error", "fragments"),
    [
        (
            (np.zeros((2, 3)), 1),
            {},
            DTypeError,
            ["x: expected float32[n, 3], got float64", "astype('float32')"],
        ),
        (
            (np.zeros((2, 4), np.float32), 1),
            {},
            ShapeError,
            ["x: expected float32[n, 3], got float32[2, 4]"],
        ),
        (
            (np.zeros(3, np.float32), 1),
            {},
            ShapeError,
            ["x: expected float32[n, 3], got float32[3]"],
        ),
        (
            (np.zeros((2, 3), np.float32), 1.5),
            {},
            DTypeError,
            ["k: expected uint8[], got float of float64"],
        ),
        ((np.zeros((2, 3), np.float32), 300), {}, DTypeError, ["k: expected uint8[]", "300"]),
        ((np.zeros((2, 3), np.float32), -1), {}, DTypeError, ["k: expected uint8[]", "-1"]),
        ((np.zeros((2, 3), np.float32), 10**30), {}, DTypeError, ["k: expected uint8[]"]),
        ((np.zeros((2, 3), np.float32), "a"), {}, DTypeError, ["k: expected uint8[]", "str"]),
        (([[1.0], [1.0, 2.0]], 1), {}, DTypeError, ["x: expected float32[n, 3], got list"]),
        (([[1.0, 2.0, 1j]], 1), {}, DTypeError, ["x: expected float32[n, 3]", "complex"]),
        ((None, 1), {}, DTypeError, ["x: expected float32[n, 3], got NoneType"]),
        ((1,), {}, GraphError, ["f takes 2 arrays (x, k)", "missing: k"]),
        ((1, 2, 3), {}, GraphError, ["f takes 2 arrays (x, k), got 3"]),
        ((1,), {"z": 1}, GraphError, ["f takes 2 arrays (x, k), none of them is named 'z'"]),
        ((1, 2), {"x": 1}, GraphError, ["two values for 'x'"]),
    ],
)
def test_wrong_arguments(
    make: Maker, args: Any, keywords: Any, error: type, fragments: list[str]
) -> None:
    function = make({"x": ("f32", (n, 3)), "k": ("u8", ())}, {"y": ("f32", (n,))}).function
    with pytest.raises(error) as caught:
        function(*args, **keywords)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_symbols_agree(make: Maker) -> None:
    made = make(
        {"x": ("f32", (n, m)), "y": ("f32", (m,)), "z": ("f32", (2 * n + 1, n * m))},
        {"o": ("f32", (n + m, 7, n // 2))},
    )

    def call(a: tuple[int, int], b: int, c: tuple[int, int]) -> Any:
        return made.function(
            np.zeros(a, np.float32), np.zeros(b, np.float32), np.zeros(c, np.float32)
        )

    assert call((3, 4), 4, (7, 12))[0].shape == (7, 7, 1)
    assert call((0, 4), 4, (1, 0))[0].shape == (4, 7, 0)
    with pytest.raises(
        ShapeError, match=r"(?s)y: expected float32\[m\], got float32\[5\].*m is 4 by dim 1 of x"
    ):
        call((3, 4), 5, (7, 12))
    with pytest.raises(ShapeError, match=r"z: expected"):
        call((3, 4), 4, (8, 12))
    with pytest.raises(ShapeError, match=r"z: expected"):
        call((3, 4), 4, (7, 13))


def test_symbols_told_by_other_sizes(make: Maker) -> None:
    made = make(
        {"x": ("f32", (2 * n + 3,)), "y": ("f32", (m - 1,)), "z": ("f32", (m, n))},
        {"o": ("i8", (n, m))},
        single=True,
    )

    def call(a: int, b: int, c: tuple[int, int]) -> Any:
        return made.function(
            np.zeros(a, np.float32), np.zeros(b, np.float32), np.zeros(c, np.float32)
        ).shape

    assert call(7, 4, (5, 2)) == (2, 5)
    with pytest.raises(ShapeError):
        call(8, 4, (5, 2))
    alone = make({"x": ("f32", (2 * n + 3,))}, {"o": ("i8", (n,))}, single=True).function
    assert alone(np.zeros(9, np.float32)).shape == (3,)
    assert alone(np.zeros(3, np.float32)).shape == (0,)
    for length in (8, 1, 0):
        with pytest.raises(ShapeError, match="x: expected"):
            alone(np.zeros(length, np.float32))


def test_negative_quotients_round_down(make: Maker) -> None:
    made = make(
        {"x": ("f32", (n,))}, {"o": ("i8", ((n - 5) // 4 + 3, (7 * n + 2) // (n + 1)))}, single=True
    )
    for length in range(12):
        expected = ((length - 5) // 4 + 3, (7 * length + 2) // (length + 1))
        assert made.function(np.zeros(length, np.float32)).shape == expected


def test_bounds(make: Maker) -> None:
    k = Dim("k", min=2, max=12, multiple_of=3)
    function = make({"x": ("f32", (k,))}).function
    for length in (3, 6, 9, 12):
        function(np.zeros(length, np.float32))
    for length in (0, 1, 2, 4, 11, 15):
        with pytest.raises(
            ShapeError, match=f"k must be from 2 to 12 and a multiple of 3, it is {length}"
        ):
            function(np.zeros(length, np.float32))


def test_a_size_that_no_input_tells(make: Maker) -> None:
    with pytest.raises(GraphError, match="no input tells the size of the dim 'm'"):
        make({"x": ("f32", (n + m,)), "y": ("f32", (n,))})
    with pytest.raises(GraphError, match="'n'"):
        make({}, {"y": ("f32", (n,))})


def test_the_arena_grows(make: Maker) -> None:
    made = make({"x": ("f32", (n,))}, program="touch_arena", arena="big_arena")
    for length in (1, 100, 5, 20_000, 1):
        made.function(np.zeros(length, np.float32))
        assert make.state.arena.capacity >= 1000 * length
    before = make.state.arena.address
    made.function(np.zeros(20_000, np.float32))
    assert make.state.arena.address == before


def test_updates_commit_together_or_not_at_all(make: Maker) -> None:
    cell = Cell(np.array(0, np.int64))
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


def test_an_error_site_without_a_handler(make: Maker) -> None:
    function = make({"x": ("f32", (n,))}, {"a": ("f32", (n,)), "b": ("f32", (n,))}, "site").function
    with pytest.raises(ExecutionError, match="f: error site 5"):
        function(np.zeros(5, np.float32))
    function(np.zeros(0, np.float32))


def test_into_given_arrays(make: Maker) -> None:
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
            made.into([x], [bad])  # type: ignore[list-item]
    assert read_only.tolist() == [0] * 5


def test_constants_reach_the_program(make: Maker) -> None:
    # `double` reads buffers[0] and writes buffers[1]: here the only output and a constant
    constant = np.zeros(4, np.float32)
    made = make({"x": ("f32", (n,))}, {}, "double", constants=(constant,))
    made.function(np.arange(4, dtype=np.float32))
    assert constant.tolist() == [0, 2, 4, 6]


def test_bfloat16(make: Maker) -> None:
    made = make({"x": ("bf16", (n,))}, {"y": ("bf16", (n,))}, single=True)
    host = host_bfloat16()
    values = np.array([1.0, 1.5, np.nan, np.inf], np.float32)
    for x in (values, [1.0, 2.0], [1, 2], values.astype(host or np.float32)):
        y = made.function(x)
        assert y.dtype == (host or np.float32) and y.shape == (len(x),)
    with pytest.raises(DTypeError, match="values that bfloat16 has not"):
        made.function(np.array([1.001], np.float32))
    with pytest.raises(DTypeError):
        made.function(np.zeros(3, np.uint16))


def test_bfloat16_without_ml_dtypes(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("graphc.runtime.signature",):
        monkeypatch.setattr(f"{module}.host_bfloat16", lambda: None)
    made = make({"x": ("bf16", (n,))}, {"y": ("bf16", (n,)), "z": ("f32", ())})
    y, z = made.function(np.array([1.0, 2.0, 3.0], np.float32))
    assert y.dtype == np.float32 and y.shape == (3,) and z.shape == ()
    with pytest.raises(DTypeError):
        made.function(np.zeros(3, np.uint16))
    single = make({"x": ("bf16", (n,))}, {"y": ("bf16", (n,))}, single=True)
    assert single.function([1.0]).dtype == np.float32


def test_no_references_leak(make: Maker) -> None:
    cell = Cell(np.array(0, np.int64))
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


def test_callers_are_collected(native: Maker) -> None:
    cell = Cell(np.array(0, np.int64))
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


def test_long_calls_let_other_threads_run(native: Maker) -> None:
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
    assert progress(keep) <= 2


def test_many_threads_one_state(make: Maker) -> None:
    """Counting is exact though calls overlap: one thread holds the lock without the interpreter's."""
    cell = Cell(np.array(0, np.int64))
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


def test_the_lock_holds_calls_back(make: Maker) -> None:
    function = make({"x": ("f32", (n,))}).function
    done = threading.Event()

    def call() -> None:
        function(np.zeros(3, np.float32))
        done.set()

    with make.state.lock:
        thread = threading.Thread(target=call)
        thread.start()
        assert not done.wait(0.05)
    assert done.wait(10)
    thread.join()


def test_a_forked_child_is_free(make: Maker) -> None:
    spin = make({"x": ("f32", (n,))}, program="spin", work=n * 10**6).function
    thread = threading.Thread(target=lambda: spin(np.zeros(500, np.float32)))
    thread.start()
    time.sleep(0.05)  # the other thread is inside, and holds the lock
    pid = os.fork()
    if pid == 0:
        import signal

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


def test_many_arguments(make: Maker) -> None:
    inputs = {f"x{k}": ("f32", (n, k)) for k in range(120)}
    outputs = {f"y{k}": ("f32", (k, n)) for k in range(60)}
    arrays = [np.zeros((2, k), np.float32) for k in range(120)]
    results = make(inputs, outputs).function(*arrays)
    assert [a.shape for a in results] == [(k, 2) for k in range(60)]


def test_a_huge_result_raises_and_changes_nothing(make: Maker) -> None:
    function = make(
        {"x": ("f32", (n,))}, {"small": ("f32", (n,)), "y": ("f32", (10**12, n, 1000))}
    ).function
    with pytest.raises(MemoryError):
        function(np.zeros(3, np.float32))
    with make.state.lock:
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
    layout.items = items  # type: ignore[attr-defined]
    return layout


def test_calls_are_quick(native: Maker) -> None:
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
