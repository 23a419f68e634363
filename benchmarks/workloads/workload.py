"""What a workload is: one computation, written once over a namespace of functions.

Every contestant (graphc, each peer, the float64 reference) has a namespace that holds these
functions under one name each, in the form that its own users would call: `attention` is torch's
`scaled_dot_product_attention` in one and a formula in another. A workload's `compute` is then the
same text for all of them, and nobody's version is written with less care.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Compute = Callable[[Any, Sequence[Any], Mapping[str, Any]], Any]


class Unsupported(Exception):
    """A contestant cannot run a workload; the text is the reason that the table gives."""


@dataclass(frozen=True)
class Data:
    """The arrays of a workload: what is fed at each call, and the weights by name.

    further: other inputs, on which errors are taken as well: those of a result of two numbers, or
    of the scores of one image, would be chance. Not for training steps.
    """

    inputs: tuple[Array, ...]
    weights: Mapping[str, Array] = field(default_factory=dict)
    further: tuple[tuple[Array, ...], ...] = ()


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    data: makes the arrays, the same at each call. compute: namespace, inputs, weights -> a tensor
    or a list of tensors (inference), or the loss that Adam lowers (training). flops: additions and
    multiplications that must be done. moved: bytes that must be read or written once, None where
    that is not what limits. numpy_io: NumPy arrays go in and come out at each call; else each
    library has its own tensors ready. aim: seconds, from the machine the aims were set on. variable
    weights: they may change between calls (training always), so nothing may be packed for good.
    """

    name: str
    family: str
    data: Callable[[], Data]
    compute: Compute
    flops: float = 0.0
    moved: float = 0.0
    training: bool = False
    numpy_io: bool = False
    aim: float | None = None
    model: Callable[[], bytes] | None = None


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> Array:
    """Float32 normal numbers, the same for the same arguments."""
    values: Array = np.random.default_rng((seed, *shape)).standard_normal(shape, np.float32)
    return values * np.float32(scale)


def weight(rows: int, *shape: int, seed: int = 0) -> Array:
    """A matrix (rows, columns), or a kernel, whose products keep the size of what they multiply."""
    return normal(rows, *shape, scale=1.0 / math.sqrt(rows), seed=seed)


def kernel(outputs: int, inputs: int, height: int, width: int, seed: int = 0) -> Array:
    """The kernel (outputs, inputs, height, width) of a convolution, scaled as `weight` is."""
    scale = 1.0 / math.sqrt(inputs * height * width)
    return normal(outputs, inputs, height, width, scale=scale, seed=seed)
