"""Gradients of every differentiable op, first and second order, against differences in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array, float64
from graphc.ir.graph import Graph
from graphc.ir.meaning import evaluate_node
from graphc.ir.node import Tensor
from graphc.ir.opdef import OpDef
from graphc.ops.declaration import ElementwiseSamples
from tests.conformance.exclusions import NO_DIFFERENCES
from tests.ops.cases import Case, cases, ops_with_samples

# Ops whose derivative jumps where elements are equal: cases with equal elements are left out.
JUMPS_AT_TIES = {"max", "min", "sort", "cumulative_max", "cumulative_min", "maximum", "minimum"}
DIFFERENTIABLE = [
    op
    for op in ops_with_samples()
    if op.gradient is not None and float64 in op.dtypes and op.name not in NO_DIFFERENCES
]
STEP = 1e-5


def smooth_cases(op: OpDef) -> list[Case]:
    """Cases of ordinary finite values; elementwise ops draw from their domain."""
    found = []
    for case in cases(op, float64):
        floats = [a for a in case.arrays if a.dtype == np.float64]
        small = all(a.size <= 200 for a in case.arrays)
        if op.name in JUMPS_AT_TIES and any(np.unique(a).size < a.size for a in floats):
            continue
        if floats and small and all(_ordinary(a) for a in floats) and _has_value(case):
            found.append(case)
    return found


def _has_value(case: Case) -> bool:
    """Whether a float64 result exists and is finite."""
    node = case.node(case.placeholders())
    value = evaluate_node(node, case.arrays, {})
    values = value if isinstance(value, tuple) else (value,)
    floats = [v for v in values if v.dtype == np.float64]
    return bool(floats) and all(bool(np.all(np.isfinite(v))) for v in floats)


def _ordinary(a: Array) -> bool:
    return bool(np.all(np.isfinite(a))) and (a.size == 0 or float(np.abs(a).max()) < 50.0)


def weighted(result: Tensor, rng: np.random.Generator) -> Tensor:
    """A scalar out of a tensor: its sum with random weights, which one symmetric weight would
    hide.
    """
    size = result.size
    assert isinstance(size, int)
    weights = rng.uniform(0.5, 1.5, size).reshape(tuple(result.shape))
    return graphc.sum(result * weights)


def directional(
    loss: Tensor, inputs: Sequence[Tensor], feeds: dict[Any, Array], along: Sequence[Array]
) -> float:
    """The derivative of `loss` in a direction by central differences (Richardson, two steps)."""
    graph = Graph(list(feeds), {"loss": loss})

    def at(step: float) -> float:
        moved = dict(feeds)
        for x, v in zip(inputs, along, strict=True):
            moved[x] = feeds[x] + step * v
        return float(graph.evaluate(moved)["loss"])

    def slope(step: float) -> float:
        return (at(step) - at(-step)) / (2.0 * step)

    return (4.0 * slope(STEP) - slope(2.0 * STEP)) / 3.0


def check(loss: Tensor, wrt: list[Tensor], feeds: dict[Any, Array], seed: int, what: str) -> Tensor:
    """The gradient agrees with differences; returns gradient · direction, as a graph."""
    rng = np.random.default_rng(seed)
    along = [rng.uniform(-1.0, 1.0, feeds[x].shape) for x in wrt]
    gradients = graphc.grad(loss, wrt, allow_unused=True)
    for x, g in zip(wrt, gradients, strict=True):
        assert g.type == x.type, what
    terms = [graphc.sum(g * v) for g, v in zip(gradients, along, strict=True)]
    product = terms[0]
    for term in terms[1:]:
        product = product + term
    got = float(Graph(list(feeds), {"g": product}).evaluate(feeds)["g"])
    expected = directional(loss, wrt, feeds, along)
    size = max(1.0, abs(expected), *(float(np.abs(v).sum()) for v in along))
    assert abs(got - expected) < 2e-6 * size, f"{what}: {got}, by differences {expected}"
    return product


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_first_and_second_order(op: OpDef) -> None:
    found = smooth_cases(op)
    assert found, f"{op.name}: no case for gradients"
    for case in found:
        inputs = case.placeholders()
        node = case.node(inputs)
        results = [node] if isinstance(node, Tensor) else graphc_results(node)
        floats = [r for r in results if r.dtype is float64]
        rng = np.random.default_rng(case.number)
        loss = weighted(floats[0], rng)
        for other in floats[1:]:
            loss = loss + weighted(other, rng)
        feeds: dict[Any, Array] = dict(zip(inputs, case.arrays, strict=True))
        wrt = [x for x in inputs if x.dtype is float64]
        product = check(loss, wrt, feeds, 1, f"{case}, first order")
        check(product, wrt, feeds, 2, f"{case}, second order")


def graphc_results(node: Any) -> list[Tensor]:
    """The results of an op that has several."""
    from_tuple = graphc.ir.node.make
    get = graphc.ir.opdef.REGISTRY["get"]
    return [from_tuple(get, (node,), (i,)) for i in range(len(node.type.items))]


def test_domains_are_used() -> None:
    """Elementwise ops are checked at random points of their domain, not only at special ones."""
    for op in DIFFERENTIABLE:
        if isinstance(op.samples, ElementwiseSamples):
            assert len(smooth_cases(op)) >= 7, op.name


def test_exclusions(capsys: pytest.CaptureFixture[str]) -> None:
    """What has no gradient check is written down."""
    with capsys.disabled():
        print(f"\n{len(DIFFERENTIABLE)} ops with gradients; excluded: {NO_DIFFERENCES}")
    assert len(DIFFERENTIABLE) > 50


SAFE: list[tuple[str, Any, list[float], list[float]]] = [
    ("log", lambda x: graphc.where(x > 0, graphc.log(x), 0.0), [0.0, -1.0, 2.0], [0.0, 0.0, 0.5]),
    ("sqrt", lambda x: graphc.where(x > 0, graphc.sqrt(x), x), [0.0, 4.0], [1.0, 0.25]),
    ("x log x", lambda x: graphc.where(x > 0, x * graphc.log(x), 0.0), [0.0, 1.0], [0.0, 1.0]),
    ("1/x", lambda x: graphc.where(x == 0, 1.0, 1.0 / x), [0.0, 2.0], [0.0, -0.25]),
    ("exp", lambda x: graphc.where(x < 5, graphc.exp(x), x), [1e4, 0.0], [1.0, 1.0]),
    ("sin x / x", lambda x: graphc.where(x == 0, 1.0, graphc.sin(x) / x), [0.0], [0.0]),
    (
        "acos",
        lambda x: graphc.where(graphc.abs(x) < 1, graphc.acos(x), 0.0),
        [1.0, 3.0],
        [0.0, 0.0],
    ),
    ("pow", lambda x: graphc.where(x > 0, x**0.5, 0.0), [0.0, 4.0], [0.0, 0.25]),
    ("norm", lambda x: graphc.sqrt(graphc.sum(x * x)), [0.0, 0.0], [0.0, 0.0]),
    ("norm by square", lambda x: graphc.sqrt(graphc.sum(x**2)), [0.0, 0.0], [0.0, 0.0]),
    ("hypot", lambda x: graphc.hypot(x, x), [0.0], [0.0]),
    ("atan2", lambda x: graphc.atan2(x, x), [0.0], [0.0]),
    ("abs", graphc.abs, [0.0, -2.0], [0.0, -1.0]),
    ("logaddexp", lambda x: graphc.logaddexp(x, -np.inf), [0.0, 1e4], [1.0, 1.0]),
    ("x ** 0", lambda x: x**0, [0.0, 2.0], [0.0, 0.0]),
    ("x ** 1", lambda x: x**1, [0.0, 2.0], [1.0, 1.0]),
    ("prod", graphc.prod, [0.0, 3.0], [3.0, 0.0]),
    ("softplus", graphc.softplus, [1e4, -1e4], [1.0, 0.0]),
    ("tanh", graphc.tanh, [1e4, 0.0], [0.0, 1.0]),
]


@pytest.mark.parametrize(("name", "function", "at", "expected"), SAFE, ids=[s[0] for s in SAFE])
def test_gradients_are_safe(
    name: str, function: Any, at: list[float], expected: list[float]
) -> None:
    x = graphc.placeholder((len(at),), "float64")
    (g,) = graphc.grad(graphc.sum(function(x)), [x])
    got = Graph([x], {"g": g}).evaluate({x: np.array(at)})["g"]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_second_order_where_the_cotangent_is_zero() -> None:
    """A zero cotangent is not a zero function: (x - 1) * log(x) has second derivative 2 at 1."""
    x = graphc.placeholder((), "float64")
    (first,) = graphc.grad((x - 1.0) * graphc.log(x), [x])
    (second,) = graphc.grad(first, [x])
    assert float(Graph([x], {"g": second}).evaluate({x: np.float64(1.0)})["g"]) == 2.0
