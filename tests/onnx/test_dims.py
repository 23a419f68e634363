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
