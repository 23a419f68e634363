"""Names of other libraries (floor 8): what a user of NumPy or a peer may type, and what it is here.

Public names follow the Array API; where NumPy, PyTorch or TensorFlow says something else, the
AttributeError says how it is written here. Invariant: no key is a name that exists, every value
leads to names that do (`tests/forms/test_other_names.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Each word and the name that stands for it, or what to do instead (with a blank in it).
_SPELLED = """
absolute=abs amax=max amin=min arccos=acos arccosh=acosh arcsin=asin arcsinh=asinh arctan=atan
arctan2=atan2 arctanh=atanh array=asarray append=concat bmm=matmul broadcast=broadcast_to
cast=astype cat=concat clamp=clip concatenate=concat cummax=cumulative_max cummin=cumulative_min
cumprod=cumulative_prod cumsum=cumulative_sum diag=diagonal div=divide dot=matmul eq=equal
expand=broadcast_to flatten=reshape fmod=remainder ge=greater_equal gradient=grad gradients=grad
gt=greater hstack=concat identity=eye index_select=take inner=vecdot invert=bitwise_invert
le=less_equal left_shift=bitwise_left_shift lt=less masked_fill=where mm=matmul mod=remainder
mul=multiply ne=not_equal neg=negative percentile=quantile power=pow ravel=reshape
right_shift=bitwise_right_shift sqr=square sub=subtract swapaxes=permute_dims switch=where
tensor=constant transpose=permute_dims true_divide=divide unsqueeze=expand_dims view=reshape
vstack=concat shared=variable Variable=variable Placeholder=placeholder gather=take_along_axis
rand=random.uniform randn=random.normal norm=linalg.vector_norm convolve=nn.conv relu=nn.relu
gelu=nn.gelu silu=nn.silu one_hot=nn.one_hot cross_entropy=nn.softmax_cross_entropy
dropout=nn.dropout layer_norm=nn.layer_norm conv2d=nn.conv jit=Session
average=mean
"""
_ADVICE = {
    "vmap": "functions take leading dims: give the placeholder a further dim",
    "vectorize": "functions take leading dims: give the placeholder a further dim",
    "split": "slice: x[:, :k], x[:, k:], or graphc.unstack",
    "isclose": "abs(a - b) <= atol + rtol * abs(b)",
    "allclose": "graphc.all(abs(a - b) <= atol + rtol * abs(b))",
    "fft": "complex numbers are not supported; numpy.fft outside the graph",
    "complex64": "complex numbers are not supported; real and imaginary parts in two tensors",
    "complex128": "complex numbers are not supported; real and imaginary parts in two tensors",
    "no_grad": "nothing is recorded; graphc.stop_gradient(x) is a constant to graphc.grad",
}
_NN = """
batch_norm2d=batch_norm conv1d=conv conv2d=conv conv3d=conv
cross_entropy=softmax_cross_entropy
crossentropy=softmax_cross_entropy categorical_crossentropy=softmax_cross_entropy
softmax_cross_entropy_with_logits=softmax_cross_entropy
binary_crossentropy=binary_cross_entropy_with_logits bce=binary_cross_entropy_with_logits
maxpool=max_pool max_pool2d=max_pool avgpool=avg_pool
avg_pool2d=avg_pool average_pool=avg_pool mse_loss=mse l1_loss=l1 leakyrelu=leaky_relu
layernorm=layer_norm batchnorm=batch_norm logsumexp=graphc.logsumexp dense=linear
hardshrink=hard_shrink softshrink=soft_shrink tanhshrink=tanh_shrink hardtanh=hard_tanh
hardsigmoid=hard_sigmoid hardswish=hard_swish logsigmoid=log_sigmoid dropout1d=spatial_dropout
dropout2d=spatial_dropout dropout3d=spatial_dropout feature_alpha_dropout=alpha_dropout
smooth_l1_loss=smooth_l1 huber_loss=huber nll_loss=nll kl_div=kl_divergence
poisson_nll_loss=poisson_nll gaussian_nll_loss=gaussian_nll hinge_loss=hinge
triplet_margin_loss=triplet_margin margin_ranking_loss=margin_ranking
cosine_embedding_loss=cosine_embedding sigmoid_focal_loss=sigmoid_focal focal_loss=sigmoid_focal
dice_loss=dice im2col=unfold col2im=fold rope=rotary_embedding
positional_encoding=sinusoidal_positions MultiheadAttention=multi_head_attention
"""


def _table(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split())


_LINALG = (
    "dot=matmul inner=vecdot norm=vector_norm einsum=graphc.einsum matrix_exp=expm "
    "solve_triangular=triangular_solve logdet=slogdet"
)
_COMPLEX = "eigenvalues of a matrix that is not symmetric are complex, which graphc is not; "

OTHER_NAMES = {
    "graphc": _table(_SPELLED),
    "graphc.nn": _table(_NN),
    "graphc.linalg": _table(_LINALG),
}
ADVICE = {
    "graphc": _ADVICE,
    "graphc.nn": {},
    "graphc.linalg": {
        "eig": _COMPLEX + "eigh for symmetric ones, numpy.linalg.eig outside of the graph",
        "eigvals": _COMPLEX + "eigvalsh for symmetric ones, numpy.linalg.eigvals outside",
    },
}


def missing(module: str, name: str, known: Iterable[str]) -> str:
    """The text of the AttributeError for a name that a module does not have."""
    text = f"module {module!r} has no attribute {name!r}"
    here = OTHER_NAMES[module].get(name)
    advice = ADVICE[module].get(name)
    if here is not None:
        return f"{text}: it is {here if here.startswith('graphc.') else f'{module}.{here}'} here"
    if advice is not None:
        return f"{text}: {advice}"
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.75)
    return f"{text}: did you mean {' or '.join(close)}?" if close else text


_VALUES = frozenset("item numpy tolist data value detach cpu tobytes get_value".split())


def missing_method(name: str, known: Iterable[str]) -> str:
    """The text of the AttributeError for `tensor.name`."""
    text = f"'Tensor' object has no attribute {name!r}"
    if name in _VALUES:
        return f"{text}: a tensor has no value; tensor.eval(feeds) or session.run gives it"
    if name in known:
        return f"{text}: it is a function, graphc.{name}(x)"
    here = OTHER_NAMES["graphc"].get(name)
    return text if here is None else f"{text}: it is a function, graphc.{here}(x)"
