"""The functions of `graphc.nn`, optimizers and control flow, with arguments that do not fit."""

from __future__ import annotations

import numpy as np

import graphc
from graphc import nn
from tests.errors.corpus import mistake


def tensor(*shape: int | str, dtype: str = "float32", name: str = "x") -> graphc.Tensor:
    return graphc.placeholder(shape, dtype, name=name)


@mistake("ShapeError", "conv", "3", "4", "f32[n, 3, 8, 8]", "f32[16, 4, 3, 3]", hint=r"channel")
def convolution_of_other_channels() -> object:
    x, w = tensor("n", 3, 8, 8), tensor(16, 4, 3, 3, name="w")
    return nn.conv(x, w)  # wrong


@mistake("ShapeError", "conv", "groups", "3", hint=r"divi")
def convolution_in_groups_that_do_not_divide() -> object:
    x, w = tensor("n", 4, 8, 8), tensor(6, 1, 3, 3, name="w")
    return nn.conv(x, w, groups=3)  # wrong


@mistake("ShapeError", "conv", "f32[n, 1, 2, 2]", "f32[8, 1, 5, 5]", hint=r"padding|smaller")
def convolution_with_windows_beyond_the_image() -> object:
    x, w = tensor("n", 1, 2, 2), tensor(8, 1, 5, 5, name="w")
    return nn.conv(x, w)  # wrong


@mistake("ShapeError", "conv", "stride", "0", hint=r"1|positive")
def convolution_with_stride_zero() -> object:
    x, w = tensor("n", 1, 8, 8), tensor(8, 1, 3, 3, name="w")
    return nn.conv(x, w, stride=0)  # wrong


@mistake("ShapeError", "conv", "f32[n, 8, 8]", "f32[8, 1, 3, 3]", hint=r"batch|channel|dim|None")
def convolution_of_images_without_a_channel() -> object:
    x, w = tensor("n", 8, 8), tensor(8, 1, 3, 3, name="w")
    return nn.conv(x, w)  # wrong


@mistake("ShapeError", "conv", "padding", hint=r"same|valid|int|pair")
def convolution_with_an_unknown_padding() -> object:
    x, w = tensor("n", 1, 8, 8), tensor(8, 1, 3, 3, name="w")
    return nn.conv(x, w, padding="sane")  # wrong


@mistake("ShapeError", "conv", "layout", "NHWC", hint=r"channels_last")
def convolution_with_an_unknown_layout() -> object:
    x, w = tensor("n", 8, 8, 1), tensor(8, 1, 3, 3, name="w")
    return nn.conv(x, w, layout="NHWC")  # wrong


@mistake("ShapeError", "max_pool", "f32[n, 3, 2, 2]", "4", hint=r"padding|smaller|global")
def pool_with_windows_beyond_the_image() -> object:
    x = tensor("n", 3, 2, 2)
    return nn.max_pool(x, 4)  # wrong


@mistake("ShapeError", "avg_pool", "f32[n, 3, 8, 8]", hint=r"2|one per|spatial")
def pool_with_three_sizes_for_two_dimensions() -> object:
    x = tensor("n", 3, 8, 8)
    return nn.avg_pool(x, (2, 2, 2))  # wrong


@mistake("ShapeError", "softmax", "f32[n, 10]", "2", hint=r"-2.*1|between|range")
def softmax_over_a_missing_axis() -> object:
    x = tensor("n", 10)
    return nn.softmax(x, axis=2)  # wrong


@mistake(
    "ShapeError", "softmax_cross_entropy", "f32[n, 10]", "i64[n, 1]", hint=r"squeeze|shape|one_hot"
)
def labels_with_a_dimension_too_many() -> object:
    x, t = tensor("n", 10), tensor("n", 1, dtype="int64", name="t")
    return nn.softmax_cross_entropy(x, t)  # wrong


@mistake(
    "DTypeError", "softmax_cross_entropy", "f32[n]", "f32[n, 10]", hint=r"int|astype|one_hot|prob"
)
def labels_as_floats() -> object:
    x, t = tensor("n", 10), tensor("n", name="t")
    return nn.softmax_cross_entropy(x, t)  # wrong


@mistake("DTypeError", "embedding", "f32[n]", hint=r"int|astype")
def embedding_of_floats() -> object:
    table, k = tensor(100, 8, name="table"), tensor("n", name="k")
    return nn.embedding(table, k)  # wrong


@mistake("DTypeError", "one_hot", "f32[n]", hint=r"int|astype")
def one_hot_of_floats() -> object:
    k = tensor("n", name="k")
    return nn.one_hot(k, 10)  # wrong


@mistake("ShapeError", "scaled_dot_product_attention", "f32[n, 8]", "f32[n, 16]", hint=r"\S")
def attention_over_two_depths() -> object:
    q, k, v = tensor("n", 8, name="q"), tensor("n", 16, name="k"), tensor("n", 16, name="v")
    return nn.scaled_dot_product_attention(q, k, v)  # wrong


@mistake("ShapeError", "group_norm", "3", "8", hint=r"divi")
def group_norm_with_groups_that_do_not_divide() -> object:
    x = tensor("n", 8, 4, 4)
    return nn.group_norm(x, 3)  # wrong


@mistake("ShapeError", "binary_cross_entropy_with_logits", "f32[n]", "f32[m]", hint=r"\S")
def targets_of_another_length() -> object:
    x, t = tensor("n"), tensor("m", name="t")
    return nn.binary_cross_entropy_with_logits(x, t)  # wrong


@mistake("GraphError", "adam", "2", "1", hint=r"grad")
def optimizer_with_a_missing_gradient() -> object:
    w = graphc.variable(np.ones(3, np.float32), name="w")
    b = graphc.variable(np.ones(3, np.float32), name="b")
    (g,) = graphc.grad(graphc.sum(w * b), [w])
    return graphc.optimizers.adam([w, b], [g])  # wrong


@mistake("GraphError", "sgd", "placeholder", hint=r"variable")
def optimizer_of_a_placeholder() -> object:
    x = tensor(3)
    g = graphc.grad(graphc.sum(x * x), x)
    return graphc.optimizers.sgd([x], [g], learning_rate=0.1)  # wrong


@mistake("ShapeError", "momentum", "f32[3]", "f32[]", hint=r"grad|shape|order")
def optimizer_with_gradients_in_another_order() -> object:
    w = graphc.variable(np.ones(3, np.float32), name="w")
    b = graphc.variable(np.float32(1), name="b")
    gw, gb = graphc.grad(graphc.sum(w * b), [w, b])
    return graphc.optimizers.momentum([w, b], [gb, gw], learning_rate=0.1)  # wrong
