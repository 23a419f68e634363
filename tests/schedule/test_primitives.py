"""Schedule primitives: text before and after, the same result, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphc.base.dims import evaluate
from graphc.base.errors import CompileError
from graphc.loops.interpret import interpret
from graphc.loops.nodes import Kernel
from graphc.loops.parse import parse_kernel
from graphc.loops.text import kernel_text
from graphc.loops.verify import verify
from graphc.schedule.primitives import (
    bind,
    find,
    parallelize,
    reorder,
    split,
    stage,
    unroll,
    vectorize,
)

Change = Callable[[Kernel], Kernel]

COPY = """\
kernel copy(in %a: f32[n], out %o: f32[n]) {
  for i in n {
    %o[i] = %a[i] * 2.0:f32
  }
}
"""

TRANSPOSE = """\
kernel transpose(in %a: f32[8, 4], out %o: f32[4, 8]) {
  for i in 4 {
    for j in 8 {
      %o[i, j] = %a[j, i]
    }
  }
}
"""

ROW_SUM = """\
kernel row_sum(in %a: f32[n, m], out %o: f32[n]) {
  for i in n {
    acc (s: f32 = 0.0:f32) by (x), (y) -> (x + y)
    for j in m {
      s <- %a[i, j]
    }
    %o[i] = s
  }
}
"""

MATMUL = """\
kernel matmul(in %a: f32[n, 8], in %b: f32[8, 32], out %o: f32[n, 32]) {
  for i in n {
    for j in 32 {
      acc (s: f32 = 0.0:f32) by (x), (y) -> (x + y)
      for k in 8 {
        s <- %a[i, k] * %b[k, j]
      }
      %o[i, j] = s
    }
  }
}
"""

PREFIX = """\
kernel prefix(in %a: i64[n], out %o: i64[n]) {
  for i in n {
    %o[i] = %a[i] + %o[maximum(i - 1, 0) ? i > 0 : 0]
  }
}
"""


def run(kernel: Kernel, sizes: dict[str, int], seed: int = 0) -> dict[str, Any]:
    """The kernel's outputs on random inputs."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for buffer in kernel.params:
        shape = tuple(evaluate(d, sizes) for d in buffer.shape)
        draw = rng.standard_normal(shape) * 10
        fresh = np.zeros(shape, buffer.dtype.numpy)
        arrays[buffer.name] = fresh if buffer in kernel.outputs else draw.astype(buffer.dtype.numpy)
    assert interpret(kernel, arrays, sizes) == 0
    return {b.name: arrays[b.name] for b in kernel.outputs}


def same_results(before: Kernel, after: Kernel, exact: bool = True) -> None:
    """Equal results for several sizes, tails and empty ones included."""
    verify(after)
    for n, m in [(0, 3), (1, 0), (5, 17), (16, 16), (37, 70)]:
        old, new = run(before, {"n": n, "m": m}), run(after, {"n": n, "m": m})
        for name in old:
            if exact:
                np.testing.assert_array_equal(new[name], old[name])
            else:
                np.testing.assert_allclose(new[name], old[name], rtol=1e-4, atol=1e-4)


CASES: list[tuple[str, Change, str]] = [
    (
        COPY,
        lambda k: split(k, "i", 16),
        """\
kernel copy(in %a: f32[n], out %o: f32[n]) {
  for i_0 in size(((n + 15) // 16)) {
    for i_1 in minimum(n - i_0 * 16, 16) {
      %o[i_0 * 16 + i_1] = %a[i_0 * 16 + i_1] * 2.0:f32
    }
  }
}
""",
    ),
    (
        TRANSPOSE,
        lambda k: split(k, "j", 4),
        """\
kernel transpose(in %a: f32[8, 4], out %o: f32[4, 8]) {
  for i in 4 {
    for j_0 in 2 {
      for j_1 in 4 {
        %o[i, j_0 * 4 + j_1] = %a[j_0 * 4 + j_1, i]
      }
    }
  }
}
""",
    ),
    (
        TRANSPOSE,
        lambda k: reorder(k, "i", "j"),
        """\
kernel transpose(in %a: f32[8, 4], out %o: f32[4, 8]) {
  for j in 8 {
    for i in 4 {
      %o[i, j] = %a[j, i]
    }
  }
}
""",
    ),
    (
        TRANSPOSE,
        lambda k: unroll(k, "i"),
        TRANSPOSE.replace("for i in 4 {", "for i in 4 unroll {"),
    ),
    (COPY, lambda k: vectorize(k, "i", 8, 2), COPY.replace("in n {", "in n vector(8, 2) {")),
    (COPY, lambda k: parallelize(k, "i"), COPY.replace("in n {", "in n parallel {")),
    (
        TRANSPOSE,
        lambda k: bind(bind(k, "i", "block"), "j", "thread"),
        TRANSPOSE.replace("in 4 {", "in 4 block {").replace("in 8 {", "in 8 thread {"),
    ),
    (
        MATMUL,
        lambda k: stage(k, "i", "a"),
        """\
kernel matmul(in %a: f32[n, 8], in %b: f32[8, 32], out %o: f32[n, 32]) {
  for i in n {
    alloc local %a_local: f32[1, 8]
    for c in 8 {
      %a_local[0, c] = %a[i, c]
    }
    for j in 32 {
      acc (s: f32 = 0.0:f32) by (x), (y) -> (x + y)
      for k in 8 {
        s <- %a_local[0, k] * %b[k, j]
      }
      %o[i, j] = s
    }
  }
}
""",
    ),
    (
        MATMUL,
        lambda k: stage(split(k, "i", 4), "i_0", "a"),
        """\
kernel matmul(in %a: f32[n, 8], in %b: f32[8, 32], out %o: f32[n, 32]) {
  for i_0 in size(((n + 3) // 4)) {
    alloc local %a_local: f32[4, 8]
    for c in 4 {
      for c_1 in 8 {
        %a_local[c, c_1] = %a[i_0 * 4 + c, c_1 ? i_0 * 4 + c < n : 0.0:f32]
      }
    }
    for i_1 in minimum(n - i_0 * 4, 4) {
      for j in 32 {
        acc (s: f32 = 0.0:f32) by (x), (y) -> (x + y)
        for k in 8 {
          s <- %a_local[i_1, k] * %b[k, j]
        }
        %o[i_0 * 4 + i_1, j] = s
      }
    }
  }
}
""",
    ),
    (
        ROW_SUM,
        lambda k: vectorize(parallelize(k, "i"), "j", 8, reassociate=True),
        ROW_SUM.replace("in n {", "in n parallel {").replace("in m {", "in m vector(8, 1) {"),
    ),
    (PREFIX, lambda k: split(k, "i", 3), ""),
    (MATMUL, lambda k: vectorize(k, "j", 16), ""),
    (MATMUL, lambda k: vectorize(unroll(split(parallelize(k, "i"), "k", 4), "k_1"), "j", 8), ""),
    (MATMUL, lambda k: reorder(split(k, "j", 8), "i", "j_0"), ""),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_before_and_after(case: int) -> None:
    before_text, change, after_text = CASES[case]
    before = parse_kernel(before_text)
    verify(before)
    after = change(before)
    if after_text:
        assert kernel_text(after) == after_text
    assert kernel_text(before) == before_text, "a primitive must not change the kernel it is given"
    assert kernel_text(parse_kernel(kernel_text(after))) == kernel_text(after)
    same_results(before, after, exact=before_text is not ROW_SUM)


REFUSED: list[tuple[str, Change, str]] = [
    (COPY, lambda k: split(k, "z", 4), "no loop over 'z'"),
    (COPY, lambda k: split(k, "i", 0), "factor must be positive"),
    (COPY, lambda k: split(vectorize(k, "i", 8), "i", 4), "it is a vector loop"),
    (COPY, lambda k: unroll(k, "i"), "extent is not a constant"),
    (COPY, lambda k: vectorize(k, "i", 12), "power of two, got 12"),
    (PREFIX, lambda k: vectorize(k, "i", 8), "depend on each other through %o"),
    (PREFIX, lambda k: parallelize(k, "i"), "depend on each other through %o"),
    (PREFIX, lambda k: bind(k, "i", "thread"), "depend on each other through %o"),
    (ROW_SUM, lambda k: vectorize(k, "j", 8), "it accumulates in order: s <- %a[i, j]"),
    (ROW_SUM, lambda k: parallelize(k, "j"), "not outermost and alone"),
    (ROW_SUM, lambda k: bind(k, "j", "lane"), "it accumulates in order"),
    (ROW_SUM, lambda k: reorder(k, "i", "j"), "its body is not just the loop over j"),
    (TRANSPOSE, lambda k: parallelize(parallelize(k, "i"), "i"), "it is a parallel loop"),
    (TRANSPOSE, lambda k: bind(bind(k, "j", "block"), "i", "thread"), "holds the block loop j"),
    (TRANSPOSE, lambda k: bind(k, "i", "warp"), "'warp' is not block, thread or lane"),
    (TRANSPOSE, lambda k: stage(k, "i", "o"), "%o is written by the kernel"),
    (TRANSPOSE, lambda k: stage(k, "i", "q"), "no parameter %q"),
    (COPY, lambda k: reorder(split(k, "i", 4), "i_0", "i_1"), "its extent depends on i_0"),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_refuses(case: int) -> None:
    text, change, why = REFUSED[case]
    with pytest.raises(CompileError) as caught:
        change(parse_kernel(text))
    assert why in str(caught.value)


def test_reorder_keeps_dependent_iterations_in_order() -> None:
    text = """\
kernel k(in %a: f32[6, 4], out %o: f32[6, 4], out %p: f32[10]) {
  for i in 6 {
    for j in 4 {
      STATEMENT
    }
  }
}
"""
    # The last value of a row wins: j keeps its order under the swap.
    legal = parse_kernel(text.replace("STATEMENT", "%o[i, 0] = %a[i, j]"))
    swapped = reorder(legal, "i", "j")
    assert find(swapped, "j").body[0] is find(swapped, "i")
    for statement in ["%p[i + j] = %a[i, j]", "%p[0] = %a[i, j]", "%p[i * j] = %a[i, j]"]:
        with pytest.raises(CompileError, match="depend on each other through %p"):
            reorder(parse_kernel(text.replace("STATEMENT", statement)), "i", "j")


def test_a_flattened_index_still_shows_independence() -> None:
    text = """\
kernel k(in %a: f32[n, m], out %o: f32[n*m]) {
  for i in n {
    for j in m {
      %o[i * m + j] = %a[i, j]
    }
  }
}
"""
    kernel = parse_kernel(text)
    same_results(kernel, vectorize(parallelize(kernel, "i"), "j", 4))
    clash = parse_kernel(text.replace("%o[i * m + j]", "%o[i + j]"))
    with pytest.raises(CompileError, match="through %o"):
        parallelize(clash, "i")


def test_a_loop_may_use_memory_of_its_own() -> None:
    kernel = parse_kernel(
        """\
kernel own(in %a: f32[n, 4], out %o: f32[n, 4]) {
  for i in n {
    alloc local %t: f32[4]
    for j in 4 {
      %t[j] = %a[i, 3 - j]
    }
    for q in 4 {
      %o[i, q] = %t[q]
    }
  }
}
"""
    )
    same_results(kernel, parallelize(kernel, "i"))
    same_results(kernel, bind(kernel, "i", "block"))
    with pytest.raises(CompileError, match="an alloc"):
        vectorize(kernel, "i", 4)
