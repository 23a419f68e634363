"""NumPy's functions and arrays on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.errors import UnsupportedError
from graphc.ir.graph import Graph
from graphc.ops.numpy_protocol import _UFUNCS
from graphc.ops.state import placeholder

RNG = np.random.default_rng(0)
A = RNG.uniform(0.1, 0.9, (3, 4))
B = RNG.uniform(1.1, 1.9, (3, 4))


def evaluated(result: Any, feeds: dict[Any, Any]) -> Any:
    """The reference meaning of a tensor or a list of tensors."""
    if isinstance(result, list | tuple):
        return [evaluated(r, feeds) for r in result]
    return Graph(list(feeds), {"y": result}).evaluate(feeds)["y"]


@pytest.mark.parametrize(
    "ufunc",
    [u for u in _UFUNCS if u is not np.conjugate],  # refused: there are no complex tensors
    ids=lambda u: u.__name__,
)
def test_ufuncs(ufunc: np.ufunc) -> None:
    values: list[Any] = [A, B.T if ufunc is np.matmul else B][: ufunc.nin]
    if ufunc is np.arccosh:
        values = [B]
    if not any(t.startswith("d") for t in ufunc.types) and ufunc not in (np.matmul, np.vecdot):
        values = [(v * 100).astype(np.int64) for v in values]
    tensors = [placeholder(v.shape, v.dtype) for v in values]
    result = ufunc(*tensors)
    expected = ufunc(*values)
    got = evaluated(result, dict(zip(tensors, values, strict=True)))
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-14)


FUNCTIONS: list[Callable[[Any], Any]] = [
    np.sum,
    np.prod,
    lambda x: np.sum(x, axis=1, keepdims=True),
    lambda x: np.sum(x, 0, dtype=np.float32),
    lambda x: np.mean(x, axis=(0, 1)),
    lambda x: np.max(x, axis=0),
    lambda x: np.argmin(x, axis=1),
    lambda x: np.var(x, axis=1, ddof=1),
    lambda x: np.std(x),
    lambda x: np.median(x, axis=0),
    lambda x: np.any(x > 0.5, axis=1),
    lambda x: np.cumsum(x),
    lambda x: np.cumsum(x, axis=1),
    lambda x: np.concatenate([x, B], axis=1),
    lambda x: np.stack([x, B], axis=1),
    lambda x: np.vstack([x, B]),
    lambda x: np.hstack([x, B]),
    lambda x: np.split(x, 2, axis=1),
    lambda x: np.reshape(x, (2, -1)),
    np.ravel,
    lambda x: np.expand_dims(x, 1),
    lambda x: np.squeeze(x[:1]),
    np.transpose,
    lambda x: np.transpose(x, (1, 0)),
    lambda x: np.swapaxes(x, 0, 1),
    lambda x: np.moveaxis(x, 0, -1),
    lambda x: np.broadcast_to(x, (2, 3, 4)),
    lambda x: np.flip(x, axis=1),
    lambda x: np.roll(x, 2, axis=1),
    lambda x: np.tile(x, (2, 1)),
    lambda x: np.repeat(x, 2, axis=0),
    lambda x: np.pad(x, 1),
    lambda x: np.where(x > 0.5, x, 0.0),
    lambda x: np.clip(x, 0.2, 0.7),
    lambda x: np.clip(x, 0.2, None),
    np.round,
    lambda x: np.round(x, 1),
    np.nan_to_num,
    lambda x: np.take(x, [0, 2], axis=1),
    lambda x: np.take_along_axis(x, np.argsort(A, axis=1), axis=1),
    np.sort,
    lambda x: np.argsort(x, axis=0),
    lambda x: np.dot(x, B.T),
    lambda x: np.dot(x, 2.0),
    lambda x: np.tensordot(x, B, axes=2),
    lambda x: np.outer(x[0], B[1]),
    lambda x: np.einsum("ij,ij->i", x, B),
    np.trace,
    np.tril,
    lambda x: np.triu(x, 1),
    lambda x: np.meshgrid(x[0], B[1]),
    np.zeros_like,
    lambda x: np.full_like(x, 3),
    lambda x: B + x,
    lambda x: B @ x.T,
    lambda x: np.float64(2) - x,
    lambda x: B.astype(np.float32) < x,
    lambda x: x[np.array([True, False, True])],
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=range(len(FUNCTIONS)))
def test_functions(function: Callable[[Any], Any]) -> None:
    x = placeholder(A.shape, "float64")
    expected = function(A)
    got = evaluated(function(x), {x: A})
    assert np.shape(got) == np.shape(expected)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_shape_functions() -> None:
    x = placeholder(("n", 4), "float64")
    assert np.shape(x) == x.shape
    assert np.ndim(x) == 2
    assert np.size(x, 1) == 4


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: np.add.reduce(x), r"use graphc\.sum"),
        (lambda x: np.cbrt(x), "np.cbrt has no counterpart"),
        (lambda x: np.exp(x, out=np.zeros((3, 4))), "cannot be written into an array"),
        (lambda x: np.exp(x, where=A > 0), "does not take where="),
        (lambda x: np.fft.fft(x), "np.fft does not take a symbolic tensor"),
        (lambda x: np.sum(x, out=np.zeros(())), "out"),
        (lambda x: np.conjugate(x), "complex numbers are not supported"),
        (lambda x: np.reshape(x, (4, 3), order="F"), "order='F'"),
    ],
)
def test_refusals(call: Callable[[Any], Any], text: str) -> None:
    with pytest.raises(UnsupportedError, match=text) as caught:
        call(placeholder((3, 4), "float64"))
    assert "test_numpy_protocol.py" in str(caught.value)


def test_in_place_on_an_array() -> None:
    array = np.zeros((3, 4))
    with pytest.raises(UnsupportedError, match=r"array \+= tensor"):
        array += placeholder((3, 4), "float64")


def test_array_namespace() -> None:
    x = placeholder((3,), "float64")
    assert x.__array_namespace__() is graphc
    assert x.__array_namespace__(api_version="2024.12") is graphc
    with pytest.raises(UnsupportedError, match="not known"):
        x.__array_namespace__(api_version="1999.12")
