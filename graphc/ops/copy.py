"""Copies (floor 2): an internal op that gives a value memory of its own.

The compiler inserts it where two outputs of a graph, or an output and an input, would share memory.
`slot` keeps copies apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dtypes import ALL, Array, DType
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample
from graphc.ops.families import Elementwise


def _type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,) = inputs
    assert isinstance(x, Tensor)
    return x.type


def _reference(x: Array, slot: int) -> Array:
    return np.array(x)


def _gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    return [g]


def _scalar(s: Any, x: Any, slot: int) -> Any:
    return x


def _samples(dtype: DType) -> list[Sample]:
    return [Sample((np.arange(6).reshape(2, 3).astype(dtype.numpy),), {"slot": 0})]


COPY = REGISTRY.add(
    OpDef(
        "copy",
        ("slot",),
        _type,
        _reference,
        _gradient,
        Elementwise(_scalar),
        doc="The value of x in memory of its own.",
        traits=frozenset({"internal"}),
        samples=_samples,
        dtypes=ALL,
    )
)
