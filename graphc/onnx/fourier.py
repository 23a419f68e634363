"""Discrete Fourier transforms as contractions (floor 8), on pairs of real and imaginary parts.

A size splits into two factors near its root: transforms of each factor with a twist between them
(Cooley and Tukey, 1965), down to products with constant matrices. A size with a large prime factor
is a convolution with a chirp of a power of two (Bluestein, 1970). A symbolic size is one product
with a matrix that the graph computes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Size
from graphc.base.dtypes import DType, float64, int64
from graphc.ir.node import Tensor
from graphc.ops import elementwise, elementwise_math
from graphc.ops.contraction import EINSUM, LETTERS, matmul, tidy
from graphc.ops.creation import IOTA
from graphc.ops.joining import padded, take_slice
from graphc.ops.promotion import as_tensor, cast
from graphc.ops.reshape import split_axis, to_shape
from graphc.ops.view import matrix_transpose

Pair = tuple[Tensor, Tensor | None]  # without an imaginary part: it is 0

# Sizes up to these are one product with a matrix. That is two products of a real signal and four of
# a complex one, which is split sooner.
_DENSE_REAL = 64
_DENSE_COMPLEX = 8
_PRIME = 512  # prime sizes above this are a convolution with a chirp


def transformed(x: Pair, size: Size, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """The transform along the last axis of x, of `size`; the inverse one is divided by it."""
    if isinstance(size, Dim):
        real, imaginary = _by_computed_matrix(x, size)
    elif inverse and x[1] is not None:
        # The inverse is the transform with both parts swapped on either side.
        imaginary, real = _transformed((x[1], x[0]), size)
        return real / float(size), imaginary / float(size)
    else:
        real, imaginary = _transformed(x, size)
    if not inverse:
        return real, imaginary
    n = cast(as_tensor(size, like=int64), real.dtype)
    if isinstance(size, Dim) and x[1] is not None:
        swapped = _by_computed_matrix((x[1], x[0]), size)
        return elementwise.divide(swapped[1], n), elementwise.divide(swapped[0], n)
    return elementwise.divide(real, n), elementwise.negative(elementwise.divide(imaginary, n))


def _transformed(x: Pair, size: int) -> tuple[Tensor, Tensor]:
    factor = _factor(size)
    dense = _DENSE_REAL if x[1] is None else _DENSE_COMPLEX
    if size <= dense or (factor == 1 and size <= _PRIME):
        angles = np.outer(np.arange(size), np.arange(size)) % max(size, 1)
        turns = np.exp(-2j * np.pi * angles / max(size, 1))
        return _times(x, turns, "matrix")
    if factor == 1:
        return _by_chirp(x, size)
    rest = size // factor
    # x[j1 * rest + j2], the first factor's transform over j1 with k1 in its place.
    apart: Pair = (split_axis(x[0], -1, (factor, rest)), None)
    if x[1] is not None:
        apart = (apart[0], split_axis(x[1], -1, (factor, rest)))
    inner = _transformed(_swapped(apart), factor)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(rest), np.arange(factor)) / size)
    twisted = _swapped(_times(inner, turns, "elements"))
    real, imaginary = _transformed(twisted, rest)
    # Result k1 + factor * k2 is at [k1, k2].
    shape = (*x[0].shape[:-1], size)
    return (
        to_shape(matrix_transpose(real), shape),
        to_shape(matrix_transpose(imaginary), shape),
    )


def _factor(size: int) -> int:
    """The largest divisor that is at most the root."""
    return next(d for d in range(math.isqrt(max(size, 1)), 0, -1) if size % d == 0)


def _swapped(x: Pair) -> Pair:
    return matrix_transpose(x[0]), None if x[1] is None else matrix_transpose(x[1])


def _constant(values: Any, dtype: DType) -> Tensor:
    return cast(as_tensor(np.ascontiguousarray(values, np.float64)), dtype)


def _times(x: Pair, turns: Any, what: str) -> tuple[Tensor, Tensor]:
    """x times complex constants: along the last axis by a "matrix", or by its "elements"."""
    dtype = x[0].dtype
    cos, sin = _constant(turns.real, dtype), _constant(turns.imag, dtype)

    def product(a: Tensor, b: Tensor) -> Tensor:
        if what == "elements":
            return elementwise.multiply(a, b)
        letters, new = LETTERS[: a.ndim], LETTERS[a.ndim]
        last = letters[-1]
        return EINSUM(a, b, spec=tidy(f"{letters},{last}{new}->{letters[:-1]}{new}"))

    real, imaginary = product(x[0], cos), product(x[0], sin)
    if x[1] is None:
        return real, imaginary
    return (
        elementwise.subtract(real, product(x[1], sin)),
        elementwise.add(imaginary, product(x[1], cos)),
    )


def _by_chirp(x: Pair, size: int) -> tuple[Tensor, Tensor]:
    places = np.arange(size)
    chirp = np.exp(-1j * np.pi * (places * places % (2 * size)) / size)
    wide = 1 << (2 * size - 2).bit_length()
    response = np.zeros(wide, complex)
    response[:size] = chirp.conj()
    response[wide - size + 1 :] = chirp.conj()[:0:-1]
    real, imaginary = _times(x, chirp, "elements")
    more = (0,) * (real.ndim - 1) + (wide - size,)
    none = (0,) * real.ndim
    spectrum = _transformed((padded(real, none, more), padded(imaginary, none, more)), wide)
    product = _times(spectrum, np.fft.fft(response) / wide, "elements")
    imaginary, real = _transformed((product[1], product[0]), wide)
    axis = real.ndim - 1
    parts = take_slice(real, axis, 0, size), take_slice(imaginary, axis, 0, size)
    return _times(parts, chirp, "elements")


def _by_computed_matrix(x: Pair, size: Dim) -> tuple[Tensor, Tensor]:
    row = IOTA(shape=(size, 1), axis=0, dtype=int64)
    column = IOTA(shape=(1, size), axis=1, dtype=int64)
    turn = cast(elementwise.remainder(elementwise.multiply(row, column), size), float64)
    angle = turn * (-2.0 * np.pi) / cast(as_tensor(size, like=int64), float64)
    cos = cast(elementwise_math.cos(angle), x[0].dtype)
    sin = cast(elementwise_math.sin(angle), x[0].dtype)
    real, imaginary = matmul(x[0], cos), matmul(x[0], sin)
    if x[1] is None:
        return real, imaginary
    return (
        elementwise.subtract(real, matmul(x[1], sin)),
        elementwise.add(imaginary, matmul(x[1], cos)),
    )
