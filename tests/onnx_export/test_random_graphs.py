"""Random graphs, exported and run by ONNX's reference evaluator (and ONNX Runtime where it is)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array
from tests.fuzz.checking import differences, expect
from tests.fuzz.random_graphs import RandomGraph
from tests.onnx_export.running import RUNTIME, model_of, run_reference, run_runtime

ALWAYS = 40
NIGHTLY = 600
BATCH = 10
# What the evaluators cannot do of what ONNX says; the graph is then only exported and checked.
REFERENCE_GAPS = ("Scan is not implemented", "Softsign")
RUNTIME_GAPS = (
    "NOT_IMPLEMENTED",
    "expected: (tensor(bfloat16))",
    "No corresponding Numpy type for Tensor Type. bfloat16",
    "data type is not supported with ScatterND",
    "is not defined for empty set with bool type",
    # Tensors without elements: sequences of Scan, and GatherElements behind a transpose.
    "Invalid dim0_offset of 0. Dimension 0 is 0",
    "'indices' shape should have values within bounds of 'data' shape",
)
# The reference evaluator's Erf has eight digits in float64.
ROUGH = ("erf", "erfc")

Run = Callable[[graphc.Graph, Any, dict[str, Array]], dict[str, Array]]


def problems_of(seed: int) -> list[str]:
    """What is wrong with the exported graph of a seed."""
    made = RandomGraph(seed)
    inputs = [t for _, t in made.graph.inputs]
    graph = graphc.Graph(inputs, dict(made.graph.outputs))
    try:
        model = model_of(graph)
    except graphc.UnsupportedError as error:
        return [] if "export to ONNX: " in str(error) else [str(error)]
    feeds = {name: made.feeds[name] for name, _ in graph.inputs}
    expected = expect(graph, made.feeds)
    found = []
    if not any(map(_is_beyond_reference, _tensors(graph))):
        found += _compare(run_reference, REFERENCE_GAPS, graph, model, feeds, expected)
    if RUNTIME and not _is_position_of_nan(graph, feeds):
        found += _compare(run_runtime, RUNTIME_GAPS, graph, model, feeds, expected)
    return found


def _is_beyond_reference(node: graphc.Tensor) -> bool:
    """Whether ONNX's reference evaluator gives other values, or none: rough functions in float64,
    transposed convolutions in groups.
    """
    if node.op.name == "conv":
        return node.attr("groups") != 1 and set(node.attr("input_dilation")) != {1}
    return node.op.name in ROUGH and "float64" in str(node.type.dtype)


def _is_position_of_nan(graph: graphc.Graph, feeds: dict[str, Array]) -> bool:
    """Whether a position depends on how NaN compares, about which ONNX says nothing."""
    nodes = [n for n in _tensors(graph) if n.op.name in ("argmin", "argmax")]
    if not nodes:
        return False
    operands = {f"operand_{k}": node.inputs[0] for k, node in enumerate(nodes)}
    found = graphc.Graph([t for _, t in graph.inputs], operands).evaluate(feeds)
    return any(v.dtype.kind == "f" and np.isnan(v).any() for v in found.values())


def _tensors(graph: graphc.Graph) -> list[graphc.Tensor]:
    return [n for n in graph.nodes if isinstance(n, graphc.Tensor)]


def _compare(
    run: Run,
    gaps: tuple[str, ...],
    graph: graphc.Graph,
    model: Any,
    feeds: dict[str, Array],
    expected: Any,
) -> list[str]:
    try:
        got = run(graph, model, feeds)
    except Exception as error:  # a gap, or reported
        known = any(gap in str(error) for gap in gaps)
        return [] if known else [f"{run.__name__} raises {type(error).__name__}: {error}"]
    return [f"{run.__name__}: {p}" for p in differences(expected, got, "standard")]


def run_seeds(seeds: range) -> None:
    """Check the graphs of some seeds."""
    for seed in seeds:
        found = problems_of(seed)
        assert not found, f"seed {seed}:\n" + "\n".join(found)


@pytest.mark.parametrize("first", range(0, ALWAYS, BATCH))
def test_fixed_seeds(first: int) -> None:
    run_seeds(range(first, first + BATCH))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(ALWAYS, NIGHTLY, BATCH))
def test_more_seeds(first: int) -> None:
    run_seeds(range(first, first + BATCH))
