"""The interpreter: accumulation order bit for bit, dtypes, and every fault that it must find."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphc.base.dtypes import round_bfloat16
from graphc.base.errors import ExecutionError
from graphc.loops.interpret import interpret
from graphc.loops.parse import parse_kernel
from graphc.loops.verify import verify


def run(
    text: str, sizes: dict[str, int] | None = None, **arrays: np.ndarray[Any, Any]
) -> dict[str, np.ndarray[Any, Any]]:
    """Verify and interpret; the arrays, outputs written."""
    kernel = parse_kernel(text)
    verify(kernel)
    assert interpret(kernel, arrays, sizes) == 0
    return arrays


def sum_in_order(values: np.ndarray[Any, Any], width: int, interleave: int) -> np.float32:
    """The order of `loops.nodes`, written out."""
    n, step = len(values), width * interleave
    main = n - n % step
    lanes = np.zeros(step, np.float32)
    for i in range(main):
        lanes[i % step] += values[i]
    groups = [lanes[g * width : (g + 1) * width] for g in range(interleave)]
    result = groups[0]
    for group in groups[1:]:
        result = result + group
    for i in range(main, n):
        result[i % width] += values[i]
    while len(result) > 1:
        half = len(result) // 2
        result = result[:half] + result[half:]
    return result[0]


SUM = """\
kernel sum(in %a: f32[n], out %o: f32[1]) {
  acc (s: f32 = 0.0:f32) by (x), (y) -> (x + y)
  for i in n vector(WIDTH) {
    s <- %a[i]
  }
  %o[0] = s
}
"""


@pytest.mark.parametrize("n", [0, 1, 7, 8, 15, 16, 31, 32, 33, 64, 100, 257])
@pytest.mark.parametrize(("width", "interleave"), [(1, 1), (4, 1), (8, 2), (4, 4), (16, 3)])
def test_accumulation_order(n: int, width: int, interleave: int) -> None:
    values = (np.random.default_rng(n).standard_normal(n) * 1e3).astype(np.float32)
    text = SUM.replace("WIDTH", f"{width}, {interleave}")
    out = run(text, {"n": n}, a=values, o=np.zeros(1, np.float32))["o"]
    assert out[0] == sum_in_order(values, width, interleave)


WIDE = """\
kernel sum(in %a: f32[n], out %o: f64[1]) {
  acc (s: f64 = 0.0:f64) by (x), (y) -> (x + y) from (-0.0:f32) by (u), (v) -> (u + v)
  for i in n vector(WIDTH) {
    s <- %a[i]
  }
  %o[0] = s
}
"""


def wide_sum_in_order(values: np.ndarray[Any, Any], width: int, interleave: int) -> np.float64:
    """The order of `loops.nodes` for accumulators that are wider than values, written out."""
    n, step = len(values), width * interleave
    lanes = np.zeros(width)
    for start in range(0, n - n % step, step):
        groups = values[start : start + step].reshape(interleave, width)
        lanes += np.add.accumulate(groups, axis=0)[-1].astype(np.float64)
    left = np.zeros(width, np.float32)
    for i in range(n - n % step, n):
        left[i % width] += values[i]
    lanes += left
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = lanes[:half] + lanes[half:]
    return lanes[0]


@pytest.mark.parametrize("n", [0, 1, 7, 16, 31, 33, 63, 64, 100, 257])
@pytest.mark.parametrize(("width", "interleave"), [(4, 1), (8, 2), (16, 4), (4, 3)])
def test_order_of_wide_accumulators(n: int, width: int, interleave: int) -> None:
    values = (np.random.default_rng(n).standard_normal(n) * 1e3).astype(np.float32)
    text = WIDE.replace("WIDTH", f"{width}, {interleave}")
    out = run(text, {"n": n}, a=values, o=np.zeros(1))["o"]
    assert out[0] == wide_sum_in_order(values, width, interleave)


def test_serial_accumulation_is_in_index_order() -> None:
    values = (np.random.default_rng(2).standard_normal(300) * 1e3).astype(np.float32)
    text = SUM.replace(" vector(WIDTH)", "")
    out = run(text, {"n": 300}, a=values, o=np.zeros(1, np.float32))["o"]
    assert out[0] == np.add.accumulate(values)[-1]
    assert out[0] != sum_in_order(values, 8, 1), (
        "the orders must differ for the test to mean anything"
    )


def test_order_inside_a_parallel_loop_and_with_a_serial_loop_in_each_lane() -> None:
    text = """\
kernel rows(in %a: f32[n, m, 3], out %o: f32[n]) {
  for i in n parallel {
    acc (s: f32 = 0.0:f32) by (x), (y) -> (x + y)
    for j in m vector(4, 2) {
      for k in 3 {
        s <- %a[i, j, k]
      }
    }
    %o[i] = s
  }
}
"""
    a = (np.random.default_rng(2).standard_normal((5, 21, 3)) * 1e3).astype(np.float32)
    out = run(text, {"n": 5, "m": 21}, a=a, o=np.zeros(5, np.float32))["o"]
    for i in range(5):
        lanes = np.zeros(8, np.float32)
        for j in range(16):
            for k in range(3):
                lanes[j % 8] += a[i, j, k]
        groups = lanes[:4] + lanes[4:]
        for j in range(16, 21):
            for k in range(3):
                groups[j % 4] += a[i, j, k]
        halves = groups[:2] + groups[2:]
        total = np.float32(0) + (halves[0] + halves[1])
        assert out[i] == total


def test_argmax_with_two_accumulators() -> None:
    text = """\
kernel argmax(in %a: f32[n], out %o: i64[1]) {
  acc (v: f32 = -inf:f32, k: i64 = 9223372036854775807) by (a, i), (b, j) -> (WHICH)
  for p in n vector(4, 2) {
    v, k <- %a[p], p
  }
  %o[0] = k
}
"""
    better = "b > a | b == a & j < i"
    text = text.replace("WHICH", f"select({better}, b, a), select({better}, j, i)")
    for seed in range(8):
        a = np.random.default_rng(seed).integers(0, 6, 37).astype(np.float32)
        out = run(text, {"n": 37}, a=a, o=np.zeros(1, np.int64))["o"]
        assert out[0] == a.argmax()


def test_extents_that_differ_between_parallel_iterations() -> None:
    text = """\
kernel triangle(in %a: i64[n, n], out %o: i64[n]) {
  for i in n parallel {
    acc (s: i64 = 0) by (x), (y) -> (x + y)
    for j in i + 1 KIND {
      s <- %a[i, j]
    }
    if i % 2 == 0 {
      %o[i] = s
    } else {
      %o[i] = -1 * s
    }
  }
}
"""
    a = np.random.default_rng(0).integers(0, 100, (9, 9))
    expected = np.tril(a).sum(1) * np.where(np.arange(9) % 2, -1, 1)
    for kind in ("", "vector(4, 1)"):
        out = run(text.replace("KIND", kind), {"n": 9}, a=a, o=np.zeros(9, np.int64))["o"]
        np.testing.assert_array_equal(out, expected)


def test_each_iteration_has_local_memory_of_its_own() -> None:
    text = """\
kernel reverse(in %a: i32[n, 5], out %o: i32[n, 5]) {
  for i in n parallel {
    alloc local %t: i32[5]
    for j in 5 vector(4, 1) {
      %t[4 - j] = %a[i, j]
    }
    for q in 5 vector(4, 1) {
      %o[i, q] = %t[q]
    }
  }
}
"""
    a = np.arange(35, dtype=np.int32).reshape(7, 5)
    out = run(text, {"n": 7}, a=a, o=np.zeros_like(a))["o"]
    np.testing.assert_array_equal(out, a[:, ::-1])


def test_sixteen_bit_floats_round_after_each_operation() -> None:
    text = """\
kernel k(in %a: DT[8], in %b: DT[8], out %o: DT[8]) {
  for i in 8 {
    %o[i] = %a[i] * %b[i] + %b[i]
  }
}
"""
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal(8).astype(np.float16) for _ in range(2))
    out = run(text.replace("DT", "f16"), a=a, b=b, o=np.zeros(8, np.float16))["o"]
    np.testing.assert_array_equal(out, a * b + b)
    wide_a, wide_b = (round_bfloat16(x.astype(np.float32)) for x in (a, b))
    out = run(text.replace("DT", "bf16"), a=wide_a, b=wide_b, o=np.zeros(8, np.float32))["o"]
    expected = round_bfloat16(round_bfloat16(wide_a * wide_b) + wide_b)
    np.testing.assert_array_equal(out, expected)


def test_predicated_access_touches_no_memory_outside() -> None:
    text = """\
kernel shift(in %a: f32[n], out %o: f32[n]) {
  for i in n vector(4, 1) {
    %o[i] = 7.0:f32 if i == 0
    %o[i - 1] = %a[i ? i < n : 0.0:f32] + %a[i + 1 ? i + 1 < n : 1.0:f32] if i > 0
  }
  %o[n - 1] = 0.5:f32
}
"""
    text = text.replace("    %o[i] = 7.0:f32 if i == 0\n", "")
    a = np.arange(6, dtype=np.float32)
    out = run(text, {"n": 6}, a=a, o=np.zeros(6, np.float32))["o"]
    np.testing.assert_array_equal(out, [3, 5, 7, 9, 6, 0.5])


def test_a_prefetch_may_ask_for_anything() -> None:
    text = """
kernel k(in %a: f32[n], out %o: f32[n]) {
  for i in n {
    prefetch %a[i + 1000000]
    %o[i] = %a[i]
  }
}
"""
    a = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(run(text, {"n": 3}, a=a, o=np.zeros_like(a))["o"], a)


def test_check_gives_the_first_site() -> None:
    text = """\
kernel k(in %a: i64[n], out %o: i64[n]) {
  for i in n parallel {
    check %a[i] < 3 site 4
    check %a[i] >= 0 site 5
    %o[i] = %a[i]
  }
}
"""
    kernel = parse_kernel(text)
    o = np.zeros(3, np.int64)
    assert interpret(kernel, {"a": np.array([0, 1, 2]), "o": o}, {"n": 3}) == 0
    assert interpret(kernel, {"a": np.array([0, -1, 2]), "o": o}, {"n": 3}) == 5
    assert interpret(kernel, {"a": np.array([0, -1, 9]), "o": o}, {"n": 3}) == 4
    np.testing.assert_array_equal(o, [0, -1, 9])


GPU_REVERSE = """\
kernel reverse(in %a: f32[n, 8], out %o: f32[n, 8]) {
  for b in n block {
    alloc shared %t: f32[8]
    for i in 8 thread {
      %t[i] = %a[b, i]
      BARRIER
      %o[b, i] = %t[7 - i]
    }
  }
}
"""


def test_threads_meet_at_barriers() -> None:
    a = np.arange(24, dtype=np.float32).reshape(3, 8)
    out = run(GPU_REVERSE.replace("BARRIER", "barrier"), {"n": 3}, a=a, o=np.zeros_like(a))["o"]
    np.testing.assert_array_equal(out, a[:, ::-1])


FAULTS = {
    "without a barrier threads race": (
        GPU_REVERSE.replace("BARRIER", ""),
        "race on %t: two iterations of a thread loop touch one element",
    ),
    "a barrier that some threads miss": (
        GPU_REVERSE.replace("BARRIER", "if i < 4 {\n barrier\n }"),
        "some threads of a block do not reach the barrier",
    ),
    "index too large": (
        "kernel k(in %a: f32[n, 8], out %o: f32[n, 8]) {\n for i in n {\n"
        " %o[i, 0] = %a[i, i + 7]\n }\n}",
        "index 8 of dim 1 of %a is out of bounds [0, 8)\n  %o[i, 0] = %a[i, i + 7]",
    ),
    "negative index in a store": (
        "kernel k(in %a: f32[n, 8], out %o: f32[n, 8]) {\n for i in n vector(4, 1) {\n"
        " %o[i, i - 1] = 0.0:f32\n }\n}",
        "index -1 of dim 1 of %o is out of bounds [0, 8)",
    ),
    "uninitialised output": (
        "kernel k(in %a: f32[n, 8], out %o: f32[n, 8]) {\n %o[0, 1] = %o[0, 0]\n}",
        "%o is read where it was never written",
    ),
    "uninitialised local memory of one iteration": (
        "kernel k(in %a: f32[n, 8], out %o: f32[n, 8]) {\n for i in n parallel {\n"
        " alloc local %t: f32[1]\n %t[0] = 1.0:f32 if i != 1\n %o[i, 0] = %t[0]\n }\n}",
        "%t is read where it was never written",
    ),
    "two parallel iterations write": (
        "kernel k(in %a: f32[n, 8], out %o: f32[n, 8]) {\n for i in n parallel {\n"
        " %o[i // 2, 0] = 1.0:f32\n }\n}",
        "race on %o: two iterations of a parallel loop touch one element",
    ),
    "one iteration writes what another read": (
        "kernel k(in %a: f32[n, 8], out %o: f32[n, 8]) {\n for j in n {\n %o[j, 0] = 0.0:f32\n }\n"
        " for i in n vector(2, 1) {\n"
        " %o[i, 0] = %o[(i + 1) % n, 0] + 1.0:f32\n }\n}",
        "race on %o: two iterations of a vector loop touch one element",
    ),
    "lanes of one vector store to one place": (
        "kernel k(in %a: f32[n, 8], out %o: f32[n, 8]) {\n for i in n vector(2, 1) {\n"
        " %o[0, 0] = %a[i, 0]\n }\n}",
        "race on %o",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found(name: str) -> None:
    text, expected = FAULTS[name]
    kernel = parse_kernel(text)
    verify(kernel)
    a = np.zeros((3, 8), np.float32)
    with pytest.raises(ExecutionError) as caught:
        interpret(kernel, {"a": a, "o": np.zeros_like(a)}, {"n": 3})
    assert expected in str(caught.value)


def test_wrong_arrays() -> None:
    kernel = parse_kernel("kernel k(in %a: f32[n], out %o: f32[n]) {\n}")
    good = np.zeros(3, np.float32)
    with pytest.raises(ExecutionError, match="no array for the parameter %o"):
        interpret(kernel, {"a": good}, {"n": 3})
    with pytest.raises(ExecutionError, match=r"%a needs float32\[3\], got float64\[3\]"):
        interpret(kernel, {"a": np.zeros(3), "o": good}, {"n": 3})
    with pytest.raises(ExecutionError, match=r"%a needs float32\[4\], got float32\[3\]"):
        interpret(kernel, {"a": good, "o": good}, {"n": 4})


def test_register_buffers_hold_a_tile() -> None:
    text = """\
kernel tile(in %a: f32[n, 4], in %b: f32[4, 8], out %o: f32[n, 8]) {
  for i in n parallel {
    alloc register %c: f32[8]
    for j in 8 vector(8, 1) {
      %c[j] = 0.0:f32
    }
    for k in 4 {
      for q in 8 vector(8, 1) {
        %c[q] = fma(%a[i, k], %b[k, q], %c[q])
      }
    }
    for r in 8 vector(8, 1) {
      %o[i, r] = %c[r]
    }
  }
}
"""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (5, 4)), rng.integers(-9, 9, (4, 8))
    arrays = {
        "a": a.astype(np.float32),
        "b": b.astype(np.float32),
        "o": np.zeros((5, 8), np.float32),
    }
    np.testing.assert_array_equal(run(text, {"n": 5}, **arrays)["o"], a @ b)
