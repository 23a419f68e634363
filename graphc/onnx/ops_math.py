"""Elementwise operators (floor 8)."""

from __future__ import annotations

from graphc.ir.node import Tensor
from graphc.onnx.context import Context, op
from graphc.ops import elementwise


@op("Add")
def add(c: Context) -> Tensor:
    """Sum of two operands."""
    return elementwise.add(c.tensor(0), c.tensor(1))
