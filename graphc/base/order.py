"""Iterative traversals (floor 0): graphs are thousands of nodes deep, Python's stack is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

N = TypeVar("N")


def topological(roots: Iterable[N], children: Callable[[N], Iterable[N]]) -> list[N]:
    """Every node reachable from `roots`, children before parents, in a deterministic order.

    Linear in nodes and edges; nodes are compared by identity and must outlive the call.
    """
    done: set[int] = set()
    result: list[N] = []
    for root in roots:
        if id(root) in done:
            continue
        stack: list[tuple[N, bool]] = [(root, False)]
        while stack:
            node, expanded = stack.pop()
            if id(node) in done:
                continue
            if expanded:
                done.add(id(node))
                result.append(node)
                continue
            pending = [(c, False) for c in children(node) if id(c) not in done]
            if not pending:
                done.add(id(node))
                result.append(node)
                continue
            stack.append((node, True))
            pending.reverse()
            stack += pending
    return result
