"""Models that torch.onnx exports, beside torch: both exporters, also with another batch."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc

torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch (CPU)")

from tests.onnx.torch_models import CASES, SYMBOLIC  # noqa: E402  # it needs torch

NEEDS_SCRIPT = pytest.mark.skipif(
    importlib.util.find_spec("onnxscript") is None,
    reason="onnxscript is not installed: pip install onnxscript for torch's newer exporter",
)
EXPORTERS = ["torchscript", pytest.param("dynamo", marks=NEEDS_SCRIPT)]


def export(module: Any, example: Any, exporter: str, path: Path, axes: Any) -> None:
    """Write the model of a module to `path`. axes: per input, names of its symbolic axes."""
    module.eval()
    # The fast path of torch's encoder layers is an operator that the older exporter does not know.
    torch.backends.mha.set_fastpath_enabled(False)
    inputs = [f"input_{k}" for k in range(len(example))]
    quiet = contextlib.redirect_stdout(io.StringIO())
    with warnings.catch_warnings(), quiet, torch.no_grad():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            if exporter == "dynamo":
                dims = tuple(dict.fromkeys(a, torch.export.Dim.DYNAMIC) for a in axes)
                shapes = (dims,) if hasattr(module, "function") else dims
                program = torch.onnx.export(
                    module, example, dynamo=True, dynamic_shapes=shapes, input_names=inputs
                )
                program.save(path)
            else:
                named = dict(zip(inputs, axes, strict=True))
                torch.onnx.export(
                    module, example, path, dynamo=False, dynamic_axes=named, input_names=inputs
                )
        finally:
            logging.disable(logging.NOTSET)


def resized(example: Any, axes: Any, sizes: dict[str, int]) -> list[Any]:
    """Inputs as the example, with other values and sizes."""
    found = []
    for t, names in zip(example, axes, strict=True):
        shape = [sizes[names[a]] if a in names else n for a, n in enumerate(t.shape)]
        if t.dtype.is_floating_point:
            found.append(torch.randn(shape))
        else:
            found.append(torch.randint(0, int(t.max()) + 1, shape))
    return found


def compare(module: Any, path: Path, feeds: Any) -> None:
    """Hold the graph of a file against the module, for each list of inputs."""
    graph = graphc.onnx.load(path)
    with graphc.Session() as session:
        function = session.function([t for _, t in graph.inputs], dict(graph.outputs))
        for inputs in feeds:
            with torch.no_grad():
                expected = module(*inputs)
            found = list(function(*[t.numpy() for t in inputs]).values())
            wanted = expected if isinstance(expected, tuple) else (expected,)
            assert len(found) == len(wanted)
            for ours, theirs in zip(found, wanted, strict=True):
                assert ours.shape == tuple(theirs.shape)
                np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", CASES)
def test_exported(name: str, exporter: str, tmp_path: Path) -> None:
    torch.manual_seed(len(name))
    module, example = CASES[name]()
    axes = [{0: "batch"} for _ in example]
    export(module, example, exporter, tmp_path / "model.onnx", axes)
    others = [resized(example, axes, {"batch": n}) for n in (3, 1)]
    compare(module, tmp_path / "model.onnx", [example, *others])


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", SYMBOLIC)
def test_exported_with_symbolic_sizes(name: str, exporter: str, tmp_path: Path) -> None:
    torch.manual_seed(len(name))
    make, axes, sizes = SYMBOLIC[name]
    module, example = make()
    export(module, example, exporter, tmp_path / "model.onnx", axes)
    others = [resized(example, axes, s) for s in sizes]
    compare(module, tmp_path / "model.onnx", [example, *others])
