"""The light models with random weights, beside ONNX Runtime.

Their own weights are one constant each, so that a wrong layout of a kernel would not show.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import graphc

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = sorted(p.stem.removeprefix("light_") for p in LIGHT.glob("*.onnx"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("onnxruntime") is None,
        reason="onnxruntime is not installed: pip install onnxruntime to compare",
    ),
]


def random_weights(model: Any, seed: int) -> None:
    """Random initializers in place of the constants, of a size that keeps activations of size 1."""
    graph = model.graph
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    rng = np.random.default_rng(seed)
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = tuple(int(n) for n in shapes[node.input[0]])
        if len(shape) == 1:
            array = rng.uniform(0.5, 1.5, shape)  # factors, variances, biases
        else:
            # Matrices stand as [out, in], kernels as [out, in, height, width].
            array = rng.normal(size=shape) * math.sqrt(2.0 / math.prod(shape[1:]))
        tensor = numpy_helper.from_array(array.astype(np.float32), node.output[0])
        graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)


def with_scores(model: Any) -> None:
    """What the last softmax reads as a further output: probabilities hide differences."""
    for node in model.graph.node:
        if node.op_type == "Softmax" and node.output[0] == model.graph.output[0].name:
            info = onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None)
            model.graph.output.append(info)
            return


@pytest.mark.parametrize("name", NAMES)
def test_random_weights_agree_with_onnxruntime(name: str, tmp_path: Path) -> None:
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    random_weights(model, seed=len(name))
    with_scores(model)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    initialized = {t.name for t in model.graph.initializer}
    data = next(i for i in model.graph.input if i.name not in initialized)
    shape = [d.dim_value for d in data.type.tensor_type.shape.dim]
    image = np.random.default_rng(7).normal(size=shape).astype(np.float32)

    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected = runtime.InferenceSession(path, options).run(None, {data.name: image})

    graph = graphc.onnx.load(path)
    with graphc.Session() as session:
        function = session.function([t for _, t in graph.inputs], dict(graph.outputs))
        found = list(function(image).values())
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.isfinite(theirs).all() and theirs.std() > 0
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=2e-4 * np.abs(theirs).max())
