"""Inception v1, GoogLeNet (Szegedy et al. 2014), with batch normalization; narrowed, on digits.

python -m examples.models.inception
"""

from __future__ import annotations

import sys

import graphc
from examples.models.digits import train_on_digits
from examples.models.parts import Model, Parameters, Tensor, classifier, conv_norm, dense, parser
from graphc import nn

# Channels of the branches: 1 × 1; 3 × 3 after its reduction; 5 × 5 after its; behind the pool.
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def module(p: Parameters, x: Tensor, channels: list[int], name: str) -> Tensor:
    """Four branches side by side, joined along the channels."""
    one, reduce3, three, reduce5, five, pooled = channels
    with p.scope(name):
        branches = [
            conv_norm(p, x, one, 1, "one"),
            conv_norm(p, conv_norm(p, x, reduce3, 1, "reduce3"), three, 3, "three"),
            conv_norm(p, conv_norm(p, x, reduce5, 1, "reduce5"), five, 5, "five"),
            conv_norm(p, nn.max_pool(x, 3, 1, 1), pooled, 1, "pooled"),
        ]
    return graphc.concat(branches, axis=1)


def network(p: Parameters, x: Tensor, classes: int, width: float) -> Tensor:
    """(n, c, h, w) -> logits (n, classes)"""

    def wide(n: int) -> int:
        return max(int(width * n), 1)

    x = nn.max_pool(conv_norm(p, x, wide(64), 7, "stem1", stride=2), 3, 2, 1)
    x = conv_norm(p, conv_norm(p, x, wide(64), 1, "stem2"), wide(192), 3, "stem3")
    stage = "2"
    for name, channels in MODULES.items():
        if name[0] != stage:
            x, stage = nn.max_pool(x, 3, 2, 1), name[0]
        x = module(p, x, [wide(n) for n in channels], f"module{name}")
    x = p.dropout(nn.global_avg_pool(x), 0.4)
    return dense(p, x, classes, "logits", gain=1.0)


def build(
    size: int = 224, channels: int = 3, classes: int = 1000, width: float = 1.0, seed: int = 0
) -> Model:
    """Inception v1 for images (n, channels, size, size); `width` multiplies its channels."""
    x = graphc.placeholder(("batch", channels, size, size), name="images")
    return classifier("inception", Parameters(seed), x, lambda p, x: network(p, x, classes, width))


def main(arguments: list[str] | None = None) -> int:
    options = parser(__doc__, steps=300).parse_args(arguments)
    model = build(32, 1, 10, 1 / 8, options.seed)
    accuracy = train_on_digits(model, 32, options, rate=4e-3)
    return 0 if accuracy > 0.9 or options.steps < 300 else 1


if __name__ == "__main__":
    sys.exit(main())
