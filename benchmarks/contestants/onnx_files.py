"""Workloads as ONNX files, exported from their torch form: what its run-time libraries read."""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch

from benchmarks.contestants import with_torch
from benchmarks.workloads.workload import Data, Unsupported, Workload


class _Module(torch.nn.Module):
    """The computation of a workload with its weights as buffers, which become initializers."""

    def __init__(self, workload: Workload, data: Data) -> None:
        super().__init__()
        self._compute = workload.compute
        self._names = list(data.weights)
        for name, array in data.weights.items():
            self.register_buffer(f"weight_{name}", torch.from_numpy(array))

    def forward(self, *x: Any) -> Any:
        weights = {k: getattr(self, f"weight_{k}") for k in self._names}
        found = self._compute(with_torch, x, weights)
        return tuple(found) if isinstance(found, list) else found


def onnx_bytes(workload: Workload, data: Data) -> bytes:
    """The model with inputs x0, x1, …. Raises Unsupported for a training step."""
    if workload.training:
        raise Unsupported("runs models, trains none")
    if workload.model is not None:
        return workload.model()
    names = [f"x{k}" for k in range(len(data.inputs))]
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter's own: deprecations, traced sizes
        torch.onnx.export(
            _Module(workload, data).eval(),
            tuple(torch.from_numpy(a) for a in data.inputs),
            file,
            input_names=names,
            opset_version=20,
            dynamo=False,
        )
    return file.getvalue()
