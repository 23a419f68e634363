"""How large is a model that runs without Python, beside the libraries that peers need for it?

Ours: the file that `graphc.compile` writes, beyond its weights; it needs libc and nothing else.
Peers: the shared libraries that a C or C++ program must carry to run any model, as the installed
wheels hold them (only those that are installed here; `pip install torch==2.13.0 onnxruntime
tflite-runtime jaxlib` adds them).
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path

import graphc
from benchmarks.models import mlp_step
from benchmarks.table import Row

# Package, and the libraries (by pattern inside it) that a program links at the least.
PEERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "libtorch (AOTInductor), CPU": ("torch", ("lib/libtorch_cpu.so", "lib/libc10.so")),
    "ONNX Runtime, inference only": ("onnxruntime", ("capi/libonnxruntime.so*",)),
    "TensorFlow Lite, inference only": ("tflite_runtime", ("*interpreter_wrapper*.so",)),
    "XLA (jaxlib; with its Python)": ("jaxlib", ("libjax_common.so",)),
}


def graphs() -> dict[str, graphc.Graph]:
    """The multilayer perceptron 784-512-256-10 and its training step with Adam."""
    step = mlp_step()
    x, t = step.inputs
    graph = graphc.Graph([x, t], step.outputs, updates=step.updates)
    # The logits: what the loss is computed from.
    weights = [v for v in graph.variables if "/" not in graph.name_of(v) and v.ndim == 2]
    h = x
    for k, w in enumerate(weights):
        h = (graphc.nn.relu(h) if k else h) @ w + graph[f"b{k}"]
    return {"MLP inference": graphc.Graph([x], {"logits": h}), "MLP training step, Adam": graph}


def run() -> Iterator[Row]:
    """A row per library, for one instruction set and for all."""
    for title, graph in graphs().items():
        for target in ("native", "host"):
            with tempfile.TemporaryDirectory() as folder:
                made = graphc.compile(graph, Path(folder) / "mlp", target=target)
                size = made.library.stat().st_size
            yield {
                "library": f"{title}, {', '.join(made.targets)}",
                "KB": f"{size / 1024:,.0f}",
                "weights KB": f"{made.size.weight_bytes / 1024:,.0f}",
                "beyond weights KB": f"{(size - made.size.weight_bytes) / 1024:,.1f}",
            }
    for title, (package, patterns) in PEERS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        root = Path(spec.submodule_search_locations[0])
        files = {f for p in patterns for f in root.glob(p)}
        total = sum(f.stat().st_size for f in files)
        yield {
            "library": title,
            "KB": f"{total / 1024:,.0f}",
            "weights KB": "0",
            "beyond weights KB": f"{total / 1024:,.1f}",
        }
