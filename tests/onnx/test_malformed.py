"""Malformed and hostile ONNX files: each is a FormatError that names the place, quickly."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import graphc
from tests.onnx.malformed import CASES, COSTLY

SECONDS = 5.0  # of processor time for one file; most take a millisecond
MEMORY = 2 << 30  # bytes of address space in which all files are read

READ_ALL = """
import graphc, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        graphc.onnx.load(path)
    except (graphc.FormatError, graphc.UnsupportedError):
        print(path.name)
"""


def test_there_are_enough() -> None:
    assert len(CASES) + len(COSTLY) >= 150


def refused(error: type[graphc.GraphcError], data: bytes, says: str, folder: Path) -> None:
    """A file with these bytes is refused soon, in words that name no folder of this machine."""
    (folder / "model.onnx").write_bytes(data)
    gc.freeze()  # what other tests left alive is not walked again and again
    try:
        begin = time.thread_time()
        with pytest.raises(error) as found:
            graphc.onnx.load(folder / "model.onnx")
        assert time.thread_time() - begin < SECONDS
    finally:
        gc.unfreeze()
    assert says in str(found.value), str(found.value)
    assert str(folder) not in str(found.value)


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, tmp_path: Path) -> None:
    refused(graphc.FormatError, *CASES[name], tmp_path)


@pytest.mark.parametrize("name", COSTLY)
def test_costly(name: str, tmp_path: Path) -> None:
    refused(graphc.UnsupportedError, *COSTLY[name], tmp_path)


def test_in_little_memory(tmp_path: Path) -> None:
    """All of them in one process whose address space is bounded."""
    cases = [*CASES.values(), *COSTLY.values()]
    for k, (data, _) in enumerate(cases):
        (tmp_path / f"{k:03}.onnx").write_bytes(data)
    limit = f'ulimit -v {MEMORY >> 10}; exec {sys.executable} -c "$1" {tmp_path}'
    done = subprocess.run(
        ["bash", "-c", limit, "bash", READ_ALL],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.split()) == len(cases)
