"""Malformed files: each is refused with a FormatError that names what is wrong, and quickly."""

from __future__ import annotations

import time
import tracemalloc

import pytest

import graphc
from graphc.artifact.load import load_bytes
from graphc.base.limits import Limits
from tests.artifact.forge import golden
from tests.artifact.malformed import cases
from tests.artifact.models import GOLDEN, MODELS
from tests.conftest import Golden

SECONDS = 2.0
PEAK_BYTES = 64 << 20


def outcome(data: bytes) -> str:
    """The first line of the refusal."""
    try:
        graph = load_bytes(memoryview(data), check=None, limits=Limits())
    except graphc.FormatError as error:
        text = str(error)
        assert "hint: " in text, text
        return text.splitlines()[0]
    return f"accepted: {graph!r}"


def test_every_malformed_file_is_refused_as_the_list_says(golden: Golden) -> None:
    found = {name: outcome(data) for name, data in cases().items()}
    assert len(found) >= 200
    accepted = [name for name, text in found.items() if text.startswith("accepted")]
    assert not accepted, f"not refused: {accepted}"
    listing = "".join(f"{name}\n    {text}\n" for name, text in found.items())
    golden.check(GOLDEN / "malformed.txt", listing)


def test_refusals_are_quick_and_small() -> None:
    """Twice the file and 64 MB at most, 2 s at most."""
    for name, data in cases().items():
        tracemalloc.start()
        begin = time.process_time()
        outcome(data)
        seconds = time.process_time() - begin
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert seconds < SECONDS, f"{name}: {seconds:.1f} s"
        assert peak < 2 * len(data) + PEAK_BYTES, f"{name}: {peak} bytes"


@pytest.mark.parametrize("name", MODELS)
def test_the_forge_changes_nothing_by_itself(name: str) -> None:
    assert outcome(golden(name)).startswith("accepted")
