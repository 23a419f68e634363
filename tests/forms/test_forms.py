"""Every Map, Reduction and Opaque op on its own samples: the form's meaning is the reference's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
import graphc.ops.convolution
import graphc.ops.random  # noqa: F401  # the ops register themselves
from graphc.base.dtypes import Array, DType, bfloat16, bool_, dtype_of, float16, float32, float64
from graphc.ir.graph import Graph
from graphc.ir.meaning import evaluate_node
from graphc.ir.node import Tensor, make
from graphc.ir.opdef import REGISTRY, OpDef, Sample
from graphc.ops.families import Composite, Map, Opaque, Reduction
from graphc.ops.state import placeholder
from tests.conformance.matrices import is_factorization
from tests.forms.numpy_forms import run_map, run_opaque, run_reduction

FORMS = [op for op in REGISTRY if isinstance(op.form, Map | Reduction | Opaque | Composite)]
EPSILON = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-6, "float64": 1e-12}


def declared(op: OpDef, sample: Sample, dtype: DType) -> tuple[Tensor, list[Array]]:
    """The node of a sample on placeholders, and its arrays."""
    arrays = [np.asarray(x) for x in sample.inputs]
    kinds = [dtype if a.dtype == dtype.numpy else dtype_of(a.dtype) for a in arrays]
    inputs = tuple(placeholder(a.shape, k) for a, k in zip(arrays, kinds, strict=True))
    node = make(op, inputs, tuple(sample.attrs[a] for a in op.attributes))
    assert isinstance(node, Tensor)
    return node, arrays


def same(a: Array, b: Array, dtype: DType) -> None:
    """Equal, floats up to rounding of sums."""
    assert a.shape == b.shape
    if dtype.is_float:
        tolerance = EPSILON[dtype.name]
        a, b = a.astype(np.float64), b.astype(np.float64)
        np.testing.assert_allclose(a, b, rtol=40 * tolerance, atol=40 * tolerance)
    else:
        np.testing.assert_array_equal(a, b)


# Elements that are walked one by one in every dtype; larger samples in one. Compiled code is held
# against all of them in tests/conformance.
INTERPRETED = 200


def run_form(node: Tensor, arrays: list[Array]) -> Array:
    """The node's value by its form."""
    form: Any = node.op.form
    if isinstance(form, Map):
        return run_map(form, arrays, node)
    if isinstance(form, Reduction):
        return run_reduction(form, arrays[0], node)
    if isinstance(form, Opaque):
        return run_opaque(form, arrays, node)
    expanded = form.expand(node)
    assert expanded.type == node.type
    assert expanded.op is not node.op or expanded.inputs != node.inputs
    graph = Graph(node.inputs, {"out": expanded})
    return graph.evaluate(dict(zip(node.inputs, arrays, strict=True)))["out"]


@pytest.mark.parametrize("op", FORMS, ids=lambda op: op.name)
def test_form_means_what_the_reference_means(op: OpDef) -> None:
    assert op.samples is not None, f"{op.name} has no samples"
    assert op.dtypes, f"{op.name} names no dtypes"
    count = 0
    for dtype in op.dtypes:
        for sample in op.samples(dtype):
            node, arrays = declared(op, sample, dtype)
            if dtype is not op.dtypes[0] and any(a.size > INTERPRETED for a in arrays):
                continue
            if node.size == 0 and not isinstance(op.form, Composite):
                continue
            with np.errstate(all="ignore"):
                found = run_form(node, arrays)
            expected = evaluate_node(node, arrays, {})
            assert expected.shape == tuple(node.shape)
            same(np.asarray(found), expected, node.dtype)
            count += 1
    assert count


def test_dtypes_are_covered() -> None:
    """Ops that take floats take all four, factorizations two; the samples cannot forget one."""
    for op in FORMS:
        floats = {d for d in op.dtypes if d.is_float}
        narrow = set() if is_factorization(op.name) else {float16, bfloat16}
        assert not floats or floats == {float32, float64} | narrow, op.name
    assert any(op.dtypes == (bool_,) for op in FORMS)
