"""Convolutions and pools against plain loops, their gradients, layouts and padding words."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn
from tests.nn.evaluation import check_gradients, evaluate

RNG = np.random.default_rng(2)


def slow_conv(
    x: np.ndarray, w: np.ndarray, stride: Any, pads: Any, dilation: Any, groups: int
) -> np.ndarray:
    """The definition, one element after another."""
    rank = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    sizes = [
        (x.shape[2 + i] - dilation[i] * (w.shape[2 + i] - 1) - 1) // stride[i] + 1
        for i in range(rank)
    ]
    out = np.zeros((x.shape[0], w.shape[0], *sizes))
    per_group = w.shape[0] // groups
    for place in np.ndindex(*out.shape):
        n, o, *p = place
        first = o // per_group * w.shape[1]
        for c, *k in np.ndindex(*w.shape[1:]):
            spot = tuple(p[i] * stride[i] + k[i] * dilation[i] for i in range(rank))
            out[place] += x[(n, first + c, *spot)] * w[(o, c, *k)]
    return out


CASES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 8), (4, 3, 3), {}),
    ((2, 4, 9), (6, 2, 3), {"stride": 2, "padding": 1, "groups": 2}),
    ((1, 2, 6, 7), (3, 2, 3, 2), {"padding": ((1, 0), (2, 1)), "stride": (2, 1)}),
    ((2, 3, 5, 6), (3, 1, 3, 3), {"padding": 2, "dilation": 2, "groups": 3}),
    ((1, 2, 4, 5, 4), (2, 2, 2, 3, 2), {"padding": (1, 0, 1), "stride": (1, 2, 2)}),
    ((2, 3, 4, 4), (5, 3, 1, 1), {}),
    ((1, 1, 7), (1, 1, 2), {"stride": 3}),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "options"), CASES, ids=str)
def test_conv(x_shape: tuple[int, ...], w_shape: tuple[int, ...], options: dict[str, Any]) -> None:
    x, w = RNG.normal(size=x_shape), RNG.normal(size=w_shape)
    rank = x.ndim - 2

    def per_axis(value: Any) -> Any:
        return (value,) * rank if isinstance(value, int) else value

    padding = per_axis(options.get("padding", 0))
    pads = [(p, p) if isinstance(p, int) else p for p in padding]
    expected = slow_conv(
        x,
        w,
        per_axis(options.get("stride", 1)),
        pads,
        per_axis(options.get("dilation", 1)),
        options.get("groups", 1),
    )
    found = evaluate(lambda a, b: nn.conv(a, b, **options), x, w)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
    check_gradients(lambda a, b: nn.conv(a, b, **options), x, w)
    last = evaluate(
        lambda a, b: nn.conv(a, b, layout="channels_last", **options),
        np.moveaxis(x, 1, -1).copy(),
        w,
    )
    np.testing.assert_allclose(np.moveaxis(last, -1, 1), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("size", [5, 6, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_same_padding(size: int, stride: int, kernel: int) -> None:
    x, w = RNG.normal(size=(1, 1, size)), RNG.normal(size=(1, 1, kernel))
    found = evaluate(lambda a, b: nn.conv(a, b, stride=stride, padding="same"), x, w)
    assert found.shape[2] == -(-size // stride)
    total = max((found.shape[2] - 1) * stride + kernel - size, 0)
    pads = [(total // 2, total - total // 2)]
    np.testing.assert_allclose(found, slow_conv(x, w, (stride,), pads, (1,), 1), atol=1e-12)


@pytest.mark.parametrize(
    ("stride", "padding", "extra", "dilation", "groups"),
    [(1, 0, 0, 1, 1), (2, 1, 1, 1, 1), (3, 0, 2, 1, 2), (2, 1, 0, 2, 1), (1, 2, 0, 2, 2)],
)
def test_conv_transpose_is_the_transpose(
    stride: int, padding: int, extra: int, dilation: int, groups: int
) -> None:
    w = RNG.normal(size=(4, 6 // groups, 3, 2))
    x = RNG.normal(size=(2, 4, 3, 4))

    def up(a: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
        return nn.conv_transpose(
            a,
            b,
            stride=stride,
            padding=padding,
            output_padding=extra,
            dilation=dilation,
            groups=groups,
        )

    y = evaluate(up, x, w)
    assert y.shape[2:] == tuple(
        (s - 1) * stride - 2 * padding + dilation * (k - 1) + 1 + extra
        for s, k in zip((3, 4), (3, 2), strict=True)
    )
    # <up(x), z> == <x, down(z)> for every z, down being conv with the same kernel.
    z = RNG.normal(size=y.shape)
    down = slow_conv(z, w, (stride,) * 2, [(padding, padding)] * 2, (dilation,) * 2, groups)
    down = down[:, :, : x.shape[2], : x.shape[3]]
    np.testing.assert_allclose((y * z).sum(), (x * down).sum(), rtol=1e-10)
    check_gradients(up, x, w)


def test_conv_transpose_same() -> None:
    for stride, kernel in itertools.product((1, 2, 3), (1, 2, 3, 4)):
        x = graphc.placeholder((1, 2, 5))
        w = np.zeros((2, 3, kernel), np.float32)
        assert nn.conv_transpose(x, w, stride=stride, padding="same").shape == (1, 3, 5 * stride)


def test_symbolic_batch_and_size() -> None:
    n = graphc.Dim("n", min=4, multiple_of=2)
    x = graphc.placeholder(("batch", 2, n), "float64")
    w = graphc.placeholder((3, 2, 3), "float64")
    out = nn.conv(x, w, stride=2, padding="same")
    assert out.shape == (graphc.Dim("batch"), 3, n // 2)
    g = graphc.grad(graphc.sum(out * out), x)
    assert g.shape == x.shape
    graph = graphc.Graph([x, w], {"out": out, "g": g})
    for batch, size in ((1, 4), (2, 10)):
        a, b = RNG.normal(size=(batch, 2, size)), RNG.normal(size=(3, 2, 3))
        found = graph.evaluate({x: a, w: b})
        np.testing.assert_allclose(
            found["out"], slow_conv(a, b, (2,), [(0, 1)], (1,), 1), atol=1e-12
        )
        static = graphc.placeholder(a.shape, "float64")
        y = nn.conv(static, b, stride=2, padding="same")
        same = graphc.Graph([static], {"g": graphc.grad(graphc.sum(y * y), static)})
        np.testing.assert_allclose(found["g"], same.evaluate({static: a})["g"], atol=1e-12)


def test_bias_and_errors() -> None:
    x, w = RNG.normal(size=(2, 3, 5, 5)), RNG.normal(size=(4, 3, 3, 3))
    with_bias = evaluate(lambda a, b: nn.conv(a, b, bias=np.arange(4.0)), x, w)
    plain = evaluate(nn.conv, x, w)
    strided = evaluate(lambda a, b: nn.conv(a, b, 2, 1), x, w)
    np.testing.assert_allclose(
        strided, slow_conv(x, w, (2, 2), [(1, 1)] * 2, (1, 1), 1), atol=1e-11
    )
    np.testing.assert_allclose(with_bias, plain + np.arange(4.0)[:, None, None])
    for wrong, text in (
        (lambda: nn.conv(x[0], w), r"as many dims[\s\S]*x\[None\]"),
        (lambda: nn.conv(x.transpose(0, 2, 3, 1), w), r"do not fit the kernel[\s\S]*channels_last"),
        (lambda: nn.conv(x, w, padding="some"), "padding must be"),
        (lambda: nn.conv(x, w, stride=(1, 2, 3)), "stride needs 2 values"),
        (lambda: nn.conv(x, w, stride=0), "stride must be at least 1"),
        (
            lambda: nn.conv(x[:, :, :2], w),
            "kernel of 3 elements does not fit spatial axis 0 of size 2",
        ),
        (lambda: nn.conv(x, w, bias=np.zeros(3)), r"bias must have shape \[4\]"),
        (lambda: nn.conv(x, w, layout="NHWC"), "unknown layout"),
        (lambda: nn.max_pool(x, 2, padding=2), "must be smaller than the window"),
        (lambda: nn.max_pool(x[0, 0], 2), "at least 3 dims"),
        (lambda: nn.adaptive_avg_pool(graphc.placeholder((1, 1, "n")), 3), "symbolic size n"),
    ):
        with pytest.raises(graphc.ShapeError, match=text):
            wrong()


# -- pools ----------------------------------------------------------------------------------------


def slow_pool(
    x: np.ndarray, size: Any, stride: Any, pads: Any, reduce: Any, fill: float
) -> np.ndarray:
    """Each window reduced by itself."""
    x = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
    counts = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], size, stride, strict=True)]
    out = np.zeros((*x.shape[:2], *counts))
    for place in np.ndindex(*counts):
        window = tuple(slice(p * s, p * s + k) for p, s, k in zip(place, stride, size, strict=True))
        out[(..., *place)] = reduce(x[(..., *window)].reshape(*x.shape[:2], -1), -1)
    return out


POOLS = [
    ((2, 2, 7), (2,), (2,), 0),
    ((1, 2, 6, 8), (2, 2), (2, 2), 0),
    ((1, 2, 5, 7), (3, 2), (2, 1), 1),
    ((1, 1, 4, 4, 5), (2, 2, 3), (2, 1, 1), 0),
]


@pytest.mark.parametrize(("shape", "size", "stride", "padding"), POOLS, ids=str)
def test_pools(shape: Any, size: Any, stride: Any, padding: int) -> None:
    x = RNG.permutation(int(np.prod(shape))).reshape(shape) / 7.0
    pads = [(padding, padding)] * len(size)
    expected = slow_pool(x, size, stride, pads, np.max, -np.inf)
    np.testing.assert_allclose(
        evaluate(lambda a: nn.max_pool(a, size, stride, padding), x), expected
    )
    expected = slow_pool(x, size, stride, pads, np.mean, 0.0)
    np.testing.assert_allclose(
        evaluate(lambda a: nn.avg_pool(a, size, stride, padding), x), expected
    )
    expected = slow_pool(x, size, stride, pads, np.nanmean, np.nan)
    found = evaluate(lambda a: nn.avg_pool(a, size, stride, padding, count_include_pad=False), x)
    np.testing.assert_allclose(found, expected)
    check_gradients(lambda a: nn.max_pool(a, size, stride, padding), x)
    check_gradients(lambda a: nn.avg_pool(a, size, stride, padding, count_include_pad=False), x)


def test_pool_defaults_and_layout() -> None:
    x = RNG.normal(size=(1, 5, 6, 2))
    found = evaluate(lambda a: nn.max_pool(a, 2, layout="channels_last"), x)
    assert found.shape == (1, 2, 3, 2)
    np.testing.assert_allclose(found, x[:, :4].reshape(1, 2, 2, 3, 2, 2).max((2, 4)))
    integers = np.arange(16).reshape(1, 1, 4, 4)
    np.testing.assert_array_equal(
        evaluate(lambda a: nn.max_pool(a, 2, padding=1), integers)[0, 0, 0], [0, 2, 3]
    )


@pytest.mark.parametrize("output", [1, 2, 3, (2, 5), (5, 6)])
def test_adaptive_pools(output: Any) -> None:
    x = RNG.normal(size=(2, 3, 5, 6))
    sizes = (output, output) if isinstance(output, int) else output
    for ours, reduce in ((nn.adaptive_avg_pool, np.mean), (nn.adaptive_max_pool, np.max)):
        expected = np.zeros((2, 3, *sizes))
        for i, j in np.ndindex(*sizes):
            rows = slice(i * 5 // sizes[0], -(-(i + 1) * 5 // sizes[0]))
            columns = slice(j * 6 // sizes[1], -(-(j + 1) * 6 // sizes[1]))
            expected[:, :, i, j] = reduce(x[:, :, rows, columns], (2, 3))
        np.testing.assert_allclose(evaluate(lambda a, f=ours: f(a, output), x), expected)
        check_gradients(lambda a, f=ours: f(a, output), x[:1, :1])


def test_global_pools() -> None:
    x = RNG.normal(size=(2, 3, 4, 5))
    np.testing.assert_allclose(evaluate(nn.global_avg_pool, x), x.mean((2, 3)))
    np.testing.assert_allclose(
        evaluate(lambda a: nn.global_max_pool(a, keepdims=True), x), x.max((2, 3), keepdims=True)
    )
