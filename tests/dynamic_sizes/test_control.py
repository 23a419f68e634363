"""Sizes that are computed inside bodies of control flow, or outside and used in them."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from tests.dynamic_sizes.test_compiled import agree

RANDOM = np.random.default_rng(11)


def test_a_body_binds_a_size_in_every_turn() -> None:
    x = graphc.placeholder(("n", 5), "float64", name="x")
    limit = graphc.placeholder((), "float64", name="limit")

    def turn(total: graphc.Tensor, row: graphc.Tensor) -> tuple[graphc.Tensor, graphc.Tensor]:
        kept = row[row > limit]
        table = graphc.sort(kept)[:, None] * kept
        small = kept[kept < graphc.mean(kept)]
        return total + graphc.sum(table), graphc.sum(small) + graphc.asarray(kept.shape[0])

    total, rows = graphc.scan(turn, graphc.constant(0.0), x)
    graph_outputs = {"total": total, "rows": rows}
    text = graphc.Graph([x, limit], graph_outputs)
    assert graphc.parse(str(text)) == text
    with graphc.Session() as session:
        function = session.function([x, limit], graph_outputs)
        for n in (3, 0, 50, 1):
            agree(function, x=RANDOM.normal(size=(n, 5)), limit=np.float64(0))
            agree(function, x=RANDOM.normal(size=(n, 5)), limit=np.float64(-9))
            agree(function, x=RANDOM.normal(size=(n, 5)), limit=np.float64(9))


def test_a_body_uses_a_size_that_is_computed_outside() -> None:
    x = graphc.placeholder(("n",), "float64", name="x")
    kept = x[x > 0]

    def turn(carry: graphc.Tensor, _: None) -> tuple[graphc.Tensor, graphc.Tensor]:
        fresh = carry * 0.5 + graphc.ones((kept.shape[0],), dtype="float64")
        return fresh, graphc.sum(fresh)

    last, sums = graphc.scan(turn, kept, None, length=4)
    chosen = graphc.cond(graphc.sum(x) > 0, lambda: kept * 2, lambda: kept - 1)
    with graphc.Session() as session:
        function = session.function([x], {"last": last, "sums": sums, "chosen": chosen})
        for n in (5, 0, 200, 7):
            agree(function, x=RANDOM.normal(size=n))


def test_a_scan_of_a_computed_length_and_a_loop_that_counts() -> None:
    x = graphc.placeholder(("n",), "float64", name="x")
    kept = x[x > 0]
    last, sums = graphc.scan(lambda c, r: (c + r, c * r), graphc.constant(0.0), kept)
    half = graphc.while_loop(lambda v: v > 1, lambda v: v / 2, graphc.sum(kept))
    with graphc.Session() as session:
        function = session.function([x], {"last": last, "sums": sums, "half": half})
        for n in (5, 0, 200, 7):
            agree(function, x=RANDOM.normal(size=n))


def test_gradients_through_bodies_that_bind_sizes() -> None:
    x = graphc.placeholder(("n", 4), "float64", name="x")

    def turn(total: graphc.Tensor, row: graphc.Tensor) -> tuple[graphc.Tensor, None]:
        kept = row[row > 0]
        return total + graphc.sum((kept[:, None] * kept) @ kept), None

    total, _ = graphc.scan(turn, graphc.constant(0.0), x)
    (gradient,) = graphc.grad(total, [x])
    with graphc.Session() as session:
        function = session.function([x], {"total": total, "gradient": gradient})
        for n in (2, 0, 9):
            values = RANDOM.normal(size=(n, 4))
            found = agree(function, x=values)
            kept = np.where(values > 0, values, 0)
            # sum_i k_i * sum_j k_j^2 by row
            first, second = kept.sum(1, keepdims=True), (kept**2).sum(1, keepdims=True)
            expected = np.where(values > 0, second + 2 * kept * first, 0)
            np.testing.assert_allclose(found["gradient"], expected, rtol=1e-12)


def test_functions_are_traced_once_and_bind_in_each_call() -> None:
    @graphc.function
    def above(x: graphc.Tensor) -> graphc.Tensor:
        kept = x[x > graphc.mean(x)]
        return graphc.sum(kept * kept)

    x = graphc.placeholder(("n",), "float64", name="x")
    y = above(x) + above(x * 2 - 1)
    with graphc.Session() as session:
        function = session.function([x], {"y": y})
        for n in (4, 100, 3):
            values = RANDOM.normal(size=n)
            found = agree(function, x=values)

            def plain(v: np.ndarray) -> float:
                return float((v[v > v.mean()] ** 2).sum())

            np.testing.assert_allclose(found["y"], plain(values) + plain(values * 2 - 1))


def test_a_result_of_a_size_computed_inside_is_refused() -> None:
    x = graphc.placeholder(("n",), name="x")
    with pytest.raises(graphc.GraphcError, match="must give"):
        graphc.cond(x[0] > 0, lambda: x[x > 0], lambda: x[x > 1])
    with pytest.raises(graphc.GraphError, match="computed inside"):
        graphc.scan(lambda c, r: (c, r[r > 0]), x[0], graphc.ones((3, 4)))


def test_a_size_out_of_bounds_in_a_body_names_its_line() -> None:
    x = graphc.placeholder((3,), "int64", name="x")

    def turn(total: graphc.Tensor, count: graphc.Tensor) -> tuple[graphc.Tensor, None]:
        return total + graphc.sum(graphc.ones((graphc.as_dim(count * 2, max=4),))), None

    total, _ = graphc.scan(turn, graphc.constant(np.float64(0)), x)
    with graphc.Session() as session:
        function = session.function([x], total)
        assert function(np.array([1, 2, 0])) == 6
        with pytest.raises(graphc.ExecutionError, match=r"max=4[\s\S]*it is 18[\s\S]*count \* 2"):
            function(np.array([1, 9, 2]))


def test_rows_whose_sizes_would_differ_have_no_jacobian() -> None:
    x = graphc.placeholder((3,), "float64", name="x")
    y = x[x > 0]
    jacobian = graphc.jacobian(graphc.sum(y**2, keepdims=True), x)
    np.testing.assert_allclose(jacobian.eval({x: np.array([1.0, -2, 3])}), [[2, 0, 6]])


def test_memory_that_an_inner_body_asks_for_reaches_the_caller() -> None:
    @graphc.function
    def inner(row: graphc.Tensor) -> graphc.Tensor:
        kept = row[row > 0]
        return graphc.sum(graphc.sort(kept)[:, None] * kept)

    @graphc.function
    def outer(row: graphc.Tensor) -> graphc.Tensor:
        large = row[row > 1]
        return inner(row - graphc.sum(large)) + graphc.sum(graphc.sort(large)) + inner(row)

    x = graphc.placeholder(("n", "m"), "float64", name="x")
    total, _ = graphc.scan(lambda c, row: (c + outer(row), None), graphc.constant(0.0), x)
    with graphc.Session(threads=1) as session:
        function = session.function([x], {"total": total})
        for n, m in ((2, 3), (3, 200), (1, 5), (2, 2000)):
            agree(function, x=RANDOM.normal(size=(n, m)))
