"""graphc: static computation graphs with an optimizing compiler.

Declare a graph in NumPy's words, differentiate it, and run it as one native function:

    import graphc

    x = graphc.placeholder(("batch", 64), name="x")
    w = graphc.variable(np.zeros((64, 10), np.float32), name="w")
    loss = graphc.mean((x @ w) ** 2)
    with graphc.Session() as session:
        step = session.function([x], loss, updates={w: w - 0.1 * graphc.grad(loss, w)})

This module (floor 8) holds public names only. Functions follow the Array API standard (2024.12), then NumPy.
"""

from __future__ import annotations

from pathlib import Path as _Path

from graphc.autodiff import (
    checkpoint,
    custom_gradient,
    grad,
    hessian,
    jacobian,
    jvp,
    stop_gradient,
    vjp,
)
from graphc.base.dims import Dim
from graphc.base.dtypes import DType, bfloat16, float16, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64
from graphc.base.dtypes import bool_ as bool
from graphc.base.errors import (
    CompileError,
    DeviceError,
    DTypeError,
    ExecutionError,
    FormatError,
    GraphcError,
    GraphError,
    NumericsError,
    ShapeError,
    UnsupportedError,
    VerifyError,
)
from graphc import compiler as _compiler
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.ir.parse import parse
from graphc.ir.provenance import name_scope
from graphc.ops import operators as _operators
from graphc.ir import evaluate as _evaluate, text as _text
from graphc.version import __version__


_here = _Path(__file__).resolve().parent
if not (_here / "kernels").is_dir():  # a checkout without symlink support
    __path__.append(str(_here.parent))

e = 2.718281828459045
inf = float("inf")
nan = float("nan")
newaxis = None
pi = 3.141592653589793

__all__ = [
    "CompileError",
    "DType",
    "DTypeError",
    "DeviceError",
    "Dim",
    "ExecutionError",
    "FormatError",
    "Graph",
    "GraphError",
    "GraphcError",
    "NumericsError",
    "ShapeError",
    "Tensor",
    "UnsupportedError",
    "VerifyError",
    "__version__",
    "bfloat16",
    "bool",
    "checkpoint",
    "custom_gradient",
    "e",
    "float16",
    "float32",
    "float64",
    "grad",
    "hessian",
    "inf",
    "int16",
    "int32",
    "int64",
    "int8",
    "jacobian",
    "jvp",
    "name_scope",
    "nan",
    "newaxis",
    "parse",
    "pi",
    "stop_gradient",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "vjp",
]
