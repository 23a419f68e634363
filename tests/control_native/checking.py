"""Graphs with control flow, run natively and held against their NumPy meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import graphc
from graphc.ops.control import CALL, COND, SCAN, WHILE_LOOP, closed_body, results_of

Arrays = Mapping[str, np.ndarray[Any, Any]]


def place(shape: Any, name: str | None = None, dtype: str = "float32") -> graphc.Tensor:
    """A placeholder; a plain int is the shape of a vector."""
    return graphc.placeholder(shape if isinstance(shape, tuple) else (shape,), dtype, name=name)


def body(inputs: Sequence[graphc.Tensor], outputs: Sequence[graphc.Tensor]) -> graphc.Graph:
    """A body of these placeholders."""
    return closed_body(inputs, outputs, "body")


def scan(
    step: graphc.Graph,
    carries: Sequence[graphc.Tensor],
    sequences: Sequence[graphc.Tensor] = (),
    captured: Sequence[graphc.Tensor] = (),
    length: Any = None,
    reverse: bool = False,
) -> tuple[graphc.Tensor, ...]:
    """The results of a scan."""
    turns = sequences[0].shape[0] if length is None else length
    operands = (*carries, *sequences, *captured)
    return results_of(SCAN, operands, step, len(carries), len(sequences), turns, reverse)


def call(function: graphc.Graph, *operands: graphc.Tensor) -> tuple[graphc.Tensor, ...]:
    """The results of a call."""
    return results_of(CALL, operands, function)


def cond(
    predicate: graphc.Tensor, then: graphc.Graph, otherwise: graphc.Graph, *operands: graphc.Tensor
) -> tuple[graphc.Tensor, ...]:
    """The results of a branch."""
    return results_of(COND, (predicate, *operands), then, otherwise)


def while_loop(
    condition: graphc.Graph,
    step: graphc.Graph,
    carries: Sequence[graphc.Tensor],
    captured: Sequence[graphc.Tensor] = (),
) -> tuple[graphc.Tensor, ...]:
    """The results of a loop: last carries, number of turns."""
    return results_of(WHILE_LOOP, (*carries, *captured), condition, step, len(carries))


def graph_of(inputs: Sequence[graphc.Tensor], results: Sequence[graphc.Tensor]) -> graphc.Graph:
    """A graph with outputs `r0 r1 …`."""
    return graphc.Graph(inputs, {f"r{k}": t for k, t in enumerate(results)})


def run(graph: graphc.Graph, feeds: Arrays, **options: Any) -> dict[str, Any]:
    """The outputs of the compiled graph."""
    with graphc.Session(cache_dir="", **options) as session:
        function = session.function([t for _, t in graph.inputs], dict(graph.outputs))
        return dict(function(*(feeds[name] for name, _ in graph.inputs)))


def same(graph: graphc.Graph, feeds: Arrays, *, rtol: float = 1e-6, **options: Any) -> None:
    """The compiled graph gives the reference meaning: integers and bools exactly.

    As declared too: optimization takes steps away that the native code must be able to run.
    """
    expected = graph.evaluate(feeds)
    for optimize in (False, True):
        agree(run(graph, feeds, optimize=optimize, **options), expected, rtol)


def agree(found: Mapping[str, Any], expected: Mapping[str, Any], rtol: float = 1e-6) -> None:
    """Results as they should be."""
    for name, value in expected.items():
        got = np.asarray(found[name]).astype(value.dtype)
        assert got.shape == value.shape, name
        if value.dtype.kind == "f":
            np.testing.assert_allclose(got, value, rtol=rtol, atol=rtol, err_msg=name)
        else:
            np.testing.assert_array_equal(got, value, err_msg=name)
