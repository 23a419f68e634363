"""Training classifiers of images on the handwritten digits: shared by the models that do so."""

from __future__ import annotations

import argparse

import numpy as np

import graphc
from examples.models import data
from examples.models.parts import Model, finish, train


def train_on_digits(
    model: Model, size: int, options: argparse.Namespace, rate: float = 2e-3
) -> float:
    """Train on digits of size × size pixels, write the picture and the graph, print and return the
    accuracy on the held-back digits.
    """
    kept, held = data.digit_images(size, options.seed)
    with graphc.Session() as session:
        trainer, losses = train(session, model, kept, options, rate)
        parts = [trainer.measure(*(a[k : k + 90] for a in held)) for k in range(0, 359, 90)]
        accuracy = float(np.mean([p["accuracy"] for p in parts]))
        finish(trainer, losses, options.output)
    print(f"held-back digits, accuracy: {100 * accuracy:.1f}%")
    return accuracy
