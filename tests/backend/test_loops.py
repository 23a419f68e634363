"""Whole kernels, compiled for every target of this machine, against the loop interpreter bit for
bit.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from graphc.backend.functions import STEPS_PER_PART
from graphc.backend.kernel_facts import kernel_symbols, scratch_bytes
from graphc.backend.program import BufferRef, Launch, Program
from graphc.base.dims import Dim, Size, evaluate
from graphc.base.dtypes import (
    DType,
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    from_storage,
    int32,
    int64,
    to_storage,
    uint8,
)
from graphc.base.errors import CompileError
from graphc.base.target import TARGETS
from graphc.loops.build import EXPR as S
from graphc.loops.build import combine, iadd, ifloordiv, imod, imul, literal, within
from graphc.loops.interpret import interpret
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Buffer,
    Check,
    Combine,
    Const,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Stmt,
    Store,
    Var,
    cast,
    const,
    load,
    select,
    size,
    var,
)
from tests.backend.running import RUNNABLE, Native, single

N, M = Dim("n"), Dim("m")
I, J, K = var("i"), var("j"), var("k")  # noqa: E741  # the letters of loops
TARGET_NAMES = [t.name for t in RUNNABLE]
SIZES = [(3, 5), (1, 64), (2, 16), (4, 100), (3, 0), (0, 7), (2, 129), (1, 1)]


def data(
    shape: tuple[Size, ...], dtype: DType, sizes: dict[str, int], seed: int
) -> np.ndarray[Any, Any]:
    """Random values in the reference form; integers small enough to serve as indices."""
    rng = np.random.default_rng(seed)
    extent = tuple(evaluate(s, sizes) for s in shape)
    if dtype.is_float:
        values = np.asarray(rng.normal(size=extent) * 4, dtype.numpy)
        return from_storage(to_storage(values, dtype), dtype)
    return np.asarray(rng.integers(0, 2 if dtype.is_bool else 5, extent), dtype.numpy)


def agree(
    kernel: Kernel, target: str, sizes: dict[str, int], seed: int = 0, native: Native | None = None
) -> None:
    """Run both ways; the outputs' bits and the error sites are the same."""
    inputs = {
        p.name: data(p.shape, p.dtype, sizes, seed + k)
        for k, p in enumerate(kernel.params)
        if p not in kernel.outputs
    }
    outputs = {p.name: data(p.shape, p.dtype, sizes, 99) for p in kernel.outputs}
    native = native or Native(single(kernel), TARGETS[target])
    stored_in = [to_storage(inputs[p.name], p.dtype) for p in kernel.params if p.name in inputs]
    in_order = [p for p in kernel.params if p.name in outputs]
    stored_out = [np.array(to_storage(outputs[p.name], p.dtype)) for p in in_order]
    site = native([*stored_in, *stored_out], sizes)
    want_site = interpret(kernel, inputs | outputs, sizes, has_fma=TARGETS[target].has_fma)
    assert site == want_site
    for p, got in zip(in_order, stored_out, strict=True):
        want = to_storage(outputs[p.name], p.dtype)
        assert got.tobytes() == want.tobytes(), (kernel.name, target, sizes, p.name, got, want)


def summing(dtype: DType) -> Combine:
    return combine(lambda s, a, b: s.add(a, b), literal(0, dtype))


def accumulators(name: str, how: Combine) -> Accumulators:
    return Accumulators(tuple(var(f"{name}{k}", p.dtype) for k, p in enumerate(how.left)), how)


def parallel(var_: Var, extent: Size, *body: Stmt) -> For:
    return For(var_, size(extent), body, "parallel")


def vector(var_: Var, extent: Size, *body: Stmt, width: int = 16, interleave: int = 4) -> For:
    return For(var_, size(extent), body, "vector", width, interleave)


def broadcast(dtype: DType) -> Kernel:
    """o = max(a * b_row + c_column, 0)."""
    a, b, c = Buffer("a", (N, M), dtype), Buffer("b", (M,), dtype), Buffer("c", (N, 1), dtype)
    o = Buffer("o", (N, M), dtype)
    value = S.add(S.mul(load(a, (I, J)), load(b, (J,))), load(c, (I, const(0))))
    value = S.maximum(value, literal(0, dtype))
    return Kernel(
        "broadcast",
        (a, b, c, o),
        (o,),
        (parallel(I, N, vector(J, M, Store(o, (I, J), value))),),
        N * M,
    )


def row_sums(dtype: DType) -> Kernel:
    """Sums along the vector axis, lanes in the fixed order; the accumulator is read afterwards."""
    a, o, p = Buffer("a", (N, M), dtype), Buffer("o", (N,), dtype), Buffer("p", (N, M), dtype)
    acc = accumulators("acc", summing(dtype))
    total = acc.vars[0]
    body = parallel(
        I, N, acc, vector(J, M, Accumulate(acc, (load(a, (I, J)),))),
        Store(o, (I,), total),
        vector(K, M, Store(p, (I, K), S.mul(load(a, (I, K)), total)), interleave=2),
    )  # fmt: skip
    return Kernel("row_sums", (a, o, p), (o, p), (body,), N * M)


def column_sums(dtype: DType) -> Kernel:
    """Each lane owns an accumulator over a serial inner loop."""
    a, o = Buffer("a", (N, M), dtype), Buffer("o", (M,), dtype)
    acc = accumulators("acc", summing(dtype))
    inner = For(I, size(N), (Accumulate(acc, (load(a, (I, J)),)),))
    return Kernel(
        "column_sums",
        (a, o),
        (o,),
        (vector(J, M, acc, inner, Store(o, (J,), acc.vars[0]), interleave=2),),
    )


def total(dtype: DType) -> Kernel:
    """A serial loop around a vector loop over one accumulator."""
    a, o = Buffer("a", (N, M), dtype), Buffer("o", (), dtype)
    acc = accumulators("acc", combine(lambda s, x, y: s.maximum(x, y), literal(-1, dtype)))
    loop = For(I, size(N), (vector(J, M, Accumulate(acc, (load(a, (I, J)),)), interleave=2),))
    return Kernel("total", (a, o), (o,), (acc, loop, Store(o, (), acc.vars[0])))


def argmax(dtype: DType) -> Kernel:
    """Two accumulators that move together; the first index of the largest wins."""
    a, o = Buffer("a", (N, M), dtype), Buffer("o", (N,), int64)
    x, p, y, q = var("x", dtype), var("p"), var("y", dtype), var("q")
    later = S.bit_and(S.eq(x, y), S.lt(p, q))
    left = S.op("bit_or", S.gt(x, y), later)
    identity = (literal(-np.inf if dtype.is_float else -1000, dtype), const(1 << 40))
    assert all(isinstance(c, Const) for c in identity)
    how = Combine((x, p), (y, q), (select(left, x, y), select(left, p, q)), identity)
    acc = accumulators("best", how)
    body = parallel(
        I, N, acc, vector(J, M, Accumulate(acc, (load(a, (I, J)), J))), Store(o, (I,), acc.vars[1])
    )
    return Kernel("argmax", (a, o), (o,), (body,), N * M)


def windows(dtype: DType) -> Kernel:
    """A padded 3-point stencil: contiguous loads under a varying predicate."""
    a, o = Buffer("a", (N, M), dtype), Buffer("o", (N, M), dtype)
    value: Expr = literal(0, dtype)
    for shift in (-1, 0, 1):
        at = iadd(J, const(shift))
        value = S.add(value, load(a, (I, at), within(at, const(0), size(M)), literal(2, dtype)))
    return Kernel(
        "windows",
        (a, o),
        (o,),
        (parallel(I, N, vector(J, M, Store(o, (I, J), value), interleave=2)),),
    )


def uniform_predicate(dtype: DType) -> Kernel:
    """Rows shifted by one: the predicate is the same in all lanes."""
    a, o = Buffer("a", (N, M), dtype), Buffer("o", (N, M), dtype)
    above = iadd(I, const(-1))
    value = load(a, (above, J), S.ge(above, const(0)), literal(1, dtype))
    return Kernel("rows", (a, o), (o,), (parallel(I, N, vector(J, M, Store(o, (I, J), value))),))


def transposed(dtype: DType) -> Kernel:
    """Loads with a symbolic stride, and stores with one."""
    a, o, p = Buffer("a", (M, N), dtype), Buffer("o", (N, M), dtype), Buffer("p", (M, N), dtype)
    value = load(a, (J, I))
    body = parallel(
        I, N, vector(J, M, Store(o, (I, J), value), Store(p, (J, I), value), interleave=2)
    )
    return Kernel("transposed", (a, o, p), (o, p), (body,))


def strided(dtype: DType) -> Kernel:
    """Every third element, backwards, and through floordiv and mod."""
    a, o, p = Buffer("a", (3 * M,), dtype), Buffer("o", (M,), dtype), Buffer("p", (M,), dtype)
    back = iadd(imul(J, const(-3)), S.op("mul", size(M), const(3)), const(-1))
    mixed = iadd(ifloordiv(J, const(2)), imul(imod(J, const(3)), ifloordiv(size(M), const(3))))
    stores = (
        Store(o, (J,), load(a, (back,))),
        Store(p, (J,), load(a, (mixed,))),
    )
    return Kernel("strided", (a, o, p), (o, p), (vector(J, M, *stores, interleave=2),))


def every_few(dtype: DType) -> Kernel:
    """Every second, third, fourth and fifth element, the last one at the end of the buffer."""
    o = Buffer("o", (4, M), dtype)
    operands = [Buffer(f"a{k}", (k * M,), dtype) for k in range(2, 6)]
    stores = [
        Store(o, (const(row), J), load(a, (iadd(imul(J, const(k)), const(k - 1)),)))
        for row, (k, a) in enumerate(zip(range(2, 6), operands, strict=True))
    ]
    body = vector(J, M, *stores, interleave=2)
    return Kernel("every_few", (*operands, o), (o,), (body,))


def repeated(dtype: DType) -> Kernel:
    """Elements that 2, 3, 4 and 8 neighbours read."""
    a, o = Buffer("a", (N, M), dtype), Buffer("o", (4, N, M), dtype)
    stores = [
        Store(o, (const(row), I, J), load(a, (I, ifloordiv(J, const(k)))))
        for row, k in enumerate((2, 3, 4, 8))
    ]
    return Kernel("repeated", (a, o), (o,), (parallel(I, N, vector(J, M, *stores)),))


def gathered(dtype: DType) -> Kernel:
    """Indices from memory, checked and clamped: out of range is an error site."""
    a, x, o = Buffer("a", (4,), dtype), Buffer("x", (N, M), int32), Buffer("o", (N, M), dtype)
    index = cast(load(x, (I, J)), int64)
    ok = within(index, const(0), const(4))
    clamped = S.maximum(S.minimum(index, const(3)), const(0))
    k = var("index")
    body = parallel(
        I,
        N,
        vector(J, M, Let(k, clamped), Check(ok, 7), Store(o, (I, J), load(a, (k,))), interleave=2),
    )
    return Kernel("gathered", (a, x, o), (o,), (body,))


def masked_stores(dtype: DType) -> Kernel:
    """Stores under a varying predicate, contiguous and scattered, and under a uniform one."""
    a, o, p, q = (Buffer(name, (N, M), dtype) for name in "aopq")
    value = load(a, (I, J))
    keep = S.gt(value, literal(1, dtype))
    stores = (
        Store(o, (I, J), value, keep),
        Store(p, (I, S.op("sub", size(M - 1), J)), value, keep),
        Store(q, (I, J), value, S.gt(I, const(0))),
    )
    return Kernel(
        "masked", (a, o, p, q), (o, p, q), (parallel(I, N, vector(J, M, *stores, interleave=2)),)
    )


def branches(dtype: DType) -> Kernel:
    """An If with both arms around accumulations and stores."""
    a, o = Buffer("a", (N, M), dtype), Buffer("o", (N,), dtype)
    acc = accumulators("acc", summing(dtype))
    even = S.eq(imod(I, const(2)), const(0))
    arm = If(
        even,
        (vector(J, M, Accumulate(acc, (load(a, (I, J)),)), interleave=1),),
        (For(K, size(M), (Accumulate(acc, (S.mul(load(a, (I, K)), load(a, (I, K))),)),)),),
    )
    return Kernel(
        "branches", (a, o), (o,), (parallel(I, N, acc, arm, Store(o, (I,), acc.vars[0])),)
    )


def scan(dtype: DType) -> Kernel:
    """A running sum that reads what the iteration before wrote."""
    a, o = Buffer("a", (N, M), dtype), Buffer("o", (N, M), dtype)
    before = load(o, (I, iadd(J, const(-1))), S.gt(J, const(0)), literal(0, dtype))
    loop = For(J, size(M), (Store(o, (I, J), S.add(before, load(a, (I, J)))),))
    return Kernel("scan", (a, o), (o,), (parallel(I, N, loop),))


def tiles(dtype: DType) -> Kernel:
    """A register tile updated over a loop: matmul of 4 x 32 blocks, unrolled."""
    a, b, o = Buffer("a", (4, M), dtype), Buffer("b", (M, 32), dtype), Buffer("o", (4, 32), dtype)
    tile = Buffer("tile", (4, 32), dtype, "register")
    r, s, t = var("r"), var("s"), var("t")
    zero = For(
        r,
        const(4),
        (vector(J, 32, Store(tile, (r, J), literal(0, dtype)), interleave=2),),
        "unroll",
    )
    update = S.fma(load(a, (s, K)), load(b, (K, J)), load(tile, (s, J)))
    step = For(s, const(4), (vector(J, 32, Store(tile, (s, J), update), interleave=2),), "unroll")
    out = For(
        t, const(4), (vector(J, 32, Store(o, (t, J), load(tile, (t, J))), interleave=2),), "unroll"
    )
    return Kernel("tiles", (a, b, o), (o,), (Alloc(tile), zero, For(K, size(M), (step,)), out))


def local_rows(dtype: DType) -> Kernel:
    """A local row of symbolic size in scratch and a static one on the stack."""
    a, o = Buffer("a", (N, M), dtype), Buffer("o", (N, M), dtype)
    row, few = Buffer("row", (M,), dtype, "local"), Buffer("few", (8,), dtype, "local")
    p = var("p")
    back = S.op("sub", size(M - 1), K)
    value = S.mul(load(row, (back,)), load(few, (imod(K, const(8)),)))
    body = parallel(
        I, N, Alloc(row), Alloc(few),
        vector(J, M, Store(row, (J,), S.add(load(a, (I, J)), literal(1, dtype)))),
        vector(p, 8, Store(few, (p,), literal(3, dtype)), width=8, interleave=1),
        vector(K, M, Store(o, (I, K), value)),
    )  # fmt: skip
    return Kernel("local_rows", (a, o), (o,), (body,))


def unrolled(dtype: DType) -> Kernel:
    """An unrolled loop inside a vector loop, with a Let that changes from one iteration to the
    next.
    """
    a, o = Buffer("a", (3, M), dtype), Buffer("o", (M,), dtype)
    acc = accumulators("acc", summing(dtype))
    weight = var("weight", dtype)
    step = (
        Let(weight, cast(iadd(K, const(1)), dtype)),
        Accumulate(acc, (S.mul(weight, load(a, (K, J))),)),
    )
    loop = For(K, const(3), step, "unroll")
    return Kernel(
        "unrolled",
        (a, o),
        (o,),
        (vector(J, M, acc, loop, Store(o, (J,), acc.vars[0]), interleave=2),),
    )


def rows_apart(dtype: DType) -> Kernel:
    """Rows at constant distances, forwards, backwards, gathered, in loops of one turn."""
    a, b = Buffer("a", (N + 3, 16), dtype), Buffer("b", (4,), dtype)
    o, p = Buffer("o", (N + 1, 16), dtype), Buffer("p", (N, 2), dtype)
    acc = accumulators("acc", summing(dtype))
    above, below = iadd(I, const(1)), iadd(I, const(2))
    back = iadd(imul(J, const(-1)), const(15))
    mixed = imod(imul(J, const(3)), const(16))
    value = S.add(load(a, (above, back)), S.mul(load(a, (below, mixed)), load(b, (const(3),))))
    body = parallel(
        I, N, acc,
        vector(K, 16, Accumulate(acc, (load(a, (below, K)),)), interleave=1),
        vector(J, 16, Store(o, (above, J), S.add(value, load(a, (I, J)))), interleave=1),
        Store(p, (I, const(1)), acc.vars[0]),
    )  # fmt: skip
    return Kernel("rows_apart", (a, b, o, p), (o, p), (body,), N)


KERNELS: list[Callable[[DType], Kernel]] = [
    broadcast, row_sums, column_sums, total, argmax, windows, uniform_predicate, transposed,
    strided, every_few, repeated, gathered, masked_stores, branches, scan, tiles, local_rows,
    unrolled, rows_apart,
]  # fmt: skip


@pytest.mark.parametrize("target", TARGET_NAMES)
@pytest.mark.parametrize("dtype", [float32, float64, int32, bfloat16, float16], ids=str)
@pytest.mark.parametrize("make", KERNELS, ids=lambda f: f.__name__)
def test_kernels_agree(make: Callable[[DType], Kernel], dtype: DType, target: str) -> None:
    kernel = make(dtype)
    native = Native(single(kernel), TARGETS[target])
    for n, m in SIZES:
        agree(kernel, target, {"n": n, "m": m}, native=native)


@pytest.mark.parametrize("static", [(2, 64), (3, 7), (1, 16), (2, 100), (0, 5), (5, 0), (3, 48)])
@pytest.mark.parametrize(
    "make",
    [broadcast, row_sums, column_sums, total, argmax, windows, every_few, repeated, gathered],
)
def test_static_sizes(
    make: Callable[[DType], Kernel], static: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same kernels over ints: guards and tails vanish at emission."""
    monkeypatch.setitem(globals(), "N", static[0])
    monkeypatch.setitem(globals(), "M", static[1])
    agree(make(float32), RUNNABLE[-1].name, {})


@pytest.mark.parametrize("dtype", [bool_, uint8], ids=str)
def test_bytes(dtype: DType) -> None:
    """bool is one byte in memory, whatever its value; small integers share the code."""
    for n, m in SIZES:
        agree(uniform_predicate(dtype), RUNNABLE[-1].name, {"n": n, "m": m})
        agree(transposed(dtype), RUNNABLE[-1].name, {"n": n, "m": m})
        agree(every_few(dtype), RUNNABLE[-1].name, {"n": n, "m": m})


@pytest.mark.skipif(sys.platform != "linux", reason="memory is protected by mprotect of libc")
def test_no_strided_load_goes_beyond_its_last_element() -> None:
    """What lies behind the operands is a page that nobody may read."""
    page = mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    for k, m in itertools.product((2, 3, 4), (1, 7, 16, 33, 64, 100)):
        a, o = Buffer("a", (k * (m - 1) + 1,), float32), Buffer("o", (m,), float32)
        store = Store(o, (J,), load(a, (imul(J, const(k)),)))
        native = Native(single(Kernel("edge", (a, o), (o,), (vector(J, m, store),))), RUNNABLE[-1])
        memory = mmap.mmap(-1, 2 * page)
        whole = np.frombuffer(memory, np.uint8)
        guard = ctypes.c_void_p(whole.ctypes.data + page)
        assert libc.mprotect(guard, page, 0) == 0
        count = k * (m - 1) + 1
        array = whole[page - 4 * count : page].view(np.float32)
        array[:] = np.arange(count)
        result = np.zeros(m, np.float32)
        native([array, result], {})
        assert (result == array[::k]).all()


def test_any_byte_is_true() -> None:
    a, o = Buffer("a", (N,), bool_), Buffer("o", (N,), int32)
    kernel = Kernel(
        "truth", (a, o), (o,), (vector(J, N, Store(o, (J,), cast(load(a, (J,)), int32))),)
    )
    stored, result = np.array([0, 1, 2, 255] * 10, np.uint8), np.zeros(40, np.int32)
    Native(single(kernel), RUNNABLE[-1])([stored, result], {"n": 40})
    assert result.tolist() == [0, 1, 1, 1] * 10


POOL = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64
)
CHUNK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


@pytest.mark.parametrize("make", [broadcast, row_sums, local_rows, argmax])
def test_parallel_chunks(make: Callable[[DType], Kernel]) -> None:
    """Through a pool, in chunks run in reverse order by several workers, the bits are those of a
    serial run.
    """
    calls: list[tuple[int, int]] = []

    def pool(function: int, args: int, n: int, chunk: int, threads: int) -> None:
        starts = list(range(0, n, chunk))
        for number, begin in enumerate(reversed(starts)):
            calls.append((begin, min(begin + chunk, n)))
            CHUNK(function)(args, begin, min(begin + chunk, n), number % threads)

    kernel = make(float32)
    kernel = Kernel(kernel.name, kernel.params, kernel.outputs, kernel.body, N * M)
    native = Native(single(kernel), RUNNABLE[-1])
    callback = POOL(pool)
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None
    results = []
    sizes = {"n": 301, "m": 77}
    inputs = [data(p.shape, p.dtype, sizes, 5) for p in kernel.params if p not in kernel.outputs]
    for pool_address, threads in ((0, 3), (address, 1), (address, 3)):
        outputs = [
            np.zeros(tuple(evaluate(s, sizes) for s in p.shape), p.dtype.storage)
            for p in kernel.outputs
        ]
        assert native([*inputs, *outputs], sizes, pool_address, threads) == 0
        results.append([o.tobytes() for o in outputs])
        assert bool(calls) == (threads == 3 and pool_address != 0)
    assert results[0] == results[1] == results[2]
    assert sorted(calls)[0][0] == 0
    assert len(calls) >= 9
    assert sum(e - b for b, e in calls) == 301


def test_small_work_stays_serial() -> None:
    def pool(*_: int) -> None:
        raise AssertionError("a few elements do not wake threads")

    callback = POOL(pool)
    address = ctypes.cast(callback, ctypes.c_void_p).value or 0
    kernel = broadcast(float32)
    sizes = {"n": 10, "m": 10}
    arrays = [data(p.shape, p.dtype, sizes, 1) for p in kernel.params]
    native = Native(single(kernel), RUNNABLE[-1])
    assert native(arrays, sizes, address, 4) == 0


def test_first_error_site_wins() -> None:
    """Two checks fail in one kernel and one in the next: the first site stays."""
    x, o = Buffer("x", (N,), int64), Buffer("o", (N,), int64)
    value = load(x, (J,))
    checks = (Check(S.lt(value, const(3)), 5), Check(S.lt(value, const(2)), 6))
    first = Kernel(
        "first", (x, o), (o,),
        (For(J, size(N), (*checks, Store(o, (J,), value))),),
    )  # fmt: skip
    native = Native(single(first), RUNNABLE[-1])
    for values, site in (([0, 1], 0), ([0, 2], 6), ([3, 2], 5), ([2, 9], 6)):
        array = np.array(values, np.int64)
        assert native([array, array.copy()], {"n": 2}) == site


def test_equal_kernels_are_emitted_once() -> None:
    """Kernels that differ by names only share one function."""

    def make(name: str) -> Kernel:
        a, o, j = (
            Buffer(name + "a", (N,), float32),
            Buffer(name + "o", (N,), float32),
            var(name + "j"),
        )
        return Kernel(name, (a, o), (o,), (vector(j, N, Store(o, (j,), S.neg(load(a, (j,))))),), N)

    one, two = make("one"), make("two")
    program = Program(
        N.symbols(), {"input": 1, "output": 1},
        (
            Launch(one, (BufferRef("input", 0), BufferRef("arena", 0))),
            Launch(two, (BufferRef("arena", 0), BufferRef("output", 0))),
        ),
        (N * 4,),
    )  # fmt: skip
    native = Native(program, RUNNABLE[-1])
    assert native.text.count("define internal void @graphc.kernel") == 1
    a, o = np.arange(50, dtype=np.float32), np.zeros(50, np.float32)
    native([a, o], {"n": 50})
    assert (a == o).all()


def test_long_programs() -> None:
    """More launches than one part of the entry function holds, over two arena slots in turn."""
    a, o = Buffer("a", (N,), int64), Buffer("o", (N,), int64)
    store = Store(o, (J,), S.add(S.add(load(a, (J,)), load(a, (J,))), const(1)))
    step = Kernel("step", (a, o), (o,), (vector(J, N, store, width=8, interleave=1),), N)
    count = 2 * STEPS_PER_PART + 5
    refs = [BufferRef("input", 0), *(BufferRef("arena", k % 2) for k in range(count - 1))]
    refs.append(BufferRef("output", 0))
    launches = tuple(Launch(step, (x, y)) for x, y in pairwise(refs))
    program = Program(N.symbols(), {"input": 1, "output": 1}, launches, (N * 8, N * 8))
    x, y = np.arange(21), np.zeros(21, np.int64)
    Native(program, RUNNABLE[-1])([x, y], {"n": 21})
    for _ in range(count):
        x = x + x + 1
    assert (x == y).all()


def test_facts() -> None:
    kernel = local_rows(float32)
    assert kernel_symbols(kernel) == ("m", "n")
    assert evaluate(scratch_bytes(kernel), {"m": 17, "n": 3}) == 128
    assert scratch_bytes(broadcast(float32)) == 0


def test_text_is_deterministic() -> None:
    for make in KERNELS:
        first = Native(single(make(float32)), RUNNABLE[-1])
        assert first.text == Native(single(make(float32)), RUNNABLE[-1]).text


def test_gpu_loops_are_refused_on_the_cpu() -> None:
    o = Buffer("o", (N,), float32)
    kernel = Kernel(
        "k", (o,), (o,), (For(J, size(N), (Store(o, (J,), literal(0, float32)),), "thread"),)
    )
    with pytest.raises(CompileError, match="thread loop outside a GPU kernel"):
        Native(single(kernel), RUNNABLE[-1])
