"""Results larger than the caches are written past them, to the same bits as any other."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc.backend.streaming import known_factor
from graphc.base.dtypes import int64
from graphc.loops.build import iadd, imul
from graphc.loops.nodes import const, op, var
from graphc.schedule.policy_cpu import STREAMED_BYTES
from tests.backend.running import HOST

ROWS, COLUMNS = STREAMED_BYTES // 4 // 1024, 1024
pytestmark = pytest.mark.skipif(
    not HOST.has_streaming, reason="only code for x86-64 has stores past the caches"
)


def session() -> graphc.Session:
    return graphc.Session(threads=2, cache_dir="")


def text_of(*outputs: graphc.Tensor, x: graphc.Tensor) -> str:
    return session().function([x], list(outputs)).explain("llvm")


def test_whole_lines_of_large_results_only() -> None:
    x = graphc.placeholder((ROWS, COLUMNS), name="x")
    assert "!nontemporal" in text_of(x + 1.0, x=x)
    assert "!nontemporal" in text_of(graphc.softmax(x), x=x)
    assert "!nontemporal" not in text_of(x[1:] + 1.0, x=x)
    # Rows of 1023 begin anywhere in a line.
    odd = graphc.placeholder((ROWS * 2, COLUMNS - 1), name="x")
    assert "!nontemporal" not in text_of(graphc.softmax(odd), x=odd)


def test_what_is_read_again_stays_in_the_caches() -> None:
    x = graphc.placeholder((ROWS, COLUMNS), name="x")
    shown = graphc.softmax(x)
    assert "!nontemporal" not in text_of(shown, graphc.sum(shown * shown, axis=0), x=x)


def test_bits_do_not_depend_on_where_a_result_begins() -> None:
    x = graphc.placeholder((ROWS, COLUMNS), name="x")
    f = session().function([x], graphc.softmax(x) + x)
    assert "!nontemporal" in f.explain("llvm")
    rng = np.random.default_rng(3)
    data = rng.standard_normal((ROWS, COLUMNS), dtype=np.float32)
    expected = np.concatenate([
        session().function([p], graphc.softmax(p) + p)(half)
        for half in np.split(data, 2)
        for p in [graphc.placeholder(half.shape, name="x")]
    ])  # fmt: skip
    np.testing.assert_array_equal(f(data), expected)
    room = np.full(data.size + 64, 7, np.float32)
    first = -room.ctypes.data % 64 // 4
    for start in (first, first + 1, first + 15):
        place = room[start : start + data.size].reshape(data.shape)
        room[:] = 7
        f(data, out=place)
        np.testing.assert_array_equal(place, expected)
        assert (room[:start] == 7).all() and (room[start + data.size :] == 7).all()


def test_factors_of_indices() -> None:
    i, j = var("i"), var("j")
    assert known_factor(const(0)) == 0
    assert known_factor(iadd(imul(i, const(48)), imul(j, const(32)))) == 16
    assert known_factor(imul(imul(i, const(6)), imul(j, const(4)))) == 24
    assert known_factor(op("minimum", imul(i, const(8)), const(20), dtype=int64)) == 4
    assert known_factor(i) == 1
    assert known_factor(op("floordiv", imul(i, const(64)), const(3), dtype=int64)) == 1
