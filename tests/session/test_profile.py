"""`Function.profile`: times per kernel with the user's names, as a table and as a Chrome trace."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc.runtime.profile import KernelTime, Profile, seconds_of_ticks

X = np.ones((64, 32), np.float32)


def training_step(session: graphc.Session) -> tuple[graphc.Function, graphc.Tensor]:
    x = graphc.placeholder(("n", 32), name="x")
    w = graphc.variable(np.full((32, 16), 0.1, np.float32), name="w")
    hidden = graphc.tanh((x @ w).named("projected")).named("hidden")
    loss = graphc.mean(hidden * hidden)
    return session.function([x], loss, updates={w: w - graphc.grad(loss, w)}, name="step"), w


def test_kernels_are_timed_and_named(session: graphc.Session) -> None:
    step, w = training_step(session)
    before = session.value(w)
    profile = step.profile(X)
    np.testing.assert_array_equal(session.value(w), before)
    assert profile.function == "step" and profile.calls > 1 and profile.kernels
    nodes = [name for kernel in profile.kernels for name in kernel.nodes]
    assert "hidden" in nodes and "projected" in nodes
    assert any("test_profile.py" in line for kernel in profile.kernels for line in kernel.lines)
    total = sum(kernel.seconds for kernel in profile.kernels)
    assert 0 < total <= profile.seconds * 1.001
    assert all(kernel.seconds > 0 for kernel in profile.kernels)
    assert all(kernel.bytes > 0 and kernel.flops > 0 for kernel in profile.kernels)
    text = str(profile)
    assert "hidden" in text and "GB/s" in text and "test_profile.py" in text


def test_the_slow_kernel_is_the_slow_one(session: graphc.Session) -> None:
    x = graphc.placeholder((400, 400), name="x")
    product = (x @ x).named("product")
    f = session.function([x], [product, graphc.sum(product, axis=0).named("total")])
    profile = f.profile(np.ones((400, 400), np.float32), calls=3)
    assert profile.calls == 3
    slowest = max(profile.kernels, key=lambda kernel: kernel.seconds)
    assert "product" in slowest.nodes
    assert slowest.flops >= 2 * 400**3


def test_without_arguments_sizes_must_be_known(session: graphc.Session) -> None:
    x = graphc.placeholder((3, 4), name="x")
    assert session.function([x], graphc.exp(x)).profile(calls=2).calls == 2
    step, _ = training_step(session)
    with pytest.raises(graphc.GraphError, match="sizes of x are symbolic"):
        step.profile()


def test_profiling_compiles_once(uncached: graphc.Session) -> None:
    step, _ = training_step(uncached)
    step.profile(X, calls=1)
    before = uncached.compilations
    step.profile(X[:5], calls=1)
    assert uncached.compilations == before


def test_the_chrome_trace(session: graphc.Session, tmp_path: Path) -> None:
    step, _ = training_step(session)
    profile = step.profile(X, calls=5)
    profile.chrome_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["name"] for event in events] == [kernel.name for kernel in profile.kernels]
    end = 0.0
    for event, kernel in zip(events, profile.kernels):
        assert event["ph"] == "X" and event["ts"] == pytest.approx(end)
        assert event["dur"] == pytest.approx(kernel.seconds * 1e6)
        assert event["args"]["bytes"] == kernel.bytes
        end += event["dur"]


def test_ticks_become_seconds() -> None:
    assert seconds_of_ticks([10, 30], 100, 2.0, 4) == [0.05, 0.15]
    assert seconds_of_ticks([10, 30], 0, 2.0, 1) == [0.5, 1.5]
    assert seconds_of_ticks([0, 0], 0, 2.0, 1) == [0.0, 0.0]
    assert seconds_of_ticks([], 0, 2.0, 1) == []


def test_a_profile_prints_the_slowest_first() -> None:
    kernels = (
        KernelTime("fast", ("a",), ("m.py:1",), 1e-7, 100, 400),
        KernelTime("slow", ("b", "c"), (), 3e-7, 0, 0),
    )
    lines = str(Profile("f", 7, 5e-7, kernels)).splitlines()
    assert lines[0] == "f: 500 ns per call (7 calls)"
    assert lines[2].split() == ["300", "ns", "75%", "-", "-", "slow", "b,", "c"]
    assert lines[3].split() == ["100", "ns", "25%", "4", "1", "fast", "a", "m.py:1"]


def test_the_table_ends_after_the_slowest() -> None:
    kernels = tuple(
        KernelTime(f"k{i}", ("y",), ("a.py:1",), 1e-6 * (i + 1), 1, 8) for i in range(50)
    )
    text = str(Profile("f", 10, 2e-3, kernels))
    assert "k49" in text and "k20" in text and "k19 " not in text
    assert text.endswith("210 us in 20 more kernels; all of them: .kernels")
