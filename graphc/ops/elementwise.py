"""Elementwise arithmetic (floor 2): `+ - * /`, extrema, `where`, and the products of the chain
rule.

Derivatives meet cotangents in `chain_multiply` and `chain_divide`, where 0 wins over inf and NaN:
so a branch that `where` masks never spoils a gradient, and the gradient of a norm at 0 is 0. They
are bilinear, hence right in every order of differentiation, which masking with `where` is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.dtypes import ALL, FLOAT, NUMERIC, Array, bool_, float64
from graphc.ir.node import Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, dtype_error
from graphc.ops.declaration import (
    Domain,
    ElementwiseSamples,
    Unary,
    binary,
    declare,
    gradient_of,
    sum_to,
    unary,
)
from graphc.ops.families import Elementwise
from graphc.ops.promotion import TensorLike, as_tensor, broadcast_shapes, promoted

# -- the chain rule's products ----------------------------------------------------------------


def _chain_multiply_scalar(s: Any, a: Any, b: Any) -> Any:
    zero = s.like(a, 0.0)
    return s.select(s.bit_or(s.eq(a, zero), s.eq(b, zero)), zero, s.mul(a, b))


def _chain_divide_scalar(s: Any, g: Any, d: Any) -> Any:
    zero = s.like(g, 0.0)
    return s.select(s.eq(g, zero), zero, s.div(g, d))


def _chain_multiply_reference(a: Array, b: Array) -> Array:
    zero = (a == 0) | (b == 0)
    return np.where(zero, np.zeros((), a.dtype), a * b)


def _chain_divide_reference(g: Array, d: Array) -> Array:
    return np.where(g == 0, np.zeros((), g.dtype), g / d)


_chain_multiply = declare(
    "chain_multiply",
    2,
    dtypes=FLOAT,
    scalar=_chain_multiply_scalar,
    reference=_chain_multiply_reference,
    gradient=(
        lambda g, out, a, b: chain_multiply(g, b),
        lambda g, out, a, b: chain_multiply(g, a),
    ),
    traits=("commutative",),
    doc="a * b in gradients: 0 where a or b is 0, even if the other is infinite or NaN.",
)
_chain_divide = declare(
    "chain_divide",
    2,
    dtypes=FLOAT,
    scalar=_chain_divide_scalar,
    reference=_chain_divide_reference,
    gradient=(
        lambda g, out, a, b: chain_divide(g, b),
        lambda g, out, a, b: negative(chain_multiply(g, chain_divide(out, b))),
    ),
    domain=Domain(0.5, 3.0),
    doc="a / b in gradients: 0 where a is 0, whatever b is.",
)


def _is_plain(x: Tensor) -> bool:
    """Constants without zeros, infinities and NaN: with them a plain product is safe."""
    if x.op.name != "constant":
        return False
    values = x.attr("value").values
    return values.size <= 64 and bool(np.all(np.isfinite(values)) and np.all(values))


def chain_multiply(g: TensorLike, d: TensorLike) -> Tensor:
    """The cotangent `g` times the derivative `d`: 0 where either is 0, even if the other is inf or
    NaN.
    """
    a, b = promoted("chain_multiply", g, d)
    if _is_plain(a) or _is_plain(b):
        return multiply(a, b)
    return _chain_multiply(a, b)


def chain_divide(g: TensorLike, d: TensorLike) -> Tensor:
    """The cotangent `g` divided by `d`: 0 where `g` is 0, whatever `d` is."""
    a, b = promoted("chain_divide", g, d)
    if _is_plain(a) or _is_plain(b):
        return divide(a, b)
    return _chain_divide(a, b)


# -- arithmetic ----------------------------------------------------------------


def _or_on_bool(name: str, on_bool: str) -> Callable[..., Any]:
    def scalar(s: Any, a: Any, b: Any) -> Any:
        return s.op(on_bool if s.dtype_of(a).is_bool else name, a, b)

    return scalar


add = binary(
    "add",
    _or_on_bool("add", "bit_or"),
    np.add,
    (lambda g, out, x, y: g, lambda g, out, x, y: g),
    doc="x1 + x2. Integers wrap; on bool it is `or`.",
    dtypes=ALL,
    traits=("commutative", "associative"),
)
subtract = binary(
    "subtract",
    "sub",
    np.subtract,
    (lambda g, out, x, y: g, lambda g, out, x, y: -g),
    doc="x1 - x2. Integers wrap.",
    dtypes=NUMERIC,
    hint="for bool use graphc.logical_xor(x1, x2)",
)
multiply = binary(
    "multiply",
    _or_on_bool("mul", "bit_and"),
    np.multiply,
    (lambda g, out, x, y: chain_multiply(g, y), lambda g, out, x, y: chain_multiply(g, x)),
    doc="x1 * x2. Integers wrap; on bool it is `and`.",
    dtypes=ALL,
    traits=("commutative", "associative"),
)
divide = binary(
    "divide",
    "div",
    np.divide,
    (
        lambda g, out, x, y: chain_divide(g, y),
        lambda g, out, x, y: -chain_multiply(g, chain_divide(out, y)),
    ),
    doc="x1 / x2, true division: integers and bool give float64.",
    domain=Domain(second=(0.5, 3.0)),
    integers_as=float64,
)
negative: Unary = unary(
    "negative",
    "neg",
    np.negative,
    lambda g, out, x: -g,
    doc="-x. Integers wrap, the smallest one stays.",
    dtypes=NUMERIC,
    traits=("involution",),
    hint="for bool use graphc.logical_not(x)",
)


def positive(x: TensorLike, /) -> Tensor:
    """+x: the tensor itself.

    Dtypes: all but bool. Raises DTypeError for bool.

        graphc.positive(x)
    """
    tensor = as_tensor(x, op="positive")
    if tensor.dtype.is_bool:
        dtype_error("positive: bool has no sign", [tensor], 'convert it: graphc.astype(x, "int8")')
    return tensor


def _floor_divide_reference(x: Array, y: Array) -> Array:
    return np.asarray(np.floor_divide(x, y))


floor_divide = binary(
    "floor_divide",
    "floordiv",
    _floor_divide_reference,
    doc="floor(x1 / x2), Python's `//`. An integer divided by zero gives 0. No gradient flows.",
    dtypes=NUMERIC,
    hint='for bool convert first: graphc.astype(x, "int8")',
)
remainder = binary(
    "remainder",
    "mod",
    np.remainder,
    (
        lambda g, out, x, y: g,
        lambda g, out, x, y: -chain_multiply(g, floor_divide(x, y)),
    ),
    doc="x1 - floor(x1 / x2) * x2, Python's `%`: the sign of x2. An integer modulo zero gives 0.",
    dtypes=NUMERIC,
    domain=Domain(-4.0, 4.0, second=(1.1, 1.3), away=(0.0,)),
    hint='for bool convert first: graphc.astype(x, "int8")',
)


def _larger_share(g: Tensor, x: Tensor, y: Tensor) -> Tensor:
    # Equal operands share the cotangent, so that maximum and minimum stay symmetric.
    zero = scalar_like(g, 0.0)
    return where(x > y, g, where(x == y, g * 0.5, zero))


def scalar_like(x: Tensor, number: float) -> Tensor:
    """A 0-d constant of the dtype of `x`."""
    return as_tensor(number, like=x)


maximum = binary(
    "maximum",
    _or_on_bool("maximum", "bit_or"),
    np.maximum,
    (lambda g, out, x, y: _larger_share(g, x, y), lambda g, out, x, y: _larger_share(g, y, x)),
    doc="The larger of x1 and x2; NaN where either is. Equal operands share the gradient.",
    dtypes=ALL,
    traits=("commutative", "associative", "idempotent"),
)
minimum = binary(
    "minimum",
    _or_on_bool("minimum", "bit_and"),
    np.minimum,
    (lambda g, out, x, y: _larger_share(g, y, x), lambda g, out, x, y: _larger_share(g, x, y)),
    doc="The smaller of x1 and x2; NaN where either is. Equal operands share the gradient.",
    dtypes=ALL,
    traits=("commutative", "associative", "idempotent"),
)


# -- where ----------------------------------------------------------------


def _where_type(inputs: tuple[Any, ...], attrs: tuple[Any, ...]) -> TensorType:
    condition, a, b = inputs
    if condition.dtype is not bool_:
        dtype_error(
            f"where: the condition must be bool, got {condition.dtype}",
            inputs,
            "compare it: graphc.where(condition != 0, x1, x2)",
        )
    if a.dtype is not b.dtype:
        dtype_error(f"where: operands of different dtypes: {a.dtype} and {b.dtype}", inputs)
    return TensorType(broadcast_shapes("where", [x.shape for x in inputs], inputs), a.dtype)


def _where_scalar(s: Any, condition: Any, a: Any, b: Any) -> Any:
    return s.select(condition, a, b)


WHERE = REGISTRY.add(
    OpDef(
        "where",
        (),
        _where_type,
        np.where,
        gradient_of(
            (
                None,
                lambda g, out, c, a, b: where(c, g, scalar_like(g, 0.0)),
                lambda g, out, c, a, b: where(c, scalar_like(g, 0.0), g),
            )
        ),
        Elementwise(_where_scalar),
        doc="x1 where the condition holds, else x2.",
        samples=ElementwiseSamples(2, Domain(), leading_bool=True),
        dtypes=ALL,
    )
)


def where(condition: TensorLike, x1: TensorLike, x2: TensorLike, /) -> Tensor:
    """x1 where the bool `condition` holds, else x2; all three broadcast as in NumPy.

    No gradient flows to the side that is not chosen, even where its derivative is infinite or NaN.

    Raises DTypeError unless `condition` is bool, ShapeError where shapes do not broadcast.

        graphc.where(x > 0, x, 0.1 * x)
    """
    a, b = promoted("where", x1, x2)
    return WHERE(as_tensor(condition, op="where"), a, b)


__all__ = [
    "Domain",
    "ElementwiseSamples",
    "add",
    "binary",
    "chain_divide",
    "chain_multiply",
    "declare",
    "divide",
    "floor_divide",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "positive",
    "remainder",
    "scalar_like",
    "subtract",
    "sum_to",
    "unary",
    "where",
]
