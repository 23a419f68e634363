"""Compile a whole training step, and the network by itself, for a C program that trains on device.

Written into the output folder: `step/` (a library whose one call is forward pass, backward pass and
Adam's update of the state), `predict/` (the network with its weights as inputs: the C program
passes the arrays of the state) and `train.bin`, `test.bin`, the digits to train on and those held
back.  No weight is trained here.

    python examples/on_device_training/export.py --out build
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import graphc

Array = np.ndarray[Any, Any]
HIDDEN = 128


def load(seed: int) -> tuple[Array, Array, Array, Array]:
    """Training and held-back images (n, 64) in [0, 1] and their labels (n,), shuffled."""
    digits = load_digits()
    images = (digits.data / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(images))
    held, kept = order[: len(order) // 5], order[len(order) // 5 :]
    return images[kept], labels[kept], images[held], labels[held]


def network(x: graphc.Tensor, weights: list[graphc.Tensor]) -> graphc.Tensor:
    """Two dense layers: (n, 64) -> logits (n, 10)"""
    w1, b1, w2, b2 = weights
    return graphc.nn.relu(x @ w1 + b1) @ w2 + b2


def step_graph(seed: int, learning_rate: float) -> graphc.Graph:
    """One step of training: images and labels of a batch to the loss; the weights, Adam's two
    moments of each and its powers of beta become the state.
    """
    rng = np.random.default_rng(seed)
    batch = graphc.Dim("batch", min=1)  # the mean of no loss would be NaN
    x = graphc.placeholder((batch, 64), "float32", name="images")
    t = graphc.placeholder((batch,), "int64", name="labels")
    first = rng.normal(0, np.sqrt(2 / 64), (64, HIDDEN)).astype(np.float32)
    second = rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, 10)).astype(np.float32)
    weights = [
        graphc.variable(first, name="w1"),
        graphc.variable(np.zeros(HIDDEN, np.float32), name="b1"),
        graphc.variable(second, name="w2"),
        graphc.variable(np.zeros(10, np.float32), name="b2"),
    ]
    loss = graphc.mean(graphc.nn.softmax_cross_entropy(network(x, weights), t))
    gradients = graphc.grad(loss, weights)
    updates = graphc.optimizers.adam(weights, gradients, learning_rate=learning_rate)
    return graphc.Graph([x, t], {"loss": loss}, updates=updates, name="step")


def predict_graph() -> graphc.Graph:
    """The digit that the network reads in each image; its weights are inputs."""
    x = graphc.placeholder(("batch", 64), "float32", name="images")
    shapes = {"w1": (64, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, 10), "b2": (10,)}
    weights = [graphc.placeholder(shape, "float32", name=n) for n, shape in shapes.items()]
    digit = graphc.argmax(network(x, weights), axis=1)
    return graphc.Graph([x, *weights], {"digit": digit}, name="predict")


def write_digits(path: Path, images: Array, labels: Array) -> None:
    """The header is three int64: 0x5449474944 ("DIGIT"), how many, pixels of each. Then all images
    (float32) and all labels (int64); little-endian.
    """
    header = np.array([0x5449474944, len(images), images[0].size], "<i8")
    parts = (header, images.astype("<f4"), labels.astype("<i8"))
    path.write_bytes(b"".join(part.tobytes() for part in parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder (default: build)")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights (default: 0)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="default: 2e-3")
    parser.add_argument("--target", default="host", help="of graphc.compile (default: host)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    images, labels, held_images, held_labels = load(seed=0)
    write_digits(options.out / "train.bin", images, labels)
    write_digits(options.out / "test.bin", held_images, held_labels)
    graphs = (step_graph(options.seed, options.learning_rate), predict_graph())
    for graph in graphs:
        made = graphc.compile(graph, options.out / graph.name, target=options.target)
        print(f"{made.library}: {made.library.stat().st_size} bytes, for {', '.join(made.targets)}")


if __name__ == "__main__":
    main()
