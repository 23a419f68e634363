"""Public functions over these ops against NumPy: arguments, dtypes, symbolic sizes, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import Array
from graphc.ir.node import Tensor
from graphc.ops.contraction import cross
from graphc.ops.cumulative import linear_recurrence
from graphc.ops.joining import split
from graphc.ops.view import swapaxes

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 4, 5))
I = RNG.integers(-5, 9, size=(4, 6)).astype(np.int32)  # noqa: E741  # the usual letters of indices and arrays
V = RNG.normal(size=7)
S = np.array([3.0, 1.0, 2.0, 1.0, np.nan, -1.0])


def value(*tensors: Tensor) -> Any:
    """Values of tensors without inputs."""
    graph = graphc.Graph([], {f"t{k}": t for k, t in enumerate(tensors)})
    found = graph.evaluate()
    result = [found[f"t{k}"] for k in range(len(tensors))]
    return result[0] if len(result) == 1 else result


CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "sum ints": (lambda: graphc.sum(I), lambda: np.sum(I, dtype=np.int64)),
    "sum axis": (lambda: graphc.sum(A, axis=(0, -1)), lambda: A.sum((0, 2))),
    "sum dtype": (lambda: graphc.sum(I, dtype="float32"), lambda: I.sum(dtype=np.float32)),
    "sum keepdims": (lambda: graphc.sum(A, axis=1, keepdims=True), lambda: A.sum(1, keepdims=True)),
    "sum bool": (lambda: graphc.sum(I > 2, axis=0), lambda: (I > 2).sum(0)),
    "sum unsigned": (lambda: graphc.sum(I.astype(np.uint8)), lambda: I.astype(np.uint8).sum()),
    "prod": (lambda: graphc.prod(I, axis=1), lambda: I.prod(1, dtype=np.int64)),
    "mean ints": (lambda: graphc.mean(I), lambda: I.mean()),
    "var": (lambda: graphc.var(A, axis=1), lambda: A.var(1)),
    "var correction": (lambda: graphc.var(A, correction=1), lambda: np.asarray(A.var(ddof=1))),
    "std": (
        lambda: graphc.std(A, axis=(0, 1), keepdims=True),
        lambda: A.std((0, 1), keepdims=True),
    ),
    "any": (lambda: graphc.any(A > 2, axis=0), lambda: (A > 2).any(0)),
    "all": (lambda: graphc.all(I), lambda: np.asarray(I.all())),
    "argmax flat": (lambda: graphc.argmax(A), lambda: np.argmax(A)),
    "argmin": (lambda: graphc.argmin(A, axis=1, keepdims=True), lambda: A.argmin(1, keepdims=True)),
    "argmax nan": (lambda: graphc.argmax(S), lambda: np.asarray(4)),
    "count_nonzero": (lambda: graphc.count_nonzero(I, axis=1), lambda: np.count_nonzero(I, axis=1)),
    "logsumexp": (lambda: graphc.logsumexp(A * 1e3, axis=2), lambda: (A * 1e3).max(2) + 0.0),
    "reshape -1": (lambda: graphc.reshape(A, (-1, 10)), lambda: A.reshape(-1, 10)),
    "expand": (lambda: graphc.expand_dims(A, axis=(0, -1)), lambda: np.expand_dims(A, (0, -1))),
    "squeeze": (lambda: graphc.squeeze(A[:1], 0), lambda: A[0]),
    "moveaxis": (
        lambda: graphc.moveaxis(A, (0, 1), (-1, 0)),
        lambda: np.moveaxis(A, (0, 1), (-1, 0)),
    ),
    "swapaxes": (lambda: swapaxes(A, 0, 2), lambda: np.swapaxes(A, 0, 2)),
    "roll flat": (lambda: graphc.roll(A, 7), lambda: np.roll(A, 7)),
    "roll axes": (
        lambda: graphc.roll(A, (1, -2), axis=(0, 2)),
        lambda: np.roll(A, (1, -2), (0, 2)),
    ),
    "flip": (lambda: graphc.flip(A), lambda: np.flip(A)),
    "concat flat": (lambda: graphc.concat([A, V], axis=None), lambda: np.concatenate([A, V], None)),
    "concat types": (
        lambda: graphc.concat([I, A[0, :, :1]], axis=1),
        lambda: np.concatenate([I, A[0, :, :1]], 1),
    ),
    "stack": (lambda: graphc.stack([V, V * 2], axis=-1), lambda: np.stack([V, V * 2], -1)),
    "unstack": (lambda: graphc.unstack(A, axis=1)[2], lambda: A[:, 2]),
    "split": (lambda: split(V, [2, 5])[1], lambda: np.split(V, [2, 5])[1]),
    "tile": (lambda: graphc.tile(I, (2, 1, 3)), lambda: np.tile(I, (2, 1, 3))),
    "repeat": (lambda: graphc.repeat(A, 3, axis=1), lambda: np.repeat(A, 3, 1)),
    "repeat each": (
        lambda: graphc.repeat(I, [0, 2, 1, 3], axis=0),
        lambda: np.repeat(I, [0, 2, 1, 3], 0),
    ),
    "pad value": (
        lambda: graphc.pad(I, ((1, 0), (2, 3)), value=7),
        lambda: np.pad(I, ((1, 0), (2, 3)), constant_values=7),
    ),
    "diagonal": (lambda: graphc.diagonal(A, offset=1), lambda: np.diagonal(A, 1, 1, 2)),
    "trace": (lambda: graphc.trace(A), lambda: np.trace(A, axis1=1, axis2=2)),
    "outer": (lambda: graphc.outer(V, V), lambda: np.outer(V, V)),
    "vecdot": (lambda: graphc.vecdot(A, A[0], axis=-1), lambda: (A * A[0]).sum(-1)),
    "vecdot axis": (lambda: graphc.vecdot(A, A, axis=-2), lambda: (A * A).sum(-2)),
    "cross": (lambda: cross(A[:, :, :3], A[0, :, :3]), lambda: np.cross(A[:, :, :3], A[0, :, :3])),
    "tensordot": (
        lambda: graphc.tensordot(A, A, axes=([0, 2], [0, 2])),
        lambda: np.tensordot(A, A, ([0, 2], [0, 2])),
    ),
    "tensordot 1": (
        lambda: graphc.tensordot(A, A[0, :1].T, axes=1),
        lambda: np.tensordot(A, A[0, :1].T, 1),
    ),
    "cumulative_sum": (
        lambda: graphc.cumulative_sum(I, axis=1),
        lambda: np.cumsum(I, 1, dtype=np.int64),
    ),
    "cumulative_sum initial": (
        lambda: graphc.cumulative_sum(V, include_initial=True),
        lambda: np.concatenate([[0], np.cumsum(V)]),
    ),
    "cumulative_prod initial": (
        lambda: graphc.cumulative_prod(A, axis=0, include_initial=True),
        lambda: np.concatenate([np.ones((1, 4, 5)), np.cumprod(A, 0)]),
    ),
    "cumulative_max": (lambda: graphc.cumulative_max(S), lambda: np.maximum.accumulate(S)),
    "diff": (lambda: graphc.diff(A, axis=1, n=2), lambda: np.diff(A, 2, 1)),
    "diff ends": (
        lambda: graphc.diff(V, prepend=0, append=V),
        lambda: np.diff(V, prepend=0, append=V),
    ),
    "sort": (lambda: graphc.sort(S), lambda: np.sort(S)),
    "sort descending": (lambda: graphc.sort(S, descending=True), lambda: np.sort(S)[::-1]),
    "argsort descending": (
        lambda: graphc.argsort(S, descending=True),
        lambda: np.array([4, 0, 2, 1, 3, 5]),
    ),
    "searchsorted": (
        lambda: graphc.searchsorted(V, A, side="right", sorter=np.argsort(V)),
        lambda: np.searchsorted(V, A, "right", np.argsort(V)),
    ),
    "isin": (
        lambda: graphc.isin(I, [1, 2, 3], invert=True),
        lambda: np.isin(I, [1, 2, 3], invert=True),
    ),
    "median": (lambda: graphc.median(A, axis=(0, 2)), lambda: np.median(A, (0, 2))),
    "median nan": (lambda: graphc.median(S), lambda: np.asarray(np.nan)),
    "quantile": (
        lambda: graphc.quantile(A, 0.3, axis=1, keepdims=True),
        lambda: np.quantile(A, 0.3, 1, keepdims=True),
    ),
    "quantiles": (
        lambda: graphc.quantile(V, [0.0, 0.25, 1.0]),
        lambda: np.quantile(V, [0.0, 0.25, 1.0]),
    ),
    "recurrence": (lambda: linear_recurrence(np.ones(7), V), lambda: np.cumsum(V)),
    "broadcast_to": (
        lambda: graphc.broadcast_to(V, (2, 3, 7)),
        lambda: np.broadcast_to(V, (2, 3, 7)),
    ),
    "sum of 0-d": (lambda: graphc.sum(3.5), lambda: np.asarray(3.5)),
}


@pytest.mark.parametrize("name", CASES)
def test_against_numpy(name: str) -> None:
    ours, theirs = CASES[name]
    tensor = ours()
    with np.errstate(all="ignore"):
        expected = np.asarray(theirs())
    assert tensor.shape == expected.shape
    assert tensor.dtype.numpy == expected.dtype
    np.testing.assert_allclose(value(tensor), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
def test_pad_modes(mode: str) -> None:
    widths = ((1, 2), (0, 3))
    np.testing.assert_array_equal(
        value(graphc.pad(I, widths, mode=mode)),
        np.pad(I, widths, mode),
    )


MATRICES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((4,), (4,)),
    ((3, 4), (4,)),
    ((4,), (4, 5)),
    ((3, 4), (4, 5)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((1, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((2, 3, 4), (4,)),
    ((4,), (2, 4, 3)),
    ((0, 4), (4, 3)),
    ((3, 0), (0, 2)),
    ((1, 1, 3, 4), (1, 4, 5)),
    ((6, 1, 2, 3), (1, 5, 3, 4)),
]


@pytest.mark.parametrize("shapes", MATRICES, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "int32", "bool"])
def test_matmul(shapes: tuple[tuple[int, ...], tuple[int, ...]], dtype: str) -> None:
    a, b = (RNG.integers(-3, 4, s).astype(dtype) for s in shapes)
    found = graphc.matmul(a, b)
    expected = np.asarray(np.matmul(a, b))
    assert found.shape == expected.shape
    np.testing.assert_array_equal(value(found), expected)


SPECS: list[tuple[str, list[tuple[int, ...]]]] = [
    ("ij,jk,kl->il", [(3, 4), (4, 5), (5, 2)]),
    ("ij,jk,kl,lm", [(3, 4), (4, 5), (5, 2), (2, 3)]),
    ("ii->i", [(4, 4)]),
    ("ii", [(4, 4)]),
    ("iij->j", [(4, 4, 3)]),
    ("...ij,...jk->...ik", [(2, 1, 3, 4), (5, 4, 2)]),
    ("ij->ji", [(3, 4)]),
    ("i,i,i->i", [(4,), (4,), (4,)]),
    ("i,j,k->", [(2,), (3,), (4,)]),
    ("ij,ik,il->jkl", [(3, 2), (3, 4), (3, 5)]),
    ("b i j, b j -> b i", [(2, 3, 4), (2, 4)]),
    ("...,...", [(2, 3), (3,)]),
    ("ijk->", [(2, 3, 4)]),
    ("i...->...", [(3, 2, 4)]),
    ("iji,j->i", [(3, 4, 3), (4,)]),
    ("ij,j->ij", [(3, 1), (4,)]),
    ("a,b->ba", [(3,), (4,)]),
    (",i->i", [(), (3,)]),
]


@pytest.mark.parametrize(("spec", "shapes"), SPECS, ids=[s for s, _ in SPECS])
def test_einsum(spec: str, shapes: list[tuple[int, ...]]) -> None:
    arrays = [RNG.normal(size=s) for s in shapes]
    found = graphc.einsum(spec, *arrays)
    expected = np.asarray(np.einsum(spec, *arrays))
    assert found.shape == expected.shape
    np.testing.assert_allclose(value(found), expected, rtol=1e-12, atol=1e-13)


def test_top_k() -> None:
    best, places = graphc.top_k(I, 3)
    order = np.argsort(-I, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(value(places), order)
    np.testing.assert_array_equal(value(best), np.take_along_axis(I, order, 1))
    least, _ = graphc.top_k(I, 2, axis=0, largest=False)
    np.testing.assert_array_equal(value(least), np.sort(I, 0)[:2])


def test_gradient_of_prod_with_zeros() -> None:
    for row in ([2.0, 0.0, 3.0], [0.0, 0.0, 3.0], [1.0, 2.0, 3.0]):
        x = graphc.placeholder((3,), "float64")
        out = graphc.prod(x)
        graph = graphc.Graph([x], {"h": graphc.hessian(out, x), "g": graphc.grad(out, x)})
        found = graph.evaluate({x: np.array(row)})
        others = [row[1] * row[2], row[0] * row[2], row[0] * row[1]]
        np.testing.assert_allclose(found["g"], others)
        a, b, c = row
        np.testing.assert_allclose(found["h"], [[0, c, b], [c, 0, a], [b, a, 0]])


def test_gradient_of_max_is_shared_by_ties() -> None:
    x = graphc.placeholder((4,), "float64")
    graph = graphc.Graph([x], {"g": graphc.grad(graphc.max(x), x)})
    np.testing.assert_allclose(
        graph.evaluate({x: np.array([1.0, 3.0, 3.0, 0.0])})["g"], [0, 0.5, 0.5, 0]
    )


def test_gradient_of_std_of_equal_elements_is_finite() -> None:
    x = graphc.placeholder((4,), "float64")
    graph = graphc.Graph([x], {"g": graphc.grad(graphc.std(x), x)})
    np.testing.assert_array_equal(graph.evaluate({x: np.ones(4)})["g"], np.zeros(4))


SYMBOLIC: dict[str, tuple[Callable[[Tensor], Any], Callable[[Array], Any]]] = {
    "flip": (graphc.flip, np.flip),
    "roll": (lambda x: graphc.roll(x, 3, axis=0), lambda x: np.roll(x, 3, 0)),
    "concat": (lambda x: graphc.concat([x, x * 2, x]), lambda x: np.concatenate([x, x * 2, x])),
    "pad": (lambda x: graphc.pad(x, ((1, 2), (0, 0))), lambda x: np.pad(x, ((1, 2), (0, 0)))),
    "flatten": (lambda x: graphc.reshape(x, (-1,)), np.ravel),
    "reflect": (
        lambda x: graphc.pad(x, ((2, 1), (0, 0)), mode="reflect"),
        lambda x: np.pad(x, ((2, 1), (0, 0)), "reflect"),
    ),
    "windows": (
        lambda x: graphc.windows(x, 3, 2, axes=0),
        lambda x: np.lib.stride_tricks.sliding_window_view(x, 3, 0)[::2],
    ),
    "sort": (lambda x: graphc.sort(x, axis=0), lambda x: np.sort(x, 0)),
    "median": (lambda x: graphc.median(x, axis=0), lambda x: np.median(x, 0)),
    "mean": (lambda x: graphc.mean(x, axis=0), lambda x: x.mean(0)),
    "var": (lambda x: graphc.var(x, axis=0, correction=1), lambda x: x.var(0, ddof=1)),
    "gram": (lambda x: x.T @ x, lambda x: x.T @ x),
    "gram2": (lambda x: x @ x.T, lambda x: x @ x.T),
    "diagonal": (lambda x: graphc.diagonal(x @ x.T), lambda x: np.diagonal(x @ x.T)),
    "cumsum": (lambda x: graphc.cumulative_sum(x, axis=0), lambda x: np.cumsum(x, 0)),
    "diff": (lambda x: graphc.diff(x, axis=0), lambda x: np.diff(x, axis=0)),
    "tile": (lambda x: graphc.tile(x, (2, 2)), lambda x: np.tile(x, (2, 2))),
    "repeat": (lambda x: graphc.repeat(x, 2, axis=0), lambda x: np.repeat(x, 2, 0)),
}


@pytest.mark.parametrize("name", SYMBOLIC)
@pytest.mark.parametrize("size", [5, 8, 9])
def test_symbolic_sizes(name: str, size: int) -> None:
    ours, theirs = SYMBOLIC[name]
    x = graphc.placeholder(("n", 3), "float64")
    data = RNG.normal(size=(size, 3))
    out = ours(x)
    cost = graphc.sum(out * out)
    graph = graphc.Graph([x], {"out": out, "g": graphc.grad(cost, x)})
    found = graph.evaluate({x: data})
    np.testing.assert_allclose(found["out"], theirs(data), rtol=1e-12, atol=1e-12)
    assert found["g"].shape == data.shape


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "inner": (
        lambda: graphc.placeholder((4, 5), name="u") @ graphc.placeholder((4, 5), name="v"),
        graphc.ShapeError,
        r"matmul: inner dimensions differ: 5 \(u, dim 1\) and 4 \(v, dim 0\)"
        r"[\s\S]*hint: did you mean graphc.matmul\(u, v.T\)",
    ),
    "0-d matmul": (
        lambda: graphc.matmul(A, 2.0),
        graphc.ShapeError,
        "0-d operands[\\s\\S]*x1 \\* x2",
    ),
    "batch": (
        lambda: graphc.matmul(A, A.transpose(0, 2, 1)[:2]),
        graphc.ShapeError,
        "batch dims do not broadcast: 3 and 2",
    ),
    "axis": (
        lambda: graphc.sum(A, axis=3),
        graphc.ShapeError,
        "sum: axis 3 is out of bounds for 3 dims[\\s\\S]*-3 to 2",
    ),
    "axis twice": (lambda: graphc.sum(A, axis=(0, -3)), graphc.ShapeError, "axis is given twice"),
    "empty max": (
        lambda: graphc.max(np.zeros((0, 3)), axis=0),
        graphc.ShapeError,
        "max: nothing to choose from",
    ),
    "reshape": (
        lambda: graphc.reshape(A, (7, -1)),
        graphc.ShapeError,
        "60 elements cannot be divided",
    ),
    "reshape sizes": (
        lambda: graphc.reshape(A, (7, 9)),
        graphc.ShapeError,
        "60 elements, .* has 63",
    ),
    "reshape symbolic": (
        lambda: graphc.reshape(graphc.placeholder(("n",)), (-1, 4)),
        graphc.ShapeError,
        "multiple_of=4",
    ),
    "squeeze": (lambda: graphc.squeeze(A, 1), graphc.ShapeError, "dim 1 has size 4, not 1"),
    "concat": (lambda: graphc.concat([A, A[:, :2]]), graphc.ShapeError, "does not fit"),
    "concat nothing": (lambda: graphc.concat([]), graphc.ShapeError, "non-empty"),
    "stack": (lambda: graphc.stack([A, V]), graphc.ShapeError, "stack: shapes"),
    "nonzero": (lambda: graphc.nonzero(A[0, 0, 0]), graphc.ShapeError, "nonzero: x is 0-d"),
    "top_k": (lambda: graphc.top_k(V, 8), graphc.ShapeError, "k must be an int from 0 to 7"),
    "quantile": (lambda: graphc.quantile(V, 1.5), graphc.ShapeError, "from 0 to 1"),
    "einsum": (
        lambda: graphc.einsum("ij,jk->ik", A, V),
        graphc.ShapeError,
        "does not name the 3 dims of operand 0",
    ),
    "einsum sizes": (
        lambda: graphc.einsum("ij,jk->ik", I, I),
        graphc.ShapeError,
        "'j' stands for sizes 6 and 4",
    ),
    "einsum result": (lambda: graphc.einsum("ij->ik", I), graphc.ShapeError, "letters of operands"),
    "cumulative": (lambda: graphc.cumulative_sum(A), graphc.ShapeError, "needs an axis"),
    "permute": (lambda: graphc.permute_dims(A, (0, 1)), graphc.ShapeError, "all 3 dims"),
    "windows": (lambda: graphc.windows(V, 9), graphc.ShapeError, "does not fit axis 0 of size 7"),
    "T": (lambda: graphc.constant(A).T, graphc.ShapeError, "exactly 2 dims[\\s\\S]*mT"),
    "broadcast": (lambda: graphc.broadcast_to(V, (7, 2)), graphc.ShapeError, "does not broadcast"),
    "mean dtype": (
        lambda: graphc.mean(V, dtype="int32"),
        graphc.DTypeError,
        "mean: expected float16",
    ),
    "repeat tensor": (
        lambda: graphc.repeat(V, graphc.constant(I[0])),
        graphc.ShapeError,
        "one count for each of the 7 elements",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors_say_what_and_where(name: str) -> None:
    wrong, error, text = REFUSED[name]
    with pytest.raises(error, match=text) as caught:
        wrong()
    assert "test_public.py" in str(caught.value)
