"""A thousand calls of a layer compile nearly as quickly as ten: what each further call costs is
counted in calls of functions, which no noise changes.

The counting is done in a process of its own, because what other tests left alive counts too (sizes
that graphs compute are looked for in every graph).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import graphc

# Of Python functions and of functions in C, per call of the layer (with two weights of its own).
MOST_PYTHON = {"": 57, "cached": 59}
MOST_NATIVE = {"": 172, "cached": 194}


@graphc.function
def layer(x: graphc.Tensor, w: graphc.Tensor, b: graphc.Tensor) -> graphc.Tensor:
    return graphc.nn.relu(x @ w + b)


def counted(run: Callable[[], object]) -> dict[str, int]:
    """How often functions are called while `run` runs: by kind of event."""
    counts = {"call": 0, "c_call": 0}

    def count(frame: FrameType, event: str, argument: Any) -> None:
        if event in counts:
            counts[event] += 1

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return counts


def compiled(count: int, cache_dir: str) -> dict[str, int]:
    """The calls while a function of `count` layers is compiled."""
    x = y = graphc.placeholder(("n", 8), name="x")
    for _ in range(count):
        w, b = graphc.variable(np.eye(8, dtype="f4")), graphc.variable(np.zeros(8, "f4"))
        y = layer(y, w, b)
    with graphc.Session(cache_dir=cache_dir, threads=1) as session:
        return counted(lambda: session.function([x], y))


def main() -> None:
    """Print the counts of some numbers of layers, without and with a cache folder."""
    found: dict[str, dict[int, dict[str, int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, cache_dir in (("", ""), ("cached", folder)):
            compiled(50, cache_dir)  # imports and tables
            found[kind] = {count: compiled(count, cache_dir) for count in (100, 200, 400)}
    print(json.dumps(found))


@cache
def counts() -> dict[str, dict[str, dict[str, int]]]:
    """What `main` prints in a process of its own."""
    command = [sys.executable, "-m", "tests.performance.test_layers"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=300)
    assert done.returncode == 0, done.stderr
    result: dict[str, dict[str, dict[str, int]]] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("kind", ["", "cached"])
def test_each_further_call_of_a_layer_costs_little(kind: str) -> None:
    few, many = counts()[kind]["100"], counts()[kind]["200"]
    python, native = ((many[event] - few[event]) / 100 for event in ("call", "c_call"))
    print(f"per call of the layer: {python:.1f} Python calls, {native:.1f} native ones")
    assert python < MOST_PYTHON[kind]
    assert native < MOST_NATIVE[kind]


def test_calls_grow_no_faster_than_layers() -> None:
    a, b, c = (sum(counts()[""][count].values()) for count in ("100", "200", "400"))
    assert c - b < 2.1 * (b - a)


if __name__ == "__main__":
    main()
