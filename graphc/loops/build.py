"""Building loop-IR expressions (floor 4): scalar language over `Expr`, index arithmetic, names.

`ExprScalar` is how an op's scalar body or a math decomposition becomes loop IR. What it folds holds
for every bit pattern: identities and constants of int64 and bool, never floats (x + 0.0 changes
-0.0). Deeper index simplification, which needs the ranges of variables, is `index_math`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from graphc.base.dtypes import DType, bool_, float64, int32, int64, round_bfloat16
from graphc.base.dtypes import bfloat16 as bfloat16_
from graphc.ir.scalar import BINARY, COMPARE, DOTS, PREDICATE, UNARY, ScalarLanguage
from graphc.loops.nodes import (
    Bitcast,
    Cast,
    Combine,
    Const,
    Expr,
    Op,
    Select,
    bitcast,
    cast,
    const,
    op,
    select,
    var,
)

TRUE = const(True, bool_)
FALSE = const(False, bool_)
ZERO = const(0)
ONE = const(1)

_ARITY = dict.fromkeys(UNARY + PREDICATE, 1) | dict.fromkeys(BINARY + COMPARE, 2)
_TO_BOOL = frozenset(COMPARE + PREDICATE)


class ExprScalar(ScalarLanguage[Expr]):
    """The scalar language whose values are loop-IR expressions. Stateless: use `EXPR`."""

    def op(self, name: str, *operands: Expr) -> Expr:
        assert len(operands) == _ARITY[name], (name, len(operands))
        dtype = operands[0].dtype
        for other in operands[1:]:
            assert other.dtype is dtype, (name, [str(x.dtype) for x in operands])
        if dtype is int64:
            folded = _fold_int64(name, operands)
        elif dtype is bool_:
            folded = _fold_bool(name, operands)
        else:
            folded = None
        if folded is not None:
            return folded
        return op(name, *operands, dtype=bool_ if name in _TO_BOOL else dtype)

    def constant(self, value: bool | int | float, dtype: DType) -> Expr:
        return literal(value, dtype)

    def dtype_of(self, x: Expr) -> DType:
        return x.dtype

    def select(self, condition: Expr, a: Expr, b: Expr) -> Expr:
        if isinstance(condition, Const):
            return a if condition.value else b
        return select(condition, a, b)

    def cast(self, x: Expr, dtype: DType) -> Expr:
        if isinstance(x, Const) and not x.dtype.is_float and dtype is int64:
            return const(_wrap(int(x.value)))
        return cast(x, dtype)

    def bitcast(self, x: Expr, dtype: DType) -> Expr:
        return bitcast(x, dtype)

    def nearest(self, x: Expr) -> Expr:
        return op("nearest", x, dtype=x.dtype)

    def ldexp(self, x: Expr, n: Expr) -> Expr:
        return op("ldexp", x, n, dtype=x.dtype)

    def fma(self, a: Expr, b: Expr, c: Expr) -> Expr:
        assert a.dtype is b.dtype is c.dtype
        return op("fma", a, b, c, dtype=a.dtype)

    def dot(self, name: str, a: Expr, b: Expr, c: Expr) -> Expr:
        assert a.dtype is b.dtype is c.dtype is int32
        return op(name, a, b, c, dtype=int32)


EXPR = ExprScalar()


class Names:
    """Fresh names of one kernel: `Names().fresh("i")` is "i", then "i_1", "i_2" …"""

    __slots__ = ("_next", "_taken")

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def fresh(self, prefix: str) -> str:
        """A name that this object has not given out before and that was not taken at the start."""
        count = self._next.get(prefix, 0)
        name = f"{prefix}_{count}" if count else prefix
        while name in self._taken:
            count += 1
            name = f"{prefix}_{count}"
        self._next[prefix] = count + 1
        self._taken.add(name)
        return name


def literal(value: bool | int | float, dtype: DType) -> Const:
    """A constant of `dtype`: floats are rounded to it, integers wrap."""
    if dtype.is_bool:
        return const(bool(value), dtype)
    if dtype.is_float:
        return const(_round(float(value), dtype), dtype)
    whole = int(value) & ((1 << dtype.bits) - 1)
    if dtype.kind == "i" and whole >> (dtype.bits - 1):
        whole -= 1 << dtype.bits
    return const(whole, dtype)


def combine(
    results: Callable[[ScalarLanguage[Expr], Expr, Expr], Expr], identity: Const
) -> Combine:
    """A one-value `Combine` from `lambda s, a, b: s.add(a, b)` and its identity."""
    a, b = var("a", identity.dtype), var("b", identity.dtype)
    return Combine((a,), (b,), (results(EXPR, a, b),), (identity,))


# -- index arithmetic -----------------------------------------------------------------------------


def iadd(*terms: Expr) -> Expr:
    """Sum of int64 expressions; constants are gathered on the right."""
    total: Expr = ZERO
    for term in terms:
        total = EXPR.op("add", total, term)
    return total


def isub(a: Expr, b: Expr) -> Expr:
    """a - b."""
    return EXPR.op("sub", a, b)


def imul(*factors: Expr) -> Expr:
    """Product of int64 expressions; constants are gathered on the right."""
    total: Expr = ONE
    for factor in factors:
        total = EXPR.op("mul", total, factor)
    return total


def ifloordiv(a: Expr, b: Expr) -> Expr:
    """floor(a / b)."""
    return EXPR.op("floordiv", a, b)


def imod(a: Expr, b: Expr) -> Expr:
    """a - floor(a / b) * b."""
    return EXPR.op("mod", a, b)


def imin(a: Expr, b: Expr) -> Expr:
    """The smaller one."""
    return EXPR.op("minimum", a, b)


def imax(a: Expr, b: Expr) -> Expr:
    """The larger one."""
    return EXPR.op("maximum", a, b)


def both(*conditions: Expr) -> Expr:
    """True where all bool conditions hold."""
    total: Expr = TRUE
    for condition in conditions:
        total = EXPR.op("bit_and", total, condition)
    return total


def within(x: Expr, low: Expr, high: Expr) -> Expr:
    """low <= x < high."""
    return both(EXPR.op("ge", x, low), EXPR.op("lt", x, high))


def rebuild(node: Expr, args: tuple[Expr, ...]) -> Expr:
    """`node` with other arguments, folded again. Not for loads, which carry a buffer."""
    if isinstance(node, Op):
        if node.name in DOTS:
            return EXPR.dot(node.name, *args)
        return EXPR.fma(*args) if node.name == "fma" else EXPR.op(node.name, *args)
    if isinstance(node, Select):
        return EXPR.select(*args)
    if isinstance(node, Cast):
        return EXPR.cast(args[0], node.dtype)
    assert isinstance(node, Bitcast), node
    return bitcast(args[0], node.dtype)


# -- folding --------------------------------------------------------------------------------------


def _round(value: float, dtype: DType) -> float:
    if dtype is float64:
        return value
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if dtype is bfloat16_:
            return float(round_bfloat16(np.asarray(value, np.float32)))
        return float(dtype.numpy.type(value))


def _wrap(value: int) -> int:
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _fold_int64(name: str, operands: tuple[Expr, ...]) -> Expr | None:
    if len(operands) != 2:
        return None
    a, b = operands
    if isinstance(a, Const):
        if isinstance(b, Const):
            fold = _CONSTANT.get(name)
            if fold is None:
                return None
            value = fold(int(a.value), int(b.value))
            return const(value, bool_) if isinstance(value, bool) else const(_wrap(value))
        if name in ("add", "mul"):
            a, b = b, a  # constants on the right
    if a is b and name in _SAME:
        return _SAME[name]
    if isinstance(b, Const):
        return _fold_right_constant(name, a, b)
    if name in ("floordiv", "mod") and a is ZERO:
        return ZERO
    return None


def _fold_right_constant(name: str, a: Expr, b: Const) -> Expr | None:
    value = int(b.value)
    if name == "sub":
        name, value = "add", _wrap(-value)
        b = const(value)
    if value == 0 and name in ("add", "mul"):
        return a if name == "add" else ZERO
    if value == 1 and name in ("mul", "floordiv"):
        return a
    if value == 1 and name == "mod":
        return ZERO
    if name not in ("add", "mul"):
        return ZERO if name in ("floordiv", "mod") and a is ZERO else None
    if isinstance(a, Op) and a.name == name and isinstance(a.args[1], Const):
        # (x + c) + d -> x + (c + d), and the same for products.
        inner = int(a.args[1].value)
        total = _wrap(inner + value if name == "add" else inner * value)
        if total == (0 if name == "add" else 1):
            return a.args[0]
        if total == 0:
            return ZERO
        return op(name, a.args[0], const(total), dtype=int64)
    return op(name, a, b, dtype=int64)


def _fold_bool(name: str, operands: tuple[Expr, ...]) -> Expr | None:
    if name == "bit_not":
        (x,) = operands
        if isinstance(x, Const):
            return FALSE if x.value else TRUE
        return x.args[0] if isinstance(x, Op) and x.name == "bit_not" else None
    if name not in ("bit_and", "bit_or"):
        return None
    a, b = operands
    if isinstance(a, Const):
        a, b = b, a
    if a is b:
        return a
    if isinstance(b, Const):
        neutral = name == "bit_and"
        return a if bool(b.value) is neutral else b
    return None


_SAME = {
    "sub": ZERO, "eq": TRUE, "le": TRUE, "ge": TRUE, "ne": FALSE, "lt": FALSE, "gt": FALSE,
}  # fmt: skip

_CONSTANT: dict[str, Callable[[int, int], int | bool]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b if b else 0,
    "mod": lambda a, b: a % b if b else 0,
    "minimum": min,
    "maximum": max,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
