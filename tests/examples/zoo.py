"""Every model of examples/models at a size that compiles in seconds, with a batch to train on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from examples.models import (
    alexnet,
    dqn,
    gpt,
    inception,
    lenet,
    resnet,
    seq2seq,
    text_classifier,
    transformer,
    unet,
    vgg,
    yolo,
)
from examples.models.parts import Array, Model

ROWS = 4


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _images(size: int, classes: int = 3) -> tuple[Array, ...]:
    rng = _rng()
    images = rng.random((ROWS, 1, size, size)).astype(np.float32)
    return images, rng.integers(0, classes, ROWS)


def _masks(size: int) -> tuple[Array, ...]:
    pictures = _rng().random((ROWS, 1, size, size)).astype(np.float32)
    return pictures, (pictures > 0.5).astype(np.float32)


def _cells(size: int, cells: int) -> tuple[Array, ...]:
    rng = _rng()
    wanted = (rng.random((ROWS, cells, cells, 5)) > 0.5).astype(np.float32)
    labels = rng.integers(0, 3, (ROWS, cells, cells))
    return rng.random((ROWS, 1, size, size)).astype(np.float32), wanted, labels


def _texts(length: int, classes: int = 3) -> tuple[Array, ...]:
    rng = _rng()
    ids = rng.integers(1, 90, (ROWS, length))
    return ids, rng.integers(1, length + 1, ROWS), rng.integers(0, classes, ROWS)


def _moves(count: int) -> tuple[Array, ...]:
    rng = _rng()
    states, following = rng.integers(0, count, (2, ROWS))
    rewards = rng.random(ROWS).astype(np.float32)
    return states, rng.integers(0, 4, ROWS), rewards, following, rng.random(ROWS) < 0.5


def _dates() -> tuple[Array, ...]:
    ids, lengths, _ = _texts(9)
    return ids, lengths, _rng().integers(1, 90, (ROWS, 5))


@dataclass(frozen=True)
class Small:
    """build: the model, small. batch: arrays for a training step.

    quick: its training step is compiled in the default suite.
    """

    build: Callable[[], Model]
    batch: Callable[[], tuple[Array, ...]]
    quick: bool = False

    def feeds(self) -> dict[str, Array]:
        """Inputs of the graph for use: those that a training step has, and small random ones."""
        model, batch = self.build(), self.batch()
        given = {id(t): a for t, a in zip(model.fed, batch, strict=True)}
        rng = _rng()
        found: dict[str, Array] = {}
        for name, tensor in model.graph.inputs:
            value = given.get(id(tensor))
            if value is None:
                known = {"batch": ROWS, "past": 3}
                shape = tuple(n if isinstance(n, int) else known[str(n)] for n in tensor.shape)
                value = rng.standard_normal(shape).astype(np.float32)
                if tensor.dtype.is_integer:
                    value = rng.integers(1, 90, shape)
            found[name] = value
        return found


ZOO = {
    "lenet": Small(lambda: lenet.build(32, 1, 3, 0.5), lambda: _images(32), quick=True),
    "alexnet": Small(lambda: alexnet.build(64, 1, 3, 1 / 32), lambda: _images(64)),
    "vgg": Small(lambda: vgg.build(32, 1, 3, 1 / 64, 11, True), lambda: _images(32)),
    "inception": Small(lambda: inception.build(32, 1, 3, 1 / 32), lambda: _images(32)),
    "resnet": Small(lambda: resnet.build(32, 1, 3, 18, 2), lambda: _images(32)),
    "unet": Small(lambda: unet.build(16, 1, 2, 1), lambda: _masks(16)),
    "yolo": Small(lambda: yolo.build(16, 1, 3, 2, 2), lambda: _cells(16, 4)),
    "lstm": Small(lambda: text_classifier.build("lstm", 6, 3, 4), lambda: _texts(6)),
    "bilstm": Small(lambda: text_classifier.build("bilstm", 6, 3, 4), lambda: _texts(6)),
    "gru": Small(lambda: text_classifier.build("gru", 6, 3, 4), lambda: _texts(6), quick=True),
    "seq2seq": Small(lambda: seq2seq.build(9, 5, 6), _dates),
    "transformer": Small(lambda: transformer.build(6, 3, 8, 2, 1), lambda: _texts(6), quick=True),
    "gpt": Small(lambda: gpt.build(gpt.Sizes(6, 8, 2, 1)), lambda: (_texts(7)[0],)),
    "dqn": Small(lambda: dqn.build(9, 4).model, lambda: _moves(9), quick=True),
}
