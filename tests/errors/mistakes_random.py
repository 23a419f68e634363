"""Random numbers, attention, losses and their like, with arguments that do not fit."""

from __future__ import annotations

import numpy as np

import graphc
from graphc import nn, random
from tests.errors.corpus import mistake

KEY = random.key(0)


def tensor(*shape: int | str, dtype: str = "float32", name: str = "x") -> graphc.Tensor:
    return graphc.placeholder(shape, dtype, name=name)


@mistake("DTypeError", "random.normal", "u32[2]", "i64[]", hint=r"graphc\.random\.key\(seed\)")
def a_seed_instead_of_a_key() -> object:
    return random.normal(3, (4,))  # wrong


@mistake("DTypeError", "random.uniform", "int64", hint=r"randint")
def uniform_integers() -> object:
    return random.uniform(KEY, (3,), 0, 10, dtype="int64")  # wrong


@mistake("ShapeError", "random.randint", "int8", "0", "200", hint=r"-128 to 128")
def integers_beyond_their_dtype() -> object:
    return random.randint(KEY, 0, 200, (3,), dtype="int8")  # wrong


@mistake("ShapeError", "random.randint", "5", hint=r"low is below high")
def a_die_without_faces() -> object:
    return random.randint(KEY, 5, 5)  # wrong


@mistake("ShapeError", "random.choice", "4", "3", "replacement", hint=r"replace=True")
def more_cards_than_the_deck_has() -> object:
    return random.choice(KEY, 3, (4,), replace=False)  # wrong


@mistake("ShapeError", "random.choice", "f64[2]", hint=r"one for each element")
def chances_of_other_elements() -> object:
    return random.choice(KEY, 3, (4,), probabilities=[0.5, 0.5])  # wrong


@mistake("ShapeError", "random.gamma", "[4]", "[3]", hint=r"broadcast|1|line the axes")
def concentrations_of_another_shape() -> object:
    return random.gamma(KEY, tensor(4), (3,))  # wrong


@mistake("ShapeError", "dropout", "1.5", hint=r"share")
def a_rate_beyond_one() -> object:
    return nn.dropout(tensor("n", 3), 1.5, KEY)  # wrong


@mistake("ShapeError", "dropout", "u32[4, 2]", "[3, 5]", hint=r"one per example")
def keys_of_other_examples() -> object:
    return nn.dropout(tensor(3, 5), 0.5, random.fold_in(KEY, np.arange(4)))  # wrong


@mistake("DTypeError", "scaled_dot_product_attention", "int64", hint=r"mask != 0")
def a_mask_of_integers() -> object:
    x = tensor("n", 5, 8)
    return nn.scaled_dot_product_attention(x, x, x, np.ones((5, 5), np.int64))  # wrong


@mistake("ShapeError", "multi_head_attention", "8", "3", hint=r"divides")
def heads_that_do_not_group() -> object:
    weights = nn.AttentionWeights(*(np.zeros((16, 16), np.float32) for _ in range(4)))
    return nn.multi_head_attention(tensor("n", 5, 16), weights, 8, groups=3)  # wrong


@mistake("ShapeError", "split_heads", "f32[n, 5, 16]", "3", hint=r"divides")
def heads_that_do_not_divide_the_features() -> object:
    return nn.split_heads(tensor("n", 5, 16), 3)  # wrong


@mistake("ShapeError", "kv_cache_update", "f32[1, 4, 32, 8]", "f32[1, 2, 1, 8]", hint=r"capacity")
def a_cache_of_other_heads() -> object:
    cache = graphc.variable(np.zeros((1, 4, 32, 8), np.float32))
    return nn.kv_cache_update(cache, tensor(1, 2, 1, 8), 0)  # wrong


@mistake("ShapeError", "rotary_embedding", "7", hint=r"even")
def an_odd_number_of_features_to_turn() -> object:
    return nn.rotary_embedding(tensor("n", 5, 7))  # wrong


@mistake("ShapeError", "softmax_cross_entropy", "[10]", "f32[3]", hint=r"one weight per class")
def weights_of_other_classes() -> object:
    logits, labels = tensor("n", 10), tensor("n", dtype="int64", name="labels")
    return nn.softmax_cross_entropy(logits, labels, class_weights=np.ones(3))  # wrong


@mistake("DTypeError", "ctc_loss", "f32[n, 4]", hint=r"label_lengths")
def probabilities_as_labels_of_ctc() -> object:
    return nn.ctc_loss(tensor("t", "n", 5), tensor("n", 4, name="labels"))  # wrong


@mistake("ShapeError", "embedding_bag", "[9, 4]", "[n]", hint=r"offsets")
def a_bag_without_offsets() -> object:
    return nn.embedding_bag(tensor(9, 4), tensor("n", dtype="int64", name="ids"))  # wrong


@mistake("ShapeError", "fold", "f32[2, 10, 36]", hint=r"multiple of 9")
def columns_of_another_window() -> object:
    return nn.fold(tensor(2, 10, 36), (8, 8), 3)  # wrong


@mistake("UnsupportedError", "nn.pad", "mirror", hint=r"reflect")
def an_unknown_way_to_pad() -> object:
    return nn.pad(tensor("n", 3, 8, 8), 1, mode="mirror")  # wrong


@mistake("ShapeError", "weight_norm", "[4]", "[3, 1]", hint=r"one length per slice")
def lengths_of_other_rows() -> object:
    return nn.weight_norm(tensor(3, 5), tensor(4, name="g"))  # wrong


@mistake("ShapeError", "cdist", "[n, 3]", "[m, 4]", hint=r"equal features")
def distances_between_spaces() -> object:
    return nn.cdist(tensor("n", 3), tensor("m", 4, name="y"))  # wrong
