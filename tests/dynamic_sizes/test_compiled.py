"""Sizes that the graph computes, compiled: every result against the reference meaning, memory that
grows with what is found, errors that name the line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc
from tests.threads import at_once

RANDOM = np.random.default_rng(7)
MODES = ("exact", "standard", "fast")


def agree(function: Any, **feeds: Any) -> dict[str, Any]:
    """The results of a call, held against the reference meaning of the declared graph."""
    found: dict[str, Any] = function(**feeds)
    expected = function.graph.evaluate(feeds)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        assert found[name].dtype == value.dtype, name
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-5, err_msg=name)
    return found


def selection() -> tuple[graphc.Tensor, dict[str, graphc.Tensor]]:
    """A graph with two dependent phases, outputs of computed and of known sizes."""
    x = graphc.placeholder(("n", 3), name="x")
    kept = x[x[:, 0] > 0]
    scaled = graphc.exp(kept - graphc.max(kept, axis=1, keepdims=True))
    small = scaled[scaled < graphc.mean(scaled)]
    return x, {
        "kept": kept,
        "scaled": scaled,
        "small": small,
        "total": graphc.sum(small),
        "rows": graphc.nonzero(x)[0],
        "product": kept.T @ kept,
        "gram": kept @ kept.T,
        "size": graphc.asarray(small.shape[0]),
        "same": x + 1,
    }


@pytest.mark.parametrize("numerics", MODES)
@pytest.mark.parametrize("fuse", [True, False])
def test_selection_for_sizes_up_and_down(numerics: str, fuse: bool) -> None:
    x, outputs = selection()
    with graphc.Session(numerics=numerics, fuse=fuse, threads=2) as session:
        function = session.function([x], outputs)
        for n in (5, 0, 300, 1, 40, 2000, 3):
            agree(function, x=RANDOM.normal(size=(n, 3)).astype(np.float32))
        nothing = -np.ones((4, 3), np.float32)
        assert agree(function, x=nothing)["kept"].shape == (0, 3)
        everything = RANDOM.uniform(0.1, 1, size=(64, 3)).astype(np.float32)
        assert agree(function, x=everything)["kept"].shape == (64, 3)


def test_unique_and_friends_compiled() -> None:
    x = graphc.placeholder((None,), "int64", name="x")
    outputs = dict(graphc.unique_all(x)._asdict())
    outputs["even"] = graphc.compress(x % 2 == 0, x)
    outputs["where"] = graphc.argwhere(x > 2)
    with graphc.Session() as session:
        function = session.function([x], outputs)
        for n in (0, 1, 9, 1000):
            values = RANDOM.integers(0, 20, n)
            found = agree(function, x=values)
            np.testing.assert_array_equal(found["values"], np.unique(values))


def test_a_single_output_and_positional_results() -> None:
    x = graphc.placeholder(("n",), name="x")
    values = np.array([1, -2, 3], np.float32)
    with graphc.Session() as session:
        one = session.function([x], x[x > 0])
        np.testing.assert_array_equal(one(values), [1, 3])
        pair = session.function([x], (x[x > 0], graphc.sum(x)))
        kept, total = pair(values)
        np.testing.assert_array_equal(kept, [1, 3])
        assert total == 2
        first = one(values)
        one(-values)
        np.testing.assert_array_equal(first, [1, 3])  # results are the caller's own
        np.testing.assert_array_equal(session.run(x[x < 0], {x: values}), [-2])
    np.testing.assert_array_equal(x[x > 2].eval({x: values}), [3])


def test_slices_and_ranges_compiled() -> None:
    x = graphc.placeholder(("n",), "float64", name="x")
    a = graphc.placeholder((), "int64", name="a")
    b = graphc.placeholder((), "int64", name="b")
    outputs = {"part": x[a:b], "back": x[b:a:-1], "even": x[::2][a:], "sum": graphc.sum(x[a:b])}
    with graphc.Session() as session:
        function = session.function([x, a, b], outputs)
        for n, start, stop in ((10, 2, 5), (10, -3, 99), (0, 0, 0), (7, 6, 1), (1000, 1, -1)):
            agree(function, x=RANDOM.normal(size=n), a=np.int64(start), b=np.int64(stop))


def test_gradients_through_masks() -> None:
    x = graphc.placeholder(("n",), "float64", name="x")
    kept = x[x > 0]
    cost = graphc.sum(kept**3) + graphc.sum(graphc.exp(x[:3]))
    (gradient,) = graphc.grad(cost, [x])
    (second,) = graphc.grad(graphc.sum(gradient * gradient), [x])
    with graphc.Session() as session:
        function = session.function([x], {"cost": cost, "g": gradient, "h": second})
        for n in (3, 8, 100):
            values = RANDOM.normal(size=n)
            found = agree(function, x=values)
            expected = np.where(values > 0, 3 * values**2, 0)
            expected[:3] += np.exp(values[:3])
            np.testing.assert_allclose(found["g"], expected, rtol=1e-12)


def test_updates_commit_with_computed_sizes_inside() -> None:
    x = graphc.placeholder(("n",), "float64", name="x")
    w = graphc.variable(np.ones(2), name="w")
    kept = x[x > w[0]]
    with graphc.Session() as session:
        step = session.function([x], kept, updates={w: w + graphc.sum(kept)})
        np.testing.assert_array_equal(step(np.array([0.5, 2.0, 3.0])), [2, 3])
        np.testing.assert_array_equal(session.value(w), [6, 6])
        np.testing.assert_array_equal(step(np.array([0.5, 7.0])), [7])
        np.testing.assert_array_equal(session.value(w), [13, 13])


def test_memory_grows_with_what_is_found_and_is_kept() -> None:
    x = graphc.placeholder(("n",), "float64", name="x")
    kept = x[x > 0]
    table = graphc.sort(kept)[:, None] * kept
    with graphc.Session(threads=1) as session:
        function = session.function([x], graphc.sum(table, axis=1))
        arena = session._workshop.device.state.arena
        positive = RANDOM.uniform(1, 2, size=1000)
        function(-positive)
        small = arena.capacity
        function(positive)
        assert arena.capacity >= max(small, 1000 * 8)
        grown = arena.capacity
        for values in (positive, -positive, positive[:10], positive):
            function(values)
        assert arena.capacity == grown


def test_a_size_that_memory_cannot_hold_is_an_error_of_the_call() -> None:
    count = graphc.placeholder((), "int64", name="count")
    n = graphc.as_dim(count)
    total = graphc.sum(graphc.sort(graphc.zeros((n, 4), dtype="float64"), axis=1))
    with graphc.Session() as session:
        function = session.function([count], total)
        assert function(3) == 0
        for huge in (1 << 50, 1 << 59, (1 << 63) - 1):
            with pytest.raises(graphc.DeviceError, match="cannot allocate"):
                function(huge)
        assert function(5) == 0


@pytest.mark.parametrize("checked", [False, True])
def test_a_wrong_count_names_size_bounds_and_line(checked: bool) -> None:
    count = graphc.placeholder((), "int64", name="count")
    n = graphc.as_dim(count - 1, name="rows", min=1, max=8, multiple_of=2)
    w = graphc.variable(np.zeros(()), name="w")
    with graphc.Session(check_numerics=checked) as session:
        function = session.function([count], graphc.ones((n,)), updates={w: w + 1})
        assert function(5).shape == (4,)
        for wrong in (1, 0, 11, 4):
            with pytest.raises(graphc.ExecutionError) as caught:
                function(wrong)
            text = str(caught.value)
            assert "'rows" in text
            assert "max=8" in text
            assert str(wrong - 1) in text
            assert "count - 1, name" in text
            assert "no variable was changed" in text
        assert session.value(w) == 1


def test_a_negative_size_that_follows_is_an_error() -> None:
    count = graphc.placeholder((), "int64", name="count")
    n = graphc.as_dim(count)
    with graphc.Session() as session:
        function = session.function([count], graphc.zeros((n - 3,)))
        assert function(4).shape == (1,)
        with pytest.raises(graphc.ExecutionError, match="negative"):
            function(2)


def test_a_division_by_a_size_of_zero_is_an_error() -> None:
    x = graphc.placeholder(("n",), name="x")
    count = graphc.placeholder((), "int64", name="count")
    n = graphc.as_dim(count)
    parts = graphc.zeros((x.shape[0] // n, n))
    with graphc.Session() as session:
        function = session.function([x, count], parts)
        values = np.zeros(7, np.float32)
        assert function(values, 3).shape == (2, 3)
        with pytest.raises(graphc.ExecutionError, match="divided by one that is 0"):
            function(values, 0)
        with pytest.raises(graphc.ShapeError, match="divides 7 by 0"):
            function.graph.evaluate({"x": values, "count": np.int64(0)})


def test_out_is_checked_after_the_call_and_before_updates() -> None:
    x = graphc.placeholder(("n",), name="x")
    w = graphc.variable(np.float32(0), name="w")
    values = np.array([1, -1, 2], np.float32)
    with graphc.Session() as session:
        function = session.function([x], x[x > 0], updates={w: w + 1})
        out = np.empty(2, np.float32)
        assert function(values, out=out) is out
        np.testing.assert_array_equal(out, [1, 2])
        with pytest.raises(graphc.ShapeError, match=r"shape \(2,\)"):
            function(values, out=np.empty(3, np.float32))
        assert session.value(w) == 1


def test_check_numerics_fetch_profile_explain() -> None:
    x = graphc.placeholder(("n",), name="x")
    kept = graphc.log(x[x >= 0].named("kept")).named("logs")
    with graphc.Session(check_numerics=True) as session:
        function = session.function([x], graphc.sum(kept))
        values = np.array([1, -1, 4], np.float32)
        assert function(values) == pytest.approx(np.log(4))
        found = function.fetch(["kept", "logs"], values)
        np.testing.assert_array_equal(found["kept"], [1, 4])
        np.testing.assert_allclose(found["logs"], np.log([1, 4]), rtol=1e-6)
        with pytest.raises(graphc.NumericsError, match="log"):
            function(np.array([0, 1], np.float32))
        profile = function.profile(values, calls=3)
        assert {"sizes"} < {k.name for k in profile.kernels}
        assert "size _k" in function.explain("regions")
        for stage in ("graph", "optimized", "loops", "llvm", "memory"):
            assert function.explain(stage)


def test_saved_loaded_and_cached(tmp_path: Path) -> None:
    x, outputs = selection()
    graph = graphc.Graph([x], outputs)
    path = tmp_path / "selection.graphc"
    graph.save(path)
    values = RANDOM.normal(size=(20, 3)).astype(np.float32)
    expected = graph.evaluate({"x": values})
    loads = [graphc.load(path), graphc.load(path)]
    assert loads[0] == loads[1] == graph
    for _ in range(2):  # the second session finds the object in the cache
        with graphc.Session(cache_dir=tmp_path / "cache") as session:
            for loaded in loads:
                function = session.function(
                    [t for _, t in loaded.inputs], dict(loaded.outputs), name="loaded"
                )
                found = function(values)
                for name, value in expected.items():
                    np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=1e-6)
            compiled = session.compilations
    assert compiled == 0


def test_feeding_a_tensor_of_computed_size() -> None:
    x = graphc.placeholder(("n",), name="x")
    kept = x[x > 0]
    total = graphc.sum(kept * 2)
    with graphc.Session() as session:
        assert session.run(total, {kept: np.array([1, 2, 3], np.float32)}) == 12
        assert session.run(total, {x: np.array([1, -2, 3], np.float32)}) == 8


def test_calls_from_threads() -> None:
    x = graphc.placeholder(("n",), "float64", name="x")
    outputs = (x[x > 0], graphc.sum(x[x > 0]))
    problems: list[object] = []
    with graphc.Session() as session:
        function = session.function([x], outputs)

        def work(seed: int) -> None:
            random = np.random.default_rng(seed)
            for _ in range(30):
                values = random.normal(size=random.integers(0, 500))
                kept, total = function(values)
                if not np.array_equal(kept, values[values > 0]) or not np.isclose(
                    total, values[values > 0].sum()
                ):
                    problems.append(values)

        at_once(work, 4)
    assert not problems


def test_a_library_of_a_computed_size_is_refused_by_its_op_and_line(tmp_path: Path) -> None:
    x = graphc.placeholder((5,), name="x")
    graph = graphc.Graph([x], graphc.sum(x[x > 0]))
    with pytest.raises(graphc.UnsupportedError, match=r"computed by the graph \(sum\)[\s\S]*x > 0"):
        graphc.compile(graph, tmp_path / "selection")
    assert not (tmp_path / "selection").exists()


def test_reshapes_to_computed_sizes() -> None:
    x = graphc.placeholder(("n", 6), "int64", name="x")
    k = graphc.placeholder((), "int64", name="k")
    outputs = {
        "rest": graphc.reshape(x, (k, -1)),
        "all": graphc.reshape(x, (k, 3, graphc.asarray(2))) + 1,
        "flat": graphc.reshape(graphc.reshape(x, (-1, k)), (-1,)),
        "wide": graphc.broadcast_to(x[:1, :1], (k, 2)),
        "tiled": graphc.tile(x, (1, k)),
    }
    with graphc.Session() as session:
        function = session.function([x, k], outputs)
        for n, size in ((2, 2), (5, 5), (1, 1)):
            values = np.arange(6 * n).reshape(n, 6)
            found = agree(function, x=values, k=np.int64(size))
            np.testing.assert_array_equal(found["rest"], values.reshape(size, -1))
            np.testing.assert_array_equal(found["tiled"], np.tile(values, (1, size)))
        for n, size in ((2, 5), (2, 0), (2, 1), (2, -3), (0, 0)):
            with pytest.raises(graphc.ExecutionError, match="reshape"):
                function(np.zeros((n, 6), np.int64), np.int64(size))


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "float32", "float64"])
def test_ranges_of_scalars(dtype: str) -> None:
    a, b, c = (graphc.placeholder((), dtype, name=name) for name in "abc")
    outputs = {
        "all": graphc.arange(a, b, c),
        "from 0": graphc.arange(b),
        "two": graphc.arange(a, b),
    }
    cases = [(0, 5, 1), (2, 11, 3), (5, 5, 2), (7, 3, 1)]
    if not dtype.startswith("u"):
        cases += [(5, -4, -2), (-3, 3, -1), (-5, 5, 4)]
    with graphc.Session() as session:
        function = session.function([a, b, c], outputs)
        for case in cases:
            x, y, z = (np.asarray(v, dtype) for v in case)
            found = agree(function, a=x, b=y, c=z)
            expected = np.arange(*(v.item() for v in (x, y, z)), dtype=dtype)
            np.testing.assert_array_equal(found["all"], expected)
        with pytest.raises(graphc.ExecutionError, match="the step must not be 0"):
            function(*(np.asarray(v, dtype) for v in (1, 2, 0)))


def test_repeats_and_largest_elements() -> None:
    x = graphc.placeholder(("n", 3), "float64", name="x")
    counts = graphc.placeholder(("n",), "int64", name="counts")
    k = graphc.placeholder((), "int64", name="k")
    values, places = graphc.top_k(x, k, axis=0)
    outputs = {
        "rows": graphc.repeat(x, counts, axis=0),
        "columns": graphc.repeat(x, k, axis=1),
        "values": values,
        "places": places,
    }
    with graphc.Session() as session:
        function = session.function([x, counts, k], outputs)
        for n in (4, 1, 0):
            data = RANDOM.normal(size=(n, 3))
            often = RANDOM.integers(0, 4, n)
            found = agree(function, x=data, counts=often, k=np.int64(min(n, 2)))
            np.testing.assert_array_equal(found["rows"], np.repeat(data, often, axis=0))
        data = np.zeros((2, 3))
        with pytest.raises(graphc.ExecutionError, match="repeat: a count cannot be negative"):
            function(data, np.array([1, -1]), np.int64(1))
        with pytest.raises(graphc.ExecutionError, match=r"slice|top_k"):
            function(data, np.array([1, 1]), np.int64(3))


def test_known_results_take_the_native_entry_and_grow_as_well() -> None:
    x = graphc.placeholder(("n",), "float64", name="x")
    w = graphc.variable(np.float64(0), name="w")
    kept = x[x > 0]
    total = graphc.sum(graphc.sort(kept)[:, None] * kept)
    problems: list[object] = []
    with graphc.Session() as session:
        function = session.function([x], total, updates={w: w + 1})
        caller = function._program.caller
        if type(caller).__name__ != "NativeCaller":
            pytest.skip("this CPython or NumPy has no native entry")
        for n in (3, 0, 900, 10):
            values = RANDOM.normal(size=n)
            expected = values[values > 0].sum() ** 2
            np.testing.assert_allclose(function(values), expected)
            np.testing.assert_allclose(function(list(values)), expected)  # by the careful way
            assert list(function.computed_sizes.values()) == [(values > 0).sum()]
        assert session.value(w) == 8
        out = np.empty((), np.float64)
        function(np.array([2.0, -1.0]), out=out)
        assert out == 4

        def work(seed: int) -> None:
            random = np.random.default_rng(seed)
            for _ in range(30):
                values = random.normal(size=random.integers(0, 1500))
                if not np.isclose(function(values), values[values > 0].sum() ** 2):
                    problems.append(values)

        at_once(work, 4)
        assert session.value(w) == 8 + 1 + 120
    assert not problems
