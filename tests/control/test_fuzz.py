"""Random graphs with control flow: every compiled form against the reference meaning."""

from __future__ import annotations

import pytest

from tests.fuzz.checking import check
from tests.fuzz.random_graphs import RandomGraph
from tests.fuzz.test_random_graphs import failure

ALWAYS = 6
NIGHTLY = 400
BATCH = 10


def run_seed(seed: int) -> None:
    made = RandomGraph(seed, "control")
    others = made.other_feeds()
    problems = check(made.graph, made.feeds, others=others)
    if problems:
        feeds = others if others and "other sizes" in problems[0] else made.feeds
        pytest.fail(f"seed {seed}:\n{failure(made.graph, feeds, problems)}")


@pytest.mark.parametrize("seed", range(ALWAYS))
def test_fixed_seeds(seed: int) -> None:
    run_seed(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(ALWAYS, NIGHTLY, BATCH))
def test_more_seeds(first: int) -> None:
    for seed in range(first, first + BATCH):
        run_seed(seed)
