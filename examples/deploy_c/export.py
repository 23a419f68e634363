"""Train a small convolutional network on real digits and compile it for a C program.

Written into the output folder: the network as `digits.graphc`, the library `libdigits/` (digits.so,
digits.h and what builds with it) and `test.bin`, the held-back digits with the probabilities that
this process computes for them.  `serve.c` must get the same probabilities, bit for bit.

    python examples/deploy_c/export.py --out build
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import graphc

Array = np.ndarray[Any, Any]


def load(seed: int) -> tuple[Array, Array, Array, Array]:
    """Training and held-back images (n, 1, 8, 8) in [0, 1] and their labels (n,), shuffled."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(images))
    held, kept = order[: len(order) // 5], order[len(order) // 5 :]
    return images[kept], labels[kept], images[held], labels[held]


def initial_weights(rng: np.random.Generator) -> dict[str, Array]:
    """Normal values whose variance suits relu (He initialization), biases zero."""
    shapes = {"conv1": (12, 1, 3, 3), "conv2": (24, 12, 3, 3), "head": (10, 24 * 16)}
    weights: dict[str, Array] = {}
    for name, shape in shapes.items():
        value = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        weights[f"{name}/w"] = value.astype(np.float32)
        weights[f"{name}/b"] = np.zeros((shape[0], *(1,) * (len(shape) - 2)), np.float32)
    return weights


def network(x: graphc.Tensor, weights: dict[str, graphc.Tensor]) -> graphc.Tensor:
    """Two convolutions, a pool, a dense layer: (n, 1, 8, 8) -> logits (n, 10)"""
    h = x
    for name in ("conv1", "conv2"):
        h = graphc.nn.conv(h, weights[f"{name}/w"], padding=1) + weights[f"{name}/b"]
        h = graphc.nn.relu(h)
    h = graphc.reshape(graphc.nn.max_pool(h, 2), (x.shape[0], -1))
    return h @ weights["head/w"].T + weights["head/b"]


def train(step: graphc.Function, images: Array, labels: Array, epochs: int) -> None:
    """Batches of 64, in another order in each epoch."""
    rng = np.random.default_rng(0)
    for _ in range(epochs):
        order = rng.permutation(len(images))
        for begin in range(0, len(order), 64):
            chosen = order[begin : begin + 64]
            step(images[chosen], labels[chosen])


def write_digits(path: Path, images: Array, labels: Array, probabilities: Array) -> None:
    """The header is three int64: 0x5449474944 ("DIGIT"), how many, pixels of each. Then all images
    (float32), all labels (int64), all probabilities (float32, 10 of each); little-endian.
    """
    header = np.array([0x5449474944, len(images), images[0].size], "<i8")
    parts = (header, images.astype("<f4"), labels.astype("<i8"), probabilities.astype("<f4"))
    path.write_bytes(b"".join(part.tobytes() for part in parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder (default: build)")
    parser.add_argument("--epochs", type=int, default=20, help="default: 20")
    parser.add_argument("--target", default="host", help="of graphc.compile (default: host)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    images, labels, held_images, held_labels = load(seed=0)
    x = graphc.placeholder(("batch", 1, 8, 8), "float32", name="images")
    t = graphc.placeholder(("batch",), "int64", name="labels")
    first = initial_weights(np.random.default_rng(0))
    weights = {name: graphc.variable(value, name=name) for name, value in first.items()}
    logits = network(x, weights)
    loss = graphc.mean(graphc.nn.softmax_cross_entropy(logits, t))
    trained = list(weights.values())
    updates = graphc.optimizers.adam(trained, graphc.grad(loss, trained), learning_rate=3e-3)
    with graphc.Session() as session:
        step = session.function([x, t], loss, updates=updates)
        train(step, images, labels, options.epochs)
        infer = session.function([x], {"probabilities": graphc.nn.softmax(logits)}, name="digits")
        probabilities = infer(held_images)["probabilities"]
        infer.graph.save(options.out / "digits.graphc")  # with the trained weights

    graph = graphc.load(options.out / "digits.graphc")
    made = graphc.compile(graph, options.out / "libdigits", name="digits", target=options.target)
    write_digits(options.out / "test.bin", held_images, held_labels, probabilities)
    accuracy = float(np.mean(probabilities.argmax(axis=1) == held_labels))
    print(f"test accuracy: {accuracy:.2%} of {len(held_labels)} held-back digits")
    print(f"{made.library}: {made.library.stat().st_size} bytes, for {', '.join(made.targets)}")


if __name__ == "__main__":
    main()
