"""Verification: good kernels pass, each broken rule is named with its statement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from graphc.base.dims import Dim
from graphc.base.dtypes import bool_, float32, float64, int32, int64
from graphc.base.errors import VerifyError
from graphc.loops.build import combine, literal
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Buffer,
    Check,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Prefetch,
    Stmt,
    Store,
    bitcast,
    const,
    load,
    op,
    select,
    size,
    var,
)
from graphc.loops.verify import verify

N = Dim("n")
A, O = Buffer("a", (N,), float32), Buffer("o", (N,), float32)  # noqa: E741  # the usual letters of indices and arrays
I, J = var("i"), var("j")  # noqa: E741  # the usual letters of indices and arrays
ZERO = literal(0, float32)
S = var("s", float32)
SUM = Accumulators((S,), combine(lambda s, a, b: s.add(a, b), ZERO))
W = var("w", float64)
ADDED = combine(lambda s, a, b: s.add(a, b), literal(0, float64))
WIDE = Accumulators((W,), ADDED, SUM.combine)
STORE = Store(O, (I,), load(A, (I,)))


def kernel(*body: Stmt) -> Kernel:
    return Kernel("k", (A, O), (O,), body)


def loop(*body: Stmt, kind: str = "serial", v: object = I, extent: Expr | None = None) -> For:
    width = (4, 2) if kind == "vector" else (1, 1)
    return For(v, extent or size(N), body, kind, *width)


def register(*indices: Expr) -> tuple[Stmt, ...]:
    buffer = Buffer("r", (4, 4), float32, "register")
    return Alloc(buffer), loop(loop(Store(buffer, indices, ZERO), v=J, kind="vector"))


GOOD = [
    kernel(loop(STORE)),
    kernel(loop(STORE, kind="parallel")),
    kernel(Let(var("x"), const(3)), loop(loop(STORE, v=J, kind="vector"), kind="parallel")),
    kernel(loop(SUM, loop(Accumulate(SUM, (ZERO,)), v=J), Store(O, (I,), S), kind="vector")),
    kernel(SUM, loop(Accumulate(SUM, (load(A, (I,)),)), kind="vector"), Store(O, (const(0),), S)),
    kernel(*register(const(1), J)),
    kernel(loop(loop(Prefetch(A, (I,)), v=J, kind="vector"))),
]


@pytest.mark.parametrize("case", range(len(GOOD)))
def test_good_kernels(case: int) -> None:
    verify(GOOD[case])


BAD: list[tuple[Kernel, str]] = [
    (kernel(STORE), "i (int64) is not defined here"),
    (kernel(loop(STORE), STORE), "i (int64) is not defined here"),
    (kernel(loop(STORE), loop(STORE)), "i is declared twice"),
    (kernel(loop(loop(STORE))), "i is declared twice"),
    (kernel(loop(STORE, v=var("for"))), "'for' is a word of the language"),
    (kernel(loop(STORE, v=var("i", int32))), "a loop variable must be int64"),
    (kernel(loop(STORE, extent=const(3, int32))), "an extent must be int64"),
    (kernel(loop(Store(A, (I,), ZERO))), "%a is not an output"),
    (kernel(loop(Store(O, (I, I), ZERO))), "%o has 1 dims, got 2 indices"),
    (kernel(loop(Store(O, (I,), const(0)))), "%o holds float32, not int64"),
    (kernel(loop(Store(O, (const(0, int32),), ZERO))), "an index of %o is int32"),
    (kernel(loop(Store(O, (I,), ZERO, const(1)))), "a predicate must be bool"),
    (kernel(Let(var("x", int32), const(0))), "x is int32"),
    (kernel(Store(Buffer("t", (), float32, "local"), (), ZERO)), "%t does not exist here"),
    (kernel(Alloc(Buffer("a", (), float32, "local"))), "two buffers are called %a"),
    (kernel(Alloc(Buffer("t", (), float32))), "'global' memory cannot be allocated"),
    (kernel(Alloc(Buffer("t", (N,), float32, "register"))), "needs constant sizes"),
    (kernel(loop(STORE, kind="warp")), "unknown kind of loop 'warp'"),
    (kernel(loop(loop(STORE, kind="parallel"), v=J)), "a parallel loop must be outermost"),
    (
        kernel(loop(STORE, kind="parallel"), loop(v=J, kind="parallel")),
        "a second parallel loop",
    ),
    (
        kernel(Store(O, (const(0),), ZERO), loop(STORE, kind="parallel")),
        "only let and check may stand beside a parallel loop",
    ),
    (kernel(loop(loop(STORE, v=J, kind="vector"), kind="vector")), "inside a vector loop"),
    (kernel(loop(loop(v=J, extent=I), kind="vector")), "differs between the lanes"),
    (kernel(replace(loop(STORE), kind="vector", width=6)), "must be a power of two"),
    (kernel(replace(loop(STORE), width=8)), "a serial loop has no width"),
    (kernel(loop(STORE, kind="unroll")), "needs a constant extent"),
    (kernel(loop(If(const(True, bool_), (STORE,)), kind="vector")), "an if inside a vector loop"),
    (kernel(loop(Prefetch(A, (I,)), kind="vector")), "a prefetch that differs between the lanes"),
    (kernel(Prefetch(A, (const(0), const(0)))), "%a has 1 dims, got 2 indices"),
    (kernel(If(const(1), ())), "an if's condition must be bool"),
    (kernel(Check(const(1), 3)), "a check must be bool"),
    (kernel(Check(const(True, bool_), 0)), "the site of a check must be positive"),
    (kernel(Accumulate(SUM, (ZERO,))), "the accumulators are not declared here"),
    (kernel(SUM, Accumulate(SUM, (const(1),))), "s is float32, not int64"),
    (kernel(WIDE, Accumulate(WIDE, (literal(0, float64),))), "w takes in float32, not float64"),
    (
        kernel(Accumulators(SUM.vars, SUM.combine, SUM.combine)),
        "float32 enters s, which is float32",
    ),
    (kernel(SUM, Accumulate(SUM, (S,))), "an accumulator is read by its own accumulate"),
    (
        kernel(SUM, loop(Accumulate(SUM, (ZERO,)), Store(O, (I,), S), kind="vector")),
        "read in the vector loop that adds to it",
    ),
    (
        kernel(SUM, loop(Accumulate(SUM, (ZERO,)), kind="thread")),
        "iterations of a thread loop share an accumulator",
    ),
    (kernel(*register(I, J)), "not constant after unrolling"),
    (kernel(*register(J, J)), "has the vector variable in two indices"),
    (
        kernel(Store(O, (const(0),), op("add", ZERO, const(1), dtype=float32))),
        "add needs operands of one dtype",
    ),
    (
        kernel(Store(O, (const(0),), op("bit_and", ZERO, ZERO, dtype=float32))),
        "bit_and does not take float32",
    ),
    (kernel(Let(var("x"), op("exp", I, dtype=int64))), "i (int64) is not defined here"),
    (
        kernel(Let(var("x"), op("exp", const(1), dtype=int64))),
        "exp does not take int64: exp(1)",
    ),
    (kernel(Let(var("x"), op("lt", const(1), const(2), dtype=int64))), "lt of int64 is not int64"),
    (kernel(Let(var("x"), bitcast(ZERO, int64))), "bitcast between different widths"),
    (kernel(Let(var("x", float32), const(1, float32))), "a float32 constant must be a float"),
    (replace(kernel(), name="a b"), "a kernel's name must be an identifier"),
    (replace(kernel(), outputs=(Buffer("z", (), float32),)), "the output %z is not a parameter"),
    (replace(kernel(), outputs=(O, O)), "an output is listed twice"),
]


@pytest.mark.parametrize("case", range(len(BAD)))
def test_bad_kernels(case: int) -> None:
    bad, expected = BAD[case]
    with pytest.raises(VerifyError) as caught:
        verify(bad)
    assert expected in str(caught.value)


def test_the_message_shows_the_statement() -> None:
    with pytest.raises(VerifyError) as caught:
        verify(kernel(loop(Store(A, (I,), select(const(True, bool_), load(O, (I,)), ZERO)))))
    assert str(caught.value) == (
        "kernel k: %a is not an output\n  %a[i] = select(true, %o[i], 0.0:f32)"
    )
