"""OpenVINO on the CPU: the ONNX model compiled for latency, in full float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino

from benchmarks.contestants.onnx_files import onnx_bytes
from benchmarks.contestants.running import Running, arrays
from benchmarks.workloads.workload import Workload


class OpenVino:
    """One request; results are copied where NumPy arrays must come out, else looked at in place."""

    version = openvino.__version__.split("-")[0]

    def __init__(self, threads: int) -> None:
        self._core = openvino.Core()
        self._settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # by itself it takes bfloat16 where there is any
        }

    def build(self, workload: Workload) -> Running:
        data = workload.data()
        model = self._core.read_model(onnx_bytes(workload, data), b"")
        compiled = self._core.compile_model(model, "CPU", self._settings)
        request = compiled.create_infer_request()
        inputs = [np.ascontiguousarray(a) for a in data.inputs]

        def run(*x: Any) -> Any:
            return request.infer(list(x), share_inputs=True, share_outputs=not workload.numpy_io)

        def values(*others: Any) -> list[Any]:
            found = run(*(map(np.ascontiguousarray, others) if others else inputs))
            return arrays([found[k] for k in range(len(compiled.outputs))])

        return Running(run, tuple(inputs), values)
