"""Parts of the commands that need no process: made inputs, verdicts, tables, pipelines as text."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dtypes import ALL, dtype_of
from graphc.cli.expectation import Verdict, compare, expect, spacing
from graphc.cli.inputs import index_limit, random_arrays, usual_size
from graphc.cli.model import with_values
from graphc.cli.opt import read_passes
from graphc.cli.table import json_text, table
from graphc.cli.verify import Finding, extremes, report, samples


def test_made_integers_are_valid_indices() -> None:
    x = graphc.placeholder((3, 5), name="x")
    direct = graphc.placeholder((50,), "int64", name="direct")
    shifted = graphc.placeholder((50,), "int32", name="shifted")
    label = graphc.placeholder((3,), "int64", name="label")
    free = graphc.placeholder((50,), "int16", name="free")
    outputs = {
        "a": graphc.take(x, graphc.reshape(direct, (10, 5)), axis=1),
        "b": graphc.take(x, shifted * 2, axis=0),
        "c": graphc.nn.softmax_cross_entropy(x, label),
        "d": free + 1,
    }
    graph = graphc.Graph([x, direct, shifted, label, free], outputs)
    limits = {name: index_limit(graph, t, {}) for name, t in graph.inputs}
    assert limits == {"x": None, "direct": 5, "shifted": 2, "label": 5, "free": None}
    made = random_arrays(graph, {}, 1)
    assert set(made["direct"]) == set(range(5)) and set(made["shifted"]) == {0, 1}
    assert made["free"].min() < 0
    graph.evaluate(made)


@pytest.mark.parametrize("dtype", [d.name for d in ALL])
def test_made_inputs_have_their_dtype(dtype: str) -> None:
    x = graphc.placeholder(("n",), dtype, name="x")
    graph = graphc.Graph([x], {"y": x})
    for sample in samples(graph, {}, 2, 0):
        graph.evaluate(sample.feeds)  # refuses what does not fit
    assert extremes(dtype_of(dtype), "special", 3).size or dtype == "bool"
    assert np.array_equal(
        random_arrays(graph, {"n": 9}, 4)["x"], random_arrays(graph, {"n": 9}, 4)["x"]
    )


def test_usual_sizes_keep_the_bounds() -> None:
    assert usual_size(0, None, 1) == 4
    assert usual_size(9, None, 4) == 12
    assert usual_size(0, 3, 1) == 3
    assert usual_size(0, 7, 8) == 0


def verdict(numerics: str, change: Any, x: Any) -> Verdict:
    """The verdict on log1p(x) / 2 with its compiled values changed."""
    t = graphc.placeholder((len(x),), name="t")
    graph = graphc.Graph([t], {"y": graphc.log(1 + graphc.exp(t)) / 2})
    expected = expect(graph, {"t": np.array(x, np.float32)})
    got = expected.values["y"].copy()
    change(got)
    return compare(expected, {"y": got}, numerics)[0]


def test_verdicts() -> None:
    def nothing(y: Any) -> None: ...

    def last_bit(y: Any) -> None:
        y[1] = np.nextafter(y[1], np.float32(np.inf))

    def wrong(y: Any) -> None:
        y[1] *= 1.001

    def finite(y: Any) -> None:
        y[1] = 500.0

    def infinite(y: Any) -> None:
        y[0] = np.inf

    assert verdict("exact", nothing, [0, 1]) == Verdict("y", 0, *verdict_rest(nothing, [0, 1]))
    one = verdict("exact", last_bit, [0, 1])
    assert one.ulps == 1.0 and one.place == (1,) and not one.problem
    off = verdict("exact", wrong, [0, 1])
    assert off.problem == "1 of 2 elements differ" and off.place == (1,) and off.ulps > 1000
    # exp(1000) overflows float32 and float64: only exact must keep the infinity.
    assert not verdict("standard", finite, [0, 1000]).problem
    assert verdict("exact", finite, [0, 1000]).problem
    assert verdict("standard", infinite, [0, 1]).problem
    # exp(100) overflows float32 alone: the reference tells nothing.
    assert not verdict("exact", finite, [0, 100]).problem


def verdict_rest(change: Any, x: Any) -> tuple[Any, ...]:
    found = verdict("exact", change, x)
    return found.allowed, found.place, found.expected, found.found, ""


def test_whole_numbers_must_be_equal() -> None:
    x = graphc.placeholder((2,), "int32", name="x")
    expected = expect(graphc.Graph([x], {"y": x + 1}), {"x": np.array([1, 2], np.int32)})
    right = compare(expected, {"y": np.array([2, 3], np.int32)}, "fast")[0]
    wrong = compare(expected, {"y": np.array([2, 4], np.int32)}, "fast")[0]
    assert not right.problem and wrong.problem and wrong.place == (1,)
    shape = compare(expected, {"y": np.array([2], np.int32)}, "fast")[0]
    assert "expected shape [2], got [1]" in shape.problem


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_spacing_is_the_distance_of_neighbours(name: str) -> None:
    digits = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}[name]
    found = spacing(np.array([1.0, 1.5, 2.0, -4.0]), dtype_of(name))
    np.testing.assert_array_equal(found, np.array([1, 1, 2, 4]) * 2.0**-digits)


def test_a_mismatch_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    fine = Verdict("y", 0.5, 4.0, (0,), 1.0, 1.0)
    broken = Verdict("y", 900.0, 4.0, (3,), 1.0, 1.1, "1 of 9 elements differ")
    assert report([Finding("exact", "random 0", fine)], [], 1, False) == 0
    assert "all right" in capsys.readouterr().out
    both = [Finding("exact", "random 0", fine), Finding("exact", "random 1", broken)]
    assert report(both, [], 2, False) == 1
    text = capsys.readouterr().out
    assert "1 of 9 elements differ" in text and "1 of 2 comparisons failed" in text
    assert report(both, [], 2, True) == 1
    assert json.loads(capsys.readouterr().out)["results"][0]["at"] == [3]


def test_json_holds_every_number() -> None:
    value = {"a": math.inf, "b": [math.nan, np.float32(0.5), True, None], "c": np.int64(3)}
    assert json.loads(json_text(value)) == {"a": "inf", "b": ["nan", 0.5, True, None], "c": 3}


def test_tables_align_and_hide_control_characters() -> None:
    rows = [{"name": "a\x1b[1m", "n": 1}, {"name": "bcd", "n": 200}]
    first, second, third = table(rows, indent="").splitlines()
    assert first.endswith("  n") and second.endswith("  1") and third.endswith("200")
    assert "\x1b" not in second and "\\x1b" in second


def test_pipelines_are_text() -> None:
    passes = read_passes("canonicalize, fold-constants{limit_bytes=64},merge-views")
    assert [p.name for p in passes] == ["canonicalize", "fold-constants", "merge-views"]
    assert passes[1].limit_bytes == 64
    with pytest.raises(graphc.GraphError, match="column 14"):
        read_passes("canonicalize,{}")


def test_new_values_keep_everything_else() -> None:
    w = graphc.variable(np.ones(3, np.float32), name="w")
    x = graphc.placeholder((3,), name="x")
    graph = graphc.Graph([x], {"y": (x * w).named("h")}, updates={w: w + x})
    changed = with_values(graph, {id(w): np.array([1, 2, 3], np.float32)})
    assert str(changed) == str(graph).replace("[1.0, 1.0, 1.0]", "[1.0, 2.0, 3.0]")
    assert str(graph) == str(with_values(changed, {id(changed["w"]): np.ones(3, np.float32)}))
