"""Logic (floor 3): identities of selection, comparison, bits and casts. All EXACT.

Comparisons are negated for integers only: with NaN, `not (x < y)` is not `x >= y`.
"""

from __future__ import annotations

from graphc.base.dtypes import INTEGER, DType, bool_
from graphc.ir.node import Tensor
from graphc.ops.elementwise import where
from graphc.ops.logical import (
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    not_equal,
)
from graphc.ops.promotion import as_tensor, cast
from graphc.rewrite.pattern import EXACT, Match, node_rule, ops, rule, rules_of, wildcards

x, y, a = wildcards("x y a")
(c,) = wildcards("c", dtype=bool_)
(k,) = wildcards("k", constant=True)
where_, minimum_, maximum_ = ops("where minimum maximum")
and_, or_, xor_, invert = ops("bitwise_and bitwise_or bitwise_xor bitwise_invert")
equal_, not_equal_, less_, less_equal_, greater_, greater_equal_ = ops(
    "equal not_equal less less_equal greater greater_equal"
)


# -- selection
# ----------------------------------------------------------------------------------------


@rule(where_(c, x, x), cls=EXACT)
def where_same(m: Match) -> Tensor:
    """where(c, x, x) = x"""
    return m.x


@rule(where_(True, x, y), cls=EXACT)
def where_true(m: Match) -> Tensor:
    """where(True, x, y) = x"""
    return m.x


@rule(where_(False, x, y), cls=EXACT)
def where_false(m: Match) -> Tensor:
    """where(False, x, y) = y"""
    return m.y


@rule(where_(invert(c), x, y), cls=EXACT)
def where_not(m: Match) -> Tensor:
    """where(not c, x, y) = where(c, y, x)"""
    return where(m.c, m.y, m.x)


@rule(where_(c, where_(c, x, y), a), cls=EXACT)
def where_where_first(m: Match) -> Tensor:
    """where(c, where(c, x, y), a) = where(c, x, a)"""
    return where(m.c, m.x, m.a)


@rule(where_(c, a, where_(c, x, y)), cls=EXACT)
def where_where_second(m: Match) -> Tensor:
    """where(c, a, where(c, x, y)) = where(c, a, y)"""
    return where(m.c, m.a, m.y)


@rule(maximum_(x, x), cls=EXACT)
def maximum_same(m: Match) -> Tensor:
    """max(x, x) = x"""
    return m.x


@rule(minimum_(x, x), cls=EXACT)
def minimum_same(m: Match) -> Tensor:
    """min(x, x) = x"""
    return m.x


@rule(maximum_(maximum_(x, k).named("inner"), k), cls=EXACT)
def maximum_again(m: Match) -> Tensor:
    """max(max(x, k), k) = max(x, k)"""
    return m.inner


@rule(minimum_(minimum_(x, k).named("inner"), k), cls=EXACT)
def minimum_again(m: Match) -> Tensor:
    """min(min(x, k), k) = min(x, k)"""
    return m.inner


# -- bits and truth
# -----------------------------------------------------------------------------------


@rule(invert(invert(x)), cls=EXACT, dtypes=(bool_, *INTEGER))
def invert_invert(m: Match) -> Tensor:
    """~~x = x"""
    return m.x


@rule(and_(x, x), cls=EXACT, dtypes=(bool_, *INTEGER))
def and_same(m: Match) -> Tensor:
    """x & x = x"""
    return m.x


@rule(or_(x, x), cls=EXACT, dtypes=(bool_, *INTEGER))
def or_same(m: Match) -> Tensor:
    """x | x = x"""
    return m.x


@rule(xor_(x, x), cls=EXACT, dtypes=INTEGER)
def xor_same(m: Match) -> Tensor:
    """x ^ x = 0"""
    return as_tensor(0, like=m.x)


@rule(and_(x, True), cls=EXACT, dtypes=(bool_,))
def and_true(m: Match) -> Tensor:
    """x & True = x"""
    return m.x


@rule(and_(x, False), cls=EXACT, dtypes=(bool_,))
def and_false(m: Match) -> Tensor:
    """x & False = False"""
    return as_tensor(False)


@rule(or_(x, False), cls=EXACT, dtypes=(bool_,))
def or_false(m: Match) -> Tensor:
    """x | False = x"""
    return m.x


@rule(or_(x, True), cls=EXACT, dtypes=(bool_,))
def or_true(m: Match) -> Tensor:
    """x | True = True"""
    return as_tensor(True)


@rule(and_(x, 0), cls=EXACT, dtypes=INTEGER)
def and_zero(m: Match) -> Tensor:
    """x & 0 = 0"""
    return as_tensor(0, like=m.x)


@rule(or_(x, 0), cls=EXACT, dtypes=INTEGER)
def or_zero(m: Match) -> Tensor:
    """x | 0 = x"""
    return m.x


@rule(xor_(x, 0), cls=EXACT, dtypes=INTEGER)
def xor_zero(m: Match) -> Tensor:
    """x ^ 0 = x"""
    return m.x


@rule(invert(equal_(x, y)), cls=EXACT)
def not_of_equal(m: Match) -> Tensor:
    """not (x == y) = x != y, NaN included"""
    return not_equal(m.x, m.y)


@rule(invert(not_equal_(x, y)), cls=EXACT)
def not_of_not_equal(m: Match) -> Tensor:
    """not (x != y) = x == y, NaN included"""
    return equal(m.x, m.y)


@rule(invert(less_(x, y)), cls=EXACT, dtypes=INTEGER)
def not_of_less(m: Match) -> Tensor:
    """not (x < y) = x >= y for integers"""
    return greater_equal(m.x, m.y)


@rule(invert(less_equal_(x, y)), cls=EXACT, dtypes=INTEGER)
def not_of_less_equal(m: Match) -> Tensor:
    """not (x <= y) = x > y for integers"""
    return greater(m.x, m.y)


@rule(invert(greater_(x, y)), cls=EXACT, dtypes=INTEGER)
def not_of_greater(m: Match) -> Tensor:
    """not (x > y) = x <= y for integers"""
    return less_equal(m.x, m.y)


@rule(invert(greater_equal_(x, y)), cls=EXACT, dtypes=INTEGER)
def not_of_greater_equal(m: Match) -> Tensor:
    """not (x >= y) = x < y for integers"""
    return less(m.x, m.y)


# -- casts
# --------------------------------------------------------------------------------------------


def keeps_values(source: DType, target: DType) -> bool:
    """Whether every value of `source` is a value of `target`, so that a cast loses nothing."""
    if source is target or source.is_bool:
        return True
    if target.is_bool:
        return False
    if source.is_float:
        return target.is_float and target.bits > source.bits
    if target.is_float:
        digits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[target.name]
        return source.bits - (source.kind == "i") <= digits
    if source.kind == target.kind:
        return target.bits > source.bits
    return source.kind == "u" and target.bits > source.bits


@node_rule("cast", cls=EXACT)
def cast_of_cast(node: Tensor) -> Tensor | None:
    """cast(cast(x, d), e) = cast(x, e) where the first loses nothing"""
    inner = node.inputs[0]
    if inner.op.name != "cast":
        return None
    x = inner.inputs[0]
    if not keeps_values(x.dtype, inner.dtype):
        return None
    # From float an integer is saturated, from an integer it wraps.
    if x.dtype.is_integer and inner.dtype.is_float and node.dtype.is_integer:
        return None
    return cast(x, node.dtype)


@node_rule("cast", cls=EXACT)
def cast_to_same(node: Tensor) -> Tensor | None:
    """cast(x, dtype of x) = x"""
    return node.inputs[0] if node.dtype is node.inputs[0].dtype else None


RULES = rules_of(globals())
