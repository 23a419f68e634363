"""Accumulators that are wider than values, compiled for every target of this machine, against the
loop interpreter bit for bit.
"""

from __future__ import annotations

import pytest

from graphc.base.dims import Dim, Size
from graphc.base.dtypes import float32, float64
from graphc.base.target import TARGETS
from graphc.loops.build import literal
from graphc.loops.nodes import Accumulate, Accumulators, Buffer, Kernel, Store, load, var
from tests.backend.running import RUNNABLE, Native, single
from tests.backend.test_loops import accumulators, agree, parallel, summing, vector

I, J, K = var("i"), var("j"), var("k")  # noqa: E741  # the letters of loops
SIZES = [(3, 5), (1, 64), (2, 16), (4, 100), (3, 0), (0, 7), (2, 129), (1, 1)]
KNOWN = [(2, 1), (1, 15), (3, 16), (2, 33), (1, 48), (2, 64), (1, 150)]


def wide_sums(interleave: int, n: Size, m: Size, alone: bool) -> Kernel:
    """Sums in accumulators that are wider than values, and (not alone) others beside them."""
    a, o, p = Buffer("a", (n, m), float32), Buffer("o", (n,), float64), Buffer("p", (n,), float32)
    acc = Accumulators((var("acc", float64),), summing(float64), summing(float32))
    other = accumulators("other", summing(float32))
    both = [Accumulate(acc, (load(a, (I, J)),)), Accumulate(other, (load(a, (I, J)),))]
    loop = vector(J, m, *both[: 1 if alone else 2], interleave=interleave)
    again = vector(K, m, Accumulate(acc, (literal(0.1, float32),)), width=8, interleave=interleave)
    stores = (Store(o, (I,), acc.vars[0]), Store(p, (I,), other.vars[0]))
    body = parallel(I, n, acc, other, loop, again, *stores)
    return Kernel("wide_sums", (a, o, p), (o, p), (body,), n * m)


@pytest.mark.parametrize("target", [t.name for t in RUNNABLE])
@pytest.mark.parametrize("interleave", (1, 2, 4))
def test_sizes_of_the_call(interleave: int, target: str) -> None:
    kernel = wide_sums(interleave, Dim("n"), Dim("m"), alone=False)
    native = Native(single(kernel), TARGETS[target])
    for seed, (n, m) in enumerate(SIZES):
        agree(kernel, target, {"n": n, "m": m}, seed, native)


@pytest.mark.parametrize("alone", (True, False))
@pytest.mark.parametrize(("n", "m"), KNOWN)
def test_known_sizes(n: int, m: int, alone: bool) -> None:
    agree(wide_sums(4, n, m, alone), RUNNABLE[-1].name, {})
