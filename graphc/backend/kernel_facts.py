"""Facts about a kernel that emitters need before writing it (floor 6).

Its symbols, what its loops change, which buffers live on the stack and which in scratch memory, its
parallel loop. Everything here is derived from the kernel alone, so callers and emitted code agree.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.base.dims import Dim, Size, product
from graphc.base.errors import CompileError
from graphc.loops.nodes import (
    Accumulate,
    Accumulators,
    Alloc,
    Buffer,
    Expr,
    For,
    Kernel,
    Let,
    SizeOf,
    Stmt,
    Store,
    Var,
)
from graphc.loops.walk import expressions, statements

STACK_BYTES = 16 * 1024  # local and register buffers up to this much live on the stack


@dataclass(frozen=True, slots=True)
class Effects:
    """What a statement changes that outlives it: accumulators with their declarations; buffers."""

    accumulators: tuple[tuple[Var, Accumulators], ...]
    buffers: tuple[Buffer, ...]


def effects(body: tuple[Stmt, ...]) -> Effects:
    """The accumulators and buffers declared outside `body` that it changes."""
    changed: dict[Accumulators, None] = {}
    declared: set[Accumulators] = set()
    buffers: dict[Buffer, None] = {}
    for stmt in statements(body):
        if isinstance(stmt, Accumulate):
            changed[stmt.target] = None
        elif isinstance(stmt, Accumulators):
            declared.add(stmt)
        elif isinstance(stmt, Store):
            buffers[stmt.buffer] = None
    outer = [a for a in changed if a not in declared]
    return Effects(tuple((v, a) for a in outer for v in a.vars), tuple(buffers))


def kernel_symbols(kernel: Kernel) -> tuple[str, ...]:
    """The names of the symbols whose values the kernel takes as arguments, sorted."""
    sizes: list[Size] = [s for b in kernel.params for s in b.shape]
    stack: list[Expr] = []
    for stmt in statements(kernel.body):
        stack.extend(expressions(stmt))
        if isinstance(stmt, Alloc):
            sizes.extend(stmt.buffer.shape)
    seen: set[Expr] = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, SizeOf):
            sizes.append(node.dim)
        stack.extend(node.args)
    return tuple(sorted({s.name for d in sizes if isinstance(d, Dim) for s in d.symbols()}))


def buffer_bytes(buffer: Buffer) -> Size:
    """The bytes of a buffer, rounded up to a cache line."""
    return (product(buffer.shape) * buffer.dtype.itemsize + 63) // 64 * 64


def stack_buffers(kernel: Kernel) -> frozenset[Buffer]:
    """The buffers that live on the stack: all register buffers, then local ones that fit."""
    room = STACK_BYTES
    result: set[Buffer] = set()
    for stmt in statements(kernel.body):
        if isinstance(stmt, Alloc):
            size = buffer_bytes(stmt.buffer)
            if stmt.buffer.scope == "register" and not isinstance(size, int):
                raise CompileError(f"register buffer {stmt.buffer.name!r} has a symbolic shape")
            if stmt.buffer.scope == "register" or (isinstance(size, int) and size <= room):
                result.add(stmt.buffer)
                room -= size if isinstance(size, int) else 0
    return frozenset(result)


def scratch_buffers(kernel: Kernel) -> tuple[Buffer, ...]:
    """The local buffers that live in the caller's scratch memory, in order."""
    on_stack = stack_buffers(kernel)
    allocated = (s.buffer for s in statements(kernel.body) if isinstance(s, Alloc))
    return tuple(b for b in allocated if b not in on_stack)


def scratch_bytes(kernel: Kernel) -> Size:
    """Scratch memory that one worker needs, a multiple of 64."""
    total: Size = 0
    for buffer in scratch_buffers(kernel):
        total = total + buffer_bytes(buffer)
    return total


def parallel_loop(kernel: Kernel) -> For | None:
    """The outermost parallel loop, or None."""
    for stmt in kernel.body:
        if isinstance(stmt, For) and stmt.kind == "parallel":
            if any(
                not isinstance(s, Let | For) or (isinstance(s, For) and s is not stmt)
                for s in kernel.body
            ):
                raise CompileError(f"kernel {kernel.name}: statements beside its parallel loop")
            return stmt
    return None
