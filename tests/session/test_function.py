"""`Function`: calls by position and name, `out=`, sizes, atomic updates, looking inside."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def inputs() -> tuple[graphc.Tensor, graphc.Tensor]:
    return graphc.placeholder(("n", 3), name="x"), graphc.placeholder(("n",), name="t")


def test_arguments_by_position_and_by_name(session: graphc.Session) -> None:
    x, t = inputs()
    f = session.function([x, t], x * 10 + t[:, None], name="f")
    t_value = np.float32([1, 2])
    expected = X * 10 + t_value[:, None]
    for result in (f(X, t_value), f(X, t=t_value), f(t=t_value, x=X), f(X.tolist(), [1, 2])):
        np.testing.assert_array_equal(result, expected)
    assert f.name == "f" and "x: f32[n, 3]" in repr(f)
    for args, kwargs, pattern in (
        ((X,), {}, r"takes 2 arrays \(x, t\), got 1; missing: t"),
        ((X, t_value, 1), {}, r"got 3"),
        ((X, t_value), {"x": X}, r"two values were given for 'x'"),
        ((X, t_value), {"z": X}, r"'z'"),
    ):
        with pytest.raises(graphc.GraphError, match=pattern) as caught:
            f(*args, **kwargs)
        assert "test_function.py" in str(caught.value) and "hint" in str(caught.value)


def test_a_single_placeholder_needs_no_list(session: graphc.Session) -> None:
    x, _ = inputs()
    np.testing.assert_array_equal(session.function(x, x + 1)(X), X + 1)


def test_arrays_of_any_layout(session: graphc.Session) -> None:
    x, _ = inputs()
    f = session.function([x], x * 2)
    base = np.arange(60, dtype=np.float32).reshape(3, 20)
    for a in (base.T[:5], base.T[::3], base[:, ::-1].T[:2], np.asfortranarray(X), X[:0]):
        np.testing.assert_array_equal(f(a), a * 2)
    raw = np.zeros(25, np.uint8)
    unaligned = raw[1:25].view(np.float32).reshape(2, 3)
    unaligned[...] = X
    np.testing.assert_array_equal(f(unaligned), X * 2)
    read_only = X.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(f(read_only), X * 2)
    swapped = X.astype(">f4")
    np.testing.assert_array_equal(f(swapped), X * 2)


def test_results_are_new_arrays(session: graphc.Session) -> None:
    x, _ = inputs()
    f = session.function([x], [x * 2, x])
    first, same = f(X)
    first[:], same[:] = -1, -1
    second, again = f(X)
    np.testing.assert_array_equal(second, X * 2)
    np.testing.assert_array_equal(again, X)
    assert not np.shares_memory(again, X)


def test_outputs_keep_their_structure_and_names(session: graphc.Session) -> None:
    x, _ = inputs()
    y = x + 1
    f = session.function([x], {"a": y, "b": x * 2, "c": y})
    result = f(X)
    assert list(result) == ["a", "b", "c"]
    np.testing.assert_array_equal(result["c"], X + 1)
    assert [name for name, _ in f.graph.outputs] == ["a", "b", "c"]
    assert f.graph.evaluate({"x": X})["b"].tolist() == (X * 2).tolist()
    assert session.function([x], [y, (x, [y])])(X)[1][1][0].tolist() == (X + 1).tolist()
    assert session.function([x], [])(X) == [] and session.function([x], None)(X) is None


def test_the_same_function_is_made_once(uncached: graphc.Session) -> None:
    x, _ = inputs()
    w = graphc.variable(np.zeros(3, np.float32))
    y = x + w
    f = uncached.function([x], y, updates={w: w + 1})
    assert uncached.function([x], y, updates={w: w + 1}) is f
    assert uncached.function([x], y) is not f
    assert uncached.compilations == 2


def test_one_compile_serves_all_sizes(uncached: graphc.Session) -> None:
    x, _ = inputs()
    f = uncached.function([x], graphc.mean(x * x, axis=1))
    for n in range(1000):
        a = np.full((n, 3), n, np.float32)
        assert f(a).shape == (n,)
        if n in (0, 1, 7, 999):
            np.testing.assert_array_equal(f(a), np.full(n, n * n, np.float32))
    assert uncached.compilations == 1


def test_bounds_of_dims_are_checked(session: graphc.Session) -> None:
    n = graphc.Dim("n", min=2, max=8, multiple_of=2)
    x = graphc.placeholder((n,), name="x")
    f = session.function([x], x + 1)
    assert f(np.zeros(4, np.float32)).shape == (4,)
    for bad in (0, 3, 10):
        with pytest.raises(graphc.ShapeError, match="multiple of 2"):
            f(np.zeros(bad, np.float32))


def test_sizes_inside_must_not_be_negative(session: graphc.Session) -> None:
    n, m = graphc.Dim("n"), graphc.Dim("m")
    x, y = graphc.placeholder((n,), name="x"), graphc.placeholder((m,), name="y")
    f = session.function([x], graphc.sum(x[2:]))
    assert f(np.ones(5, np.float32)) == 3 and f(np.ones(2, np.float32)) == 0
    with pytest.raises(graphc.ShapeError, match=r"n - 2 = -1[\s\S]*n is 1 by dim 0 of x"):
        f(np.ones(1, np.float32))
    g = session.function([x, y], graphc.zeros((n - m,)))
    assert g(np.ones(5, np.float32), np.ones(3, np.float32)).shape == (2,)
    with pytest.raises(graphc.ShapeError, match="= -2"):
        g(np.ones(3, np.float32), np.ones(5, np.float32))


def test_a_size_that_no_input_tells_is_an_error(session: graphc.Session) -> None:
    n, m = graphc.Dim("n"), graphc.Dim("m")
    x = graphc.placeholder((n * m,), name="x")
    with pytest.raises(graphc.GraphError, match="no input tells the size"):
        session.function([x], x + 1)


# -- out= ----------------------------------------------------------------------


def test_out_is_written_and_returned(session: graphc.Session) -> None:
    x, _ = inputs()
    f = session.function([x], {"a": x + 1, "b": graphc.sum(x)})
    out = {"a": np.empty((2, 3), np.float32), "b": np.empty((), np.float32)}
    assert f(X, out=out) is out
    np.testing.assert_array_equal(out["a"], X + 1)
    assert out["b"] == 15
    assert f(x=X + 1, out=out)["b"] == 21
    g = session.function([x], x + 1)
    single = np.empty((2, 3), np.float32)
    assert g(X, out=single) is single
    assert g(X.tolist(), out=single)[0, 0] == 1


def test_out_of_any_layout(session: graphc.Session) -> None:
    x, _ = inputs()
    y = x + 1
    f = session.function([x], [y, y, x * 2])
    room = np.zeros((3, 8), np.float32)
    strided = room[:, ::4].T  # (2, 3), not contiguous
    copies = [strided, np.empty((2, 3), np.float32), np.empty((2, 3), np.float32)]
    f(X, out=copies)
    for array, expected in zip(copies, (X + 1, X + 1, X * 2)):
        np.testing.assert_array_equal(array, expected)


def test_out_may_overlap_inputs_and_other_outputs(session: graphc.Session) -> None:
    x = graphc.placeholder(("n",), name="x")
    f = session.function([x], graphc.flip(x) + graphc.sum(x))
    a = np.arange(100, dtype=np.float32)
    expected = f(a)
    f(a, out=a)
    np.testing.assert_array_equal(a, expected)
    room = np.arange(101, dtype=np.float32)
    expected = f(room[:100])
    f(room[:100], out=room[1:])
    np.testing.assert_array_equal(room[1:], expected)


def test_a_wrong_out_is_an_error(session: graphc.Session) -> None:
    x, _ = inputs()
    w = graphc.variable(np.float32(0))
    f = session.function([x], x + 1, updates={w: w + 1})
    read_only = np.empty((2, 3), np.float32)
    read_only.flags.writeable = False
    wrong: list[tuple[Any, type[Exception], str]] = [
        (np.empty((3, 3), np.float32), graphc.ShapeError, r"\(2, 3\)[\s\S]*\(3, 3\)"),
        (np.empty((2, 3), np.float64), graphc.DTypeError, "float64"),
        (read_only, graphc.DTypeError, "read-only"),
        ([[0.0] * 3] * 2, graphc.DTypeError, "list"),
    ]
    for out, error, pattern in wrong:
        with pytest.raises(error, match=pattern):
            f(X, out=out)
    with pytest.raises(graphc.GraphError, match="sequence of 1"):
        session.function([x], [x + 1])(X, out=[])
    with pytest.raises(graphc.GraphError, match="keys"):
        session.function([x], {"a": x + 1})(X, out={"b": read_only})
    assert session.value(w) == 0


# -- updates -------------------------------------------------------------------


def test_updates_commit_together_after_the_outputs(session: graphc.Session) -> None:
    a = graphc.variable(np.float64([1, 2]), name="a")
    b = graphc.variable(np.float64([3, 4]), name="b")
    swap = session.function([], [a, b], updates={a: b, b: a + 0.5})
    old = swap()
    assert [v.tolist() for v in old] == [[1, 2], [3, 4]]
    assert session.value(a).tolist() == [3, 4] and session.value(b).tolist() == [1.5, 2.5]
    swap()
    assert session.value(a).tolist() == [1.5, 2.5] and session.value(b).tolist() == [3.5, 4.5]


def test_updates_without_outputs(session: graphc.Session) -> None:
    w = graphc.variable(np.int64(0), name="w")
    x = graphc.placeholder((), "int64", name="x")
    add = session.function([x], None, updates={w: w + x})
    assert [add(k) for k in range(5)] == [None] * 5
    assert session.value(w) == 10


def test_functions_of_a_session_share_state(session: graphc.Session) -> None:
    w = graphc.variable(np.zeros(2, np.float32), name="w")
    tick = session.function([], w, updates={w: w + 1})
    read = session.function([], w * 10)
    for k in range(4):
        assert read().tolist() == [10 * k] * 2
        assert session.run(w).tolist() == [k] * 2
        tick()
    session.assign(w, [7, 8])
    assert read().tolist() == [70, 80] and tick().tolist() == [7, 8]
    assert session.value(w).tolist() == [8, 9]


def test_a_call_that_raises_changes_nothing(session: graphc.Session) -> None:
    x = graphc.placeholder((3,), name="x")
    k = graphc.placeholder((2,), "int64", name="k")
    w = graphc.variable(np.zeros(3, np.float32), name="w")
    count = graphc.variable(np.int64(0), name="count")
    taken = graphc.take(x, k)  # the line that the error names
    line = line_of("the line that the error names")
    f = session.function([x, k], taken, updates={w: w + x, count: count + 1})
    three = np.ones(3, np.float32)
    f(three, [0, 2])
    with pytest.raises(graphc.ExecutionError) as caught:
        f(three, [0, 3])
    assert "take" in str(caught.value) and line in str(caught.value)
    with pytest.raises(graphc.ShapeError):
        f(three[:2], [0, 1])
    assert session.value(count) == 1 and session.value(w).tolist() == [1, 1, 1]
    f(three, [0, 2])
    assert session.value(count) == 2 and session.value(w).tolist() == [2, 2, 2]


def line_of(mark: str) -> str:
    with open(__file__) as file:
        number = next(k for k, text in enumerate(file, 1) if f"# {mark}" in text)
    return f"test_function.py:{number}"


# -- dtypes --------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split(),
)
def test_every_dtype_goes_in_and_out(session: graphc.Session, dtype: str) -> None:
    x = graphc.placeholder(("n",), dtype, name="x")
    w = graphc.variable(np.ones(3, dtype), name="w")
    f = session.function([x], [x, w], updates={w: x} if dtype == "never" else {w: w[::-1]})
    a = np.array([0, 1, 1], dtype)
    out = f(a)
    assert out[0].dtype == dtype and out[0].tolist() == a.tolist()
    assert session.value(w).dtype == dtype and session.value(w).tolist() == [1, 1, 1]


def test_bfloat16(session: graphc.Session) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = graphc.placeholder((3,), "bfloat16", name="x")
    w = graphc.variable(np.float32([1, 2, 3]), dtype="bfloat16", name="w")
    f = session.function([x], x + w, updates={w: x})
    a = np.array([0.5, 1, 2], ml_dtypes.bfloat16)
    for given in (a, a.astype(np.float32), [0.5, 1, 2]):
        session.assign(w, np.array([1, 2, 3], ml_dtypes.bfloat16))
        result = f(given)
        assert result.dtype == ml_dtypes.bfloat16
        assert result.astype(np.float32).tolist() == [1.5, 3, 5]
        value = session.value(w)
        assert value.dtype == ml_dtypes.bfloat16 and value.tolist() == [0.5, 1, 2]
    out = np.empty(3, ml_dtypes.bfloat16)
    f(a, out=out)
    assert out.astype(np.float32).tolist() == [1, 2, 4]


# -- looking inside ------------------------------------------------------------


def training_step(session: graphc.Session) -> tuple[graphc.Function, graphc.Tensor]:
    x, _ = inputs()
    w = graphc.variable(np.full((3, 2), 0.5, np.float32), name="w")
    hidden = graphc.tanh((x @ w).named("projected")).named("hidden")
    loss = graphc.mean(hidden * hidden).named("loss")
    grad = graphc.grad(loss, w).named("gradient")
    return session.function([x], loss, updates={w: w - grad}), w


def test_fetch_gives_named_nodes_and_commits_nothing(session: graphc.Session) -> None:
    step, w = training_step(session)
    got = step.fetch(["hidden", "gradient", "x", "w", "projected"], X)
    assert list(got) == ["hidden", "gradient", "x", "w", "projected"]
    reference = {
        name: graphc.Graph([t for _, t in step.graph.inputs], step.graph[name]).evaluate({"x": X})
        for name in got
    }
    for name, values in reference.items():
        np.testing.assert_allclose(got[name], next(iter(values.values())), rtol=1e-5, atol=1e-6)
    assert session.value(w).tolist() == [[0.5, 0.5]] * 3
    step(X)
    assert step.fetch("w", X)["w"].tolist() == session.value(w).tolist() != [[0.5, 0.5]] * 3


def test_fetch_compiles_once_per_set_of_names(uncached: graphc.Session) -> None:
    step, _ = training_step(uncached)
    step.fetch(["hidden"], X)
    before = uncached.compilations
    for n in range(1, 5):
        assert step.fetch(["hidden"], np.ones((n, 3), np.float32))["hidden"].shape == (n, 2)
    assert uncached.compilations == before
    assert step.fetch([], X) == {}


def test_fetch_of_a_name_that_optimization_removed(session: graphc.Session) -> None:
    x, _ = inputs()
    y = ((x * 1).named("same") + 0.0).named("also") + graphc.sum((x - x).named("gone")) * 0
    f = session.function([x], y)
    got = f.fetch(["same", "also", "gone"], X)
    np.testing.assert_array_equal(got["same"], X)
    np.testing.assert_array_equal(got["also"], X)
    np.testing.assert_array_equal(got["gone"], X * 0)


def test_fetch_of_automatic_and_of_unknown_names(session: graphc.Session) -> None:
    step, _ = training_step(session)
    graph = step.graph
    names = [graph.name_of(node) for node in graph.nodes]
    wanted = {name: graph[name] for name in names}
    expected = graphc.Graph([t for _, t in graph.inputs], wanted).evaluate({"x": X})
    for name, value in step.fetch(names, X).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    with pytest.raises(graphc.GraphError, match=r"'hiden'[\s\S]*did you mean 'hidden'") as caught:
        step.fetch(["hiden"], X)
    assert "test_function.py" in str(caught.value)


def test_explain_every_stage(session: graphc.Session) -> None:
    step, _ = training_step(session)
    for stage in ("graph", "optimized", "regions", "loops", "llvm", "assembly", "memory"):
        assert len(step.explain(stage)) > 20, stage
    assert "hidden" in step.explain("graph") and "graphc_entry" in step.explain("llvm")
    assert graphc.parse(step.explain("optimized")) is not None
    with pytest.raises(graphc.GraphError, match="stages are graph, optimized"):
        step.explain("source")


# -- memory --------------------------------------------------------------------


def test_calls_allocate_nothing_but_results(session: graphc.Session) -> None:
    x = graphc.placeholder(("n", 64), name="x")
    w = graphc.variable(np.zeros((64, 64), np.float32), name="w")
    y = graphc.tanh(x @ w)
    loss = graphc.mean(y * y)
    step = session.function([x], loss, updates={w: w - graphc.grad(loss, w)})
    a = np.ones((32, 64), np.float32)
    out = np.empty((), np.float32)
    for _ in range(3):
        step(a, out=out)
        step(a)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(50):
            step(a)
            step(a, out=out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16_000  # a few Python objects; one buffer of x alone is 8 KB, w is 16 KB


def test_a_dropped_function_is_freed() -> None:
    x = graphc.placeholder((1000, 1000), name="x")
    with graphc.Session() as session:
        w = graphc.variable(np.zeros((1000, 1000), np.float32), name="w")
        session.run(x + w, {x: np.zeros((1000, 1000), np.float32)})
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(5):
            with graphc.Session() as session:
                session.run(x + w, {x: np.zeros((1000, 1000), np.float32)})
            gc.collect()
        current, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert current < 6_000_000  # one value of w is 4 MB


# -- from the cache -----------------------------------------------------------------------------


def test_a_cached_program_is_the_same(tmp_path: Path) -> None:
    x = graphc.placeholder(("n", 3), name="x")
    k = graphc.placeholder((1,), "int64", name="k")
    w = graphc.variable(np.full((3, 2), 0.5, np.float32), name="w")
    table = np.arange(8, dtype=np.float32)
    hidden = graphc.tanh(x @ w).named("hidden")
    picked = graphc.take(graphc.constant(table), k)  # the cached line
    results = []
    for attempt in range(2):
        with graphc.Session(cache_dir=tmp_path) as session:
            f = session.function([x, k], [graphc.sum(hidden), picked], updates={w: w * 2})
            assert f._program.executable.from_cache is bool(attempt)
            assert session.compilations == int(not attempt)  # a loaded program is not compiled
            got = f(X, [7])
            results.append((*got, session.value(w), f.fetch("hidden", X, [0])["hidden"]))
            with pytest.raises(graphc.ExecutionError) as caught:
                f(X, [8])
            assert line_of("the cached line") in str(caught.value)
            assert "from 8 to 8" in str(caught.value)
            assert all(len(f.explain(stage)) > 0 for stage in ("optimized", "llvm", "memory"))
            assert f.profile(X, [1], calls=2).kernels
    for first, second in zip(*results):
        np.testing.assert_array_equal(first, second)


def test_a_failed_value_shows_the_operands(session: graphc.Session) -> None:
    x = graphc.placeholder((5,), name="x")
    k = graphc.placeholder((3,), "int64", name="k")
    y = graphc.exp(graphc.take(x * 2, k + 1))  # the failing take
    f = session.function([x, k], y)
    with pytest.raises(graphc.ExecutionError) as caught:
        f(np.arange(5, dtype=np.float32), [-1, 2, 40])
    text = str(caught.value)
    assert "from 0 to 41" in text and "from 0.0 to 8.0" in text
    assert line_of("the failing take") in text and "hint" in text
