"""Compiled libraries against the session they must equal, bit for bit, and against bad callers."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import compile as compile_library
from graphc.aot.interface import FIRST_SITE, STATUSES
from graphc.aot.library import Library
from tests.threads import at_once

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None, reason="no C compiler (cc) to link a library with"
)
CODE = {name: code for name, code, _ in STATUSES}
RNG = np.random.default_rng(7)


def network() -> graphc.Graph:
    """Inference of a small network, with a symbolic batch."""
    x = graphc.placeholder(("batch", 24), name="x")
    w = graphc.variable(RNG.normal(size=(24, 16)).astype(np.float32), name="w")
    v = graphc.variable(RNG.normal(size=(16, 5)).astype(np.float32), name="v")
    hidden = graphc.tanh(x @ w)
    return graphc.Graph([x], {"p": graphc.nn.softmax(hidden @ v), "hidden": hidden}, name="net")


def training() -> graphc.Graph:
    """A training step with Adam and integer labels, whose range is checked at run time."""
    x = graphc.placeholder(("batch", 12), name="x")
    t = graphc.placeholder(("batch",), "int64", name="t")
    w = graphc.variable(RNG.normal(size=(12, 6)).astype(np.float32), name="layer/w")
    b = graphc.variable(np.zeros(6, np.float32), name="layer/b")
    loss = graphc.mean(graphc.nn.softmax_cross_entropy(x @ w + b, t))
    updates = graphc.optimizers.adam([w, b], graphc.grad(loss, [w, b]))
    return graphc.Graph([x, t], {"loss": loss}, updates=updates, name="step")


def batch(size: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(size, 12)).astype(np.float32),
        "t": rng.integers(0, 6, size),
    }


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Library]:
    made = {}
    for name, graph, options in (
        ("net", network(), {}),
        ("step", training(), {}),
        ("beside", training(), {"weights": "external"}),
    ):
        folder = tmp_path_factory.mktemp(name)
        compile_library(graph, folder, name=name, **options)
        made[name] = Library(graph, folder)
    return made


def same(found: Any, expected: Any) -> None:
    a, b = np.ascontiguousarray(found), np.ascontiguousarray(expected)  # at least 1-D both
    assert a.shape == b.shape and a.dtype == b.dtype
    np.testing.assert_array_equal(a.view(np.uint8), b.view(np.uint8))


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_inference_equals_the_session(
    libraries: dict[str, Library], size: int, threads: int
) -> None:
    library = libraries["net"]
    feeds = {"x": np.random.default_rng(size).normal(size=(size, 24)).astype(np.float32)}
    with graphc.Session() as session:
        expected = session.run(dict(library.graph.outputs), feeds)
    library.set_threads(threads)
    for shift in (0, 1):
        found = library.run(feeds, shift=shift)
        for name, value in expected.items():
            same(found[name], value)
    library.set_threads(1)


def test_every_instruction_set_gives_the_reference_meaning(libraries: dict[str, Library]) -> None:
    library = libraries["net"]
    feeds = {"x": np.random.default_rng(5).normal(size=(33, 24)).astype(np.float32)}
    expected = library.graph.evaluate(feeds)
    best = library.chosen
    assert best in library.available()
    for target in library.available():
        library.select(target)
        assert library.chosen == target
        found = library.run(feeds)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=1e-6)
    library.select(best)


@pytest.mark.parametrize("name", ["step", "beside"])
def test_training_equals_the_session(libraries: dict[str, Library], name: str) -> None:
    library = libraries[name]
    graph = library.graph
    state = library.new_state()
    with graphc.Session() as session:
        inputs = [tensor for _, tensor in graph.inputs]
        step = session.function(inputs, dict(graph.outputs), updates=dict(graph.updates))
        for k in range(20):
            feeds = batch(5 + k, k)
            if k == 10:  # the state is plain bytes: a copy goes on where the first stopped
                state = np.frombuffer(state.tobytes(), np.uint64).copy()
            found = library.run(feeds, state)
            same(found["loss"], step(**feeds)["loss"])
        for label, value in library.values(state).items():
            same(value, session.value(graph[label]))


def test_a_function_is_compiled_with_its_current_values(tmp_path: Path) -> None:
    graph = training()
    with graphc.Session() as session:
        inputs = [tensor for _, tensor in graph.inputs]
        step = session.function(inputs, dict(graph.outputs), updates=dict(graph.updates))
        for k in range(3):
            step(**batch(6, k))
        graphc.compile(step.graph, tmp_path / "now", target="native")
        step.graph.save(tmp_path / "now.graphc")
        loaded = graphc.load(tmp_path / "now.graphc")
        graphc.compile(loaded, tmp_path / "later", target="native")
        libraries = [Library(graph, tmp_path / "now"), Library(loaded, tmp_path / "later")]
        states = [library.new_state() for library in libraries]
        expected = step(**batch(6, 3))
        for library, state in zip(libraries, states, strict=True):
            same(library.run(batch(6, 3), state)["loss"], expected["loss"])
            for label, value in library.values(state).items():
                same(value, session.value(graph[label]))


def test_a_failed_call_leaves_the_state(libraries: dict[str, Library]) -> None:
    library = libraries["step"]
    state = library.new_state()
    library.run(batch(4), state)
    before = state.copy()
    feeds = batch(4)
    feeds["t"] = np.array([0, 1, 6, 2])
    with pytest.raises(graphc.ExecutionError, match=rf"out of bounds.*status {FIRST_SITE}"):
        library.run(feeds, state)
    same(state, before)


def test_updates_that_read_what_others_write(tmp_path: Path) -> None:
    """Swapped, shifted and shared values: writing any of them in place would be noticed."""
    a = graphc.variable(np.arange(6.0), name="a")
    b = graphc.variable(np.arange(6.0) * 10, name="b")
    c = graphc.variable(np.arange(6.0) + 100, name="c")
    d = graphc.variable(np.arange(6.0) - 50, name="d")
    updates = {a: b, b: a, c: graphc.flip(c) + a, d: d * 2 + graphc.sum(d)}
    graph = graphc.Graph([], {"c": c + 1, "d": d}, updates=updates)
    compile_library(graph, tmp_path / "swap", target="native")
    library = Library(graph, tmp_path / "swap")
    state = library.new_state()
    with graphc.Session() as session:
        step = session.function([], dict(graph.outputs), updates=updates)
        for _ in range(3):
            expected = step()
            for name, value in library.run({}, state).items():
                same(value, expected[name])
        for name, value in library.values(state).items():
            same(value, session.value(graph[name]))


def test_eight_threads_at_once(libraries: dict[str, Library]) -> None:
    library = libraries["net"]
    library.set_threads(3)
    wrong: list[int] = []
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(size=(40 + 97 * k, 24)).astype(np.float32)} for k in range(8)]
    expected = [library.run(f)["p"] for f in feeds]

    def work(k: int) -> None:
        for _ in range(30):
            if not np.array_equal(library.run(feeds[k])["p"], expected[k]):
                wrong.append(k)

    at_once(work, 8)
    library.set_threads(1)
    assert not wrong


def tasks() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def settled() -> int:
    """Threads of this process, once the number has not changed for a while: a thread that was
    joined is listed a moment longer.
    """
    found, since = tasks(), time.monotonic()
    while time.monotonic() - since < 0.1:
        time.sleep(0.01)
        if tasks() != found:
            found, since = tasks(), time.monotonic()
    return found


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to count threads in")
def test_threads_start_and_end_as_asked(libraries: dict[str, Library]) -> None:
    library = libraries["net"]
    feeds = {"x": np.zeros((3000, 24), np.float32)}
    before = settled()
    for threads in (1, 4, 2, 1):
        assert library.set_threads(threads) == threads
        library.run(feeds)
        assert settled() == before + threads - 1


def test_bad_calls_are_refused(libraries: dict[str, Library]) -> None:
    library = libraries["net"]
    raw = ctypes.CDLL(str(library.folder / "net.so"))
    raw.net_workspace_size.restype = ctypes.c_size_t
    raw.net_workspace_size.argtypes = [ctypes.c_int64]
    x, p, hidden = np.zeros((3, 24), np.float32), np.zeros((3, 5), "f4"), np.zeros((3, 16), "f4")
    need = raw.net_workspace_size(3)
    workspace = np.zeros(need, np.uint8)

    def call(n: int, x_at: int, p_at: int, hidden_at: int, w_at: int, size: int) -> int:
        pointers = [ctypes.c_void_p(at) for at in (x_at, p_at, hidden_at, w_at)]
        status: int = raw.net_run(ctypes.c_int64(n), *pointers, ctypes.c_size_t(size))
        return status

    good = (x.ctypes.data, p.ctypes.data, hidden.ctypes.data, workspace.ctypes.data)
    assert call(3, *good, need) == CODE["OK"]
    assert call(3, *good, need - 1) == CODE["WORKSPACE_TOO_SMALL"]
    assert call(-1, *good, need) == CODE["BAD_SIZE"]
    assert call(1 << 58, *good, need) == CODE["BAD_SIZE"]
    assert call((1 << 63) - 1, *good, need) == CODE["BAD_SIZE"]
    for k in range(4):
        missing = [*good[:k], 0, *good[k + 1 :]]
        assert call(3, *missing, need) == CODE["NULL_POINTER"]
    assert call(0, 0, 0, 0, good[3], need) == CODE["OK"]  # nothing to point at
    assert call(3, good[0] + 1, *good[1:], need) == CODE["MISALIGNED"]
    assert raw.net_workspace_size(-1) == 0
    assert raw.net_select_isa(b"x86-64-v9") == CODE["UNSUPPORTED_CPU"]
    assert raw.net_select_isa(None) == CODE["NULL_POINTER"]


def test_foreign_states_and_weights_are_refused(
    libraries: dict[str, Library], tmp_path: Path
) -> None:
    step = libraries["step"]
    with pytest.raises(graphc.ExecutionError, match="state"):
        step.run(batch(2), np.zeros_like(step.new_state()))
    beside = libraries["beside"]
    folder = tmp_path / "copy"
    shutil.copytree(beside.folder, folder)
    weights = folder / "beside.safetensors"
    content = bytearray(weights.read_bytes())
    content[20] ^= 1
    weights.write_bytes(content)
    with pytest.raises(graphc.ExecutionError, match="weights file"):
        Library(beside.graph, folder)
    weights.write_bytes(content[:-1])
    with pytest.raises(graphc.ExecutionError, match="weights file"):
        Library(beside.graph, folder)
    weights.unlink()
    with pytest.raises(graphc.ExecutionError, match="weights file"):
        Library(beside.graph, folder)


def test_another_graph_is_noticed(libraries: dict[str, Library]) -> None:
    with pytest.raises(graphc.GraphError, match="another graph"):
        Library(training(), libraries["net"].folder)


def test_needed_libraries(libraries: dict[str, Library]) -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("no readelf to read the library with")
    for name, library in libraries.items():
        path = str(library.folder / f"{name}.so")
        text = subprocess.run(
            [readelf, "-d", "--wide", path], capture_output=True, text=True, check=True
        ).stdout
        needed = {line.split("[")[1].rstrip("]") for line in text.splitlines() if "NEEDED" in line}
        assert {n.split(".so")[0] for n in needed} <= {"libc", "libm", "libpthread"}, needed
        assert "TEXTREL" not in text
