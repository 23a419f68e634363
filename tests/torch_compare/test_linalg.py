"""`graphc.linalg` against torch.linalg: values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphc import linalg
from tests.torch_compare.comparing import compare, draw, torch

(SQUARE, TALL, RIGHT) = draw((2, 4, 4), (2, 5, 3), (2, 4, 3))
POSITIVE = SQUARE @ SQUARE.swapaxes(-1, -2) + np.eye(4)
SYMMETRIC = SQUARE + SQUARE.swapaxes(-1, -2)

CASES: dict[str, tuple[Callable[..., Any], Callable[..., Any], list[Any]]] = {
    "cholesky": (linalg.cholesky, lambda x: torch().linalg.cholesky(x), [POSITIVE]),
    "solve": (linalg.solve, lambda a, b: torch().linalg.solve(a, b), [SQUARE, RIGHT]),
    "triangular": (
        lambda a, b: linalg.triangular_solve(a, b, upper=True),
        lambda a, b: torch().linalg.solve_triangular(a, b, upper=True),
        [SQUARE + 4.0 * np.eye(4), RIGHT],
    ),
    "inv": (linalg.inv, lambda x: torch().linalg.inv(x), [SQUARE]),
    "det": (linalg.det, lambda x: torch().linalg.det(x), [SQUARE]),
    "slogdet": (
        lambda x: linalg.slogdet(x).logabsdet, lambda x: torch().linalg.slogdet(x)[1], [SQUARE],
    ),
    "lu lower": (lambda x: linalg.lu(x).L, lambda x: torch().linalg.lu(x)[1], [TALL]),
    "lu upper": (lambda x: linalg.lu(x).U, lambda x: torch().linalg.lu(x)[2], [SQUARE]),
    "qr q": (lambda x: linalg.qr(x).Q, lambda x: torch().linalg.qr(x)[0], [TALL]),
    "qr r": (lambda x: linalg.qr(x).R, lambda x: torch().linalg.qr(x)[1], [TALL]),
    "eigenvalues": (
        lambda x: linalg.eigh(x).eigenvalues, lambda x: torch().linalg.eigh(x)[0], [SYMMETRIC],
    ),
    # Signs of vectors are free: products of an even number of them are not.
    "eigenvectors": (
        lambda x: linalg.eigh(x).eigenvectors ** 2,
        lambda x: torch().linalg.eigh(x)[1] ** 2,
        [SYMMETRIC],
    ),
    "singular vectors": (
        lambda x: linalg.svd(x, full_matrices=False).U ** 2,
        lambda x: torch().linalg.svd(x, full_matrices=False)[0] ** 2,
        [TALL],
    ),
    "svdvals": (linalg.svdvals, lambda x: torch().linalg.svdvals(x), [TALL]),
    "pinv": (linalg.pinv, lambda x: torch().linalg.pinv(x), [TALL]),
    "power": (
        lambda x: linalg.matrix_power(x, -2),
        lambda x: torch().linalg.matrix_power(x, -2),
        [SQUARE],
    ),
    "expm": (linalg.expm, lambda x: torch().linalg.matrix_exp(x), [SQUARE]),
    "nuclear norm": (
        lambda x: linalg.matrix_norm(x, ord="nuc"),
        lambda x: torch().linalg.matrix_norm(x, ord="nuc"),
        [TALL],
    ),
    "least squares": (
        lambda a, b: linalg.lstsq(a, b).x,
        lambda a, b: torch().linalg.pinv(a) @ b,
        [TALL, draw((2, 5, 2))[0]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_linalg(name: str) -> None:
    ours, theirs, arrays = CASES[name]
    compare(ours, theirs, arrays, tolerance=1e-9)
