"""What `graphc.tune` tries for products (beside the floors): templates that match wherever they
can, and configurations near the one that a template would take.

Nothing here changes a bit of a result: the depth of panels, which fixes the order of additions, is
no part of a configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from graphc.base.target import Target
from graphc.kernels.gemm_cpu import GemmTemplate, Limits
from graphc.kernels.gemm_problem import Blocks, up
from graphc.kernels.gemm_strips import Strips, StripTemplate
from graphc.lower.template import KernelTemplate
from graphc.schedule import policy_cpu as policy

_ANY = Limits(1, 1, 1, 0, 0)

# Those that a search may choose, whatever their estimate of what pays.
SEARCHED: tuple[KernelTemplate, ...] = (
    GemmTemplate(limits=_ANY, plain=_ANY, short=_ANY),
    StripTemplate(columns=0, operand_bytes=0),
)

# Rows of register tiles; rows and vectors of those of strips, where tiles may be wide.
_HEIGHTS = (6, 8, 10, 12)
_TILES = ((8, 2), (12, 2), (6, 2), (6, 4), (4, 4), (2, 8))


def variants(config: Any, target: Target) -> Iterator[Any]:
    """Configurations near `config`: other register tiles, other blocks of as much memory."""
    if isinstance(config, Blocks):
        yield from _blocks(config, target)
    elif isinstance(config, Strips):
        yield from _strips(config, target)


def _strips(given: Strips, target: Target) -> Iterator[Strips]:
    registers = target.registers * target.register_bytes // policy.VECTOR_BYTES
    for height, vectors in _TILES:
        if height * vectors <= registers * 7 // 8:
            tall = up(given.rows, height)
            wide = up(given.columns, given.width * vectors)
            yield replace(given, height=height, vectors=vectors, rows=tall, columns=wide)
    yield replace(given, columns=2 * given.columns)
    yield replace(given, columns=up(max(given.columns // 2, 1), given.panel))
    yield replace(given, rows=2 * given.rows)
    yield replace(given, rows=up(max(given.rows // 2, 1), given.height))


def _blocks(given: Blocks, target: Target) -> Iterator[Blocks]:
    registers = target.registers * target.register_bytes // policy.VECTOR_BYTES
    for height in _HEIGHTS:
        # An eighth of the registers holds operands.
        if height != given.height and height * given.vectors <= registers * 7 // 8:
            yield replace(given, height=height, rows=up(given.rows, height))
    half = up(max(given.rows // 2, 1), given.height)
    yield replace(given, rows=half)
    if given.shared:
        yield replace(given, shared=False)
    if given.lines > 1:
        less = replace(given, lines=given.lines // 2)
        yield replace(less, rows=2 * given.rows)
        yield less
    elif given.columns % (2 * given.panel) == 0:
        less = replace(given, columns=given.columns // 2)
        yield replace(less, rows=2 * given.rows)
        yield less
        yield replace(given, rows=half, columns=2 * given.columns)
    yield replace(given, narrow=not given.narrow)
