"""Squeeze real handwritten digits through a few numbers and draw them again.

The encoder maps 64 pixels to `--code` numbers, the decoder maps them back. What is lost is
compared, on held-back digits, with the best linear method (principal components) of the same
size. One picture is written: digits above their reconstructions, and where the classes lie in the
first two numbers.

    python examples/autoencoder.py --code 4
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
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


def load(seed: int) -> tuple[Array, Array, Array]:
    """Training pixels (n, 64) in [0, 1], held-back pixels, and the labels of those."""
    digits = load_digits()
    pixels = (digits.data / 16).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(pixels))
    held, kept = order[: len(order) // 5], order[len(order) // 5 :]
    return pixels[kept], pixels[held], digits.target[held]


def layers(
    x: graphc.Tensor, sizes: list[int], name: str, rng: np.random.Generator
) -> tuple[graphc.Tensor, list[graphc.Tensor]]:
    """Dense layers with gelu between them, and their variables."""
    variables: list[graphc.Tensor] = []
    with graphc.name_scope(name):
        for k, (rows, columns) in enumerate(pairwise(sizes)):
            scale = np.sqrt(2 / (rows + columns))
            value = rng.normal(0, scale, (rows, columns)).astype(np.float32)
            w = graphc.variable(value, name=f"w{k}")
            b = graphc.variable(np.zeros(columns, np.float32), name=f"b{k}")
            x = (graphc.nn.gelu(x) if k else x) @ w + b
            variables += [w, b]
    return x, variables


def build(code: int, steps: int, seed: int) -> dict[str, Any]:
    """Inputs, code, reconstruction, loss and the updates of one training step."""
    rng = np.random.default_rng(seed)
    x = graphc.placeholder(("batch", 64), "float32", name="pixels")
    hidden, encoder = layers(x, [64, 128, code], "encoder", rng)
    logits, decoder = layers(hidden, [code, 128, 64], "decoder", rng)
    loss = graphc.mean(graphc.nn.binary_cross_entropy_with_logits(logits, x)).named("loss")
    # The learning rate falls along half a cosine: an expression of a variable that counts steps.
    step = graphc.variable(np.float32(0), name="step", trainable=False)
    rate = 4e-3 * 0.5 * (1 + graphc.cos(np.pi * graphc.minimum(step / steps, 1.0)))
    variables = encoder + decoder
    gradients = graphc.grad(loss, variables)
    updates = graphc.optimizers.adam(variables, gradients, learning_rate=rate)
    return {
        "x": x,
        "code": hidden.named("code"),
        "drawn": graphc.nn.sigmoid(logits),
        "loss": loss,
        "updates": {**updates, step: step + 1},
    }


def linear_loss(pixels: Array, held: Array, code: int) -> float:
    """Mean squared error of `code` principal components of the training digits."""
    mean = pixels.mean(axis=0)
    basis = np.linalg.svd(pixels - mean, full_matrices=False)[2][:code]
    drawn = (held - mean) @ basis.T @ basis + mean
    return float(np.mean((drawn - held) ** 2))


def plot(held: Array, drawn: Array, codes: Array, labels: Array, path: Path) -> None:
    figure = plt.figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2)
    for k, axes in enumerate(left.subplots(4, 6).flat):
        source = held if (k // 6) % 2 == 0 else drawn
        axes.imshow(source[k % 6 + 6 * (k // 12)].reshape(8, 8), cmap="gray_r")
        axes.axis("off")
    left.suptitle("digits above their reconstructions")
    axes = right.subplots()
    points = axes.scatter(codes[:, 0], codes[:, 1], c=labels, cmap="tab10", s=12)
    right.colorbar(points, ax=axes, label="digit")
    axes.set(title="first two numbers of the code")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--code", type=int, default=2, help="how many numbers (at least 2)")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("out/autoencoder"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    pixels, held, labels = load(options.seed)
    batches = -(-len(pixels) // options.batch)
    net = build(options.code, options.epochs * batches, options.seed)
    rng = np.random.default_rng(options.seed)
    with graphc.Session() as session:
        step = session.function([net["x"]], net["loss"], updates=net["updates"])
        for _ in tqdm(range(options.epochs), desc="training", unit="epoch"):
            for chosen in np.array_split(rng.permutation(len(pixels)), batches):
                step(pixels[chosen])
        drawn, codes = session.run([net["drawn"], net["code"]], {"pixels": held})

    plot(held, drawn, codes, labels, options.output / "digits.png")
    error = float(np.mean((drawn - held) ** 2))
    linear = linear_loss(pixels, held, options.code)
    print(f"mean squared error through {options.code} numbers, held-back digits: {error:.4f}")
    print(f"the same through {options.code} principal components: {linear:.4f}")
    print(f"wrote {options.output / 'digits.png'}")
    return 0 if error < linear else 1


if __name__ == "__main__":
    sys.exit(main())
