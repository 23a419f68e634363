"""A detector with a head as YOLO's (Redmon et al. 2015, 2018): digits on photographs, boxed.

The picture is cut into cells. Each cell says whether the middle of a digit is in it, where in the
cell, how large the box is, and which digit. Boxes that overlap a better one are dropped after.

    python -m examples.models.yolo
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

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

Boxes = list[tuple[int, int, int, int, int]]


def network(p: Parameters, x: Tensor, classes: int, width: int, levels: int) -> Tensor:
    """(n, c, h, w) -> (n, h / 2**levels, w / 2**levels, 5 + classes), what each cell says"""
    for k in range(levels):
        x = conv_norm(p, x, width << k, 3, f"conv{k}a")
        x = nn.max_pool(conv_norm(p, x, width << k, 3, f"conv{k}b"), 2)
    x = conv_norm(p, x, width << levels, 3, "wide1")
    x = conv_norm(p, x, width << levels, 3, "wide2")
    return graphc.permute_dims(conv(p, x, 5 + classes, 1, "head"), (0, 2, 3, 1))


def decoded(said: Tensor, cell: int, typical: float) -> tuple[Tensor, Tensor, Tensor]:
    """What cells say, (n, h, w, 5 + classes), as boxes (n, h * w, 4) of top, left, bottom, right
    in pixels, the chance that there is a digit (n, h * w), and of each class (n, h * w, classes).
    """
    n, rows, columns, depth = said.shape
    place = nn.sigmoid(said[..., 1:3])
    middle_y = (place[..., 0] + graphc.iota((rows, 1), 0, dtype="float32")) * float(cell)
    middle_x = (place[..., 1] + graphc.iota((1, columns), 1, dtype="float32")) * float(cell)
    half = 0.5 * typical * graphc.exp(graphc.clip(said[..., 3:5], -3.0, 3.0))
    edges = [
        middle_y - half[..., 0], middle_x - half[..., 1],
        middle_y + half[..., 0], middle_x + half[..., 1],
    ]  # fmt: skip
    cells = int(rows) * int(columns)
    boxes = graphc.reshape(graphc.stack(edges, axis=-1), (n, cells, 4))
    chance = graphc.reshape(nn.sigmoid(said[..., 0]), (n, cells))
    kinds = graphc.reshape(nn.softmax(said[..., 5:]), (n, cells, int(depth) - 5))
    return boxes, chance, kinds


def build(
    size: int = 64,
    channels: int = 1,
    classes: int = 10,
    width: int = 16,
    levels: int = 3,
    typical: float = 16.0,
    seed: int = 0,
) -> Model:
    """The detector for pictures (n, channels, size, size), with cells of 2**levels pixels; typical:
    the side of a usual box in pixels.
    """
    p = Parameters(seed)
    cells, cell = size >> levels, 1 << levels
    x = graphc.placeholder(("batch", channels, size, size), name="pictures")
    # What the cells should say: there, y, x in the cell, log of height, width, and the class.
    wanted = graphc.placeholder(("batch", cells, cells, 5), name="wanted")
    labels = graphc.placeholder(("batch", cells, cells), "int64", name="labels")
    with p.training():
        said = network(p, x, classes, width, levels)
    there = wanted[..., 0]
    count = graphc.sum(there) + 1.0
    presence = graphc.sum(nn.binary_cross_entropy_with_logits(said[..., 0], there))
    place = graphc.sum((nn.sigmoid(said[..., 1:3]) - wanted[..., 1:3]) ** 2, axis=-1)
    extent = graphc.sum((said[..., 3:5] - wanted[..., 3:5]) ** 2, axis=-1)
    kind = nn.softmax_cross_entropy(said[..., 5:], labels)
    loss = (presence + graphc.sum(there * (5.0 * (place + extent) + kind))) / count
    boxes, chance, kinds = decoded(network(p, x, classes, width, levels), cell, typical)
    outputs = {"boxes": boxes, "chance": chance, "classes": kinds}
    return Model("yolo", p, (x,), outputs, (x, wanted, labels), loss)


def targets(boxes: list[Boxes], cells: int, cell: int, typical: float) -> tuple[Array, Array]:
    """Boxes as what the cells should say; see `build`."""
    wanted = np.zeros((len(boxes), cells, cells, 5), np.float32)
    labels = np.zeros((len(boxes), cells, cells), np.int64)
    for k, found in enumerate(boxes):
        for label, top, left, bottom, right in found:
            y, x = (top + bottom) / 2 / cell, (left + right) / 2 / cell
            row, column = int(y), int(x)
            height, width = bottom - top, right - left
            extent = np.log(height / typical), np.log(width / typical)
            wanted[k, row, column] = (1, y - row, x - column, *extent)
            labels[k, row, column] = label
    return wanted, labels


def share(a: Array, b: Array) -> float:
    """Intersection over union of two boxes."""
    height = min(a[2], b[2]) - max(a[0], b[0])
    width = min(a[3], b[3]) - max(a[1], b[1])
    if height <= 0 or width <= 0:
        return 0.0
    whole = sum(float((c[2] - c[0]) * (c[3] - c[1])) for c in (a, b))
    return float(height * width) / (whole - float(height * width))


def kept(found: dict[str, Any], k: int, least: float = 0.5) -> list[tuple[int, Array]]:
    """The class and box of each detection in picture k, the most certain first, without those that
    overlap a better one by half.
    """
    chosen: list[tuple[int, Array]] = []
    for cell in np.argsort(-found["chance"][k]):
        box = found["boxes"][k, cell]
        if found["chance"][k, cell] < least:
            break
        if all(share(box, other) < 0.5 for _, other in chosen):
            chosen.append((int(np.argmax(found["classes"][k, cell])), box))
    return chosen


def quality(found: dict[str, Any], boxes: list[Boxes]) -> tuple[float, float]:
    """Precision and recall: a detection is right where it overlaps a digit of its class by half."""
    right = said = real = 0
    for k, truth in enumerate(boxes):
        left = list(truth)
        detections = kept(found, k)
        said, real = said + len(detections), real + len(truth)
        for label, box in detections:
            hits = [t for t in left if t[0] == label and share(box, np.array(t[1:])) >= 0.5]
            if hits:
                right += 1
                left.remove(hits[0])
    return right / max(said, 1), right / max(real, 1)


def plot(pictures: Array, found: dict[str, Any], path: object) -> None:
    made, grid = figure(8, 5.6, nrows=2, ncols=3)
    for k, axes in enumerate(grid.flat):
        axes.imshow(pictures[k, 0], cmap="gray", vmin=0, vmax=1)
        axes.axis("off")
        for label, (top, left, bottom, right) in kept(found, k):
            xs, ys = (left, right, right, left, left), (top, top, bottom, bottom, top)
            axes.plot(xs, ys, color="tab:orange")
            axes.text(left, top - 1, str(label), color="tab:orange", fontsize=9)
    made.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> int:
    options = parser(__doc__, steps=500, batch=32).parse_args(arguments)
    model = build(width=12, seed=options.seed)
    pictures, _, boxes = data.scenes(64, 3000, 3, options.seed)
    new, _, real = data.scenes(64, 200, 3, options.seed + 1)
    arrays = (pictures, *targets(boxes, 8, 8, 16.0))
    with graphc.Session() as session:
        trainer, losses = train(session, model, arrays, options, 4e-3)
        found = session.run(model.outputs, {"pictures": new})
        folder = finish(trainer, losses, options.output)
    plot(new, found, folder / "boxes.png")
    precision, recall = quality(found, real)
    print(f"new pictures, precision: {100 * precision:.1f}%, recall: {100 * recall:.1f}%")
    return 0 if min(precision, recall) > 0.6 or options.steps < 400 else 1


if __name__ == "__main__":
    sys.exit(main())
