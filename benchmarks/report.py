"""The record of a run as Markdown: who is ahead, every contestant's time, errors, reasons."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.measure import readable
from benchmarks.record import OURS, Record, Row


def markdown(record: Record, order: Mapping[str, int]) -> str:
    """All tables, without a heading of their own."""
    rows = record.listed(order)
    parts = [_preface(record), _summary(rows), _race(rows), _everyone(record, rows)]
    parts += [_processes(record), _reasons(record, rows)]
    return "\n\n".join(p for p in parts if p) + "\n"


def table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    ruled = [columns, ["---"] * len(columns), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in ruled)


def _preface(record: Record) -> str:
    limits = record.limits
    versions = ", ".join(f"{n} {v}" for n, v in record.versions.items() if v)
    lines = [f"{record.machine}; {record.threads} threads; float32.", f"Versions: {versions}."]
    if limits:
        g = {k: f"{v / 1e9:.0f}" for k, v in limits.items()}
        lines.append(
            f"Limits measured in the same run: multiply-adds {g['flops_one']} GFLOP/s on one "
            f"thread, {g['flops']} on {record.threads}; memory read {g['read_one']} and "
            f"{g['read']} GB/s, copy {g['copy_one']} and {g['copy']}, copy with streaming stores "
            f"{g['stream_copy_one']} and {g['stream_copy']}."
        )
    return "  \n".join(lines)


def mean_ratio(rows: Iterable[Row]) -> float | None:
    """The geometric mean of best peer / graphc."""
    ratios = [r.ratio for r in rows if r.ratio is not None]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def _summary(rows: Sequence[Row]) -> str:
    mean = mean_ratio(rows)
    if mean is None:
        return ""
    behind = [r.name for r in rows if r.verdict == "behind"]
    lines = [f"Geometric mean of best peer / graphc over {len(rows)} rows: **{mean:.2f}**."]
    if behind:
        lines.append(f"Behind the best peer by more than the spread: {'; '.join(behind)}.")
    return " ".join(lines)


def _race(rows: Sequence[Row]) -> str:
    """graphc beside the best peer of each row."""
    columns = ("Workload", "Limit", "graphc", "Best peer", "Best peer / graphc", "")
    columns += ("Share of limit", "Error, graphc / best", "Aim", "Outside CPUs")
    return table(columns, [_race_line(r) for r in rows])


def _race_line(row: Row) -> list[str]:
    ours, best, limit = row.ours, row.best, row.limit
    ratio, error = row.ratio, row.error_ratio
    aim = row.fields["aim"]
    return [
        row.name,
        readable(limit) if limit > 1e-6 else "–",
        _spread(ours) if ours else "–",
        f"{_spread(best[1])} {best[0]}" if best else "–",
        f"{ratio:.2f}" if ratio is not None else "–",
        f"**{row.verdict}**" if row.verdict == "behind" else row.verdict,
        f"{limit / ours['median']:.0%}" if ours and limit > 1e-6 else "–",
        f"{error:.1f}" if error is not None else "–",
        readable(aim) if aim else "–",
        f"{row.fields['outside']:.2f}",
    ]


def _spread(result: Mapping[str, Any]) -> str:
    return f"{readable(result['median'])} ({readable(result['q1'])}–{readable(result['q3'])})"


def _everyone(record: Record, rows: Sequence[Row]) -> str:
    """Median and root mean square error of every contestant."""
    names = [n for n in record.versions if any(n in r.contestants for r in rows)]
    lines = [[r.name, *(_cell(r.contestants.get(n)) for n in names)] for r in rows]
    title = "Medians, and behind them errors (root mean square, relative to float64):\n\n"
    return title + table(["Workload", *names], lines) if rows else ""


def _cell(result: Mapping[str, Any] | None) -> str:
    if result is None or "median" not in result:
        return "–"
    return f"{readable(result['median'])} ({result['rms']:.0e})"


COLUMNS = {
    "import": "import",
    "megabytes": "installed, with what it needs",
    "peak": "peak memory, MLP training",
}


def _processes(record: Record) -> str:
    """First calls, imports, memory: one process each."""
    if not record.processes:
        return ""
    firsts = list(dict.fromkeys(k for p in record.processes.values() for k in p.get("first", {})))
    columns = ["", *COLUMNS.values()]
    columns += [f"{name}: {which}" for name in firsts for which in ("cold", "warm cache")]
    lines = []
    for name in [OURS, *(n for n in record.processes if n != OURS)]:
        found = record.processes.get(name, {})
        line = [name, _seconds(found.get("import")), _megabytes(found.get("megabytes"))]
        line.append(_megabytes(found.get("peak")))
        for first in firsts:
            times = found.get("first", {}).get(first, {})
            line += [_seconds(times.get("cold")), _seconds(times.get("warm"))]
        lines.append(line)
    title = (
        "In processes of their own: import and first calls (building and calling once, imports "
        "not counted; eager torch compiles nothing), memory:\n\n"
    )
    return title + table(columns, lines)


def _seconds(value: float | None) -> str:
    return "–" if value is None else readable(value)


def _megabytes(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} MB"


def _reasons(record: Record, rows: Sequence[Row]) -> str:
    """Why a contestant has no figure."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        absent = {n: {"missing": "left out of this part"} for n in record.versions}
        for name, result in (absent | row.contestants).items():
            if "missing" in result:
                found.setdefault((name, result["missing"]), []).append(row.name)
    lines = [
        f"- {name}: {reason} ({len(names)} rows: {', '.join(names[:3])}{' …' * (len(names) > 3)})"
        for (name, reason), names in found.items()
    ]
    return "Without a figure (–):\n\n" + "\n".join(lines) if lines else ""
