"""Every op against its own definition: types agree with the reference, scalar bodies with NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graphc.base.dims import evaluate
from graphc.base.dtypes import dtype_of
from graphc.ir.graph import Graph
from graphc.ir.meaning import evaluate_node
from graphc.ir.node import Node, Tensor
from graphc.ir.opdef import REGISTRY, OpDef
from graphc.ir.parse import parse
from graphc.ir.scalar_numpy import NumpyScalar, value
from graphc.ops.families import Elementwise
from tests.ops.cases import (
    WITHOUT_SAMPLES,
    Case,
    assert_same,
    cases,
    ops_with_samples,
    result_types,
)

# Bodies of several steps round after each one, where the reference rounds once.
STEPS = {
    "polygamma": 600.0,
    "chain_multiply": 2.0,
    "logaddexp": 8.0,
    "digamma": 64.0,
    "lgamma": 64.0,
}


def all_results(node: Node, arrays: list[Any]) -> tuple[Any, ...]:
    """The reference values of a node, always as a tuple."""
    found = evaluate_node(node, arrays, {})
    return found if isinstance(found, tuple) else (found,)


def test_every_op_has_samples() -> None:
    missing = {op.name for op in REGISTRY if op.samples is None}
    assert missing == set(WITHOUT_SAMPLES)


@pytest.mark.parametrize("op", ops_with_samples(), ids=lambda op: op.name)
def test_types_agree_with_the_reference(op: OpDef) -> None:
    for dtype in op.dtypes:
        for case in cases(op, dtype):
            node = case.node(case.placeholders())
            for found, kind in zip(all_results(node, case.arrays), result_types(node), strict=True):
                assert found.shape == kind.shape, case
                assert found.dtype == kind.dtype.numpy, case


@pytest.mark.parametrize("op", ops_with_samples(), ids=lambda op: op.name)
def test_symbolic_shapes(op: OpDef) -> None:
    """The type with symbols for sizes, bound again, is the static type."""
    dtype = op.dtypes[-1]
    for case in cases(op, dtype):
        symbolic = case.symbolic()
        if symbolic is None:
            continue
        static = case.node(case.placeholders())
        for a, b in zip(result_types(symbolic[1]), result_types(static), strict=True):
            bound = tuple(evaluate(n, _sizes(case)) for n in a.shape)
            assert (bound, a.dtype) == (b.shape, b.dtype), case


def _sizes(case: Case) -> dict[str, int]:
    return {f"n{n}": n for a in case.arrays for n in a.shape}


@pytest.mark.parametrize("op", ops_with_samples(), ids=lambda op: op.name)
def test_text_round_trip(op: OpDef) -> None:
    for dtype in (op.dtypes[0], op.dtypes[-1]):
        for case in cases(op, dtype):
            inputs = case.placeholders()
            node = case.node(inputs)
            if isinstance(node, Tensor):
                graph = Graph(list(inputs), {"y": node})
                assert parse(str(graph)).text == graph.text, case


ELEMENTWISE = [op for op in ops_with_samples() if isinstance(op.form, Elementwise)]


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_scalar_bodies(op: OpDef) -> None:
    """The body that is compiled means what the NumPy reference means."""
    for dtype in op.dtypes:
        for case in cases(op, dtype):
            node = case.node(case.placeholders())
            assert isinstance(node, Tensor)
            (expected,) = all_results(node, case.arrays)
            operands = [value(a, d) for a, d in zip(case.arrays, case.dtypes, strict=True)]
            with np.errstate(all="ignore"):
                got = op.form.scalar(NumpyScalar(), *operands, **case.sample.attrs)
            assert got.dtype is node.dtype, case
            got_array = np.broadcast_to(got.array, expected.shape)
            roundings = STEPS.get(op.name, 4.0)
            assert_same(got_array, expected, node.dtype, roundings, str(case), _cancelled(op.name))


def _cancelled(name: str) -> float:
    # The sum of a large and a small term, and functions near their zeros.
    cancelling = ("logaddexp", "lgamma", "digamma", "polygamma", "log_product", "log_quotient")
    return 1.0 if name in cancelling else 0.0


def test_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """How much is tested, and what is not."""
    ops = ops_with_samples()
    pairs = [(op, d) for op in ops for d in op.dtypes]
    total = sum(1 for op, d in pairs for _ in cases(op, d))
    with capsys.disabled():
        print(f"\n{len(ops)} ops, {len(pairs)} ops × dtypes, {total} cases; without samples:")
        for name, reason in WITHOUT_SAMPLES.items():
            print(f"  {name}: {reason}")
    assert total > 5000
    assert {dtype_of(np.float32)} <= {d for _, d in pairs}
