"""The exact value of an expression, by mpmath: what STABILIZING rules are held against.

Every op is computed with enough digits for any float64 operand (1e-20 beside 1, squares of 1e308
beside 1). Values that mpmath cannot give (NaN or infinite operands, poles) are NaN; where there is
no real value (the logarithm of a negative number) the answer is inf, and a computed NaN is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

from graphc.base.dtypes import Array
from graphc.ir.graph import Graph

mpmath.mp.dps = 700
mpf = mpmath.mpf
Function = Callable[..., Any]

ELEMENTWISE: dict[str, Function] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "negative": lambda a: -a,
    "square": lambda a: a * a,
    "reciprocal": lambda a: 1 / a,
    "exp": mpmath.exp,
    "log": mpmath.log,
    "log1p": lambda a: mpmath.log(1 + a),
    "expm1": lambda a: mpmath.exp(a) - 1,
    "sqrt": mpmath.sqrt,
    "pow": mpmath.power,
    "tanh": mpmath.tanh,
    "hypot": lambda a, b: mpmath.sqrt(a * a + b * b),
    "cos": mpmath.cos,
    "erf": mpmath.erf,
    "abs": abs,
    "sigmoid": lambda a: 1 / (1 + mpmath.exp(-a)),
}
LARGEST = mpf(10) ** 6  # beyond it exp would need more digits than it is worth


UNDEFINED = mpf("inf")


def _apply(function: Function, *operands: Any) -> Any:
    if any(o is None for o in operands):
        return None
    if any(o is UNDEFINED for o in operands):
        return UNDEFINED
    try:
        if (
            function in (mpmath.exp, mpmath.erf, mpmath.cos, mpmath.tanh)
            and abs(operands[0]) > LARGEST
        ):
            return None
        value = function(*operands)
    except (ZeroDivisionError, ValueError, OverflowError):
        return None
    if isinstance(value, mpmath.mpc):
        return UNDEFINED
    return value if isinstance(value, mpf) and mpmath.isfinite(value) else None


def _sum(values: Any, axes: tuple[int, ...], keepdims: bool, mean: bool) -> Array:
    moved = np.moveaxis(values, axes, range(len(axes)))
    rest = moved.shape[len(axes) :]
    flat = moved.reshape(-1, *rest)
    result = np.empty(rest, object)
    for place in np.ndindex(*rest):
        terms = [flat[(k, *place)] for k in range(flat.shape[0])]
        unknown = any(t is None or t is UNDEFINED for t in terms)
        total = None if unknown else mpmath.fsum(terms)
        result[place] = total / len(terms) if mean and total is not None and terms else total
    shape = tuple(1 if i in axes else n for i, n in enumerate(values.shape))
    return result.reshape(shape) if keepdims else result


def exact(graph: Graph, values: dict[int, Array]) -> Array:
    """The true value of the graph's only output, as float64 (NaN where there is none)."""
    found: dict[int, Any] = {}
    for node in graph.nodes:
        name = node.op.name
        inputs = [found[id(i)] for i in node.inputs]
        if id(node) in values:
            found[id(node)] = _objects(values[id(node)])
        elif name == "constant":
            found[id(node)] = _objects(node.attr("value").values)
        elif name in ELEMENTWISE:
            apply = np.frompyfunc(lambda *a, f=ELEMENTWISE[name]: _apply(f, *a), len(inputs), 1)
            found[id(node)] = np.asarray(apply(*inputs), object)
        elif name in ("sum", "mean"):
            found[id(node)] = _sum(inputs[0], *node.attrs, name == "mean")
        elif name == "softmax":
            exps = np.frompyfunc(lambda a: _apply(mpmath.exp, a), 1, 1)(inputs[0])
            total = _sum(exps, (node.attr("axis"),), True, False)
            found[id(node)] = np.frompyfunc(lambda a, b: _apply(ELEMENTWISE["divide"], a, b), 2, 1)(
                exps, total
            )
        elif name == "logsumexp":
            exps = np.frompyfunc(lambda a: _apply(mpmath.exp, a), 1, 1)(inputs[0])
            found[id(node)] = np.frompyfunc(lambda a: _apply(mpmath.log, a), 1, 1)(
                _sum(exps, *node.attrs, False)
            )
        else:
            found[id(node)] = node.op.reference(*inputs, **node.attributes)
    result = np.asarray(found[id(graph.outputs[0][1])], object)
    with np.errstate(all="ignore"):
        return np.asarray(
            np.frompyfunc(lambda v: np.nan if v is None else float(v), 1, 1)(result), np.float64
        )


def _objects(array: Array) -> Array:
    def convert(v: Any) -> Any:
        return mpf(float(v)) if np.isfinite(v) else None

    return np.asarray(np.frompyfunc(convert, 1, 1)(array), object)
