"""The workloads of the table against peers, at tiny sizes: graphc beside the float64 reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from benchmarks.catalogue import named
from benchmarks.contestants.with_graphc import Graphc
from benchmarks.worker import errors
from benchmarks.workloads import every, light_networks, reference
from benchmarks.workloads.odd_shapes import shapes
from benchmarks.workloads.reference import Value, expected, gradients

TINY = {w.name: w for w in every(tiny=True)}


@pytest.mark.parametrize("name", TINY)
def test_graphc_agrees_with_the_reference(name: str) -> None:
    workload = TINY[name]
    wanted = expected(workload, workload.data())
    running = Graphc(threads=2).build(workload)
    found = running.with_further(running.values(), workload.data())
    assert [a.shape for a in found] == [a.shape for a in wanted]
    for exact in wanted:
        compared = exact[~np.isnan(exact)]
        assert 0.9 * exact.size <= compared.size
        assert np.any(compared)
    # A step of Adam is a gradient over its own size: roundings of small ones show in the changes.
    assert errors(found, wanted)["rms"] < (1e-5 if workload.training else 1e-6)
    running.call(*running.args)  # what is timed


def test_names_differ_and_sizes_are_told() -> None:
    for tiny in (False, True):
        listed = every(tiny=tiny)
        assert len({w.name for w in listed}) == len(listed)
        assert all(w.flops > 0 or w.model for w in listed)


def loss_of_everything(x: Value, w: Value, labels: Value) -> Value:
    """Uses what the workloads use: x (2, 2, 6, 6), w (3, 2, 3, 3)."""
    ns = reference
    h = ns.max_pool(ns.gelu(ns.conv(x, w, padding=1)), 2)
    rows = ns.reshape(h, (2, 3, 9))
    rows = ns.layer_norm(rows, ns.sigmoid(rows[0, 0]), ns.tanh(rows[1, 1]))
    rows = rows + ns.lstm(rows, *(lifted(s) for s in ((9, 36), (9, 36), (36,))))
    heads = ns.reshape(rows, (2, 1, 3, 9))
    mixed = ns.attention(heads, ns.relu(heads), ns.exp(heads) / ns.sqrt(1.0 + heads * heads))
    return ns.cross_entropy(ns.sum(mixed, (1, 2)), labels)


def lifted(shape: tuple[int, ...]) -> Value:
    return Value(np.random.default_rng(shape).normal(size=shape) * 0.3)


@pytest.mark.parametrize("which", (0, 1))
def test_reference_gradients_are_those_of_finite_differences(which: int) -> None:
    operands = [lifted((2, 2, 6, 6)), lifted((3, 2, 3, 3))]
    labels = Value(np.array([1, 7]))
    found = gradients(loss_of_everything(*operands, labels), operands)[which]
    rng = np.random.default_rng(0)
    for _ in range(5):
        direction = rng.normal(size=found.shape)
        ends = []
        for step in (1e-5, -1e-5):
            moved = list(operands)
            moved[which] = Value(operands[which].data + step * direction)
            ends.append(float(loss_of_everything(*moved, labels).data))
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(np.sum(found * direction), slope, rtol=1e-5, atol=1e-8)


def test_names_of_odd_shapes_are_found() -> None:
    for shape in shapes():
        assert named(shape.workload.name) is shape.workload
        assert named(shape.anchor).name == shape.anchor


@pytest.mark.parametrize(
    "name",
    ["squeezenet", *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet50", "densenet121"))],
)
def test_light_networks_agree_with_the_reference(name: str) -> None:
    workload = light_networks.light(name)
    data = workload.data()
    data = replace(data, further=data.further[:1])
    wanted = expected(workload, data)
    running = Graphc(threads=2).build(workload)
    found = running.with_further(running.values(), data)
    for ours, exact in zip(found, wanted, strict=True):
        assert ours.shape == exact.shape
        assert np.sqrt(np.mean((ours - exact) ** 2)) < 5e-6 * np.sqrt(np.mean(exact * exact))


@pytest.mark.parametrize("name", light_networks.NETWORKS)
def test_flops_of_light_networks(name: str) -> None:
    model = onnx.shape_inference.infer_shapes(light_networks.model_file(name))
    given = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    filled = [n for n in model.graph.node if n.op_type == "ConstantOfShape"]
    sizes = {n.output[0]: tuple(given[n.input[0]]) for n in filled}
    values = [*model.graph.value_info, *model.graph.output]
    shape = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    flops = 0.0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            kernel = sizes.get(node.input[1]) or given[node.input[1]].shape
            places = shape[node.output[0]][2:]
            flops += 2.0 * float(np.prod(kernel)) * float(np.prod(places))
    assert light_networks.NETWORKS[name] == pytest.approx(flops, rel=0.01)
