"""Updates written over the variables they belong to (floor 8), where that cannot be noticed.

A training step reads a variable and writes its new value. Where the kernel that writes it is the
last to read the variable, and reads each element only to compute that same element, both may be the
same memory: no second copy of the state, and nothing to copy back.
Invariants: an update in place is decided for all instruction sets alike; it is written after the
last run-time check has passed, because a call that stops must leave the state as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.backend.program import Bind, BufferRef, Launch, Program, Step, bodies_of
from graphc.loops.nodes import (
    Buffer,
    Check,
    Const,
    Expr,
    For,
    If,
    Intrinsic,
    Kernel,
    Let,
    Load,
    Op,
    SizeOf,
    Stmt,
    Store,
    Var,
    var,
)
from graphc.loops.walk import expressions, map_values, statements, substitute, with_body

_AFFINE = frozenset(("add", "sub", "mul"))
_NAMED = _AFFINE | {"floordiv", "mod"}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an update is written: kernel and its params of the variable and of the result."""

    kernel: Kernel
    source: Buffer
    result: Buffer


def updates_in_place(programs: Sequence[Program], variables: Sequence[int]) -> frozenset[int]:
    """The updates that can overwrite their variables in every program.

    variables: for each update, the position of its variable.
    """
    found = [
        frozenset(k for k, v in enumerate(variables) if _place(program, k, v) is not None)
        for program in programs
    ]
    return frozenset.intersection(*found) if found else frozenset()


def write_in_place(program: Program, variables: Sequence[int], chosen: frozenset[int]) -> Program:
    """The program with kernels that read an element before they overwrite it, and that stops before
    them where a check has failed.
    """
    if not chosen:
        return program
    pairs: dict[Kernel, dict[Buffer, Buffer]] = {}
    for k in sorted(chosen):
        place = _place(program, k, variables[k])
        assert place is not None, "chosen by updates_in_place"
        pairs.setdefault(place.kernel, {})[place.result] = place.source
    new = {kernel: _read_first(kernel, results) for kernel, results in pairs.items()}
    steps = tuple(
        Launch(new.get(step.kernel, step.kernel), step.args) if isinstance(step, Launch) else step
        for step in program.steps
    )
    return replace(program, steps=steps, stop_after=_after_checks(program))


def _after_checks(program: Program) -> int:
    """How many steps there are up to the last one that checks something."""
    bodies: list[bool] = []
    for body in program.bodies:  # inner ones first
        bodies.append(any(_checks(step, bodies) for step in body.steps))
    checked = (k for k, step in enumerate(program.steps, 1) if _checks(step, bodies))
    return max(checked, default=0)


def _checks(step: Step, bodies: Sequence[bool]) -> bool:
    if isinstance(step, Bind):
        return True
    if isinstance(step, Launch):
        return any(isinstance(s, Check) for s in statements(step.kernel.body))
    return any(bodies[k] for k in bodies_of(step))


def _place(program: Program, update: int, variable: int) -> _Place | None:
    """Where the update can be written in place, or None."""
    touching = [
        (number, step, position, ref)
        for number, step in enumerate(program.steps)
        for position, ref in enumerate(step.args)
        if (ref.kind, ref.number) in (("update", update), ("variable", variable))
    ]
    results = [t for t in touching if t[3].kind == "update"]
    sources = [t for t in touching if t[3].kind == "variable"]
    if not results:
        return None
    # The update may be read by later steps, but only one step writes it: the first.
    number, step, position, ref = results[0]
    if not isinstance(step, Launch) or number < _after_checks(program):
        return None
    kernel = step.kernel
    result = kernel.params[position]
    if ref.offset != 0 or not any(result is o for o in kernel.outputs):
        return None
    if any(at > number for at, _, _, _ in sources):
        return None
    own = [(p, r) for at, _, p, r in sources if at == number]
    if len(own) != 1 or own[0][1] != BufferRef("variable", variable):
        return None
    source = kernel.params[own[0][0]]
    return _Place(kernel, source, result) if _is_safe(kernel, source, result) else None


def _is_safe(kernel: Kernel, source: Buffer, result: Buffer) -> bool:
    """Whether each element of `source` is read only where the same element of `result` is made."""
    same = source.shape == result.shape and source.dtype is result.dtype
    if not same or any(source is o for o in kernel.outputs):
        return False
    names = {s.var: s.value for s in statements(kernel.body) if isinstance(s, Let)}
    for body in _bodies(kernel.body):
        stored = {s.indices for s in body if isinstance(s, Store) and s.buffer is result}
        if not all(_is_affine(index, names) for indices in stored for index in indices):
            return False
        for statement in body:
            plain = isinstance(statement, Store | Let)
            for loaded in _loads(statement):
                at_its_place = plain and not loaded.predicated and loaded.indices in stored
                if loaded.buffer is result or (loaded.buffer is source and not at_its_place):
                    return False
    return True


def _is_affine(index: Expr, names: Mapping[Var, Expr]) -> bool:
    # A minimum or a remainder could make two iterations store one element. Names of the places of a
    # step are quotients and remainders, which differ in one of them.
    stack = [(index, _AFFINE)]
    while stack:
        node, allowed = stack.pop()
        if isinstance(node, Op):
            if node.name not in allowed:
                return False
            stack.extend((arg, allowed) for arg in node.args)
        elif isinstance(node, Var) and node in names:
            stack.append((names[node], _NAMED))
        elif not isinstance(node, Const | Var | SizeOf):
            return False
    return True


def _bodies(body: tuple[Stmt, ...]) -> Iterator[tuple[Stmt, ...]]:
    """Every list of statements, outer ones first."""
    stack = [body]
    while stack:
        own = stack.pop()
        yield own
        for statement in own:
            stack.extend(_inner(statement))


def _inner(statement: Stmt) -> tuple[tuple[Stmt, ...], ...]:
    if isinstance(statement, For):
        return (statement.body,)
    if isinstance(statement, If):
        return (statement.body, statement.otherwise)
    return (statement.meaning,) if isinstance(statement, Intrinsic) else ()


def _loads(statement: Stmt) -> set[Load]:
    """The loads in a statement's own expressions."""
    found: set[Load] = set()
    seen: set[Expr] = set()
    stack = list(expressions(statement))
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, Load):
            found.add(node)
        stack.extend(node.args)
    return found


def _read_first(kernel: Kernel, sources: Mapping[Buffer, Buffer]) -> Kernel:
    """The kernel with a name for every element that is read again after it was overwritten.

        %w[i] = f(%m[i])            let kept = %m[i]
        %m[i] = …            ->     …
        %v[i] = g(%m[i])            %v[i] = g(kept)

    sources: by result.
    """
    count = 0

    def rewrite(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        nonlocal count
        made: list[Stmt] = []
        kept: dict[Expr, Expr] = {}
        for position, statement in enumerate(body):
            if isinstance(statement, Store) and statement.buffer in sources:
                source = sources[statement.buffer]
                later = {
                    loaded
                    for following in body[position + 1 :]
                    for loaded in _loads(following)
                    if loaded.buffer is source and loaded.indices == statement.indices
                }
                for loaded in later - kept.keys():
                    name = var(f"kept_{count}", loaded.dtype)
                    count += 1
                    made.append(Let(name, loaded))
                    kept[loaded] = name
            if kept:
                statement = map_values(statement, lambda e: substitute(e, kept))
            if isinstance(statement, For):
                statement = with_body(statement, rewrite(statement.body))
            elif isinstance(statement, If):
                inner, otherwise = rewrite(statement.body), rewrite(statement.otherwise)
                statement = If(statement.condition, inner, otherwise)
            made.append(statement)
        return tuple(made)

    return replace(kernel, body=rewrite(kernel.body))
