"""How long do products of 8-bit integers and 16-bit floats take?

ONNX models of one operator, in graphc and in ONNX Runtime where the interpreter has it: matrices,
constant or not, and quantized convolutions. Then matrices of 16-bit floats beside float32, with
torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import graphc
from benchmarks.measure import Timing, measure, readable
from benchmarks.table import Row
from graphc.base.dtypes import Array

THREADS, ROUNDS = 2, 5
Call = Callable[[], object]
MATRICES = ((512, 512, 512), (64, 784, 500), (1, 2048, 1000))
CONVOLUTIONS = ((64, 64, 56, 3), (256, 64, 56, 1))  # channels, results, pixels, window
KINDS = (("uint8", "int8"), ("int8", "int8"), ("uint8", "uint8"))


def run() -> Iterator[Row]:
    """A row per product."""
    with graphc.Session(threads=THREADS) as session:
        if importlib.util.find_spec("onnx"):
            for m, k, n in MATRICES:
                for constant in (True, False):
                    for left, right in KINDS:
                        what = f"{left} {m}×{k} by {right} {k}×{n}"
                        model, feeds = _product((m, k, n), left, right, constant)
                        text = what + (", constant" if constant else "")
                        yield {"product": text, **_timed(_models(session, model, feeds))}
            for channels, results, pixels, window in CONVOLUTIONS:
                model, feeds = _convolution(channels, results, pixels, window)
                what = f"QLinearConv {window}×{window} {channels}→{results} {pixels}²"
                yield {"product": what, **_timed(_models(session, model, feeds))}
        for m, k, n in MATRICES:
            for dtype in ("float32", "bfloat16", "float16"):
                yield {
                    "product": f"{dtype} {m}×{k}×{n}",
                    **_timed(_floats(session, m, k, n, dtype)),
                }


def _timed(calls: dict[str, Call]) -> Row:
    """The best medians of rounds in which each has a turn; threads of the last one may spin."""
    best: dict[str, Timing] = {}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            time.sleep(0.05)
            found = measure(call, seconds=0.05, rounds=3)
            if name not in best or found.median < best[name].median:
                best[name] = found
    return {name: readable(timing.median) for name, timing in best.items()}


def _numbers(shape: tuple[int, ...], dtype: str, seed: int) -> Array:
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return np.asarray(rng.integers(limits.min, limits.max + 1, shape).astype(dtype))


def _product(
    sizes: tuple[int, int, int], left: str, right: str, constant: bool
) -> tuple[object, dict[str, Array]]:
    m, k, n = sizes
    a, b = _numbers((m, k), left, 0), _numbers((k, n), right, 1)
    fixed = {"b": b} if constant else {}
    feeds = {"a": a} | ({} if constant else {"b": b})
    return _model("MatMulInteger", ["a", "b"], fixed, feeds, ("int32", (m, n))), feeds


def _convolution(
    channels: int, results: int, pixels: int, window: int
) -> tuple[object, dict[str, Array]]:
    x = _numbers((1, channels, pixels, pixels), "uint8", 2)
    fixed = {
        "x_scale": np.float32(0.02),
        "x_zero": np.uint8(113),
        "w": _numbers((results, channels, window, window), "int8", 3),
        "w_scale": np.linspace(0.001, 0.01, results, dtype=np.float32),
        "w_zero": np.zeros(results, np.int8),
        "y_scale": np.float32(3.0),
        "y_zero": np.uint8(101),
        "bias": np.arange(results, dtype=np.int32),
    }
    out = ("uint8", (1, results, pixels, pixels))
    pads = [window // 2] * 4
    return _model("QLinearConv", ["x", *fixed], fixed, {"x": x}, out, pads=pads), {"x": x}


def _model(
    op: str,
    names: list[str],
    fixed: dict[str, Array],
    feeds: dict[str, Array],
    out: tuple[str, tuple[int, ...]],
    **attributes: object,
) -> object:
    """An ONNX model of one operator."""
    onnx = importlib.import_module("onnx")
    helper = onnx.helper

    def info(name: str, dtype: str, shape: tuple[int, ...]) -> object:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **attributes)],
        "product",
        [info(name, array.dtype.name, array.shape) for name, array in feeds.items()],
        [info("y", *out)],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in fixed.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _models(session: graphc.Session, model: object, feeds: dict[str, Array]) -> dict[str, Call]:
    onnx = importlib.import_module("onnx")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "product.onnx"
        onnx.save(model, path)
        graph = graphc.onnx.load(path)
        function = session.function([t for _, t in graph.inputs], [t for _, t in graph.outputs])
        arrays = [feeds[name] for name, _ in graph.inputs]
        calls: dict[str, Call] = {"graphc": lambda: function(*arrays)}
        if importlib.util.find_spec("onnxruntime"):
            runtime = importlib.import_module("onnxruntime")
            options = runtime.SessionOptions()
            options.intra_op_num_threads = THREADS
            made = runtime.InferenceSession(str(path), options)
            calls["ONNX Runtime"] = lambda: made.run(None, feeds)
            np.testing.assert_array_equal(function(*arrays)[0], made.run(None, feeds)[0])
    return calls


def _floats(session: graphc.Session, m: int, k: int, n: int, dtype: str) -> dict[str, Call]:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n))]
    if dtype == "float16":
        arrays = [a.astype(np.float16) for a in arrays]
    elif dtype == "bfloat16" and importlib.util.find_spec("ml_dtypes"):
        arrays = [a.astype(importlib.import_module("ml_dtypes").bfloat16) for a in arrays]
    x, w = (graphc.placeholder(a.shape, dtype) for a in arrays)
    function = session.function([x, w], x @ w)
    calls: dict[str, Call] = {"graphc": lambda: function(*arrays)}
    if importlib.util.find_spec("torch"):
        torch = importlib.import_module("torch")
        torch.set_num_threads(THREADS)
        a, b = (torch.tensor(v.astype(np.float32)).to(getattr(torch, dtype)) for v in arrays)
        calls["torch"] = lambda: torch.matmul(a, b)
    return calls
