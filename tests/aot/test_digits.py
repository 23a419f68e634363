"""A hundred training steps on real digits, each in a process of its own without Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

import graphc
from graphc.aot.interface import interface

STEPS = 100
BATCH = 48


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) to link a program with")
def test_a_hundred_steps_in_a_hundred_processes(tmp_path: Path) -> None:
    digits = load_digits()
    images = (digits.images.reshape(-1, 64) / 16).astype(np.float32)
    rng = np.random.default_rng(0)
    x = graphc.placeholder(("batch", 64), name="x")
    t = graphc.placeholder(("batch",), "int64", name="t")
    w1 = graphc.variable(rng.normal(0, 0.2, (64, 32)).astype(np.float32), name="w1")
    b1 = graphc.variable(np.zeros(32, np.float32), name="b1")
    w2 = graphc.variable(rng.normal(0, 0.2, (32, 10)).astype(np.float32), name="w2")
    logits = graphc.nn.relu(x @ w1 + b1) @ w2
    loss = graphc.mean(graphc.nn.softmax_cross_entropy(logits, t))
    trained = [w1, b1, w2]
    updates = graphc.optimizers.adam(trained, graphc.grad(loss, trained), learning_rate=0.01)
    graph = graphc.Graph([x, t], {"loss": loss}, updates=updates)
    program = graphc.compile(graph, tmp_path / "step", emit="executable").library
    state = tmp_path / "state.bin"
    with graphc.Session() as session:
        step = session.function([x, t], loss, updates=updates)
        for k in range(STEPS):
            chosen = rng.permutation(len(images))[: BATCH + k % 7]
            labels = digits.target[chosen].astype(np.int64)
            expected = step(images[chosen], labels)
            np.save(tmp_path / "x.npy", images[chosen])
            np.save(tmp_path / "t.npy", labels)
            resume = ["--state", str(state)] if k else []
            files = [f"--{name}={tmp_path / name}.npy" for name in ("x", "t", "loss")]
            subprocess.run(
                [program, *files, *resume, "--save-state", str(state)],
                check=True,
                timeout=60,
                stdout=subprocess.DEVNULL,
            )
            assert np.load(tmp_path / "loss.npy").tobytes() == np.asarray(expected).tobytes()
        members = interface(graph, "step", (), external=False)
        raw = np.fromfile(state, np.uint8)
        offsets, size = members.state_offsets()
        assert len(raw) == size
        for member, at in zip(members.state, offsets, strict=True):
            value = session.value(graph[member.label])
            assert raw[at : at + value.nbytes].tobytes() == value.tobytes(), member.label
    assert float(expected) < 0.5
