"""Stores past the caches (floor 6): which results of a program are written so, and in which loops.

A result that is larger than what a thread has of the last cache drives everything else out of it,
and each of its lines is first read from memory, only to be overwritten. Where it is a result of the
program that nothing in the program reads again, whole lines go straight to memory. A store of one
vector is one line: it needs a vector of 64 bytes and an address that is a multiple of them.
"""

from __future__ import annotations

from collections import Counter
from math import gcd

from graphc.backend.program import Launch, Program
from graphc.base.dims import product
from graphc.base.dtypes import int64
from graphc.base.order import topological
from graphc.base.target import Target
from graphc.loops.build import ONE
from graphc.loops.index_math import flatten, linear_parts
from graphc.loops.nodes import (
    Accumulate,
    Buffer,
    Check,
    Const,
    Expr,
    For,
    Kernel,
    Let,
    Load,
    Op,
    Store,
)
from graphc.loops.walk import expressions, statements
from graphc.schedule.policy_cpu import STREAMED_BYTES, VECTOR_BYTES

Params = dict[Kernel, frozenset[Buffer]]
# Behind `align 64` of a store. LLVM's only other word on it is the fence that follows.
MARK = f"align {VECTOR_BYTES}, !nontemporal !{{i32 1}}"
FENCE = "call void @llvm.x86.sse.sfence()"
_FLAT = (Let, Store, Accumulate, Check)


def streamed(program: Program, target: Target) -> Params:
    """Per kernel the params that are written past the caches, kernels without any left out."""
    if not target.has_streaming:
        return {}
    kernels = dict.fromkeys(launch.kernel for launch in program.launches())
    large = {k: frozenset(filter(_is_large, k.outputs)) for k in kernels}
    found = {k: buffers - _read(k) for k, buffers in large.items() if buffers}
    if not found:
        return {}
    steps = (*(s for body in program.bodies for s in body.steps), *program.steps)
    uses = Counter(ref for step in steps for ref in step.args)
    for k, step in enumerate(steps):
        if isinstance(step, Launch) and step.kernel in found:
            inside = k < len(steps) - len(program.steps)  # of a body, whose outputs are read again
            found[step.kernel] &= frozenset(
                b
                for b, ref in zip(step.kernel.params, step.args, strict=True)
                if not inside and ref.kind in ("output", "update") and uses[ref] == 1
            )
    return {kernel: buffers for kernel, buffers in found.items() if buffers}


def _is_large(buffer: Buffer) -> bool:
    elements = product(buffer.shape)
    return isinstance(elements, int) and elements * buffer.dtype.itemsize >= STREAMED_BYTES


def _read(kernel: Kernel) -> frozenset[Buffer]:
    """The buffers that a kernel loads from."""
    roots = [root for stmt in statements(kernel.body) for root in expressions(stmt)]
    nodes = topological(roots, lambda node: node.args)
    return frozenset(node.buffer for node in nodes if isinstance(node, Load))


def streaming_stores(loop: For, buffers: frozenset[Buffer]) -> frozenset[Store]:
    """The stores of a vector loop to these buffers that each write one whole line, if the buffers
    start at lines; none where the loop holds more than the work of its elements.
    """
    if not all(isinstance(stmt, _FLAT) for stmt in loop.body):
        return frozenset()
    return frozenset(s for s in loop.body if isinstance(s, Store) and _is_line(s, loop, buffers))


def _is_line(store: Store, loop: For, buffers: frozenset[Buffer]) -> bool:
    buffer = store.buffer
    size = buffer.dtype.itemsize
    if buffer not in buffers or store.predicate is not None or loop.width * size != VECTOR_BYTES:
        return False
    parts = linear_parts(flatten(buffer.shape, store.indices), loop.var)
    return (
        parts is not None and parts[0] is ONE and known_factor(parts[1]) * size % VECTOR_BYTES == 0
    )


def known_factor(index: Expr) -> int:
    """A number that divides an index whatever its variables are; 0 if the index is 0."""
    known: dict[Expr, int] = {}
    for node in topological((index,), lambda e: e.args):
        known[node] = _factor(node, [known[a] for a in node.args])
    return known[index]


def _factor(node: Expr, below: list[int]) -> int:
    if isinstance(node, Const):
        return abs(int(node.value)) if node.dtype is int64 else 1
    if not isinstance(node, Op) or node.dtype is not int64:
        return 1
    if node.name in ("add", "sub", "minimum", "maximum"):
        return gcd(*below)
    if node.name == "mul":
        return below[0] * below[1]
    return below[0] if node.name == "neg" else 1
