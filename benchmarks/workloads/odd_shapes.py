"""Shapes beside the table's: odd and prime sizes, batches from 1 to 4096, widths from 1 to 5000.

Each belongs to a row of the table, of the same kind and nearest in work, whose share of the limit
it should come near.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from benchmarks.workloads import every, products, recurrent, reductions
from benchmarks.workloads.convolution import conv
from benchmarks.workloads.elementwise import black_scholes, chain
from benchmarks.workloads.workload import Workload

COUNTS = (1, 3, 17, 127, 4999, 65_537, 1_000_003)
TABLES = (
    (1, 1), (1, 5000), (4096, 1), (4096, 3), (3, 4999), (13, 1009), (127, 129), (997, 3001),
    (1000, 33), (4095, 1023), (257, 17),
)  # fmt: skip
BATCHES = (1, 2, 3, 7, 31, 127, 500, 4096)
MATRICES = ((1, 5000), (5, 7), (97, 101), (257, 255), (784, 500), (1023, 997), (5000, 1))
LAYERS = ((1, 784, 512), (17, 129, 65), (1000, 100, 10), (4096, 301, 299), (33, 1024, 4999))
BATCHED = ((3, 17, 19, 23), (7, 127, 65, 129), (64, 33, 64, 31), (500, 5, 3, 2), (12, 197, 64, 197))
SIZES = ((256, 256, 256), (509, 509, 509), (1021, 1021, 1021), (1999, 2001, 2003))
IMAGES = (
    (3, 17, 61, 3, 1, 1), (17, 31, 29, 5, 1, 1), (64, 64, 55, 3, 1, 1), (1, 1, 100, 3, 1, 1),
    (3, 64, 224, 7, 1, 2), (130, 70, 13, 3, 3, 1), (256, 512, 28, 1, 1, 2), (48, 96, 7, 3, 32, 1),
)  # fmt: skip
CELLS = ((1, 7, 13, 17), (5, 33, 100, 250), (32, 20, 128, 256), (128, 10, 31, 63))


@dataclass(frozen=True)
class Shape:
    """A workload and the row of the table that it is held against."""

    workload: Workload
    anchor: str


@functools.cache
def shapes() -> tuple[Shape, ...]:
    """All of them."""
    table = every()
    made: list[tuple[str, list[Workload]]] = [
        ("tanh", [chain(n) for n in COUNTS]),
        ("Black", [black_scholes(n) for n in COUNTS[3:]]),
    ]
    kinds: Sequence[tuple[str, Callable[..., Workload]]] = (
        ("softmax", reductions.softmax),
        ("layer norm", reductions.layer_norm),
        ("log-sum-exp", reductions.log_sum_exp),
        ("row sum", reductions.row_sum),
        ("column sum", reductions.column_sum),
    )
    made += [(prefix, [kind(*shape) for shape in TABLES]) for prefix, kind in kinds]
    matrices = [products.matmul(b, *shape) for b, shape in product(BATCHES, MATRICES)]
    squares = [products.matmul(*shape) for shape in SIZES if len(set(shape)) > 1 or shape[0] != 256]
    made += [
        ("matmul ", [*matrices, *squares]),
        ("matmul + bias", [products.dense_gelu(*s) for s in LAYERS]),
        ("matmul 64×(", [products.batched(*s) for s in BATCHED]),
        ("conv", [_image(*s) for s in IMAGES]),
        ("LSTM", [recurrent.inference(*s) for s in CELLS]),
    ]
    found = []
    for prefix, workloads in made:
        rows = [w for w in table if w.name.startswith(prefix) and not w.training]
        if prefix == "matmul ":
            rows = [w for w in rows if w.name.split()[1].isdigit()]
        found += [Shape(w, _nearest(w, rows).name) for w in workloads]
    return tuple(found)


def _image(
    channels: int, outputs: int, size: int, window: int, batch: int, stride: int
) -> Workload:
    return conv(channels, outputs, size, window, batch, stride)


def _nearest(workload: Workload, rows: Sequence[Workload]) -> Workload:
    return min(rows, key=lambda r: abs(math.log(r.flops / workload.flops)))
