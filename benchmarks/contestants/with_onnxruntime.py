"""ONNX Runtime on its CPU provider: all graph optimizations, inputs and outputs bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime

from benchmarks.contestants.onnx_files import onnx_bytes
from benchmarks.contestants.running import Running, arrays
from benchmarks.workloads.workload import Workload


class OnnxRuntime:
    """NumPy arrays go in and out through `run`; else both are bound once."""

    version = onnxruntime.__version__

    def __init__(self, threads: int) -> None:
        self._options = onnxruntime.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3

    def build(self, workload: Workload) -> Running:
        data = workload.data()
        session = onnxruntime.InferenceSession(
            onnx_bytes(workload, data), self._options, providers=["CPUExecutionProvider"]
        )
        names = [i.name for i in session.get_inputs()]
        feeds = dict(zip(names, data.inputs, strict=True))

        def values(*others: Any) -> list[Any]:
            given = dict(zip(names, others, strict=True)) if others else feeds
            return arrays(session.run(None, given))

        if workload.numpy_io:
            return Running(
                lambda *x: session.run(None, dict(zip(names, x, strict=True))), data.inputs, values
            )
        binding = session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for output, array in zip(session.get_outputs(), values(), strict=True):
            held = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            binding.bind_ortvalue_output(output.name, held)
        return Running(session.run_with_iobinding, (binding,), values)
