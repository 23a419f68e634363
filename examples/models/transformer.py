"""A Transformer encoder (Vaswani et al. 2017) that classifies text, with normalization first.

The same task as `text_classifier`: from which package are two lines of code?

    python -m examples.models.transformer
"""

from __future__ import annotations

import sys

import graphc
from examples.models import data
from examples.models.parts import Model, Parameters, Tensor, dense, layer_norm, parser
from examples.models.texts import text_classifier, train_on_lines
from graphc import nn


def heads_apart(x: Tensor, heads: int) -> Tensor:
    """(n, places, features) -> (n, heads, places, features / heads)"""
    n, places, features = x.shape
    apart = graphc.reshape(x, (n, places, heads, int(features) // heads))
    return graphc.permute_dims(apart, (0, 2, 1, 3))


def heads_joined(x: Tensor) -> Tensor:
    """(n, heads, places, k) -> (n, places, heads * k)"""
    n, heads, places, k = x.shape
    return graphc.reshape(graphc.permute_dims(x, (0, 2, 1, 3)), (n, places, int(heads) * int(k)))


def feed_forward(p: Parameters, x: Tensor) -> Tensor:
    """Four times as wide, and back."""
    size = int(x.shape[-1])
    h = nn.gelu(dense(p, x, 4 * size, "wide", gain=1.0))
    return dense(p, h, size, "narrow", gain=1.0)


def block(p: Parameters, x: Tensor, mask: Tensor, heads: int, name: str) -> Tensor:
    """Attention and a layer of each place by itself, each added to what comes in."""
    size = int(x.shape[-1])
    with p.scope(name):
        h = layer_norm(p, x, "norm1")
        q, k, v = (
            heads_apart(dense(p, h, size, part, gain=1.0), heads) for part in ("q", "k", "v")
        )
        h = heads_joined(nn.scaled_dot_product_attention(q, k, v, mask))
        x = x + p.dropout(dense(p, h, size, "joined", gain=1.0), 0.1)
        return x + p.dropout(feed_forward(p, layer_norm(p, x, "norm2")), 0.1)


def network(
    p: Parameters, ids: Tensor, lengths: Tensor, classes: int, size: int, heads: int, depth: int
) -> Tensor:
    """ids (n, places), lengths (n,) -> logits (n, classes), from the mean of the real places"""
    places = int(ids.shape[1])
    x = nn.embedding(p.weight("embedding", (len(data.CHARACTERS), size), size, gain=1.0), ids)
    # Neighbours matter in text: each place sees the two on each side before attention.
    with p.scope("near"):
        w = p.weight("w", (size, size, 5), 5 * size)
        x = x + nn.conv(x.mT, w, padding=2).mT
    x = x + p.weight("places", (places, size), 4 * size, gain=1.0)
    real = graphc.iota((1, places), 1) < lengths[:, None]
    for k in range(depth):
        x = block(p, x, real[:, None, None], heads, f"block{k + 1}")
    x = layer_norm(p, x, "norm")
    shares = graphc.astype(real, "float32")[..., None]
    mean = graphc.sum(x * shares, axis=1) / graphc.sum(shares, axis=1)
    return dense(p, mean, classes, "logits", gain=1.0)


def build(
    places: int = 96,
    classes: int = 4,
    size: int = 64,
    heads: int = 4,
    depth: int = 2,
    seed: int = 0,
) -> Model:
    """An encoder for texts of up to `places` characters."""
    return text_classifier(
        "transformer",
        Parameters(seed),
        places,
        lambda p, ids, lengths: network(p, ids, lengths, classes, size, heads, depth),
    )


def main(arguments: list[str] | None = None) -> int:
    options = parser(__doc__, steps=500).parse_args(arguments)
    accuracy = train_on_lines(build(seed=options.seed), options)
    return 0 if accuracy > 0.5 or options.steps < 400 else 1


if __name__ == "__main__":
    sys.exit(main())
