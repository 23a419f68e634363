"""Compiled code against the reference: every op, every dtype, every sample, static and symbolic
shapes.

All samples of an op at one dtype are the outputs of one function, so that each pair compiles once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphc.base.dtypes import Array, DType
from graphc.ir.meaning import evaluate_node
from graphc.ir.node import Node, Tensor, make
from graphc.ir.opdef import REGISTRY, OpDef
from graphc.ops.families import Contraction, Elementwise, Map, Reduction
from graphc.runtime.session import Session
from tests.ops.cases import Case, assert_same, cases, ops_with_samples, result_types

# Roundings of the dtype by which compiled values may differ from the reference, where 4 are not
# enough.
ROUNDINGS: dict[str, float] = {
    "polygamma": 600.0,
    "lgamma": 16.0,
    "digamma": 16.0,
    "logaddexp": 8.0,
    "log_product": 32.0,
    "log_quotient": 32.0,
}
# Sums and products of many terms in another order.
ACCUMULATED = 64.0


def roundings(op: OpDef) -> float:
    """How far compiled values may be off."""
    if op.name in ROUNDINGS:
        return ROUNDINGS[op.name]
    return 4.0 if isinstance(op.form, Elementwise | Map) else ACCUMULATED


def results(node: Node) -> list[Tensor]:
    """The tensors of a node."""
    if isinstance(node, Tensor):
        return [node]
    get = REGISTRY["get"]
    found = [make(get, (node,), (i,)) for i in range(len(result_types(node)))]
    return [t for t in found if isinstance(t, Tensor)]


def reference(case: Case) -> list[Array]:
    """The meaning of a case's results."""
    found = evaluate_node(case.node(case.placeholders()), case.arrays, {})
    return list(found) if isinstance(found, tuple) else [found]


def compare(op: OpDef, dtype: DType, built: list[tuple[Case, tuple[Tensor, ...], Node]]) -> None:
    """Run all built cases as one function and compare each result."""
    inputs = [x for _, placed, _ in built for x in placed]
    arrays = [a for case, _, _ in built for a in case.arrays]
    outputs = [t for _, _, node in built for t in results(node)]
    with Session(cache_dir="", numerics="exact") as session:
        got = session.function(inputs, outputs)(*arrays)
    expected = [(case, r) for case, _, _ in built for r in reference(case)]
    for value, tensor, (case, wanted) in zip(got, outputs, expected, strict=True):
        array = np.asarray(value)
        if tensor.dtype.name == "bfloat16":
            array = array.astype(np.float32)
        scale = _scale(case) if not isinstance(op.form, Map) else 0.0
        assert_same(array, wanted, tensor.dtype, roundings(op), str(case), scale)


def _scale(case: Case) -> float:
    """The size of the terms of a sum, where a sum can cancel; and functions near their zeros."""
    if isinstance(case.op.form, Elementwise):
        return 1.0 if case.op.name in ROUNDINGS else 0.0
    floats = [a for a in case.arrays if a.dtype.kind == "f" and a.size]
    finite = [np.abs(a[np.isfinite(a)]) for a in floats]
    largest = max((float(f.max()) for f in finite if f.size), default=0.0)
    return largest * largest if isinstance(case.op.form, Contraction) else largest


PAIRS: list[Any] = [
    pytest.param(op, dtype, id=f"{op.name}-{dtype.name}")
    for op in ops_with_samples()
    for dtype in op.dtypes
]


@pytest.mark.parametrize(("op", "dtype"), PAIRS)
def test_static_shapes(op: OpDef, dtype: DType) -> None:
    built = []
    for case in cases(op, dtype):
        placed = case.placeholders(f"c{case.number}_")
        built.append((case, placed, case.node(placed)))
    compare(op, dtype, built)


@pytest.mark.parametrize("op", ops_with_samples(), ids=lambda op: op.name)
def test_symbolic_shapes(op: OpDef) -> None:
    """One dtype is enough: sizes and dtypes are independent of each other."""
    dtype = op.dtypes[-1]
    built = []
    for case in cases(op, dtype):
        symbolic = case.symbolic()
        if symbolic is not None:
            built.append((case, *symbolic))
    if built:
        compare(op, dtype, built)


def test_forms_are_all_here() -> None:
    """The kinds of lowering that exist are all compiled by these tests."""
    forms = {type(op.form) for op in ops_with_samples()}
    assert {Elementwise, Map, Reduction, Contraction} <= forms
