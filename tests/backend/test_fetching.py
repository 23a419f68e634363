"""Which loads ask for lines ahead: those that read large operands in order, and no others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphc
from graphc.backend.fetching import fetched_ahead
from graphc.loops.parse import parse_kernel
from graphc.schedule.policy_cpu import FETCH_AHEAD, FETCH_AHEAD_ROWS, FETCHED_BYTES
from tests.backend.running import HOST

ROWS = FETCHED_BYTES // 4 // 1024
MARK = "call void @llvm.prefetch"


def function(f: Callable[..., graphc.Tensor], *shapes: tuple[int, ...]) -> graphc.Function:
    operands = [graphc.placeholder(shape, name=f"x{k}") for k, shape in enumerate(shapes)]
    return graphc.Session(threads=2, cache_dir="").function(operands, f(*operands))


def distances(body: str, shape: str) -> list[int]:
    head = f"kernel k(in %x: f32[{shape}], in %b: f32[4096], out %o: f32[{shape}])"
    return list(fetched_ahead(parse_kernel(f"{head} work(1) {{ {body} }}")).values())


def test_operands_larger_than_the_caches_only() -> None:
    whole = function(lambda x: graphc.sum(x, axis=1), (ROWS, 1024))
    assert MARK in whole.explain("llvm")
    less = function(lambda x: graphc.sum(x, axis=1), (ROWS - 1, 1024))
    assert MARK not in less.explain("llvm")
    x = graphc.placeholder(("rows", 1024), name="x")
    unknown = graphc.Session(threads=2, cache_dir="").function([x], graphc.sum(x, axis=1))
    assert MARK not in unknown.explain("llvm")


@pytest.mark.parametrize(
    ("shape", "body", "expected"),
    [
        # Rows one behind the other, however short, and blocks of a long one.
        ("8192, 256", "for i in 8192 parallel { for j in 256 vector(16, 4) {"
         " %o[i, j] = %x[i, j] + %b[j] } }", [FETCH_AHEAD]),
        ("2000000", "for i in 977 parallel { for j in minimum(2048, i * -2048 + 2000000)"
         " vector(16, 4) { %o[i * 2048 + j] = %x[i * 2048 + j] } }", [FETCH_AHEAD]),
        # The first quarter of each row: what follows it is not read.
        ("2048, 1024", "for i in 2048 parallel { for j in 256 vector(16, 4) {"
         " %o[i, j] = %x[i, j] } }", []),
        # The same quarter of rows that are long: little is asked for in vain.
        ("64, 65536", "for i in 64 parallel { for j in 16384 vector(16, 4) {"
         " %o[i, j] = %x[i, j] } }", [FETCH_AHEAD]),
        # Down the rows, across, by turns; and backwards.
        ("2048, 1024", "for j in 1024 parallel { for i in 2048 vector(16, 4) {"
         " %o[i, j] = %x[i, j] } }", []),
        ("2000000", "for i in 2 parallel { for j in 1000000 vector(16, 4) {"
         " %o[j] = %x[j * -1 + 1999999] } }", []),
        # Of neighbours along a row, and of rows beside each other, the one that goes ahead. Rows
        # may end in a few elements that nothing reads.
        ("8192, 256", "for i in 8190 parallel { for j in 254 vector(16, 4) {"
         " %o[i, j] = %x[i, j] + %x[i, j + 2] + %x[i + 2, j] } }", [FETCH_AHEAD]),
        ("8192, 256", "for i in 8190 parallel { for j in 256 vector(16, 4) {"
         " %o[i, j] = %x[i, j] + %x[i + 1, j] + %x[i + 2, j] } }", [FETCH_AHEAD]),
        # A few rows for each vector; many of them would be another order.
        ("2048, 1024", "for i in 512 parallel { for j in 1024 vector(16, 4) {"
         " acc (s: f32 = 0.0:f32) by (left), (right) -> (left + right)"
         " for r in 4 unroll { s <- %x[i * 4 + r, j] } %o[i, j] = s } }", [FETCH_AHEAD_ROWS]),
        ("2048, 1024", "for i in 16 parallel { for j in 1024 vector(16, 4) {"
         " acc (s: f32 = 0.0:f32) by (left), (right) -> (left + right)"
         " for r in 128 { s <- %x[i * 128 + r, j] } %o[i, j] = s } }", []),
        # Who places prefetches knows better.
        ("8192, 256", "for i in 8192 parallel { prefetch %x[i + 8, 0]"
         " for j in 256 vector(16, 4) { %o[i, j] = %x[i, j] } }", []),
    ],
)  # fmt: skip
def test_loads_that_read_on(shape: str, body: str, expected: list[int]) -> None:
    assert distances(body, shape) == expected


@pytest.mark.skipif(
    not HOST.triple.startswith("x86_64"), reason="the instruction is that of x86-64"
)
def test_a_line_is_asked_for_once() -> None:
    text = function(lambda x: graphc.sum(x, axis=1), (ROWS, 1024)).explain("assembly")
    assert text.count("prefetcht0") == 4  # a step is four vectors


def test_results_at_the_end_of_memory() -> None:
    rng = np.random.default_rng(1)
    data = rng.standard_normal((ROWS + 3, 1024), dtype=np.float32)
    got = function(lambda x: graphc.sum(x, axis=1), data.shape)(data)
    np.testing.assert_allclose(got, data.sum(axis=1, dtype=np.float64), rtol=1e-4, atol=1e-4)
    columns = function(lambda x: graphc.sum(x, axis=0), data.shape)(data)
    np.testing.assert_allclose(columns, data.sum(axis=0, dtype=np.float64), rtol=1e-4, atol=1e-4)
