"""Transposed copies by tiles: the same elements, and nothing beside them."""

from __future__ import annotations

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
