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

from tests.onnx.torch_models import CASES  # noqa: E402  # it needs torch

NEEDS_SCRIPT = pytest.mark.skipif(
    importlib.util.find_spec("onnxscript") is None,
    reason="onnxscript is not installed: pip install onnxscript for torch's newer exporter",
)
EXPORTERS = ["torchscript", pytest.param("dynamo", marks=NEEDS_SCRIPT)]


def exported(name: str, exporter: str, path: Path) -> tuple[Any, Any]:
    """The module and its example inputs; its model is at `path`, dim 0 of the inputs symbolic."""
    torch.manual_seed(len(name))
    module, example = CASES[name]()
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
                dims = tuple({0: torch.export.Dim.DYNAMIC} for _ in example)
                shapes = (dims,) if hasattr(module, "function") else dims
                program = torch.onnx.export(
                    module, example, dynamo=True, dynamic_shapes=shapes, input_names=inputs
                )
                program.save(path)
            else:
                axes = {n: {0: "batch"} for n in inputs}
                torch.onnx.export(
                    module, example, path, dynamo=False, dynamic_axes=axes, input_names=inputs
                )
        finally:
            logging.disable(logging.NOTSET)
    return module, example


def with_batch(example: Any, batch: int) -> list[Any]:
    """Inputs as the example, with another batch and other values."""
    found = []
    for t in example:
        shape = (batch, *t.shape[1:])
        if t.dtype.is_floating_point:
            found.append(torch.randn(shape))
        else:
            found.append(torch.randint(0, int(t.max()) + 1, shape))
    return found


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", CASES)
def test_exported(name: str, exporter: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    module, example = exported(name, exporter, path)
    graph = graphc.onnx.load(path)
    with graphc.Session() as session:
        function = session.function([t for _, t in graph.inputs], dict(graph.outputs))
        for inputs in (example, with_batch(example, 3), with_batch(example, 1)):
            with torch.no_grad():
                expected = module(*inputs)
            found = list(function(*[t.numpy() for t in inputs]).values())
            wanted = expected if isinstance(expected, tuple) else (expected,)
            assert len(found) == len(wanted)
            for ours, theirs in zip(found, wanted, strict=True):
                assert ours.shape == tuple(theirs.shape)
                np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)
