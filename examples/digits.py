"""Train a small network on real handwritten digits, then show what it gets wrong.

The 1,797 scanned digits (8 × 8 pixels) ship with scikit-learn. One in five is held back and never
trained on; the accuracy on those is what is printed at the end. Two pictures are written: the
loss, and the held-back digits that were misread.

    python examples/digits.py                 # a convolutional network
    python examples/digits.py --model mlp     # two dense layers
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

import graphc

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Array = np.ndarray[Any, Any]


def load(seed: int) -> tuple[Array, Array, Array, Array]:
    """Training and held-back images (n, 1, 8, 8) in [0, 1] and their labels (n,), shuffled."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(images))
    held, kept = order[: len(order) // 5], order[len(order) // 5 :]
    return images[kept], labels[kept], images[held], labels[held]


class Parameters:
    """Makes weight variables and remembers them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.variables: list[graphc.Tensor] = []

    def weight(self, shape: tuple[int, ...], fan_in: int, name: str) -> graphc.Tensor:
        """Normal values whose variance suits relu (He initialization)."""
        value = self.rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        return self.variable(value, name)

    def bias(self, shape: tuple[int, ...], name: str) -> graphc.Tensor:
        """Zeros."""
        return self.variable(np.zeros(shape, np.float32), name)

    def variable(self, value: Array, name: str) -> graphc.Tensor:
        self.variables.append(graphc.variable(value, name=name))
        return self.variables[-1]


def dense(p: Parameters, x: graphc.Tensor, size: int, name: str) -> graphc.Tensor:
    """(n, k) -> (n, size)"""
    k = int(x.shape[1])
    return x @ p.weight((k, size), k, f"{name}/w") + p.bias((size,), f"{name}/b")


def convolution(p: Parameters, x: graphc.Tensor, channels: int, name: str) -> graphc.Tensor:
    """3 × 3 windows: (n, c, h, w) -> (n, channels, h, w)"""
    c = int(x.shape[1])
    w = p.weight((channels, c, 3, 3), 9 * c, f"{name}/w")
    return graphc.nn.conv(x, w, padding=1) + p.bias((channels, 1, 1), f"{name}/b")


def flatten(x: graphc.Tensor) -> graphc.Tensor:
    return graphc.reshape(x, (x.shape[0], -1))


def cnn(p: Parameters, x: graphc.Tensor) -> graphc.Tensor:
    """Two convolutions, a pool, a dense layer: (n, 1, 8, 8) -> logits (n, 10)"""
    h = graphc.nn.relu(convolution(p, x, 16, "conv1")).named("features1")
    h = graphc.nn.relu(convolution(p, h, 32, "conv2")).named("features2")
    return dense(p, flatten(graphc.nn.max_pool(h, 2)), 10, "head")


def mlp(p: Parameters, x: graphc.Tensor) -> graphc.Tensor:
    """Two dense layers: (n, 1, 8, 8) -> logits (n, 10)"""
    h = graphc.nn.relu(dense(p, flatten(x), 128, "hidden")).named("hidden")
    return dense(p, h, 10, "head")


MODELS = {"cnn": cnn, "mlp": mlp}


def build(model: str, seed: int, learning_rate: float) -> dict[str, Any]:
    """The graph of one model: inputs, logits, loss, and the updates of one training step."""
    x = graphc.placeholder(("batch", 1, 8, 8), "float32", name="images")
    t = graphc.placeholder(("batch",), "int64", name="labels")
    p = Parameters(seed)
    logits = MODELS[model](p, x).named("logits")
    loss = graphc.mean(graphc.nn.softmax_cross_entropy(logits, t)).named("loss")
    gradients = graphc.grad(loss, p.variables)
    updates = graphc.optimizers.adam(p.variables, gradients, learning_rate=learning_rate)
    return {"x": x, "t": t, "logits": logits, "loss": loss, "updates": updates}


def train(
    step: graphc.Function, images: Array, labels: Array, epochs: int, batch: int, seed: int
) -> list[float]:
    """The loss of every step."""
    rng = np.random.default_rng(seed)
    losses: list[float] = []
    with tqdm(range(epochs), desc="training", unit="epoch") as progress:
        for _ in progress:
            order = rng.permutation(len(images))
            for begin in range(0, len(order), batch):
                chosen = order[begin : begin + batch]
                losses.append(float(step(images[chosen], labels[chosen])))
            progress.set_postfix(loss=f"{np.mean(losses[-len(order) // batch :]):.4f}")
    return losses


def plot_loss(losses: list[float], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.semilogy(losses, linewidth=0.8)
    axes.set(xlabel="step", ylabel="loss (cross entropy)", title="Loss while training")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_misread(images: Array, labels: Array, probabilities: Array, path: Path) -> int:
    """Draw the misread digits, the surest mistakes first; returns how many there are."""
    read = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(read != labels)
    wrong = wrong[np.argsort(-probabilities[wrong, read[wrong]])]
    columns = 6
    rows = max(1, -(-min(len(wrong), 24) // columns))
    figure, grid = plt.subplots(rows, columns, figsize=(9, 1.9 * rows), layout="constrained")
    for axes in grid.flat:
        axes.axis("off")
    for axes, k in zip(grid.flat, wrong, strict=False):
        axes.imshow(images[k, 0], cmap="gray_r")
        axes.set_title(
            f"{labels[k]} read as {read[k]} ({probabilities[k, read[k]]:.0%})", fontsize=8
        )
    figure.suptitle(f"{len(wrong)} of {len(labels)} held-back digits misread")
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return len(wrong)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=sorted(MODELS), default="cnn")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--output", type=Path, default=Path("out/digits"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    images, labels, held_images, held_labels = load(options.seed)
    net = build(options.model, options.seed, options.learning_rate)
    with graphc.Session(threads=options.threads) as session:
        step = session.function([net["x"], net["t"]], net["loss"], updates=net["updates"])
        begin = time.perf_counter()
        losses = train(step, images, labels, options.epochs, options.batch, options.seed)
        seconds = time.perf_counter() - begin
        probabilities = session.run(graphc.nn.softmax(net["logits"]), {net["x"]: held_images})

    plot_loss(losses, options.output / "loss.png")
    wrong = plot_misread(held_images, held_labels, probabilities, options.output / "misread.png")
    accuracy = 1 - wrong / len(held_labels)
    print(f"trained {options.model} on {len(images)} digits, {len(losses)} steps, {seconds:.1f} s")
    print(f"wrote {options.output / 'loss.png'} and {options.output / 'misread.png'}")
    print(f"test accuracy: {accuracy:.2%} of {len(held_labels)} held-back digits")


if __name__ == "__main__":
    main()
