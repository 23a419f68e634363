"""Cutting loops at borders (floor 5): where the loop variable alone decides a condition.

A pad asks of each element whether it is inside, a roll on which side of the seam it is, a
concatenation whose element it is, a triangle whether it is kept. Cut at the borders, each part of
the loop knows the answer: what was a masked load, a gather or a choice is a plain load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.base.errors import CompileError, message
from graphc.base.order import topological
from graphc.loops.build import FALSE, TRUE, ZERO, Names, iadd, imax, imin, isub
from graphc.loops.index_math import linear_parts, simplify_kernel
from graphc.loops.nodes import Check, Const, Expr, For, Kernel, Op, SizeOf, Stmt, Store, Var, const
from graphc.loops.nodes import var as variable
from graphc.loops.text import statement_text
from graphc.loops.walk import expressions, map_body, statements, substitute, with_body
from graphc.schedule import policy_cpu as policy

_COMPARE = {"lt": (0, True), "le": (1, True), "ge": (0, False), "gt": (1, False)}
_INDEX = frozenset(("add", "sub", "neg", "mod", "floordiv"))
_SMALL = 1 << 31  # sums of a few numbers below do not wrap
_NODES = 32  # of a condition at most


@dataclass(frozen=True, slots=True)
class Border:
    """A condition `holds` below `at` (True) or from it on (False)."""

    at: Expr
    below: bool


@dataclass(frozen=True, slots=True)
class Division:
    """(loop variable + `rest`) // `divisor`, or the remainder."""

    rest: int
    divisor: int
    remainder: bool


Decided = Mapping[Expr, Border | Division]


def cut(kernel: Kernel, loop: For, points: Sequence[Expr], decided: Decided) -> Kernel:
    """Cut a loop at `points`, which do not decrease, and lie within 0 and the extent; `decided` are
    conditions and divisions that are the same within each part.

    before: for j in 10 {                       after: for j in 1 { %o[j] = 0 }
              %o[j] = %a[j - 1 ? j >= 1 : 0]            for j_1 in 9 { %o[j_1 + 1] = %a[j_1] }
            }
    Legal in loops of stores and checks. Raises CompileError for others.
    """
    if not all(isinstance(s, Store | Check) for s in loop.body):
        why = "it holds more than stores and checks"
        raise CompileError(
            message(f"cannot cut the loop over {loop.var.name}: {why}", hint=statement_text(loop))
        )
    taken = {s.var.name for s in statements(kernel.body) if isinstance(s, For)}
    names = Names(taken)
    parts: list[Stmt] = []
    ends = [*points, loop.extent]
    for number, (start, end) in enumerate(zip([ZERO, *points], ends, strict=True)):
        extent = isub(end, start)
        if extent is ZERO:
            continue
        here = variable(names.fresh(loop.var.name))
        values: dict[Expr, Expr] = {loop.var: iadd(here, start)}
        for node, what in decided.items():
            values[node] = _within_part(what, number, start, points, iadd(here, start))
        parts.append(_part(loop, here, extent, _substituted(loop.body, values)))
    return simplify_kernel(replace(kernel, body=_instead(kernel.body, loop, parts)))


def _substituted(body: tuple[Stmt, ...], values: Mapping[Expr, Expr]) -> tuple[Stmt, ...]:
    memo: dict[Expr, Expr] = {}
    return map_body(body, lambda e: substitute(e, values, memo))


def _within_part(
    what: Border | Division, number: int, start: Expr, points: Sequence[Expr], index: Expr
) -> Expr:
    """What a condition or a division is in part `number`, which begins at `start`."""
    if isinstance(what, Border):
        return TRUE if what.below == (number <= _position(points, what.at)) else FALSE
    assert isinstance(start, Const)
    quotient = (int(start.value) + what.rest) // what.divisor
    if not what.remainder:
        return const(quotient)
    return iadd(index, const(what.rest - quotient * what.divisor))


def _position(points: Sequence[Expr], at: Expr) -> int:
    """The number of the last part in which what holds below `at` holds; -1 for none."""
    if not isinstance(at, Const):
        return 0  # the one point is that border
    if int(at.value) <= 0:
        return -1
    return sum(int(p.value) < int(at.value) for p in points if isinstance(p, Const))


def _part(loop: For, here: Var, extent: Expr, body: tuple[Stmt, ...]) -> For:
    if isinstance(extent, Const) and int(extent.value) < policy.CUT_SERIAL:
        return For(here, extent, body)
    groups = loop.interleave
    if isinstance(extent, Const):
        groups = policy.interleave(int(extent.value), loop.width, groups)
    return For(here, extent, body, loop.kind, loop.width, groups)


def _instead(body: tuple[Stmt, ...], loop: For, parts: list[Stmt]) -> tuple[Stmt, ...]:
    result: list[Stmt] = []
    for s in body:
        if s is loop:
            result += parts
        elif isinstance(s, For):
            result.append(with_body(s, _instead(s.body, loop, parts)))
        else:
            result.append(s)
    return tuple(result)


# -- which loops, and where -----------------------------------------------------------------------


def cut_at_borders(kernel: Kernel) -> Kernel:
    """The kernel with its long vector loops cut where their variables alone decide conditions, as
    far as the policy wants so many copies of their bodies.
    """
    for loop in [s for s in statements(kernel.body) if isinstance(s, For) and s.kind == "vector"]:
        if not isinstance(loop.extent, Const) or not _is_worth_it(loop):
            continue
        decided = _decided(loop)
        points = _points(decided, int(loop.extent.value))
        if points and policy.cuts(len(points), _nodes(loop)):
            kernel = cut(kernel, loop, points, decided)
    return kernel


def _is_worth_it(loop: For) -> bool:
    assert isinstance(loop.extent, Const)
    long = int(loop.extent.value) >= policy.CUT_SHORTEST * loop.width
    return long and all(isinstance(s, Store | Check) for s in loop.body)


def _nodes(loop: For) -> int:
    return len(topological([e for s in loop.body for e in expressions(s)], lambda e: e.args))


def _points(decided: Decided, extent: int) -> list[Expr]:
    """Where to cut: at numbers, or at one border that outer loops move; [] where nothing is."""
    moving = {b.at for b in decided.values() if isinstance(b, Border)}
    moving = {at for at in moving if not isinstance(at, Const)}
    if len(moving) == 1 and all(isinstance(b, Border) for b in decided.values()):
        borders = {b.at for b in decided.values() if isinstance(b, Border)}
        if len(borders) == 1:
            (at,) = moving
            return [imin(imax(at, ZERO), const(extent))]
    if moving:
        return []
    places: set[int] = set()
    for what in decided.values():
        if isinstance(what, Border):
            assert isinstance(what.at, Const)
            places.add(int(what.at.value))
        else:
            places.update(range(-what.rest % what.divisor, extent, what.divisor))
    return [const(p) for p in sorted(places) if 0 < p < extent]


def _decided(loop: For) -> Decided:
    """The conditions and divisions of a loop's body that its variable decides."""
    found: dict[Expr, Border | Division] = {}
    roots = [e for s in loop.body for e in expressions(s)]
    assert isinstance(loop.extent, Const)
    for node in topological(roots, lambda e: e.args):
        if not isinstance(node, Op) or len(node.args) != 2:
            continue
        what: Border | Division | None = None
        if node.name in _COMPARE:
            what = _border(node, loop.var)
        elif node.name in ("mod", "floordiv"):
            what = _division(node, loop.var, int(loop.extent.value))
        if what is not None:
            found[node] = what
    return found


def _border(node: Op, v: Var) -> Border | None:
    if not all(_is_index(a) for a in node.args):
        return None
    parts = linear_parts(isub(*node.args), v)
    if parts is None or not isinstance(parts[0], Const) or parts[0].value not in (1, -1):
        return None
    shift, below = _COMPARE[node.name]
    if parts[0].value == 1:
        return Border(iadd(isub(ZERO, parts[1]), const(shift)), below)
    # rest - v < 0 is v >= rest + 1: the other side, and its border on the other side of equality
    return Border(iadd(parts[1], const(1 - shift)), not below)


def _division(node: Op, v: Var, extent: int) -> Division | None:
    x, divisor = node.args
    if not isinstance(divisor, Const) or not _is_index(x):
        return None
    number = int(divisor.value)
    parts = linear_parts(x, v)
    if number <= 0 or extent > number * policy.CUT_PARTS or parts is None:
        return None
    if not isinstance(parts[0], Const) or parts[0].value != 1 or not isinstance(parts[1], Const):
        return None
    return Division(int(parts[1].value), number, node.name == "mod")


def _is_index(expr: Expr) -> bool:
    """Whether an int64 value is made of loop variables, sizes and small numbers alone, and of so
    few that nothing wraps.
    """
    nodes = topological((expr,), lambda e: e.args)
    return len(nodes) <= _NODES and all(
        isinstance(n, Var | SizeOf)
        or (isinstance(n, Const) and not isinstance(n.value, float) and abs(n.value) < _SMALL)
        or (isinstance(n, Op) and n.name in _INDEX)
        for n in nodes
    )
