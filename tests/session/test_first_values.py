"""First values of variables: copied, and hashed only when somebody asks for the digest."""

from __future__ import annotations

import numpy as np

import graphc
from graphc.base.dtypes import float32
from graphc.ir.constant import by_digest, constant_value, digest_of, filled
from graphc.ir.parse import parse
from graphc.ops.state import array_constant


def test_a_large_first_value_is_hashed_late() -> None:
    values = np.arange(5000, dtype=np.float32)
    first = graphc.variable(values).attr("value")
    expected = digest_of(values, float32)
    assert by_digest(expected) is None, "nobody asked yet"
    assert first.digest == expected
    assert by_digest(expected) is first, "a text that names the digest finds it"
    assert constant_value(values, float32) is first


def test_a_digest_that_is_known_already() -> None:
    values = np.arange(6000, dtype=np.float32)
    interned = constant_value(values, float32)
    late = array_constant(values, interned=False)
    assert late is not interned and late.digest == interned.digest
    assert by_digest(late.digest) is interned
    assert late.check() is interned


def test_the_array_of_the_user_may_change() -> None:
    values = np.ones(5000, np.float32)
    v = graphc.variable(values)
    values[:] = 2
    with graphc.Session() as session:
        assert (session.value(v) == 1).all()
    assert not v.attr("value").stored.flags.writeable


def test_small_first_values_are_interned() -> None:
    a, b = (graphc.variable(np.zeros(5, np.float32)).attr("value") for _ in range(2))
    assert a is b


def test_filled() -> None:
    for number in (0.0, -0.0, 1.5):
        for shape in ((), (0, 3), (7,), (30, 70)):
            made = filled(shape, float32, number)
            assert made.shape == shape and not made.stored.flags.writeable
            assert made.digest == constant_value(np.full(shape, number, np.float32), float32).digest
            assert not made.size or made.stored.__array_interface__["data"][0] % 64 == 0


def test_the_text_of_a_training_step_round_trips() -> None:
    v = graphc.variable(np.arange(4000, dtype=np.float32), name="w")
    graph = graphc.Graph([], [graphc.sum(v)], updates={v: v * 0.5})
    assert parse(str(graph)) == graph
