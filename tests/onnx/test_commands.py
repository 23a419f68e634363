"""Every command takes an ONNX file where it takes a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.running import bad, good
from tests.onnx.models import data_of, one_node, small


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.onnx").write_bytes(data_of(small()))
    (tmp_path / "renamed.bin").write_bytes(data_of(small()))
    (tmp_path / "cut.onnx").write_bytes(data_of(small())[:60])
    axes = one_node("ReduceSum", {"x": (2, 3), "axes": (1,)})
    axes.graph.input[1].type.tensor_type.elem_type = 7
    (tmp_path / "axes.onnx").write_bytes(data_of(axes))
    return tmp_path


def test_run(folder: Path) -> None:
    np.save(folder / "x.npy", np.eye(3, dtype=np.float32))
    good("run", "net.onnx", "--feed", "x=x.npy", "--output", "y=y.npy", folder=folder)
    np.testing.assert_array_equal(np.load(folder / "y.npy"), [[0, 0.625], [0, 0.875], [0, 1.125]])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspect", "net.onnx"], "onnx of"),
        (["inspect", "renamed.bin"], "onnx of"),
        (["verify", "net.onnx", "--dim", "batch=3"], "all right"),
        (["explain", "net.onnx", "--stage", "graph"], "einsum"),
        (["opt", "net.onnx"], "output"),
        (["view", "net.onnx", "-o", "net.html"], "net.html"),
        (["compile", "net.onnx", "-o", "build"], "net.h"),
    ],
)
def test_commands(folder: Path, arguments: list[str], says: str) -> None:
    assert says in good(*arguments, folder=folder)


def test_refused(folder: Path) -> None:
    bad("inspect", "cut.onnx", folder=folder, says="cut.onnx: the file: it is no ONNX model")
    bad("inspect", "axes.onnx", folder=folder, says="the axes must be known when compiling")
