"""Dependence between loop iterations (floor 5): what makes a schedule primitive legal.

Two iterations depend where they may touch one element and one of them writes it. The test is
conservative: an index must determine the loop variable (`c * v + rest`, rest in [0, c)) in the same
way in every access to a buffer that the loop writes. Memory and accumulators declared inside the
loop are its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from graphc.base.order import topological
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Buffer,
    Expr,
    For,
    Let,
    Load,
    Stmt,
    Store,
    Var,
)
from graphc.loops.ranges import Polynomial, Ranges, scaled, total
from graphc.loops.walk import expressions, statements


@dataclass(frozen=True, slots=True)
class Access:
    """One load or store."""

    buffer: Buffer
    indices: tuple[Expr, ...]
    writes: bool


def accesses(body: tuple[Stmt, ...]) -> Iterator[Access]:
    """Every access of a body to memory that is not allocated inside it."""
    own = {s.buffer for s in statements(body) if isinstance(s, Alloc)}
    for s in statements(body):
        for node in topological(expressions(s), lambda e: e.args):
            if isinstance(node, Load) and node.buffer not in own:
                yield Access(node.buffer, node.indices, False)
        if isinstance(s, Store) and s.buffer not in own:
            yield Access(s.buffer, s.indices, True)


def defined_inside(body: tuple[Stmt, ...]) -> set[Var]:
    """Variables that the body declares."""
    found: set[Var] = set()
    for s in statements(body):
        if isinstance(s, For | Let):
            found.add(s.var)
        elif isinstance(s, Accumulators):
            found.update(s.vars)
    return found


def accumulates_outward(body: tuple[Stmt, ...]) -> Accumulate | None:
    """An accumulate in the body into accumulators from outside, or None."""
    own = {s for s in statements(body) if isinstance(s, Accumulators)}
    for s in statements(body):
        if isinstance(s, Accumulate) and s.target not in own:
            return s
    return None


def conflict(
    v: Var, body: tuple[Stmt, ...], ranges: Ranges, unknown: Iterable[Var] = ()
) -> Buffer | None:
    """A buffer through which two iterations of `v` (loop body `body`) may depend, or None.

    `unknown`: further variables that may differ between the two iterations.
    """
    found = list(accesses(body))
    inner = defined_inside(body) | set(unknown)
    for buffer in dict.fromkeys(a.buffer for a in found if a.writes):
        indices = [a.indices for a in found if a.buffer is buffer]
        ways = [_ways(v, index, inner, ranges) for index in indices]
        if not any(
            way is not None and all(w[k] == way for w in ways) for k, way in enumerate(ways[0])
        ):
            return buffer
    return None


_Way = tuple[frozenset[tuple[tuple[int, ...], int]], frozenset[tuple[tuple[int, ...], int]]]


def _ways(v: Var, indices: tuple[Expr, ...], inner: set[Var], ranges: Ranges) -> list[_Way | None]:
    """For each index, how it determines `v`: (coefficient, base), or None where it does not."""
    return [_way(v, ranges.polynomial(index), inner, ranges) for index in indices]


def _way(v: Var, index: Polynomial, inner: set[Var], ranges: Ranges) -> _Way | None:
    rank = ranges.rank(v)
    coefficient: dict[tuple[int, ...], int] = {}
    base: dict[tuple[int, ...], int] = {}
    rest: dict[tuple[int, ...], int] = {}
    for monomial, factor in index.items():
        variables = ranges.variables(monomial)
        if v not in variables:
            (rest if variables & inner else base)[monomial] = factor
            continue
        others = list(monomial)
        if rank not in others:
            return None  # v inside a load or a division
        others.remove(rank)
        if ranges.variables(tuple(others)):
            return None  # v * v, v * other variable
        coefficient[tuple(others)] = factor
    if not coefficient:
        return None
    sign = -1 if all(c < 0 for c in coefficient.values()) else 1
    step = scaled(coefficient, sign)
    facts = ranges.facts(index)
    inside = total(total(step, scaled(rest, -1)), {(): -1})
    if not (ranges.nonnegative(rest, facts) and ranges.nonnegative(inside, facts)):
        return None
    return frozenset(coefficient.items()), frozenset(base.items())
