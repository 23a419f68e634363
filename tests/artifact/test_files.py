"""Files written and read: equal graphs, equal bytes, current values, old files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_safetensors

import graphc
from graphc.artifact.load import EAGER_BYTES
from graphc.ir import provenance
from tests.artifact.models import GOLDEN, MODELS, feeds_of


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].shape == b[name].shape
        assert a[name].tobytes() == b[name].tobytes(), name


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_comes_back_equal(name: str, tmp_path: Path) -> None:
    graph = MODELS[name]()
    graph.save(tmp_path / "g.graphc")
    loaded = graphc.load(tmp_path / "g.graphc")
    assert loaded == graph and str(loaded) == str(graph)
    assert loaded.constants == graph.constants  # the same objects
    feeds = feeds_of(graph)
    same(loaded.evaluate(feeds, updates=True), graph.evaluate(feeds, updates=True))
    assert [p.name for p in tmp_path.iterdir()] == ["g.graphc"]


@pytest.mark.parametrize("name", MODELS)
def test_the_golden_files_are_read(name: str, request: pytest.FixtureRequest) -> None:
    """Files of format 1 as the first release wrote them, and what they computed then."""
    path, values = GOLDEN / f"{name}.graphc", GOLDEN / f"{name}.npz"
    # A file of a released format is never written again: it is removed by hand to be made anew.
    if request.config.getoption("--update-golden") and not path.exists():
        graph = MODELS[name]()
        graph.save(path)
        np.savez(values, **graph.evaluate(feeds_of(graph), updates=True))
    loaded = graphc.load(path)
    if name != "training":  # its updates are as the optimizer of that release wrote them
        assert loaded == MODELS[name]()
    with np.load(values) as expected:
        found = loaded.evaluate(feeds_of(loaded), updates=True)
        assert set(found) == set(expected.files)
        for key in found:
            np.testing.assert_allclose(found[key], expected[key], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_equal_graphs_are_equal_bytes(name: str, tmp_path: Path) -> None:
    """Twice, after a load, and in another process with another hash seed."""
    MODELS[name]().save(tmp_path / "a")
    MODELS[name]().save(tmp_path / "b")
    graphc.load(tmp_path / "a").save(tmp_path / "c")
    target = str(tmp_path / "d")
    code = f"from tests.artifact.models import MODELS; MODELS[{name!r}]().save({target!r})"
    root = Path(graphc.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=tmp_path)
    assert len({(tmp_path / c).read_bytes() for c in "abcd"}) == 1


def test_a_shared_constant_tells_nothing_of_another_graph(tmp_path: Path) -> None:
    """Equal constants are one node, whose line is that of whoever wrote it first."""
    elsewhere: dict[str, Any] = {"graphc": graphc}
    first = compile(
        "value = graphc.broadcast_to(graphc.constant(0.8125), (3,))", "secret.py", "exec"
    )
    exec(first, elsewhere)
    x = graphc.placeholder((3,), "float64", name="x")
    y = x * graphc.broadcast_to(graphc.constant(0.8125), (3,))
    graphc.Graph([x], {"y": y}).save(tmp_path / "g.graphc")
    with zipfile.ZipFile(tmp_path / "g.graphc") as archive:
        content = json.loads(archive.read("provenance.json"))
    assert content["files"] == ["test_files.py"], elsewhere["value"]


def test_other_tools_read_the_members(tmp_path: Path) -> None:
    graph = MODELS["training"]()
    graph.save(tmp_path / "g.graphc")
    with zipfile.ZipFile(tmp_path / "g.graphc") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == ["manifest.json", "graph.txt", "provenance.json", "weights.safetensors"]
        data = {name: archive.read(name) for name in names}
        whole = (tmp_path / "g.graphc").read_bytes()
        for info in archive.infolist():
            lengths = whole[info.header_offset + 26 : info.header_offset + 30]
            start = info.header_offset + 30 + sum(np.frombuffer(lengths, "<u2").tolist())
            assert start % 64 == 0 and whole[start : start + 4] == data[info.filename][:4]
    manifest = json.loads(data["manifest.json"])
    for name, record in manifest["members"].items():
        assert record["size"] == len(data[name])
        assert record["sha256"] == hashlib.sha256(data[name]).hexdigest()
    tensors = load_safetensors(data["weights.safetensors"])
    assert "w" in tensors
    np.testing.assert_array_equal(tensors["w"], graph["w"].attr("value").values)
    text = data["graph.txt"].decode()
    digest = hashlib.sha256(b"f32[12, 5]:" + tensors["w"].tobytes()).hexdigest()
    assert f"@{digest}" in text


def test_the_graph_of_a_function_has_the_current_values(tmp_path: Path) -> None:
    big = graphc.variable(np.zeros((30, 3), np.float32), name="big")
    small = graphc.variable(np.float32(1), name="small")
    x = graphc.placeholder((3,), name="x")
    with graphc.Session() as session:
        updates = {big: big + x, small: small * 2}
        step = session.function([x], graphc.sum(big) + small, updates)
        for _ in range(3):
            step(np.array([1, 2, 3], np.float32))
        before = str(step.graph)
        step.graph.save(tmp_path / "now.graphc")
        assert str(step.graph) == before
        step(np.array([1, 2, 3], np.float32))
        graphc.Graph([x], big @ x * small).save(tmp_path / "first.graphc")
    now = graphc.load(tmp_path / "now.graphc")
    assert now["big"].attr("value").values[4].tolist() == [3, 6, 9]
    assert now["small"].attr("value").values == 8
    names = [(v.attr("name"), n.type) for v, n in now.updates]
    assert names == [("big", big.type), ("small", small.type)]
    with graphc.Session() as session:
        again = session.function([now["x"]], now["output"], dict(now.updates))
        assert again(np.ones(3, np.float32)) == 540 + 8
        assert session.value(now["small"]) == 16
    first = graphc.load(tmp_path / "first.graphc")
    assert first["big"].attr("value").values.max() == 0
    assert first["small"].attr("value").values == 1


def test_a_loaded_graph_runs_compiled(tmp_path: Path) -> None:
    graph = MODELS["inference"]()
    graph.save(tmp_path / "g.graphc")
    loaded = graphc.load(tmp_path / "g.graphc")
    feeds = feeds_of(graph)
    with graphc.Session() as session:
        tensors = [t for _, t in loaded.outputs]
        found = session.run(tensors, feeds)
    for value, expected in zip(found, graph.evaluate(feeds).values(), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def test_lines_are_kept_without_folders(tmp_path: Path) -> None:
    graph = MODELS["inference"]()
    graph.save(tmp_path / "with")
    graph.save(tmp_path / "without", provenance=False)
    declared = provenance.locations(graph["features"])[0]
    (kept,) = provenance.locations(graphc.load(tmp_path / "with")["features"])
    assert kept.file == "models.py" and kept.line == declared.line
    assert str(Path(declared.file).parent).encode() not in (tmp_path / "with").read_bytes()
    loaded = graphc.load(tmp_path / "without")
    assert provenance.locations(loaded["features"])[0].file == __file__
    assert b"models.py" not in (tmp_path / "without").read_bytes()


def test_placeholders_of_a_loaded_graph_are_its_own(tmp_path: Path) -> None:
    graph = MODELS["inference"]()
    graph.save(tmp_path / "g")
    first, second = graphc.load(tmp_path / "g"), graphc.load(tmp_path / "g")
    assert len({id(g["x"]) for g in (graph, first, second)}) == 3


def large_file(path: Path) -> bytes:
    """A file whose weights are not read when it is loaded."""
    rng = np.random.default_rng(0)
    table = rng.integers(0, 255, EAGER_BYTES + 4096, np.uint8)
    other = graphc.variable(np.arange(4096, dtype=np.int64), name="other")
    x = graphc.variable(table, name="table")
    graphc.Graph([], {"a": graphc.max(x), "b": graphc.sum(other)}, name="large").save(path)
    return path.read_bytes()


def test_large_weights_are_checked_when_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "g.graphc"
    data = bytearray(large_file(path))
    place = data.rindex(bytes(np.arange(4096, dtype=np.int64)))
    data[place + 800] ^= 1
    path.write_bytes(data)
    graph = graphc.load(path)
    assert graph["table"].attr("value").stored.size == EAGER_BYTES + 4096
    damaged = "weights.safetensors: other: sha256 of its type and bytes is"
    for read in (
        lambda: graph["other"].attr("value").stored,
        lambda: graph.evaluate({}),
        lambda: graphc.Session().run(graph["b"]),
        lambda: graph.save(tmp_path / "again"),
    ):
        with pytest.raises(graphc.FormatError, match=damaged):
            read()
    assert not (tmp_path / "again").exists()
    with pytest.raises(graphc.FormatError, match=r"weights.safetensors: CRC-32 is"):
        graphc.load(path, check=True)
    data[place + 800] ^= 1
    path.write_bytes(data)
    assert graphc.load(path, check=True).evaluate({})["b"] == 4096 * 4095 // 2


def test_a_tensor_that_lies_cannot_stand_for_another(tmp_path: Path) -> None:
    """A value whose bytes nobody has seen is not taken for the live one of the same digest."""
    path = tmp_path / "g.graphc"
    data = bytearray(large_file(path))
    true = graphc.constant(np.arange(4096, dtype=np.int64))
    place = data.rindex(bytes(np.arange(4096, dtype=np.int64)))
    data[place] ^= 1
    path.write_bytes(data)
    value = graphc.load(path)["other"].attr("value")
    assert value.digest == true.attr("value").digest and value is not true.attr("value")
    assert graphc.constant(np.arange(4096, dtype=np.int64)) is true
    with pytest.raises(graphc.FormatError):
        value.check()


def test_saving_over_the_file_that_a_graph_lives_in(tmp_path: Path) -> None:
    path = tmp_path / "g.graphc"
    data = large_file(path)
    graph = graphc.load(path)
    graph.save(path)
    assert path.read_bytes() == data
    assert graph.evaluate({})["b"] == 4096 * 4095 // 2


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "empty", "text", "name"])
def test_what_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "g.graphc"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind in ("empty", "text"):
        path.write_text("" if kind == "empty" else 'graph "g" { and so on, more than 22 bytes }')
    with pytest.raises(graphc.FormatError, match="hint"):
        graphc.load("a\0b" if kind == "name" else path)


def test_stale_files_of_killed_saves_are_removed(tmp_path: Path) -> None:
    graph = MODELS["inference"]()
    stale, young, other = (tmp_path / f".g.graphc.{'0' * 11}{k}.tmp" for k in (1, 2, 3))
    foreign = tmp_path / ".h.graphc.000000000001.tmp"
    for path in (stale, young, other, foreign):
        path.write_bytes(b"left")
    for path in (stale, other, foreign):
        os.utime(path, (1, 1))
    code = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(); input()"
    )
    command = [sys.executable, "-c", code, str(other)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline()
        graph.save(tmp_path / "g.graphc")
        writer.kill()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"g.graphc", young.name, other.name, foreign.name}
