"""Random graphs: every compiled form against the reference meaning, bit for bit where promised.

A fixed set of seeds always runs; `-m slow` runs all 3,000. A failure prints the shrunk graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from tests.fuzz.checking import MODES, check, differences, different_bits, expect
from tests.fuzz.random_graphs import KINDS, RandomGraph
from tests.fuzz.shrinking import report, shrink

ALWAYS = 120
NIGHTLY = 3000
BATCH = 10


def failure(graph: graphc.Graph, feeds: dict[str, Any], problems: list[str]) -> str:
    """The problems, and the smallest graph that shows the first of them."""
    mode = problems[0].split(":")[0]
    modes = ("unoptimized", mode) if mode in MODES and mode != "unoptimized" else tuple(MODES)

    def fails(g: graphc.Graph, f: dict[str, Any]) -> bool:
        return any(p.startswith(mode) for p in check(g, f, modes))

    return "\n".join([*problems, report(shrink(graph, feeds, fails))])


def run_seeds(seeds: range) -> None:
    """Check the graphs of some seeds; the first failure is shrunk and reported."""
    for seed in seeds:
        made = RandomGraph(seed)
        others = made.other_feeds()
        problems = check(made.graph, made.feeds, others=others)
        if problems:
            feeds = others if others and "other sizes" in problems[0] else made.feeds
            pytest.fail(f"seed {seed} ({made.name}):\n{failure(made.graph, feeds, problems)}")


@pytest.mark.parametrize("first", range(0, ALWAYS, BATCH))
def test_fixed_seeds(first: int) -> None:
    run_seeds(range(first, first + BATCH))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(ALWAYS, NIGHTLY, BATCH))
def test_more_seeds(first: int) -> None:
    run_seeds(range(first, first + BATCH))


def test_seeds_repeat() -> None:
    """The same seed gives the same graph and the same feeds."""
    for seed in range(10):
        a, b = RandomGraph(seed), RandomGraph(seed)
        assert str(a.graph) == str(b.graph)
        assert all(np.array_equal(a.feeds[k], b.feeds[k], equal_nan=True) for k in a.feeds)


def test_kinds_reach_most_ops() -> None:
    """The generator makes what it is meant to make: nearly every op occurs in the fixed seeds."""
    seen = {n.op.name for seed in range(ALWAYS) for n in RandomGraph(seed).graph.nodes}
    wanted = set("conv einsum scatter sort argsort searchsorted windows softmax gather pad".split())
    assert wanted <= seen
    assert len(seen) > 75, sorted(seen)
    assert set(KINDS) >= {RandomGraph(seed).name for seed in range(ALWAYS)}


# -- the checker notices ----------------------------------------------------------------------


def _wrong_results() -> tuple[Any, dict[str, Any]]:
    x = graphc.placeholder((50,), "float32", name="x")
    graph = graphc.Graph([x], {"y": graphc.exp(x), "n": graphc.astype(x > 0, "int32")})
    feeds = {"x": np.linspace(-2, 2, 50, dtype=np.float32)}
    return expect(graph, feeds), graph.evaluate(feeds)


def test_right_results_pass() -> None:
    expected, got = _wrong_results()
    assert differences(expected, got) == []


@pytest.mark.parametrize("change", ["value", "nan", "infinity", "integer", "shape", "dtype"])
def test_wrong_results_are_noticed(change: str) -> None:
    expected, got = _wrong_results()
    if change == "value":
        got["y"][7] *= np.float32(1 + 2e-5)
    elif change == "nan":
        got["y"][7] = np.nan
    elif change == "infinity":
        got["y"][7] = np.inf
    elif change == "integer":
        got["n"][7] ^= 1
    elif change == "shape":
        got["y"] = got["y"][:-1]
    else:
        got["y"] = got["y"].astype(np.float64)
    assert len(differences(expected, got)) == 1


def test_one_bit_is_noticed() -> None:
    expected, got = _wrong_results()
    other = {k: v.copy() for k, v in got.items()}
    other["y"].view(np.uint32)[3] ^= 1
    assert len(different_bits(got, other, expected.tensors)) == 1
    assert different_bits(got, got, expected.tensors) == []


def test_cancellation_has_room() -> None:
    """A sum whose true value is 0 may differ by roundings of what was summed."""
    x = graphc.placeholder((64,), "float32", name="x")
    centred = x - graphc.mean(x)
    graph = graphc.Graph([x], {"y": graphc.sum(centred)})
    feeds = {"x": np.random.default_rng(0).normal(100, 1, 64).astype(np.float32)}
    expected = expect(graph, feeds)
    got = graph.evaluate(feeds)
    assert differences(expected, {"y": got["y"] + np.float32(2e-4)}) == []
    assert differences(expected, {"y": got["y"] + np.float32(1.0)}) != []


def test_shrinking_finds_the_node() -> None:
    """Of a large graph with one bad op (here: any sine is called bad) only that op is left."""
    made = RandomGraph(3, "fusion")
    x = made.graph.inputs[0][1]
    bad = graphc.sum(graphc.sin(graphc.astype(x, "float32")) * 2.0)
    outputs = dict(made.graph.outputs) | {"bad": graphc.exp(bad)}
    graph = graphc.Graph([t for _, t in made.graph.inputs], outputs)

    def fails(g: graphc.Graph, feeds: dict[str, Any]) -> bool:
        g.evaluate(feeds)
        return any(n.op.name == "sin" for n in g.nodes)

    small, feeds = shrink(graph, made.feeds, fails, budget=400)
    assert fails(small, feeds)
    assert len(small.outputs) == 1
    assert len(small.nodes) <= 4, report((small, feeds))
    assert graphc.parse(str(small)) == small
