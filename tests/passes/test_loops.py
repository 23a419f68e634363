"""Work moved out of scans: what moves, by count, and the same values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphc
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor
from graphc.ir.verify import verify
from graphc.ops.control import SCAN, closed_body, results_of
from graphc.passes.context import Context
from graphc.passes.loops import MoveOutOfLoops

RNG = np.random.default_rng(0)

# New carries and outputs of a turn, and what builds them: (carries, slices, captured).
Turn = tuple[list[Tensor], list[Tensor]]
Build = Callable[[list[Tensor], list[Tensor], list[Tensor]], Turn]


def loops(graph: Graph) -> list[Node]:
    """The scans of a graph."""
    return [n for n in graph.nodes if n.op is SCAN]


def inside(graph: Graph, op: str) -> int:
    """How many nodes of an op are in the bodies of a graph's scans."""
    return sum(n.op.name == op for scan in loops(graph) for n in scan.attr("body").nodes)


def moved(graph: Graph, numerics: str = "standard") -> Graph:
    """The graph after the pass: verified, and with the same values."""
    result = MoveOutOfLoops().run(graph, Context(numerics))
    verify(result)
    for length in (4, 1, 0):
        feeds = {}
        for name, t in graph.inputs:
            shape = [length if isinstance(s, graphc.Dim) else s for s in t.shape]
            feeds[name] = RNG.normal(size=shape).astype(t.dtype.numpy)
        found, expected = result.evaluate(feeds), graph.evaluate(feeds)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-12, atol=1e-12)
    return result


def f64(*shape: int | str | graphc.Dim) -> Tensor:
    """A placeholder."""
    return graphc.placeholder(shape, "float64")


def scan(
    carries: list[Tensor], sequences: list[Tensor], captured: list[Tensor], build: Build
) -> tuple[Tensor, ...]:
    """A scan with its length from the first sequence; build(carries, slices, captured)."""
    places = [f64(*t.shape) for t in carries]
    slices = [f64(*t.shape[1:]) for t in sequences]
    held = [f64(*t.shape) for t in captured]
    new, rows = build(places, slices, held)
    body = closed_body([*places, *slices, *held], [*new, *rows], "body")
    operands = [*carries, *sequences, *captured]
    counts = (len(carries), len(sequences), sequences[0].shape[0], False)
    return results_of(SCAN, operands, body, *counts)


def test_products_of_rows_are_one_product_before_the_loop() -> None:
    x, h, w, u = f64("n", 2, 3), f64(2, 5), f64(3, 5), f64(5, 5)
    last, rows = scan(
        [h],
        [x],
        [w, u],
        lambda c, s, k: ([graphc.tanh(s[0] @ k[0] + c[0] @ k[1])], [c[0]]),
    )
    graph = graphc.Graph([x, h, w, u], {"last": last, "rows": rows})
    assert inside(graph, "einsum") == 2
    result = moved(graph, "exact")
    assert inside(result, "einsum") == 1
    assert sum(n.op.name == "einsum" for n in result.nodes) == 1


def test_outer_products_of_rows_stay() -> None:
    x, h = f64("n", 60), f64(60)

    def build(c: list[Tensor], s: list[Tensor], k: list[Tensor]) -> Turn:
        return [graphc.tanh(graphc.einsum("a,b->ab", s[0], s[0]) @ c[0])], [c[0]]

    last, _ = scan([h], [x], [], build)
    graph = graphc.Graph([x, h], {"last": last})
    assert inside(graph, "einsum") == 2
    assert moved(graph) is graph


def test_invariant_work_is_done_once() -> None:
    x, h, w = f64("n", 3), f64(3), f64(3, 3)
    last, _ = scan(
        [h],
        [x],
        [w],
        lambda c, s, k: ([c[0] @ graphc.exp(k[0]) + s[0]], [s[0]]),
    )
    graph = graphc.Graph([x, h, w], {"last": last})
    result = moved(graph, "exact")
    assert inside(graph, "exp") == 1
    assert inside(result, "exp") == 0


def test_sums_of_products_are_one_product_behind_the_loop() -> None:
    x, h, acc, bias, w = f64("n", 2, 3), f64(2, 5), f64(3, 5), f64(5), f64(3, 5)

    def build(c: list[Tensor], s: list[Tensor], k: list[Tensor]) -> Turn:
        new = graphc.tanh(c[0] + s[0] @ k[0])
        return [new, c[1] + s[0].T @ new, graphc.sum(new, axis=0) + c[2]], [new]

    found = scan([h, acc, bias], [x], [w], build)
    graph = graphc.Graph([x, h, acc, bias, w], list(found))
    kept = moved(graph, "exact")
    assert loops(kept)[0].attr("carries") == 3
    result = moved(graph)
    (loop,) = loops(result)
    assert loop.attr("carries") == 1
    assert inside(result, "einsum") == 0
    assert inside(result, "sum") == 0


def test_a_sum_that_would_stack_more_than_it_saves_stays() -> None:
    x, h = f64("n", 4), graphc.placeholder((), "float64")
    last, _ = scan(
        [h], [x], [], lambda c, s, k: ([c[0] + graphc.sum(graphc.exp(s[0] * c[0]))], [s[0]])
    )
    graph = graphc.Graph([x, h], {"last": last})
    assert moved(graph) is graph


@pytest.mark.parametrize("extra", ["carry", "output"])
def test_an_accumulator_that_is_read_stays(extra: str) -> None:
    x, acc = f64("n", 2, 3), f64(3, 3)

    def build(c: list[Tensor], s: list[Tensor], k: list[Tensor]) -> Turn:
        total = c[0] + s[0].T @ s[0]
        return ([total, total] if extra == "carry" else [total]), [total]

    carries = [acc, acc] if extra == "carry" else [acc]
    graph = graphc.Graph([x, acc], list(scan(carries, [x], [], build)))
    result = moved(graph)
    assert all(n.attr("carries") == len(carries) for n in loops(result))
