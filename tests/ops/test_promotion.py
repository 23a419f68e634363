"""Operands: promotion as the Array API and NumPy have it, weak numbers, broadcasting, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc.base.dims import Dim
from graphc.base.dtypes import ALL, DType, bfloat16
from graphc.base.errors import DTypeError, GraphcError, GraphError, ShapeError
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.ops.promotion import as_tensor, broadcast_shapes
from graphc.ops.state import constant, placeholder, variable

NUMPY_DTYPES = [d for d in ALL if d is not bfloat16]


def value(tensor: Tensor) -> Any:
    """The reference meaning of a tensor without inputs."""
    return Graph([], {"y": tensor}).evaluate({})["y"]


@pytest.mark.parametrize("b", NUMPY_DTYPES, ids=str)
@pytest.mark.parametrize("a", NUMPY_DTYPES, ids=str)
def test_arrays_promote_as_in_numpy(a: DType, b: DType) -> None:
    x, y = placeholder((2,), a), placeholder((2,), b)
    expected = np.add(np.zeros(2, a.numpy), np.zeros(2, b.numpy))
    assert graphc.add(x, y).dtype.name == expected.dtype.name
    # A NumPy array or scalar is as strong as a tensor.
    assert (x + np.ones(2, b.numpy)).dtype.name == expected.dtype.name
    assert (b.numpy.type(1) + x).dtype.name == expected.dtype.name


@pytest.mark.parametrize("number", [True, 1, 1.5], ids=str)
@pytest.mark.parametrize("dtype", NUMPY_DTYPES, ids=str)
def test_python_numbers_are_weak(dtype: DType, number: Any) -> None:
    x = placeholder((2,), dtype)
    expected = np.multiply(np.ones(2, dtype.numpy), number)
    assert (x * number).dtype.name == expected.dtype.name
    assert (number * x).dtype.name == expected.dtype.name


@pytest.mark.parametrize(
    "function", ["exp", "sqrt", "sin", "arctan2", "hypot", "divide", "logaddexp"]
)
@pytest.mark.parametrize("dtype", NUMPY_DTYPES, ids=str)
def test_float_functions_of_integers(function: str, dtype: DType) -> None:
    ufunc = getattr(np, function)
    arrays = [np.ones(2, dtype.numpy)] * ufunc.nin
    name = {"arctan2": "atan2"}.get(function, function)
    result = getattr(graphc, name)(*[placeholder((2,), dtype)] * ufunc.nin)
    assert result.dtype.name == ufunc(*arrays).dtype.name


def test_bfloat16_promotion() -> None:
    x = placeholder((2,), "bfloat16")
    assert (x + 1.0).dtype is bfloat16
    assert (x + placeholder((2,), "float16")).dtype.name == "float32"
    assert (x + placeholder((2,), "int8")).dtype is bfloat16


def test_sizes_are_weak_integers() -> None:
    x = placeholder(("n", 2), "float32")
    n = x.shape[0]
    assert isinstance(n, Dim)
    mean = graphc.sum(x) / n
    assert mean.dtype.name == "float32"
    got = Graph([x], {"y": mean}).evaluate({x: np.ones((4, 2), np.float32)})["y"]
    assert got == 2.0
    assert as_tensor(n).dtype.name == "int64"


SHAPES = [(), (1,), (3,), (2, 3), (2, 1), (1, 3), (4, 2, 3), (0, 3), (4, 1, 1), (5,)]


@pytest.mark.parametrize("b", SHAPES, ids=str)
@pytest.mark.parametrize("a", SHAPES, ids=str)
def test_broadcasting_as_in_numpy(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    try:
        expected = np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(ShapeError, match="do not broadcast"):
            broadcast_shapes("add", [a, b])
        return
    assert broadcast_shapes("add", [a, b]) == expected


def test_symbolic_broadcasting() -> None:
    n, m = Dim("n"), Dim("m")
    assert broadcast_shapes("add", [(n, 1), (1, m)]) == (n, m)
    assert broadcast_shapes("add", [(n + 1,), (1 + n,)]) == (n + 1,)
    for other in (m, 2, n + 1):
        with pytest.raises(ShapeError, match="symbolic sizes are equal only where"):
            broadcast_shapes("add", [(n,), (other,)])


def test_constants_keep_bits() -> None:
    for number in (0.0, -0.0, np.nan, np.inf, 1e-45):
        got = value(constant(number, "float32"))
        assert got.tobytes() == np.float32(number).tobytes()
    assert value(constant([[1, 2], [3, 4]])).tolist() == [[1, 2], [3, 4]]
    assert value(constant(2**63, "uint64")) == 2**63


X = placeholder((2,), "int8", name="x")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: X + 300, DTypeError, "the integer 300 does not fit int8"),
        (lambda: X + 3j, DTypeError, "complex numbers are not supported"),
        (lambda: X + "a", DTypeError, "expected a tensor, an array or a number, got 'a'"),
        (lambda: X + None, DTypeError, "got None"),
        (lambda: X + [X, X], GraphError, r"graphc\.stack"),
        (lambda: X + np.array(["a"]), DTypeError, "dtype <U1 cannot be a tensor"),
        (lambda: X + np.zeros(3, np.int8), ShapeError, r"\[2\] and \[3\] do not broadcast"),
        (lambda: graphc.where(X, X, X), DTypeError, "condition must be bool"),
        (lambda: graphc.bitwise_and(X, 0.5), DTypeError, "bits belong to integers"),
        (lambda: graphc.subtract(True, False), DTypeError, "logical_xor"),
        (lambda: X**-1, DTypeError, r"write x \*\* -1\.0"),
        (lambda: graphc.astype(X, "float99"), DTypeError, "unknown dtype 'float99'"),
        (lambda: variable(X), GraphError, "must be an array, not a tensor"),
        (lambda: placeholder((2, -1)), ShapeError, "dim 1 is -1"),
        (lambda: placeholder((2, "a b")), ShapeError, "not an identifier"),
        (lambda: placeholder((2, 1.5)), ShapeError, "must be an int, a string, a Dim or None"),
        (lambda: placeholder((2,), name="a b"), GraphError, "white space"),
        (lambda: graphc.arange(X), ShapeError, "limits and step are scalars"),
        (lambda: graphc.eye(2, k=0.5), ShapeError, "k must be an int"),
        (lambda: graphc.full((2,), [1, 2]), ShapeError, "0-d tensor"),
    ],
)
def test_errors(call: Any, error: type[GraphcError], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        call()
    assert "test_promotion.py:" in str(caught.value)


def test_fresh_symbols() -> None:
    x = placeholder((None, None))
    assert x.shape[0] != x.shape[1]
