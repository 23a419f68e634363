"""Instructions of our own code in calls of small graphs, counted by callgrind: a measure of speed
that noise cannot fool. `--update-golden` writes the counts; more of them need a reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from graphc.backend import llvm_cpu
from tests.performance import counted

EXPECTED = Path(__file__).with_name("instruction_counts.json")
TOLERANCE = 0.03

pytestmark = [
    pytest.mark.skipif(
        sys.platform != "linux" or os.uname().machine != "x86_64", reason="x86 Linux"
    ),
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed"),
]


def own_instructions(dump: str) -> tuple[str, int]:
    """The name of a dump, and how many instructions ran in code without a file: ours."""
    (name,) = re.findall(r"^desc: Trigger: Client Request: (.*)$", dump, re.MULTILINE)
    names: dict[str, str] = {}
    ours, total, inclusive = False, 0, False
    for line in dump.splitlines():
        found = re.match(r"ob=\((\d+)\)(?: (.*))?$", line)
        if found:
            ours = names.setdefault(found[1], found[2] or "") == "???"
        called = re.match(r"cob=\((\d+)\) (.*)$", line)
        if called:
            names[called[1]] = called[2]
        if ours and not inclusive and re.match(r"[+\-*\d]\d* \d+$", line):
            total += int(line.split()[1])
        inclusive = line.startswith("calls=")  # the next line is the cost of what is called
    return name, total


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Instructions of one call, by the name of the graph."""
    folder = tmp_path_factory.mktemp("callgrind")
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
    command += [f"--callgrind-out-file={folder / 'out'}", sys.executable, counted.__file__]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    dumps = [own_instructions(path.read_text()) for path in sorted(folder.glob("out.*"))]
    return {name: total / counted.CALLS for name, total in dumps}


def test_counts_have_not_grown(counts: dict[str, float], request: pytest.FixtureRequest) -> None:
    version = llvm_cpu.driver().llvm_version()
    if request.config.getoption("--update-golden"):
        found = {"llvm": version, "instructions": {k: round(v) for k, v in counts.items()}}
        EXPECTED.write_text(json.dumps(found, indent=2) + "\n")
    expected = json.loads(EXPECTED.read_text())
    if expected["llvm"] != version:
        pytest.skip(f"the counts are those of LLVM {expected['llvm']}, this is {version}")
    assert set(counts) == set(expected["instructions"])
    for name, limit in expected["instructions"].items():
        assert counts[name] <= limit * (1 + TOLERANCE), f"{name}: {counts[name]:.0f} > {limit}"
        # As many fewer are to be written down, or the next change may give them away again.
        assert counts[name] >= limit * (1 - 3 * TOLERANCE), f"{name}: {counts[name]:.0f} < {limit}"
