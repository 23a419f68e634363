"""Sequence to sequence with attention (Bahdanau et al. 2014): dates as people write them -> ISO.

A GRU reads "saturday, 21 november 2026" in both directions; another writes "2026-11-21", one
character after the other, and looks at each step at the places of the input that matter.

    python -m examples.models.seq2seq
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import graphc
from examples.models import data
from examples.models.parts import (
    Array,
    Model,
    Parameters,
    Tensor,
    dense,
    figure,
    finish,
    parser,
    train,
)
from examples.models.text_classifier import recurrent_weights
from graphc import nn

SYMBOLS = len(data.CHARACTERS)


def encoded(p: Parameters, ids: Tensor, lengths: Tensor, hidden: int) -> tuple[Tensor, Tensor]:
    """(n, time) -> what was read at each place (n, time, 2 * hidden), and the first state of the
    writer (n, hidden).
    """
    x = nn.embedding(p.weight("embedding", (SYMBOLS, hidden), hidden, gain=1.0), ids)
    both = tuple(recurrent_weights(p, hidden, hidden, 3, d) for d in ("forward", "backward"))
    read, last = nn.gru(x, (both[0], both[1]), lengths=lengths)
    start = graphc.concat([last[0], last[1]], axis=1)
    return read, graphc.tanh(dense(p, start, hidden, "start", gain=1.0))


def writer(
    p: Parameters, read: Tensor, lengths: Tensor, hidden: int
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """A step: (state (n, hidden), the character before (n,)) -> the new state, logits (n, symbols)
    and where was looked (n, time).
    """
    table = p.weight("written", (SYMBOLS, hidden), hidden, gain=1.0)
    weights = recurrent_weights(p, 3 * hidden, hidden, 3, "writer")
    keys = dense(p, read, hidden, "keys", gain=1.0)
    inside = graphc.iota((1, read.shape[1]), 1) < lengths[:, None]

    def step(state: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query = dense(p, state, hidden, "query", gain=1.0)
        energy = dense(p, graphc.tanh(keys + query[:, None]), 1, "energy", gain=1.0)[..., 0]
        looked = nn.softmax(graphc.where(inside, energy, -1e9))
        seen = graphc.sum(looked[..., None] * read, axis=1)
        x = graphc.concat([nn.embedding(table, before), seen], axis=1)
        state = nn.gru_cell(x, state, weights)
        logits = dense(p, graphc.concat([state, seen], axis=1), SYMBOLS, "logits", gain=1.0)
        return state, logits, looked

    return step


def build(source: int = 28, target: int = 10, hidden: int = 64, seed: int = 0) -> Model:
    """The model for texts of up to `source` characters, which writes `target` characters: in
    training after the right ones (teacher forcing), in use after its own.
    """
    p = Parameters(seed)
    ids = graphc.placeholder(("batch", source), "int64", name="ids")
    lengths = graphc.placeholder(("batch",), "int64", name="lengths")
    wanted = graphc.placeholder(("batch", target), "int64", name="wanted")
    read, start = encoded(p, ids, lengths, hidden)
    step = writer(p, read, lengths, hidden)
    begin = graphc.zeros((ids.shape[0],), dtype="int64")

    def taught(state: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        state, logits, _ = step(state, before)
        return state, logits

    before = graphc.concat([begin[None], wanted.T[:-1]], axis=0)
    _, logits = graphc.scan(taught, start, before)
    loss = graphc.mean(nn.softmax_cross_entropy(logits, wanted.T))

    def free(carry: tuple[Tensor, Tensor], _: None) -> tuple[tuple[Tensor, Tensor], object]:
        state, logits, looked = step(*carry)
        best = graphc.argmax(logits, axis=1)
        return (state, best), (best, looked)

    _, (written, looked) = graphc.scan(free, (start, begin), None, length=target)
    outputs = {"written": written.T, "looked": graphc.permute_dims(looked, (1, 0, 2))}
    right = graphc.all(outputs["written"] == wanted, axis=1)
    exact = graphc.mean(graphc.astype(right, "float32"))
    fed = (ids, lengths, wanted)
    return Model("seq2seq", p, (ids, lengths), outputs, fed, loss, {"exact": exact})


def plot(ids: Array, written: Array, looked: Array, path: object) -> None:
    made, grid = figure(9, 4.5, ncols=2)
    for k, axes in enumerate(grid):
        text = "".join(data.CHARACTERS[i] for i in ids[k] if i)
        axes.imshow(looked[k, :, : len(text)], cmap="Blues", aspect="auto")
        axes.set_xticks(range(len(text)), list(text), fontsize=8)
        said = [data.CHARACTERS[i] for i in written[k]]
        axes.set_yticks(range(len(said)), said, fontsize=8)
    made.suptitle("where the writer (downwards) looks in the date (to the right)")
    made.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> int:
    options = parser(__doc__, steps=600).parse_args(arguments)
    model = build(seed=options.seed)
    kept, held = (data.dates(n, 28, 10, options.seed + s) for n, s in ((12_000, 0), (500, 1)))
    with graphc.Session() as session:
        trainer, losses = train(session, model, kept, options, 6e-3)
        exact = trainer.measure(*held)["exact"]
        found = session.run(model.outputs, {"ids": held[0][:2], "lengths": held[1][:2]})
        folder = finish(trainer, losses, options.output)
    plot(held[0], found["written"], found["looked"], folder / "attention.png")
    print(f"new dates, written without a mistake: {100 * exact:.1f}%")
    return 0 if exact > 0.8 or options.steps < 500 else 1


if __name__ == "__main__":
    sys.exit(main())
