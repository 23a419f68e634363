"""Gates, shrinks, dropout, bags, positions, patches, caches and norms of weights against NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn
from tests.nn.evaluation import check_gradients, evaluate, gradients

RNG = np.random.default_rng(15)
KEY = graphc.random.key(8)


def constant(tensor: graphc.Tensor) -> np.ndarray:
    """The value of a tensor without inputs."""
    return graphc.Graph([], {"o": tensor}).evaluate()["o"]


# -- activations ----------------------------------------------------------------------------------

X = RNG.normal(size=(3, 6)) * 2


def test_gates() -> None:
    a, b = X[:, :3], X[:, 3:]
    erf = np.vectorize(math.erf)
    for ours, expected in (
        (nn.reglu, a * np.maximum(b, 0)),
        (nn.swiglu, a * b / (1 + np.exp(-b))),
        (nn.geglu, a * b / 2 * (1 + erf(b / math.sqrt(2)))),
    ):
        np.testing.assert_allclose(evaluate(ours, X), expected, rtol=1e-10)
        check_gradients(ours, X)
    with pytest.raises(graphc.ShapeError, match="swiglu: axis 1 of size 5 does not split"):
        nn.swiglu(np.zeros((2, 5)))


def test_shrinks_and_threshold() -> None:
    for ours, expected in (
        (nn.hard_shrink, np.where(abs(X) > 0.5, X, 0)),
        (nn.soft_shrink, np.sign(X) * np.maximum(abs(X) - 0.5, 0)),
        (nn.tanh_shrink, X - np.tanh(X)),
        (lambda x: nn.threshold(x, 0.3, -2.0), np.where(X > 0.3, X, -2.0)),
        (nn.softmin, np.exp(-X) / np.exp(-X).sum(1, keepdims=True)),
    ):
        np.testing.assert_allclose(evaluate(ours, X), expected, rtol=1e-10)
        check_gradients(ours, X)
    assert np.isnan(evaluate(lambda x: nn.threshold(x, 0.0), np.array([np.nan])))[0]


def test_prelu_and_rrelu() -> None:
    slopes = np.array([0.1, 0.5, -1.0, 2.0, 0.0, 0.3])
    np.testing.assert_allclose(evaluate(nn.prelu, X, slopes), np.where(X > 0, X, X * slopes))
    check_gradients(nn.prelu, X, slopes)
    np.testing.assert_allclose(evaluate(nn.prelu, X, np.array([0.2])), np.where(X > 0, X, X * 0.2))
    with pytest.raises(graphc.ShapeError, match=r"slope must have shape \[6\]"):
        nn.prelu(X, slopes[:4])
    drawn = evaluate(lambda x: nn.rrelu(x, KEY), -np.ones(5000))
    assert -1 / 3 <= drawn.min() < -0.33
    assert -0.128 < drawn.max() <= -1 / 8
    fixed = evaluate(lambda x: nn.rrelu(x, KEY, training=False), X)
    np.testing.assert_allclose(fixed, np.where(X > 0, X, X * 11 / 48))


def test_gumbel_softmax() -> None:
    logits = np.log(np.array([0.2, 0.5, 0.3]))
    many = np.tile(logits, (4000, 1))
    soft = evaluate(lambda x: nn.gumbel_softmax(x, KEY, 0.5), many)
    np.testing.assert_allclose(soft.sum(-1), 1)
    hard = evaluate(lambda x: nn.gumbel_softmax(x, KEY, 0.5, hard=True), many)
    np.testing.assert_array_equal(np.sort(hard, axis=-1), np.tile([0, 0, 1.0], (4000, 1)))
    np.testing.assert_array_equal(hard.argmax(-1), soft.argmax(-1))
    np.testing.assert_allclose(hard.mean(0), [0.2, 0.5, 0.3], atol=0.03)
    for x in (many[:3],):
        (g,), (h,) = (
            gradients(lambda x: nn.gumbel_softmax(x, KEY, 0.5, hard=hard), x)  # noqa: B023  # called at once
            for hard in (False, True)
        )
        np.testing.assert_allclose(g, h)
    check_gradients(lambda x: nn.gumbel_softmax(x, KEY, 0.7), many[:2])


# -- dropout --------------------------------------------------------------------------------------


def test_spatial_dropout_drops_channels() -> None:
    x = np.ones((40, 30, 4, 2))
    kept = evaluate(lambda a: nn.spatial_dropout(a, 0.25, KEY), x)
    per_channel = kept.reshape(40, 30, 8)
    assert np.all(per_channel == per_channel[..., :1])
    assert abs((kept == 0).mean() - 0.25) < 0.05
    np.testing.assert_allclose(kept.max(), 4 / 3)
    last = evaluate(lambda a: nn.spatial_dropout(a, 0.25, KEY, axis=-1), x)
    assert np.all(last == last[:, :1, :1])
    with pytest.raises(graphc.ShapeError, match="spatial_dropout: needs at least 2 dims"):
        nn.spatial_dropout(np.ones(3), 0.5, KEY)


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    x = RNG.normal(size=(300, 200))
    found = evaluate(lambda a: nn.alpha_dropout(a, 0.2, KEY), x)
    assert abs(found.mean()) < 0.02
    assert abs(found.var() - 1) < 0.03
    maps = evaluate(lambda a: nn.alpha_dropout(a, 0.2, KEY, shared=-1), np.ones((50, 4)))
    assert np.all(maps == maps[:, :1])


def test_dropout_with_a_key_per_example_does_not_depend_on_the_batch() -> None:
    rows = graphc.placeholder(("n",), "int64")
    x = graphc.placeholder((rows.shape[0], 64), "float64")
    graph = graphc.Graph([rows, x], {"o": nn.dropout(x, 0.5, graphc.random.fold_in(KEY, rows))})
    ones = np.ones((6, 64))
    whole = graph.evaluate({rows: np.arange(6), x: ones})["o"]
    part = graph.evaluate({rows: np.arange(2, 5), x: ones[:3]})["o"]
    np.testing.assert_array_equal(whole[2:5], part)
    with pytest.raises(graphc.ShapeError, match="do not belong to the first dims of x"):
        nn.dropout(ones, 0.5, graphc.random.fold_in(KEY, np.arange(4)))


# -- bags and positions ---------------------------------------------------------------------------


def test_embedding_bag() -> None:
    table = RNG.normal(size=(7, 3))
    ids = np.array([[1, 2, 2], [6, 6, 0], [0, 0, 0]])
    counted = (ids != 0)[..., None]
    rows = table[ids]
    total = (rows * counted).sum(1)
    largest = np.where(counted, rows, -np.inf).max(1)
    expected = {
        "sum": total,
        "mean": total / np.maximum(counted.sum(1), 1),
        "max": np.where(np.isinf(largest), 0, largest),
    }
    flat, offsets = np.array([1, 2, 2, 6, 6, 0]), np.array([0, 3, 6])
    for mode, values in expected.items():

        def padded(t: Any, mode: str = mode) -> graphc.Tensor:
            return nn.embedding_bag(t, ids, mode=mode, padding_index=0)

        def packed(t: Any, mode: str = mode) -> graphc.Tensor:
            return nn.embedding_bag(t, flat, offsets, mode=mode, padding_index=0)

        for function in (padded, packed):
            np.testing.assert_allclose(evaluate(function, table), values)
            check_gradients(function, table)
    with pytest.raises(graphc.UnsupportedError, match="unknown mode 'median'"):
        nn.embedding_bag(table, ids, mode="median")
    with pytest.raises(graphc.ShapeError, match="ids is \\(bags, length\\), or \\(n,\\) with"):
        nn.embedding_bag(table, ids, offsets)
    with pytest.raises(graphc.ShapeError, match="per_sample_weights"):
        nn.embedding_bag(table, ids, per_sample_weights=np.ones((3, 3)))


def test_sinusoidal_positions() -> None:
    found = constant(nn.sinusoidal_positions(5, 6, dtype="float64"))
    p, i = np.arange(5)[:, None], np.arange(3)
    angles = p / 10000 ** (2 * i / 6)
    np.testing.assert_allclose(found[:, 0::2], np.sin(angles))
    np.testing.assert_allclose(found[:, 1::2], np.cos(angles))
    halves = constant(nn.sinusoidal_positions(np.arange(5), 6, interleaved=False, dtype="float64"))
    np.testing.assert_allclose(halves, np.concatenate([np.sin(angles), np.cos(angles)], 1))
    n = graphc.Dim("n")
    assert nn.sinusoidal_positions(n, 4).shape == (n, 4)
    with pytest.raises(graphc.ShapeError, match="features must be even"):
        nn.sinusoidal_positions(3, 5)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_embedding(interleaved: bool) -> None:
    x = RNG.normal(size=(2, 5, 8))
    found = evaluate(lambda a: nn.rotary_embedding(a, features=6, interleaved=interleaved), x)
    np.testing.assert_array_equal(found[..., 6:], x[..., 6:])
    pairs = x[..., :6].reshape(2, 5, 3, 2) if interleaved else None
    a, b = (pairs[..., 0], pairs[..., 1]) if pairs is not None else (x[..., :3], x[..., 3:6])
    turned = (a + 1j * b) * np.exp(1j * np.arange(5)[:, None] * 10000.0 ** (-np.arange(3) / 3))
    parts = [turned.real, turned.imag]
    expected = np.stack(parts, -1).reshape(2, 5, 6) if interleaved else np.concatenate(parts, -1)
    np.testing.assert_allclose(found[..., :6], expected, rtol=1e-9, atol=1e-12)
    check_gradients(lambda a: nn.rotary_embedding(a, interleaved=interleaved), x[:1, :3])


def test_rotary_scores_depend_on_distances_alone() -> None:
    q, k = RNG.normal(size=(6, 8)), RNG.normal(size=(6, 8))

    def scores(offset: int) -> np.ndarray:
        places = np.arange(6) + offset
        turned = [evaluate(lambda a: nn.rotary_embedding(a, places), t) for t in (q, k)]
        return turned[0] @ turned[1].T

    np.testing.assert_allclose(scores(0), scores(1000), rtol=1e-9, atol=1e-9)


def test_alibi_bias() -> None:
    bias = constant(nn.alibi_bias(8, 4, 4))
    np.testing.assert_allclose(bias[0], -0.5 * abs(np.arange(4)[:, None] - np.arange(4)))
    np.testing.assert_allclose(bias[7, 0, 1], -(2.0**-8))
    np.testing.assert_array_equal(constant(nn.alibi_bias(8, 1, 4, query_offset=3)), bias[:, 3:])
    # Between powers of two: those of 4 heads, then every second one of 8.
    six = -constant(nn.alibi_bias(6, 1, 2))[:, 0, 1]
    np.testing.assert_allclose(six, [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3])


def test_relative_position_bias() -> None:
    """Buckets as the model's authors define them, written as a loop."""

    def bucket(relative: int, bidirectional: bool, count: int, far: int) -> int:
        found = 0
        if bidirectional:
            count //= 2
            found += count if relative > 0 else 0
            relative = abs(relative)
        else:
            relative = max(-relative, 0)
        exact = count // 2
        if relative < exact:
            return found + relative
        steps = int(math.log(relative / exact) / math.log(far / exact) * (count - exact) + 1e-9)
        return found + min(exact + steps, count - 1)

    table = np.arange(64.0).reshape(32, 2)
    for bidirectional in (True, False):
        found = constant(
            nn.relative_position_bias(table, 3, 300, bidirectional=bidirectional, query_offset=150)
        )
        assert found.shape == (2, 3, 300)
        expected = [
            [bucket(j - i - 150, bidirectional, 32, 128) for j in range(300)] for i in range(3)
        ]
        np.testing.assert_array_equal(found[0] / 2, expected)
        np.testing.assert_array_equal(found[1] - found[0], 1)
    with pytest.raises(graphc.ShapeError, match="has no buckets"):
        nn.relative_position_bias(table[:2], 3, 3)
    small = RNG.normal(size=(8, 2))
    check_gradients(lambda t: nn.relative_position_bias(t, 3, 4, max_distance=8), small)


# -- patches --------------------------------------------------------------------------------------


def test_pad_modes() -> None:
    x = RNG.normal(size=(1, 2, 4, 5))
    modes = {
        "reflect": "reflect",
        "replicate": "edge",
        "circular": "wrap",
        "symmetric": "symmetric",
    }
    for ours, theirs in modes.items():
        found = evaluate(lambda a: nn.pad(a, ((1, 2), 2), mode=ours), x)  # noqa: B023  # called at once
        np.testing.assert_array_equal(found, np.pad(x, ((0, 0), (0, 0), (1, 2), (2, 2)), theirs))
    last = evaluate(lambda a: nn.pad(a, 1, value=7.0, layout="channels_last"), x)
    expected = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=7)
    np.testing.assert_array_equal(last, expected)
    with pytest.raises(graphc.UnsupportedError, match="unknown mode 'mirror'"):
        nn.pad(x, 1, mode="mirror")


def test_unfold_is_what_a_convolution_multiplies_and_fold_its_transpose() -> None:
    x, w = RNG.normal(size=(2, 3, 7, 6)), RNG.normal(size=(4, 3, 3, 2))
    options: dict[str, Any] = {"stride": (2, 1), "padding": 1, "dilation": (1, 2)}
    columns = evaluate(lambda a: nn.unfold(a, (3, 2), **options), x)
    conv = constant(nn.conv(x, w, **options))
    np.testing.assert_allclose((w.reshape(4, -1) @ columns).reshape(conv.shape), conv)
    y = RNG.normal(size=columns.shape)
    back = evaluate(lambda a: nn.fold(a, (7, 6), (3, 2), **options), y)
    np.testing.assert_allclose((columns * y).sum(), (x * back).sum())
    check_gradients(lambda a: nn.unfold(a, 2), x[:1, :1, :3, :3])
    with pytest.raises(graphc.ShapeError, match="is not made of windows"):
        nn.fold(y, (9, 9), (3, 2), **options)


# -- attention ------------------------------------------------------------------------------------


def test_heads_split_and_merge() -> None:
    x = RNG.normal(size=(2, 5, 6))
    apart = evaluate(lambda a: nn.split_heads(a, 3), x)
    np.testing.assert_array_equal(apart, x.reshape(2, 5, 3, 2).transpose(0, 2, 1, 3))
    np.testing.assert_array_equal(evaluate(lambda a: nn.merge_heads(nn.split_heads(a, 3)), x), x)
    with pytest.raises(graphc.ShapeError, match="does not split into 4 heads"):
        nn.split_heads(x, 4)


def test_grouped_queries_repeat_the_heads_of_keys() -> None:
    q, k, v = (
        RNG.normal(size=(2, 6, 3, 4)),
        RNG.normal(size=(2, 2, 5, 4)),
        RNG.normal(size=(2, 2, 5, 3)),
    )
    mask = RNG.random((6, 3, 5)) < 0.7

    def run(q: Any, k: Any, v: Any) -> graphc.Tensor:
        return nn.scaled_dot_product_attention(q, k, v, mask, causal=True, query_offset=2)

    expected = evaluate(run, q, np.repeat(k, 3, 1), np.repeat(v, 3, 1))
    np.testing.assert_allclose(evaluate(run, q, k, v), expected, rtol=1e-10)
    small = (q[:1, :2, :2], k[:1, :1], v[:1, :1])
    check_gradients(lambda a, b, c: nn.scaled_dot_product_attention(a, b, c), *small)


def test_attention_dropout() -> None:
    q, k, v = (RNG.normal(size=(2, 40, 4)) for _ in range(3))

    def run(rate: float) -> np.ndarray:
        return constant(
            nn.scaled_dot_product_attention(q, k, v, dropout_rate=rate, dropout_key=KEY)
        )

    assert not np.allclose(run(0.5), run(0.0))
    with pytest.raises(graphc.ShapeError, match="needs a dropout_key"):
        nn.scaled_dot_product_attention(q, k, v, dropout_rate=0.5)


def test_decoding_with_a_cache_equals_attending_to_everything() -> None:
    """A prompt of three places, then one place per step, with one compiled step for all."""
    q, k, v = (RNG.normal(size=(2, 2, 7, 4)).astype(np.float32) for _ in range(3))
    run = nn.scaled_dot_product_attention
    whole = constant(run(q, k, v, causal=True))
    keys = graphc.variable(np.zeros((2, 2, 9, 4), np.float32))
    values = graphc.variable(np.zeros((2, 2, 9, 4), np.float32))
    t = graphc.Dim("t", min=1)
    new = [graphc.placeholder((2, 2, t, 4)) for _ in range(3)]
    position = graphc.placeholder((), "int64")
    now = [nn.kv_cache_update(c, n, position) for c, n in zip((keys, values), new[1:], strict=True)]
    out = run(new[0], *now, causal=True, query_offset=position)
    with graphc.Session(threads=1) as session:
        step = session.function(
            [*new, position], out, updates=dict(zip((keys, values), now, strict=True))
        )
        for start, stop in ((0, 3), (3, 4), (4, 5), (5, 7)):
            parts = [a[:, :, start:stop] for a in (q, k, v)]
            found = step(*parts, np.asarray(start))
            np.testing.assert_allclose(found, whole[:, :, start:stop], rtol=1e-4, atol=1e-5)
        with pytest.raises(graphc.ExecutionError, match="from 9 to 9"):
            step(*(a[:, :, :3] for a in (q, k, v)), np.asarray(7))


def test_cache_with_a_position_per_example() -> None:
    cache, new = RNG.normal(size=(3, 2, 6, 2)), RNG.normal(size=(3, 2, 2, 2))
    found = evaluate(lambda c, n: nn.kv_cache_update(c, n, np.array([0, 3, 4])), cache, new)
    expected = cache.copy()
    for row, start in enumerate((0, 3, 4)):
        expected[row, :, start : start + 2] = new[row]
    np.testing.assert_array_equal(found, expected)
    check_gradients(
        lambda c, n: nn.kv_cache_update(c, n, np.array([0, 3, 4])), cache[:, :1], new[:, :1]
    )
    with pytest.raises(graphc.ShapeError, match="does not fit a cache"):
        nn.kv_cache_update(cache, new[:2], 0)
    with pytest.raises(graphc.DTypeError, match="position must be an integer"):
        nn.kv_cache_update(cache, new, 0.5)


# -- norms of weights -----------------------------------------------------------------------------


def test_weight_norm() -> None:
    v, g = RNG.normal(size=(4, 3, 2)), RNG.normal(size=3)
    length = np.sqrt((v * v).sum((0, 2), keepdims=True))
    expected = v / length * g.reshape(1, 3, 1)
    np.testing.assert_allclose(evaluate(lambda a, b: nn.weight_norm(a, b, axis=1), v, g), expected)
    check_gradients(lambda a, b: nn.weight_norm(a, b, axis=1), v, g)
    with pytest.raises(graphc.ShapeError, match="magnitude must have shape"):
        nn.weight_norm(v, g)


def test_spectral_norm_finds_the_largest_singular_value() -> None:
    w = RNG.normal(size=(5, 3, 2))
    normal, u = nn.spectral_norm(w, np.ones(5), iterations=60)
    largest = np.linalg.norm(w.reshape(5, 6), 2)
    np.testing.assert_allclose(constant(normal) * largest, w, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(constant(u)), 1)
    # With u at the singular vector the held-fixed gradient is the true one.
    check_gradients(lambda a: nn.spectral_norm(a, constant(u), iterations=0)[0], w, step=1e-6)
    with pytest.raises(graphc.ShapeError, match=r"u must have shape \[5\]"):
        nn.spectral_norm(w, np.ones(4))
