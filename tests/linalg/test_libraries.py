"""Factorizations in C libraries: no LAPACK is linked, every instruction set has them, and matrices
without an answer are a status.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import graphc
from graphc import linalg
from graphc.aot.library import Library

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None, reason="no C compiler (cc) to link a library with"
)


def test_a_library_factors_matrices(tmp_path: Path) -> None:
    x = graphc.placeholder(("n", "n"), "float64", name="x")
    positive = x @ x.T + graphc.eye(x.shape[0], dtype="float64")
    outputs = {
        "cholesky": linalg.cholesky(positive),
        "values": linalg.eigh(positive).eigenvalues,
        "singular": linalg.svdvals(x),
        "r": linalg.qr(x).R,
        "inverse": linalg.inv(x),
    }
    graph = graphc.Graph([x], outputs, name="factors")
    graphc.compile(graph, tmp_path, name="factors")
    library = Library(graph, tmp_path)
    best = library.chosen
    for n in (1, 4, 40):
        feeds = {"x": np.random.default_rng(n).standard_normal((n, n))}
        with graphc.Session() as session:
            expected = session.run(outputs, feeds)
        for name, value in library.run(feeds).items():
            np.testing.assert_array_equal(value, expected[name])
        for target in library.available():
            library.select(target)
            for name, value in library.run(feeds).items():
                scale = float(np.abs(expected[name]).max())
                np.testing.assert_allclose(value, expected[name], atol=1e-11 * scale)
        library.select(best)
    with pytest.raises(graphc.ExecutionError, match="singular"):
        library.run({"x": np.ones((4, 4))})
