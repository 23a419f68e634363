"""The model zoo, each model small: it learns, is saved, exported, and shipped as a C library."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphc
from examples.models import gpt, resnet
from examples.models.parts import Array, Trainer
from tests.examples.zoo import ZOO, Small
from tests.onnx_export.running import RUNTIME, model_of, run_reference, run_runtime

SHARED = {"__init__", "data", "digits", "parts", "texts"}
FOLDER = Path(gpt.__file__).parent
MODULES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem not in SHARED)
# ONNX's reference evaluator cannot run a Scan from the last step to the first.
BACKWARDS = {"bilstm", "seq2seq"}
SLOW = [pytest.param(n, marks=() if s.quick else pytest.mark.slow) for n, s in ZOO.items()]
# Seconds of the C compiler's work in the default suite: a network and one with state and loops.
SHIPPED = [pytest.param(n, marks=() if n in ("lenet", "gru") else pytest.mark.slow) for n in ZOO]


def reference(graph: graphc.Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    return graph.evaluate(feeds)


def assert_close(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape and found[name].dtype == value.dtype, name
        if value.dtype.kind == "f":
            np.testing.assert_allclose(found[name], value, 1e-3, 1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("name", SLOW)
def test_it_learns_and_its_trained_graph_is_saved(name: str, tmp_path: Path) -> None:
    small = ZOO[name]
    model, batch = small.build(), small.batch()
    with graphc.Session() as session:
        trainer = Trainer(session, model, 40, 5e-3)
        losses = [float(trainer.step(*batch)) for _ in range(12)]
        graph = trainer.graph
        path = tmp_path / "model.graphc"
        graph.save(path)
        feeds = small.feeds()
        current = session.run(model.outputs, {t: feeds[n] for n, t in model.graph.inputs})
    assert np.mean(losses[-3:]) < np.mean(losses[:3]), losses
    loaded = graphc.load(path)
    assert loaded == graph.with_current_values()
    assert_close(loaded.evaluate(feeds), {k: np.asarray(v) for k, v in current.items()})


@pytest.mark.parametrize("name", ZOO)
def test_it_is_exported_to_onnx(name: str) -> None:
    graph, feeds = ZOO[name].build().graph, ZOO[name].feeds()
    model = model_of(graph)
    expected = reference(graph, feeds)
    if name not in BACKWARDS:
        assert_close(run_reference(graph, model, feeds), expected)
    if RUNTIME:
        assert_close(run_runtime(graph, model, feeds), expected)


@pytest.mark.parametrize("name", ZOO)
def test_export_then_import_is_the_identity(name: str, tmp_path: Path) -> None:
    graph, feeds = ZOO[name].build().graph, ZOO[name].feeds()
    graph.export_onnx(tmp_path / "model.onnx")
    again = graphc.onnx.load(tmp_path / "model.onnx")
    for now, before in ((again.inputs, graph.inputs), (again.outputs, graph.outputs)):
        assert [(n, str(t.type)) for n, t in now] == [(n, str(t.type)) for n, t in before]
    assert_close(again.evaluate(feeds), reference(graph, feeds))


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_shipped_as_a_c_library(name: str, tmp_path: Path) -> None:
    graph, feeds = ZOO[name].build().graph, ZOO[name].feeds()
    graphc.compile(graph, tmp_path / "lib", name="model", bindings=["python"])
    expected = reference(graph, feeds)
    assert_close(_call(tmp_path / "lib", graph, feeds), expected)


def _call(folder: Path, graph: graphc.Graph, feeds: dict[str, Array]) -> dict[str, Array]:
    """The outputs of a library, called through its Python binding, which needs NumPy alone."""
    spec = importlib.util.spec_from_file_location("generated_model", folder / "model_numpy.py")
    assert spec is not None and spec.loader is not None
    binding = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(binding)
    found: dict[str, Array] = binding.run(*(feeds[name] for name, _ in graph.inputs))
    return {name: np.asarray(found[name]) for name, _ in graph.outputs}


def test_the_cache_of_the_decoder_changes_nothing() -> None:
    """One place after the other gives what the whole text gives at once."""
    sizes = gpt.Sizes(6, 8, 2, 2)
    model = gpt.build(sizes)
    text = np.random.default_rng(1).integers(1, 90, (2, 6))
    ids = graphc.placeholder((2, 6), "int64", name="whole")
    logits, _ = gpt.network(model.parameters, ids, graphc.iota((6,), 0), None, sizes)
    whole = graphc.Graph([ids], {"y": logits}).evaluate({"whole": text})["y"]
    caches = [np.zeros((2, 2, 0, 4), np.float32)] * 4
    with graphc.Session() as session:
        function = session.function(model.inputs, model.outputs)
        for k in range(6):
            found = function(text[:, k : k + 1], *caches)
            np.testing.assert_allclose(found["logits"], whole[:, k], 1e-4, 1e-5)
            caches = [a for name, a in found.items() if name != "logits"]


def test_small_covers_every_model_of_the_folder() -> None:
    cells = {"lstm", "bilstm", "gru"}
    assert set(MODULES) == (set(ZOO) - cells) | {"text_classifier"}
    assert all(isinstance(small, Small) for small in ZOO.values())


@pytest.mark.slow
def test_resnet_50_passes_verify(tmp_path: Path) -> None:
    """The whole network, on pictures of 64 × 64: the reference meaning is NumPy, op by op."""
    model = resnet.build(size=64)
    assert model.parameters.count == 25_557_032
    model.graph.save(tmp_path / "resnet50.graphc")
    line = ["verify", "resnet50.graphc", "--dim", "batch=1", "--samples", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "graphc", *line],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("name", [m for m in MODULES if m != "dqn"])
def test_it_runs_as_a_program(name: str, tmp_path: Path) -> None:
    """A few steps: the figures of the README come from the default number."""
    module = importlib.import_module(f"examples.models.{name}")
    folder = tmp_path / name
    assert module.main(["--steps", "3", "--output", str(folder)]) == 0
    assert (folder / "loss.png").read_bytes()[:4] == b"\x89PNG"
    (graph,) = folder.glob("*.graphc")
    assert graphc.load(graph).outputs


def test_the_page_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is in the table, every link leads somewhere, the code runs."""
    text = (FOLDER / "README.md").read_text()
    for name in MODULES:
        assert re.search(rf"^\| `{name}[` ]", text, re.MULTILINE), name
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (FOLDER / target).exists(), target
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert graphc.load("lenet.graphc").name == "lenet"
    assert Path("lenet.onnx").stat().st_size > 200_000
