"""External data: read safely from the model's folder, and from nowhere else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc
from tests.onnx.models import data_of, small

WEIGHTS = np.arange(6, dtype=np.float32)


def model_with(folder: Path, **fields: str) -> Path:
    """The small model, its weights outside, as the fields say."""
    proto = small()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    for key, value in fields.items():
        tensor.external_data.add(key=key, value=value)
    path = folder / "model.onnx"
    path.write_bytes(data_of(proto))
    return path


def product(graph: graphc.Graph) -> Any:
    return graph.evaluate({"x": np.eye(3, dtype=np.float32)})["y"]


@pytest.mark.parametrize("location", ["weights.bin", "parts/weights.bin", "./parts/weights.bin"])
def test_read(tmp_path: Path, location: str) -> None:
    (tmp_path / "parts").mkdir()
    data = bytes(64) + WEIGHTS.tobytes() + b"more"
    (tmp_path / location).write_bytes(data)
    path = model_with(tmp_path, location=location, offset="64", length="24")
    expected = np.maximum(WEIGHTS.reshape(3, 2) + np.array([-1, 0.5], np.float32), 0)
    np.testing.assert_array_equal(product(graphc.onnx.load(path)), expected)


def test_whole_file_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(WEIGHTS.tobytes())
    assert product(graphc.onnx.load(model_with(tmp_path, location="w"))).shape == (3, 2)


def test_the_model_may_lie_behind_a_link(tmp_path: Path) -> None:
    """The folder is the one that the user names; only what the file names is held to be hostile."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "w").write_bytes(WEIGHTS.tobytes())
    model_with(tmp_path / "real", location="w")
    (tmp_path / "linked").symlink_to("real")
    assert product(graphc.onnx.load(tmp_path / "linked" / "model.onnx")).shape == (3, 2)


@pytest.fixture
def inner(tmp_path: Path) -> Path:
    """A folder of a model beside what it must not read."""
    (tmp_path / "secret").write_bytes(WEIGHTS.tobytes())
    folder = tmp_path / "inner"
    (folder / "sub").mkdir(parents=True)
    (folder / "w").write_bytes(WEIGHTS.tobytes())
    (folder / "link").symlink_to("../secret")
    (folder / "within").symlink_to("w")
    (folder / "out").symlink_to("..")
    (folder / "nothing").write_bytes(b"")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("../secret", "must not lie at '../secret'"),
        ("sub/../../secret", "must not lie at"),
        ("..", "must not lie at"),
        ("/etc/passwd", "must not lie at '/etc/passwd'"),
        ("//etc/passwd", "must not lie at"),
        ("sub//w", "must not lie at"),
        ("..\\secret", "must not lie at"),
        ("C:/secret", "must not lie at"),
        ("", "must not lie at ''"),
        ("w\0", "must not lie at"),
        ("link", "'link' cannot be read: it is a link"),
        ("within", "'within' cannot be read: it is a link"),
        ("out/secret", "'out/secret' cannot be read: it is a link"),
        ("missing", "'missing' cannot be read: No such file"),
        ("sub", "'sub' cannot be read: it is no file"),
        (".", "'.' cannot be read: it is no file"),
        ("pipe", "'pipe' cannot be read: it is no file"),
        ("w/x", "'w/x' cannot be read: it is a link or no file"),
        ("nothing", "has the length 0, expected 24"),
    ],
)
def test_refused_places(inner: Path, location: str, says: str) -> None:
    with pytest.raises(graphc.FormatError) as found:
        graphc.onnx.load(model_with(inner, location=location))
    assert says in str(found.value)
    assert "initializer 'w'" in str(found.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"location": "w", "offset": "8"}, "has the length 16, expected 24"),
        ({"location": "w", "offset": "8", "length": "24"}, "which has 24 bytes"),
        ({"location": "w", "length": "23"}, "has the length 23"),
        ({"location": "w", "offset": "-1"}, "has the offset '-1'"),
        ({"location": "w", "offset": "1e3"}, "has the offset '1e3'"),
        ({"location": "w", "length": "9" * 30}, "has the length"),
        ({"location": "w", "offset": "9" * 18, "length": "24"}, "ends at byte"),
        ({"offset": "0"}, "without a location"),
    ],
)
def test_refused_ranges(inner: Path, fields: dict[str, str], says: str) -> None:
    with pytest.raises(graphc.FormatError, match=says):
        graphc.onnx.load(model_with(inner, **fields))


def test_refused_twice_said(inner: Path) -> None:
    path = model_with(inner, location="w")
    proto = small()
    proto.ParseFromString(path.read_bytes())
    proto.graph.initializer[0].external_data.add(key="location", value="../secret")
    path.write_bytes(data_of(proto))
    with pytest.raises(graphc.FormatError, match="says 'location' twice"):
        graphc.onnx.load(path)


def test_refused_both(inner: Path) -> None:
    path = model_with(inner, location="w")
    proto = small()
    proto.ParseFromString(path.read_bytes())
    proto.graph.initializer[0].raw_data = WEIGHTS.tobytes()
    path.write_bytes(data_of(proto))
    with pytest.raises(graphc.FormatError, match="both inside and outside"):
        graphc.onnx.load(path)
