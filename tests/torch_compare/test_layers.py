"""Attention, embeddings, padding, norms and gates of graphc.nn against torch."""

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


SHRINKS = [
    ("hard_shrink", "hardshrink", (0.4,)),
    ("soft_shrink", "softshrink", (0.4,)),
    ("tanh_shrink", "tanhshrink", ()),
    ("threshold", "threshold", (0.3, -2.0)),
]


@pytest.mark.parametrize("case", SHRINKS, ids=lambda c: c[0])
def test_shrinks(case: Any) -> None:
    ours, theirs, arguments = case
    compare(
        lambda x: getattr(nn, ours)(x, *arguments),
        lambda x: getattr(functional(), theirs)(x, *arguments),
        draw((6, 8)),
    )


def test_softmin_and_prelu() -> None:
    compare(lambda x: nn.softmin(x, axis=0), lambda x: functional().softmin(x, dim=0), draw((4, 3)))
    for count in (1, 3):
        compare(nn.prelu, functional().prelu, draw((2, 3, 5), (count,)))


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["plain", "causal", "bool", "added"])
def test_grouped_queries(groups: int, kind: str) -> None:
    t = torch()
    q, k, v = draw((2, 8, 5, 4), (2, groups, 5, 4), (2, groups, 5, 6))
    mask = np.random.default_rng(2).random((2, 8, 5, 5)) < 0.6
    mask[..., 0] = True
    bias = draw((8, 1, 5), seed=8)[0]
    ours: dict[str, Any] = {
        "plain": {},
        "causal": {"causal": True},
        "bool": {"mask": mask},
        "added": {"mask": bias},
    }[kind]
    theirs: dict[str, Any] = {
        "plain": {},
        "causal": {"is_causal": True},
        "bool": {"attn_mask": t.tensor(mask)},
        "added": {"attn_mask": t.tensor(bias)},
    }
    compare(
        lambda q, k, v: nn.scaled_dot_product_attention(q, k, v, **ours),
        lambda q, k, v: functional().scaled_dot_product_attention(
            q, k, v, enable_gqa=True, **theirs[kind]
        ),
        [q, k, v],
    )


def test_multi_head_attention() -> None:
    t = torch()
    e, heads = 12, 3
    x, y, wi, bi, wo, bo = draw((2, 5, e), (2, 7, e), (3 * e, e), (3 * e,), (e, e), (e,))

    def ours(x: Any, y: Any, wi: Any, bi: Any, wo: Any, bo: Any) -> graphc.Tensor:
        turned = graphc.matrix_transpose(wi)
        weights = nn.AttentionWeights(
            *(turned[:, i * e : (i + 1) * e] for i in range(3)),
            graphc.matrix_transpose(wo),
            *(bi[i * e : (i + 1) * e] for i in range(3)),
            bo,
        )
        return nn.multi_head_attention(x, weights, heads, key=y)

    def theirs(x: Any, y: Any, wi: Any, bi: Any, wo: Any, bo: Any) -> Any:
        found, _ = functional().multi_head_attention_forward(
            *(a.transpose(0, 1) for a in (x, y, y)),
            e,
            heads,
            wi,
            bi,
            None,
            None,
            False,
            0.0,
            wo,
            bo,
            need_weights=False,
        )
        return found.transpose(0, 1)

    compare(ours, theirs, [x, y, wi, bi, wo, bo])
    assert t is not None


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bag(mode: str) -> None:
    t, f = torch(), functional()
    ids = np.array([[1, 4, 4], [0, 2, 9], [5, 5, 5]])
    compare(
        lambda w: nn.embedding_bag(w, ids, mode=mode, padding_index=4),
        lambda w: f.embedding_bag(t.tensor(ids), w, mode=mode, padding_idx=4),
        draw((10, 3)),
    )
    flat, offsets = np.array([1, 4, 4, 0, 2, 9, 5]), np.array([0, 2, 2, 6])
    compare(
        lambda w: nn.embedding_bag(w, flat, offsets, mode=mode),
        lambda w: f.embedding_bag(t.tensor(flat), w, t.tensor(offsets), mode=mode),
        draw((10, 3)),
    )
    ends = np.array([0, 2, 2, 6, 7])
    compare(
        lambda w: nn.embedding_bag(
            w, flat, ends, mode=mode, include_last_offset=True, padding_index=2
        ),
        lambda w: f.embedding_bag(
            t.tensor(flat),
            w,
            t.tensor(ends),
            mode=mode,
            include_last_offset=True,
            padding_idx=2,
        ),
        draw((10, 3)),
    )


def test_embedding_bag_with_weights() -> None:
    t, f = torch(), functional()
    flat, offsets = np.array([1, 4, 4, 0, 2, 9, 5]), np.array([0, 2, 2, 6])
    compare(
        lambda w, s: nn.embedding_bag(w, flat, offsets, mode="sum", per_sample_weights=s),
        lambda w, s: f.embedding_bag(
            t.tensor(flat), w, t.tensor(offsets), mode="sum", per_sample_weights=s
        ),
        draw((10, 3), (7,)),
    )


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad(mode: str) -> None:
    compare(
        lambda x: nn.pad(x, ((1, 2), (3, 0)), mode=mode),
        lambda x: functional().pad(x, (3, 0, 1, 2), mode=mode),
        draw((2, 3, 5, 6)),
    )


WINDOWS = [
    # size, stride, padding, dilation
    (3, 1, 0, 1),
    ((2, 3), 2, 1, 1),
    (2, (1, 3), (1, 0), 2),
]


@pytest.mark.parametrize("case", WINDOWS, ids=str)
def test_unfold_and_fold(case: Any) -> None:
    size, stride, padding, dilation = case
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    compare(
        lambda x: nn.unfold(x, size, **options),
        lambda x: functional().unfold(x, size, **options),
        draw((2, 3, 7, 8)),
    )
    columns = functional().unfold(torch().zeros(2, 3, 7, 8), size, **options).shape
    compare(
        lambda x: nn.fold(x, (7, 8), size, **options),
        lambda x: functional().fold(x, (7, 8), size, **options),
        draw(tuple(columns)),
    )


@pytest.mark.parametrize("axis", [0, 1, None])
def test_weight_norm(axis: int | None) -> None:
    shape = tuple(n if i == axis else 1 for i, n in enumerate((4, 3, 2)))
    compare(
        lambda v, g: nn.weight_norm(v, g, axis=axis),
        lambda v, g: torch()._weight_norm(v, g, -1 if axis is None else axis),
        draw((4, 3, 2), () if axis is None else shape),
    )


def test_spectral_norm() -> None:
    """The same steps from the same start, and the gradient that holds u and v fixed."""
    t = torch()
    w, u = draw((4, 3, 2), (4,))
    layer = t.nn.utils.parametrizations.spectral_norm(t.nn.Conv1d(3, 4, 2).double())
    kind = layer.parametrizations.weight[0]

    def theirs(weight: Any) -> Any:
        kind._u.data = t.tensor(u / np.linalg.norm(u))
        matrix = weight.detach().flatten(1)
        kind._v.data = functional().normalize(matrix.T @ kind._u, dim=0)
        kind.train()
        return kind(weight)

    compare(lambda x: nn.spectral_norm(x, u)[0], theirs, [w])


def test_alpha_dropout_keeps_torchs_values() -> None:
    """The two values that a 1 may become."""
    key = graphc.random.key(0)
    ours = graphc.Graph([], {"o": nn.alpha_dropout(np.ones(200), 0.3, key)}).evaluate()["o"]
    theirs = functional().alpha_dropout(torch().ones(200, dtype=torch().float64), 0.3, True)
    np.testing.assert_allclose(np.unique(ours), np.unique(theirs.numpy()), rtol=1e-6)
