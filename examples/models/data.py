"""Small real data that is on every machine with Python and scikit-learn; nothing is downloaded.

Images: the 1,797 handwritten digits and the two photographs of scikit-learn. Text: the reference
manual of Python, which the standard library holds, the sources of the standard library, and dates.
"""

from __future__ import annotations

import datetime
import importlib
import string
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits, load_sample_images

Array = np.ndarray[Any, Any]

# -- images ---------------------------------------------------------------------------------------


def digit_images(size: int, seed: int = 0) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Training and held-back (one in five) digits, shuffled: images (n, 1, size, size) in [0, 1],
    interpolated from 8 × 8 pixels, and labels (n,).
    """
    digits = load_digits()
    images = enlarged((digits.images / 16).astype(np.float32), size)[:, None]
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(images))
    held, kept = order[: len(order) // 5], order[len(order) // 5 :]
    return (images[kept], labels[kept]), (images[held], labels[held])


def enlarged(images: Array, size: int) -> Array:
    """(n, h, w) -> (n, size, size) by linear interpolation between the centres of pixels."""
    for axis in (1, 2):
        count = images.shape[axis]
        place = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
        below = np.minimum(place.astype(np.int64), count - 2)
        share = (place - below).astype(np.float32)
        shape = [1, 1, 1]
        shape[axis] = size
        share = share.reshape(shape)
        images = images.take(below, axis) * (1 - share) + images.take(below + 1, axis) * share
    return images


def photographs(size: int) -> Array:
    """The photographs (a temple, a flower), cut to squares: (2, 3, size, size) in [0, 1]."""
    found = []
    for image in load_sample_images().images:
        side = min(image.shape[:2])
        top, left = ((n - side) // 2 for n in image.shape[:2])
        square = image[top : top + side, left : left + side].astype(np.float32) / 255
        found.append(enlarged(np.moveaxis(square, -1, 0), size))
    return np.stack(found)


def grey_textures(size: int, count: int, rng: np.random.Generator) -> Array:
    """Random pieces of the photographs as grey pictures: (count, size, size) in [0, 1]."""
    greys = [i.mean(axis=-1).astype(np.float32) / 255 for i in load_sample_images().images]
    found = np.empty((count, size, size), np.float32)
    for k in range(count):
        grey = greys[int(rng.integers(len(greys)))]
        top, left = (int(rng.integers(n - size)) for n in grey.shape)
        found[k] = grey[top : top + size, left : left + size]
    return found


def scenes(
    size: int, count: int, most: int, seed: int
) -> tuple[Array, Array, list[list[tuple[int, int, int, int, int]]]]:
    """Pictures of digits, written in white on pieces of dark photographs.

    Returns pictures (count, 1, size, size), masks of the same shape (1 where ink is), and per
    picture a list of (label, top, left, bottom, right), up to `most`, which do not overlap.
    """
    rng = np.random.default_rng(seed)
    digits = load_digits()
    pictures = 0.5 * grey_textures(size, count, rng)
    masks = np.zeros_like(pictures)
    boxes: list[list[tuple[int, int, int, int, int]]] = []
    for k in range(count):
        mine: list[tuple[int, int, int, int, int]] = []
        for _ in range(int(rng.integers(1, most + 1))):
            which = int(rng.integers(len(digits.images)))
            side = int(rng.integers(size // 5, size // 3 + 1))
            top, left = (int(v) for v in rng.integers(0, size - side + 1, 2))
            box = (int(digits.target[which]), top, left, top + side, left + side)
            if any(_overlap(box, other) for other in mine):
                continue
            ink = enlarged((digits.images[which : which + 1] / 16).astype(np.float32), side)[0]
            place = np.s_[k, top : top + side, left : left + side]
            pictures[place] = np.maximum(pictures[place], ink)
            masks[place] = np.maximum(masks[place], ink > 0.4)
            mine.append(box)
        boxes.append(mine)
    return pictures[:, None], masks[:, None], boxes


def _overlap(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[1] < b[3] and b[1] < a[3] and a[2] < b[4] and b[2] < a[4]


# -- text -----------------------------------------------------------------------------------------

CHARACTERS = "\0" + string.printable  # 0 fills up


def as_ids(texts: list[str], length: int) -> tuple[Array, Array]:
    """Texts as ids of `CHARACTERS` (count, length), 0 behind the end, and lengths (count,)."""
    known = {c: k for k, c in enumerate(CHARACTERS)}
    ids = np.zeros((len(texts), length), np.int64)
    for row, text in zip(ids, texts, strict=True):
        found = [known.get(c, known[" "]) for c in text[:length]]
        row[: len(found)] = found
    return ids, np.array([max(min(len(t), length), 1) for t in texts], np.int64)


def manual() -> str:
    """The topics of Python's reference manual as the standard library has them: 0.7 MB of prose."""
    topics = importlib.import_module("pydoc_data.topics").topics
    return "\n\n".join(topics[name] for name in sorted(topics))


PACKAGES = ("asyncio", "email", "multiprocessing", "unittest")


def source_lines(
    length: int, seed: int = 0
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    """Pairs of lines of code of four packages of the standard library: which package is it?

    Training and held-back (one in five) data: ids (n, length), lengths (n,), labels (n,), as many
    of each package. Lines that occur in several packages are left out, and so are those that name
    their package.
    """
    by_package = [_lines_of(name) for name in PACKAGES]
    unique = [
        sorted(lines - set().union(*(o for o in by_package if o is not lines)))
        for lines in by_package
    ]
    rng = np.random.default_rng(seed)
    count = min(map(len, unique)) // 2
    texts, labels = [], []
    for label, lines in enumerate(unique):
        order = rng.permutation(len(lines))[: 2 * count]
        texts += [f"{lines[a]}\n{lines[b]}" for a, b in order.reshape(-1, 2)]
        labels += [label] * count
    ids, lengths = as_ids(texts, length)
    order = rng.permutation(len(texts))
    cut = len(order) // 5
    arrays = (ids, lengths, np.array(labels, np.int64))
    kept, held = ([a[part] for a in arrays] for part in (order[cut:], order[:cut]))
    return (kept[0], kept[1], kept[2]), (held[0], held[1], held[2])


def _lines_of(package: str) -> set[str]:
    """Lines of 24 characters and more of the modules of a package, which are read, not imported."""
    found: set[str] = set()
    for folder in importlib.import_module(package).__path__:
        for path in sorted(Path(folder).glob("*.py")):
            lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
            found |= {line for line in lines if len(line) >= 24 and package not in line.lower()}
    return found


FORMATS = (
    "%A, %d %B %Y", "%d %B %Y", "%B %d, %Y", "%d.%m.%Y", "%a %d %b %Y", "%d %b %y", "%Y %B %d",
)  # fmt: skip


def dates(count: int, source: int, target: int, seed: int) -> tuple[Array, Array, Array]:
    """Dates as people write them, in seven formats: ids (count, source), their lengths, and the
    same dates as 2026-11-21: ids (count, target).
    """
    rng = np.random.default_rng(seed)
    first = datetime.date(1970, 1, 1).toordinal()
    days = rng.integers(first, first + 80 * 365, count)
    written = [datetime.date.fromordinal(int(d)) for d in days]
    texts = [d.strftime(FORMATS[int(rng.integers(len(FORMATS)))]).lower() for d in written]
    ids, lengths = as_ids(texts, source)
    return ids, lengths, as_ids([d.isoformat() for d in written], target)[0]
