"""Networks of the `onnx` wheel ("light": their weights are generated) for one image.

graphc and the run-time libraries read the ONNX file; torch, JAX and TensorFlow have no reader, so
they run the same nodes one after the other through the namespace of functions, as a model written
in them would. The file's constant weights give way to random ones, of a size that keeps
activations of size 1.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads.workload import Array, Data, Unsupported, Workload, normal

# Multiplications and additions of the convolutions and products, of one image.
NETWORKS = {"resnet50": 8.18e9, "vgg19": 39.28e9, "densenet121": 5.67e9, "squeezenet": 0.70e9}
TITLES = {
    "resnet50": "ResNet-50",
    "vgg19": "VGG-19",
    "densenet121": "DenseNet-121",
    "squeezenet": "SqueezeNet",
}
IMAGES = 8  # whose errors count; the first is timed


@dataclass(frozen=True)
class Step:
    """A node of the file: what it does, names of what it reads and of its result."""

    op: str
    reads: tuple[str, ...]
    result: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Network:
    """The steps in order, the weights by name, the names of sizes that `flatten` does without, the
    input, the outputs.
    """

    steps: tuple[Step, ...]
    weights: Mapping[str, Array]
    sizes: tuple[str, ...]
    source: str
    shape: tuple[int, ...]
    outputs: tuple[str, ...]


def model_file(name: str) -> Any:
    """The wheel's model, with the values before its last softmax as a further output.

    Probabilities hide differences between scores.
    """
    try:
        onnx = importlib.import_module("onnx")
    except ImportError as missing:
        raise Unsupported(f"needs the package onnx for its file ({missing})") from missing
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    model = onnx.load(folder / f"light_{name}.onnx")
    output = model.graph.output[0].name
    for node in model.graph.node:
        if node.op_type == "Softmax" and node.output[0] == output:
            scores = onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None)
            model.graph.output.append(scores)
    return model


def _draw(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    if len(shape) == 1:  # factors, variances, biases
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    # Matrices stand as (out, in), kernels as (out, in, height, width).
    return rng.standard_normal(shape, np.float32) * np.float32(math.sqrt(2 / math.prod(shape[1:])))


@functools.lru_cache(maxsize=1)
def network(name: str) -> Network:
    """The file of a name as steps, with random weights. Raises Unsupported without `onnx`."""
    model = model_file(name)
    onnx = importlib.import_module("onnx")
    given = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    rng = np.random.default_rng(len(name))
    weights = {k: a for k, a in given.items() if a.dtype == np.float32}
    steps = []
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":
            shape = tuple(int(n) for n in given[node.input[0]])
            weights[node.output[0]] = _draw(shape, rng)
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        steps.append(Step(node.op_type, tuple(node.input), node.output[0], attributes))
    source = next(i for i in model.graph.input if i.name not in given)
    shape = tuple(d.dim_value for d in source.type.tensor_type.shape.dim)
    outputs = tuple(o.name for o in model.graph.output)
    sizes = tuple(k for k in given if k not in weights)
    return Network(tuple(steps), weights, sizes, source.name, shape, outputs)


def onnx_bytes(name: str) -> bytes:
    """The file of the network with its random weights as initializers."""
    found, model = network(name), model_file(name)
    onnx = importlib.import_module("onnx")
    kept = [n for n in model.graph.node if n.op_type != "ConstantOfShape"]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    stored = {t.name for t in model.graph.initializer}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(a, k) for k, a in found.weights.items() if k not in stored
    )
    text: bytes = model.SerializeToString()
    return text


def _edge(step: Step) -> int:
    pads = step.attributes.get("pads", [0])
    if len(set(pads)) > 1:
        raise Unsupported(f"{step.op} with pads {pads}: not written for the libraries that need it")
    return int(pads[0])


def _conv(ns: Any, step: Step, x: Any, w: Any, b: Any = None) -> Any:
    return ns.conv(x, w, b, stride=step.attributes.get("strides", [1])[0], padding=_edge(step))


def _max_pool(ns: Any, step: Step, x: Any) -> Any:
    size, stride = (step.attributes[k][0] for k in ("kernel_shape", "strides"))
    return ns.max_pool(x, size, stride, _edge(step))


def _avg_pool(ns: Any, step: Step, x: Any) -> Any:
    size, stride = (step.attributes.get(k, [1])[0] for k in ("kernel_shape", "strides"))
    if _edge(step):
        raise Unsupported("an average pool with padding: not written for the libraries it needs")
    return ns.avg_pool(x, size, stride)


def _batch_norm(ns: Any, step: Step, x: Any, *parts: Any) -> Any:
    return ns.batch_norm(x, *parts, step.attributes["epsilon"])


def _softmax(ns: Any, x: Any) -> Any:
    """Of scores (1, classes), or (1, classes, 1, 1) as they come from a global pool."""
    return ns.softmax(x) if len(x.shape) == 2 else ns.as_image(ns.softmax(ns.flatten(x)))


OPS: dict[str, Callable[..., Any]] = {
    "Conv": _conv,
    "MaxPool": _max_pool,
    "AveragePool": _avg_pool,
    "BatchNormalization": _batch_norm,
    "Relu": lambda ns, step, x: ns.relu(x),
    "Sum": lambda ns, step, a, b: a + b,
    # DenseNet scales channels after its normalization: operands (channels,), made (channels, 1, 1).
    "Unsqueeze": lambda ns, step, x: x,
    "Mul": lambda ns, step, x, w: x * ns.channels(w),
    "Add": lambda ns, step, x, b: x + ns.channels(b),
    "Concat": lambda ns, step, *parts: ns.concat_channels(parts),
    "GlobalAveragePool": lambda ns, step, x: ns.global_avg_pool(x),
    "Reshape": lambda ns, step, x, _: ns.flatten(x),
    "Dropout": lambda ns, step, x: x,
    "Gemm": lambda ns, step, x, w, b: ns.linear(x, ns.transpose(w, (1, 0)), b),
    "Softmax": lambda ns, step, x: _softmax(ns, x),
}


def _compute(name: str) -> Callable[[Any, Sequence[Any], Mapping[str, Any]], Any]:
    def compute(ns: Any, x: Sequence[Any], w: Mapping[str, Any]) -> Any:
        found = network(name)
        values = {**w, found.source: ns.image(x[0])} | dict.fromkeys(found.sizes)
        for step in found.steps:
            operands = [values[k] for k in step.reads]
            values[step.result] = OPS[step.op](ns, step, *operands)
        return [values[k] for k in found.outputs]

    return compute


def light(name: str) -> Workload:
    """Inference of a network of NETWORKS, batch 1."""

    def data() -> Data:
        found = network(name)
        further = tuple((normal(*found.shape, seed=k),) for k in range(1, IMAGES))
        return Data((normal(*found.shape),), found.weights, further)

    return Workload(
        f"{TITLES[name]}, batch 1",
        "light networks",
        data,
        _compute(name),
        flops=NETWORKS[name],
        model=lambda: onnx_bytes(name),
    )


def workloads(*, tiny: bool = False) -> list[Workload]:
    """The rows of the table; they have one size only, which is not tiny."""
    return [] if tiny else [light(name) for name in NETWORKS]
