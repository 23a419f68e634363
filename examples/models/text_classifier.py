"""Recurrent classifiers of text: from which package of the standard library are two lines of code?

python -m examples.models.text_classifier --cell bilstm     # lstm, bilstm or gru
"""

from __future__ import annotations

import sys

import numpy as np

import graphc
from examples.models import data
from examples.models.parts import (
    Model,
    Parameters,
    Tensor,
    Trainer,
    batches,
    classifier,
    dense,
    finish,
    parser,
)  # fmt: skip
from graphc import nn

CELLS = ("lstm", "bilstm", "gru")


def recurrent_weights(
    p: Parameters, features: int, hidden: int, gates: int, name: str
) -> nn.RecurrentWeights:
    """The weights of one direction of one layer."""
    with p.scope(name):
        return nn.RecurrentWeights(
            p.weight("w_input", (features, gates * hidden), features, gain=1.0),
            p.weight("w_hidden", (hidden, gates * hidden), hidden, gain=1.0),
            p.constant("bias", (gates * hidden,)),
        )


def network(
    p: Parameters, ids: Tensor, lengths: Tensor, cell: str, classes: int, hidden: int
) -> Tensor:
    """ids (n, time), lengths (n,) -> logits (n, classes), from the states after the last step."""
    table = p.weight("embedding", (len(data.CHARACTERS), hidden), hidden, gain=1.0)
    x = nn.embedding(table, ids)
    gates = 3 if cell == "gru" else 4
    forward = recurrent_weights(p, hidden, hidden, gates, "forward")
    if cell == "gru":
        _, last = nn.gru(x, forward, lengths=lengths)
    elif cell == "lstm":
        _, (last, _) = nn.lstm(x, forward, lengths=lengths)
    else:
        backward = recurrent_weights(p, hidden, hidden, gates, "backward")
        _, (last, _) = nn.lstm(x, (forward, backward), lengths=lengths)
    # (directions, n, hidden) -> (n, directions * hidden)
    directions = int(last.shape[0])
    states = graphc.concat([last[k] for k in range(directions)], axis=1)
    return dense(p, p.dropout(states, 0.3), classes, "logits", gain=1.0)


def build(
    cell: str = "bilstm", length: int = 96, classes: int = 4, hidden: int = 64, seed: int = 0
) -> Model:
    """A classifier of texts of up to `length` characters; cell: lstm, bilstm or gru."""
    ids = graphc.placeholder(("batch", length), "int64", name="ids")
    lengths = graphc.placeholder(("batch",), "int64", name="lengths")
    return classifier(
        f"text_{cell}",
        Parameters(seed),
        ids,
        lambda p, x: network(p, x, lengths, cell, classes, hidden),
        lengths,
    )


def main(arguments: list[str] | None = None) -> int:
    given = parser(__doc__, steps=600)
    given.add_argument("--cell", choices=CELLS, default="bilstm")
    options = given.parse_args(arguments)
    model = build(options.cell, seed=options.seed)
    kept, held = data.source_lines(96, options.seed)
    rng = np.random.default_rng(options.seed)
    with graphc.Session() as session:
        trainer = Trainer(session, model, options.steps, 4e-3)
        losses = trainer.fit(batches(kept, options.batch, rng), options.steps)
        accuracy = trainer.measure(*held)["accuracy"]
        finish(trainer, losses, options.output)
    print(f"held-back lines, accuracy: {100 * accuracy:.1f}% (25% by chance)")
    return 0 if accuracy > 0.5 or options.steps < 400 else 1


if __name__ == "__main__":
    sys.exit(main())
