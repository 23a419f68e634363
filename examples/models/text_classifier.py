"""Recurrent classifiers of text: from which package of the standard library are two lines of code?

python -m examples.models.text_classifier --cell bilstm     # lstm, bilstm or gru
"""

from __future__ import annotations

import sys

import graphc
from examples.models import data
from examples.models.parts import Model, Parameters, Tensor, dense, parser
from examples.models.texts import text_classifier, train_on_lines
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
    return text_classifier(
        f"text_{cell}",
        Parameters(seed),
        length,
        lambda p, ids, lengths: network(p, ids, lengths, cell, classes, hidden),
    )


def main(arguments: list[str] | None = None) -> int:
    given = parser(__doc__, steps=600)
    given.add_argument("--cell", choices=CELLS, default="bilstm")
    options = given.parse_args(arguments)
    accuracy = train_on_lines(build(options.cell, seed=options.seed), options, rate=4e-3)
    return 0 if accuracy > 0.5 or options.steps < 400 else 1


if __name__ == "__main__":
    sys.exit(main())
