"""Kernels of convolutional networks: how what stands around their products is lowered."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.backend import llvm_cpu
from graphc.compiler import Compilation
from graphc.runtime.executable import CompileOptions


def loops_of(inputs: list[graphc.Tensor], outputs: object) -> str:
    """The text of a graph's kernels."""
    graph = graphc.Graph(inputs, outputs)
    return Compilation(graph, CompileOptions(), llvm_cpu.host_target()).stage("loops")


def test_memory_is_read_in_the_shape_that_a_reshape_gives_it() -> None:
    x = graphc.placeholder((1, 256, 6, 6), name="x")
    w = graphc.placeholder((64, 256 * 36), name="w")
    text = loops_of([x, w], graphc.max(x, axis=0).reshape((1, -1)) @ w.T)
    assert "//" not in text.rpartition("kernel ")[2]


def pools(x: graphc.Tensor) -> dict[str, graphc.Tensor]:
    return {
        "overlapping": graphc.nn.max_pool(x, 3, 2, 1),
        "side by side": graphc.nn.avg_pool(x, 2),
        "without padding": graphc.nn.avg_pool(x, 3, 1, 1, count_include_pad=False),
        "neighbours": graphc.nn.local_response_norm(x, 5),
    }


@pytest.mark.parametrize("name", ["overlapping", "side by side", "without padding", "neighbours"])
def test_vectors_run_across_the_results_of_a_pool(name: str) -> None:
    x = graphc.placeholder((2, 8, 12, 40), name="x")
    text = loops_of([x], pools(x)[name])
    pool = next(k for k in text.split("kernel ") if "<-" in k)
    head, _, inside = pool.partition("vector(")
    assert "acc" in inside
    assert "<-" not in head


@pytest.mark.parametrize("width", [4, 9, 40])
def test_pools_have_the_values_of_their_windows(width: int) -> None:
    rng = np.random.default_rng(width)
    x = graphc.placeholder((2, 3, 10, width), name="x")
    joined = graphc.concat([x, x * 2.0], axis=1)
    outputs = pools(x) | {"joined": graphc.nn.max_pool(joined, 2, 1)}
    array = rng.normal(size=(2, 3, 10, width)).astype(np.float32)
    outputs |= {f"gradient, {k}": graphc.grad((y * y).sum(), x) for k, y in pools(x).items()}
    expected = graphc.Graph([x], outputs).evaluate({x: array})
    with graphc.Session(cache_dir="") as session:
        found = session.function([x], outputs)(array)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("width", [3, 4, 7, 14, 30, 56])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2)])
def test_depthwise_convolutions(width: int, stride: int, dilation: int) -> None:
    rng = np.random.default_rng(width)
    x = graphc.placeholder((2, 6, 13, width), name="x")
    w, offset = rng.normal(size=(6, 1, 3, 3)), rng.normal(size=(6, 1, 1))
    y = graphc.nn.conv(
        x, w.astype(np.float32), stride, padding=dilation, dilation=dilation, groups=6
    )
    y = graphc.nn.relu(y + offset.astype(np.float32))
    if width > 4:
        names = loops_of([x], y).count("permute_dims(")
        assert names == 0, "windows were copied"
    array = rng.normal(size=(2, 6, 13, width)).astype(np.float32)
    expected = graphc.Graph([x], y).evaluate({x: array})
    with graphc.Session(cache_dir="") as session:
        found = session.function([x], y)(array)
    np.testing.assert_allclose(found, next(iter(expected.values())), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 14])
@pytest.mark.parametrize(("stride", "width"), [(1, 37), (2, 19), (1, 5)])
def test_convolutions_to_one_channel(channels: int, stride: int, width: int) -> None:
    """Vectors run along the rows of the image, not along its windows."""
    rng = np.random.default_rng(width)
    x = graphc.placeholder((2, channels, 9, width), name="x")
    w = graphc.placeholder((1, channels, 3, 3), name="w")
    y = graphc.nn.conv(x, w, stride, padding=1)
    product = loops_of([x, w], y).rpartition("kernel ")[2]
    assert "<-" in product
    assert "<-" not in product.partition(" vector(")[0]
    outputs = {"y": y} | {name: graphc.grad((y * y).sum(), v) for name, v in (("dx", x), ("dw", w))}
    arrays = [rng.normal(size=v.shape).astype(np.float32) for v in (x, w)]
    expected = graphc.Graph([x, w], outputs).evaluate(dict(zip((x, w), arrays, strict=True)))
    with graphc.Session(cache_dir="") as session:
        found = session.function([x, w], outputs)(*arrays)
    for key, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5 * scale, err_msg=key)


def test_filters_of_a_signal_run_along_it() -> None:
    x = graphc.placeholder((4, 1, 500), name="x")
    taps = np.linspace(-1, 1, 9, dtype=np.float32)
    y = graphc.nn.conv(x, taps.reshape(1, 1, 9))
    signal = np.random.default_rng(5).normal(size=(4, 1, 500)).astype(np.float32)
    with graphc.Session(cache_dir="") as session:
        found = session.function([x], y)(signal)
    expected = [np.correlate(line[0].astype(np.float64), taps, "valid") for line in signal]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_pools_fill_vectors() -> None:
    """Maps whose last dim is a window run over the dims before it too."""
    x = graphc.placeholder((2, 8, 12, 40), name="x")
    text = loops_of([x], graphc.grad((graphc.nn.avg_pool(x, 2) ** 2).sum(), x))
    assert "for j in 40 vector(16" in text.rpartition("kernel ")[2]


def test_convolutions_of_large_images_have_blocks() -> None:
    """Lines of 224 elements: no part of an image that is cut into 32 fits a block."""
    x = graphc.placeholder((1, 64, 224, 224), name="x")
    w = graphc.constant(np.ones((64, 64, 3, 3), np.float32))
    assert "kernel " in loops_of([x], graphc.nn.conv(x, w, 1, 1))


def test_the_kernel_of_a_gradient_is_turned_into_memory_once() -> None:
    """Its summed elements are then neighbours; the product reads neither flips nor divides."""
    x = graphc.placeholder((8, 24, 14, 14), name="x")
    w = graphc.placeholder((20, 24, 3, 3), name="w")
    cotangent = graphc.placeholder((8, 20, 14, 14), name="g")
    gradient = graphc.grad((graphc.nn.conv(x, w, padding=1) * cotangent).sum(), x)
    text = loops_of([w, cotangent], gradient)
    assert "out %permute_dims: f32[24, 20, 3, 3]" in text
    assert "%permute_dims[i % 3 * 8, k, k_1, k_2]" in text.rpartition("kernel ")[2]


@pytest.mark.parametrize("shape", [(3, 4, 28, 28), (2, 5, 1, 6), (2, 3, 300, 4), (3, 2, 33, 65)])
def test_statistics_of_channels_run_along_whole_images(shape: tuple[int, ...]) -> None:
    """Sums over (n, h, w) start anew at images, not at their rows; long images are cut."""
    x = graphc.placeholder(shape, name="x")
    axes = (0, 2, 3)
    outputs = {
        "sum": graphc.sum(x * x, axis=axes),
        "max": graphc.max(x, axis=axes),
        "all": graphc.sum(graphc.exp(x)),
        "planes": graphc.mean(x, axis=(2, 3)),
    }
    loops = loops_of([x], outputs["sum"])
    assert f"in {shape[2] * shape[3]} vector(" in loops or "vector(16, 4)" in loops
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = graphc.Graph([x], outputs).evaluate({x: array})
    with graphc.Session(cache_dir="") as session:
        found = session.function([x], outputs)(array)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=2e-6, err_msg=key)


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2)])
def test_ties_of_a_max_pool_are_counted_in_vectors(size: int, stride: int) -> None:
    """The comparisons of the gradient stay in the kernel that counts them, across results."""
    x = graphc.placeholder((2, 8, 24, 24), name="x")
    loss = (graphc.nn.max_pool(graphc.nn.relu(x), size, stride) ** 2).sum()
    text = loops_of([x], graphc.grad(loss, x))
    (count,) = [k for k in text.split("kernel ") if "<- f32(" in k]
    head, _, inside = count.partition("vector(8, 1)")
    assert "==" in inside
    assert "<-" not in head


def test_elements_of_windows_that_tie_share_the_gradient() -> None:
    x = graphc.placeholder((2, 3, 9, 8), name="x")
    array = np.random.default_rng(0).integers(0, 3, size=(2, 3, 9, 8)).astype(np.float32)
    outputs = {f"{k}": graphc.grad((y * y).sum(), x) for k, y in pools(graphc.exp(x)).items()}
    outputs["cut"] = graphc.grad((graphc.nn.max_pool(x, (4, 3)) ** 2).sum(), x)
    expected = graphc.Graph([x], outputs).evaluate({x: array})
    with graphc.Session(cache_dir="") as session:
        found = session.function([x], outputs)(array)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-6, err_msg=key)


def test_an_element_that_all_lanes_of_a_vector_share() -> None:
    """Windows of 3 × 2 × 2 in double precision: eight neighbours read one element."""
    x = graphc.placeholder((1, 2, 8, 6, 8), "float64", name="x")
    array = np.random.default_rng(0).normal(size=(1, 2, 8, 6, 8))
    y = graphc.nn.max_pool(x, 2)
    outputs = {"apart": graphc.grad((y * y).sum(), x)}
    for k, settings in enumerate([(3, (1, 2, 2), (0, 1, 1)), (2, 1, 1), (2, 2, 1)]):
        y = graphc.nn.max_pool(x, *settings)
        outputs[f"{k}"] = graphc.grad((y * y).sum(), x)
    expected = graphc.Graph([x], outputs).evaluate({x: array})
    with graphc.Session(cache_dir="") as session:
        found = session.function([x], outputs)(array)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-12, err_msg=key)
