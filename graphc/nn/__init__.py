"""Functions of neural networks (floor 8) under their common names: compositions of ops, no state.

Layers hold nothing here: weights are arguments, and what they become is an update that the caller
declares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from graphc.nn.activations import (
    celu,
    elu,
    geglu,
    gelu,
    glu,
    gumbel_softmax,
    hard_shrink,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    mish,
    prelu,
    reglu,
    relu,
    relu6,
    rrelu,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softmin,
    softplus,
    softsign,
    swiglu,
    swish,
    tanh,
    tanh_shrink,
    threshold,
)
from graphc.nn.attention import (
    AttentionWeights,
    kv_cache_update,
    merge_heads,
    multi_head_attention,
    scaled_dot_product_attention,
    split_heads,
)
from graphc.nn.convolution import conv, conv_transpose
from graphc.nn.ctc import ctc_greedy_decode, ctc_loss
from graphc.nn.detection import non_max_suppression
from graphc.nn.distances import cdist, cosine_similarity, pairwise_distance
from graphc.nn.dropout import alpha_dropout, dropout, spatial_dropout
from graphc.nn.embedding import embedding, linear, one_hot
from graphc.nn.embedding_bag import embedding_bag
from graphc.nn.likelihood_losses import dice, gaussian_nll, poisson_nll, sigmoid_focal
from graphc.nn.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    huber,
    kl_divergence,
    l1,
    log_cosh,
    mse,
    nll,
    smooth_l1,
    softmax_cross_entropy,
)
from graphc.nn.margin_losses import (
    cosine_embedding,
    hinge,
    hinge_embedding,
    margin_ranking,
    multi_margin,
    multilabel_soft_margin,
    soft_margin,
    squared_hinge,
    triplet_margin,
)
from graphc.nn.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    moments,
    rms_norm,
    spectral_norm,
    weight_norm,
)
from graphc.nn.patches import fold, pad, unfold
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
from graphc.nn.positions import (
    alibi_bias,
    relative_position_bias,
    rotary_embedding,
    sinusoidal_positions,
)
from graphc.nn.recurrent import RecurrentWeights, gru, gru_cell, lstm, lstm_cell, rnn, rnn_cell
from graphc.nn.resampling import resize
from graphc.nn.sampling import affine_grid, deform_conv, grid_sample, roi_align, roi_pool
from graphc.nn.unpooling import max_pool_with_indices, max_unpool
from graphc.other_names import missing as _missing

__all__ = [
    "AttentionWeights",
    "RecurrentWeights",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "affine_grid",
    "alibi_bias",
    "alpha_dropout",
    "avg_pool",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cdist",
    "celu",
    "channel_shuffle",
    "conv",
    "conv_transpose",
    "cosine_embedding",
    "cosine_similarity",
    "ctc_greedy_decode",
    "ctc_loss",
    "deform_conv",
    "depth_to_space",
    "dice",
    "dropout",
    "elu",
    "embedding",
    "embedding_bag",
    "fold",
    "gaussian_nll",
    "geglu",
    "gelu",
    "global_avg_pool",
    "global_lp_pool",
    "global_max_pool",
    "glu",
    "grid_sample",
    "group_norm",
    "gru",
    "gru_cell",
    "gumbel_softmax",
    "hard_shrink",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "hinge",
    "hinge_embedding",
    "huber",
    "instance_norm",
    "kl_divergence",
    "kv_cache_update",
    "l1",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_cosh",
    "log_sigmoid",
    "log_softmax",
    "lp_pool",
    "lstm",
    "lstm_cell",
    "margin_ranking",
    "max_pool",
    "max_pool_with_indices",
    "max_unpool",
    "merge_heads",
    "mish",
    "moments",
    "mse",
    "multi_head_attention",
    "multi_margin",
    "multilabel_soft_margin",
    "nll",
    "non_max_suppression",
    "one_hot",
    "pad",
    "pairwise_distance",
    "pixel_shuffle",
    "pixel_unshuffle",
    "poisson_nll",
    "prelu",
    "reglu",
    "relative_position_bias",
    "relu",
    "relu6",
    "resize",
    "rms_norm",
    "rnn",
    "rnn_cell",
    "roi_align",
    "roi_pool",
    "rotary_embedding",
    "rrelu",
    "scaled_dot_product_attention",
    "selu",
    "sigmoid",
    "sigmoid_focal",
    "silu",
    "sinusoidal_positions",
    "smooth_l1",
    "soft_margin",
    "soft_shrink",
    "softmax",
    "softmax_cross_entropy",
    "softmin",
    "softplus",
    "softsign",
    "space_to_depth",
    "spatial_dropout",
    "spectral_norm",
    "split_heads",
    "squared_hinge",
    "swiglu",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
    "triplet_margin",
    "unfold",
    "weight_norm",
]


if not _TYPE_CHECKING:  # a type checker knows which names exist

    def __getattr__(name: str) -> object:
        """Say how a name of another library is written here."""
        raise AttributeError(_missing("graphc.nn", name, __all__))
