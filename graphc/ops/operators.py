"""Python's operators (floor 2): fills `node.OPERATORS`, through which `Tensor` reaches the ops.

The keys are the names of the functions; "eval" is filled by the runtime.
"""

from __future__ import annotations

from graphc.ir.node import OPERATORS
from graphc.ops import elementwise
from graphc.ops.promotion import astype

OPERATORS.update(
    add=elementwise.add,
    subtract=elementwise.subtract,
    multiply=elementwise.multiply,
    divide=elementwise.divide,
    floor_divide=elementwise.floor_divide,
    remainder=elementwise.remainder,
    negative=elementwise.negative,
    positive=elementwise.positive,
    astype=astype,
)
