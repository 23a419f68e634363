"""Panels of a contraction (floor 5): the pieces in which its summed elements are added up.

A sum of floats over more than `PANEL` elements is cut into panels. Each is one chain of
multiply-adds from zero, and their results are added in order: rounding errors do not grow along
one chain as long as the sum. Where the cuts are is a function of the sizes of the summed letters
alone, so it is part of the result (decision 0012), not of a schedule.

Letters are walked as nested loops, the last one innermost. A panel has as many whole turns of a
letter as fit, never parts of two: with sizes (64, 3, 3) it is 28 x 3 x 3 = 252 elements.
"""

from __future__ import annotations

from graphc.base.dims import Shape, Size, bounds, product
from graphc.base.dtypes import DType
from graphc.loops.build import ONE, iadd, ifloordiv, imax, imin, isub
from graphc.loops.nodes import Expr, const, size

# A first-level cache holds a panel of 256 x 32 float32 columns. Errors of sums of 2048 products are
# a third of those of one chain.
PANEL = 256


def has_panels(dtype: DType, sizes: Shape) -> bool:
    """Whether sums of `dtype` over letters of these sizes may be longer than a panel."""
    if not dtype.is_float:
        return False
    high = bounds(product(sizes))[1]
    return high is None or high > PANEL


def panel_blocks(sizes: Shape) -> list[Expr]:
    """How many turns of each letter a panel has, at least 1; the last panel of a letter may have
    fewer.
    """
    found: list[Expr] = []
    for at, own in enumerate(sizes):
        inner = imax(size(product(sizes[at + 1 :])), ONE)
        turns = imax(ifloordiv(const(PANEL), inner), ONE)
        # Of a size that is not known the last panel has as many as there are.
        found.append(imax(imin(size(own), turns), ONE) if isinstance(own, int) else turns)
    return found


def panel_counts(sizes: Shape, blocks: list[Expr]) -> list[Expr]:
    """How many panels there are along each letter, at least 1: a sum of nothing is one of zero."""
    return [
        imax(ifloordiv(iadd(size(own), isub(block, ONE)), block), ONE)
        for own, block in zip(sizes, blocks, strict=True)
    ]


def cut(sizes: Shape) -> tuple[int, int]:
    """(first letter, elements): panels are runs of so many elements over the letters from the first
    one on, counted as one, within each turn of those before. All sizes but the first are known.
    """
    inner = 1
    for at in reversed(range(len(sizes))):
        turns = max(1, PANEL // inner)
        own: Size = sizes[at]
        if not isinstance(own, int) or own > turns:
            return at, turns * inner
        inner *= max(own, 1)
    return 0, inner
