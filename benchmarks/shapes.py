"""Do odd shapes reach what the rows of the table reach?

`python -m benchmarks shapes` times graphc on odd sizes, primes, batches and widths, beside the row
of the table of the same kind that is nearest in work, and writes `shapes.md` and `shapes.json`.
What stays more than a quarter below its row's share of the limit is listed first. To the limit
of a shape (`Record.row`) the time of the smallest call is added, which bounds small ones.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import limits
from benchmarks.catalogue import named
from benchmarks.contestants import ENTRIES
from benchmarks.interleaved import Plan, race, workers
from benchmarks.measure import machine, readable
from benchmarks.peers import fields, interpreters
from benchmarks.record import OURS, Record, Row, read, write
from benchmarks.report import table
from benchmarks.workloads import calls
from benchmarks.workloads.odd_shapes import shapes

ENOUGH = 0.75  # of the share that the row of the table reaches
CALL = calls.add_one().name


@dataclass(frozen=True)
class Finding:
    """A shape's share of its limit, and that of its row of the table."""

    row: Row
    limit: float
    share: float
    anchor: str
    wanted: float

    @property
    def relative(self) -> float:
        """1 where the shape is as near to its limit as its row is."""
        return self.share / self.wanted


def main(arguments: Sequence[str]) -> int:
    """Measure, write, and print what is listed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks shapes", description=__doc__)
    parser.add_argument("--only", default="", metavar="REGEX", help="shapes whose name matches")
    parser.add_argument("--with", dest="names", default="", metavar="A,B", help="peers, too")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.03)
    parser.add_argument("--output", type=Path, default=Path("out/shapes"), metavar="DIR")
    parser.add_argument("--append", action="store_true", help="keep what DIR has already")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "shapes.json"
    record = read(path) if options.append and path.exists() else Record()
    record.machine, record.threads = machine(), options.threads
    chosen = [s for s in shapes() if re.search(options.only, s.workload.name)]
    names = {OURS, *options.names.split(",")}
    entries = [e for e in ENTRIES if e.name in names]
    plan = Plan(options.threads, options.rounds, options.seconds)
    record.reached(limits.measured(plan.threads).fields())
    # The rows of the table first: every part of a run has its own.
    wanted = list(dict.fromkeys([CALL, *(s.anchor for s in chosen)]))
    wanted += [s.workload.name for s in chosen]
    with workers(entries, interpreters(options.python), plan.threads) as contestants:
        record.versions = {w.entry.name: w.version for w in contestants}
        for name in wanted:
            workload = named(name)
            found = race(workload, contestants, plan)
            record.rows[name] = fields(workload, found)
            write(record, path)
    text = report(record)
    (options.output / "shapes.md").write_text(text)
    print(text)
    return 0


def findings(record: Record) -> list[Finding]:
    """Of the shapes that the record holds, lowest first."""
    call = record.row(CALL).ours
    if call is None:
        return []

    def limit(row: Row) -> float:
        return row.limit + float(call["median"])

    found = []
    for shape in shapes():
        if {shape.workload.name, shape.anchor} <= record.rows.keys():
            row, anchor = record.row(shape.workload.name), record.row(shape.anchor)
            if row.ours and anchor.ours:
                shares = (limit(r) / r.ours["median"] for r in (row, anchor) if r.ours)
                found.append(Finding(row, limit(row), next(shares), anchor.name, next(shares)))
    return sorted(found, key=lambda f: f.relative)


def report(record: Record) -> str:
    """The table as Markdown, and how many are listed."""
    found = findings(record)
    listed = [f for f in found if f.relative < ENOUGH]
    peers = [n for n in record.versions if n != OURS]
    columns = ["Shape", "Limit", "graphc", "Share of limit", "Row of the table", "Its share"]
    columns += ["Share / its share", *peers]
    lines = []
    for f in found:
        assert f.row.ours is not None
        times = [f.row.contestants.get(n, {}).get("median") for n in peers]
        lines.append(
            [
                f.row.name,
                readable(f.limit),
                readable(f.row.ours["median"]),
                f"{f.share:.0%}",
                f.anchor,
                f"{f.wanted:.0%}",
                f"**{f.relative:.2f}**" if f.relative < ENOUGH else f"{f.relative:.2f}",
                *("–" if t is None else readable(t) for t in times),
            ]
        )
    head = f"{record.machine}; {record.threads} threads. {len(listed)} of {len(found)} shapes stay "
    head += "more than a quarter below the share of their row."
    missing = [n for n in record.rows if record.row(n).ours is None]
    tail = f"\n\nWithout a figure: {', '.join(missing)}" if missing else ""
    return f"{head}\n\n{table(columns, lines)}{tail}\n"
