"""Jacobians and Hessians through control flow: one batched loop, the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc.autodiff.batching import vectorize
from graphc.ir.verify import verify
from tests.control.test_gradients import COSTS, FEEDS, leaves

VECTORS = {
    "scan": lambda x, w, h: graphc.scan(lambda c, r: (graphc.tanh(c @ w + r), c * r), h, x),
    "reverse": lambda x, w, h: graphc.scan(
        lambda c, r: (graphc.sin(c * r) + w[0], c), h, x, reverse=True
    ),
    "cond": lambda x, w, h: (
        graphc.cond(h[0] > 0, lambda: graphc.tanh(h @ w), lambda: h * w[1]),
        graphc.cond(h[0] > 9, lambda: w, lambda: w * w),
    ),
    "while": lambda x, w, h: graphc.while_loop(
        lambda c: c[1] < 3, lambda c: (graphc.tanh(c[0] @ w), c[1] + 1.0), (h, graphc.sum(h) * 0)
    ),
}


def differences(graph: Any, name: str) -> Any:
    step = 1e-6
    columns = []
    for index in np.ndindex(FEEDS[name].shape):
        values = []
        for sign in (1, -1):
            feeds = {k: v.copy() for k, v in FEEDS.items()}
            feeds[name][index] += sign * step
            values.append(graph.evaluate(feeds)["y"])
        columns.append((values[0] - values[1]) / (2 * step))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("which", [0, 1])
def test_jacobian(name: str, which: int) -> None:
    tensors = leaves()
    wrt = list(tensors.values())
    y = VECTORS[name](**tensors)[which]
    found = graphc.jacobian(y, wrt, allow_unused=True)
    graph = graphc.Graph(wrt, {"y": y, **dict(zip(FEEDS, found, strict=True))})
    verify(graph)
    values = graph.evaluate(FEEDS)
    for leaf in FEEDS:
        expected = differences(graph, leaf).reshape(values[leaf].shape)
        np.testing.assert_allclose(values[leaf], expected, rtol=1e-5, atol=1e-8, err_msg=leaf)


@pytest.mark.parametrize("name", ["scan", "then", "otherwise", "call", "nested"])
def test_hessian(name: str) -> None:
    tensors = leaves()
    wrt = list(tensors.values())
    h = tensors["h"]
    cost = COSTS[name](**tensors)
    graph = graphc.Graph(wrt, {"y": graphc.grad(cost, h), "hessian": graphc.hessian(cost, h)})
    verify(graph)
    found = graph.evaluate(FEEDS)["hessian"]
    np.testing.assert_allclose(found, differences(graph, "h"), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found, found.T, rtol=1e-9, atol=1e-12)


def test_each_row_takes_its_own_branch() -> None:
    x = graphc.placeholder((3,), "float64")
    rows = graphc.placeholder((4, 3), "float64", name="rows")
    y = graphc.cond(x[0] > 0, lambda: x * 2, lambda: graphc.zeros(3))
    (batch,) = vectorize([y], x, rows)
    data = np.linspace(-1, 1, 12).reshape(4, 3)
    found = graphc.Graph([rows], {"y": batch}).evaluate({"rows": data})["y"]
    np.testing.assert_array_equal(found, np.where(data[:, :1] > 0, data * 2, 0))


def test_a_loop_of_another_length_in_each_row_is_refused() -> None:
    x, rows = graphc.placeholder((), "float64"), graphc.placeholder((4,), "float64")
    y = graphc.while_loop(lambda c: c < 10, lambda c: c * 2, x)
    with pytest.raises(graphc.UnsupportedError, match="another turn in each row"):
        vectorize([y], x, rows)
