"""Programs in the object cache: found again whenever the code would be the same, and only then."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc.compiler import Compilation, _backend
from graphc.program_cache import program_key, source_stamp
from graphc.runtime.executable import CompileOptions

ROOT = Path(__file__).resolve().parents[2]


def layer(seed: int) -> tuple[graphc.Tensor, graphc.Tensor, graphc.Tensor]:
    """x (n, 4), w (4, 4) and an update of w."""
    x = graphc.placeholder(("n", 4), name="x")
    values = np.random.default_rng(seed).normal(size=(4, 4)).astype(np.float32)
    w = graphc.variable(values, name="w")
    return x, w, w - 0.1 * graphc.sum(x @ w)


def size_of(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_first_values_of_variables_are_no_part_of_the_code(tmp_path: Path) -> None:
    feed = np.ones((3, 4), np.float32)
    for seed in (0, 1):
        with graphc.Session(cache_dir=tmp_path) as session:
            x, w, changed = layer(seed)
            step = session.function([x], x @ w, updates={w: changed})
            first = np.random.default_rng(seed).normal(size=(4, 4)).astype(np.float32)
            np.testing.assert_allclose(step(feed), feed @ first, rtol=1e-5)
            assert session.compilations == 1 - seed
            expected = first - 0.1 * np.sum(feed @ first)
            np.testing.assert_allclose(session.value(w), expected, rtol=1e-4, atol=1e-6)


def test_code_is_the_same_whatever_the_first_values() -> None:
    def code(seed: int) -> bytes:
        x, w, changed = layer(seed)
        graph = graphc.Graph([x], x @ w, updates={w: changed})
        return Compilation(graph, CompileOptions(), _backend().host_target()).object()

    assert code(0) == code(1)


def test_values_of_constants_are(tmp_path: Path) -> None:
    x = graphc.placeholder((64,), name="x")
    with graphc.Session(cache_dir=tmp_path) as session:
        for factor in (2, 3):
            table = np.arange(64, dtype=np.float32) * factor
            f = session.function([x], x * graphc.constant(table))
            np.testing.assert_array_equal(f(np.ones(64, np.float32)), table)
        assert session.compilations == 2


def test_constants_of_the_graph_are_not_stored(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
    x = graphc.placeholder((2, 512), name="x")
    y = x @ graphc.constant(values)
    feed = np.ones((2, 512), np.float32)
    graphc.Graph([x], y).save(tmp_path / "saved.graphc")
    cache = tmp_path / "cache"
    results = []
    for attempt in range(3):
        with graphc.Session(cache_dir=cache) as session:
            # The last time from a file, whose values are read when they are wanted.
            graph = graphc.load(tmp_path / "saved.graphc") if attempt == 2 else None
            ends = ([x], y) if graph is None else ([graph.inputs[0][1]], graph.outputs[0][1])
            f = session.function(*ends)
            results.append(f(feed))
            assert session.compilations == int(attempt == 0)
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()
    np.testing.assert_allclose(results[0], feed @ values, rtol=1e-4, atol=1e-3)
    assert 0 < size_of(cache) < values.nbytes / 8


def test_constants_that_a_template_rearranged_are_not_stored(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(120, 128, 5, 5)).astype(np.float32)
    x = graphc.placeholder((1, 128, 14, 14), name="x")
    y = graphc.nn.conv(x, graphc.constant(values), padding=2)
    feed = np.random.default_rng(1).normal(size=(1, 128, 14, 14)).astype(np.float32)
    results = []
    for attempt in (0, 1):
        with graphc.Session(cache_dir=tmp_path) as session:
            f = session.function([x], y)
            results.append(f(feed).tobytes())
            constants = f._program.executable.constants
            assert [c.arranged is not None for c in constants] == [True]
            assert session.compilations == 1 - attempt
    assert results[0] == results[1]
    assert size_of(tmp_path) < values.nbytes / 2


def test_constants_that_the_compiler_found_are_stored(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    x = graphc.placeholder((64, 64), name="x")
    y = x + graphc.sort(graphc.constant(values), axis=1)  # folded
    for attempt in (0, 1):
        with graphc.Session(cache_dir=tmp_path) as session:
            f = session.function([x], y)
            found = f(np.zeros((64, 64), np.float32))
            np.testing.assert_array_equal(found, np.sort(values, axis=1))
            assert session.compilations == 1 - attempt


def test_every_option_is_part_of_the_key() -> None:
    x, _, _ = layer(0)
    graph = graphc.Graph([x], x + 1)
    base = CompileOptions()
    others = {"device": "other", "numerics": "exact"}
    for field in fields(CompileOptions):
        value = getattr(base, field.name)
        if field.name in ("cache_dir", "profile"):
            continue  # where it is stored; programs that time themselves are not
        changed = others[field.name] if isinstance(value, str) else not value
        other = replace(base, **{field.name: changed})
        assert program_key(graph, other) != program_key(graph, base), field.name


_KEYS = """
import numpy as np, graphc
from benchmarks.models import mixed_nodes, mlp_step
from graphc.program_cache import program_key
from graphc.runtime.executable import CompileOptions

x = graphc.placeholder(("n", 4), name="x")
w = graphc.variable(np.ones((4, 4), np.float32))
turned = graphc.scan(lambda c, k: (c @ w + k, c), x, graphc.arange(3, dtype="float32"))
graphs = [graphc.Graph([x], {"a": turned[0], "b": graphc.nn.gelu(x)}, updates={w: w * 2})]
for model in (mlp_step(4, (8, 6, 3)), mixed_nodes(60)):
    graphs.append(graphc.Graph(model.inputs, model.outputs, model.updates))
print([program_key(g, CompileOptions()) for g in graphs])
"""


def test_keys_are_those_of_every_process() -> None:
    found = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", _KEYS], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    assert found[0] == found[1] and found[0].count("'") == 6


@pytest.mark.parametrize("linked", [False, True])
def test_edited_sources_find_no_old_code(tmp_path: Path, linked: bool) -> None:
    package = tmp_path / "package"
    inside = package / "kernels"
    folder = tmp_path / "kernels" if linked else inside
    folder.mkdir(parents=True)
    if linked:
        package.mkdir()
        inside.symlink_to(folder, target_is_directory=True)
    (package / "__init__.py").write_text("")
    (folder / "gemm.py").write_text("TILE = 8")
    before = source_stamp(str(package))
    assert source_stamp(str(package)) == before
    (folder / "gemm.py").write_text("TILE = 10")
    edited = source_stamp(str(package))
    (folder / "gemm.py").rename(folder / "other.py")
    assert len({before, edited, source_stamp(str(package))}) == 3
