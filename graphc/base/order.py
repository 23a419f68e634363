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
        stack = [root]
        while stack:
            node = stack[-1]
            if id(node) not in done:
                pending = [c for c in children(node) if id(c) not in done]
                if pending:  # the node stays below them, and is looked at again after them
                    pending.reverse()
                    stack += pending
                    continue
                done.add(id(node))
                result.append(node)
            stack.pop()
    return result
