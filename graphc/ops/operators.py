"""Python's operators (floor 2): fills `node.OPERATORS` and `node.HOOKS`, through which
`Tensor` reaches the ops.

The keys are the names of the functions; "eval" is filled by the runtime.
"""

from __future__ import annotations

from graphc.ir.node import HOOKS, OPERATORS
from graphc.ops import (
    contraction,
    elementwise,
    elementwise_math,
    indexing,
    logical,
    reduction,
    rounding,
    view,
)
from graphc.ops.numpy_protocol import array_function, array_namespace, array_ufunc
from graphc.ops.promotion import as_tensor, astype
from graphc.ops.reshape import reshape

OPERATORS.update(
    add=elementwise.add,
    subtract=elementwise.subtract,
    multiply=elementwise.multiply,
    divide=elementwise.divide,
    floor_divide=elementwise.floor_divide,
    remainder=elementwise.remainder,
    pow=elementwise_math.pow,
    negative=elementwise.negative,
    positive=elementwise.positive,
    abs=rounding.abs,
    bitwise_and=logical.bitwise_and,
    bitwise_or=logical.bitwise_or,
    bitwise_xor=logical.bitwise_xor,
    bitwise_invert=logical.bitwise_invert,
    bitwise_left_shift=logical.bitwise_left_shift,
    bitwise_right_shift=logical.bitwise_right_shift,
    less=logical.less,
    less_equal=logical.less_equal,
    greater=logical.greater,
    greater_equal=logical.greater_equal,
    equal=logical.equal,
    not_equal=logical.not_equal,
    as_tensor=as_tensor,
    astype=astype,
    reshape=reshape,
    T=view.matrix_T,
    mT=view.matrix_transpose,
    getitem=indexing.getitem,
    matmul=contraction.matmul,
    sum=reduction.sum,
    mean=reduction.mean,
)
HOOKS.update(
    at=indexing.IndexUpdater,
    array_ufunc=array_ufunc,
    array_function=array_function,
    array_namespace=array_namespace,
)
