"""The program against peers: timing in turns, records that merge, tables, on graphc alone."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from benchmarks import limits, peers, shapes
from benchmarks.contestants import ENTRIES, Entry, entry
from benchmarks.interleaved import Measured, Plan, race, workers
from benchmarks.record import Record, Row, read, write
from benchmarks.report import markdown, mean_ratio
from benchmarks.worker import Desk, errors
from benchmarks.workloads.calls import add_one


def result(median: float, spread: float = 0.1, error: float = 1e-7) -> dict[str, float]:
    low, high = median * (1 - spread), median * (1 + spread)
    return {"median": median, "q1": low, "q3": high, "rms": error, "worst": error}


def row(name: str, ours: float, **others: float) -> Row:
    contestants: dict[str, dict[str, object]] = {"graphc": {**result(ours)}}
    contestants |= {k: {**result(v, error=2e-7)} for k, v in others.items()}
    contestants["gone"] = {"missing": "not installed"}
    made = {"flops": 1e9, "moved": 1e6, "aim": None, "outside": 0.02}
    return Row(name, {"family": "f", **made, "contestants": contestants})


def test_verdicts_need_quartiles_that_are_apart() -> None:
    assert row("a", 1.0, torch=2.0).verdict == "ahead"
    assert row("a", 2.0, torch=1.0, jax=3.0).verdict == "behind"
    assert row("a", 1.0, torch=1.1).verdict == "even"
    assert row("a", 1.0).verdict == "–"
    best = row("a", 1.0, torch=4.0, jax=2.0)
    assert best.best is not None and best.best[0] == "jax" and best.ratio == 2.0
    assert best.error_ratio == 0.5
    assert mean_ratio([best, row("b", 2.0, torch=1.0)]) == pytest.approx(1.0)


def test_the_report_names_losers_and_reasons() -> None:
    rows = [row("won", 1e-3, torch=2e-3), row("lost", 2e-3, torch=1e-3)]
    record = Record("a machine", 2, {}, {"graphc": "1", "torch": "2", "late": "3"})
    record.rows = {r.name: r.fields for r in rows}
    names = [f.name for f in fields(limits.Limits)]
    record.reached(limits.Limits(2, *[1e9] * (len(names) - 1)).fields())
    record.reached(limits.Limits(2, *[1e12] * (len(names) - 1)).fields() | {"bandwidth": 5e8})
    assert record.row("won").limit == pytest.approx(1e-3)  # 1e9 flops at 1e12, 1e6 bytes at 1e9
    text = markdown(record, {"lost": 0, "won": 1})
    assert "mean of best peer / graphc over 2 rows: **1.00**" in text
    assert "Behind the best peer by more than the spread: lost." in text
    assert text.index("| lost |") < text.index("| won |")
    assert "- gone: not installed (2 rows: lost, won)" in text
    assert "- late: left out of this part (2 rows: lost, won)" in text
    assert "| won | 1 ms | 1 ms (900 µs–1.1 ms) | 2 ms (1.8 ms–2.2 ms) torch | 2.00 |" in text


def test_records_merge_and_documents_keep_their_text(tmp_path: Path) -> None:
    record = Record("a machine", 2, {}, {"graphc": "1", "torch": "2"})
    record.rows["won"] = row("won", 1e-3, torch=2e-3).fields
    write(record, tmp_path / "peers.json")
    assert read(tmp_path / "peers.json") == record
    document = tmp_path / "page.md"
    document.write_text(f"before\n{peers.BEGIN}\nold\n{peers.END}\nafter\n")
    arguments = ["--report", "--output", str(tmp_path), "--publish", str(document)]
    for _ in range(2):
        assert peers.main(arguments) == 0
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert text.count("| won |") == 2


def test_a_race_in_processes_of_their_own() -> None:
    absent = Entry("absent", "with_nothing", "Nothing", "nothing")
    with workers([entry("graphc"), absent], {}, threads=1) as contestants:
        found = race(add_one(), contestants, Plan(threads=1, rounds=2, seconds=0.002))
    ours = found["graphc"].row()
    assert 0 < ours["best"] <= ours["q1"] <= ours["median"] <= ours["q3"] < 1e-3
    assert ours["rms"] < 1e-6 and ours["first"] > 0 and ours["samples"] >= 6
    assert found["absent"].missing is not None


def test_a_workload_that_fails_is_a_reason() -> None:
    class Broken:
        version = "0"

        def __init__(self, threads: int) -> None:
            self.threads = threads

        def build(self, workload: object) -> object:
            raise MemoryError("no room\nfor more")

    desk = Desk(Broken(1))  # type: ignore[arg-type]  # builds nothing, which is the point
    answer = desk.build(add_one().name, "unused")
    assert answer == {"missing": "MemoryError: no room"}
    assert Measured(missing="m").row() == {"missing": "m"}


def test_errors_show_what_is_not_a_number() -> None:
    exact = [np.array([3.0, 4.0]), np.array([1.0])]
    assert errors(exact, exact) == {"rms": 0.0, "worst": 0.0}
    found = errors([np.array([3.0, 4.5]), np.array([1.0])], exact)
    assert found["worst"] == pytest.approx(0.5 / 4)
    assert found["rms"] == pytest.approx(0.1)
    assert np.isnan(errors([np.array([3.0, np.nan]), np.array([1.0])], exact)["rms"])
    with pytest.raises(ValueError, match="shape"):
        errors([np.zeros(3), np.zeros(1)], exact)


def test_interpreters_by_name() -> None:
    found = peers.interpreters(["peers=/a/python", "JAX=/b/python"])
    assert found["JAX"] == "/b/python" and found["torch"] == "/a/python"
    assert "graphc" not in found and len(found) == len(ENTRIES) - 1


def test_loops_measure_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEGABYTES", 4)
    monkeypatch.setattr(limits, "ROUNDS", 2)
    monkeypatch.setattr(limits, "FMA_TURNS", 1000)
    loops = limits.Loops()
    loops.seconds("copy", 2)
    np.testing.assert_array_equal(loops.x, loops.y)
    loops.y[:] = 0
    loops.seconds("stream", 1)
    np.testing.assert_array_equal(loops.x, loops.y)
    loops.y[: loops.lanes] = 0.5
    loops.seconds("read", 1)  # eight accumulators that begin with 0.5, and the sum of x
    assert loops.y[: loops.lanes].sum() == loops.x.size + 0.5 * 8 * loops.lanes
    found = limits.measured(threads=2)
    assert found.flops > 1e8 and found.bandwidth >= found.copy > 1e8
    assert found.fields()["bandwidth"] == found.bandwidth


def test_shapes_are_held_against_their_row(tmp_path: Path) -> None:
    arguments = ["--only", "^softmax 1×1$", "--rounds", "2", "--seconds", "0.002"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "MEGABYTES", 4)
        assert shapes.main([*arguments, "--output", str(tmp_path)]) == 0
    record = read(tmp_path / "shapes.json")
    (finding,) = shapes.findings(record)
    assert finding.row.name == "softmax 1×1" and finding.anchor == "softmax 4096×1024"
    assert finding.share > 0 and finding.relative > 0
    assert "| softmax 1×1 |" in (tmp_path / "shapes.md").read_text()
    assert json.loads((tmp_path / "shapes.json").read_text())["threads"] == 2
