"""Operands that lie in panels (floor 5): what a product finds as packing would leave it.

A panel holds the columns of one register tile: for each summed index, in the order of the chain, a
row of two vectors. `lower.panels` makes them of the matrices of loops.
"""

from __future__ import annotations

from graphc.base.dims import Shape, Size
from graphc.ir.node import Tensor
from graphc.lower.edges import effective, is_view
from graphc.schedule import policy_cpu as policy

# What a row of a panel holds at most: two vectors.
PANEL_BYTES = 2 * policy.VECTOR_BYTES


def in_panels(node: Tensor) -> bool:
    """Whether a contraction's column operand, which has the last letter of the result, lies in
    memory in several panels.
    """
    return bool(_panel_dims(node))


def has_parts(node: Tensor, domain: Shape, count: int) -> bool:
    """Whether `count` parts of a contraction's result that have the shape `domain` are no more
    than all of it, each part being whole panels. domain: without sizes of 1.
    """
    own = effective(node.shape)
    other = [d for d, (a, b) in enumerate(zip(own, domain, strict=False)) if a != b]
    if len(own) != len(domain) or len(other) != 1 or other[0] not in _panel_dims(node):
        return False
    whole, part = own[other[0]], domain[other[0]]
    return isinstance(whole, int) and isinstance(part, int) and part * count <= whole


def alike(a: Tensor, b: Tensor) -> bool:
    """Whether the results of two contractions over panels are laid out alike: rows, panels and
    columns in the same dims, of the same sizes.
    """
    if a.dtype is not b.dtype or effective(a.shape) != effective(b.shape):
        return False
    return _column_dims(a) == _column_dims(b)


def _column_dims(node: Tensor) -> list[int]:
    """The dims of a contraction's result, sizes of 1 not counted, that its column operand has."""
    operands, out = node.attr("spec").split("->")
    kept = [c for c, s in zip(out, node.shape, strict=True) if s != 1]
    holders = [spec for spec in operands.split(",") if kept and kept[-1] in spec]
    return [d for d, c in enumerate(kept) if all(c in spec for spec in holders)]


def _panel_dims(node: Tensor) -> list[int]:
    """The dims of a contraction's result, sizes of 1 not counted, along which there are panels;
    empty where the column operand does not lie in panels.
    """
    operands, out = node.attr("spec").split("->")
    specs = operands.split(",")
    sizes: dict[str, Size] = {}
    for spec, operand in zip(specs, node.inputs[:2], strict=True):
        sizes.update(zip(spec, operand.shape, strict=True))
    kept = [c for c in out if sizes[c] != 1]
    holders = [k for k, spec in enumerate(specs) if kept and kept[-1] in spec]
    if len(holders) != 1 or is_view(node.inputs[holders[0]]):
        return []
    columns = sizes[kept[-1]]
    if not isinstance(columns, int) or columns * node.dtype.itemsize > PANEL_BYTES:
        return []
    summed = [c for c in dict.fromkeys("".join(specs)) if c not in out and sizes[c] != 1]
    held = [c for c in specs[holders[0]] if sizes[c] != 1]
    before, end = held[: -len(summed) - 1], held[-len(summed) - 1 :]
    if end != [*summed, kept[-1]]:
        return []
    return [kept.index(c) for c in before if c in kept and c not in specs[1 - holders[0]]]
