"""Is graphc ahead of every peer? The table of workloads, all contestants timed in turns.

`python -m benchmarks peers` measures, and writes `peers.md`, `peers.json` and `roofline.png`.
Contestants run in processes of their own, begun together and kept for all rows; see
`benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import limits
from benchmarks.contestants import ENTRIES, Entry
from benchmarks.interleaved import Measured, Plan, Worker, race, workers
from benchmarks.measure import machine, readable
from benchmarks.processes import by_process
from benchmarks.record import OURS, Record, Row, read, write
from benchmarks.report import markdown, mean_ratio
from benchmarks.roofline import draw
from benchmarks.workloads import every
from benchmarks.workloads.workload import Workload

BEGIN, END = "<!-- table of peers: begin -->", "<!-- table of peers: end -->"


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="python -m benchmarks peers", description=__doc__)
    made.add_argument("--only", default="", metavar="REGEX", help="workloads whose name matches")
    made.add_argument("--with", dest="names", default="", metavar="A,B", help="these contestants")
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--rounds", type=int, default=5, help="turns of every contestant")
    made.add_argument("--seconds", type=float, default=0.1, help="length of a turn")
    made.add_argument("--quick", action="store_true", help="3 turns of 0.03 s")
    made.add_argument("--output", type=Path, default=Path("out/peers"), metavar="DIR")
    made.add_argument("--append", action="store_true", help="keep the rows that DIR has already")
    made.add_argument(
        "--processes", action="store_true", help="first calls, imports, memory; no rows"
    )
    made.add_argument("--report", action="store_true", help="measure nothing: write from the JSON")
    made.add_argument(
        "--python", action="append", default=[], metavar="NAME=PATH",
        help="the interpreter that has a contestant's packages; peers=PATH: all but graphc",
    )  # fmt: skip
    made.add_argument("--publish", type=Path, metavar="FILE", help="put the tables into a document")
    return made


def main(arguments: Sequence[str]) -> int:
    """Measure what the options say; 1 where a row of graphc itself is missing."""
    options = parser().parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "peers.json"
    keep = options.append or options.report
    record = read(path) if keep and path.exists() else Record(threads=options.threads)
    wanted = set(options.names.split(",")) if options.names else {e.name for e in ENTRIES}
    entries = [e for e in ENTRIES if e.name in wanted or e.name == OURS]
    pythons = interpreters(options.python)
    if not options.report:
        record.machine = machine()
    if options.processes:
        record.processes.update(by_process(entries, pythons, options.threads))
    elif not options.report:
        plan = Plan(options.threads, options.rounds, options.seconds)
        plan = Plan(options.threads, 3, 0.03) if options.quick else plan
        chosen = [w for w in every() if re.search(options.only, w.name)]
        measure_rows(record, chosen, entries, pythons, plan, path)
    write(record, path)
    return publish(record, options.output, options.publish)


def interpreters(given: Sequence[str]) -> dict[str, str]:
    """NAME=PATH, …: the interpreter of each contestant that does not run on this one."""
    pairs = dict(text.split("=", 1) for text in given)
    rest = pairs.pop("peers", sys.executable)
    return {e.name: rest for e in ENTRIES if e.name != OURS} | pairs


def measure_rows(
    record: Record,
    chosen: Sequence[Workload],
    entries: Sequence[Entry],
    pythons: dict[str, str],
    plan: Plan,
    path: Path,
) -> None:
    """Rows into the record, which is written after each: an interrupted run loses one row."""
    record.reached(limits.measured(plan.threads).fields())
    with workers(entries, pythons, plan.threads) as contestants:
        record.versions |= {w.entry.name: w.version for w in contestants}
        for workload in chosen:
            found = race(workload, contestants, plan)
            record.rows[workload.name] = fields(workload, found)
            write(record, path)
            print(line(Row(workload.name, record.rows[workload.name])), flush=True)
        record.versions = ordered(record.versions, contestants)


def ordered(versions: dict[str, str], contestants: Sequence[Worker]) -> dict[str, str]:
    """Versions in the order of the table's columns."""
    names = [e.name for e in ENTRIES if e.name in versions]
    return {n: versions[n] for n in names}


def fields(workload: Workload, found: dict[str, Measured]) -> dict[str, object]:
    """A row as the record keeps it."""
    wall = sum(m.wall for m in found.values())
    return {
        "family": workload.family,
        "flops": workload.flops,
        "moved": workload.moved,
        "aim": workload.aim,
        "outside": max(sum(m.outside for m in found.values()) / wall if wall else 0.0, 0.0),
        "contestants": {name: m.row() for name, m in found.items()},
    }


def line(row: Row) -> str:
    """Progress: a row on one line."""
    times = [
        f"{name} {readable(r['median'])}" for name, r in row.contestants.items() if "median" in r
    ]
    ratio = f"{row.ratio:.2f}" if row.ratio is not None else "–"
    return f"{row.name}: {ratio} {row.verdict}; {', '.join(times)}"


def publish(record: Record, folder: Path, document: Path | None) -> int:
    """Markdown and the roofline beside the JSON, and the tables into a document between marks."""
    order = {w.name: k for k, w in enumerate(every())}
    text = markdown(record, order)
    (folder / "peers.md").write_text(text)
    rows = record.listed(order)
    if record.limits:
        draw(rows, record.limits["flops"], record.limits["bandwidth"], folder / "roofline.png")
    if document is not None:
        before, rest = document.read_text().split(BEGIN)
        after = rest.split(END)[1]
        document.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
    mean = mean_ratio(rows)
    told = f"{mean:.2f}" if mean is not None else "–"
    print(f"{len(rows)} rows, geometric mean {told}: {folder / 'peers.md'}")
    return int(any(r.ours is None for r in rows))
