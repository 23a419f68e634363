"""Kernel text: what it looks like, and that the parser reads every kernel back to the same text."""

from __future__ import annotations

import pytest

from graphc.base.dims import Dim
from graphc.base.dtypes import ALL, bool_, dtype_of, float32, float64, int64
from graphc.base.errors import FormatError
from graphc.loops.build import EXPR, combine, iadd, imul, literal
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Buffer,
    Check,
    For,
    If,
    Kernel,
    Let,
    Store,
    bitcast,
    cast,
    const,
    load,
    op,
    select,
    size,
    var,
)
from graphc.loops.parse import parse_kernel
from graphc.loops.text import kernel_text

ADD_RELU = """\
kernel add_relu(in %a: f32[n, 64], in %b: f32[64], out %o: f32[n, 64]) work(128*n) {
  for i in n parallel {
    for j in 64 vector(16, 2) {
      %o[i, j] = maximum(%a[i, j] + %b[j], 0.0:f32)
    }
  }
}
"""

EVERYTHING = """\
kernel all.of_it(in %a: f32[n, (n // 2) + 1], in %i: i64[8], out %o: f32[n], out %k: i64[1]) {
  size n min 1 max 512 step 4
  note "a \\"quoted\\" note"
  alloc local %t: f32[2*n]
  for q in size(2*n) {
    %t[q] = -inf:f32
  }
  for r in n parallel {
    let base: i64 = (r + 1) * 2 - -3
    prefetch %a[r + 1, base]
    acc (s: f32 = 0.0:f32, at: i64 = 0) by (l0, l1), (r0, r1) -> (select(l0 < r0, r0, l0), l1 | r1)
    for c in size((n // 2) + 1) vector(8, 1) {
      $0 = exp(%a[r, c ? c < n & r != c : 1e-05:f32])
      s, at <- $0 * (1.0:f32 - $0), i64($0)
    }
    if isnan(s) {
      %o[r] = bitcast(f32, i32(at % 7 // 2)) if at >= 0
    } else {
      %o[r] = fma(s, s, nan:f32)
    }
    acc (w: f64 = 0.0:f64) by (l2), (r2) -> (l2 + r2) from (-0.0:f32) by (l3), (r3) -> (l3 + r3)
    w <- s
    check base - (at - 1) <= %i[r % 8] site 3
    intrinsic dot(r, at) {
      barrier
    }
  }
  %k[0] = 5
}
"""


@pytest.mark.parametrize("text", [ADD_RELU, EVERYTHING])
def test_round_trip(text: str) -> None:
    kernel = parse_kernel(text)
    assert kernel_text(kernel) == text
    assert kernel_text(parse_kernel(kernel_text(kernel))) == text


def test_prints_a_built_kernel() -> None:
    n = Dim("n")
    a, b = Buffer("a", (n, 64), float32), Buffer("b", (64,), float32)
    o = Buffer("o", (n, 64), float32)
    i, j = var("i"), var("j")
    value = EXPR.maximum(EXPR.add(load(a, (i, j)), load(b, (j,))), literal(0, float32))
    inner = For(j, const(64), (Store(o, (i, j), value),), "vector", 16, 2)
    kernel = Kernel("add_relu", (a, b, o), (o,), (For(i, size(n), (inner,), "parallel"),), n * 128)
    assert kernel_text(kernel) == ADD_RELU


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_constants_of_every_dtype(dtype: object) -> None:
    dtype = dtype_of(dtype)
    o = Buffer("o", (8,), dtype)
    values = [0, 1] if dtype.is_bool else [0, 1, 3]
    if dtype.is_float:
        values += [-0.0, 1e-7, 0.1, float("inf"), -float("inf"), float("nan"), -2.5e300]
    if dtype.kind == "i":
        values += [-1, -(1 << (dtype.bits - 1))]
    stores = tuple(Store(o, (const(0),), literal(v, dtype)) for v in values)
    kernel = Kernel("constants", (o,), (o,), stores)
    again = parse_kernel(kernel_text(kernel))
    assert [s.value for s in again.body] == [s.value for s in stores]


def test_a_variable_named_like_a_size() -> None:
    n = Dim("n")
    o = Buffer("o", (n,), int64)
    body = (For(var("n"), size(n), (Store(o, (var("n"),), iadd(size(n), var("n"))),)),)
    text = kernel_text(Kernel("k", (o,), (o,), body))
    assert "for n in size(n) {" in text
    assert kernel_text(parse_kernel(text)) == text
    store = parse_kernel(text).body[0].body[0]
    assert store.value is iadd(size(n), var("n"))


def test_text_is_linear_in_shared_nodes() -> None:
    a, o = Buffer("a", (4,), float32), Buffer("o", (4,), float32)
    value = load(a, (const(0),))
    for _ in range(2000):
        value = op("add", value, value, dtype=float32)
    text = kernel_text(Kernel("shared", (a, o), (o,), (Store(o, (const(0),), value),)))
    assert len(text) < 200_000
    again = parse_kernel(text)
    assert kernel_text(again) == text


def test_deep_chain_is_read_back_without_recursion() -> None:
    a, o = Buffer("a", (4,), float64), Buffer("o", (4,), float64)
    value = load(a, (const(0),))
    for k in range(5000):
        value = op("add" if k % 2 else "mul", const(0.5, float64), value, dtype=float64)
    text = kernel_text(Kernel("deep", (a, o), (o,), (Store(o, (const(0),), value),)))
    again = parse_kernel(text)
    assert kernel_text(again) == text


def test_structure_is_kept_by_precedence() -> None:
    o = Buffer("o", (4,), int64)
    x, y, z = var("x"), var("y"), var("z")
    cases = [
        op("sub", x, op("sub", y, z, dtype=int64), dtype=int64),
        op("mul", op("add", x, y, dtype=int64), z, dtype=int64),
        op("floordiv", x, op("mul", y, z, dtype=int64), dtype=int64),
        op("shift_left", op("bit_and", x, y, dtype=int64), z, dtype=int64),
        op("neg", op("neg", x, dtype=int64), dtype=int64),
        select(op("lt", op("bit_or", x, y, dtype=int64), z, dtype=bool_), x, y),
        cast(bitcast(cast(x, float64), int64), int64),
        op("minimum", imul(x, y), op("mod", y, z, dtype=int64), dtype=int64),
    ]
    for value in cases:
        loops = For(x, const(1), (For(y, const(1), (For(z, const(1), (Store(o, (x,), value),)),)),))
        kernel = parse_kernel(kernel_text(Kernel("p", (o,), (o,), (loops,))))
        found = kernel.body[0].body[0].body[0].body[0].value
        assert found is value, kernel_text(kernel)


def test_every_statement_kind_is_built_and_read() -> None:
    o = Buffer("o", (1,), float32)
    total = Accumulators(
        (var("s", float32),), combine(lambda s, a, b: s.add(a, b), literal(0, float32))
    )
    body = (
        total,
        For(var("i"), const(3), (Accumulate(total, (literal(1, float32),)),), "unroll"),
        Let(var("x", float32), var("s", float32)),
        Check(op("gt", var("x", float32), literal(0, float32), dtype=bool_), 9),
        If(const(True, bool_), (Store(o, (const(0),), var("x", float32)),)),
    )
    text = kernel_text(Kernel("kinds", (o,), (o,), body))
    assert kernel_text(parse_kernel(text)) == text
    assert "acc (s: f32 = 0.0:f32) by (a), (b) -> (a + b)" in text


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("for i in n", "for i of n", "line 2: expected 'in', got 'of'"),
        ("%b[j]", "%c[j]", "line 4: unknown buffer %c"),
        ("%b[j]", "%b[j, j]", "line 4: %b has 1 dimensions, got 2 indices"),
        ("maximum(", "maximal(", "line 4: unknown function 'maximal' of 2 arguments"),
        ("0.0:f32", "0.0:f64", "line 4: maximum does not take (f32, f64)"),
        ("0.0:f32", "0.0:f33", "line 4: unknown dtype 'f33'"),
        ("f32[64]", "f31[64]", "line 1: unknown dtype 'f31'"),
        ("vector(", "victor(", "line 3: unknown kind of loop 'victor'"),
        ("  }\n}\n", "  }\n", "line 7: "),
        ("%o[i, j] =", "@o[i, j] =", "line 4: unexpected character '@'"),
        ("vector(16, 2)", "vector(x, 2)", "line 3: expected a number, got 'x'"),
    ],
)
def test_errors_name_the_line(old: str, new: str, expected: str) -> None:
    assert old in ADD_RELU
    with pytest.raises(FormatError, match="kernel text") as caught:
        parse_kernel(ADD_RELU.replace(old, new))
    assert expected in str(caught.value)


def test_too_much_nesting_is_an_error_not_a_crash() -> None:
    with pytest.raises(FormatError, match="nested too deeply"):
        parse_kernel(ADD_RELU.replace("%b[j]", "(" * 5000 + "%b[j]" + ")" * 5000))
