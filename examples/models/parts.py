"""What the models of this folder share: weights by name, blocks of layers, training, pictures.

A network is a function `network(p, x, …)` of a `Parameters` object: called a second time with the
same object it uses the same weights. So one network makes two graphs: one to train, with batch
statistics and dropout, and one for use, without.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from tqdm import tqdm

import graphc
from graphc import nn

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Array = np.ndarray[Any, Any]
Tensor = graphc.Tensor


class Parameters:
    """The weights of a network, by name, and how they were first drawn.

    updates: the running statistics of normalizations, and the counter of steps: what changes in a
    training step besides the weights.
    """

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.updates: dict[Tensor, Tensor] = {}
        self.is_training = False
        self._seed = seed
        self._all: dict[str, Tensor] = {}
        self._scope: list[str] = []
        self._draws = 0

    # -- variables --------------------------------------------------------------------------------
    def variable(self, name: str, make: Callable[[], Array], trainable: bool = True) -> Tensor:
        """The variable of a name in the current scope, made the first time."""
        full = "/".join([*self._scope, name])
        if full not in self._all:
            value = np.asarray(make(), np.float32)
            self._all[full] = graphc.variable(value, name=full, trainable=trainable)
        return self._all[full]

    def weight(self, name: str, shape: Sequence[int], fan_in: int, gain: float = 2.0) -> Tensor:
        """Normal numbers of variance gain / fan_in: 2 suits relu (He et al. 2015), 1 no relu."""
        scale = np.sqrt(gain / fan_in)
        return self.variable(name, lambda: self.rng.normal(0.0, scale, tuple(shape)))

    def constant(self, name: str, shape: Sequence[int], value: float = 0.0) -> Tensor:
        """A trained variable that starts as one number."""
        return self.variable(name, lambda: np.full(tuple(shape), value))

    @property
    def trained(self) -> list[Tensor]:
        """The variables that an optimizer changes."""
        return [v for v in self._all.values() if v.attr("trainable")]

    @property
    def count(self) -> int:
        """How many numbers are trained."""
        return sum(int(np.prod(v.shape)) for v in self.trained)

    # -- where and how ----------------------------------------------------------------------------
    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Names inside become `name/…`."""
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    @contextmanager
    def training(self) -> Iterator[None]:
        """Networks built inside normalize by their batch and drop elements."""
        self.is_training = True
        try:
            yield
        finally:
            self.is_training = False

    def dropout(self, x: Tensor, rate: float) -> Tensor:
        """x with elements dropped in training, another choice in every step; else x."""
        if not self.is_training or rate == 0.0:
            return x
        step = self.variable("dropout_step", lambda: np.zeros(()), trainable=False)
        self.updates[step] = step + 1.0
        self._draws += 1
        key = graphc.random.fold_in(graphc.random.key(self._seed), graphc.astype(step, "int64"))
        return nn.dropout(x, rate, graphc.random.fold_in(key, self._draws))


# -- blocks ---------------------------------------------------------------------------------------


def dense(p: Parameters, x: Tensor, size: int, name: str, gain: float = 2.0) -> Tensor:
    """(…, k) -> (…, size)"""
    k = int(x.shape[-1])
    with p.scope(name):
        return nn.linear(x, p.weight("w", (k, size), k, gain), p.constant("b", (size,)))


def conv(
    p: Parameters,
    x: Tensor,
    channels: int,
    size: int,
    name: str,
    *,
    stride: int = 1,
    padding: Any = None,
    bias: bool = True,
) -> Tensor:
    """size × size windows: (n, c, h, w) -> (n, channels, h', w'); padded to keep h and w."""
    c = int(x.shape[1])
    around = size // 2 if padding is None else padding
    with p.scope(name):
        w = p.weight("w", (channels, c, size, size), c * size * size)
        b = p.constant("b", (channels,)) if bias else None
        return nn.conv(x, w, stride=stride, padding=around, bias=b)


def batch_norm(
    p: Parameters, x: Tensor, name: str, *, scale: float = 1.0, momentum: float = 0.9
) -> Tensor:
    """Per channel: by the batch in training, and by the running averages of that else. scale: what
    the result is multiplied by at first.
    """
    c = int(x.shape[1])
    with p.scope(name):
        factor, bias = p.constant("scale", (c,), scale), p.constant("bias", (c,))
        mean = p.variable("mean", lambda: np.zeros(c), trainable=False)
        variance = p.variable("variance", lambda: np.ones(c), trainable=False)
    if not p.is_training:
        return nn.batch_norm(x, factor, bias, mean, variance)
    y, m, v = nn.batch_norm(x, factor, bias)
    p.updates[mean] = momentum * mean + (1.0 - momentum) * m
    p.updates[variance] = momentum * variance + (1.0 - momentum) * v
    return y


def conv_norm(
    p: Parameters,
    x: Tensor,
    channels: int,
    size: int,
    name: str,
    *,
    stride: int = 1,
    relu: bool = True,
    scale: float = 1.0,
) -> Tensor:
    """A convolution without bias, a batch normalization, and relu unless told otherwise."""
    with p.scope(name):
        h = conv(p, x, channels, size, "conv", stride=stride, bias=False)
        h = batch_norm(p, h, "norm", scale=scale)
    return nn.relu(h) if relu else h


def layer_norm(p: Parameters, x: Tensor, name: str) -> Tensor:
    """Over the last axis, with scale and bias."""
    size = int(x.shape[-1])
    with p.scope(name):
        return nn.layer_norm(x, p.constant("scale", (size,), 1.0), p.constant("bias", (size,)))


def flatten(x: Tensor) -> Tensor:
    """(n, …) -> (n, k)"""
    return graphc.reshape(x, (x.shape[0], -1))


# -- models ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A network with its two graphs.

    inputs, outputs: of the graph for use. fed: the placeholders of a training step, in order.
    loss: what a step lowers. metrics: numbers to report for a batch, such as the accuracy.
    """

    name: str
    parameters: Parameters
    inputs: tuple[Tensor, ...]
    outputs: dict[str, Tensor]
    fed: tuple[Tensor, ...]
    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)

    @property
    def graph(self) -> graphc.Graph:
        """The graph for use, with first values of the weights: see `Trainer.graph`."""
        return graphc.Graph(self.inputs, self.outputs, name=self.name)


def classifier(
    name: str,
    p: Parameters,
    x: Tensor,
    network: Callable[[Parameters, Tensor], Tensor],
    *more: Tensor,
) -> Model:
    """The model of a network that gives logits (n, classes); it is trained on int64 labels (n,).

    more: inputs of the network besides x.
    """
    labels = graphc.placeholder((x.shape[0],), "int64", name="labels")
    with p.training():
        loss = graphc.mean(nn.softmax_cross_entropy(network(p, x), labels))
    logits = network(p, x)
    guesses = graphc.argmax(logits, axis=1)
    right = graphc.mean(graphc.astype(guesses == labels, "float32"))
    outputs = {"probabilities": nn.softmax(logits)}
    return Model(name, p, (x, *more), outputs, (x, *more, labels), loss, {"accuracy": right})


class Trainer:
    """Trains a model by Adam (Kingma and Ba 2015) in a session; the learning rate falls along half
    a cosine to a twentieth after `steps` steps.
    """

    def __init__(
        self, session: graphc.Session, model: Model, steps: int, rate: float = 2e-3
    ) -> None:
        self.model = model
        self._session = session
        count = graphc.optimizers.step_variable("schedule/step")
        done = graphc.minimum(graphc.astype(count, "float32") / float(steps), 1.0)
        now = rate * (0.05 + 0.475 * (1.0 + graphc.cos(np.pi * done)))
        weights = model.parameters.trained
        gradients = graphc.optimizers.clip_by_norm(graphc.grad(model.loss, weights), 5.0)
        updates = graphc.optimizers.adam(weights, gradients, learning_rate=now)
        updates |= model.parameters.updates | {count: count + 1}
        self.step = session.function(model.fed, model.loss, updates=updates)

    def fit(self, batches: Iterable[Sequence[Array]], steps: int) -> list[float]:
        """`steps` training steps; the loss of each."""
        found = []
        progress = tqdm(total=steps, desc=self.model.name, unit="step")
        for _, batch in zip(range(steps), batches):
            found.append(float(self.step(*batch)))
            progress.set_postfix(loss=f"{np.mean(found[-20:]):.4f}", refresh=False)
            progress.update()
        progress.close()
        return found

    def measure(self, *arrays: Array) -> dict[str, float]:
        """The model's metrics on arrays as a training step takes them."""
        feeds = dict(zip(self.model.fed, arrays, strict=True))
        found = self._session.run(self.model.metrics, feeds)
        return {name: float(value) for name, value in found.items()}

    @property
    def graph(self) -> graphc.Graph:
        """The graph for use, with the trained weights: to save, to export, to compile."""
        model = self.model
        return self._session.function(model.inputs, model.outputs, name=model.name).graph


def batches(
    arrays: Sequence[Array], size: int, rng: np.random.Generator
) -> Iterator[tuple[Array, ...]]:
    """Batches of rows in random order, without end: each row once before any a second time."""
    count = len(arrays[0])
    while True:
        order = rng.permutation(count)
        for k in range(0, count - size + 1, size):
            chosen = order[k : k + size]
            yield tuple(a[chosen] for a in arrays)


def train(
    session: graphc.Session,
    model: Model,
    arrays: Sequence[Array],
    options: argparse.Namespace,
    rate: float = 2e-3,
) -> tuple[Trainer, list[float]]:
    """A trainer of the model after the steps that `options` asks for, on batches of rows of the
    arrays, and the loss of each step.
    """
    trainer = Trainer(session, model, options.steps, rate)
    rows = batches(arrays, options.batch, np.random.default_rng(options.seed))
    return trainer, trainer.fit(rows, options.steps)


# -- command lines and pictures -------------------------------------------------------------------


def parser(description: str | None, steps: int, batch: int = 64) -> argparse.ArgumentParser:
    """The options that all models have."""
    made = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    made.add_argument("--steps", type=int, default=steps, help="training steps (%(default)s)")
    made.add_argument("--batch", type=int, default=batch, help="examples per step (%(default)s)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--output", type=Path, default=None, help="folder (out/models/NAME)")
    return made


def finish(trainer: Trainer, losses: Sequence[float], folder: Path | None) -> Path:
    """Write the picture of the losses and the trained graph; say what was written."""
    name = trainer.model.name
    folder = folder or Path("out/models") / name
    folder.mkdir(parents=True, exist_ok=True)
    plot_losses(losses, folder / "loss.png")
    trainer.graph.save(folder / f"{name}.graphc")
    print(f"parameters: {trainer.model.parameters.count:,}")
    print(f"wrote {folder / 'loss.png'} and {folder / f'{name}.graphc'}")
    return folder


def figure(width: float = 6.0, height: float = 4.0, **grid: Any) -> tuple[Any, Any]:
    """A Matplotlib figure and its axes, drawn to files only."""
    return plt.subplots(figsize=(width, height), layout="constrained", **grid)


def plot_losses(losses: Sequence[float], path: Path) -> None:
    """The loss of each step, and its average over 20."""
    made, axes = figure()
    axes.plot(losses, color="tab:blue", alpha=0.3, linewidth=0.8)
    if len(losses) > 20:
        smooth = np.convolve(losses, np.ones(20) / 20, "valid")
        axes.plot(np.arange(len(smooth)) + 19, smooth, color="tab:blue")
    axes.set(xlabel="step", ylabel="loss")
    axes.set_yscale("log")
    made.savefig(path, dpi=120)
