"""A group of graphc nodes that is one operator of ONNX (floor 8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.ir.node import Tensor
from graphc.onnx.exporting.table import Making
from graphc.onnx.exporting.writer import Value


@dataclass(frozen=True)
class Match:
    """A group of nodes that ends in one node: what it reads, and how it is written."""

    inputs: tuple[Tensor, ...]
    write: Callable[[Making, list[Value]], Value]


@dataclass(frozen=True)
class Asked:
    """What a search for a group may use. alone: whether nothing but one node needs a node, which
    has no name of its own either. opset: of the model.
    """

    alone: Callable[[Tensor], bool]
    opset: int


def fits_attribute(number: float) -> bool:
    """Whether a number is the same as an attribute of ONNX, which is a float32."""
    return float(np.float32(number)) == number


def operator(x: Tensor, op_type: str, attrs: dict[str, Any] | None = None) -> Match:
    """The group that is one operator on x, computed as 16-bit floats are: in float32."""

    def write(m: Making, xs: list[Value]) -> Value:
        return m.writer.apply(op_type, xs[0], compute=x.dtype.compute, **(attrs or {}))

    return Match((x,), write)
