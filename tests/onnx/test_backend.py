"""ONNX's backend tests over `graphc.onnx.backend`: all pass but those in `suite.EXCLUDED`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import graphc
from tests.onnx.suite import GROUPS, REFUSED, cases_of, reason_of, runner

# The light models take seconds each; they run with random weights too, in test_light.
QUICK = [group for group in GROUPS if group != "light"]
CASES = {f"{group}: {name}": test for group in QUICK for name, test in cases_of(group).items()}
INCLUDED = [k for k in CASES if reason_of(k.partition(": ")[2]) is None]


def test_all_are_there() -> None:
    counts = {group: len(cases_of(group)) for group in GROUPS}
    assert sum(counts.values()) >= 2033, counts
    assert len(INCLUDED) >= 1976
    assert len(runner().test_cases) == len(GROUPS)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", INCLUDED)
def test_passes(name: str) -> None:
    CASES[name]()


@pytest.mark.parametrize("name", [k for k in CASES if k not in INCLUDED])
def test_refused_by_name(name: str) -> None:
    """No excluded model computes a wrong value: an error names its operator."""
    test = name.partition(": ")[2]
    if not any(reason_of(test) == reason for reason in REFUSED.values()):
        return  # held elsewhere, as its reason says
    with pytest.raises(graphc.UnsupportedError) as found:
        CASES[name]()
    assert "node " in str(found.value) and "(" in str(found.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", cases_of("light"))
def test_light(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONNX_HOME", os.fspath(tmp_path))  # the runner makes folders there
    cases_of("light")[name]()
