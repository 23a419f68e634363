"""Sizes that the graph computes: the reference meaning against NumPy, text, names and errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.ir.bindings import bindings_of

RANDOM = np.random.default_rng(5)


def evaluated(outputs: dict[str, graphc.Tensor], **feeds: Any) -> dict[str, Any]:
    """The values, by the graph and by the graph that its text gives."""
    inputs = {n.name: n for n in _placeholders(outputs.values())}
    graph = graphc.Graph([inputs[name] for name in feeds], outputs)
    again = graphc.parse(str(graph))
    assert again == graph
    found, parsed = graph.evaluate(feeds), again.evaluate(feeds)
    for name, value in found.items():
        np.testing.assert_array_equal(value, parsed[name])
    return found


def _placeholders(outputs: Iterable[graphc.Tensor]) -> list[Any]:
    named = tuple((str(k), t) for k, t in enumerate(outputs))
    sizes = bindings_of(t for _, t in named)
    graph = graphc.Graph.build((), named, (), "g", {}, sizes)
    return [n for n in graph.nodes if n.op.name == "placeholder"]


MASKS = {
    "some": np.array([[True, False, True], [False, False, True]]),
    "none": np.zeros((2, 3), bool),
    "all": np.ones((2, 3), bool),
    "no rows": np.zeros((0, 3), bool),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks(kind: str) -> None:
    mask = MASKS[kind]
    values = RANDOM.normal(size=(*mask.shape, 2)).astype(np.float32)
    m = graphc.placeholder(("n", 3), "bool", name="m")
    x = graphc.placeholder(("n", 3, 2), name="x")
    rows, columns = graphc.nonzero(m)
    found = evaluated(
        {
            "x[m]": x[m],
            "x[m, 1]": x[m, 1],
            "x[..., m[0]]" if mask.shape[0] else "x[m] again": x[m],
            "rows": rows,
            "columns": columns,
            "argwhere": graphc.argwhere(m),
            "count": graphc.asarray(x[m].shape[0]),
        },
        m=mask,
        x=values,
    )
    np.testing.assert_array_equal(found["x[m]"], values[mask])
    np.testing.assert_array_equal(found["x[m, 1]"], values[mask, 1])
    np.testing.assert_array_equal(found["rows"], mask.nonzero()[0])
    np.testing.assert_array_equal(found["columns"], mask.nonzero()[1])
    np.testing.assert_array_equal(found["argwhere"], np.argwhere(mask))
    assert found["count"] == mask.sum()


@pytest.mark.parametrize(
    "values",
    [
        np.array([3, 1, 2, 3, 1, 7]),
        np.zeros(0, np.int64),
        np.full(4, 9),
        np.array([[2, 1], [1, 0]]),
        np.array([1.5, np.nan, -0.0, 0.0, np.nan]),
        np.array([True, False, True]),
    ],
    ids=str,
)
def test_unique(values: Any) -> None:
    x = graphc.placeholder((None,) * values.ndim, values.dtype.name, name="x")
    found = evaluated(dict(graphc.unique_all(x)._asdict()), x=values)
    expected = np.unique_all(values)
    for name in ("values", "indices", "inverse_indices", "counts"):
        np.testing.assert_array_equal(found[name], getattr(expected, name), err_msg=name)
    parts = [graphc.unique_values(x), *graphc.unique_counts(x), *graphc.unique_inverse(x)]
    again = evaluated({str(k): t for k, t in enumerate(parts)}, x=values)
    for k, name in enumerate(("values", "values", "counts", "values", "inverse_indices")):
        np.testing.assert_array_equal(again[str(k)], found[name])


BOUNDS = [(None, 2), (1, None), (-3, -1), (4, 2), (-99, 99), (2, -99), (0, 0)]


@pytest.mark.parametrize("step", [1, 2, -1, -3])
def test_slices_with_computed_bounds(step: int) -> None:
    values = np.arange(7)
    x = graphc.placeholder(("n",), "int64", name="x")
    a = graphc.placeholder((), "int64", name="a")
    b = graphc.placeholder((), "int32", name="b")
    whole, first, last = x[a:b:step], x[a::step], x[:b:step]
    for start, stop in BOUNDS:
        feeds = {"x": values, "a": np.int64(start or 0), "b": np.int32(stop or 0)}
        found = evaluated({"whole": whole, "first": first, "last": last}, **feeds)
        np.testing.assert_array_equal(found["whole"], values[start or 0 : stop or 0 : step])
        np.testing.assert_array_equal(found["first"], values[start or 0 :: step])
        np.testing.assert_array_equal(found["last"], values[: stop or 0 : step])


def test_tensors_as_bounds_are_clamped_as_python_clamps() -> None:
    x = graphc.placeholder(("n",), "int64", name="x")
    early = graphc.constant(-3)
    for values in (np.arange(9), np.arange(1)):
        found = evaluated(
            {"end": x[early:], "half": x[graphc.asarray(x.shape[0]) // 2 :]}, x=values
        )
        np.testing.assert_array_equal(found["end"], values[-3:])
        np.testing.assert_array_equal(found["half"], values[len(values) // 2 :])
    assert not graphc.Graph([x], x[graphc.asarray(x.shape[0]) // 2 :]).bindings


def test_sizes_are_dims_like_others() -> None:
    count = graphc.placeholder((), "int64", name="count")
    n = graphc.as_dim(count, "rows", min=1, max=9)
    assert graphc.as_dim(count, "rows", min=1, max=9) == n
    assert graphc.as_dim(count) != n
    assert str(n).startswith("rows")
    found = evaluated(
        {
            "zeros": graphc.zeros((n, 2 * n + 1)),
            "steps": graphc.arange(n - 1),
            "size": graphc.asarray(n) * n,
            "named": graphc.ones((count,)),
        },
        count=np.int64(4),
    )
    assert found["zeros"].shape == (4, 9)
    np.testing.assert_array_equal(found["steps"], np.arange(3))
    assert found["size"] == 16
    assert found["named"].shape == (4,)


def test_arithmetic_on_known_sizes_gives_these() -> None:
    x = graphc.placeholder(("n", 3), name="x")
    n = x.shape[0]
    assert graphc.as_dim(graphc.asarray(n) * 2 + 1) == 2 * n + 1
    assert graphc.as_dim(graphc.constant(5)) == 5
    assert graphc.as_dim(n) == n
    assert graphc.as_dim(3) == 3
    assert graphc.Graph([x], graphc.zeros((graphc.asarray(n) // 2,))).bindings == ()


def test_two_phases() -> None:
    values = RANDOM.normal(size=30)
    x = graphc.placeholder(("n",), "float64", name="x")
    above = x[x > 0]
    small = above[above < graphc.mean(above)]
    found = evaluated({"small": small, "sum": graphc.sum(small)}, x=values)
    expected = values[values > 0]
    expected = expected[expected < expected.mean()]
    np.testing.assert_array_equal(found["small"], expected)
    np.testing.assert_allclose(found["sum"], expected.sum())


def test_the_optimized_graph_means_the_same() -> None:
    x = graphc.placeholder(("n", 4), name="x")
    kept = graphc.exp(graphc.log(x[x > 0.5])) * 1 + 0
    graph = graphc.Graph([x], {"kept": kept, "count": graphc.asarray(kept.shape[0])})
    values = RANDOM.uniform(size=(5, 4)).astype(np.float32)
    for numerics in ("exact", "standard", "fast"):
        optimized = graph.optimize(numerics)
        assert graphc.parse(str(optimized)) == optimized
        found = optimized.evaluate({"x": values})
        np.testing.assert_allclose(found["kept"], values[values > 0.5], rtol=1e-6)
        assert found["count"] == (values > 0.5).sum()


def test_a_size_out_of_its_bounds_names_the_line() -> None:
    count = graphc.placeholder((), "int64", name="count")
    n = graphc.as_dim(count - 2, max=3)
    graph = graphc.Graph([count], graphc.zeros((n,)))
    assert graph.evaluate({"count": 5})["output"].shape == (3,)
    for wrong in (1, 6):
        with pytest.raises(graphc.ExecutionError, match=r"max=3.*it is -?\d[\s\S]*count - 2"):
            graph.evaluate({"count": wrong})


def test_compress() -> None:
    x = graphc.placeholder((4, None), "int64", name="x")
    c = graphc.placeholder((3,), "bool", name="c")
    values, keep = np.arange(20).reshape(4, 5), np.array([True, False, True])
    found = evaluated(
        {"rows": graphc.compress(c, x, axis=0), "flat": graphc.compress(c, x)}, x=values, c=keep
    )
    np.testing.assert_array_equal(found["rows"], np.compress(keep, values, axis=0))
    np.testing.assert_array_equal(found["flat"], np.compress(keep, values))


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("  dim k = %x\n", "the label of an i64"),
        ("  dim n min=0 = %c\n", "another name"),
        ("  dim k = %nothing\n", "a tensor defined above"),
        ("  dim k min=5 max=2 = %c\n", "leave no size"),
    ],
)
def test_wrong_texts(line: str, complaint: str) -> None:
    text = (
        'graph "g" {\n  dim n min=0\n  input %x "x" : f32[n]\n  input %c "c" : i64[]\n'
        f'{line}  output "o" = %x\n}}'
    )
    with pytest.raises(graphc.FormatError, match=complaint):
        graphc.parse(text)
