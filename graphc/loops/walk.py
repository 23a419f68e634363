"""Walking and rewriting kernels (floor 4): statements, their expressions, substitution.

Nothing here knows what a statement means. All walks are iterative over expressions, whose depth has
no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from graphc.base.order import topological
from graphc.loops.build import FALSE, TRUE, rebuild
from graphc.loops.nodes import (
    Accumulate,
    Check,
    Expr,
    For,
    If,
    Intrinsic,
    Let,
    Load,
    Prefetch,
    Stmt,
    Store,
    load,
)


def statements(body: tuple[Stmt, ...]) -> Iterator[Stmt]:
    """Every statement of a body, outer ones first, in order."""
    stack = list(reversed(body))
    while stack:
        statement = stack.pop()
        yield statement
        if isinstance(statement, For):
            stack.extend(reversed(statement.body))
        elif isinstance(statement, If):
            stack.extend(reversed(statement.body + statement.otherwise))
        elif isinstance(statement, Intrinsic):
            stack.extend(reversed(statement.meaning))


def expressions(statement: Stmt) -> tuple[Expr, ...]:
    """The expressions of a statement itself, not of its body."""
    if isinstance(statement, For):
        return (statement.extent,)
    if isinstance(statement, Let):
        return (statement.value,)
    if isinstance(statement, Store):
        guard = () if statement.predicate is None else (statement.predicate,)
        return (*statement.indices, statement.value, *guard)
    if isinstance(statement, Prefetch):
        return statement.indices
    if isinstance(statement, Accumulate):
        return statement.values
    if isinstance(statement, If):
        return (statement.condition,)
    if isinstance(statement, Check):
        return (statement.ok,)
    return statement.args if isinstance(statement, Intrinsic) else ()


def substitute(
    expr: Expr, values: Mapping[Expr, Expr], memo: dict[Expr, Expr] | None = None
) -> Expr:
    """`expr` with nodes (usually Vars) replaced. `memo`: shared by calls with the same `values`."""
    memo = {} if memo is None else memo
    known = memo.get(expr)
    if known is not None:
        return known
    for node in topological((expr,), lambda e: () if e in memo or e in values else e.args):
        if node not in memo:
            memo[node] = values.get(node) or with_args(node, tuple(memo[a] for a in node.args))
    return memo[expr]


def with_args(node: Expr, args: tuple[Expr, ...]) -> Expr:
    """`node` over other arguments (itself where they are the same), constants folded."""
    if all(a is b for a, b in zip(args, node.args, strict=True)):
        return node
    if isinstance(node, Load):
        return _load_of(node, args)
    return rebuild(node, args)


def _load_of(node: Load, args: tuple[Expr, ...]) -> Expr:
    if not node.predicated:
        return load(node.buffer, args)
    *indices, predicate, fill = args
    if predicate is FALSE:
        return fill
    if predicate is TRUE:
        return load(node.buffer, tuple(indices))
    return load(node.buffer, tuple(indices), predicate, fill)


def with_body(
    loop: For, body: tuple[Stmt, ...], extent: Callable[[Expr], Expr] = lambda e: e
) -> For:
    """The same loop around another body."""
    return For(loop.var, extent(loop.extent), body, loop.kind, loop.width, loop.interleave)


def map_body(body: tuple[Stmt, ...], change: Callable[[Expr], Expr]) -> tuple[Stmt, ...]:
    """The body with `change` applied to every expression in it."""
    result: list[Stmt] = []
    for s in body:
        changed = map_values(s, change)
        if isinstance(changed, For):
            changed = with_body(changed, map_body(changed.body, change))
        elif isinstance(changed, If):
            inner, otherwise = map_body(changed.body, change), map_body(changed.otherwise, change)
            changed = If(changed.condition, inner, otherwise)
        elif isinstance(changed, Intrinsic):
            meaning = map_body(changed.meaning, change)
            changed = Intrinsic(changed.name, changed.args, meaning)
        result.append(changed)
    return tuple(result)


def map_values(statement: Stmt, change: Callable[[Expr], Expr]) -> Stmt:
    """The statement with `change` applied to each of its own expressions, bodies untouched."""
    if isinstance(statement, Let):
        return Let(statement.var, change(statement.value))
    if isinstance(statement, Store):
        predicate = None if statement.predicate is None else change(statement.predicate)
        indices = tuple(map(change, statement.indices))
        return Store(statement.buffer, indices, change(statement.value), predicate)
    if isinstance(statement, Prefetch):
        return Prefetch(statement.buffer, tuple(map(change, statement.indices)))
    if isinstance(statement, Accumulate):
        return Accumulate(statement.target, tuple(map(change, statement.values)))
    if isinstance(statement, Check):
        return Check(change(statement.ok), statement.site)
    if isinstance(statement, For):
        return with_body(statement, statement.body, change)
    if isinstance(statement, If):
        return If(change(statement.condition), statement.body, statement.otherwise)
    if isinstance(statement, Intrinsic):
        return Intrinsic(statement.name, tuple(map(change, statement.args)), statement.meaning)
    return statement
