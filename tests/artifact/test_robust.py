"""Kills and sizes: a save that is killed leaves a whole file, a large file is loaded as it lies."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import graphc

ROOT = Path(graphc.__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
SAVER = """
    import sys, numpy as np, graphc
    w = graphc.variable(np.zeros(1 << 18, np.float32), name="w")
    n = graphc.variable(np.int64(0), name="n")
    with graphc.Session() as session:
        step = session.function([], n, updates={w: w + 1, n: n + 1})
        print("ready", flush=True)
        while True:
            step()
            if sys.argv[2] == "graph":
                step.graph.save(sys.argv[1])
            else:
                session.save(sys.argv[1])
"""


def values_in(path: Path, kind: str) -> tuple[int, np.ndarray]:
    """n and w of a file; both are whole, or this raises."""
    if kind == "graph":
        graph = graphc.load(path, check=True)
        return int(graph["n"].attr("value").values), graph["w"].attr("value").values
    w = graphc.variable(np.zeros(1 << 18, np.float32), name="w")
    n = graphc.variable(np.int64(0), name="n")
    with graphc.Session() as session:
        session.restore(path)
        return int(session.value(n)), session.value(w)


def kill_savers(path: Path, kind: str, kills: int, seed: int) -> set[int]:
    """Kill processes that save in a loop, at random moments; the counts of the files they left."""
    rng = np.random.default_rng(seed)
    seen: set[int] = set()
    for _ in range(kills):
        command = [sys.executable, "-c", textwrap.dedent(SAVER), str(path), kind]
        before = path.stat().st_mtime_ns if path.exists() else 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            while not path.exists() or path.stat().st_mtime_ns == before:
                time.sleep(0.0005)
            time.sleep(rng.uniform(0, 0.03))
            process.kill()
        count, values = values_in(path, kind)
        assert count >= 1 and (values == count).all()
        seen.add(count)
        for left in path.parent.iterdir():
            assert left == path or left.name.startswith(f".{path.name}.")
            assert left == path or left.name.endswith(".tmp")
    return seen


@pytest.mark.parametrize("kind", ["graph", "session"])
def test_a_kill_leaves_a_whole_file(kind: str, tmp_path: Path) -> None:
    kill_savers(tmp_path / "saved", kind, 10, 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["graph", "session"])
def test_many_kills_leave_whole_files(kind: str, tmp_path: Path) -> None:
    assert len(kill_savers(tmp_path / "saved", kind, 100, 1)) > 1


# -- large files ----------------------------------------------------------------------------------

PROBE = """
    import resource, sys, time
    import graphc
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    before, begin = resident(), time.perf_counter()
    graph = graphc.load(sys.argv[1])
    seconds = time.perf_counter() - begin
    loaded = resident() - before
    value = graph["first"].attr("value").stored[5]
    read = resident() - before
    print(seconds, loaded, read, float(value), sum(v.nbytes for v in graph.constants.values()))
"""


def save_large(path: Path, count: int, mebibytes: int) -> int:
    """A graph of `count` variables of that size each; returns the extra peak memory of the save."""
    tensors = []
    for k in range(count):
        values = np.zeros((mebibytes << 20) // 4, np.float32)
        values[:: 1 << 18] = k + 1
        tensors.append(graphc.variable(values, name="first" if k == 0 else f"v{k}"))
    graph = graphc.Graph([], {f"s{k}": graphc.sum(t) for k, t in enumerate(tensors)}, name="large")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    graph.save(path)
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def probe(path: Path) -> list[float]:
    command = [sys.executable, "-c", textwrap.dedent(PROBE), str(path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return [float(v) for v in done.stdout.split()]


def test_weights_are_mapped_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.graphc"
    extra = save_large(path, 4, 40)
    assert extra < 64 << 20
    best = min(probe(path)[0] for _ in range(3))
    _, loaded, read, value, nbytes = probe(path)
    assert nbytes == 160 << 20 and value == 0
    assert best < 0.1, f"{best:.3f} s"
    assert loaded < 50 << 20 and read >= 40 << 20


@pytest.mark.slow
def test_two_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "large.graphc"
    extra = save_large(path, 8, 256)
    assert path.stat().st_size > 2 << 30
    assert extra < 64 << 20
    best = min(probe(path)[0] for _ in range(3))
    _, loaded, _, _, nbytes = probe(path)
    print(f"2 GB: {1e3 * best:.1f} ms, {loaded / 1e6:.1f} MB; extra memory of the save {extra} B")
    assert nbytes == 2 << 30
    assert best < 0.1 and loaded < 50 << 20
