"""The exponential of matrices (floor 2): scaling and squaring (N. J. Higham, The scaling and
squaring method for the matrix exponential revisited, 2005).

A matrix is halved until its 1-norm is below 5.37, where the [13/13] Padé approximant is exact to
float64's rounding, and the result is squared as many times. How many times differs by matrix and by
call: `repeated_squares` is the loop.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.base.dtypes import Array, DType, int64
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, shape_error
from graphc.ops import elementwise, elementwise_math, logical, rounding
from graphc.ops.contraction import matmul
from graphc.ops.factorization import (
    FACTORED,
    SQUARE,
    check_matrices,
    one_matrix,
    orthogonal,
    subtract_product,
    whole_work,
)
from graphc.ops.factorization_lu import SOLVE, identity_like
from graphc.ops.families import Composite, Opaque
from graphc.ops.joining import concat, take_slice
from graphc.ops.promotion import cast
from graphc.ops.reduction import MAX, SUM, accurate
from graphc.ops.reshape import to_shape
from graphc.ops.view import matrix_transpose

_LIMIT = 5.371920351148152
# Of the Padé approximant, the constant term first, divided by it.
_PADE = tuple(
    c / 64764752532480000.0
    for c in (
        64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0,
        129060195264000.0, 10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0,
        40840800.0, 960960.0, 16380.0, 182.0, 1.0,
    )
)  # fmt: skip
_MOST = 1100  # squarings: norms end at 2 ** 1024


# -- repeated squares -----------------------------------------------------------------------------


def _squares_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    x, count = check_matrices("repeated_squares", inputs[0], square=True), inputs[1]
    assert isinstance(count, Tensor)
    if count.dtype is not int64:
        dtype_error(f"repeated_squares: counts are int64, got {count.dtype}", inputs)
    if count.shape != x.shape[:-2]:
        shape_error("repeated_squares: one count per matrix", inputs)
    return x.type


def _squares_lower(b: Any, node: Tensor) -> None:
    n, dtype = node.shape[-1], node.dtype

    def one(index: tuple[Any, ...]) -> None:
        before = b.local((n, n), dtype)
        times = b.minimum(b.load(1, index), b.size(_MOST))

        def by_rows(move: Any) -> None:
            b.loop(n, lambda i: b.lanes(n, dtype, lambda j: move(i, j)))

        def square(_: Any) -> None:
            by_rows(lambda i, j: b.put(before, b.read_result((*index, i, j)), (i, j)))
            zero = b.constant(0.0, dtype)
            by_rows(lambda i, j: b.store((*index, i, j), zero))
            subtract_product(
                b,
                dtype,
                b.size(n),
                b.size(n),
                b.size(n),
                lambda i, p: b.neg(b.get(before, (i, p))),
                lambda p, j: b.get(before, (p, j)),
                (
                    lambda i, j: b.read_result((*index, i, j)),
                    lambda i, j, x: b.store((*index, i, j), x),
                ),
            )

        by_rows(lambda i, j: b.store((*index, i, j), b.load(0, (*index, i, j))))
        b.loop(times, square)

    b.parallel(node.shape[:-2], one)


def _squares_reference(x: Array, count: Array) -> Array:
    result = np.array(accurate(x))
    for index in np.ndindex(count.shape):
        for _ in range(min(int(count[index]), _MOST)):
            result[index] = result[index] @ result[index]
    return result


def _squares_samples(dtype: DType) -> list[Sample]:
    return [
        Sample((orthogonal((3, 3)).astype(dtype.numpy), np.asarray(3))),
        Sample((orthogonal((3, 4, 4)).astype(dtype.numpy), np.asarray([0, 2, -1]))),
        Sample((orthogonal((37, 37)).astype(dtype.numpy), np.asarray(2))),
    ]


REPEATED_SQUARES = REGISTRY.add(
    OpDef(
        "repeated_squares",
        (),
        _squares_type,
        _squares_reference,
        None,
        Opaque(_squares_lower, lambda node: whole_work(node, 8)),
        doc="Matrices squared x2 times, an int64 count for each; not at all for a negative one, "
        f"{_MOST} times at most.",
        samples=_squares_samples,
        dtypes=FACTORED,
        not_differentiable="how often it squares is data; differentiate expm, or multiply",
    )
)


# -- the exponential ------------------------------------------------------------------------------


def _weighted(terms: list[tuple[float, Tensor]]) -> Tensor:
    total = elementwise.multiply(terms[0][1], terms[0][0])
    for weight, term in terms[1:]:
        total = elementwise.add(total, elementwise.multiply(term, weight))
    return total


def _expand(node: Tensor) -> Tensor:
    (x,) = node.inputs
    sums = SUM(rounding.abs(x), axes=(x.ndim - 2,), keepdims=False)
    norm = MAX(sums, axes=(sums.ndim - 1,), keepdims=False)
    sound = logical.bitwise_and(logical.isfinite(norm), logical.greater(norm, _LIMIT))
    ratio = elementwise.where(sound, elementwise.divide(norm, _LIMIT), 1.0)
    halvings = rounding.ceil(elementwise_math.log2(ratio))
    down = elementwise_math.exp2(elementwise.negative(halvings))
    a = elementwise.multiply(x, to_shape(down, (*down.shape, 1, 1)))
    one, a2 = identity_like(x), matmul(a, a)
    a4 = matmul(a2, a2)
    a6 = matmul(a4, a2)

    def half(first: int) -> Tensor:
        high = _weighted([(_PADE[first + 2 * k], t) for k, t in ((6, a6), (5, a4), (4, a2))])
        low = [(_PADE[first + 2 * k], t) for k, t in ((3, a6), (2, a4), (1, a2), (0, one))]
        return elementwise.add(matmul(a6, high), _weighted(low))

    odd, even = matmul(a, half(1)), half(0)
    result = SOLVE(elementwise.subtract(even, odd), elementwise.add(even, odd), transpose=False)
    return REPEATED_SQUARES(result, cast(halvings, int64))


def _reference(x: Array) -> Array:
    x = accurate(x)
    norm = np.max(np.sum(np.abs(x), -2), -1, initial=0.0)
    ratio = np.where(np.isfinite(norm) & (norm > _LIMIT), norm / _LIMIT, 1.0)
    halvings = np.ceil(np.log2(ratio))
    a = x * np.exp2(-halvings)[..., None, None]
    one, a2 = np.broadcast_to(np.eye(x.shape[-1]), x.shape), a @ a
    a4 = a2 @ a2
    a6 = a4 @ a2

    def half(first: int) -> Array:
        c = _PADE[first::2]
        high = c[6] * a6 + c[5] * a4 + c[4] * a2
        result: Array = a6 @ high + c[3] * a6 + c[2] * a4 + c[1] * a2 + c[0] * one
        return result

    odd, even = a @ half(1), half(0)
    return _squares_reference(np.linalg.solve(even - odd, even + odd), halvings.astype(np.int64))


def _gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    """The derivative of the exponential at A in the direction G is the upper right block of
    exp([[A, G], [0, A]]); the cotangent is that at A^T (N. J. Higham, Functions of Matrices, 2008,
    sections 3.2 and 10.6).
    """
    a = matrix_transpose(node.inputs[0])
    n = a.shape[-1]
    upper = concat([a, g], axis=-1)
    lower = concat([elementwise.multiply(a, 0.0), a], axis=-1)
    whole = EXPM(concat([upper, lower], axis=-2))
    return [take_slice(take_slice(whole, -2, 0, n), -1, n, n)]


def _type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    return check_matrices("expm", inputs[0], square=True).type


def _uniform(shape: tuple[int, ...], dtype: DType, seed: int = 0) -> Array:
    """Matrices whose norms are about 1 to 16, so that some are squared."""
    rng = np.random.default_rng((seed, *shape))
    x = rng.uniform(-1.0, 1.0, shape) * 2.0 ** rng.integers(0, 4, (*shape[:-2], 1, 1)) / shape[-1]
    return np.asarray(x, dtype.numpy)


EXPM = REGISTRY.add(
    OpDef(
        "expm",
        (),
        _type,
        _reference,
        _gradient,
        Composite(_expand),
        doc="The exponential of square matrices, the sum of A^k / k!.",
        samples=one_matrix(_uniform, SQUARE),
        dtypes=FACTORED,
    )
)
