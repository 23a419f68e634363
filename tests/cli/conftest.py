"""A folder with small models and arrays, the same for all tests of the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.running import SMALL


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "small.g").write_text(SMALL)
    (folder / "broken.g").write_text(SMALL.replace("exp(%h)", "exq(%h)"))
    (folder / "binary.graphc").write_bytes(bytes(range(256)))
    (folder / "model.onnx").write_bytes(b"\x08\x07\x12\x04test")
    np.save(folder / "x.npy", np.arange(20, dtype=np.float32).reshape(5, 4) / 8)
    np.save(folder / "wide.npy", np.zeros((5, 4)))
    np.save(folder / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(folder / "both.npz", x=np.ones((2, 4), np.float32), t=np.array([0, 2]))
    return folder
