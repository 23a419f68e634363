"""Transposed copies by tiles: the same elements, and nothing beside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphc
from graphc import compiler
from graphc.base.target import Target
from graphc.ir.graph import Graph
from graphc.kernels.transpose_cpu import TransposeTemplate
from tests.conformance.running import RUNNABLE, Compiled

CASES = [
    ((70, 130), (1, 0)),
    ((17, 16), (1, 0)),
    ((2, 40, 3, 65), (0, 2, 3, 1)),
    ((33, 1, 5, 20), (3, 1, 2, 0)),
    ((20, 64, 18), (2, 0, 1)),
]


def _graph(shape: tuple[object, ...], axes: tuple[int, ...], dtype: str) -> Graph:
    x = graphc.placeholder(shape, dtype, name="x")
    return Graph.build([("x", x)], [("out", graphc.permute_dims(x, axes))], (), "transpose", {})


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bool"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_elements_change_places(
    monkeypatch: pytest.MonkeyPatch, case: tuple[tuple[int, ...], tuple[int, ...]], dtype: str
) -> None:
    shape, axes = case
    monkeypatch.setattr(compiler, "TEMPLATES", (TransposeTemplate(least=0),))
    compiled = Compiled(_graph(shape, axes, dtype), optimize=True, numerics="standard")
    assert "%tile" in compiled.compilation.stage("loops"), "the template was not used"
    x = np.random.default_rng(1).integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)
    np.testing.assert_array_equal(compiled({"x": x})["out"], x.transpose(axes), strict=True)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda t: t.name)
def test_sizes_that_run_time_knows(monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    monkeypatch.setattr(compiler, "TEMPLATES", (TransposeTemplate(least=0),))
    rows, columns = graphc.Dim("rows", min=16), graphc.Dim("columns", min=16)
    graph = _graph((rows, columns), (1, 0), "float32")
    compiled = Compiled(graph, optimize=True, numerics="standard", target=target)
    assert "%tile" in compiled.compilation.stage("loops"), "the template was not used"
    for shape in ((16, 16), (100, 65), (64, 128)):
        x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
        np.testing.assert_array_equal(compiled({"x": x})["out"], x.T, strict=True)


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", ["float64", "int16"])
@pytest.mark.parametrize("few", [2, 3, 5])
def test_rows_of_few_elements(
    monkeypatch: pytest.MonkeyPatch, few: int, dtype: str, target: Target
) -> None:
    monkeypatch.setattr(compiler, "TEMPLATES", (TransposeTemplate(least=0),))
    shape = (2, few, 21, 27)  # a block and a part of one, which ends within a vector
    graph = _graph(shape, (0, 2, 3, 1), dtype)
    compiled = Compiled(graph, optimize=True, numerics="standard", target=target)
    assert f"for c in {few} {{" in compiled.compilation.stage("loops"), "the template was not used"
    x = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    np.testing.assert_array_equal(compiled({"x": x})["out"], x.transpose(0, 2, 3, 1), strict=True)


def _biased(x: graphc.Tensor, y: graphc.Tensor) -> graphc.Tensor:
    return graphc.exp(x.T * 0.1) + y - x.T


def _of_two(x: graphc.Tensor, y: graphc.Tensor) -> graphc.Tensor:
    return graphc.where(x.T > 0, x.T, (y.T * 2).T.T)


def _of_two_dtypes(x: graphc.Tensor, y: graphc.Tensor) -> graphc.Tensor:
    return graphc.astype(x.T + 1, "float64") * y


def _checked(x: graphc.Tensor, y: graphc.Tensor) -> graphc.Tensor:
    return graphc.log(x.T) + y


WORK = {  # shape of the second operand for a first one of (rows, columns)
    _biased: lambda r, c: (c, r),
    _of_two: lambda r, c: (r, c),
    _of_two_dtypes: lambda r, c: (),
    _checked: lambda r, c: (r,),
}


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda t: t.name)
@pytest.mark.parametrize("work", WORK, ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", [(64, 128), (17, 67)], ids=str)
def test_elementwise_work_on_what_was_turned(
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, int],
    work: Callable[[graphc.Tensor, graphc.Tensor], graphc.Tensor],
    target: Target,
) -> None:
    monkeypatch.setattr(compiler, "TEMPLATES", (TransposeTemplate(least=0),))
    x, y = graphc.placeholder(shape, name="x"), graphc.placeholder(WORK[work](*shape), name="y")
    graph = graphc.Graph([x, y], {"out": work(x, y)})
    compiled = Compiled(graph, optimize=True, numerics="standard", target=target)
    assert "%tile" in compiled.compilation.stage("loops"), "the template was not used"
    rng = np.random.default_rng(3)
    feeds = {"x": rng.uniform(0.1, 2, x.shape), "y": rng.uniform(-1, 1, y.shape)}
    feeds = {name: np.asarray(value, np.float32) for name, value in feeds.items()}
    monkeypatch.setattr(compiler, "TEMPLATES", ())
    plain = Compiled(graph, optimize=True, numerics="standard", target=target)
    np.testing.assert_array_equal(compiled(feeds)["out"], plain(feeds)["out"], strict=True)
    wanted = graph.evaluate(feeds)["out"]
    np.testing.assert_allclose(compiled(feeds)["out"], wanted, rtol=2e-6, atol=1e-6)


def test_a_bad_value_in_what_was_turned_is_named() -> None:
    x = graphc.placeholder((600, 800), name="x")
    feed = np.ones((600, 800), np.float32)
    feed[7, 9] = -1
    with graphc.Session(cache_dir="", check_numerics=True) as session:
        function = session.function([x], graphc.log(x.T))
        assert "%tile" in function.explain("loops")
        with pytest.raises(graphc.NumericsError, match="log"):
            function(feed)
