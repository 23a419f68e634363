"""Index arithmetic: simplification against brute force, normal forms, linear parts, bounds."""

from __future__ import annotations

import random

import numpy as np
import pytest

from graphc.base.dims import Dim, Size
from graphc.base.dtypes import bool_, float32, int64, uint8
from graphc.ir.scalar_numpy import NumpyScalar, Value
from graphc.loops.build import (
    EXPR,
    FALSE,
    TRUE,
    ZERO,
    Names,
    both,
    iadd,
    ifloordiv,
    imax,
    imin,
    imod,
    imul,
    isub,
    literal,
    within,
)
from graphc.loops.index_math import (
    Simplifier,
    flatten,
    linear_parts,
    simplify,
    simplify_kernel,
    strides,
    unflatten,
    without_constants,
)
from graphc.loops.nodes import (
    Buffer,
    Const,
    Expr,
    Op,
    Select,
    SizeOf,
    Var,
    cast,
    const,
    load,
    op,
    select,
    size,
    var,
)
from graphc.loops.parse import parse_kernel
from graphc.loops.ranges import Ranges
from graphc.loops.text import expr_text, kernel_text
from graphc.loops.walk import substitute

I, J, K = var("i"), var("j"), var("k")  # noqa: E741  # the usual letters of indices and arrays
N, M = Dim("n"), Dim("m", min=1)
EXTENTS: dict[Var, Size] = {I: N, J: 64, K: M}
C = const


def ranges() -> Ranges:
    """i in n, j in 64, k in m."""
    return Ranges({v: size(e) for v, e in EXTENTS.items()})


def value_of(expr: Expr, values: dict[Var, int], sizes: dict[str, int]) -> int | bool:
    """Python's meaning of an int64 or bool expression."""
    if isinstance(expr, Const):
        return expr.value
    if isinstance(expr, Var):
        return values[expr]
    if isinstance(expr, SizeOf):
        return expr.dim.evaluate(sizes)
    args = [value_of(a, values, sizes) for a in expr.args]
    if isinstance(expr, Select):
        return args[1] if args[0] else args[2]
    assert isinstance(expr, Op)
    wrapped = [Value(np.asarray(v), a.dtype) for v, a in zip(args, expr.args, strict=True)]
    return NumpyScalar().op(expr.name, *wrapped).array.item()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ifloordiv(iadd(imul(I, C(64)), J), C(64)), "i"),
        (imod(iadd(imul(I, C(64)), J), C(64)), "j"),
        (ifloordiv(iadd(imul(I, size(M)), K), size(M)), "i"),
        (imod(iadd(imul(I, size(M)), K), size(M)), "k"),
        (ifloordiv(iadd(imul(I, size(M)), K), size(N * M)), "0"),
        (imod(iadd(imul(I, C(64)), J), C(16)), "j % 16"),
        (ifloordiv(iadd(imul(I, C(64)), J), C(16)), "i * 4 + j // 16"),
        (ifloordiv(iadd(imul(I, C(8)), imod(J, C(8))), C(64)), "i // 8"),
        (imod(iadd(imul(I, C(8)), imod(J, C(8))), C(64)), "i % 8 * 8 + j % 8"),
        (ifloordiv(ifloordiv(I, C(4)), C(8)), "i // 32"),
        (imod(imod(I, C(64)), C(16)), "i % 16"),
        (ifloordiv(iadd(imul(I, size(M + 1)), K), size(M + 1)), "i"),
        (imod(iadd(imul(I, size(M + 1)), K), size(M + 1)), "k"),
        (isub(iadd(I, J), iadd(J, C(3))), "i + -3"),
        (isub(isub(size(N), C(1)), I), "size(n - 1) - i"),
        (within(I, ZERO, size(N)), "true"),
        (within(isub(I, C(1)), ZERO, size(N)), "i + -1 >= 0"),
        (within(iadd(J, C(64)), ZERO, C(64)), "false"),
        (imin(imax(I, ZERO), isub(size(N), C(1))), "i"),
        (imin(J, C(63)), "j"),
        (imax(J, C(64)), "64"),
        (EXPR.ne(J, C(64)), "true"),
        (EXPR.eq(iadd(I, C(1)), I), "false"),
        (select(EXPR.lt(I, ZERO), iadd(I, size(N)), I), "i"),
        (imul(iadd(I, C(2)), iadd(J, C(3))), "i * 3 + i * j + j * 2 + 6"),
    ],
)
def test_normal_forms(before: Expr, after: str) -> None:
    assert expr_text(simplify(before, ranges())) == after


def random_index(rng: random.Random, depth: int) -> Expr:
    """An index expression, as views make them."""
    if depth == 0 or rng.random() < 0.15:
        return rng.choice([I, J, K, C(rng.randint(-3, 70)), size(N), size(M), size(N * M)])
    kind = rng.randrange(9)
    x = random_index(rng, depth - 1)
    if kind < 2:
        return iadd(x, random_index(rng, depth - 1))
    if kind == 2:
        return isub(x, random_index(rng, depth - 1))
    if kind == 3:
        return imul(x, rng.choice([C(rng.randint(-4, 64)), size(M), size(M + 1)]))
    divisor = rng.choice(
        [C(rng.choice([1, 2, 3, 4, 8, 16, 64, -5])), size(M), size(N), size(M + 2)]
    )
    if kind in (4, 5):
        return ifloordiv(x, divisor)
    if kind == 6:
        return imod(x, divisor)
    if kind == 7:
        return (imin if rng.random() < 0.5 else imax)(x, random_index(rng, depth - 1))
    compare = rng.choice(["lt", "le", "gt", "ge", "eq", "ne"])
    return select(
        EXPR.op(compare, x, random_index(rng, depth - 1)), x, random_index(rng, depth - 1)
    )


def point_in(rng: random.Random, sizes: dict[str, int]) -> dict[Var, int]:
    """Values of the loop variables inside their loops."""
    return {I: rng.randrange(sizes["n"]), J: rng.randrange(64), K: rng.randrange(sizes["m"])}


@pytest.mark.parametrize("seed", range(12))
def test_simplification_keeps_the_value(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        expr = random_index(rng, rng.randint(1, 4))
        simple = simplify(expr, ranges())
        low, high = ranges().interval(expr)
        for _ in range(12):
            sizes = {"n": rng.randint(1, 9), "m": rng.randint(1, 9)}
            point = {
                I: rng.randrange(sizes["n"]),
                J: rng.randrange(64),
                K: rng.randrange(sizes["m"]),
            }
            expected = value_of(expr, point, sizes)
            assert value_of(simple, point, sizes) == expected, (expr_text(expr), expr_text(simple))
            assert low is None or low <= expected, expr_text(expr)
            assert high is None or high >= expected, expr_text(expr)


@pytest.mark.parametrize("seed", range(4))
def test_linear_parts_rebuild_the_value(seed: int) -> None:
    rng = random.Random(100 + seed)
    linear = 0
    for _ in range(80):
        expr = random_index(rng, rng.randint(1, 3))
        parts = linear_parts(expr, J)
        if parts is None:
            continue
        linear += 1
        rebuilt = iadd(imul(parts[0], J), parts[1])
        sizes = {"n": rng.randint(1, 9), "m": rng.randint(1, 9)}
        point = point_in(rng, sizes)
        assert value_of(rebuilt, point, sizes) == value_of(expr, point, sizes), expr_text(expr)
    assert linear > 20


def test_linear_parts() -> None:
    a = Buffer("a", (N,), int64)
    assert linear_parts(iadd(imul(I, size(M)), J), I) == (size(M), J)
    assert linear_parts(iadd(imul(I, size(M)), J), K) == (ZERO, iadd(imul(I, size(M)), J))
    assert linear_parts(isub(size(N), J), J) == (C(-1), size(N))
    assert linear_parts(load(a, (I,)), J) == (ZERO, load(a, (I,)))
    for curved in (imul(J, J), ifloordiv(J, C(2)), imod(J, C(2)), load(a, (J,)), imin(J, C(3))):
        assert linear_parts(curved, J) is None


def test_flatten_and_unflatten_are_inverse() -> None:
    shape = (N, M, 4, M + 1)
    assert strides(shape) == ((N * M * 4 * (M + 1)) // N, 4 * (M + 1), M + 1, 1)
    loops = {var(f"d{k}"): size(d) for k, d in enumerate(shape)}
    indices = tuple(loops)
    r = Ranges(loops)
    back = unflatten(flatten(shape, indices), shape)
    assert [simplify(x, r) for x in back] == list(indices)


def test_constants_of_indices_are_told_apart() -> None:
    shape = (N, 6, 4)
    indices = (iadd(I, C(2)), iadd(imul(J, C(-1)), C(5)), C(3))
    varying, displacement = without_constants(shape, indices)
    assert [expr_text(i) for i in varying] == ["i", "j * -1", "0"]
    assert displacement == 2 * 24 + 5 * 4 + 3
    # A constant times a symbolic stride is no constant.
    varying, displacement = without_constants((4, M), (iadd(I, C(1)), iadd(K, C(-1))))
    assert [expr_text(i) for i in varying] == ["i + 1", "k"]
    assert displacement == -1


def test_claims_nothing_about_data_that_may_wrap() -> None:
    a = Buffer("a", (N,), int64)
    x = load(a, (I,))
    kept = [
        EXPR.gt(iadd(x, C(1)), x),
        ifloordiv(imul(x, C(4)), C(4)),
        imod(iadd(imul(x, C(4)), C(1)), C(4)),
        EXPR.lt(x, iadd(x, J)),
    ]
    for expr in kept:
        result = simplify(expr, ranges())
        assert isinstance(result, Op)
        assert result.name == expr.name
    clamped = imin(imax(x, ZERO), C(9))
    assert simplify(within(clamped, ZERO, C(10)), ranges()) is TRUE
    narrow = cast(load(Buffer("b", (N,), uint8), (I,)), int64)
    assert simplify(within(narrow, ZERO, C(256)), ranges()) is TRUE


def test_stored_values_are_left_alone_but_their_indices_are_not() -> None:
    a = Buffer("a", (N,), int64)
    index = ifloordiv(iadd(imul(I, C(64)), J), C(64))
    value = ifloordiv(imul(load(a, (index,)), C(4)), C(4))
    simple = Simplifier(ranges()).value(value)
    assert simple is ifloordiv(imul(load(a, (I,)), C(4)), C(4))


def test_predicates_that_hold_disappear() -> None:
    a = Buffer("a", (N,), float32)
    zero = literal(0, float32)
    inside = load(a, (I,), within(I, ZERO, size(N)), zero)
    outside = load(a, (J,), EXPR.ge(J, C(64)), zero)
    unknown = load(a, (J,), EXPR.lt(J, size(N)), zero)
    simplifier = Simplifier(ranges())
    assert simplifier.value(inside) is load(a, (I,))
    assert simplifier.value(outside) is zero
    assert simplifier.value(unknown) is unknown


def test_facts_about_sizes_follow_from_running_loops() -> None:
    n = Dim("n")
    r = Ranges({I: size(n - 2)})
    assert simplify(EXPR.ge(size(n), C(3)), r) is not TRUE  # not inside the loop
    assert simplify(EXPR.ge(isub(size(n), C(3)), imul(I, ZERO)), r) is not TRUE
    assert simplify(EXPR.lt(I, isub(size(n), C(2))), r) is TRUE
    assert simplify(EXPR.ge(iadd(isub(size(n), C(3)), I), ZERO), r) is TRUE
    bounded = Ranges({I: size(Dim("b", min=2, max=8))})
    assert bounded.interval(imul(I, C(3))) == (0, 21)
    assert simplify(EXPR.lt(I, C(8)), bounded) is TRUE


def test_kernels() -> None:
    text = """\
kernel k(in %a: f32[n, 8], out %o: f32[8*n]) {
  for f in size(8*n) {
    if f < size(8*n) {
      %o[f // 8 * 8 + f % 8] = %a[f // 8, f % 8 ? f % 8 < 8 : 0.0:f32] if f >= 0
    } else {
      check false site 1
    }
  }
}
"""
    after = """\
kernel k(in %a: f32[n, 8], out %o: f32[8*n]) {
  for f in size(8*n) {
    %o[f // 8 * 8 + f % 8] = %a[f // 8, f % 8]
  }
}
"""
    assert kernel_text(simplify_kernel(parse_kernel(text))) == after


def test_depth_is_no_problem() -> None:
    x: Expr = I
    for k in range(3000):
        x = imod(iadd(imul(x, C(2)), C(k % 7)), C(64 + k % 3))
    assert simplify(x, ranges()).dtype is int64
    assert ranges().interval(x) == (0, 65) or ranges().interval(x)[0] == 0
    assert linear_parts(x, I) is None
    assert substitute(x, {I: ZERO}).dtype is int64


def test_products_do_not_explode() -> None:
    x: Expr = iadd(I, C(1))
    for _ in range(40):
        x = imul(x, iadd(x, J))
    assert simplify(x, ranges()).dtype is int64


def test_folding_is_exact() -> None:
    top = C((1 << 63) - 1)
    assert iadd(top, C(1)) is C(-(1 << 63))
    assert ifloordiv(C(-7), C(2)) is C(-4)
    assert imod(C(-7), C(2)) is C(1)
    assert ifloordiv(C(5), ZERO) is ZERO
    assert imod(C(5), ZERO) is ZERO
    assert ifloordiv(C(-(1 << 63)), C(-1)) is C(-(1 << 63))
    assert iadd(I, C(3), C(-3)) is I
    assert imul(C(2), I, C(3)) is imul(I, C(6))
    assert isub(I, I) is ZERO
    assert both(TRUE, EXPR.lt(I, J), TRUE) is EXPR.lt(I, J)
    assert both(EXPR.lt(I, J), FALSE) is FALSE
    x = var("x", float32)
    assert EXPR.add(x, literal(0, float32)) is op("add", x, literal(0, float32), dtype=float32)
    assert EXPR.mul(x, literal(0, float32)) is not literal(0, float32)
    assert EXPR.eq(x, x) is op("eq", x, x, dtype=bool_)  # false for NaN
    assert literal(300, uint8) is const(44, uint8)
    assert literal(1e300, float32).value == float("inf")


def test_names() -> None:
    names = Names(["i", "i_1"])
    assert [names.fresh("i"), names.fresh("i"), names.fresh("j"), names.fresh("j")] == [
        "i_2",
        "i_3",
        "j",
        "j_1",
    ]
