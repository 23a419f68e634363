"""Operands in memory as a template wants them (floor 5).

A template may want a constant in another order than it has. It says so before regions are made, so
that the constant in its order takes the place of the first one in the program: it is put in order
when the graph is compiled, and saved, cached and linked like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from graphc.base.target import Target
from graphc.ir.node import Tensor
from graphc.lower.template import KernelTemplate


@runtime_checkable
class PackingTemplate(Protocol):
    """A template that changes how constants lie in memory."""

    def packed(self, node: Tensor, target: Target) -> Tensor | None:
        """A contraction with its constants as the template wants them, of the same values; None
        where it does not want it.
        """


def packing(templates: Sequence[KernelTemplate], target: Target) -> Callable[[Tensor], Tensor]:
    """What makes of a contraction the one that the first template wants, or leaves it as it is."""
    asked = [t for t in templates if isinstance(t, PackingTemplate)]

    def packed(node: Tensor) -> Tensor:
        for template in asked:
            found = template.packed(node, target)
            if found is not None:
                return found
        return node

    return packed
