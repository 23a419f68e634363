"""Other processors and other thread counts: the same bits.

Targets with the same rounding of a * b + c agree on every bit, whatever their vectors; the baseline
has no fused multiply-add, so what uses one stays within the policy there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphc.backend.math_decompositions import DECOMPOSITIONS
from graphc.base.dtypes import Array, DType
from graphc.base.target import TARGETS
from graphc.ir.opdef import OpDef
from graphc.ops.families import Composite, Contraction
from tests.conformance.matrix import all_cases, graph_of, large, reference
from tests.conformance.policy import FACTORIZATIONS, STEPS, difference
from tests.conformance.running import HOST, RUNNABLE, Compiled
from tests.ops.cases import ops_with_samples

OTHERS = [t for t in RUNNABLE if t is not HOST]
# Formats that the targets treat differently, and one of each kind.
_PROBED = ("float64", "float32", "float16", "bfloat16", "int32", "uint8", "bool")


def _pairs(limit: int) -> list[Any]:
    found = []
    for op in ops_with_samples():
        probed = [d for name in _PROBED for d in op.dtypes if d.name == name][:limit]
        found += [pytest.param(op, d, id=f"{op.name}-{d.name}") for d in probed]
    return found


def uses_fma(op: OpDef, dtype: DType) -> bool:
    """Whether its value depends on how a * b + c is rounded."""
    if isinstance(op.form, Contraction | Composite):
        return dtype.is_float
    method = {"rsqrt": "reciprocal_sqrt"}.get(op.name, op.name)
    several = op.name in STEPS or op.name in FACTORIZATIONS
    return several or (method in DECOMPOSITIONS and dtype.is_float)


def same_bits(a: Array, b: Array) -> bool:
    """Equal, the sign of zero included; NaN is NaN."""
    if a.dtype.kind != "f":
        return np.array_equal(a, b)
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(
        np.signbit(a[~np.isnan(a)]), np.signbit(b[~np.isnan(b)])
    )


def _check_targets(op: OpDef, dtype: DType) -> None:
    found = all_cases(op, dtype)
    graph, feeds = graph_of(found)
    host = Compiled(graph, optimize=False, numerics="exact")(feeds)
    for target in OTHERS:
        got = Compiled(graph, optimize=False, numerics="exact", target=target)(feeds)
        equal = target.has_fma == HOST.has_fma or not uses_fma(op, dtype)
        for k, case in enumerate(found):
            name, node = graph.outputs[k]
            where = f"{target.name}: {case} {case.sample.attrs}"
            if equal:
                assert same_bits(got[name], host[name]), where
            else:
                problem = difference(case, got[name], reference(node, case.arrays), node.dtype)
                assert not problem, f"{where}: {problem}"


@pytest.mark.skipif(not OTHERS, reason="this machine runs the code of one target only")
@pytest.mark.parametrize(("op", "dtype"), _pairs(1))
def test_targets(op: OpDef, dtype: DType) -> None:
    _check_targets(op, dtype)


@pytest.mark.slow
@pytest.mark.skipif(not OTHERS, reason="this machine runs the code of one target only")
@pytest.mark.parametrize(("op", "dtype"), _pairs(len(_PROBED)))
def test_targets_of_every_kind(op: OpDef, dtype: DType) -> None:
    _check_targets(op, dtype)


@pytest.mark.parametrize(("op", "dtype"), _pairs(1))
def test_threads(op: OpDef, dtype: DType) -> None:
    """Results do not depend on the number of threads."""
    found = large(op, dtype)
    if not found:
        return
    graph, feeds = graph_of(found)
    compiled = Compiled(graph, optimize=True, numerics="standard")
    alone = compiled(feeds)
    for _ in range(2):
        together = compiled(feeds, threads=2)
        for name, value in alone.items():
            assert same_bits(value, together[name]), f"{op.name} {dtype} {name}"


def test_targets_are_known() -> None:
    """The targets of this machine are compiled for, its own among them."""
    assert HOST in RUNNABLE
    assert {t.name for t in RUNNABLE} <= set(TARGETS)
