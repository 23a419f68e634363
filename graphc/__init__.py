"""graphc: static computation graphs with an optimizing compiler.

Declare a graph in NumPy's words, differentiate it, and run it as one native function:

    import graphc

    x = graphc.placeholder(("batch", 64), name="x")
    w = graphc.variable(np.zeros((64, 10), np.float32), name="w")
    loss = graphc.mean((x @ w) ** 2)
    with graphc.Session() as session:
        step = session.function([x], loss, updates={w: w - 0.1 * graphc.grad(loss, w)})

This module (floor 8) holds public names only. Functions follow the Array API standard (2024.12),
then NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from graphc import checkout as _checkout
from graphc import late as _late
from graphc import linalg, nn, onnx, optimizers, random, testing
from graphc import program_lookup as _program_lookup
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
from graphc.base.dtypes import (
    DType,
    bfloat16,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
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
from graphc.base.limits import Limits
from graphc.control_flow import cond, function, scan, while_loop
from graphc.ir import evaluate as _evaluate
from graphc.ir import text as _text
from graphc.ir.graph import Graph
from graphc.ir.node import HOOKS as _HOOKS
from graphc.ir.node import Tensor
from graphc.ir.parse import parse
from graphc.ir.provenance import name_scope
from graphc.ops import attribute_rules as _attribute_rules
from graphc.ops import namespace_info as _namespace_info
from graphc.ops import operators as _operators
from graphc.ops import words as _words
from graphc.ops.bitcast import (
    bitcast,
)
from graphc.ops.contraction import (
    matmul,
    outer,
    tensordot,
    trace,
    vecdot,
)
from graphc.ops.creation import (
    arange,
    asarray,
    empty,
    empty_like,
    eye,
    from_dlpack,
    full,
    full_like,
    iota,
    linspace,
    meshgrid,
    ones,
    ones_like,
    tril,
    triu,
    zeros,
    zeros_like,
)
from graphc.ops.cumulative import (
    cumulative_max,
    cumulative_min,
    cumulative_prod,
    cumulative_sum,
    diff,
)
from graphc.ops.data_types import (
    can_cast,
    finfo,
    iinfo,
    isdtype,
    result_type,
)
from graphc.ops.einsum import (
    einsum,
)
from graphc.ops.elementwise import (
    add,
    divide,
    floor_divide,
    maximum,
    minimum,
    multiply,
    negative,
    positive,
    remainder,
    subtract,
    where,
)
from graphc.ops.elementwise_math import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    cos,
    cosh,
    exp,
    exp2,
    expm1,
    hypot,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    pow,
    reciprocal,
    rsqrt,
    sigmoid,
    sin,
    sinh,
    softplus,
    sqrt,
    square,
    tan,
    tanh,
)
from graphc.ops.indexing import (
    take,
    take_along_axis,
)
from graphc.ops.inverse_erf import (
    erfcinv,
    erfinv,
)
from graphc.ops.joining import (
    concat,
    pad,
    repeat,
    stack,
    tile,
    unstack,
)
from graphc.ops.logical import (
    bitwise_and,
    bitwise_count,
    bitwise_invert,
    bitwise_left_shift,
    bitwise_or,
    bitwise_right_shift,
    bitwise_xor,
    equal,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
    signbit,
)
from graphc.ops.promotion import (
    astype,
)
from graphc.ops.reduction import (
    all,
    any,
    argmax,
    argmin,
    count_nonzero,
    max,
    mean,
    min,
    prod,
    sum,
)
from graphc.ops.reshape import (
    expand_dims,
    reshape,
    squeeze,
)
from graphc.ops.rounding import (
    abs,
    ceil,
    clip,
    conj,
    copysign,
    floor,
    imag,
    nan_to_num,
    nextafter,
    real,
    round,
    sign,
    trunc,
)
from graphc.ops.searching import (
    argwhere,
    compress,
    isin,
    nonzero,
    unique_all,
    unique_counts,
    unique_inverse,
    unique_values,
)
from graphc.ops.sizes import as_dim
from graphc.ops.softmax import (
    log_softmax,
    logsumexp,
    softmax,
)
from graphc.ops.sorting import (
    argsort,
    searchsorted,
    sort,
    top_k,
)
from graphc.ops.special import (
    digamma,
    erf,
    erfc,
    lgamma,
    polygamma,
)
from graphc.ops.state import (
    constant,
    placeholder,
    variable,
)
from graphc.ops.statistical import (
    median,
    quantile,
    std,
    var,
)
from graphc.ops.view import (
    broadcast_arrays,
    broadcast_to,
    diagonal,
    flip,
    matrix_transpose,
    moveaxis,
    permute_dims,
    roll,
)
from graphc.ops.windows import (
    fold,
    windows,
)
from graphc.other_names import missing as _missing
from graphc.other_names import missing_method as _missing_method
from graphc.runtime.function import Function
from graphc.runtime.session import Session
from graphc.version import __version__

if _TYPE_CHECKING:
    from graphc import debug
    from graphc.aot import compile
    from graphc.artifact import load
    from graphc.tuning import tune

# Imported for what they register on lower floors.
_LOADED = (_attribute_rules, _checkout, _evaluate, _operators, _program_lookup, _text, _words)

__array_api_version__ = _namespace_info.VERSION
__array_namespace_info__ = _namespace_info.array_namespace_info

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
    "Function",
    "Graph",
    "GraphError",
    "GraphcError",
    "Limits",
    "NumericsError",
    "Session",
    "ShapeError",
    "Tensor",
    "UnsupportedError",
    "VerifyError",
    "__version__",
    "abs",
    "acos",
    "acosh",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "argwhere",
    "as_dim",
    "asarray",
    "asin",
    "asinh",
    "astype",
    "atan",
    "atan2",
    "atanh",
    "bfloat16",
    "bitcast",
    "bitwise_and",
    "bitwise_count",
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "bool",
    "broadcast_arrays",
    "broadcast_to",
    "can_cast",
    "ceil",
    "checkpoint",
    "clip",
    "compile",
    "compress",
    "concat",
    "cond",
    "conj",
    "constant",
    "copysign",
    "cos",
    "cosh",
    "count_nonzero",
    "cumulative_max",
    "cumulative_min",
    "cumulative_prod",
    "cumulative_sum",
    "custom_gradient",
    "debug",
    "diagonal",
    "diff",
    "digamma",
    "divide",
    "e",
    "einsum",
    "empty",
    "empty_like",
    "equal",
    "erf",
    "erfc",
    "erfcinv",
    "erfinv",
    "exp",
    "exp2",
    "expand_dims",
    "expm1",
    "eye",
    "finfo",
    "flip",
    "float16",
    "float32",
    "float64",
    "floor",
    "floor_divide",
    "fold",
    "from_dlpack",
    "full",
    "full_like",
    "function",
    "grad",
    "greater",
    "greater_equal",
    "hessian",
    "hypot",
    "iinfo",
    "imag",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "iota",
    "isdtype",
    "isfinite",
    "isin",
    "isinf",
    "isnan",
    "jacobian",
    "jvp",
    "less",
    "less_equal",
    "lgamma",
    "linalg",
    "linspace",
    "load",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_softmax",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsumexp",
    "matmul",
    "matrix_transpose",
    "max",
    "maximum",
    "mean",
    "median",
    "meshgrid",
    "min",
    "minimum",
    "moveaxis",
    "multiply",
    "name_scope",
    "nan",
    "nan_to_num",
    "negative",
    "newaxis",
    "nextafter",
    "nn",
    "nonzero",
    "not_equal",
    "ones",
    "ones_like",
    "onnx",
    "optimizers",
    "outer",
    "pad",
    "parse",
    "permute_dims",
    "pi",
    "placeholder",
    "polygamma",
    "positive",
    "pow",
    "prod",
    "quantile",
    "random",
    "real",
    "reciprocal",
    "remainder",
    "repeat",
    "reshape",
    "result_type",
    "roll",
    "round",
    "rsqrt",
    "scan",
    "searchsorted",
    "sigmoid",
    "sign",
    "signbit",
    "sin",
    "sinh",
    "softmax",
    "softplus",
    "sort",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "stop_gradient",
    "subtract",
    "sum",
    "take",
    "take_along_axis",
    "tan",
    "tanh",
    "tensordot",
    "testing",
    "tile",
    "top_k",
    "trace",
    "tril",
    "triu",
    "trunc",
    "tune",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
    "unstack",
    "var",
    "variable",
    "vecdot",
    "vjp",
    "where",
    "while_loop",
    "windows",
    "zeros",
    "zeros_like",
]


def __dir__() -> list[str]:
    """Public names only."""
    return sorted(__all__)


if not _TYPE_CHECKING:  # a type checker knows which names exist

    def __getattr__(name: str) -> object:
        """Load what is loaded late, or say how a name of another library is written here."""
        if name in _late.NAMES:
            globals()[name] = _late.NAMES[name]()
            return globals()[name]
        raise AttributeError(_missing("graphc", name, __all__))


_HOOKS["missing"] = lambda name: _missing_method(name, __all__)
