"""Exported models, checked and run: by ONNX's reference evaluator, by ONNX Runtime where it is."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from graphc.base.dtypes import Array, bfloat16
from graphc.ir.graph import Graph

pytest.importorskip("onnx", reason="the package onnx is not installed")
onnx = importlib.import_module("onnx")
RUNTIME = importlib.util.find_spec("onnxruntime") is not None


def model_of(graph: Graph, opset: int = 21) -> Any:
    """The checked model of a graph: types and shapes of every value are inferred and compared."""
    made = importlib.import_module("graphc.onnx.exporting.model").model_of(graph, opset)
    onnx.checker.check_model(made, full_check=True)
    return made


def operators(model: Any) -> list[str]:
    """The operators of a model, in order."""
    return [node.op_type for node in model.graph.node]


def _host(array: Array, bf16: bool) -> Array:
    return array.astype(importlib.import_module("ml_dtypes").bfloat16) if bf16 else array


def run_reference(graph: Graph, model: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by ONNX's reference evaluator, bfloat16 as float32."""
    kinds = {name: t.dtype is bfloat16 for name, t in graph.inputs}
    given = {name: _host(np.asarray(a), kinds[name]) for name, a in feeds.items()}
    evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator(model)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = evaluator.run(None, given)
    arrays = (np.asarray(a) for a in found)
    plain = (a.astype(np.float32) if a.dtype.name == "bfloat16" else a for a in arrays)
    return dict(zip(dict(graph.outputs), plain, strict=True))


def run_runtime(graph: Graph, model: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs by ONNX Runtime on the CPU."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = session.run(None, {name: np.asarray(a) for name, a in feeds.items()})
    return dict(zip(dict(graph.outputs), found, strict=True))


def assert_close(got: Array, expected: Array, what: str, relative: float, absolute: float) -> None:
    """Equal dtypes, shapes and values; floats up to the tolerances, NaN and infinities in place."""
    assert got.dtype == expected.dtype, f"{what}: {got.dtype}, expected {expected.dtype}"
    assert got.shape == expected.shape, f"{what}: {got.shape}, expected {expected.shape}"
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(got, expected, err_msg=what)
        return
    np.testing.assert_allclose(got, expected, relative, absolute, err_msg=what)


def assert_same(graph: Graph, feeds: Mapping[str, Array], opset: int = 21) -> Any:
    """Export, check, run everywhere, compare with the graph's own meaning. Returns the model."""
    model = model_of(graph, opset)
    expected = graph.evaluate(feeds)
    runs = [("reference", run_reference)]
    if RUNTIME:
        runs.append(("runtime", run_runtime))
    for label, run in runs:
        found = run(graph, model, feeds)
        for name, value in expected.items():
            narrow = value.dtype.name == "float16"
            tolerance = (2e-3, 1e-4) if narrow else (1e-4, 1e-5)
            assert_close(found[name], value, f"{label}: {name}", *tolerance)
    return model
