"""How fast are factorizations of matrices, beside LAPACK through NumPy?

One thread; NumPy's library uses as many as it wants, so set OPENBLAS_NUM_THREADS=1 to compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import graphc
from benchmarks.measure import measure, readable
from benchmarks.table import Row

Array = np.ndarray[Any, Any]
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "cholesky": (graphc.linalg.cholesky, np.linalg.cholesky),
    "solve, n right sides": (
        lambda x: graphc.linalg.solve(x, x + 1.0),
        lambda x: np.linalg.solve(x, x + 1.0),
    ),
    "det": (graphc.linalg.det, np.linalg.det),
    "qr": (lambda x: list(graphc.linalg.qr(x)), np.linalg.qr),
    "eigh": (lambda x: list(graphc.linalg.eigh(x)), np.linalg.eigh),
    "eigvalsh": (graphc.linalg.eigvalsh, np.linalg.eigvalsh),
    "svd": (lambda x: list(graphc.linalg.svd(x)), np.linalg.svd),
    "svdvals": (graphc.linalg.svdvals, lambda x: np.linalg.svd(x, compute_uv=False)),
}
SHAPES = ((32, 32), (128, 128), (512, 512), (1000, 8, 8))


def run() -> Iterator[Row]:
    """One row per function, dtype and size: symmetric positive definite matrices."""
    rng = np.random.default_rng(0)
    for name, (ours, theirs) in CASES.items():
        for dtype in ("float32", "float64"):
            for shape in SHAPES:
                x = rng.normal(size=shape)
                n = shape[-1]
                x = ((x @ x.swapaxes(-1, -2)) / n + np.eye(n)).astype(dtype)
                given = graphc.placeholder(shape, dtype)
                with graphc.Session(threads=1) as session:
                    function = session.function([given], ours(given))
                    timing = measure(lambda f=function, a=x: f(a), seconds=0.3)
                reference = measure(lambda f=theirs, a=x: f(a), seconds=0.3)
                size = " × ".join(map(str, shape))
                yield {
                    "function": name, "dtype": dtype, "matrices": size,
                    "graphc": readable(timing.best), "NumPy": readable(reference.best),
                    "ratio": f"{timing.best / reference.best:.2f}",
                }  # fmt: skip
