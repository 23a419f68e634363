"""Functions of images against their meaning written in NumPy, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.testing import check_grad

RNG = np.random.default_rng(4)


def value(tensor: Any, feeds: dict[Any, Any] | None = None) -> Any:
    """The compiled value."""
    with graphc.Session(threads=1) as session:
        return session.run(tensor, feeds or {})


# -- resize ---------------------------------------------------------------------------------------

PLACES: dict[str, Callable[[int, int, int, float], float]] = {
    "half_pixel": lambda i, n, m, f: (i + 0.5) / f - 0.5,
    "asymmetric": lambda i, n, m, f: i / f,
    "align_corners": lambda i, n, m, f: i * (n - 1) / (f * n - 1),
    "half_pixel_symmetric": lambda i, n, m, f: n / 2 * (1 - m / (f * n)) + (i + 0.5) / f - 0.5,
}


def linear_1d(line: Any, m: int, f: float, word: str) -> list[float]:
    """One line resized, element by element."""
    n = len(line)
    found = []
    for i in range(m):
        p = PLACES[word](i, n, m, f)
        k = int(np.floor(p))
        ends = [line[min(max(j, 0), n - 1)] for j in (k, k + 1)]
        found.append(ends[0] * (1 - (p - k)) + ends[1] * (p - k))
    return found


@pytest.mark.parametrize("word", PLACES)
@pytest.mark.parametrize("scale", [2.0, 0.6, 1.4])
@pytest.mark.parametrize("symbolic", [False, True])
def test_linear_resize(word: str, scale: float, symbolic: bool) -> None:
    array = RNG.normal(size=(2, 1, 7))
    x = graphc.placeholder((2, 1, "n") if symbolic else (2, 1, 7), "float64")
    out = graphc.nn.resize(x, scale=scale, coordinates=word)
    found = value(out, {x: array})
    expected = [[linear_1d(line, int(7 * scale), scale, word) for line in c] for c in array]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("symbolic", [False, True])
def test_nearest_resize_keeps_the_dtype_and_rounds_as_told(symbolic: bool) -> None:
    x = graphc.placeholder((1, 1, "n") if symbolic else (1, 1, 4), "uint8")
    array = np.array([[[10, 20, 30, 40]]], np.uint8)
    found = {
        word: value(
            graphc.nn.resize(x, (8,), method="nearest", coordinates="asymmetric", rounding=word),
            {x: array},
        )
        for word in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    }
    assert all(v.dtype == np.uint8 for v in found.values())
    assert found["floor"].ravel().tolist() == [10, 10, 20, 20, 30, 30, 40, 40]
    assert found["ceil"].ravel().tolist() == [10, 20, 20, 30, 30, 40, 40, 40]
    assert found["round_prefer_floor"].ravel().tolist() == [10, 10, 20, 20, 30, 30, 40, 40]
    assert found["round_prefer_ceil"].ravel().tolist() == [10, 20, 20, 30, 30, 40, 40, 40]


def test_cubic_resize_reproduces_parabolas_inside() -> None:
    # Keys' kernel with a = -1/2 is exact for polynomials of degree 2.
    places = np.arange(12.0)
    x = (0.5 * places**2 - 3 * places + 1)[None, None]
    out = value(
        graphc.nn.resize(
            x, (23,), method="cubic", coordinates="align_corners", cubic_coefficient=-0.5
        )
    )
    p = np.arange(23) / 2
    np.testing.assert_allclose(out[0, 0, 2:-2], (0.5 * p**2 - 3 * p + 1)[2:-2], rtol=1e-12)


def test_antialiased_resize_of_a_constant_is_constant_and_shrinks_by_means() -> None:
    ones = np.ones((1, 1, 30))
    for method in ("linear", "cubic"):
        out = value(graphc.nn.resize(ones, (4,), method=method, antialias=True))
        np.testing.assert_allclose(out, 1.0, rtol=1e-12)
    line = RNG.normal(size=(1, 1, 8))
    out = value(graphc.nn.resize(line, scale=0.5, antialias=True))
    # The triangle of width 4 over elements 2i - 1 … 2i + 2 has weights 1 3 3 1.
    inner = [np.dot([1, 3, 3, 1], line[0, 0, 2 * i - 1 : 2 * i + 3]) / 8 for i in (1, 2)]
    np.testing.assert_allclose(out[0, 0, 1:3], inner, rtol=1e-12)


def test_resize_of_a_region_fills_what_lies_outside() -> None:
    x = np.arange(5.0)[None, None]
    out = value(
        graphc.nn.resize(x, (4,), coordinates="crop_and_resize", region=[(0.5, 1.25)], fill=-1.0)
    )
    np.testing.assert_allclose(out[0, 0], [2.0, 3.0, 4.0, -1.0])


@pytest.mark.parametrize("method", ["nearest", "linear", "cubic"])
def test_resize_gradient(method: str) -> None:
    def resized(x: Any) -> Any:
        return graphc.nn.resize(x, (5, 9), method=method)

    check_grad(resized, [RNG.normal(size=(1, 2, 4, 6))])


def test_resize_says_what_does_not_fit() -> None:
    x = graphc.placeholder((1, 1, "n"), "float32")
    with pytest.raises(graphc.UnsupportedError, match=r"resize: the symbolic size n times 0\.7071"):
        graphc.nn.resize(x, scale=2**-0.5)
    with pytest.raises(graphc.UnsupportedError, match="antialias=True depends on a symbolic size"):
        graphc.nn.resize(x, (4,), antialias=True)
    with pytest.raises(graphc.ShapeError, match="resize: unknown method 'bilinear'"):
        graphc.nn.resize(x, (4,), method="bilinear")
    with pytest.raises(graphc.ShapeError, match="one size per resized axis"):
        graphc.nn.resize(x, (4, 4))


# -- grids and regions ----------------------------------------------------------------------------


def bilinear(image: Any, y: float, x: float) -> Any:
    """One place of [C, H, W], 0 outside."""
    total = np.zeros(image.shape[0])
    for i in (int(np.floor(y)), int(np.floor(y)) + 1):
        for j in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= i < image.shape[1] and 0 <= j < image.shape[2]:
                total += image[:, i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return total


def test_grid_sample_is_linear_between_elements_and_zero_outside() -> None:
    x, grid = RNG.normal(size=(2, 3, 5, 4)), RNG.uniform(-1.4, 1.4, (2, 3, 2, 2))
    found = value(graphc.nn.grid_sample(x, grid))
    for n in range(2):
        for i in range(3):
            for j in range(2):
                u, v = grid[n, i, j]
                place = ((v + 1) * 5 - 1) / 2, ((u + 1) * 4 - 1) / 2
                np.testing.assert_allclose(found[n, :, i, j], bilinear(x[n], *place), atol=1e-12)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_grid_sample_gradient(method: str, padding: str) -> None:
    def sampled(x: Any, grid: Any) -> Any:
        return graphc.nn.grid_sample(x, grid, method=method, padding=padding)

    # Places off the elements and off the sides, where the derivative jumps.
    grid = np.array([[[[-0.31, 0.22], [0.93, -0.61]], [[0.13, 1.11], [-0.87, -0.19]]]])
    check_grad(sampled, [RNG.normal(size=(1, 2, 4, 5)), grid])


@pytest.mark.parametrize("corners", [False, True])
def test_the_identity_grid_reads_every_element(corners: bool) -> None:
    x = RNG.normal(size=(2, 3, 4, 5))
    theta = np.tile(np.eye(2, 3), (2, 1, 1))
    grid = graphc.nn.affine_grid(theta, (4, 5), align_corners=corners)
    found = value(graphc.nn.grid_sample(x, grid, align_corners=corners))
    np.testing.assert_allclose(found, x, atol=1e-12)


@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align_is_a_mean_of_samples(aligned: bool) -> None:
    x = RNG.normal(size=(2, 3, 8, 9))
    boxes = np.array([[1.0, 2.0, 12.0, 10.0], [0.5, 3.0, 6.5, 13.0]])
    found = value(graphc.nn.roi_align(x, boxes, [1, 0], (2, 3), scale=0.5, aligned=aligned))
    for r, row in enumerate((1, 0)):
        x1, y1, x2, y2 = boxes[r] * 0.5 - (0.5 if aligned else 0.0)
        for i in range(2):
            for j in range(3):
                places = [
                    (y1 + (y2 - y1) * (i + a) / 2, x1 + (x2 - x1) * (j + b) / 3)
                    for a in (0.25, 0.75)
                    for b in (0.25, 0.75)
                ]
                clipped = [(min(max(y, 0), 7), min(max(u, 0), 8)) for y, u in places]
                mean = np.mean([bilinear(x[row], *p) for p in clipped], axis=0)
                np.testing.assert_allclose(found[r, :, i, j], mean, atol=1e-12)


@pytest.mark.parametrize("method", ["avg", "max"])
def test_roi_align_with_as_many_samples_as_elements(method: str) -> None:
    # Each box alone spans so many elements per bin that a fixed number of samples is the same.
    x = RNG.normal(size=(1, 2, 12, 12))
    boxes = np.array([[0.0, 1.0, 5.0, 6.5], [2.0, 2.0, 11.0, 10.5], [3.0, 3.0, 3.0, 3.0]])
    b = graphc.placeholder(("boxes", 4), "float64")
    rows = graphc.placeholder(("boxes",), "int64")
    out = graphc.nn.roi_align(x, b, rows, 3, samples=0, method=method)
    found = value(out, {b: boxes, rows: np.zeros(3, np.int64)})
    for r, samples in ((0, 2), (1, 3)):
        fixed = graphc.nn.roi_align(x, boxes[r : r + 1], [0], 3, samples=samples, method=method)
        np.testing.assert_allclose(found[r], value(fixed)[0], atol=1e-12)
    np.testing.assert_array_equal(found[2], 0.0)
    assert value(out, {b: boxes[:0], rows: np.zeros(0, np.int64)}).shape == (0, 2, 3, 3)


def test_roi_pool_takes_the_maximum_of_whole_elements() -> None:
    x = np.arange(36.0).reshape(1, 1, 6, 6)
    boxes = np.array([[0.0, 0.0, 3.0, 3.0], [2.0, 2.0, 5.0, 5.0], [7.0, 7.0, 9.0, 9.0]])
    found = value(graphc.nn.roi_pool(x, boxes, [0, 0, 0], 2))
    assert found[0, 0].tolist() == [[7, 9], [19, 21]]
    assert found[1, 0].tolist() == [[21, 23], [33, 35]]
    assert found[2, 0].tolist() == [[0, 0], [0, 0]]


def test_deform_conv_shifted_by_whole_elements_is_a_shifted_convolution() -> None:
    x, w = RNG.normal(size=(1, 4, 6, 7)), RNG.normal(size=(6, 2, 3, 3))
    offset = np.zeros((1, 18, 6, 7))
    offset[:, 1::2] = 1.0  # one element to the right
    found = value(graphc.nn.deform_conv(x, w, offset, padding=1, groups=2))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 2)))[..., 1:]
    expected = value(graphc.nn.conv(padded, w, groups=2))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_deform_conv_gradient() -> None:
    def convolved(x: Any, w: Any, offset: Any, mask: Any) -> Any:
        return graphc.nn.deform_conv(x, w, offset, mask=mask, offset_groups=2)

    shift = RNG.uniform(0.1, 0.4, (1, 16, 2, 2))
    arrays = [RNG.normal(size=(1, 2, 3, 3)), RNG.normal(size=(2, 2, 2, 2)), shift]
    check_grad(convolved, [*arrays, RNG.uniform(0.5, 1.0, (1, 8, 2, 2))])


# -- pools ----------------------------------------------------------------------------------------


def test_ceil_mode_counts_only_what_is_there() -> None:
    x = np.arange(1.0, 6.0)[None, None]
    pool = graphc.nn
    assert value(pool.max_pool(x, 2, ceil_mode=True)).ravel().tolist() == [2, 4, 5]
    assert value(pool.avg_pool(x, 2, ceil_mode=True)).ravel().tolist() == [1.5, 3.5, 5]
    # Windows that would start in the padding behind x are left out.
    out = value(pool.avg_pool(x, 2, stride=2, padding=1, ceil_mode=True))
    assert out.ravel().tolist() == [0.5, 2.5, 4.5]
    n = graphc.placeholder((1, 1, "n"), "float64")
    assert value(pool.max_pool(n, 3, 2, ceil_mode=True), {n: x}).ravel().tolist() == [3, 5]
    with pytest.raises(graphc.UnsupportedError, match="may leave the last one out"):
        pool.max_pool(n, 2, 2, padding=1, ceil_mode=True)


def test_indices_of_maxima_bring_them_back() -> None:
    x = RNG.normal(size=(2, 3, 6, 8))
    best, places = graphc.nn.max_pool_with_indices(x, 2)
    back = graphc.nn.max_unpool(best, places, 2)
    with graphc.Session(threads=1) as session:
        found, index, again = session.run((best, places, back))
    np.testing.assert_array_equal(found, value(graphc.nn.max_pool(x, 2)))
    flat = x.reshape(2, 3, -1)
    np.testing.assert_array_equal(
        np.take_along_axis(flat, index.reshape(2, 3, -1), -1), found.reshape(2, 3, -1)
    )
    np.testing.assert_array_equal(again, np.where(np.isin(x, found), x, 0))


@pytest.mark.parametrize("p", [1, 2, 3.5])
def test_p_norm_pools(p: float) -> None:
    x = RNG.normal(size=(1, 2, 4, 6))
    blocks = x.reshape(1, 2, 2, 2, 3, 2)
    np.testing.assert_allclose(
        value(graphc.nn.lp_pool(x, p, 2)), (np.abs(blocks) ** p).sum((3, 5)) ** (1 / p)
    )
    np.testing.assert_allclose(
        value(graphc.nn.global_lp_pool(x, p)), (np.abs(x) ** p).sum((2, 3)) ** (1 / p)
    )
    check_grad(lambda v: graphc.nn.lp_pool(v, p, 2), [np.abs(x) + 0.1])


# -- channels and space ---------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["depth_first", "channel_first"])
def test_blocks_of_space_and_channels(order: str) -> None:
    x = graphc.placeholder((1, 8, "h", 3), "float64")
    array = RNG.normal(size=(1, 8, 2, 3))
    wide = graphc.nn.depth_to_space(x, 2, order=order)
    assert wide.shape[1] == 2
    found = value(wide, {x: array})
    for c, i, j in np.ndindex(2, 2, 2):
        channel = (2 * i + j) * 2 + c if order == "depth_first" else c * 4 + 2 * i + j
        np.testing.assert_array_equal(found[0, c, i::2, j::2], array[0, channel])
    np.testing.assert_array_equal(value(graphc.nn.space_to_depth(found, 2, order=order)), array)


def test_channel_shuffle_interleaves_groups() -> None:
    x = np.arange(6.0).reshape(1, 6, 1)
    assert value(graphc.nn.channel_shuffle(x, 2)).ravel().tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("size", [1, 4, 5])
def test_local_response_norm(size: int) -> None:
    x = RNG.normal(size=(2, 6, 3))
    found = value(graphc.nn.local_response_norm(x, size, alpha=0.3, beta=0.6, bias=1.5))
    before = (size - 1) // 2
    for c in range(6):
        near = x[:, max(c - before, 0) : c - before + size]
        spread = 1.5 + 0.3 / size * (near**2).sum(1)
        np.testing.assert_allclose(found[:, c], x[:, c] / spread**0.6, rtol=1e-12)
    check_grad(lambda v: graphc.nn.local_response_norm(v, size), [x])
