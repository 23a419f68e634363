"""Iterative traversals (floor 0): graphs are thousands of nodes deep, Python's stack is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

N = TypeVar("N")


def topological(roots: Iterable[N], children: Callable[[N], Sequence[N]]) -> list[N]:
    """Every node reachable from `roots`, children before parents, in a deterministic order.

    Linear in nodes and edges; nodes are compared by identity and must outlive the call.
    """
    done: set[int] = set()
    open_: set[int] = set()  # their children are above them in the stack, or done
    result: list[N] = []
    for root in roots:
        stack = [root]
        while stack:
            node = stack[-1]
            key = id(node)
            if key not in done:
                if key not in open_:
                    below = children(node)
                    if below:  # the node stays below them, and is looked at again after them
                        open_.add(key)
                        stack += below[::-1]
                        continue
                done.add(key)
                result.append(node)
            stack.pop()
    return result
