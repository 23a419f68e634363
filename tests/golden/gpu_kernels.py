"""GPU kernels written by hand in the loop IR: what the schedule policy for GPUs will give."""

from __future__ import annotations

from graphc.base.dims import Dim
from graphc.base.dtypes import DType, float16, float32, float64, int32, int64
from graphc.loops.build import EXPR as S
from graphc.loops.build import combine, iadd, imul, literal
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Barrier,
    Buffer,
    Check,
    Combine,
    Expr,
    For,
    If,
    Kernel,
    Store,
    cast,
    const,
    load,
    select,
    size,
    var,
)

N, M = Dim("n"), Dim("m")
B, T, Q, R = var("b"), var("t"), var("q"), var("r")
THREADS = 128


def flat(name: str, dtype: DType, result: DType, operands: int, body: object) -> Kernel:
    """o[x] = body(a[x] …), one element per thread, the last block guarded."""
    inputs = tuple(Buffer(f"a{k}", (N,), dtype) for k in range(operands))
    output = Buffer("o", (N,), result)
    x = iadd(imul(B, const(THREADS)), T)
    assert callable(body)
    value: Expr = body(*(load(a, (x,)) for a in inputs))
    guarded = If(S.op("lt", x, size(N)), (Store(output, (x,), value),))
    threads = For(T, const(THREADS), (guarded,), "thread")
    blocks = For(B, size((N + THREADS - 1) // THREADS), (threads,), "block")
    return Kernel(name, (*inputs, output), (output,), (blocks,), N)


def scale_add() -> Kernel:
    """max(a * b + c, 0) in float32."""

    def body(a: Expr, b: Expr, c: Expr) -> Expr:
        return S.maximum(S.fma(a, b, c), literal(0, float32))

    return flat("scale_add", float32, float32, 3, body)


def half() -> Kernel:
    """a * b - a in float16: each operation rounds."""
    return flat("half", float16, float16, 2, lambda a, b: S.sub(S.mul(a, b), a))


def integers() -> Kernel:
    """Floor division and remainder with their defined answers, to float64."""

    def body(a: Expr, b: Expr) -> Expr:
        return cast(S.add(S.op("floordiv", a, b), S.op("mod", a, b)), float64)

    return flat("integers", int32, float64, 2, body)


def row_sums() -> Kernel:
    """One block per row: strided partial sums per thread, then a tree in shared memory."""
    x, o = Buffer("x", (N, M), float32), Buffer("o", (N,), float32)
    part = Buffer("part", (THREADS,), float32, "shared")
    how = combine(lambda s, a, b: s.add(a, b), literal(0, float32))
    own = Accumulators((var("own", float32),), how)
    column = iadd(imul(Q, const(THREADS)), T)
    inside = S.op("lt", column, size(M))
    value = load(x, (B, column), inside, literal(0, float32))
    steps = For(Q, size((M + THREADS - 1) // THREADS), (Accumulate(own, (value,)),))
    halvings = []
    width = THREADS // 2
    while width:
        upper = load(part, (iadd(T, const(width)),))
        add = Store(part, (T,), S.add(load(part, (T,)), upper))
        halvings += [If(S.op("lt", T, const(width)), (add,)), Barrier()]
        width //= 2
    done = If(S.eq(T, const(0)), (Store(o, (B,), load(part, (const(0),))),))
    body = (own, steps, Store(part, (T,), own.vars[0]), Barrier(), *halvings, done)
    threads = For(T, const(THREADS), body, "thread")
    return Kernel(
        "row_sums", (x, o), (o,), (For(B, size(N), (Alloc(part), threads), "block"),), N * M
    )


def row_argmax() -> Kernel:
    """One thread per row, two accumulators; a NaN-free maximum and the first place of it."""
    x, o = Buffer("x", (N, M), float32), Buffer("o", (N,), int64)
    a, p, b, q = var("la", float32), var("lp"), var("ra", float32), var("rq")
    first = S.bit_and(S.eq(a, b), S.lt(p, q))
    keep = S.bit_or(S.gt(a, b), first)
    identity = (literal(-float("inf"), float32), const(1 << 40))
    how = Combine((a, p), (b, q), (select(keep, a, b), select(keep, p, q)), identity)
    best = Accumulators((var("best", float32), var("place")), how)
    row = iadd(imul(B, const(THREADS)), T)
    loop = For(R, size(M), (Accumulate(best, (load(x, (row, R)), R)),))
    check = Check(S.ge(best.vars[1], const(0)), 3)
    body = If(S.op("lt", row, size(N)), (best, loop, check, Store(o, (row,), best.vars[1])))
    threads = For(T, const(THREADS), (body,), "thread")
    blocks = For(B, size((N + THREADS - 1) // THREADS), (threads,), "block")
    return Kernel("row_argmax", (x, o), (o,), (blocks,), N * M)


GOLDEN = (scale_add, half, integers, row_sums, row_argmax)
