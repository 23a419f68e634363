"""Schedules that were found by measuring (floor 5): what a region's kernels do otherwise than the
policy says.

A choice decides how fast a kernel is, never a bit of its results (decisions 0011 and 0012): sizes
of blocks and register tiles, which template writes a product, elements of a parallel step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from graphc.base.errors import FormatError
from graphc.schedule.policy_cpu import Tile

LOOPS = ""  # in place of a template's name: generic lowering


@dataclass(frozen=True, slots=True)
class Choice:
    """How the kernels of one region are scheduled.

    template: who writes them: a name, LOOPS, or None for whoever the compiler would take. settings:
    by name, in this order: fields of the template's configuration, or, of generic loops,
    `tile_rows` and `tile_vectors` of a register tile, `block` elements of a parallel step,
    `vectors` that a map computes at once.
    """

    template: str | None = None
    settings: tuple[tuple[str, int], ...] = ()

    def tile(self, usual: Tile) -> Tile:
        """The register tile of a product in generic loops."""
        found = dict(self.settings) if self.settings else {}
        if "tile_rows" not in found:
            return usual
        return replace(usual, rows=found["tile_rows"], vectors=found["tile_vectors"])

    def block(self, usual: int) -> int:
        """The elements of a parallel step of a flat loop."""
        return dict(self.settings).get("block", usual) if self.settings else usual

    def vectors(self, usual: int) -> int:
        """The vectors that a map computes at once."""
        return dict(self.settings).get("vectors", usual) if self.settings else usual

    def __str__(self) -> str:
        who = {None: "", LOOPS: "loops"}.get(self.template, str(self.template))
        return " ".join([who, *(f"{k}={v}" for k, v in self.settings)]).strip() or "as before"

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {"template": self.template, "settings": dict(self.settings)}

    @staticmethod
    def read(record: Any) -> Choice:
        """From what `record` gave. Raises FormatError for anything else."""
        settings = record.get("settings") if isinstance(record, dict) else None
        template = record.get("template", 0) if isinstance(record, dict) else 0
        if (
            not isinstance(settings, dict)
            or not (template is None or isinstance(template, str))
            or not all(isinstance(v, int) for v in settings.values())
        ):
            raise FormatError(f"not a choice of a schedule: {record!r}")
        return Choice(template, tuple(settings.items()))


USUAL = Choice()


class Choices(Protocol):
    """The choices for the regions of a program."""

    def of(self, key: str, region: Any) -> Choice:
        """For a region, by the digest of its signature."""


@dataclass(frozen=True)
class Found:
    """Choices by key; other regions as usual."""

    by_key: Mapping[str, Choice]

    def of(self, key: str, region: Any) -> Choice:
        """For a region, by the digest of its signature."""
        return self.by_key.get(key, USUAL)
