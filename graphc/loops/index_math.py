"""Index arithmetic (floor 4): row-major offsets, linear parts, simplification.

`simplify` brings index expressions into affine normal form (`i * 64 + j`, symbolic sizes as
coefficients) and removes floordiv, mod, minimum, maximum and comparisons that the ranges of the
variables decide. It claims nothing about data: arithmetic over loaded values may wrap, arithmetic
over loop variables never does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import gcd

from graphc.base.dims import Shape, Size
from graphc.base.dtypes import int64
from graphc.base.order import topological
from graphc.loops.build import EXPR, FALSE, ONE, TRUE, ZERO, iadd, imul, isub
from graphc.loops.nodes import (
    Const,
    Expr,
    For,
    If,
    Kernel,
    Load,
    Op,
    Prefetch,
    Stmt,
    Store,
    Var,
    const,
    size,
)
from graphc.loops.ranges import Polynomial, Ranges, scaled, split_by_divisor, total
from graphc.loops.walk import map_values, with_args, with_body

_ARITHMETIC = frozenset(("add", "sub", "mul", "neg"))
_COMPARE = frozenset(("lt", "le", "gt", "ge", "eq", "ne"))


# -- offsets --------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def strides(shape: Shape) -> tuple[Size, ...]:
    """Row-major strides in elements: (12, 4, 1) for (2, 3, 4)."""
    result: list[Size] = []
    stride: Size = 1
    for extent in reversed(shape):
        result.append(stride)
        stride = stride * extent
    return tuple(reversed(result))


def flatten(shape: Shape, indices: tuple[Expr, ...]) -> Expr:
    """The row-major offset in elements of `indices` into a buffer of `shape`."""
    assert len(shape) == len(indices)
    each = strides(shape)
    terms: list[Expr] = []
    k = len(indices) - 1
    while k >= 0:
        # An index that was taken apart into those of neighbouring dims is one again.
        index, extent, stride = indices[k], shape[k], each[k]
        while k > 0 and (whole := _joined(indices[k - 1], index, extent)) is not None:
            k -= 1
            index, extent = whole, shape[k] * extent
        terms.append(imul(index, size(stride)))
        k -= 1
    return iadd(*reversed(terms))


def _joined(high: Expr, low: Expr, extent: Size) -> Expr | None:
    """x for x // extent and x % extent; x % (n * extent) for x // extent % n and x % extent."""
    if not isinstance(low, Op) or low.name != "mod" or not isinstance(high, Op):
        return None
    x, count = low.args
    if count is not size(extent):
        return None
    if high.name == "floordiv" and high.args == (x, count):
        return x
    inner = high.args[0]
    if high.name == "mod" and isinstance(inner, Op) and inner.name == "floordiv":
        if inner.args == (x, count):
            return EXPR.op("mod", x, imul(high.args[1], count))
    return None


def without_constants(shape: Shape, indices: tuple[Expr, ...]) -> tuple[tuple[Expr, ...], int]:
    """The indices less the constants that they end in, and the elements that these come to.

    `(i + 2, j + 1)` into (n, 10) is `(i, j)` and 21. Constants along dims of symbolic stride stay.
    """
    displacement = 0
    varying = list(indices)
    for k, (index, stride) in enumerate(zip(indices, strides(shape), strict=True)):
        if not isinstance(stride, int):
            continue
        if isinstance(index, Const):
            displacement += stride * int(index.value)
            varying[k] = ZERO
        elif isinstance(index, Op) and index.name == "add" and isinstance(index.args[1], Const):
            displacement += stride * int(index.args[1].value)
            varying[k] = index.args[0]
    return tuple(varying), displacement


def unflatten(offset: Expr, shape: Shape) -> tuple[Expr, ...]:
    """The indices of the element at `offset`: the inverse of `flatten`."""
    result: list[Expr] = []
    for extent, stride in zip(shape, strides(shape), strict=True):
        whole = EXPR.op("floordiv", offset, size(stride))
        result.append(whole if not result else EXPR.op("mod", whole, size(extent)))
    return tuple(result)


def linear_parts(expr: Expr, v: Var) -> tuple[Expr, Expr] | None:
    """(coefficient, rest) with expr == coefficient * v + rest, both free of `v`; else None."""
    if expr is v:
        return ONE, ZERO
    if not expr.args:
        return ZERO, expr
    parts: dict[Expr, tuple[Expr, Expr] | None] = {}
    for node in topological((expr,), lambda e: e.args):
        parts[node] = _linear_node(node, v, parts)
    return parts[expr]


def _linear_node(
    node: Expr, v: Var, parts: Mapping[Expr, tuple[Expr, Expr] | None]
) -> tuple[Expr, Expr] | None:
    if node is v:
        return ONE, ZERO
    children = [parts[a] for a in node.args]
    if all(c is not None and c[0] is ZERO for c in children):
        return ZERO, node
    if not isinstance(node, Op) or node.name not in _ARITHMETIC or node.dtype is not int64:
        return None
    a, b = children[0], children[-1]
    if a is None or b is None:
        return None
    if node.name == "neg":
        return isub(ZERO, a[0]), isub(ZERO, a[1])
    if node.name == "add":
        return iadd(a[0], b[0]), iadd(a[1], b[1])
    if node.name == "sub":
        return isub(a[0], b[0]), isub(a[1], b[1])
    if b[0] is ZERO:
        return imul(a[0], b[1]), imul(a[1], b[1])
    return (imul(b[0], a[1]), imul(b[1], a[1])) if a[0] is ZERO else None


_REPEATS = (2, 4, 8)


def repeated_parts(expr: Expr, v: Var) -> tuple[Expr, int] | None:
    """(rest, count) with expr == v // count + rest, rest free of `v` and count 2, 4 or 8; else
    None.
    """
    nodes = topological((expr,), lambda e: e.args)
    for shared in nodes:
        if not (isinstance(shared, Op) and shared.name == "floordiv" and shared.args[0] is v):
            continue
        count = shared.args[1]
        if not isinstance(count, Const) or count.value not in _REPEATS:
            continue
        parts: dict[Expr, tuple[Expr, Expr] | None] = {}
        for node in nodes:
            known = (ONE, ZERO) if node is shared else None
            parts[node] = known or ((ZERO, v) if node is v else _linear_node(node, v, parts))
        found = parts[expr]
        if found is None or found[0] is not ONE:
            return None
        if any(node is v for node in topological((found[1],), lambda e: e.args)):
            return None
        return found[1], int(count.value)
    return None


# -- simplification -------------------------------------------------------------------------------


def simplify(expr: Expr, ranges: Ranges) -> Expr:
    """An equal index expression in normal form; loads inside are simplified too.

    For a stored value use `Simplifier.value`: int64 data may wrap and is left as it is.
    """
    return Simplifier(ranges).index(expr)


class Simplifier:
    """Simplifies the expressions of one kernel; memoizes over all of them."""

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges
        self._done: dict[Expr, Expr] = {}
        self._values: dict[Expr, Expr] = {}

    def index(self, expr: Expr) -> Expr:
        """An index, extent or predicate."""
        done = self._done
        if expr not in done:
            for node in topological((expr,), lambda e: () if e in done else e.args):
                if node not in done:
                    args = tuple(done[a] for a in node.args)
                    done[node] = self._node(with_args(node, args))
        return done[expr]

    def value(self, expr: Expr) -> Expr:
        """A stored value: only the indices and predicates of its loads are index arithmetic."""
        memo = self._values
        if expr not in memo:
            for node in topological((expr,), lambda e: () if e in memo else _value_children(e)):
                if node in memo:
                    continue
                if isinstance(node, Load):
                    args = [self.index(i) for i in node.indices]
                    if node.predicate is not None and node.fill is not None:
                        args += [self.index(node.predicate), memo[node.fill]]
                    memo[node] = with_args(node, tuple(args))
                else:
                    memo[node] = with_args(node, tuple(memo[a] for a in node.args))
        return memo[expr]

    def _node(self, node: Expr) -> Expr:
        if not isinstance(node, Op) or not node.args or node.args[0].dtype is not int64:
            return node
        if node.name in _ARITHMETIC:
            return self._ranges.expression(self._ranges.polynomial(node))
        if node.name in _COMPARE:
            return self._compare(node)
        if node.name in ("minimum", "maximum"):
            a, b = node.args
            least = (a, b) if node.name == "minimum" else (b, a)
            if self._ranges.compare(b, a)[1]:  # b >= a
                return least[0]
            return least[1] if self._ranges.compare(a, b)[1] else node
        return self._divide(node) if node.name in ("floordiv", "mod") else node

    def _compare(self, node: Op) -> Expr:
        a, b = node.args
        if node.name in ("gt", "le"):
            a, b = b, a
        less, not_less = self._ranges.compare(a, b)
        if node.name in ("eq", "ne"):
            if less or self._ranges.compare(b, a)[0]:
                return FALSE if node.name == "eq" else TRUE
            return node
        if not (less or not_less):
            return node
        holds = less if node.name in ("lt", "gt") else not_less
        return TRUE if holds else FALSE

    def _divide(self, node: Op) -> Expr:
        """floordiv or mod by a positive divisor, over atoms that do not wrap."""
        ranges = self._ranges
        a, b = (ranges.polynomial(x) for x in node.args)
        if not b or not ranges.bounded(a) or not ranges.bounded(b):
            return node
        facts = ranges.facts(a, b)
        if not ranges.nonnegative(total(b, {(): -1}), facts):
            return node
        quotient, rest = self._split(a, b)
        if ranges.nonnegative(rest, facts) and ranges.nonnegative(
            total(total(b, scaled(rest, -1)), {(): -1}), facts
        ):
            return ranges.expression(quotient if node.name == "floordiv" else rest)
        whole, over = self._divide_rest(rest, b, node.args[1])
        if node.name == "mod":
            return over
        return iadd(ranges.expression(quotient), whole) if quotient else whole

    def _split(self, a: Polynomial, b: Polynomial) -> tuple[Polynomial, Polynomial]:
        """a == quotient * b + rest, terms that have the divisor as a factor taken out."""
        parts = split_by_divisor(a, b)
        if parts is not None:
            return parts
        return self._ranges.split_by_sum(a, b)

    def _divide_rest(self, rest: Polynomial, b: Polynomial, divisor: Expr) -> tuple[Expr, Expr]:
        """(rest // b, rest % b) where range analysis alone does not tell."""
        ranges = self._ranges
        number = b.get((), 0) if len(b) == 1 else 0
        if number:
            for factor in sorted({gcd(c, number) for c in rest.values()}, reverse=True):
                if factor == 1:
                    break
                multiple = {m: c for m, c in rest.items() if c % factor == 0}
                left = {m: c for m, c in rest.items() if c % factor}
                below = total({(): factor - 1}, scaled(left, -1))
                if ranges.nonnegative(left) and ranges.nonnegative(below):
                    # (factor * x + left) // (factor * k) == x // k, the rest is factor * (x % k) +
                    # left.
                    x = ranges.expression({m: c // factor for m, c in multiple.items()})
                    k = const(number // factor)
                    over = imul(self._nested("mod", x, k), const(factor))
                    return self._nested("floordiv", x, k), iadd(over, ranges.expression(left))
        x = ranges.expression(rest)
        return self._nested("floordiv", x, divisor), self._nested("mod", x, divisor)

    def _nested(self, name: str, x: Expr, divisor: Expr) -> Expr:
        """x // divisor or x % divisor, merged with a division that `x` itself is."""
        if isinstance(x, Op) and isinstance(divisor, Const):
            inner = x.args[-1]
            if isinstance(inner, Const) and inner.value > 0 and divisor.value > 0:
                if name == x.name == "floordiv":
                    return EXPR.op("floordiv", x.args[0], imul(inner, divisor))
                if name == x.name == "mod" and int(inner.value) % int(divisor.value) == 0:
                    return EXPR.op("mod", x.args[0], divisor)
        return EXPR.op(name, x, divisor)


def _value_children(node: Expr) -> tuple[Expr, ...]:
    if not isinstance(node, Load):
        return node.args
    return () if node.fill is None else (node.fill,)


# -- kernels --------------------------------------------------------------------------------------


def simplify_kernel(kernel: Kernel) -> Kernel:
    """The kernel with every index, extent and predicate simplified, known `If`s resolved."""
    simplifier = Simplifier(Ranges.of_kernel(kernel))
    body = _simplify_body(kernel.body, simplifier)
    return Kernel(kernel.name, kernel.params, kernel.outputs, body, kernel.work, kernel.notes)


def _simplify_body(body: tuple[Stmt, ...], simplifier: Simplifier) -> tuple[Stmt, ...]:
    result: list[Stmt] = []
    for statement in body:
        result.extend(_simplify_statement(statement, simplifier))
    return tuple(result)


def _simplify_statement(statement: Stmt, simplifier: Simplifier) -> Iterable[Stmt]:
    index, value = simplifier.index, simplifier.value
    if isinstance(statement, If):
        condition = index(statement.condition)
        if isinstance(condition, Const):
            return _simplify_body(
                statement.body if condition.value else statement.otherwise, simplifier
            )
        body = _simplify_body(statement.body, simplifier)
        return (If(condition, body, _simplify_body(statement.otherwise, simplifier)),)
    if isinstance(statement, Store):
        predicate = None if statement.predicate is None else index(statement.predicate)
        if predicate is FALSE:
            return ()
        indices = tuple(map(index, statement.indices))
        predicate = None if predicate is TRUE else predicate
        return (Store(statement.buffer, indices, value(statement.value), predicate),)
    if isinstance(statement, Prefetch):
        return (map_values(statement, index),)
    if isinstance(statement, For):
        return (with_body(statement, _simplify_body(statement.body, simplifier), index),)
    return (map_values(statement, value),)
