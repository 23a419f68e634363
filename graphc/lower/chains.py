"""Chains of contractions (floor 5): how a result takes in products, in which dtypes and words."""

from __future__ import annotations

from graphc.base.dtypes import DType, bool_, float32, float64
from graphc.ir.node import Tensor
from graphc.loops.build import EXPR, literal
from graphc.loops.nodes import Combine, Expr, var
from graphc.ops.families import Contraction


def dot_of(node: Tensor) -> str:
    """The scalar method of a contraction over words of narrow integers, "" of plain numbers."""
    form = node.op.form
    return form.dot if isinstance(form, Contraction) else ""


def has_tiles(node: Tensor) -> bool:
    """Whether the register tiles of templates serve a contraction: floats of 32 and 64 bits, and
    words of narrow integers.
    """
    return node.dtype in (float32, float64) or bool(dot_of(node))


def combine_for(dtype: DType, dot: str = "") -> Combine:
    """acc + a * b in one rounding for floats; wrapping for integers; any(and) for bool. dot: the
    method for words of narrow integers.
    """
    left, a, b = var("left", dtype), var("right_a", dtype), var("right_b", dtype)
    if dot:
        step: Expr = EXPR.dot(dot, a, b, left)
    elif dtype is bool_:
        step = EXPR.bit_or(left, EXPR.bit_and(a, b))
    elif dtype.is_float:
        step = EXPR.fma(a, b, left)
    else:
        step = EXPR.add(left, EXPR.mul(a, b))
    return Combine((left,), (a, b), (step,), (literal(0, dtype),))


def total_of(dtype: DType) -> Combine:
    """Panels added up: the sum starts at -0.0, to which every first panel adds up as it is."""
    left, right = var("left", dtype), var("right", dtype)
    return Combine((left,), (right,), (EXPR.add(left, right),), (literal(-0.0, dtype),))
