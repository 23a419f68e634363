"""LeNet-5 (LeCun et al. 1998), trained on handwritten digits.

python -m examples.models.lenet
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
    """(n, c, h, w) -> logits (n, classes)"""
    wide = [max(int(width * n), 1) for n in (6, 16, 120, 84)]
    h = nn.avg_pool(graphc.tanh(conv(p, x, wide[0], 5, "conv1", padding=0)), 2)
    h = nn.avg_pool(graphc.tanh(conv(p, h, wide[1], 5, "conv2", padding=0)), 2)
    h = graphc.tanh(dense(p, flatten(h), wide[2], "dense1", gain=1.0))
    h = graphc.tanh(dense(p, h, wide[3], "dense2", gain=1.0))
    return dense(p, h, classes, "logits", gain=1.0)


def build(
    size: int = 32, channels: int = 1, classes: int = 10, width: float = 1.0, seed: int = 0
) -> Model:
    """LeNet-5 for images (n, channels, size, size); `width` multiplies the sizes of its layers."""
    x = graphc.placeholder(("batch", channels, size, size), name="images")
    return classifier("lenet", Parameters(seed), x, lambda p, x: network(p, x, classes, width))


def main(arguments: list[str] | None = None) -> int:
    options = parser(__doc__, steps=600).parse_args(arguments)
    accuracy = train_on_digits(build(seed=options.seed), 32, options)
    return 0 if accuracy > 0.95 or options.steps < 300 else 1


if __name__ == "__main__":
    sys.exit(main())
