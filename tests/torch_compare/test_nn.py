"""Functions of graphc.nn against torch.nn.functional: values and gradients in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn
from tests.torch_compare.comparing import compare, draw, torch


def functional() -> Any:
    """torch.nn.functional."""
    return torch().nn.functional


CONVOLUTIONS = [
    # x, w, stride, padding, dilation, groups
    ((2, 3, 9), (4, 3, 3), 1, 0, 1, 1),
    ((2, 4, 11), (6, 2, 3), 2, 1, 2, 2),
    ((1, 3, 5), (3, 1, 5), 1, 2, 1, 3),
    ((2, 3, 8, 7), (4, 3, 3, 2), 1, 0, 1, 1),
    ((2, 3, 8, 7), (4, 3, 3, 3), (2, 1), (1, 2), (1, 2), 1),
    ((1, 4, 9, 9), (8, 1, 3, 3), 2, 1, 1, 4),
    ((2, 4, 10, 6), (2, 2, 1, 1), 3, 0, 1, 2),
    ((1, 2, 5, 6, 4), (3, 2, 2, 3, 2), 1, 0, 1, 1),
    ((1, 2, 7, 6, 8), (4, 1, 3, 2, 3), (2, 1, 3), (1, 0, 2), (1, 2, 1), 2),
]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_conv(case: Any) -> None:
    xs, ws, stride, padding, dilation, groups = case
    function = getattr(functional(), f"conv{len(xs) - 2}d")
    compare(
        lambda x, w, b: nn.conv(x, w, stride, padding, dilation, groups, bias=b),
        lambda x, w, b: function(x, w, b, stride, padding, dilation, groups),
        draw(xs, ws, (ws[0],)),
    )


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")  # torch copies: its warning
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_conv_same(size: int, dilation: int) -> None:
    compare(
        lambda x, w: nn.conv(x, w, 1, "same", dilation),
        lambda x, w: functional().conv2d(x, w, None, 1, "same", dilation),
        draw((2, 3, 9, 8), (4, 3, size, 3)),
    )


TRANSPOSED = [
    # x, w, stride, padding, output_padding, dilation, groups
    ((2, 3, 5), (3, 4, 3), 1, 0, 0, 1, 1),
    ((2, 4, 5), (4, 3, 3), 2, 1, 1, 1, 2),
    ((2, 3, 5, 4), (3, 4, 3, 3), 2, 1, 1, 1, 1),
    ((1, 4, 4, 5), (4, 2, 3, 2), (3, 2), (1, 0), (2, 1), 1, 2),
    ((1, 2, 4, 5), (2, 3, 3, 2), (2, 1), (2, 1), (1, 0), 2, 1),
    ((1, 2, 3, 4, 3), (2, 3, 2, 3, 2), 2, 1, 1, 1, 1),
]


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv_transpose(case: Any) -> None:
    xs, ws, stride, padding, output_padding, dilation, groups = case
    function = getattr(functional(), f"conv_transpose{len(xs) - 2}d")
    compare(
        lambda x, w, b: nn.conv_transpose(
            x, w, stride, padding, dilation, groups, output_padding=output_padding, bias=b
        ),
        lambda x, w, b: function(x, w, b, stride, padding, output_padding, groups, dilation),
        draw(xs, ws, (ws[1] * groups,)),
    )


POOLS = [
    # x, size, stride, padding
    ((2, 3, 9), 2, None, 0),
    ((2, 3, 9), 3, 2, 1),
    ((2, 3, 8, 7), (3, 2), (2, 1), (1, 0)),
    ((2, 3, 8, 7), 2, 3, 1),
    ((1, 2, 5, 6, 7), 3, (1, 2, 2), (0, 1, 1)),
]


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_max_pool(case: Any) -> None:
    xs, size, stride, padding = case
    function = getattr(functional(), f"max_pool{len(xs) - 2}d")
    compare(
        lambda x: nn.max_pool(x, size, stride, padding),
        lambda x: function(x, size, stride, padding),
        draw(xs),
    )
    compare(
        lambda x: nn.max_pool(x, 2, 1, 1, dilation=2),
        lambda x: function(x, 2, 1, 1, 2),
        draw(xs),
    )


@pytest.mark.parametrize("count", [True, False])
@pytest.mark.parametrize("case", POOLS, ids=str)
def test_avg_pool(case: Any, count: bool) -> None:
    xs, size, stride, padding = case
    function = getattr(functional(), f"avg_pool{len(xs) - 2}d")
    compare(
        lambda x: nn.avg_pool(x, size, stride, padding, count_include_pad=count),
        lambda x: function(x, size, stride, padding, False, count),
        draw(xs),
    )


@pytest.mark.parametrize("kind", ["avg", "max"])
@pytest.mark.parametrize("output", [1, 2, (3, 5), (8, 7), (5, 4)], ids=str)
def test_adaptive_pool(kind: str, output: Any) -> None:
    function = getattr(functional(), f"adaptive_{kind}_pool2d")
    compare(
        lambda x: getattr(nn, f"adaptive_{kind}_pool")(x, output),
        lambda x: function(x, output),
        draw((2, 3, 8, 7)),
    )


ACTIVATIONS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("relu", "relu", {}, {}),
    ("relu6", "relu6", {}, {}),
    ("leaky_relu", "leaky_relu", {}, {}),
    ("leaky_relu", "leaky_relu", {"negative_slope": 0.2}, {"negative_slope": 0.2}),
    ("elu", "elu", {}, {}),
    ("elu", "elu", {"alpha": 0.3}, {"alpha": 0.3}),
    ("selu", "selu", {}, {}),
    ("celu", "celu", {"alpha": 1.7}, {"alpha": 1.7}),
    ("gelu", "gelu", {}, {}),
    ("gelu", "gelu", {"approximate": "tanh"}, {"approximate": "tanh"}),
    ("silu", "silu", {}, {}),
    ("swish", "silu", {}, {}),
    ("mish", "mish", {}, {}),
    ("hard_sigmoid", "hardsigmoid", {}, {}),
    ("hard_swish", "hardswish", {}, {}),
    ("hard_tanh", "hardtanh", {}, {}),
    ("softsign", "softsign", {}, {}),
    ("log_sigmoid", "logsigmoid", {}, {}),
    ("sigmoid", "sigmoid", {}, {}),
    ("softplus", "softplus", {}, {"threshold": 1000.0}),
    ("tanh", "tanh", {}, {}),
    ("glu", "glu", {}, {}),
    ("glu", "glu", {"axis": 0}, {"dim": 0}),
    ("softmax", "softmax", {"axis": -1}, {"dim": -1}),
    ("softmax", "softmax", {"axis": 0}, {"dim": 0}),
    ("log_softmax", "log_softmax", {"axis": 1}, {"dim": 1}),
]


@pytest.mark.parametrize("case", ACTIVATIONS, ids=lambda c: f"{c[0]}-{c[2]}")
def test_activation(case: Any) -> None:
    ours, theirs, options, their_options = case
    x = draw((6, 8))[0] * 4
    x[0, :5] = [30.0, -30.0, 700.0, -700.0, 1e-12]
    compare(
        lambda x: getattr(nn, ours)(x, **options),
        lambda x: getattr(functional(), theirs)(x, **their_options),
        [x],
        # torch's backward of these two multiplies by constants rounded to float32.
        tolerance=1e-6 if ours in ("celu", "hard_sigmoid") else 1e-10,
    )


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_losses(reduction: str) -> None:
    f, (a, b) = functional(), draw((5, 7), (5, 7))
    b = b + 3 * (np.abs(b) > 1)  # both sides of huber's delta
    how = {"reduction": reduction}
    compare(lambda x, y: nn.mse(x, y, **how), lambda x, y: f.mse_loss(x, y, **how), [a, b])
    compare(lambda x, y: nn.l1(x, y, **how), lambda x, y: f.l1_loss(x, y, **how), [a, b])
    for delta in (1.0, 0.4):
        compare(
            lambda x, y: nn.huber(x, y, delta=delta, **how),  # noqa: B023  # called before the next turn
            lambda x, y: f.huber_loss(x, y, delta=delta, **how),  # noqa: B023  # called before the next turn
            [a, b],
        )


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_cross_entropy(reduction: str, smoothing: float) -> None:
    f = functional()
    classes = np.array([0, 6, 3, 3, 1])
    logits = draw((5, 7))[0] * 5
    compare(
        lambda x: nn.softmax_cross_entropy(
            x, classes, label_smoothing=smoothing, reduction=reduction
        ),
        lambda x: f.cross_entropy(
            x, torch().tensor(classes), label_smoothing=smoothing, reduction=reduction
        ),
        [logits],
    )
    soft = np.exp(draw((5, 7), seed=4)[0])
    soft /= soft.sum(-1, keepdims=True)
    compare(
        lambda x, p: nn.softmax_cross_entropy(x, p, label_smoothing=smoothing, reduction=reduction),
        lambda x, p: f.cross_entropy(x, p, label_smoothing=smoothing, reduction=reduction),
        [logits, soft],
    )


def test_softmax_cross_entropy_of_maps() -> None:
    classes = np.random.default_rng(0).integers(0, 4, (2, 3, 5))
    compare(
        lambda x: nn.softmax_cross_entropy(x, classes, axis=1),
        lambda x: functional().cross_entropy(x, torch().tensor(classes), reduction="none"),
        draw((2, 4, 3, 5)),
    )


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_binary_cross_entropy(reduction: str) -> None:
    f = functional()
    logits, weight = draw((5, 7), (7,))
    logits[0, :4] = [40.0, -40.0, 800.0, -800.0]
    labels, weight = np.random.default_rng(1).random((5, 7)), np.exp(weight)
    compare(
        lambda x, y: nn.binary_cross_entropy_with_logits(x, y, reduction=reduction),
        lambda x, y: f.binary_cross_entropy_with_logits(x, y, reduction=reduction),
        [logits, labels],
    )
    compare(
        lambda x: nn.binary_cross_entropy_with_logits(
            x, labels, positive_weight=weight, reduction=reduction
        ),
        lambda x: f.binary_cross_entropy_with_logits(
            x, torch().tensor(labels), pos_weight=torch().tensor(weight), reduction=reduction
        ),
        [logits],
    )


def test_other_losses() -> None:
    f, t = functional(), torch()
    logits, other = draw((5, 7), (5, 7))
    classes = np.array([0, 6, 3, 3, 1])
    for reduction in ("none", "mean", "sum"):
        compare(
            lambda x: nn.nll(nn.log_softmax(x), classes, reduction=reduction),  # noqa: B023  # called before the next turn
            lambda x: f.nll_loss(
                f.log_softmax(x, -1),
                t.tensor(classes),
                reduction=reduction,  # noqa: B023  # called before the next turn
            ),
            [logits],
        )
    compare(
        lambda x, y: nn.kl_divergence(nn.log_softmax(x), nn.softmax(y), reduction="sum"),
        lambda x, y: f.kl_div(f.log_softmax(x, -1), f.softmax(y, -1), reduction="sum"),
        [logits, other],
    )
    compare(
        lambda x, y: nn.cosine_similarity(x, y, axis=-1),
        lambda x, y: f.cosine_similarity(x, y, dim=-1),
        [logits, other],
    )


def test_norms() -> None:
    f = functional()
    x, s, b = draw((4, 6, 5, 3), (6,), (6,))
    compare(
        lambda x, s, b: nn.group_norm(x, 3, s, b),
        lambda x, s, b: f.group_norm(x, 3, s, b),
        [x, s, b],
    )
    compare(
        lambda x, s, b: nn.instance_norm(x, s, b),
        lambda x, s, b: f.instance_norm(x, weight=s, bias=b),
        [x, s, b],
    )
    x, s, b = draw((4, 6, 5), (5,), (5,))
    compare(
        lambda x, s, b: nn.layer_norm(x, s, b, epsilon=1e-5),
        lambda x, s, b: f.layer_norm(x, (5,), s, b, 1e-5),
        [x, s, b],
    )
    compare(
        lambda x, s: nn.rms_norm(x, s, epsilon=1e-6),
        lambda x, s: f.rms_norm(x, (5,), s, 1e-6),
        [x, s],
    )
    x, s, b = draw((4, 6, 5), (6, 5), (6, 5))
    compare(
        lambda x, s, b: nn.layer_norm(x, s, b, axis=(-2, -1)),
        lambda x, s, b: f.layer_norm(x, (6, 5), s, b),
        [x, s, b],
    )


def test_batch_norm() -> None:
    f, t = functional(), torch()
    x, s, b, mean, variance = draw((4, 6, 5, 3), (6,), (6,), (6,), (6,))
    variance = np.exp(variance)
    compare(
        lambda x, s, b: nn.batch_norm(x, s, b, mean, variance),
        lambda x, s, b: f.batch_norm(x, t.tensor(mean), t.tensor(variance), s, b, eps=1e-5),
        [x, s, b],
    )
    compare(
        lambda x, s, b: nn.batch_norm(x, s, b)[0],
        lambda x, s, b: f.batch_norm(x, None, None, s, b, training=True, eps=1e-5),
        [x, s, b],
    )


def test_embedding() -> None:
    ids = np.array([[0, 3, 3], [9, 1, 0]])
    compare(
        lambda w: nn.embedding(w, ids),
        lambda w: functional().embedding(torch().tensor(ids), w),
        draw((10, 4)),
    )
    compare(
        lambda x, w, b: nn.linear(x, graphc.matrix_transpose(w), b),
        lambda x, w, b: functional().linear(x, w, b),
        draw((2, 3, 5), (4, 5), (4,)),
    )


@pytest.mark.parametrize("kind", ["plain", "causal", "bool", "added", "scale"])
def test_attention(kind: str) -> None:
    t = torch()
    function = functional().scaled_dot_product_attention
    q, k, v = draw((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6))
    mask = np.random.default_rng(2).random((5, 7)) < 0.6
    mask[:, 0] = True
    bias = draw((3, 5, 7), seed=8)[0]
    ours: dict[str, Any] = {
        "plain": {},
        "causal": {"causal": True},
        "bool": {"mask": mask},
        "added": {"mask": bias},
        "scale": {"scale": 0.7},
    }[kind]
    their_options: dict[str, dict[str, Any]] = {
        "plain": {},
        "causal": {"is_causal": True},
        "bool": {"attn_mask": t.tensor(mask)},
        "added": {"attn_mask": t.tensor(bias)},
        "scale": {"scale": 0.7},
    }
    theirs = their_options[kind]
    if kind == "causal":
        k, v = k[:, :, :5], v[:, :, :5]
    compare(
        lambda q, k, v: nn.scaled_dot_product_attention(q, k, v, **ours),
        lambda q, k, v: function(q, k, v, **theirs),
        [q, k, v],
    )
