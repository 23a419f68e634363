"""Dims that a model computes from others, and sizes that the caller says to be equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper as h
import pytest

import graphc
import graphc.onnx


def model(path: Path, mask: str, *, opset: int = 21) -> Path:
    """Scores of cached and new keys, with a mask of as many places: how language models come."""
    one = onnx.TensorProto.FLOAT
    graph = h.make_graph(
        [
            h.make_node("Concat", ["past", "new"], ["keys"], axis=1),
            h.make_node("ReduceSum", ["keys", "axes"], ["scores"], keepdims=0),
            h.make_node("Add", ["scores", "mask"], ["out"]),
        ],
        "attention",
        [
            h.make_tensor_value_info("mask", one, ["batch", mask]),
            h.make_tensor_value_info("past", one, ["batch", "past", 3]),
            h.make_tensor_value_info("new", one, ["batch", "seq", 3]),
        ],
        [h.make_tensor_value_info("out", one, None)],
        [h.make_tensor("axes", onnx.TensorProto.INT64, [1], [2])],
    )
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", opset)]), path)
    return path


def run(graph: graphc.Graph, past: int, seq: int) -> None:
    rng = np.random.default_rng(0)
    feeds: dict[Any, Any] = {
        "mask": rng.normal(size=(2, past + seq)).astype(np.float32),
        "past": rng.normal(size=(2, past, 3)).astype(np.float32),
        "new": rng.normal(size=(2, seq, 3)).astype(np.float32),
    }
    with graphc.Session() as session:
        function = session.function([t for _, t in graph.inputs], graph.outputs[0][1])
        found = function(*(feeds[name] for name, _ in graph.inputs))
    expected = np.concatenate([feeds["past"], feeds["new"]], 1).sum(2) + feeds["mask"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("text", ["past + seq", "seq+past", "(2*past + 2*seq) // 2"])
def test_a_dim_may_be_computed_from_others(tmp_path: Path, text: str) -> None:
    graph = graphc.onnx.load(model(tmp_path / "m.onnx", text))
    for past, seq in ((4, 1), (0, 5), (3, 3)):
        run(graph, past, seq)
    with (
        graphc.Session() as session,
        pytest.raises(graphc.ShapeError, match="mask"),
    ):
        session.run(
            graph.outputs[0][1],
            {
                "mask": np.zeros((2, 4), np.float32),
                "past": np.zeros((2, 4, 3), np.float32),
                "new": np.zeros((2, 1, 3), np.float32),
            },
        )


def test_the_caller_may_say_that_a_dim_is_computed(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", "total")
    with pytest.raises(graphc.UnsupportedError, match="Add"):
        graphc.onnx.load(path)
    run(graphc.onnx.load(path, sizes={"total": "past + seq"}), 4, 2)
    run(graphc.onnx.load(path, sizes={"total": "past + seq", "past": 4}), 4, 2)
    run(graphc.onnx.load(path, sizes={"total": "past + 2", "seq": 2}), 4, 2)


@pytest.mark.parametrize("text", ["past +", "other + 1", "total", "past ** 2", "f(past)", "1 // 0"])
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, text: str) -> None:
    path = model(tmp_path / "m.onnx", "total")
    with pytest.raises(graphc.GraphError, match="sizes: 'total' cannot be"):
        graphc.onnx.load(path, sizes={"total": text})


@pytest.mark.parametrize("text", ["past.seq", "f(past)", "?", "((((" * 40, "past - 1 +"])
def test_other_texts_are_names(tmp_path: Path, text: str) -> None:
    path = model(tmp_path / "m.onnx", text)
    with pytest.raises(graphc.UnsupportedError, match="Add"):
        graphc.onnx.load(path)


def pictures(path: Path, nodes: list[object]) -> Path:
    """A model of y from x, pictures of [batch, 2, h, w]."""
    one = onnx.TensorProto.FLOAT
    graph = h.make_graph(
        nodes,
        "pictures",
        [h.make_tensor_value_info("x", one, ["batch", 2, "h", "w"])],
        [h.make_tensor_value_info("y", one, None)],
    )
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 21)], ir_version=10), path)
    return path


def windows(last: str) -> list[object]:
    """Windows of 4 rows: the shape [batch, 2, h // 4, 4, w], one size of it written as -1."""
    return [
        h.make_node("Shape", ["x"], ["batch"], start=0, end=1),
        h.make_node("Shape", ["x"], ["rows"], start=2, end=3),
        h.make_node("Shape", ["x"], ["columns"], start=3, end=4),
        h.make_node("Constant", [], ["four"], value_ints=[4]),
        h.make_node("Constant", [], ["channels"], value_ints=[2]),
        h.make_node("Constant", [], ["rest"], value_ints=[-1]),
        h.make_node("Div", ["rows", "four"], ["count"]),
        h.make_node("Concat", ["batch", "channels", "count", "four", last], ["s"], axis=0),
        h.make_node("Reshape", ["x", "s"], ["y"]),
    ]


@pytest.mark.parametrize("last", ["columns", "rest"])
def test_windows_that_hold_all_elements_where_divisions_are_even(tmp_path: Path, last: str) -> None:
    graph = graphc.onnx.load(pictures(tmp_path / "m.onnx", windows(last)))
    assert str(graph["y"].type) == "f32[batch, 2, (h // 4), 4, w]"
    x = np.arange(96, dtype=np.float32).reshape(2, 2, 8, 3)
    with graphc.Session() as session:
        y = session.function([graph.inputs[0][1]], graph["y"])
        np.testing.assert_array_equal(y(x), x.reshape(2, 2, 2, 4, 3))
        with pytest.raises(graphc.ExecutionError, match="has not as many elements as"):
            y(np.zeros((2, 2, 6, 3), np.float32))


def halves_joined() -> list[object]:
    """Every second row twice, beside all rows: fits where the number of rows is even."""
    return [
        h.make_node("MaxPool", ["x"], ["half"], kernel_shape=[2, 1], strides=[2, 1]),
        h.make_node("Constant", [], ["scales"], value_floats=[1.0, 1.0, 2.0, 1.0]),
        h.make_node("Resize", ["half", "", "scales"], ["whole"]),
        h.make_node("Concat", ["x", "whole"], ["y"], axis=1),
    ]


def test_the_caller_may_say_that_a_dim_is_a_multiple(tmp_path: Path) -> None:
    path = pictures(tmp_path / "m.onnx", halves_joined())
    with pytest.raises(graphc.UnsupportedError) as found:
        graphc.onnx.load(path)
    assert "sizes={'h': graphc.Dim('h', min=2, multiple_of=2)}" in str(found.value)
    graph = graphc.onnx.load(path, sizes={"h": graphc.Dim("h", min=2, multiple_of=2)})
    assert str(graph["y"].type) == "f32[batch, 4, h, w]"
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 6, 2)
    with graphc.Session() as session:
        y = session.function([graph.inputs[0][1]], graph["y"])
        np.testing.assert_array_equal(y(x)[:, 2:], np.repeat(x[:, :, 1::2], 2, axis=2))
        with pytest.raises(graphc.ShapeError, match="h must be at least 2 and a multiple of 2"):
            y(np.zeros((1, 2, 5, 2), np.float32))


def test_a_given_dim_has_a_name_of_its_own(tmp_path: Path) -> None:
    path = pictures(tmp_path / "m.onnx", halves_joined())
    with pytest.raises(graphc.GraphError, match="sizes: 'h' cannot be w: 'w' is another dim"):
        graphc.onnx.load(path, sizes={"h": graphc.Dim("w", multiple_of=2)})


def test_the_last_elements_of_what_is_surely_long_enough(tmp_path: Path) -> None:
    nodes = [
        h.make_node("Constant", [], ["back"], value_ints=[-2]),
        h.make_node("Constant", [], ["axis"], value_ints=[2]),
        h.make_node("Constant", [], ["end"], value_ints=[1 << 62]),
        h.make_node("Slice", ["x", "back", "end", "axis"], ["y"]),
    ]
    path = pictures(tmp_path / "m.onnx", nodes)
    graph = graphc.onnx.load(path, sizes={"h": graphc.Dim("h", min=2)})
    assert str(graph["y"].type) == "f32[batch, 2, 2, w]"
    graph = graphc.onnx.load(path)  # one row is all there is of one
    with graphc.Session() as session:
        y = session.function([graph.inputs[0][1]], graph["y"])
        assert [y(np.zeros((1, 2, n, 3), np.float32)).shape[2] for n in (1, 2, 5)] == [1, 2, 2]
