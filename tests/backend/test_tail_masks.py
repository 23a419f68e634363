"""Masks of the last vectors of a loop, where the loops within it load every second element."""

from __future__ import annotations

import re

import pytest

from graphc.backend.llvm_cpu import emit_program_text
from graphc.base.dtypes import DType, float16, float32, float64
from graphc.base.target import TARGETS
from graphc.loops.build import EXPR as S
from graphc.loops.build import iadd, imod, imul
from graphc.loops.nodes import Accumulate, Buffer, For, If, Kernel, Store, const, load, size
from tests.backend.test_loops import (
    SIZES,
    TARGET_NAMES,
    I,
    J,
    M,
    N,
    accumulators,
    agree,
    single,
    summing,
    vector,
)


def window_sums(dtype: DType) -> Kernel:
    """Windows of three, every second one, summed over rows by lanes; a last element in half of the
    rows only.
    """
    a, o = Buffer("a", (N, 2 * M + 2), dtype), Buffer("o", (M,), dtype)
    acc = accumulators("acc", summing(dtype))
    taps = [load(a, (I, iadd(imul(J, const(2)), const(tap)))) for tap in range(4)]
    every = [Accumulate(acc, (tap,)) for tap in taps[:3]]
    some = If(S.eq(imod(I, const(2)), const(0)), (Accumulate(acc, (taps[3],)),), ())
    inner = For(I, size(N), (some, *every))
    return Kernel(
        "window_sums",
        (a, o),
        (o,),
        (vector(J, M, acc, inner, Store(o, (J,), acc.vars[0]), interleave=2),),
    )


@pytest.mark.parametrize("target", TARGET_NAMES)
@pytest.mark.parametrize("dtype", [float16, float32, float64], ids=str)
def test_sums_of_windows_agree(dtype: DType, target: str) -> None:
    kernel = window_sums(dtype)
    for n, m in SIZES:
        agree(kernel, target, {"n": n, "m": m})


def test_masks_of_a_tail_are_written_before_the_loops_in_it() -> None:
    """The existing lanes', one for each of the two vectors that every second element takes, and
    these two again in the branch, which may not run.
    """
    text = emit_program_text(single(window_sums(float32)), TARGETS["x86-64-v4"])
    compares = [line for line in text.splitlines() if re.search(r"icmp \w+ <16 x i64>", line)]
    shuffles = [line for line in text.splitlines() if "shufflevector <16 x float>" in line]
    assert len(compares) == 5
    assert len(shuffles) >= 8
