"""`check_numerics`: the first NaN or infinity raises, names its origin, leaves the state alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.runtime import diagnosis

THREE = np.array([1, 2, 3], np.float32)


@pytest.fixture
def checked() -> Iterator[graphc.Session]:
    with graphc.Session(check_numerics=True) as session:
        yield session


def line_of(mark: str) -> str:
    with open(__file__) as file:
        number = next(
            k for k, text in enumerate(file, 1) if f"# {mark}" in text and "line_of" not in text
        )
    return f"test_numerics.py:{number}"


def raised(call: Callable[[], Any]) -> str:
    with pytest.raises(graphc.NumericsError) as caught:
        call()
    assert "hint" in str(caught.value)
    return str(caught.value)


def test_the_origin_is_named(checked: graphc.Session) -> None:
    x = graphc.placeholder((3,), name="x")
    shifted = x - 2
    logs = graphc.log(shifted).named("logs")  # the logarithm
    y = graphc.sum(graphc.tanh(logs) * 2 + 1)
    f = checked.function([x], y)
    assert np.isfinite(f(np.float32([3, 4, 5])))
    text = raised(lambda: f(THREE))
    assert "log" in text and "'logs'" in text and line_of("the logarithm") in text
    assert "1 nan, 1 inf of 3 elements" in text and "first nan at [0]" in text
    assert "from -1.0 to 1.0" in text  # the range of what went in
    text = raised(lambda: checked.run(y, {x: THREE}))
    assert line_of("the logarithm") in text


def test_an_overflow_is_an_infinity(checked: graphc.Session) -> None:
    x = graphc.placeholder((3,), name="x")
    y = graphc.exp(x * 50)  # the exponential
    text = raised(lambda: checked.run([y], {x: THREE}))
    assert "inf" in text and "nan" not in text and line_of("the exponential") in text


def test_state_is_untouched(checked: graphc.Session) -> None:
    x = graphc.placeholder((3,), name="x")
    w = graphc.variable(np.zeros(3, np.float32), name="w")
    count = graphc.variable(np.int64(0), name="count")
    step = checked.function([x], graphc.sum(x), updates={w: w + graphc.sqrt(x), count: count + 1})
    step(THREE)
    for _ in range(2):
        text = raised(lambda: step(THREE - 2))
        assert "sqrt" in text
        assert checked.value(count) == 1
        np.testing.assert_array_equal(checked.value(w), np.sqrt(THREE))
    step(THREE)
    assert checked.value(count) == 2
    np.testing.assert_array_equal(checked.value(w), np.sqrt(THREE) * 2)


def test_what_was_bad_before_the_call_is_said(checked: graphc.Session) -> None:
    x = graphc.placeholder((3,), name="x")
    w = graphc.variable(np.float32([1, np.nan, 3]), name="w")  # the bad variable
    text = raised(lambda: checked.run(x * 2, {x: np.float32([0, np.inf, 0])}))
    assert "the feed 'x'" in text and "1 inf" in text
    text = raised(lambda: checked.run(x * w, {x: THREE}))
    assert "the variable 'w'" in text and line_of("the bad variable") in text


def test_out_is_checked_too(checked: graphc.Session) -> None:
    x = graphc.placeholder((3,), name="x")
    f = checked.function([x], graphc.sqrt(x))
    out = np.empty(3, np.float32)
    assert f(THREE, out=out) is out
    raised(lambda: f(-THREE, out=out))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_float_dtype(checked: graphc.Session, dtype: str) -> None:
    x = graphc.placeholder((3,), dtype, name="x")
    f = checked.function([x], 1 / x)
    assert f([1.0, 2.0, 4.0]).astype(np.float64).tolist() == [1, 0.5, 0.25]
    assert "1 inf" in raised(lambda: f([1.0, 0.0, 4.0]))


def test_integers_and_large_sums_are_no_alarm(checked: graphc.Session) -> None:
    big = np.full(100, 3e38, np.float32)  # their sum is infinite, they are not
    x = graphc.placeholder((100,), name="x")
    assert (checked.run(-x, {x: big}) == -big).all()
    k = graphc.placeholder((2,), "int64", name="k")
    assert checked.run(k + 1, {k: [-1, 2**62]}).tolist() == [0, 2**62 + 1]


def test_infinite_constants_are_meant(checked: graphc.Session) -> None:
    x = graphc.placeholder((3,), name="x")
    masked = graphc.where(x > 1.5, x, np.float32(-np.inf))
    expected = np.float32([0, 1 / (1 + np.e), np.e / (1 + np.e)])
    np.testing.assert_allclose(checked.run(graphc.nn.softmax(masked), {x: THREE}), expected, 1e-6)


def test_without_the_option_nothing_is_checked(session: graphc.Session) -> None:
    x = graphc.placeholder((3,), name="x")
    assert np.isnan(session.run(graphc.log(x), {x: -THREE})).all()


def test_a_bad_value_in_a_deep_graph_is_found(checked: graphc.Session) -> None:
    x = graphc.placeholder((3,), name="x")
    y = x
    for k in range(1500):
        y = graphc.sin(y) if k != 700 else graphc.sqrt(y - 5)  # the planted root
    text = raised(lambda: checked.run(y, {x: THREE}))
    assert "sqrt" in text and line_of("the planted root") in text and "3 nan" in text


def test_bad_values_can_be_looked_at(checked: graphc.Session) -> None:
    x = graphc.placeholder((3,), name="x")
    y = graphc.sum(graphc.log(x - 1).named("logs"))
    f = checked.function([x], y)
    raised(lambda: f(THREE))
    assert f.fetch("logs", THREE)["logs"].tolist() == [-np.inf, 0.0, np.log(np.float32(2))]


def test_symbolic_sizes(checked: graphc.Session) -> None:
    x = graphc.placeholder(("n", "m"), name="x")
    f = checked.function([x], graphc.mean(graphc.log(x), axis=0))
    a = np.ones((5, 7), np.float32)
    f(a)
    a[3, 4] = -1
    text = raised(lambda: f(a))
    assert "1 nan of 35 elements, the first nan at [3, 4]" in text


# -- the parts -----------------------------------------------------------------


def test_any_bad_against_isfinite() -> None:
    rng = np.random.default_rng(0)
    for name in ("float16", "float32", "float64"):
        for bad in (None, np.nan, np.inf, -np.inf):
            for shape in ((), (1,), (1000,), (3, 0), (7, 5)):
                a = np.asarray(rng.normal(size=shape)).astype(name)
                if bad is not None and a.size:
                    a.reshape(-1)[rng.integers(a.size)] = bad
                expected = not np.isfinite(a).all()
                assert diagnosis.any_bad([(a, dtype(name))]) is expected


def dtype(name: str) -> Any:
    return graphc.placeholder((), name).dtype


def test_any_bad_of_bfloat16_looks_at_the_bits() -> None:
    bfloat16 = dtype("bfloat16")
    for bits, bad in (
        (0x7F80, True),
        (0xFF80, True),
        (0x7FC0, True),
        (0x7F7F, False),
        (0x8000, False),
    ):
        assert diagnosis.any_bad([(np.array([0, bits], np.uint16), bfloat16)]) is bad


def test_descriptions() -> None:
    a = np.zeros((2, 3))
    assert diagnosis.describe_bad(a) == "" and diagnosis.describe_bad(np.array([1])) == ""
    a[1, 2] = np.inf
    assert diagnosis.describe_bad(a) == "1 inf of 6 elements, the first inf at [1, 2]"
    a[0, 1] = np.nan
    assert diagnosis.describe_bad(a) == "1 nan, 1 inf of 6 elements, the first nan at [0, 1]"
    assert diagnosis.describe_bad(np.array(np.nan)) == "1 nan of 1 element"


def test_the_origin_is_followed_from_the_suspect() -> None:
    x = graphc.placeholder((2,), "float64", name="x")
    unrelated = graphc.log(x).named("unrelated")
    root = graphc.sqrt(x - 1).named("root")
    y, harmless = root * 2, graphc.where(graphc.isnan(unrelated), 0.0, unrelated)
    graph = graphc.Graph([x], {"harmless": harmless, "y": y})
    values = {id(x): np.array([-1.0, 1.0])}
    found = diagnosis.find_origin(graph, values, {}, [harmless, y])
    assert found is not None and found.node is root
    assert diagnosis.find_origin(graph, values, {}, [harmless]) is None
    assert "'root'" in str(diagnosis.numerics_error(graph, found))
