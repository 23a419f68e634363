"""Functions of neural networks (floor 8) under their common names: compositions of ops, no state.

Layers hold nothing here: weights are arguments, and what they become is an update that the caller
declares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from graphc.nn.activations import (
    celu,
    elu,
    gelu,
    glu,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    softmax,
    softplus,
    softsign,
    swish,
    tanh,
)
from graphc.nn.attention import scaled_dot_product_attention
from graphc.nn.convolution import conv, conv_transpose
from graphc.nn.embedding import embedding, linear, one_hot
from graphc.nn.losses import (
    binary_cross_entropy_with_logits,
    cosine_similarity,
    hinge,
    huber,
    kl_divergence,
    l1,
    mse,
    nll,
    softmax_cross_entropy,
)
from graphc.nn.normalization import (
    batch_norm,
    dropout,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    moments,
    rms_norm,
)
from graphc.nn.pixels import (
    channel_shuffle,
    depth_to_space,
    pixel_shuffle,
    pixel_unshuffle,
    space_to_depth,
)
from graphc.nn.pooling import (
    adaptive_avg_pool,
    adaptive_max_pool,
    avg_pool,
    global_avg_pool,
    global_lp_pool,
    global_max_pool,
    lp_pool,
    max_pool,
)
from graphc.nn.recurrent import (
    RecurrentWeights,
    gru,
    gru_cell,
    lstm,
    lstm_cell,
    rnn,
    rnn_cell,
)
from graphc.nn.resampling import resize
from graphc.nn.sampling import affine_grid, deform_conv, grid_sample, roi_align, roi_pool
from graphc.nn.unpooling import max_pool_with_indices, max_unpool
from graphc.other_names import missing as _missing

__all__ = [
    "RecurrentWeights",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "affine_grid",
    "avg_pool",
    "batch_norm",
    "binary_cross_entropy_with_logits",
    "celu",
    "channel_shuffle",
    "conv",
    "conv_transpose",
    "cosine_similarity",
    "deform_conv",
    "depth_to_space",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "global_avg_pool",
    "global_lp_pool",
    "global_max_pool",
    "glu",
    "grid_sample",
    "group_norm",
    "gru",
    "gru_cell",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "hinge",
    "huber",
    "instance_norm",
    "kl_divergence",
    "l1",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_sigmoid",
    "log_softmax",
    "lp_pool",
    "lstm",
    "lstm_cell",
    "max_pool",
    "max_pool_with_indices",
    "max_unpool",
    "mish",
    "moments",
    "mse",
    "nll",
    "one_hot",
    "pixel_shuffle",
    "pixel_unshuffle",
    "relu",
    "relu6",
    "resize",
    "rms_norm",
    "rnn",
    "rnn_cell",
    "roi_align",
    "roi_pool",
    "scaled_dot_product_attention",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "softsign",
    "space_to_depth",
    "swish",
    "tanh",
]


if not _TYPE_CHECKING:  # a type checker knows which names exist

    def __getattr__(name: str) -> object:
        """Say how a name of another library is written here."""
        raise AttributeError(_missing("graphc.nn", name, __all__))
