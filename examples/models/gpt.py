"""A decoder as GPT-2's (Radford et al. 2019) that writes the manual of Python, with a cache.

In use the model takes one character at a time: the keys and values of all places before are inputs
and, one place longer, outputs. So a step costs the same work for each place, whatever came before.

    python -m examples.models.gpt
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import graphc
from examples.models import data
from examples.models.parts import (
    Array,
    Model,
    Parameters,
    Tensor,
    Trainer,
    dense,
    finish,
    layer_norm,
    parser,
)
from examples.models.transformer import feed_forward, heads_apart, heads_joined
from graphc import nn

SYMBOLS = len(data.CHARACTERS)


@dataclass(frozen=True)
class Sizes:
    """places: the longest text; size: features of a place."""

    places: int = 64
    size: int = 64
    heads: int = 4
    depth: int = 2


def block(
    p: Parameters, x: Tensor, past: tuple[Tensor, Tensor] | None, heads: int, name: str
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """A block of the decoder, and its keys and values with those of the past in front."""
    size = int(x.shape[-1])
    with p.scope(name):
        h = layer_norm(p, x, "norm1")
        q, k, v = (
            heads_apart(dense(p, h, size, part, gain=1.0), heads) for part in ("q", "k", "v")
        )
        if past is not None:
            k, v = (graphc.concat([a, b], axis=2) for a, b in zip(past, (k, v), strict=True))
        # With a past there is one new place, which may look at all others.
        h = heads_joined(nn.scaled_dot_product_attention(q, k, v, causal=past is None))
        x = x + p.dropout(dense(p, h, size, "joined", gain=1.0), 0.1)
        return x + p.dropout(feed_forward(p, layer_norm(p, x, "norm2")), 0.1), (k, v)


def network(
    p: Parameters,
    ids: Tensor,
    places: Tensor,
    pasts: list[tuple[Tensor, Tensor]] | None,
    sizes: Sizes,
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """ids (n, new), their places (new,) -> logits (n, new, symbols), and keys and values per block,
    each (n, heads, all places, features / heads).
    """
    table = p.weight("embedding", (SYMBOLS, sizes.size), sizes.size, gain=1.0)
    where = p.weight("places", (sizes.places, sizes.size), 4 * sizes.size, gain=1.0)
    x = p.dropout(nn.embedding(table, ids) + nn.embedding(where, places), 0.1)
    caches = []
    for k in range(sizes.depth):
        x, cache = block(p, x, None if pasts is None else pasts[k], sizes.heads, f"block{k + 1}")
        caches.append(cache)
    # GPT-2 reads the result with the table that it writes the input with.
    return layer_norm(p, x, "norm") @ table.T, caches


def build(sizes: Sizes = Sizes(), seed: int = 0) -> Model:
    """The decoder. Its graph for use takes `ids` (batch, 1) and per block the keys and values of
    the past, (batch, heads, past, size / heads), and gives logits (batch, symbols) and the caches
    with one more place.
    """
    p = Parameters(seed)
    text = graphc.placeholder(("batch", sizes.places + 1), "int64", name="text")
    count = graphc.iota((sizes.places,), 0)
    with p.training():
        logits, _ = network(p, text[:, :-1], count, None, sizes)
    loss = graphc.mean(nn.softmax_cross_entropy(logits, text[:, 1:]))
    logits, _ = network(p, text[:, :-1], count, None, sizes)
    bits = graphc.mean(nn.softmax_cross_entropy(logits, text[:, 1:])) / float(np.log(2))

    ids = graphc.placeholder(("batch", 1), "int64", name="ids")
    past = graphc.Dim("past", max=sizes.places - 1)
    shape = ("batch", sizes.heads, past, sizes.size // sizes.heads)
    pasts = []
    for k in range(1, sizes.depth + 1):
        with graphc.name_scope(f"past{k}"):
            pasts.append(
                (graphc.placeholder(shape, name="keys"), graphc.placeholder(shape, name="values"))
            )
    place = graphc.reshape(graphc.asarray(past), (1,))
    said, caches = network(p, ids, place, pasts, sizes)
    outputs = {"logits": said[:, 0]}
    for k, (keys, values) in enumerate(caches, 1):
        outputs |= {f"new{k}/keys": keys, f"new{k}/values": values}
    inputs = (ids, *(t for pair in pasts for t in pair))
    return Model("gpt", p, inputs, outputs, (text,), loss, {"bits": bits})


def written(
    function: graphc.Function, sizes: Sizes, start: str, count: int, seed: int
) -> Iterator[str]:
    """`start`, then characters drawn from what the model says: `count`, at most `places`."""
    rng = np.random.default_rng(seed)
    ids, _ = data.as_ids([start], len(start))
    empty = (1, sizes.heads, 0, sizes.size // sizes.heads)
    caches: list[Array] = [np.zeros(empty, np.float32)] * (2 * sizes.depth)
    given = list(ids[0])
    character = given.pop(0)
    for _ in range(min(count, sizes.places)):
        yield data.CHARACTERS[character]
        found = function(np.array([[character]]), *caches)
        caches = [a for name, a in found.items() if name != "logits"]
        if given:
            character = given.pop(0)
            continue
        chances = np.exp(1.25 * (found["logits"][0] - found["logits"][0].max()).astype(np.float64))
        character = int(rng.choice(SYMBOLS, p=chances / chances.sum()))


def pieces(text: Array, places: int, batch: int, rng: np.random.Generator) -> Iterator[list[Array]]:
    """Random pieces of a text: (batch, places + 1)."""
    while True:
        starts = rng.integers(0, len(text) - places, batch)
        yield [text[starts[:, None] + np.arange(places + 1)]]


def main(arguments: list[str] | None = None) -> int:
    given = parser(__doc__, steps=2400, batch=16)
    given.add_argument("--write", type=int, default=64, help="characters to write (%(default)s)")
    options = given.parse_args(arguments)
    sizes = Sizes()
    model = build(sizes, options.seed)
    text = data.manual()
    ids = data.as_ids([text], len(text))[0][0]
    cut = len(ids) * 9 // 10
    rng = np.random.default_rng(options.seed)
    with graphc.Session() as session:
        trainer = Trainer(session, model, options.steps, 3e-3)
        kept = pieces(ids[:cut], sizes.places, options.batch, rng)
        losses = trainer.fit(kept, options.steps)
        held = next(pieces(ids[cut:], sizes.places, 100, np.random.default_rng(1)))
        bits = trainer.measure(*held)["bits"]
        function = session.function(model.inputs, model.outputs)
        print("".join(written(function, sizes, "The class ", options.write, options.seed)))
        finish(trainer, losses, options.output)
    counts = np.bincount(ids[:cut], minlength=SYMBOLS) + 1.0
    alone = -np.mean(np.log2(counts / counts.sum())[ids[cut:]])
    print(f"held-back tenth of the manual: {bits:.2f} bits per character")
    print(f"by the frequency of characters alone: {alone:.2f} bits")
    return 0 if bits < 3.0 or options.steps < 1000 else 1


if __name__ == "__main__":
    sys.exit(main())
