"""A call of a function goes straight into native code; what that does not take comes back to Python
with the same results and errors.
"""

from __future__ import annotations

import inspect
import sys
import types
import weakref
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.errors import ExecutionError, GraphError

X = np.arange(6, dtype=np.float32)


def function(outputs: Any, **options: Any) -> tuple[graphc.Session, graphc.Function]:
    x = graphc.placeholder(("n",), name="x")
    session = graphc.Session(threads=1, **options)
    return session, session.function([x], outputs(x))


@pytest.mark.skipif(sys.platform != "linux", reason="calls go through Python elsewhere")
def test_the_method_is_native() -> None:
    _, f = function(lambda x: x + 1)
    assert isinstance(type(f).__call__, types.MethodDescriptorType)
    assert "out" in inspect.signature(f).parameters
    np.testing.assert_array_equal(type(f).__call__(f, X), X + 1)
    with pytest.raises(TypeError):
        type(f).__call__(X)


def test_structures() -> None:
    for nest in (
        lambda x: (x + 1, x * 2),
        lambda x: (x + 1,),
        lambda x: [x + 1, x * 2],
        lambda x: {"a": x + 1, "b": (x * 2,)},
        lambda x: (x + 1, x + 1),
        lambda x: (x + 1, [x * 2]),
    ):
        _, f = function(nest)
        found, expected = f(X), nest(X)
        assert type(found) is type(expected)
        flat = leaves(found), leaves(expected)
        for a, b in zip(*flat, strict=True):
            np.testing.assert_array_equal(a, b)


def leaves(nest: Any) -> list[Any]:
    if isinstance(nest, dict):
        nest = list(nest.values())
    if isinstance(nest, list | tuple):
        return [leaf for item in nest for leaf in leaves(item)]
    return [nest]


def test_other_ways_to_give_arguments() -> None:
    _, f = function(lambda x: x + 1)
    out = np.empty_like(X)
    np.testing.assert_array_equal(f(x=X), X + 1)
    np.testing.assert_array_equal(f(list(X)), X + 1)
    np.testing.assert_array_equal(f(X[::2]), X[::2] + 1)
    assert f(X, out=out) is out
    assert f(x=X, out=out) is out
    np.testing.assert_array_equal(out, X + 1)
    both = np.arange(9, dtype=np.float32)
    assert f(both[:6], out=both[3:]).base is both  # overlapping: computed aside, then copied
    np.testing.assert_array_equal(both[3:], np.arange(6) + 1)
    with pytest.raises(GraphError, match="x"):
        f()
    with pytest.raises(GraphError):
        f(X, X)
    with pytest.raises(GraphError):
        f(X, y=X)


def test_errors_name_the_line() -> None:
    _, f = function(lambda x: graphc.take(x, graphc.astype(x, "int64") * 100))
    with pytest.raises(ExecutionError, match="take"):
        f(X)
    np.testing.assert_array_equal(f(np.zeros(3, np.float32)), np.zeros(3))


def test_a_closed_session_refuses() -> None:
    session, f = function(lambda x: x + 1)
    f(X)
    session.close()
    with pytest.raises(GraphError, match="closed"):
        f(X)


def test_a_function_dies_with_its_last_reference() -> None:
    session, f = function(lambda x: x + 1)
    f(X)
    session.close()
    seen = weakref.ref(f)
    del f
    assert seen() is None
