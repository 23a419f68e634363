"""Bodies that compute sizes of their own: closures, gradients and passes over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc.ir.parse import parse
from graphc.ir.verify import verify


def positive_sum(row: Any, w: Any) -> Any:
    """The sum of the positive products: how many there are is known inside only."""
    products = row * w
    chosen = products[products > 0]
    return graphc.sum(chosen**2) + graphc.sum(graphc.ones(chosen.shape[0]))


def in_scan(x: Any, w: Any) -> Any:
    last, rows = graphc.scan(
        lambda c, row: (c * 0.5 + positive_sum(row, w), c), graphc.constant(0.0), x
    )
    return last + graphc.sum(rows)


def in_cond(x: Any, w: Any) -> Any:
    return graphc.cond(w[0] > 0, lambda: positive_sum(x[0] * w, w), lambda: graphc.sum(x))


def in_call(x: Any, w: Any) -> Any:
    @graphc.function
    def layer(row: Any) -> Any:
        return graphc.tanh(row * w) * positive_sum(row, w)

    return graphc.sum(layer(layer(x[1])))


DATA = np.random.default_rng(4).normal(size=(4, 5))
WEIGHTS = np.linspace(0.2, 1.3, 5) * np.array([1, -1, 1, 1, -1])


@pytest.mark.parametrize("build", [in_scan, in_cond, in_call])
def test_sizes_inside(build: Any) -> None:
    x = graphc.placeholder((4, 5), "float64", name="x")
    w = graphc.placeholder((5,), "float64", name="w")
    cost = build(x, w)
    gx, gw = graphc.grad(cost, [x, w])
    (second,) = graphc.grad(graphc.sum(gx**2) + graphc.sum(gw**2), [w])
    graph = graphc.Graph([x, w], {"cost": cost, "gx": gx, "gw": gw, "second": second})
    verify(graph)
    assert parse(str(graph)) == graph
    feeds = {"x": DATA, "w": WEIGHTS}
    found = graph.evaluate(feeds)
    optimized = graph.optimize()
    verify(optimized)
    again = optimized.evaluate(feeds)
    for name, value in found.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-10, atol=1e-12)
    step = 1e-6
    for which, gradient in (("x", "gx"), ("w", "gw")):
        direction = np.random.default_rng(1).normal(size=feeds[which].shape)
        up, down = (
            graph.evaluate({**feeds, which: feeds[which] + s * step * direction})["cost"]
            for s in (1, -1)
        )
        exact = float(np.sum(found[gradient] * direction))
        assert float(up - down) / (2 * step) == pytest.approx(exact, rel=1e-5, abs=1e-7)
