"""Operands that lie in panels (floor 5): what a product finds as packing would leave it.

A panel holds the columns of one register tile: for each summed index, in the order of the chain, a
row of two vectors. `lower.panels` makes them of the matrices of loops.
"""

from __future__ import annotations

from graphc.base.dims import Size
from graphc.ir.node import Tensor
from graphc.lower.edges import is_view
from graphc.schedule import policy_cpu as policy

# What a row of a panel holds at most: two vectors.
PANEL_BYTES = 2 * policy.VECTOR_BYTES


def in_panels(node: Tensor) -> bool:
    """Whether a contraction's column operand, which has the last letter of the result, lies in
    memory in several panels.
    """
    operands, out = node.attr("spec").split("->")
    specs = operands.split(",")
    sizes: dict[str, Size] = {}
    for spec, operand in zip(specs, node.inputs, strict=True):
        sizes.update(zip(spec, operand.shape, strict=True))
    kept = [c for c in out if sizes[c] != 1]
    holders = [k for k, spec in enumerate(specs) if kept and kept[-1] in spec]
    if len(holders) != 1 or is_view(node.inputs[holders[0]]):
        return False
    columns = sizes[kept[-1]]
    if not isinstance(columns, int) or columns * node.dtype.itemsize > PANEL_BYTES:
        return False
    summed = [c for c in dict.fromkeys("".join(specs)) if c not in out and sizes[c] != 1]
    held = [c for c in specs[holders[0]] if sizes[c] != 1]
    before, end = held[: -len(summed) - 1], held[-len(summed) - 1 :]
    several = any(c not in specs[1 - holders[0]] for c in before)
    return several and end == [*summed, kept[-1]]
