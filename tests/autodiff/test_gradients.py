"""Differentiation: structures, errors, higher orders, custom gradients, checkpoints."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.errors import DTypeError, GraphError, ShapeError
from graphc.ir import provenance
from graphc.testing import GradientError, check_grad

X = np.array([0.1, 0.5, -0.3])


def value(result: Any, feeds: dict[Any, Any]) -> Any:
    return graphc.Graph(list(feeds), {"y": result}).evaluate(feeds)["y"]


@pytest.fixture
def x() -> Any:
    return graphc.placeholder((3,), "float64", name="x")


def test_grad_of_a_product(x: Any) -> None:
    y = graphc.sum(graphc.exp(x) * graphc.sin(x * x))
    expected = np.exp(X) * (np.sin(X * X) + 2 * X * np.cos(X * X))
    np.testing.assert_allclose(value(graphc.grad(y, x), {x: X}), expected, rtol=1e-12)


def test_structure_of_wrt_is_kept(x: Any) -> None:
    w = graphc.variable(np.ones(3), name="w")
    cost = graphc.sum(x * w)
    assert isinstance(graphc.grad(cost, [x, w]), list)
    assert isinstance(graphc.grad(cost, (x, w)), tuple)
    nest = graphc.grad(cost, {"a": x, "b": [w, (x,)]})
    assert list(nest) == ["a", "b"]
    assert nest["a"] is nest["b"][1][0]


def test_intermediate_and_its_source_together(x: Any) -> None:
    e = graphc.exp(x)
    cost = graphc.sum(graphc.log(1 + e))
    by_e, by_x = graphc.grad(cost, [e, x])
    np.testing.assert_allclose(value(by_e, {x: X}), 1 / (1 + np.exp(X)))
    np.testing.assert_allclose(value(by_x, {x: X}), 1 / (1 + np.exp(-X)))
    np.testing.assert_allclose(value(graphc.grad(cost, cost), {x: X}), 1.0)


def test_result_of_grad_has_no_barriers(x: Any) -> None:
    e = graphc.exp(x)
    g = graphc.grad(graphc.sum(graphc.log(1 + e) * e), e)
    assert "barrier" not in str(graphc.Graph([x], {"g": g}))


def test_unused(x: Any) -> None:
    z = graphc.placeholder((2, 2), "float64", name="z")
    with pytest.raises(GraphError, match="does not depend on z"):
        graphc.grad(graphc.sum(x), z)
    zero = graphc.grad(graphc.sum(x), z, allow_unused=True)
    np.testing.assert_array_equal(value(zero, {z: np.ones((2, 2))}), np.zeros((2, 2)))


def test_no_gradient_flows(x: Any) -> None:
    cost = graphc.sum(graphc.floor(x)) + graphc.sum(graphc.stop_gradient(x * x))
    np.testing.assert_array_equal(value(graphc.grad(cost, x), {x: X}), 0 * X)


def test_errors(x: Any) -> None:
    with pytest.raises(ShapeError, match="scalar"):
        graphc.grad(x, x)
    k = graphc.placeholder((3,), "int32", name="k")
    with pytest.raises(DTypeError, match="float"):
        graphc.grad(graphc.sum(graphc.astype(k, "float64")), k)
    with pytest.raises(GraphError, match="constant"):
        c = graphc.constant(np.ones(3))
        graphc.grad(graphc.sum(c * x), c)
    with pytest.raises(GraphError, match="ndarray"):
        graphc.grad(graphc.sum(x), X)
    with pytest.raises(ShapeError, match=r"f64\[4\]"):
        graphc.vjp(x * x, x, np.ones(4))
    with pytest.raises(GraphError, match="expected 2"):
        graphc.vjp([x * x, x], x, [np.ones(3)])


def test_jvp_and_vjp_are_transposes(x: Any) -> None:
    y = graphc.softmax(x) * graphc.sum(x)
    jacobian = value(graphc.jacobian(y, x), {x: X})
    v = np.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(value(graphc.jvp(y, x, v), {x: X}), jacobian @ v, rtol=1e-12)
    np.testing.assert_allclose(value(graphc.vjp(y, x, v), {x: X}), v @ jacobian, rtol=1e-12)


def test_jvp_of_a_nest(x: Any) -> None:
    out = graphc.jvp({"a": x * x, "b": graphc.sum(x)}, [x], [np.ones(3)])
    np.testing.assert_allclose(value(out["a"], {x: X}), 2 * X)
    np.testing.assert_allclose(value(out["b"], {x: X}), 3.0)


def test_hessian_of_a_quadratic_form() -> None:
    x = graphc.placeholder(("n",), "float64", name="x")
    a = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, -1.0], [1.0, 0.0, 4.0]])
    m = graphc.placeholder(("n", "n"), "float64", name="m")
    cost = graphc.sum(x * (m @ x))
    found = graphc.Graph([x, m], {"h": graphc.hessian(cost, x)}).evaluate({"x": X, "m": a})["h"]
    np.testing.assert_allclose(found, a + a.T)


def test_hessian_of_a_nest(x: Any) -> None:
    w = graphc.variable(np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]]), name="w")
    blocks = graphc.hessian(graphc.sum(graphc.tanh(x @ w) ** 2), {"x": x, "w": w})
    assert blocks["w"]["x"].shape == (3, 2, 3)
    assert blocks["x"]["w"].shape == (3, 3, 2)
    mixed = value(blocks["w"]["x"], {x: X})
    np.testing.assert_allclose(
        np.moveaxis(mixed, -1, 0), value(blocks["x"]["w"], {x: X}), rtol=1e-10
    )


OPS: dict[str, Any] = {
    "reductions": lambda x: graphc.prod(x, axis=1) + graphc.max(x, axis=1) + graphc.std(x, axis=1),
    "views": lambda x: graphc.flip(graphc.roll(x.T, 1, axis=0))[1:, ::2],
    "joins": lambda x: graphc.concat([x, graphc.pad(x, ((0, 0), (1, 2)))], axis=1),
    "products": lambda x: graphc.einsum("ij,kj->ik", x, graphc.tanh(x)),
    "indexing": lambda x: x[np.array([2, 0, 0]), 1:] * graphc.take(x, np.array([1]), axis=0)[:, 1:],
    "scatter": lambda x: x.at[np.array([0, 1])].add(x[1:] ** 2),
    "running": lambda x: graphc.cumulative_sum(x, axis=1) ** 2 + graphc.sort(x, axis=1),
    "softmax": lambda x: graphc.nn.log_softmax(x, axis=0) * graphc.softmax(x),
    "diagonal": lambda x: graphc.diagonal(x[:, :3] ** 3),
    "windows": lambda x: graphc.nn.max_pool(x[None, None] ** 3, 2, stride=1),
    "select": lambda x: graphc.where(x > 0.2, graphc.sqrt(x), x * x),
    "checkpoint": graphc.checkpoint(lambda x: graphc.sin(x) * graphc.exp(x)),
}


@pytest.mark.parametrize("name", OPS)
def test_first_and_second_order(name: str) -> None:
    x = np.random.default_rng(3).uniform(0.3, 2.0, (3, 4))
    check_grad(OPS[name], [x], order=2, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPS)
def test_jacobian_equals_rows_of_vjps(name: str) -> None:
    values = np.random.default_rng(4).uniform(0.3, 2.0, (3, 4))
    x = graphc.placeholder((3, 4), "float64", name="x")
    y = OPS[name](x)
    whole = value(graphc.jacobian(y, x), {x: values})
    assert whole.shape == (*y.shape, 3, 4)
    row = np.zeros(y.shape)
    row[(-1,) * row.ndim] = 1.0
    np.testing.assert_allclose(
        whole[(-1,) * row.ndim], value(graphc.vjp(y, x, row), {x: values}), rtol=1e-12
    )


def test_check_grad_finds_a_wrong_gradient() -> None:
    @graphc.custom_gradient
    def wrong(x: Any) -> Any:
        return x * x, lambda g: g * x  # half of it

    with pytest.raises(GradientError, match="order 1 with respect to input 0"):
        check_grad(wrong, [np.ones(3)])


def test_custom_gradient(x: Any) -> None:
    @graphc.custom_gradient
    def clipped(a: Any, b: Any) -> Any:
        return (a * b, a + b), lambda g, h: (graphc.clip(g, -1, 1), None)

    p, q = clipped(x, x * 2)
    cost = graphc.sum(p * 5.0) + graphc.sum(q * 0.25)
    np.testing.assert_allclose(value(graphc.grad(cost, x), {x: X}), [1.25 - 0.25] * 3)


def test_custom_gradient_differentiates_again(x: Any) -> None:
    @graphc.custom_gradient
    def cube(a: Any) -> Any:
        return a**3, lambda g: g * 3.0 * a * a

    first = graphc.grad(graphc.sum(cube(x)), x)
    np.testing.assert_allclose(value(graphc.grad(graphc.sum(first), x), {x: X}), 6 * X)
    text = str(graphc.Graph([x], {"y": cube(x)}))
    assert graphc.parse(text) == graphc.Graph([x], {"y": cube(x)})


def test_custom_gradient_errors(x: Any) -> None:
    with pytest.raises(GraphError, match=r"must return \(y, backward\)"):
        graphc.custom_gradient(lambda a: a)(x)
    with pytest.raises(GraphError, match="2 cotangents for 1 inputs"):
        graphc.custom_gradient(lambda a: (a, lambda g: (g, g)))(x)
    with pytest.raises(GraphError, match=r"f64\[\]"):
        graphc.custom_gradient(lambda a: (a, lambda g: graphc.sum(g)))(x)


def test_checkpoint_computes_again(x: Any) -> None:
    w = graphc.variable(np.array([1.0, 2.0, 3.0]), name="w")

    def block(a: Any) -> Any:
        return graphc.sin(a * w) * graphc.exp(a)

    plain = graphc.grad(graphc.sum(block(x)), [x, w])
    saved = graphc.grad(graphc.sum(graphc.checkpoint(block)(x)), [x, w])
    for a, b in zip(plain, saved, strict=True):
        np.testing.assert_array_equal(value(a, {x: X}), value(b, {x: X}))
    graph = graphc.Graph([x], {"y": graphc.checkpoint(block)(x), "g": saved[0]})
    exps = [n for n in graph.optimize("exact").nodes if n.op.name == "exp"]
    assert len(exps) == 2  # once forward, once again from the barrier


def test_gradients_of_naive_expressions_are_stable() -> None:
    x = graphc.placeholder((4,), "float32", name="x")
    feeds = {x: np.array([-1000.0, 0.0, 50.0, 1000.0], np.float32)}
    naive = graphc.sum(graphc.log(1 + graphc.exp(x)))
    np.testing.assert_allclose(value(graphc.grad(naive, x), feeds), [0, 0.5, 1, 1], rtol=1e-6)
    e = graphc.exp(x)
    loss = -graphc.log(e / graphc.sum(e))[0]
    np.testing.assert_allclose(value(graphc.grad(loss, x), feeds), [-1, 0, 0, 1], atol=1e-6)


def test_gradient_nodes_point_at_the_forward_line(x: Any) -> None:
    y = graphc.sum(graphc.tanh(x))
    here = provenance.locations(y.inputs[0])[0]
    g = graphc.grad(y, x)
    lines = {str(place) for place in provenance.locations(g)}
    assert str(here) in lines


def test_deep_and_wide_graphs() -> None:
    x = graphc.placeholder((2,), "float64", name="x")
    y = x
    for _ in range(30_000):
        y = graphc.sin(y)
    started = time.process_time()
    g = graphc.grad(graphc.sum(y), x)
    assert g.shape == (2,)
    # A Fibonacci-shaped graph: two uses of each node.
    a, b = x, x * 0.5
    for _ in range(300):
        a, b = b, (a + b) * 0.5
    graphc.grad(graphc.sum(b), x)
    wide = graphc.sum(sum(graphc.tanh(x * float(k)) for k in range(2000)))
    graphc.grad(wide, x)
    assert time.process_time() - started < 30
