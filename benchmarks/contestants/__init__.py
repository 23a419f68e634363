"""Who takes part: graphc and its peers, each run in a process of its own.

A contestant's module imports its framework at the top, so it is loaded in that process only.
"""

from __future__ import annotations

import ctypes.util
import importlib
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contestants.running import Contestant


@dataclass(frozen=True)
class Entry:
    """module:class of a contestant, the distribution that must be installed, what is set first.

    compiles: first calls are compared among those that compile.
    """

    name: str
    module: str
    kind: str
    needs: str
    environment: dict[str, str] = field(default_factory=dict)
    compiles: bool = True

    def load(self) -> Any:
        """The class. Raises ImportError where its framework is missing."""
        return getattr(importlib.import_module(f"benchmarks.contestants.{self.module}"), self.kind)

    def make(self, threads: int) -> Contestant:
        """The contestant, its framework loaded and its threads set."""
        made: Contestant = self.load()(threads)
        return made


_TF = {"TF_CPP_MIN_LOG_LEVEL": "2"}
_XLA_TF = _TF | {"TF_XLA_FLAGS": "--tf_xla_cpu_global_jit"}

# What its users set: its wheels know of no BLAS.
_BLAS = ",blas__ldflags=-lopenblas" if ctypes.util.find_library("openblas") else ""
_PYTENSOR = {"PYTENSOR_FLAGS": f"floatX=float32,openmp=True{_BLAS}"}

ENTRIES = (
    Entry("graphc", "with_graphc", "Graphc", "graphc"),
    Entry("torch", "with_torch", "Eager", "torch", compiles=False),
    Entry("torch.compile", "with_torch", "Compiled", "torch"),
    Entry("JAX", "with_jax", "Jax", "jax"),
    Entry("ONNX Runtime", "with_onnxruntime", "OnnxRuntime", "onnxruntime"),
    Entry("OpenVINO", "with_openvino", "OpenVino", "openvino"),
    Entry("TensorFlow", "with_tensorflow", "GraphMode", "tensorflow", _TF),
    Entry("TensorFlow XLA", "with_tensorflow", "Xla", "tensorflow", _XLA_TF),
    Entry("PyTensor C", "with_pytensor", "C", "pytensor", _PYTENSOR),
    Entry("PyTensor Numba", "with_pytensor", "Numba", "pytensor", _PYTENSOR),
)


def entry(name: str) -> Entry:
    """The entry of a name. Raises KeyError where there is none."""
    return {e.name: e for e in ENTRIES}[name]
