"""Memory of large results: theirs as long as anybody holds them, then the next result's."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import numpy as np
import pytest

import graphc
from graphc.runtime import output_memory as memory
from graphc.runtime.python_entry import output_memory

Function = Callable[[np.ndarray], np.ndarray]
COUNT = memory.LARGE // 4 + 1000

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="another system's memory is NumPy's"
)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.fixture(scope="module")
def function() -> Function:
    x = graphc.placeholder(("n",), name="x")
    return graphc.Session(threads=1).function([x], x + 1)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.arange(COUNT, dtype=np.float32)


@pytest.fixture
def kept(function: Function) -> memory.OutputMemory:
    found = output_memory()
    assert found is not None
    gc.collect()
    found.trim()
    return found


def test_a_dead_result_becomes_the_next(
    function: Function, x: np.ndarray, kept: memory.OutputMemory
) -> None:
    first = function(x)
    place = address(first)
    del first
    assert kept.held > 0
    again = function(x)
    assert address(again) == place
    assert kept.held == 0
    np.testing.assert_array_equal(again, x + 1)


def test_a_held_result_stays(function: Function, x: np.ndarray, kept: memory.OutputMemory) -> None:
    results = [function(x + k) for k in range(3)]
    part = results[0][7:]
    assert len({address(r) for r in results}) == 3
    for k, result in enumerate(results):
        np.testing.assert_array_equal(result, x + k + 1)
    place = address(results[0])
    del results, result
    other = function(x + 9)
    assert address(other) != place, "a view keeps the memory"
    np.testing.assert_array_equal(part, x[7:] + 1)


def test_other_sizes(function: Function, x: np.ndarray, kept: memory.OutputMemory) -> None:
    place = address(function(x))
    smaller = function(x[: COUNT // 2])
    assert address(smaller) != place
    larger = function(np.concatenate([x, x]))
    np.testing.assert_array_equal(larger[COUNT:], x + 1)
    assert kept.held > 0, "the first block fits neither"


def test_results_own_their_memory(
    function: Function, x: np.ndarray, kept: memory.OutputMemory
) -> None:
    result = function(x)
    assert result.flags.owndata
    assert address(result) % 64 == 0
    result.resize(3 * COUNT, refcheck=False)
    np.testing.assert_array_equal(result[:COUNT], x + 1)
    assert not result[COUNT:].any()
    result.resize(5, refcheck=False)
    np.testing.assert_array_equal(result, x[:5] + 1)
    copy = result.copy()
    del result
    np.testing.assert_array_equal(copy, x[:5] + 1)


def test_what_is_kept_is_bounded_and_given_back(
    function: Function, x: np.ndarray, kept: memory.OutputMemory
) -> None:
    results = [function(x) for _ in range(memory.KEPT_BLOCKS + 3)]
    del results
    assert 0 < kept.held <= memory.KEPT_BYTES
    one = kept.held // memory.KEPT_BLOCKS
    assert kept.held == one * memory.KEPT_BLOCKS
    graphc.Session(threads=1).close()
    assert kept.held == 0
