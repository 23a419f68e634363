"""The record of a run against peers: JSON that parts of one session are merged into.

Fields: machine, threads, limits, versions (by contestant), rows (by workload), processes (by
contestant). Seconds, bytes and flops throughout.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OURS = "graphc"


@dataclass
class Row:
    """One workload's results: `contestants` holds what `Measured.row` describes, by name.

    limit: seconds that no program can undercut on this machine, 0 where that is not known.
    """

    name: str
    fields: dict[str, Any]
    limit: float = 0.0

    @property
    def contestants(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.fields["contestants"]
        return found

    @property
    def ours(self) -> dict[str, Any] | None:
        """graphc's result, where it has one."""
        found = self.contestants.get(OURS, {})
        return found if "median" in found else None

    @property
    def best(self) -> tuple[str, dict[str, Any]] | None:
        """The fastest peer."""
        peers = [(n, r) for n, r in self.contestants.items() if n != OURS and "median" in r]
        return min(peers, key=lambda pair: pair[1]["median"], default=None)

    @property
    def ratio(self) -> float | None:
        """Median of the best peer over graphc's: above 1 graphc is faster."""
        if self.ours is None or self.best is None:
            return None
        return float(self.best[1]["median"] / self.ours["median"])

    @property
    def verdict(self) -> str:
        """ahead or behind where the middle halves of the samples are apart, else even."""
        if self.ours is None or self.best is None:
            return "–"
        peer = self.best[1]
        if self.ours["q1"] > peer["q3"]:
            return "behind"
        return "ahead" if self.ours["q3"] < peer["q1"] else "even"

    @property
    def error_ratio(self) -> float | None:
        """graphc's error over the smallest of a peer; None where both are rounding of nothing."""
        peers = [r["rms"] for n, r in self.contestants.items() if n != OURS and "rms" in r]
        if self.ours is None or not peers or min(peers) == 0.0:
            return None
        return float(self.ours["rms"] / min(peers))


@dataclass
class Record:
    """Everything that was measured."""

    machine: str = ""
    threads: int = 2
    limits: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    processes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def listed(self, order: Mapping[str, int]) -> list[Row]:
        """The rows in the order of the table."""
        return [self.row(n) for n in sorted(self.rows, key=lambda n: order.get(n, len(order)))]

    def row(self, name: str) -> Row:
        """A row with its limit: the larger of flops over their rate and bytes over theirs."""
        found, limit = self.rows[name], 0.0
        if self.limits:
            work = found["flops"] / self.limits["flops"]
            limit = max(work, found["moved"] / self.limits["bandwidth"])
        return Row(name, found, limit)

    def reached(self, limits: Mapping[str, float]) -> None:
        """Limits of a further part: what was ever reached counts, as neighbours only take away."""
        self.limits = {k: max(v, self.limits.get(k, 0.0)) for k, v in limits.items()}


def read(path: Path) -> Record:
    """The record of an earlier part. Raises FileNotFoundError, ValueError for another file."""
    return Record(**json.loads(path.read_text()))


def write(record: Record, path: Path) -> None:
    """As JSON, indented so that differences can be read."""
    path.write_text(json.dumps(vars(record), indent=1, ensure_ascii=False) + "\n")
