"""ResNet (He et al. 2015) of 18 to 152 layers: narrowed and trained on digits, or at full size.

python -m examples.models.resnet                  # trains ResNet-50, an eighth as wide
python -m examples.models.resnet --photographs    # ResNet-50 with drawn weights on two photos
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import graphc
from examples.models import data
from examples.models.digits import train_on_digits
from examples.models.parts import Model, Parameters, Tensor, classifier, conv_norm, dense, parser
from graphc import nn

# Blocks per stage, and whether they are bottlenecks of three convolutions.
STAGES = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


def block(
    p: Parameters, x: Tensor, channels: int, name: str, stride: int, bottleneck: bool
) -> Tensor:
    """x plus what its convolutions make of it: little at first, so that depth does not let it grow
    (Goyal et al. 2017 start at nothing).
    """
    with p.scope(name):
        if bottleneck:
            out = 4 * channels
            h = conv_norm(p, x, channels, 1, "a")
            h = conv_norm(p, h, channels, 3, "b", stride=stride)
            h = conv_norm(p, h, out, 1, "c", relu=False, scale=0.2)
        else:
            out = channels
            h = conv_norm(p, x, channels, 3, "a", stride=stride)
            h = conv_norm(p, h, out, 3, "b", relu=False, scale=0.2)
        if stride != 1 or int(x.shape[1]) != out:
            x = conv_norm(p, x, out, 1, "shortcut", stride=stride, relu=False)
    return nn.relu(h + x)


def network(p: Parameters, x: Tensor, classes: int, depth: int, width: int) -> Tensor:
    """(n, c, h, w) -> logits (n, classes)"""
    counts, bottleneck = STAGES[depth]
    x = nn.max_pool(conv_norm(p, x, width, 7, "stem", stride=2), 3, 2, 1)
    for stage, count in enumerate(counts):
        for k in range(count):
            stride = 2 if stage and not k else 1
            name = f"stage{stage + 1}/block{k + 1}"
            x = block(p, x, width << stage, name, stride, bottleneck)
    return dense(p, nn.global_avg_pool(x), classes, "logits", gain=1.0)


def build(
    size: int = 224,
    channels: int = 3,
    classes: int = 1000,
    depth: int = 50,
    width: int = 64,
    seed: int = 0,
) -> Model:
    """ResNet for images (n, channels, size, size); width: channels of the first stage."""
    x = graphc.placeholder(("batch", channels, size, size), name="images")
    return classifier(
        f"resnet{depth}",
        Parameters(seed),
        x,
        lambda p, x: network(p, x, classes, depth, width),
    )


def run_on_photographs(seed: int, folder: Path | None) -> None:
    """The full ResNet-50 with weights drawn from a seed: saves it, times it, shows its guesses."""
    model = build(seed=seed)
    folder = folder or Path("out/models/resnet50")
    folder.mkdir(parents=True, exist_ok=True)
    model.graph.save(folder / "resnet50.graphc")
    print(f"parameters: {model.parameters.count:,}; wrote {folder / 'resnet50.graphc'}")
    images = data.photographs(224)
    with graphc.Session() as session:
        begin = time.perf_counter()
        function = session.function(model.inputs, model.outputs)
        function(images)
        middle = time.perf_counter()
        found = function(images)["probabilities"]
        end = time.perf_counter()
    print(f"compiled and run in {middle - begin:.1f} s; then {end - middle:.3f} s for two images")
    for name, row in zip(("temple", "flower"), found, strict=True):
        best = ", ".join(f"class {k}: {row[k]:.4f}" for k in np.argsort(-row)[:3])
        print(f"{name}: {best} (the weights are drawn, not trained)")


def main(arguments: list[str] | None = None) -> int:
    given = parser(__doc__, steps=300)
    given.add_argument("--depth", type=int, choices=sorted(STAGES), default=50)
    given.add_argument("--photographs", action="store_true", help="run the full network instead")
    options = given.parse_args(arguments)
    if options.photographs:
        run_on_photographs(options.seed, options.output)
        return 0
    model = build(32, 1, 10, options.depth, 8, options.seed)
    accuracy = train_on_digits(model, 32, options)
    return 0 if accuracy > 0.95 or options.steps < 300 else 1


if __name__ == "__main__":
    sys.exit(main())
