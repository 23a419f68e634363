"""`session.run`: fetches of any structure, feeds by tensor, by name and inside a graph."""

from __future__ import annotations

import gc
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest

import graphc

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class Pair(NamedTuple):
    first: object
    second: object


def inputs() -> tuple[graphc.Tensor, graphc.Tensor]:
    return graphc.placeholder(("n", 3), name="x"), graphc.placeholder(("n",), name="t")


def test_the_result_has_the_structure_of_the_fetches(session: graphc.Session) -> None:
    x, _ = inputs()
    y, z = x + 1, x * 2
    for fetches in (y, [y], (y, z), {"a": y, "b": [z, (y,)]}, OrderedDict(b=y, a=z), [], {}, None):
        result = session.run(fetches, {x: X})
        assert_same(result, fetches, {id(y): X + 1, id(z): X * 2})
    pair = session.run(Pair(y, {"z": z}), {x: X})
    assert type(pair) is Pair
    np.testing.assert_array_equal(pair.first, X + 1)
    np.testing.assert_array_equal(pair.second["z"], X * 2)


def assert_same(result: object, fetches: object, expected: dict[int, np.ndarray]) -> None:
    if isinstance(fetches, graphc.Tensor):
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, expected[id(fetches)])
    elif isinstance(fetches, dict):
        assert isinstance(result, dict) and list(result) == list(fetches)
        for key, item in fetches.items():
            assert_same(result[key], item, expected)
    elif fetches is None:
        assert result is None
    else:
        assert isinstance(fetches, list | tuple) and type(result) is type(fetches)
        assert len(result) == len(fetches)
        for part, item in zip(result, fetches):
            assert_same(part, item, expected)


def test_a_0d_result_is_an_array(session: graphc.Session) -> None:
    result = session.run(graphc.sum(graphc.constant([1.0, 2.0])))
    assert type(result) is np.ndarray and result.shape == () and result == 3.0
    assert f"{result:.2f}" == "3.00"


def test_feeds_by_name_and_by_tensor(session: graphc.Session) -> None:
    x, t = inputs()
    y = x + t[:, None]
    t_value = np.array([10, 20], np.float32)
    expected = X + t_value[:, None]
    for feeds in ({x: X, t: t_value}, {"t": t_value, x: X}, {"x": X, "t": t_value}):
        np.testing.assert_array_equal(session.run(y, feeds), expected)


def test_placeholders_that_are_not_needed_may_be_fed(session: graphc.Session) -> None:
    x, t = inputs()
    np.testing.assert_array_equal(session.run(x + 1, {x: X, t: X[:, 0]}), X + 1)
    with pytest.raises(graphc.ShapeError):  # but they are checked
        session.run(x + 1, {x: X, t: X[:1, 0]})


def test_fetched_inputs_variables_and_constants(session: graphc.Session) -> None:
    x, _ = inputs()
    w = graphc.variable(np.float64([1, 2]), name="w")
    c = graphc.constant(np.int16([7]))
    got = session.run([x, w, c, w], {x: X})
    for a, b in zip(got, [X, [1, 2], [7], [1, 2]]):
        np.testing.assert_array_equal(a, b)
    got[1][:] = 0  # a copy: the state is not reachable through it
    np.testing.assert_array_equal(session.value(w), [1, 2])


def test_intermediate_tensors_are_fed(session: graphc.Session) -> None:
    x, _ = inputs()
    hidden = graphc.exp(x).named("run/hidden")
    y = (graphc.sum(hidden, axis=1) * 2).named("run/y")
    z = y + graphc.sum(x)
    fed = np.ones((4, 3), np.float32)
    for feeds in ({hidden: fed}, {"run/hidden": fed}):
        np.testing.assert_array_equal(session.run(y, feeds), [6, 6, 6, 6])
    # x is still needed by another way
    with pytest.raises(graphc.GraphError, match=r"no feed for 'x'"):
        session.run(z, {hidden: fed})
    np.testing.assert_allclose(session.run(z, {hidden: fed[:2], x: X}), [21, 21])
    # the fed tensor itself, and two of which one needs the other
    np.testing.assert_array_equal(session.run([hidden, y], {hidden: fed, y: fed[:, 0]})[1], [1] * 4)
    with pytest.raises(graphc.GraphError, match=r"the fetches do not need"):
        session.run(x + 1, {x: X, hidden: fed})


def test_a_fed_intermediate_may_have_a_computed_size(session: graphc.Session) -> None:
    x, _ = inputs()
    both = graphc.concat([x, x])  # 2 * n rows
    assert str(both.shape[0]) == "2*n"
    np.testing.assert_array_equal(session.run(both + 1, {both: np.zeros((4, 3), np.float32)}), 1.0)
    with pytest.raises(graphc.ShapeError, match=r"2\*n"):
        session.run(both + 1, {both: np.zeros((3, 3), np.float32)})


def test_a_variable_may_be_fed_for_one_run(session: graphc.Session) -> None:
    w = graphc.variable(np.zeros(3, np.float32), name="w")
    np.testing.assert_array_equal(session.run(w + 1, {w: np.ones(3, np.float32)}), [2, 2, 2])
    np.testing.assert_array_equal(session.run(w + 1, {}), [1, 1, 1])


def test_feeding_does_not_change_the_graph(session: graphc.Session) -> None:
    x, _ = inputs()
    y = graphc.sum((x * 2).named("twice"))
    before = str(graphc.Graph([x], y))
    session.run(y, {"twice": np.ones((2, 3), np.float32)})
    assert str(graphc.Graph([x], y)) == before
    assert session.run(y, {x: X}) == 30


def test_errors_name_what_is_wrong(session: graphc.Session) -> None:
    x, _ = inputs()
    y = x + 1
    cases: list[tuple[object, str]] = [
        ({}, r"no feed for 'x'[\s\S]*f32\[n, 3\]"),
        ({"y": X}, r"'y'"),
        ({1: X}, r"int"),
        ([X], r"dict"),
        ({x: X, "x": X}, r"twice"),
        ({x: y}, r"x: expected"),
    ]
    for feeds, pattern in cases:
        with pytest.raises(graphc.GraphcError, match=pattern) as caught:
            session.run(y, feeds)
        assert "test_run.py" in str(caught.value)
    with pytest.raises(graphc.GraphError, match="str"):
        session.run([y, "y"], {x: X})


def test_a_fetch_is_compiled_once(uncached: graphc.Session) -> None:
    x, _ = inputs()
    y = x * 3
    for n in range(1, 20):
        uncached.run([y, y + 1], {x: np.ones((n, 3), np.float32)})
    assert uncached.compilations == 1
    uncached.run((y, y + 1), {x: X})  # another structure
    uncached.run([y, y + 1], {"x": X})  # the same feeds, by name
    assert uncached.compilations == 2


def test_runs_of_new_graphs_do_not_pile_up(session: graphc.Session) -> None:
    gc.collect()
    x, _ = inputs()
    for k in range(300):
        assert session.run(x[0, 0] + float(k), {x: X}) == k
    assert len(session._runs) <= 256


def test_eval() -> None:
    x, _ = inputs()
    w = graphc.variable(np.float32(2.0), name="w")
    assert (graphc.sum(x) * w).eval({x: X}) == 30
    assert (graphc.sum(x) * w).eval({"x": X}) == 30
    assert (w + 1).eval() == 3
    with pytest.raises(graphc.GraphError, match="no feed for 'x'"):
        (x + 1).eval()


def test_sessions_have_separate_states() -> None:
    w = graphc.variable(np.zeros(2), name="w")
    with graphc.Session() as one, graphc.Session() as two:
        one.assign(w, [1.0, 2.0])
        assert one.run(w).tolist() == [1, 2] and two.run(w).tolist() == [0, 0]


def test_a_closed_session_refuses() -> None:
    x, _ = inputs()
    w = graphc.variable(np.zeros(2), name="w")
    with graphc.Session() as session:
        function = session.function([x], x + 1)
        session.run(x + 1, {x: X})
    for use in (
        lambda: session.run(x + 1, {x: X}),
        lambda: function(X),
        lambda: function.fetch("x", X),
        lambda: function.profile(X),
        lambda: session.function([x], x),
        lambda: session.value(w),
        lambda: session.assign(w, [1.0, 1.0]),
        lambda: session.save("never"),
        lambda: session.restore("never"),
        session.__enter__,
    ):
        with pytest.raises(graphc.GraphError, match="closed"):
            use()
    session.close()  # twice is fine


def test_options_are_checked() -> None:
    with pytest.raises(graphc.GraphError, match=r"check_nan[\s\S]*check_numerics"):
        graphc.Session(check_nan=True)
    with pytest.raises(graphc.GraphError, match="'exact', 'standard', 'fast'"):
        graphc.Session(numerics="quick")
    with pytest.raises(graphc.GraphError, match="True or False"):
        graphc.Session(check_numerics="yes")
    for threads in (0, -1, True, 1.5, "2"):
        with pytest.raises(graphc.GraphError, match="threads"):
            graphc.Session(threads=threads)
    with pytest.raises(graphc.DeviceError, match="CUDA runtime"):
        graphc.Session(device="cuda")
    with pytest.raises(graphc.DeviceError, match="abacus"):
        graphc.Session("abacus")
    assert graphc.Session(threads=1).threads == 1


@pytest.mark.parametrize("options", [{"optimize": False}, {"fuse": False}, {"numerics": "exact"}])
def test_options_reach_the_compiler(options: dict[str, object]) -> None:
    x, _ = inputs()
    y = graphc.nn.softmax(x * 2 + 1)
    expected = graphc.Graph([x], {"y": y}).evaluate({x: X})["y"]
    with graphc.Session(**options) as session:
        np.testing.assert_allclose(session.run(y, {x: X}), expected, rtol=1e-6)
