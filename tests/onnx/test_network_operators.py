"""Operators of networks, images and signals beside ONNX's reference evaluator, where the backend
suite has no case: further attributes, older versions, symbolic sizes, ties, and refusals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import graphc
from graphc.base.dtypes import round_bfloat16
from graphc.onnx.backend import Backend
from graphc.onnx.importer import import_model
from graphc.onnx.reader import checked_model
from tests.onnx.models import OPSET, model, tensor_input

RNG = np.random.default_rng(11)
Array = Any


def normal(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def node_of(op: str, operands: dict[str, Array], *, outputs: int = 1, **settings: Any) -> Any:
    """A model of one node whose operands are all inputs."""
    version = settings.pop("version", OPSET)
    names = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(op, list(operands), names, name="n", **settings)
    inputs = [
        tensor_input(n, np.shape(a), helper.np_dtype_to_tensor_dtype(np.asarray(a).dtype))
        for n, a in operands.items()
    ]
    found = [helper.make_empty_tensor_value_info(n) for n in names]
    return model([node], inputs, found, opsets={"": version})


def out(node: Any) -> Any:
    """The declaration of a node's first output."""
    return helper.make_empty_tensor_value_info(node.output[0])


def compare(op: str, operands: dict[str, Array], tolerance: float = 1e-5, **settings: Any) -> None:
    proto = node_of(op, operands, **settings)
    with np.errstate(all="ignore"):
        expected = ReferenceEvaluator(proto).run(None, operands)
    found = Backend.run_model(proto, list(operands.values()))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


# -- convolutions and pools -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        {"auto_pad": "VALID", "dilations": [2, 1]},
        {"pads": [0, 1, 2, 0], "strides": [1, 2], "group": 2},
    ],
)
def test_conv(settings: dict[str, Any]) -> None:
    groups = settings.get("group", 1)
    operands = {"x": normal(2, 4, 7, 8), "w": normal(6, 4 // groups, 3, 2), "b": normal(6)}
    compare("Conv", operands, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"strides": [3, 2], "output_padding": [1, 0]},
        {"strides": [2, 2], "output_shape": [11, 10], "auto_pad": "SAME_LOWER"},
        {"strides": [2, 2], "output_shape": [11, 10], "auto_pad": "SAME_UPPER"},
        {"pads": [1, 0, 1, 2], "dilations": [2, 1]},
    ],
)
def test_conv_transpose(settings: dict[str, Any]) -> None:
    operands = {"x": normal(1, 4, 5, 5), "w": normal(4, 3, 3, 3)}
    compare("ConvTranspose", operands, **settings)


# The reference scales the norm of a window that is cut off by what is missing: LpPool stays apart.
@pytest.mark.parametrize(
    ("op", "ceil"),
    [("MaxPool", 0), ("MaxPool", 1), ("AveragePool", 0), ("AveragePool", 1), ("LpPool", 0)],
)
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 1, 1]])
def test_pools(op: str, ceil: int, pads: list[int]) -> None:
    settings = {"kernel_shape": [3, 2], "strides": [2, 2], "pads": pads, "ceil_mode": ceil}
    compare(op, {"x": np.abs(normal(2, 3, 8, 7))}, version=22, **settings)


def test_maxima_and_their_places_in_both_orders() -> None:
    x = normal(2, 2, 4, 6)
    for order in (0, 1):
        settings = {"kernel_shape": [2, 2], "strides": [2, 2], "storage_order": order}
        proto = node_of("MaxPool", {"x": x}, outputs=2, **settings)
        best, places = Backend.run_model(proto, [x])
        planes = x.reshape(4, 4, 6)
        flat = planes.transpose(0, 2, 1).reshape(-1) if order else x.reshape(-1)
        np.testing.assert_array_equal(flat[places], best)


def test_global_p_norm_and_region_pool() -> None:
    x = normal(1, 2, 6, 6)
    (found,) = Backend.run_model(node_of("GlobalLpPool", {"x": x}, p=3), [x])
    np.testing.assert_allclose(
        found[0, :, 0, 0], (np.abs(x[0]) ** 3).sum((1, 2)) ** (1 / 3), rtol=1e-5
    )
    rois = np.array([[0, 0, 0, 3, 3], [0, 2, 2, 5, 5]], np.float32)
    proto = node_of("MaxRoiPool", {"x": x, "rois": rois}, pooled_shape=[2, 2])
    (found,) = Backend.run_model(proto, [x, rois])
    blocks = x[0, :, 2:6, 2:6].reshape(2, 2, 2, 2, 2).max((2, 4))
    np.testing.assert_array_equal(found[1], blocks)


def test_regions_with_as_many_samples_as_elements() -> None:
    rois = np.array([[0, 1, 7, 9], [2, 0, 9, 4]], np.float32)
    operands = {"x": normal(1, 2, 10, 10), "rois": rois, "rows": np.zeros(2, np.int64)}
    for mode in ("avg", "max"):
        compare("RoiAlign", operands, mode=mode, output_height=3, output_width=2)


# -- images with symbolic sizes -------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("word", ["half_pixel", "asymmetric", "align_corners"])
def test_resize_of_symbolic_sizes(mode: str, word: str) -> None:
    x = normal(1, 2, 5, 6)
    node = node_of(
        "Resize",
        {"x": x, "roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 1.5], np.float32)},
        mode=mode,
        coordinate_transformation_mode=word,
    ).graph.node[0]
    scales = {"roi": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 1.5], np.float32)}
    proto = model([node], [tensor_input("x", [1, 2, "h", "w"])], [out(node)], scales)
    (expected,) = ReferenceEvaluator(proto).run(None, {"x": x})
    graph = import_model(checked_model(proto, graphc.Limits())).graph
    assert "h" in str(graph.inputs[0][1].shape[2])
    with graphc.Session() as session:
        found = session.run(graph.outputs[0][1], {graph.inputs[0][1]: x})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


# -- quantized ------------------------------------------------------------------------------------


def test_ties_round_to_even_whatever_the_scale() -> None:
    # Quotients that are exactly k + 1/2; x * (1 / scale) would miss some of them.
    for scale in (0.1, 0.3, 0.7, 1.9, 5e-3):
        s = np.float32(scale)
        steps = np.arange(-120, 120, dtype=np.float32) + np.float32(0.5)
        x = steps * s
        exact = np.rint(x / s)
        node = node_of("QuantizeLinear", {"x": x, "s": s, "z": np.int8(3)}).graph.node[0]
        proto = model([node], [tensor_input("x", [240])], [out(node)], {"s": s, "z": np.int8(3)})
        graph = import_model(checked_model(proto, graphc.Limits())).graph
        for numerics in ("exact", "standard", "fast"):
            with graphc.Session(numerics=numerics) as session:
                found = session.run(graph.outputs[0][1], {graph.inputs[0][1]: x})
            np.testing.assert_array_equal(found, np.clip(exact + 3, -128, 127).astype(np.int8))


def test_integers_saturate() -> None:
    x = np.array([-1e30, -300.0, 300.0, 1e30, np.inf, -np.inf], np.float32)
    operands = {"x": x, "s": np.float32(1), "z": np.uint8(100)}
    (found,) = Backend.run_model(node_of("QuantizeLinear", operands), list(operands.values()))
    assert found.tolist() == [0, 0, 255, 255, 255, 0]


def test_convolution_of_integers_with_zero_points_per_channel() -> None:
    operands = {
        "x": RNG.integers(0, 255, (1, 4, 6, 6)).astype(np.uint8),
        "w": RNG.integers(-128, 127, (6, 2, 3, 3)).astype(np.int8),
        "xz": np.uint8(120),
        "wz": RNG.integers(-9, 9, 6).astype(np.int8),
    }
    compare("ConvInteger", operands, group=2, pads=[1, 1, 1, 1], strides=[2, 1])


def test_matrices_of_integers_with_zero_points_per_row_and_column() -> None:
    a = RNG.integers(0, 255, (2, 3, 5)).astype(np.uint8)
    b = RNG.integers(-128, 127, (2, 5, 4)).astype(np.int8)
    rows, columns = np.array([1, 2, 3], np.uint8), np.array([-4, 0, 4, 9], np.int8)
    operands = {"a": a, "b": b, "az": rows, "bz": columns}
    (found,) = Backend.run_model(node_of("MatMulInteger", operands), list(operands.values()))
    expected = (a.astype(np.int32) - rows[:, None]) @ (b.astype(np.int32) - columns)
    np.testing.assert_array_equal(found, expected)


# -- recurrence -----------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_lstm_with_everything(direction: str) -> None:
    """Peepholes, lengths, a coupled forget gate, a clip and other activations, step by step."""
    time, batch, features, hidden = 4, 3, 2, 3
    w, r, b = (
        normal(1, 4 * hidden, features),
        normal(1, 4 * hidden, hidden),
        normal(1, 8 * hidden),
    )
    x, h, c, p = (
        normal(time, batch, features),
        normal(1, batch, hidden),
        normal(1, batch, hidden),
        normal(1, 3 * hidden),
    )
    lengths = np.array([4, 2, 3], np.int32)
    operands = {"x": x, "w": w, "r": r, "b": b, "lengths": lengths, "h": h, "c": c, "p": p}
    proto = node_of(
        "LSTM",
        operands,
        outputs=3,
        hidden_size=hidden,
        direction=direction,
        clip=1.2,
        input_forget=1,
        activations=["HardSigmoid", "Elu", "Tanh"],
        activation_alpha=[0.3, 0.7],
        activation_beta=[0.4],
    )
    y, last_h, last_c = Backend.run_model(proto, list(operands.values()))

    def cut(v: Array) -> Array:
        return np.clip(v, -1.2, 1.2)

    def gate(v: Array) -> Array:
        return np.clip(0.3 * cut(v) + 0.4, 0, 1)

    def elu(v: Array) -> Array:
        return np.where(cut(v) > 0, cut(v), 0.7 * np.expm1(cut(v)))

    pi, po, _ = np.split(p[0], 3)
    for n in range(batch):
        hn, cn = h[0, n], c[0, n]
        steps = range(lengths[n]) if direction == "forward" else reversed(range(lengths[n]))
        for t in steps:
            bias = b[0, : 4 * hidden] + b[0, 4 * hidden :]
            zi, zo, _, zc = np.split(w[0] @ x[t, n] + r[0] @ hn + bias, 4)
            i = gate(zi + pi * cn)
            cn = (1 - i) * cn + i * elu(zc)
            hn = gate(zo + po * cn) * np.tanh(cut(cn))
            np.testing.assert_allclose(y[t, 0, n], hn, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(y[lengths[n] :, 0, n], 0)
        np.testing.assert_allclose(last_h[0, n], hn, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(last_c[0, n], cn, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("before", [0, 1])
def test_bidirectional_gru_batch_first(before: int) -> None:
    batch, time, features, hidden = 2, 3, 2, 3
    operands = {
        "x": normal(batch, time, features),
        "w": normal(2, 3 * hidden, features),
        "r": normal(2, 3 * hidden, hidden),
        "b": normal(2, 6 * hidden),
    }
    settings = {"direction": "bidirectional", "layout": 1, "linear_before_reset": before}
    proto = node_of("GRU", operands, outputs=2, hidden_size=hidden, **settings)
    y, last = Backend.run_model(proto, list(operands.values()))
    assert y.shape == (batch, time, 2, hidden) and last.shape == (batch, 2, hidden)
    w, r, b = operands["w"][1], operands["r"][1], operands["b"][1]
    for n in range(batch):
        h = np.zeros(hidden, np.float32)
        for t in reversed(range(time)):
            wz, wr, wh = np.split(w @ operands["x"][n, t] + b[: 3 * hidden], 3)
            rz, rr, rh = np.split(r, 3)
            bz, br, bh = np.split(b[3 * hidden :], 3)
            z, gate = sigmoid(wz + rz @ h + bz), sigmoid(wr + rr @ h + br)
            new = gate * (rh @ h + bh) if before else rh @ (gate * h) + bh
            h = (1 - z) * np.tanh(wh + new) + z * h
            np.testing.assert_allclose(y[n, t, 1], h, rtol=1e-5, atol=1e-6)


# -- attention ------------------------------------------------------------------------------------


def test_attention_in_bfloat16_is_that_of_float32_rounded() -> None:
    """ONNX's reference adds the powers of softmax in bfloat16 one by one; here they are added in
    float32, which is nearer to the truth by more than the suite's tolerance.
    """
    q, k, v = normal(1, 2, 3, 8), normal(1, 2, 5, 8), normal(1, 2, 5, 8)
    # Numbers that bfloat16 has.
    q, k, v = (round_bfloat16(a) for a in (q, k, v))
    operands = {"q": q, "k": k, "v": v}
    node = node_of("Attention", operands, version=24, is_causal=1).graph.node[0]
    inputs = [tensor_input(n, a.shape, 16) for n, a in operands.items()]
    proto = model([node], inputs, [out(node)], opsets={"": 24})
    graph = import_model(checked_model(proto, graphc.Limits())).graph
    with graphc.Session() as session:
        feeds = dict(zip([t for _, t in graph.inputs], (q, k, v), strict=True))
        found = session.run(graph.outputs[0][1].astype("float32"), feeds)
    q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(8)
    scores = np.where(np.tril(np.ones((3, 5))), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) @ v
    np.testing.assert_allclose(found, expected, atol=0.03)


# -- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 10, 60, 97, 257, 1021])
@pytest.mark.parametrize("inverse", [0, 1])
def test_transforms_of_any_size(size: int, inverse: int) -> None:
    x = normal(2, size, 2)
    proto = node_of("DFT", {"x": x}, version=20, inverse=inverse)
    (found,) = Backend.run_model(proto, [x])
    signal = x[..., 0].astype(float) + 1j * x[..., 1]
    expected = np.fft.ifft(signal) if inverse else np.fft.fft(signal)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found[..., 0], expected.real, atol=2e-6 * scale)
    np.testing.assert_allclose(found[..., 1], expected.imag, atol=2e-6 * scale)


@pytest.mark.parametrize("real", [True, False])
def test_transform_of_a_symbolic_size(real: bool) -> None:
    x = normal(2, 12, 1 if real else 2)
    node = node_of("DFT", {"x": x}, version=20, onesided=int(real)).graph.node[0]
    shape = [2, "n", x.shape[2]]
    proto = model([node], [tensor_input("x", shape)], [out(node)], opsets={"": 20})
    graph = import_model(checked_model(proto, graphc.Limits())).graph
    with graphc.Session() as session:
        found = session.run(graph.outputs[0][1], {graph.inputs[0][1]: x})
    expected = np.fft.rfft(x[..., 0]) if real else np.fft.fft(x[..., 0] + 1j * x[..., 1])
    np.testing.assert_allclose(found[..., 0] + 1j * found[..., 1], expected, atol=1e-5)


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "operands", "settings", "text"),
    [
        ("Conv", {"x": (1, 2, 5, 5), "w": (3, 2, 3, 3)}, {"strides": [0, 1]}, "strides"),
        ("Conv", {"x": (1, 2, 5, 5), "w": (3, 2, 3, 3)}, {"pads": [1, 1]}, "pads has 2 values"),
        ("Conv", {"x": (1, 2, 5, 5), "w": (3, 2, 3, 3)}, {"auto_pad": "HALF"}, "auto_pad"),
        ("Conv", {"x": (1, 2, 5, 5), "w": (3, 2, 9, 3)}, {"kernel_shape": [3, 3]}, "kernel_shape"),
        ("MaxPool", {"x": (1, 2, 5, 5)}, {"kernel_shape": [0, 1]}, "at least 1"),
        ("AveragePool", {"x": (1, 2, 5)}, {"kernel_shape": [2, 2]}, "dims"),
        ("GroupNormalization", {"x": (1, 5, 4), "s": (5,), "b": (5,)}, {"num_groups": 2}, "split"),
        ("DepthToSpace", {"x": (1, 6, 2, 2)}, {"blocksize": 2}, "multiple of 4"),
        ("LpNormalization", {"x": (2, 3)}, {"p": 3}, "expected 1 or 2"),
        ("Resize", {"x": (1, 1, 4, 4)}, {}, "either scales or sizes"),
        ("LSTM", {"x": (2, 1, 3), "w": (1, 8, 3), "r": (1, 8, 3)}, {}, "hidden size"),
        ("RotaryEmbedding", {"x": (1, 2, 6), "c": (1, 2, 3), "s": (1, 2, 3)}, {}, "num_heads"),
    ],
)
def test_wrong_nodes_are_refused_with_their_place(
    op: str, operands: dict[str, tuple[int, ...]], settings: dict[str, Any], text: str
) -> None:
    arrays = {n: np.zeros(s, np.float32) for n, s in operands.items()}
    with pytest.raises(graphc.FormatError, match=text) as found:
        Backend.prepare(node_of(op, arrays, version=23, **settings))
    assert f"({op})" in str(found.value)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_an_empty_image_has_no_ratio_to_keep(policy: str) -> None:
    node = helper.make_node("Resize", ["x", "", "", "s"], ["y"], keep_aspect_ratio_policy=policy)
    sizes = {"s": np.array([1, 2, 4, 3])}
    proto = model([node], [tensor_input("x", (1, 2, 0, 6))], [out(node)], sizes)
    with pytest.raises(graphc.FormatError) as found:
        Backend.prepare(proto)
    assert f"(Resize): keep_aspect_ratio_policy {policy} of an empty image" in str(found.value)
