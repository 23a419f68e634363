"""Iterative traversals (floor 0): graphs are thousands of nodes deep, Python's stack is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

N = TypeVar("N")


def topological(roots: Iterable[N], children: Callable[[N], Sequence[N]]) -> list[N]:
    """Every node reachable from `roots`, children before parents, in a deterministic order.

    Linear in nodes and edges; nodes are compared by identity and must outlive the call.
    """
    seen: set[int] = set()
    result: list[N] = []
    for root in roots:
        if id(root) in seen:
            continue
        seen.add(id(root))
        open_ = [(root, iter(children(root)))]
        while open_:
            node, rest = open_[-1]
            for child in rest:
                key = id(child)
                if key in seen:
                    continue
                seen.add(key)
                below = children(child)
                if below:
                    open_.append((child, iter(below)))
                    break
                result.append(child)
            else:
                result.append(node)
                open_.pop()
    return result
