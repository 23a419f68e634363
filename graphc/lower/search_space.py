"""What a search may try for a region (floor 5): schedules that keep every bit of its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

from graphc.base.target import Target
from graphc.lower.contraction import is_dot
from graphc.lower.regions import Region
from graphc.lower.template import KernelTemplate
from graphc.ops.families import Contraction
from graphc.ops.winograd import WINOGRAD
from graphc.schedule import policy_cpu as policy
from graphc.schedule.choices import LOOPS, Choice

Variants = Callable[[Any, Target], Iterable[Any]]

# Register tiles of generic loops: rows and vectors.
_TILES = (
    *((8, 2), (12, 2), (6, 2), (4, 2), (6, 4), (4, 4), (16, 1), (8, 1)),
    *((6, 1), (4, 1), (3, 2), (2, 2)),
)
# Of maps: vectors at once, and elements of a parallel step of a flat loop.
_VECTORS = (4, 1, 2, 8)
_BLOCKS = (4096, 16384, 32768, 65536, 2048)


def candidates(
    region: Region,
    target: Target,
    templates: Sequence[KernelTemplate],
    searched: Sequence[KernelTemplate],
    variants: Variants,
) -> list[Choice]:
    """Choices for a region that differ from the usual one, the best guesses first.

    templates: what the compiler asks; searched: what a choice may name, with the `variants` of a
    configuration. Empty for a region whose schedule is not searched.
    """
    usual = next(iter(_configured(region, target, templates)), None)
    found: list[Choice] = []
    if region.contraction is not None and region.contraction.op is WINOGRAD:
        return []  # its loops alone give its bits
    if region.kind == "contraction":
        for name, config in _configured(region, target, searched):
            near = [config, *variants(config, target)]
            found += [Choice(name, _settings(c)) for c in near]
        found += _tiles(region, target)
    elif region.kind == "map" and region.rows is None and usual is None:
        found += [Choice(None, (("vectors", n),)) for n in _VECTORS]
        found += [Choice(None, (("block", b),)) for b in _BLOCKS]
    known = None if usual is None else Choice(usual[0], _settings(usual[1]))
    return [c for c in dict.fromkeys(found) if c != known]


def _configured(
    region: Region, target: Target, templates: Sequence[KernelTemplate]
) -> Iterable[tuple[str, Any]]:
    for template in templates:
        problem = template.match(region, target)
        if problem is not None:
            yield template.name, next(iter(template.configs(problem, target)))


def _settings(config: Any) -> tuple[tuple[str, int], ...]:
    return tuple((f.name, getattr(config, f.name)) for f in fields(config))


def _tiles(region: Region, target: Target) -> Iterable[Choice]:
    if any(isinstance(n.op.form, Contraction) and is_dot(n) for n in region.nodes):
        return
    registers = target.registers * target.register_bytes // policy.VECTOR_BYTES
    for rows, vectors in _TILES:
        # An eighth of the registers holds operands; few accumulators wait for additions.
        if registers // 4 <= rows * vectors <= registers * 7 // 8:
            yield Choice(LOOPS, (("tile_rows", rows), ("tile_vectors", vectors)))
