"""The fuzzer of files and texts: a short run always, long ones with `-m slow`."""

from __future__ import annotations

import pytest

from tests.artifact.fuzz import fuzz


def test_a_short_run() -> None:
    tally, failures = fuzz(seed=0, first=0, cases=700, seconds=60)
    assert not failures, "\n".join(failures)
    assert len(tally.messages) > 60 and sum(tally.accepted.values()) > 10, tally


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_long_runs(seed: int) -> None:
    _, failures = fuzz(seed, 0, None, 300)
    assert not failures, "\n".join(failures)
