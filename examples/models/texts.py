"""Classifiers of text: from which package of the standard library are two lines of code?

Shared by the models that learn this.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import graphc
from examples.models import data
from examples.models.parts import Model, Parameters, Tensor, classifier, finish, train


def text_classifier(
    name: str, p: Parameters, length: int, network: Callable[[Parameters, Tensor, Tensor], Tensor]
) -> Model:
    """`classifier` of texts of up to `length` characters.

    network: of ids (n, length) and the real lengths (n,).
    """
    ids = graphc.placeholder(("batch", length), "int64", name="ids")
    lengths = graphc.placeholder(("batch",), "int64", name="lengths")
    return classifier(name, p, ids, lambda p, x: network(p, x, lengths), lengths)


def train_on_lines(model: Model, options: argparse.Namespace, rate: float = 2e-3) -> float:
    """Train on lines of up to 96 characters, write the picture and the graph, print and return the
    accuracy on the held-back lines.
    """
    kept, held = data.source_lines(96, options.seed)
    with graphc.Session() as session:
        trainer, losses = train(session, model, kept, options, rate)
        accuracy = trainer.measure(*held)["accuracy"]
        finish(trainer, losses, options.output)
    print(f"held-back lines, accuracy: {100 * accuracy:.1f}% (25% by chance)")
    return accuracy
