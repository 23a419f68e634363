"""The public functions of `graphc.linalg`: values beside NumPy's, gradients by differences of the
reference meaning and of compiled programs, what is refused and where.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import linalg
from graphc.base.dtypes import Array
from graphc.testing import check_grad

RNG = np.random.default_rng(5)
SQUARE = RNG.standard_normal((2, 3, 3)) + 2.0 * np.eye(3)
SYMMETRIC = SQUARE + SQUARE.swapaxes(-1, -2)
POSITIVE = SQUARE @ SQUARE.swapaxes(-1, -2)
TALL = RNG.standard_normal((4, 2))
VECTOR = RNG.standard_normal(4)

GRADIENTS: dict[str, tuple[Callable[..., Any], tuple[Array, ...]]] = {
    "cholesky": (linalg.cholesky, (POSITIVE,)),
    "cholesky upper": (lambda x: linalg.cholesky(x, upper=True), (POSITIVE,)),
    "solve": (linalg.solve, (SQUARE, RNG.standard_normal((3, 2)))),
    "solve a vector": (linalg.solve, (SQUARE[0], RNG.standard_normal(3))),
    "triangular": (
        lambda a, b: linalg.triangular_solve(a, b, upper=True, transpose=True),
        (SQUARE, RNG.standard_normal(3)),
    ),
    "inv": (linalg.inv, (SQUARE,)),
    "det": (linalg.det, (SQUARE,)),
    "slogdet": (lambda x: linalg.slogdet(x).logabsdet, (SQUARE,)),
    "lu": (lambda x: linalg.lu(x).L @ linalg.lu(x).U ** 2, (TALL,)),
    "lu wide": (lambda x: linalg.lu(x).U, (TALL.T,)),
    "lu factor": (lambda x: linalg.lu_factor(x).LU, (SQUARE,)),
    "expm": (linalg.expm, (SQUARE[:1],)),
    "power": (lambda x: linalg.matrix_power(x, -2), (SQUARE,)),
    "qr": (lambda x: linalg.qr(x).Q @ linalg.qr(x).R ** 2, (TALL,)),
    "qr wide": (lambda x: linalg.qr(x, mode="complete").R, (TALL.T,)),
    "eigenvectors": (lambda x: linalg.eigh(x).eigenvectors, (SYMMETRIC,)),
    "eigvalsh": (linalg.eigvalsh, (SYMMETRIC,)),
    "left vectors": (lambda x: linalg.svd(x, full_matrices=False).U, (TALL,)),
    "right vectors": (lambda x: linalg.svd(x, full_matrices=False).Vh, (TALL.T,)),
    "svdvals": (linalg.svdvals, (TALL,)),
    "pinv": (linalg.pinv, (TALL,)),
    "least squares": (lambda a, b: linalg.lstsq(a, b).x, (TALL, VECTOR)),
    "residuals": (lambda a, b: linalg.lstsq(a, b).residuals, (TALL, VECTOR)),
    "nuclear norm": (lambda x: linalg.matrix_norm(x, ord="nuc"), (TALL,)),
    "cond": (linalg.cond, (TALL,)),
    "cond by inverse": (lambda x: linalg.cond(x, "fro"), (SQUARE[0],)),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str) -> None:
    function, inputs = GRADIENTS[name]
    check_grad(function, inputs)
    check_grad(function, inputs, order=2)


def test_gradients_of_symmetric_functions_are_symmetric() -> None:
    x = graphc.placeholder((3, 3), "float64")
    weights = RNG.standard_normal((3, 3))
    for function in (linalg.cholesky, lambda x: linalg.eigh(x).eigenvectors):
        g = graphc.grad(graphc.sum(function(x) * weights), x).eval({x: POSITIVE[0]})
        np.testing.assert_allclose(g, g.T, atol=1e-14)


def test_values_beside_numpy() -> None:
    singular = np.array([[1.0, 2.0], [2.0, 4.0]])
    batch = np.stack([np.eye(2), singular, np.zeros((2, 2))])
    assert linalg.matrix_rank(batch).eval().tolist() == [2, 1, 0]
    assert linalg.matrix_rank(np.diag([1.0, 1e-3]), rtol=1e-2).eval() == 1
    assert linalg.matrix_rank(np.zeros((0, 3))).eval() == 0
    assert linalg.pinv(batch, rtol=np.array([0.1, 0.1, 0.1])).shape == (3, 2, 2)
    np.testing.assert_allclose(linalg.pinv(batch).eval(), np.linalg.pinv(batch), atol=1e-15)
    for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        for keep in (False, True):
            found = linalg.matrix_norm(SQUARE, ord=order, keepdims=keep).eval()
            wanted = np.linalg.norm(SQUARE, ord=order, axis=(-2, -1), keepdims=keep)
            np.testing.assert_allclose(found, wanted, rtol=1e-13)
    for p in (None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        np.testing.assert_allclose(linalg.cond(SQUARE, p).eval(), np.linalg.cond(SQUARE, p))
    assert linalg.cond(singular * 0.0 + 1.0).eval() > 1e15
    assert linalg.cond(np.ones((2, 2), np.float32)).dtype.name == "float32"
    sign, logabs = graphc.Session().run(linalg.slogdet(batch))
    np.testing.assert_array_equal(sign, [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(logabs, [0.0, -np.inf, -np.inf])
    np.testing.assert_array_equal(linalg.det(batch).eval(), [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(linalg.det(np.zeros((2, 0, 0))).eval(), [1.0, 1.0])
    np.testing.assert_allclose(
        linalg.matrix_power(SQUARE, -3).eval(), np.linalg.matrix_power(SQUARE, -3)
    )
    np.testing.assert_allclose(linalg.inv([[2, 1], [1, 1]]).eval(), [[1, -1], [-1, 2]])
    x, residuals, rank, s = graphc.Session().run(linalg.lstsq(TALL, VECTOR))
    wanted = np.linalg.lstsq(TALL, VECTOR, rcond=None)
    np.testing.assert_allclose(x, wanted[0])
    np.testing.assert_allclose(residuals, wanted[1][0])
    assert rank == wanted[2]
    np.testing.assert_allclose(s, wanted[3])


def test_exponentials() -> None:
    rng = np.random.default_rng(2)
    for n in (1, 3, 40):
        for size in (0.0, 1e-3, 1.0, 30.0):
            x = rng.standard_normal((n, n)) * size / np.sqrt(n)
            x = x - x.T  # the exponential of a skew matrix is a rotation
            turned = linalg.expm(x).eval()
            np.testing.assert_allclose(turned @ turned.T, np.eye(n), atol=1e-13 * (1.0 + size) * n)
            np.testing.assert_allclose(linalg.expm(-x).eval(), turned.T, atol=1e-12)
    x = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(linalg.expm(x).eval(), np.eye(3) + x + x @ x / 2, atol=1e-15)
    both = np.stack([np.diag([1.0, -700.0]), np.full((2, 2), np.nan)])
    found = linalg.expm(both).eval()
    np.testing.assert_allclose(found[0], np.diag(np.exp([1.0, -700.0])), rtol=1e-12)
    assert np.isnan(found[1]).all()


def test_results_have_names_and_batches_broadcast() -> None:
    a = graphc.placeholder(("b", 1, 3, 3), "float32")
    b = graphc.placeholder((5, 3, 2), "float32")
    assert linalg.solve(a, b).shape == (a.shape[0], 5, 3, 2)
    assert linalg.solve(a, graphc.placeholder((3,), "float32")).shape == (a.shape[0], 1, 3)
    assert linalg.eigh(a).eigenvalues.shape == a.shape[:-1]
    assert linalg.svd(a).Vh.shape == a.shape
    assert linalg.qr(a).R.shape == a.shape
    assert linalg.slogdet(a).sign.shape == a.shape[:-2]
    assert linalg.lu_factor(a).pivots.dtype.name == "int64"
    tall = graphc.placeholder((graphc.Dim("m", min=4), 4), "float64")
    assert linalg.qr(tall).Q.shape == tall.shape
    x = np.random.default_rng(0).standard_normal((9, 4))
    np.testing.assert_allclose(linalg.svdvals(tall).eval({tall: x}), np.linalg.svd(x)[1])
    np.testing.assert_allclose(linalg.pinv(tall).eval({tall: x}), np.linalg.pinv(x), atol=1e-14)


def test_gradients_at_singular_and_repeated_values() -> None:
    x = graphc.placeholder((2, 2), "float64")
    singular = np.array([[1.0, 2.0], [2.0, 4.0]])
    slope = graphc.grad(linalg.det(x), x)
    np.testing.assert_allclose(slope.eval({x: singular}), [[4.0, -2.0], [-2.0, 1.0]], atol=1e-14)
    np.testing.assert_allclose(slope.eval({x: np.zeros((2, 2))}), 0.0, atol=1e-15)
    # Functions of values alone are differentiable where values are equal.
    for function in (linalg.eigvalsh, linalg.svdvals, lambda x: linalg.eigh(x).eigenvalues):
        cubes = graphc.grad(graphc.sum(function(x) ** 3), x)
        np.testing.assert_allclose(cubes.eval({x: 2.0 * np.eye(2)}), 12.0 * np.eye(2))
    # Of vectors of equal values there is no derivative, and none is made up.
    vectors = linalg.eigh(x).eigenvectors
    lost = graphc.grad(graphc.sum(vectors * np.array([[1.0, 2.0], [3.0, 5.0]])), x)
    assert not np.isfinite(lost.eval({x: np.eye(2)})).all()


def test_jacobians_and_hessians_are_one_batch() -> None:
    x = graphc.placeholder((3, 3), "float64")
    inverse = np.linalg.inv(POSITIVE[0])
    jacobian = graphc.jacobian(linalg.inv(x), x).eval({x: POSITIVE[0]})
    np.testing.assert_allclose(jacobian, -np.einsum("ik,lj->ijkl", inverse, inverse), atol=1e-12)
    hessian = graphc.hessian(linalg.slogdet(x).logabsdet, x)
    wanted = -np.einsum("li,jk->ijkl", inverse, inverse)
    np.testing.assert_allclose(hessian.eval({x: POSITIVE[0]}), wanted, atol=1e-12)
    for function in (linalg.cholesky, linalg.eigvalsh, linalg.svdvals, lambda x: linalg.qr(x).R):
        rows = graphc.jacobian(function(x), x)
        graph = graphc.Graph([x], {"y": rows})
        assert len(graph.nodes) < 400  # not a node per row
        feeds = {x: SYMMETRIC[0] + 9 * np.eye(3)}
        np.testing.assert_allclose(rows.eval(feeds), graph.evaluate(feeds)["y"], atol=1e-11)


def test_a_factorization_is_computed_once() -> None:
    """The solution, its gradient, the determinant and its gradient share one LU factorization."""
    x = graphc.placeholder((3, 3), "float64")
    y = linalg.solve(x, np.ones(3))
    loss = graphc.sum(y) + linalg.slogdet(x).logabsdet + linalg.det(x)
    program = graphc.Session().function([x], [loss, graphc.grad(loss, x), linalg.inv(x)])
    assert program.explain("optimized").count(" = lu(") == 1


def located(function: Callable[[], Any]) -> str:
    with pytest.raises(graphc.ExecutionError) as caught:
        function()
    return str(caught.value)


def test_matrices_that_have_no_answer_are_named_at_the_call() -> None:
    x = graphc.placeholder((2, 2, 2), "float64")
    singular = np.stack([np.eye(2), np.ones((2, 2))])
    session = graphc.Session()
    for function, word in (
        (linalg.inv, "singular"),
        (lambda x: linalg.solve(x, np.ones(2)), "singular"),
        (lambda x: graphc.grad(graphc.sum(linalg.slogdet(x).logabsdet), x), "singular"),
        (linalg.cholesky, "positive definite"),
    ):
        run = session.function([x], function(x))
        text = located(lambda run=run: run(singular))
        assert word in text and "test_functions.py" in text
        run(np.stack([np.eye(2), 2.0 * np.eye(2)]))
        with pytest.raises(graphc.ExecutionError, match=word):
            graphc.Graph([x], {"y": function(x)}).evaluate({x: singular})
    assert "positive definite" in located(lambda: linalg.cholesky(x).eval({x: singular * np.nan}))


def test_a_failed_call_changes_no_variable() -> None:
    x = graphc.placeholder((2, 2), "float64")
    v = graphc.variable(np.zeros((2, 2)))
    with graphc.Session() as session:
        step = session.function([x], [], updates={v: linalg.inv(x)})
        step(2.0 * np.eye(2))
        located(lambda: step(np.zeros((2, 2))))
        np.testing.assert_array_equal(session.value(v), 0.5 * np.eye(2))


def test_factors_from_elsewhere_are_not_trusted() -> None:
    """A text may hand lu_solve any numbers for an order of rows."""
    graph = graphc.parse(
        'graph "g" { input %p "p" : f64[2, 4] input %b "b" : f64[2, 1] '
        "%x = lu_solve(%p, %b) {transpose=false} : f64[2, 1] "
        'output "x" = %x }'
    )
    run = graphc.Session().function([t for _, t in graph.inputs], [t for _, t in graph.outputs])
    good = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(run(good, np.ones((2, 1)))[0], np.ones((2, 1)))
    for bad in (2.0, -1.0, 1e300, -np.inf):
        wrong = good.copy()
        wrong[0, 2] = bad
        located(lambda wrong=wrong: run(wrong, np.ones((2, 1))))
