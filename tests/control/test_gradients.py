"""Gradients of control flow against finite differences, closed forms and unrolled loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.ir.verify import verify

RNG = np.random.default_rng(3)
FEEDS = {
    "x": RNG.normal(size=(5, 3)) * 0.5,
    "w": RNG.normal(size=(3, 3)) * 0.5,
    "h": RNG.normal(size=3) * 0.5,
}


def leaves() -> dict[str, Any]:
    return {k: graphc.placeholder(v.shape, "float64", name=k) for k, v in FEEDS.items()}


Cost = Callable[[Any, Any, Any], Any]


def cell(c: Any, row: Any, w: Any) -> Any:
    return graphc.tanh(c @ w + row)


def scanned(**options: Any) -> Cost:
    def cost(x: Any, w: Any, h: Any) -> Any:
        last, rows = graphc.scan(lambda c, r: (cell(c, r, w), {"a": c * r}), h, x, **options)
        return graphc.sum(last) + graphc.sum(rows["a"] ** 2)

    return cost


def unrolled(x: Any, w: Any, h: Any, reverse: bool = False) -> Any:
    c, total = h, 0.0
    for i in reversed(range(5)) if reverse else range(5):
        total = total + graphc.sum((c * x[i]) ** 2)
        c = cell(c, x[i], w)
    return graphc.sum(c) + total


def two_carries(x: Any, w: Any, h: Any) -> Any:
    """Carries that change places, an integer carry, a carry that no gradient reaches."""
    (a, b, n, _), rows = graphc.scan(
        lambda c, r: ((c[1] * r, c[0] @ w, c[2] + 1, graphc.floor(c[3])), c[0] + c[2]),
        (h, graphc.sin(h), 0, h),
        x,
    )
    return graphc.sum(a * b) + graphc.sum(rows**2) + n


def nested(x: Any, w: Any, h: Any) -> Any:
    def outer(c: Any, row: Any) -> Any:
        inner, _ = graphc.scan(lambda d, v: (graphc.tanh(d * v + c), None), c, w)
        return inner + row, graphc.sum(inner)

    last, sums = graphc.scan(outer, h, x)
    return graphc.sum(last**2) + graphc.sum(sums)


def cond_in_scan(x: Any, w: Any, h: Any) -> Any:
    def turn(c: Any, row: Any) -> Any:
        new = graphc.cond(
            graphc.sum(row) > 0, lambda: graphc.tanh(c @ w), lambda: c + graphc.sin(row)
        )
        return new, None

    return graphc.sum(graphc.scan(turn, h, x)[0] ** 2)


def branch(sign: float) -> Cost:
    def cost(x: Any, w: Any, h: Any) -> Any:
        y, z = graphc.cond(
            graphc.sum(h) * sign > 0,
            lambda: (graphc.tanh(h @ w), h),
            lambda: (h * graphc.sum(x, axis=0), graphc.exp(h)),
        )
        return graphc.sum(y**2) + graphc.sum(z)

    return cost


def looped(x: Any, w: Any, h: Any) -> Any:
    last, n = graphc.while_loop(
        lambda c: graphc.sum(c[0] ** 2) < 30, lambda c: (c[0] * 1.4 + x[0] ** 2, c[1] + 1), (h, 0)
    )
    return graphc.sum(last**2) + n + graphc.sum(w * w)


def layered(x: Any, w: Any, h: Any) -> Any:
    @graphc.function
    def layer(y: Any) -> Any:
        return graphc.tanh(y @ w + h)

    return graphc.sum(layer(layer(layer(x))) ** 2)


def held(x: Any, w: Any, h: Any) -> Any:
    @graphc.function(checkpoint=True)
    def layer(y: Any) -> Any:
        return graphc.tanh(y @ w + h)

    return graphc.sum(layer(layer(x)) ** 2)


COSTS: dict[str, Cost] = {
    "scan": scanned(),
    "reverse": scanned(reverse=True),
    "checkpoint": scanned(checkpoint=2),
    "checkpoint, reverse": scanned(checkpoint=2, reverse=True),
    "two carries": two_carries,
    "nested": nested,
    "cond in scan": cond_in_scan,
    "then": branch(1.0),
    "otherwise": branch(-1.0),
    "while": looped,
    "call": layered,
    "call, computed again": held,
}


def derivative(cost: Any, wrt: list[Any], order: int) -> tuple[Any, Any]:
    """(the (order - 1)-th scalar of gradients, its gradient): sums of squares in between."""
    for _ in range(order - 1):
        found = graphc.grad(cost, wrt, allow_unused=True)
        cost = sum(graphc.sum(g * g) for g in found)
    return cost, graphc.grad(cost, wrt, allow_unused=True)


def along(graph: Any, feeds: Any, direction: Any) -> float:
    step = 1e-5
    up, down = (
        graph.evaluate({k: v + s * step * direction[k] for k, v in feeds.items()})["cost"]
        for s in (1, -1)
    )
    return float(up - down) / (2 * step)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("name", COSTS)
def test_finite_differences(name: str, order: int) -> None:
    tensors = leaves()
    wrt = list(tensors.values())
    cost, found = derivative(COSTS[name](**tensors), wrt, order)
    graph = graphc.Graph(wrt, {"cost": cost, **{f"d{k}": g for k, g in enumerate(found)}})
    verify(graph)
    values = graph.evaluate(FEEDS)
    direction = {k: np.random.default_rng(7).normal(size=v.shape) for k, v in FEEDS.items()}
    exact = sum(float(np.sum(values[f"d{k}"] * direction[n])) for k, n in enumerate(FEEDS))
    assert along(graph, FEEDS, direction) == pytest.approx(exact, rel=2e-5, abs=1e-7)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_scan_has_the_gradients_of_the_loop_written_out(order: int, reverse: bool) -> None:
    tensors = leaves()
    wrt = list(tensors.values())
    _, one = derivative(scanned(reverse=reverse)(**tensors), wrt, order)
    _, two = derivative(unrolled(**tensors, reverse=reverse), wrt, order)
    graph = graphc.Graph(
        wrt, {f"{n}{k}": t for n, s in (("a", one), ("b", two)) for k, t in enumerate(s)}
    )
    values = graph.evaluate(FEEDS)
    for k in range(3):
        np.testing.assert_allclose(values[f"a{k}"], values[f"b{k}"], rtol=1e-9, atol=1e-12)


def test_a_power_in_closed_form() -> None:
    """x**n as a loop: derivatives n x**(n-1), n (n-1) x**(n-2), …"""
    x = graphc.placeholder((), "float64", name="x")
    n = graphc.placeholder(("n",), "float64", name="n")
    y, _ = graphc.scan(lambda c, _: (c * x, None), graphc.constant(1.0), n)
    d1 = graphc.grad(y, x)
    d2 = graphc.grad(d1, x)
    d3 = graphc.grad(d2, x)
    z = graphc.while_loop(lambda c: c[1] < 7, lambda c: (c[0] * x, c[1] + 1), (1.0, 0))[0]
    e1 = graphc.grad(z, x)
    e2 = graphc.grad(e1, x)
    graph = graphc.Graph([x, n], {"d1": d1, "d2": d2, "d3": d3, "e1": e1, "e2": e2})
    found = graph.evaluate({"x": 1.1, "n": np.zeros(7)})
    expected = [7 * 1.1**6, 42 * 1.1**5, 210 * 1.1**4, 7 * 1.1**6, 42 * 1.1**5]
    assert list(found.values()) == pytest.approx(expected, rel=1e-12)


def test_truncation_stops_at_segments() -> None:
    """c' = 2 c + x: turn i adds 2**(n-1-i) x[i]; only the turns of the last segment count."""
    x = graphc.placeholder((5,), "float64", name="x")
    h = graphc.placeholder((), "float64", name="h")
    last, rows = graphc.scan(lambda c, r: (2 * c + r, c), h, x, truncate=2)
    by_last = graphc.grad(last, [x, h], allow_unused=True)
    by_rows = graphc.grad(graphc.sum(rows), [x, h])
    graph = graphc.Graph(
        [x, h], {"a": by_last[0], "b": by_last[1], "c": by_rows[0], "d": by_rows[1]}
    )
    found = graph.evaluate({"x": np.ones(5), "h": 1.0})
    np.testing.assert_array_equal(found["a"], [0, 0, 0, 0, 1])
    assert found["b"] == 0
    # rows[i] is the carry before turn i: only the second turn of a segment sees the first one.
    np.testing.assert_array_equal(found["c"], [1, 0, 1, 0, 0])
    assert found["d"] == 1 + 2


@pytest.mark.parametrize("name", ["scan", "nested", "then", "while", "call"])
def test_jvp(name: str) -> None:
    tensors = leaves()
    wrt = list(tensors.values())
    cost = COSTS[name](**tensors)
    tangents = {k: np.random.default_rng(5).normal(size=v.shape) for k, v in FEEDS.items()}
    pushed = graphc.jvp(cost, wrt, list(tangents.values()), allow_unused=True)
    graph = graphc.Graph(wrt, {"cost": cost, "pushed": pushed})
    found = graph.evaluate(FEEDS)["pushed"]
    assert along(graph, FEEDS, tangents) == pytest.approx(float(found), rel=1e-6, abs=1e-8)


def test_integers_and_unused_results_have_no_gradient() -> None:
    x = graphc.placeholder((4,), "float64", name="x")
    (a, n), rows = graphc.scan(lambda c, r: ((c[0] + r, c[1] + 1), (r * r, c[1])), (0.0, 0), x)
    g = graphc.grad(graphc.sum(rows[0]), x)
    graph = graphc.Graph([x], {"g": g, "n": n, "a": a})
    np.testing.assert_array_equal(graph.evaluate({"x": np.arange(4.0)})["g"], [0, 2, 4, 6])


def test_scans_of_nothing_have_zero_gradients() -> None:
    x, h = (
        graphc.placeholder(("n",), "float64", name="x"),
        graphc.placeholder((), "float64", name="h"),
    )
    w = graphc.placeholder((), "float64", name="w")
    last, _ = graphc.scan(lambda c, r: (c * w + r, None), h, x)
    gx, gh, gw = graphc.grad(last, [x, h, w])
    found = graphc.Graph([x, h, w], {"x": gx, "h": gh, "w": gw}).evaluate(
        {"x": np.zeros(0), "h": 2.0, "w": 3.0}
    )
    assert found["x"].shape == (0,) and found["h"] == 1 and found["w"] == 0
