"""Cheap values are computed again by every kernel that reads them, where that saves memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc.backend import llvm_cpu
from graphc.compiler import Compilation
from graphc.lower.lower_graph import Lowered
from graphc.runtime.executable import CompileOptions


def lowered(inputs: list[graphc.Tensor], outputs: Any) -> Lowered:
    graph = graphc.Graph(inputs, outputs)
    return Compilation(graph, CompileOptions(), llvm_cpu.host_target()).lowered


def stored(program: Lowered) -> list[str]:
    return [node.op.name for region in program.regions for node in region.outputs]


def inputs() -> tuple[graphc.Tensor, graphc.Tensor]:
    return graphc.placeholder((32, 48), name="x"), graphc.placeholder((48, 64), name="w")


def test_gelu_keeps_its_argument_alone() -> None:
    x, w = inputs()
    v = graphc.placeholder((64, 8), name="v")
    y = graphc.nn.gelu(x @ w) @ v
    program = lowered([x, w, v], graphc.grad(graphc.sum(y * y), [w, v]))
    assert stored(program).count("multiply") == 1  # what the second product reads


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_it_is_the_same_number_again(dtype: str) -> None:
    x, w = (graphc.astype(t, dtype) for t in inputs())
    h = x @ w
    low, high = h * 0.3, h + 0.7
    found = [graphc.tanh(low) * high, graphc.sum(graphc.exp(low) - high, axis=1), low @ high.T]
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((32, 48), (48, 64))]
    roots = [x.inputs[0], w.inputs[0]] if dtype != "float32" else [x, w]
    with graphc.Session(cache_dir="") as session, graphc.Session(cache_dir="", fuse=False) as plain:
        got = session.function(roots, found)(*arrays)
        expected = plain.function(roots, found)(*arrays)
    for a, b in zip(got[:1], expected[:1], strict=True):
        np.testing.assert_array_equal(np.asarray(a, np.float64), np.asarray(b, np.float64))
    for a, b in zip(got[1:], expected[1:], strict=True):
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=2e-2, atol=2e-2
        )


def test_multiples_of_an_input_are_not_stored_and_those_of_one_value_only_for_more() -> None:
    x, w = inputs()
    twice = x * 2
    columns, rows = graphc.sum(graphc.exp(twice), axis=0), graphc.sum(graphc.tanh(twice), axis=1)
    program = lowered([x], [columns, rows])
    assert "multiply" not in stored(program)
    assert sum("multiply" in {n.op.name for n in r.nodes} for r in program.regions) == 2
    h = graphc.tanh(x @ w)
    one = h * 2  # nothing else is made of h: either of them is stored
    outputs = [graphc.sum(graphc.exp(one), axis=0), graphc.sum(graphc.tanh(one), axis=1)]
    assert stored(lowered([x, w], outputs)).count("multiply") == 1


def test_what_leaves_the_program_or_a_product_reads_is_stored() -> None:
    x, w = inputs()
    twice = x * 2
    program = lowered([x, w], [twice, graphc.sum(graphc.exp(twice), axis=0), twice @ w])
    assert stored(program).count("multiply") == 1
