"""VGG (Simonyan and Zisserman 2014) of 11, 13, 16 or 19 layers, narrowed and trained on digits.

python -m examples.models.vgg --depth 11
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
    conv_norm,
    dense,
    flatten,
    parser,
)
from graphc import nn

# Convolutions per stage; each stage ends in a pool that halves the image.
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)


def network(p: Parameters, x: Tensor, classes: int, width: float, depth: int, norm: bool) -> Tensor:
    """(n, c, h, w) -> logits (n, classes)"""
    for stage, count in enumerate(STAGES[depth]):
        channels = max(int(width * CHANNELS[stage]), 1)
        for k in range(count):
            name = f"conv{stage + 1}_{k + 1}"
            if norm:
                x = conv_norm(p, x, channels, 3, name)
            else:
                x = nn.relu(conv(p, x, channels, 3, name))
        x = nn.max_pool(x, 2)
    x = flatten(x)
    for k in (1, 2):
        x = p.dropout(nn.relu(dense(p, x, max(int(width * 4096), 1), f"dense{k}")), 0.5)
    return dense(p, x, classes, "logits", gain=1.0)


def build(
    size: int = 224,
    channels: int = 3,
    classes: int = 1000,
    width: float = 1.0,
    depth: int = 16,
    norm: bool = False,
    seed: int = 0,
) -> Model:
    """VGG for images (n, channels, size, size); norm: with batch normalization. `width` multiplies
    the sizes of its layers.
    """
    x = graphc.placeholder(("batch", channels, size, size), name="images")
    return classifier(
        f"vgg{depth}",
        Parameters(seed),
        x,
        lambda p, x: network(p, x, classes, width, depth, norm),
    )


def main(arguments: list[str] | None = None) -> int:
    given = parser(__doc__, steps=300)
    given.add_argument("--depth", type=int, choices=sorted(STAGES), default=11)
    options = given.parse_args(arguments)
    model = build(32, 1, 10, 1 / 8, options.depth, norm=True, seed=options.seed)
    accuracy = train_on_digits(model, 32, options)
    return 0 if accuracy > 0.95 or options.steps < 300 else 1


if __name__ == "__main__":
    sys.exit(main())
