"""Operators whose results ONNX's tests cannot compare, or do not look at closely enough."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import graphc
from tests.onnx.models import one_node
from tests.onnx.suite import node_models

F32 = np.float32


def run(proto: Any, *inputs: Any) -> Any:
    return graphc.onnx.backend.run_model(proto, list(inputs))


@pytest.mark.parametrize("name", ["test_bernoulli", "test_bernoulli_double", "test_bernoulli_seed"])
def test_bernoulli(name: str) -> None:
    """Zeros and ones, as many as the probabilities say, the same at every call."""
    proto = node_models()[name]
    found = proto.graph.input[0].type.tensor_type
    del found.shape.dim[:]
    found.shape.dim.add(dim_value=20_000)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    chance = np.linspace(0, 1, 20_000).astype(np.float64 if found.elem_type == 11 else F32)
    (y,) = run(proto, chance)
    assert set(np.unique(y)) <= {0, 1}
    for k in range(10):
        part = slice(2000 * k, 2000 * (k + 1))
        assert abs(y[part].mean() - chance[part].mean()) < 0.05
    np.testing.assert_array_equal(run(proto, chance)[0], y)


def test_a_sequence_that_holds_a_scalar() -> None:
    (found,) = run(
        node_models()["test_loop16_seq_none"], np.array(5), np.array(True), [np.array(0, F32)]
    )
    expected = [np.float32(0), *[np.arange(1, k + 1, dtype=F32) for k in range(1, 6)]]
    assert [x.shape for x in found] == [x.shape for x in expected]
    for x, y in zip(found, expected):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
def test_division_of_integers_is_toward_zero(dtype: str) -> None:
    a = np.array([7, -7, 7, -7, 6, -6, 0], dtype)
    b = np.array([2, 2, -2, -2, 3, 3, 5], dtype)
    (y,) = run(one_node("Div", {"a": a, "b": b}, version=14))
    np.testing.assert_array_equal(y, [3, -3, -3, 3, 2, -2, 0])


@pytest.mark.parametrize("fmod", [0, 1])
def test_remainders(fmod: int) -> None:
    a = np.array([7, -7, 7, -7, 5.5, -0.0, 1e9], F32)
    b = np.array([3, 3, -3, -3, 1.25, 2, 7], F32)
    (y,) = run(one_node("Mod", {"a": a, "b": b}, fmod=1))
    np.testing.assert_array_equal(y, np.fmod(a, b))
    assert np.signbit(y[5])
    whole = [v[:4].astype(np.int32) for v in (a, b)]
    (y,) = run(one_node("Mod", dict(zip("ab", whole)), fmod=fmod))
    np.testing.assert_array_equal(y, (np.fmod if fmod else np.mod)(*whole))


def test_bounds_that_cross() -> None:
    x = np.array([-1, 1, 5], F32)
    (y,) = run(one_node("Clip", {"x": x, "low": F32(4), "high": F32(2)}))
    np.testing.assert_array_equal(y, [2, 2, 2])


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [
        (0, 4, 1),
        (4, 0, -1),
        (-1, -100, -1),
        (8, -9, -2),
        (-100, 100, 3),
        (3, 3, 1),
        (-3, 2**63 - 1, 2),
    ],
)
@pytest.mark.parametrize("symbolic", [False, True])
def test_slices(start: int, end: int, step: int, symbolic: bool) -> None:
    x = np.arange(7, dtype=F32)
    lists = {n: np.array([v]) for n, v in zip("seap", (start, end, 0, step))}
    proto = one_node("Slice", {"x": ("n" if symbolic else 7,), **lists})
    stop = None if step < 0 and end < -7 else end
    np.testing.assert_array_equal(run(proto, x)[0], x[start:stop:step])


def test_the_last_of_equal_ones() -> None:
    x = np.array([[3, 1, 3], [2, 2, 2]], F32)
    for name, expected in (("ArgMax", [2, 2]), ("ArgMin", [1, 2])):
        (y,) = run(one_node(name, {"x": (2, 3)}, axis=1, keepdims=0, select_last_index=1), x)
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("size", [6, 7, 8])
@pytest.mark.parametrize("symbolic", [False, True])
def test_uneven_parts(size: int, symbolic: bool) -> None:
    proto = one_node("Split", {"x": ("n" if symbolic else size,)}, outputs=3, num_outputs=3)
    parts = run(proto, np.arange(size, dtype=F32))
    each = -(-size // 3)
    assert [p.shape[0] for p in parts] == [each, each, size - 2 * each]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(size))


@pytest.mark.parametrize("k", [-2, 0, 1])
def test_a_diagonal_that_is_an_input(k: int) -> None:
    x = np.arange(12, dtype=F32).reshape(3, 4)
    for upper, function in ((1, np.triu), (0, np.tril)):
        proto = one_node("Trilu", {"x": (3, 4), "k": ()}, upper=upper)
        proto.graph.input[1].type.tensor_type.elem_type = 7
        np.testing.assert_array_equal(run(proto, x, np.array(k))[0], function(x, k))


def test_nothing_to_reduce() -> None:
    x = np.zeros((2, 0), F32)
    for name, expected in (
        ("ReduceMax", -np.inf),
        ("ReduceMin", np.inf),
        ("ReduceSum", 0),
        ("ReduceProd", 1),
        ("ReduceLogSumExp", -np.inf),
    ):
        (y,) = run(one_node(name, {"x": (2, 0), "axes": np.array([1])}, keepdims=0), x)
        np.testing.assert_array_equal(y, np.full(2, expected, F32))


def test_multinomial_follows_the_logits() -> None:
    logits = np.log(np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 1e-30]], F32))
    (y,) = run(one_node("Multinomial", {"x": (2, 3)}, sample_size=20_000, version=22), logits)
    assert y.shape == (2, 20_000) and y.dtype == np.int32
    counts = [np.bincount(row, minlength=3) / 20_000 for row in y]
    np.testing.assert_allclose(counts, [[0.1, 0.2, 0.7], [0.5, 0.5, 0]], atol=0.02)


def test_indices_from_the_end() -> None:
    x = np.arange(12, dtype=F32).reshape(3, 4)
    index = np.array([[-1, 0], [1, -2]])
    np.testing.assert_array_equal(
        run(one_node("Gather", {"x": (3, 4), "i": index}, axis=1), x)[0], x[:, index]
    )
    (y,) = run(one_node("GatherElements", {"x": (3, 4), "i": index}, axis=0), x)
    np.testing.assert_array_equal(y, [[x[-1, 0], x[0, 1]], [x[1, 0], x[-2, 1]]])


def test_an_index_outside_is_an_error_at_the_call() -> None:
    proto = one_node("Gather", {"x": (3, 4), "i": (2,)}, axis=0)
    proto.graph.input[1].type.tensor_type.elem_type = 7
    with pytest.raises(graphc.ExecutionError):
        run(proto, np.zeros((3, 4), F32), np.array([0, 3]))


def test_backend_functions() -> None:
    backend = graphc.onnx.backend
    assert backend.supports_device("CPU") and not backend.supports_device("CUDA")
    node = one_node("Add", {"a": (2,), "b": (2,)}).graph.node[0]
    (y,) = backend.run_node(node, [np.ones(2, F32), np.ones(2, F32)])
    np.testing.assert_array_equal(y, [2, 2])
    prepared = backend.prepare(one_node("Relu", {"x": (2,)}))
    np.testing.assert_array_equal(prepared.run(np.array([-1, 1], F32))[0], [0, 1])
    np.testing.assert_array_equal(prepared.run({"x": np.array([-1, 1], F32)})[0], [0, 1])
    with pytest.raises(graphc.DeviceError):
        backend.prepare(one_node("Relu", {"x": (2,)}), "CUDA")
    with pytest.raises(graphc.GraphError, match="2 inputs, expected 1"):
        prepared.run([np.ones(2, F32)] * 2)
    with pytest.raises(graphc.GraphError, match="missing"):
        prepared.run([])


@pytest.mark.parametrize(
    "name", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn"]
)
def test_floats_of_few_bits(name: str) -> None:
    """Every code decodes to its number, and every float32 in between rounds as ml_dtypes does."""
    elements = [17, 18, 19, 20, 23]
    kinds = ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float4_e2m1fn"]
    element, kind = elements[kinds.index(name)], np.dtype(getattr(ml_dtypes, name))
    count = 16 if name.startswith("float4") else 256
    numbers = np.arange(count).astype(np.uint8).view(kind).astype(F32)
    finite = np.sort(numbers[np.isfinite(numbers)])
    middles = (finite[1:] + finite[:-1]) / 2
    near = [np.nextafter(middles, F32(s * np.inf), dtype=F32) for s in (1, -1)]
    x = np.concatenate([finite, middles, *near, F32([0, -0.0, np.nan])])
    (code,) = run(one_node("Cast", {"x": x.astype(F32)}, to=element, saturate=0))
    np.testing.assert_array_equal(code.view(np.uint8) % 128, x.astype(kind).view(np.uint8) % 128)
    proto = one_node("Cast", {"x": (count,)}, to=1)
    proto.graph.input[0].type.tensor_type.elem_type = element
    (back,) = run(proto, np.arange(count).astype(np.uint8).view(kind))
    np.testing.assert_array_equal(back, numbers)
    assert (np.signbit(back) == np.signbit(numbers))[~np.isnan(numbers)].all()


@pytest.mark.parametrize(("element", "bits"), [(21, 4), (22, 4), (25, 2), (26, 2)])
def test_packed_initializers(element: int, bits: int) -> None:
    """Elements lie in bytes from the low bits on, also where the last byte is not full."""
    raw = bytes([0b11100100, 0b00011011])
    count = 16 // bits - 1
    codes = [(raw[k * bits // 8] >> (k * bits % 8)) & ((1 << bits) - 1) for k in range(count)]
    if element in (22, 26):
        codes = [v - (1 << bits) if v >> (bits - 1) else v for v in codes]
    proto = one_node("Cast", {"x": np.zeros(1, np.int8)}, to=1)
    tensor = proto.graph.initializer[0]
    tensor.data_type, tensor.raw_data = element, raw
    tensor.dims[0] = count
    np.testing.assert_array_equal(run(proto)[0], codes)
