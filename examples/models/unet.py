"""U-Net (Ronneberger et al. 2015): which pixels are ink? Digits written on photographs.

python -m examples.models.unet
"""

from __future__ import annotations

import sys

import graphc
from examples.models import data
from examples.models.parts import (
    Array,
    Model,
    Parameters,
    Tensor,
    conv,
    conv_norm,
    figure,
    finish,
    parser,
    train,
)
from graphc import nn


def pair(p: Parameters, x: Tensor, channels: int, name: str) -> Tensor:
    """Two convolutions of one size."""
    with p.scope(name):
        return conv_norm(p, conv_norm(p, x, channels, 3, "a"), channels, 3, "b")


def network(p: Parameters, x: Tensor, width: int, levels: int) -> Tensor:
    """(n, c, h, w), h and w multiples of 2 ** levels -> logits (n, 1, h, w)"""
    skipped = []
    for k in range(levels):
        x = pair(p, x, width << k, f"down{k}")
        skipped.append(x)
        x = nn.max_pool(x, 2)
    x = pair(p, x, width << levels, "bottom")
    for k in reversed(range(levels)):
        channels = width << k
        with p.scope(f"up{k}"):
            w = p.weight("w", (2 * channels, channels, 2, 2), 2 * channels)
            x = nn.conv_transpose(x, w, stride=2, bias=p.constant("b", (channels,)))
        x = pair(p, graphc.concat([skipped[k], x], axis=1), channels, f"join{k}")
    return conv(p, x, 1, 1, "logits")


def build(
    size: int = 64, channels: int = 1, width: int = 16, levels: int = 3, seed: int = 0
) -> Model:
    """U-Net for pictures (n, channels, size, size): the probability of ink for each pixel."""
    p = Parameters(seed)
    x = graphc.placeholder(("batch", channels, size, size), name="pictures")
    masks = graphc.placeholder(("batch", 1, size, size), name="masks")
    with p.training():
        logits = network(p, x, width, levels)
    loss = graphc.mean(nn.binary_cross_entropy_with_logits(logits, masks))
    logits = network(p, x, width, levels)
    said, real = graphc.astype(logits > 0, "float32"), masks
    overlap = graphc.sum(said * real) / graphc.sum(graphc.maximum(said, real))
    outputs = {"probabilities": nn.sigmoid(logits)}
    return Model("unet", p, (x,), outputs, (x, masks), loss, {"overlap": overlap})


def plot(pictures: Array, masks: Array, said: Array, path: object) -> None:
    made, grid = figure(8, 4.2, nrows=3, ncols=6)
    rows = ("pictures", pictures), ("ink", masks), ("found", said)
    for axes, (title, images) in zip(grid, rows, strict=True):
        for k, one in enumerate(axes):
            one.imshow(images[k, 0], cmap="gray", vmin=0, vmax=1)
            one.set(xticks=[], yticks=[], ylabel=title if not k else "")
    made.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> int:
    options = parser(__doc__, steps=250, batch=16).parse_args(arguments)
    model = build(width=8, seed=options.seed)
    pictures, masks, _ = data.scenes(64, 800, 4, options.seed)
    held = data.scenes(64, 100, 4, options.seed + 1)[:2]
    with graphc.Session() as session:
        trainer, losses = train(session, model, (pictures, masks), options, 4e-3)
        overlap = trainer.measure(*held)["overlap"]
        said = session.run(model.outputs["probabilities"], {"pictures": held[0][:6]})
        folder = finish(trainer, losses, options.output)
    plot(held[0], held[1], said, folder / "ink.png")
    print(f"new pictures, overlap of found and real ink: {100 * overlap:.1f}%")
    return 0 if overlap > 0.7 or options.steps < 200 else 1


if __name__ == "__main__":
    sys.exit(main())
