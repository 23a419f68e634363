"""A thousand calls of a layer compile nearly as quickly as ten: what each further call costs is
counted in calls of Python functions, which no noise changes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

import graphc

# Of Python functions and of functions in C, per call of the layer (with two weights of its own).
MOST_PYTHON = 145
MOST_NATIVE = 345


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
    x = y = graphc.placeholder(("n", 8), name="x")
    for _ in range(count):
        w, b = graphc.variable(np.eye(8, dtype="f4")), graphc.variable(np.zeros(8, "f4"))
        y = layer(y, w, b)
    with graphc.Session(cache_dir=cache_dir, threads=1) as session:
        return counted(lambda: session.function([x], y))


@pytest.mark.parametrize("cached", [False, True])
def test_each_further_call_of_a_layer_costs_little(tmp_path: Any, cached: bool) -> None:
    folder = str(tmp_path) if cached else ""
    compiled(50, folder)  # imports and tables
    few, many = compiled(100, folder), compiled(300, folder)
    python, native = ((many[kind] - few[kind]) / 200 for kind in ("call", "c_call"))
    print(f"per call of the layer: {python:.1f} Python calls, {native:.1f} native ones")
    assert python < MOST_PYTHON
    assert native < MOST_NATIVE


def test_calls_grow_no_faster_than_layers(tmp_path: Any) -> None:
    compiled(50, "")
    a, b, c = (sum(compiled(count, "").values()) for count in (100, 200, 400))
    assert c - b < 2.1 * (b - a)
