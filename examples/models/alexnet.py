"""AlexNet in one tower (Krizhevsky 2014), narrowed and trained on handwritten digits.

python -m examples.models.alexnet
"""

from __future__ import annotations

import sys

import graphc
from examples.models.digits import train_on_digits
from examples.models.parts import (
    Model,
    Parameters,
    Tensor,
    classifier,
    conv,
    dense,
    flatten,
    parser,
)
from graphc import nn


def network(p: Parameters, x: Tensor, classes: int, width: float) -> Tensor:
    """(n, c, h, w), h and w at least 63 -> logits (n, classes)"""
    wide = [max(int(width * n), 1) for n in (64, 192, 384, 256, 256, 4096)]
    h = nn.relu(conv(p, x, wide[0], 11, "conv1", stride=4, padding=2))
    h = nn.max_pool(h, 3, 2)
    h = nn.max_pool(nn.relu(conv(p, h, wide[1], 5, "conv2")), 3, 2)
    for k in (2, 3, 4):
        h = nn.relu(conv(p, h, wide[k], 3, f"conv{k + 1}"))
    h = flatten(nn.max_pool(h, 3, 2))
    for k in (1, 2):
        h = nn.relu(dense(p, p.dropout(h, 0.5), wide[5], f"dense{k}"))
    return dense(p, h, classes, "logits", gain=1.0)


def build(
    size: int = 224, channels: int = 3, classes: int = 1000, width: float = 1.0, seed: int = 0
) -> Model:
    """AlexNet for images (n, channels, size, size); `width` multiplies the sizes of its layers."""
    x = graphc.placeholder(("batch", channels, size, size), name="images")
    return classifier("alexnet", Parameters(seed), x, lambda p, x: network(p, x, classes, width))


def main(arguments: list[str] | None = None) -> int:
    options = parser(__doc__, steps=400).parse_args(arguments)
    model = build(64, 1, 10, 1 / 8, options.seed)
    accuracy = train_on_digits(model, 64, options, rate=1e-3)
    return 0 if accuracy > 0.9 or options.steps < 300 else 1


if __name__ == "__main__":
    sys.exit(main())
