"""Loops with reflections and rotations (floor 2): what QR, eigenvalues and singular values share.

Vectors that are reflected or rotated are rows of working memory, so that loops run along it. Their
scalars (norms, angles, the bands that iterations work on) are float64 whatever the matrix is:
squares of float32 numbers neither overflow nor vanish there. Matrices are first scaled by a power
of two, which is exact, so that their largest element is in [1, 2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.dims import Size
from graphc.base.dtypes import Array, DType, float32, float64, int64

Get = Callable[[Any], Any]
# What a vector of a scaled matrix has beyond its first element counts as nothing below this: there
# float32 elements and squares of float64 ones lose digits, and reflections would not be orthogonal.
_NOTHING = {float32: 2.0**-100, float64: 2.0**-480}
_EXPONENT = 0x7FF << 52


def largest(b: Any, rows: Size, columns: Size, read: Callable[[Any, Any], Any]) -> Any:
    """The largest absolute value of a matrix as float64; NaN where one is."""
    most = b.local((), float64)
    b.put(most, b.constant(0.0, float64))

    def row(i: Any) -> None:
        top = b.running(float64, "maximum")
        b.lanes(columns, float64, lambda j: b.accumulate(top, b.cast(b.abs(read(i, j)), float64)))
        b.put(most, b.maximum(b.get(most), b.total(top)))

    b.loop(rows, row)
    return b.get(most)


def power_of_two(b: Any, x: Any) -> Any:
    """The largest power of two that is not above the positive float64 x; the smallest normal one
    for less.
    """
    bits = b.bit_and(b.bitcast(x, int64), b.constant(_EXPONENT, int64))
    return b.maximum(b.bitcast(bits, float64), b.constant(2.0**-1022, float64))


def scaled(b: Any, x: Any, factor: Any, divide: bool = False) -> Any:
    """x times (or divided by) a float64 power of two, rounded once."""
    wide = b.cast(x, float64)
    return b.cast(b.div(wide, factor) if divide else b.mul(wide, factor), b.dtype_of(x))


def load_scaled(
    b: Any, memory: Any, sizes: tuple[Size, Size], read: Callable[[Any, Any], Any], most: Any
) -> tuple[Any, Any]:
    """Fill memory with a matrix that read(row, column of memory) gives, divided by a power of two.

    most: its largest absolute value, float64; where that is not finite, zeros stand for the matrix.
    Whether it is finite, and the power of two.
    """
    rows, columns = sizes
    dtype = memory.dtype
    sound = b.op("isfinite", most)
    unit = power_of_two(b, b.select(sound, most, b.constant(1.0, float64)))
    zero = b.constant(0.0, dtype)

    def fill(i: Any) -> None:
        def element(j: Any) -> None:
            x = scaled(b, read(i, j), unit, divide=True)
            b.put(memory, b.select(sound, x, zero), (i, j))

        b.lanes(columns, dtype, element)

    b.loop(rows, fill)
    return sound, unit


def product_of_rows(b: Any, dtype: DType, count: Any, left: Get, right: Get) -> Any:
    """The inner product of two rows of memory."""
    total = b.running(dtype, "sum")
    b.lanes(count, dtype, lambda j: b.accumulate(total, b.mul(left(j), right(j))), vectors=4)
    return b.total(total)


def reflector(
    b: Any, dtype: DType, count: Any, get: Get, put: Callable[[Any, Any], None]
) -> tuple[Any, Any]:
    """Replace x by v with v[0] = 1 and (I - tau v v^T) x = (beta, 0, …); (beta, tau) as float64.

    beta has the sign that -x[0] has, so nothing cancels; tau is 0 where x is 0 beyond x[0], or next
    to it. x has one element at least. (Golub and Van Loan, Matrix Computations, 4th ed.,
    algorithm 5.1.1.)
    """
    zero, one = b.size(0), b.size(1)
    none, whole = b.constant(0.0, float64), b.constant(1.0, float64)
    squares = b.running(float64, "sum")
    rest = b.sub(count, one)

    def square(j: Any) -> None:
        x = b.cast(get(b.add(j, one)), float64)
        b.accumulate(squares, b.mul(x, x))

    b.lanes(rest, float64, square, vectors=4)
    alpha = b.cast(get(zero), float64)
    tail = b.sqrt(b.total(squares))
    nothing = b.le(tail, b.constant(_NOTHING[dtype], float64))
    beta = b.select(nothing, alpha, b.neg(b.op("copysign", b.op("hypot", alpha, tail), alpha)))
    tau = b.select(nothing, none, b.div(b.sub(beta, alpha), b.select(nothing, whole, beta)))
    pivot = b.cast(b.select(nothing, whole, b.sub(alpha, beta)), dtype)

    def shrink(j: Any) -> None:
        place = b.add(j, one)
        put(place, b.div(get(place), pivot))

    b.lanes(rest, dtype, shrink)
    put(zero, b.constant(1.0, dtype))
    return beta, tau


def reflect(
    b: Any, dtype: DType, count: Any, v: Get, tau: Any, get: Get, put: Callable[[Any, Any], None]
) -> None:
    """Replace a row x by (I - tau v v^T) x; tau of the dtype."""
    share = b.mul(tau, product_of_rows(b, dtype, count, v, get))
    b.lanes(count, dtype, lambda j: put(j, b.sub(get(j), b.mul(share, v(j)))))


def reflect_column(
    b: Any, columns: Any, rows: Size, count: Size, kept: tuple[Any, Any], c: Any
) -> None:
    """Reflect column c, from its diagonal on, to its first element, and later columns likewise.

    columns: memory whose rows are the `count` columns of a matrix; row c becomes the vector of the
    reflection. kept: memory for the diagonal of the result, and for tau.
    """
    (diagonal, taus), dtype = kept, columns.dtype
    left, after = b.sub(b.size(rows), c), b.add(c, b.size(1))

    def vector(j: Any) -> Any:
        return b.get(columns, (c, b.add(c, j)))

    beta, wide = reflector(b, dtype, left, vector, lambda j, x: b.put(columns, x, (c, b.add(c, j))))
    tau = b.cast(wide, dtype)
    b.put(diagonal, b.cast(beta, diagonal.dtype), (c,))
    b.put(taus, tau, (c,))

    def later(r: Any) -> None:
        row = b.add(after, r)
        reflect(
            b,
            dtype,
            left,
            vector,
            tau,
            lambda j: b.get(columns, (row, b.add(c, j))),
            lambda j, x: b.put(columns, x, (row, b.add(c, j))),
        )

    b.loop(b.sub(b.size(count), after), later)


def rotation(b: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """(c, s, r) with c x + s y = r and c y - s x = 0, float64; (1, 0, 0) for zeros."""
    r = b.op("hypot", x, y)
    zero, one = b.constant(0.0, float64), b.constant(1.0, float64)
    nothing = b.eq(r, zero)
    safe = b.select(nothing, one, r)
    return b.select(nothing, one, b.div(x, safe)), b.div(y, safe), r


def rotate_rows(b: Any, matrix: Any, columns: Any, i: Any, k: Any, c: Any, s: Any) -> None:
    """Rows i and k of memory become c row_i + s row_k and c row_k - s row_i."""
    dtype = matrix.dtype
    c, s = b.cast(c, dtype), b.cast(s, dtype)

    def column(j: Any) -> None:
        x, y = b.get(matrix, (i, j)), b.get(matrix, (k, j))
        b.put(matrix, b.add(b.mul(c, x), b.mul(s, y)), (i, j))
        b.put(matrix, b.sub(b.mul(c, y), b.mul(s, x)), (k, j))

    b.lanes(columns, dtype, column, vectors=2)


def chase(
    b: Any,
    beside: Any,
    block: tuple[Any, Any],
    start: tuple[Any, Any],
    turn: Callable[[Any, Any, Any, Any], tuple[Any, Any]],
    finish: Callable[[Any, Any, Any, Any], None],
) -> None:
    """Rotations along the bands of a block, each of which moves the bulge of the one before by a
    row: an implicit QR step (Golub and Van Loan, algorithms 8.3.2 and 8.6.1).

    beside: the band beside the diagonal. block: first and last row. start: float64 scalars x and z,
    of which the next rotation makes r and 0. turn(k, k + 1, c, s): rotate the bands, give x a new
    value; the rotation (c, s) that reaches beyond them. finish: called likewise with that.
    """
    (low, high), (x, z), one = block, start, b.size(1)

    def step(t: Any) -> None:
        k = b.add(low, t)
        after = b.add(k, one)
        c, s, r = rotation(b, b.get(x), b.get(z))
        b.when(b.gt(t, b.size(0)), lambda: b.put(beside, r, (b.sub(k, one),)))
        c, s = turn(k, after, c, s)

        def bulge() -> None:
            following = b.get(beside, (after,))
            b.put(z, b.mul(s, following))
            b.put(beside, b.mul(c, following), (after,))

        b.when(b.lt(after, high), bulge)
        finish(k, after, c, s)

    b.loop(b.sub(high, low), step)


def form_rows(
    b: Any,
    q: Any,
    shape: tuple[Any, Any],
    reflectors: tuple[Any, Any, Any],
    offset: int,
) -> None:
    """Fill q with the transposed product of reflections H_0 H_1 …: its rows are their columns.

    shape: rows and columns of q. reflectors: how many, memory whose row c holds v_c from column c +
    offset on, their tau. Backwards, so that each reflection meets identity above it.
    """
    rows, columns = shape
    count, vectors, taus = reflectors
    dtype = q.dtype
    one, zero = b.constant(1.0, dtype), b.constant(0.0, dtype)

    def fill(i: Any) -> None:
        b.lanes(columns, dtype, lambda j: b.put(q, b.select(b.eq(i, j), one, zero), (i, j)))

    def apply(t: Any) -> None:
        c = b.sub(b.sub(count, b.size(1)), t)
        start = b.add(c, b.size(offset))
        tau = b.get(taus, (c,))

        def row(r: Any) -> None:
            i = b.add(start, r)
            reflect(
                b,
                dtype,
                b.sub(columns, start),
                lambda j: b.get(vectors, (c, b.add(start, j))),
                tau,
                lambda j: b.get(q, (i, b.add(start, j))),
                lambda j, x: b.put(q, x, (i, b.add(start, j))),
            )

        b.loop(b.sub(rows, start), row)

    b.loop(rows, fill)
    b.loop(count, apply)


def weighted_sign(b: Any, dtype: DType, count: Any, get: Get) -> Any:
    """1 or -1, so that the sum of x[j] / (j + 1) times it is not negative: the sign of a vector of
    which every sign would do.
    """
    total = b.running(float64, "sum")
    one = b.constant(1.0, float64)

    def term(j: Any) -> None:
        weight = b.div(one, b.add(b.cast(j, float64), one))
        b.accumulate(total, b.mul(b.cast(get(j), float64), weight))

    b.lanes(count, float64, term)
    negative = b.lt(b.total(total), b.constant(0.0, float64))
    return b.select(negative, b.constant(-1.0, dtype), b.constant(1.0, dtype))


def weighted_signs(vectors: Array) -> Array:
    """`weighted_sign` of each column of matrices (…, n, k): float64 (…, k)."""
    weights = 1.0 / np.arange(1.0, vectors.shape[-2] + 1.0)
    return np.where((vectors * weights[:, None]).sum(-2) < 0, -1.0, 1.0)


def start_of_block(
    b: Any, dtype: DType, bands: tuple[Any, Any], high: Any, look: Callable[[Any], None]
) -> Any:
    """The first row of the block that ends with row `high`: between its rows no element beside the
    diagonal is negligible. look(row): called for each row of it above `high`.

    bands: diagonal and what is beside it, float64, of a matrix whose largest element is about 1.
    """
    (diagonal, beside), one = bands, b.size(1)
    start, going = b.local((), int64), b.local((), int64)
    b.put(start, high)
    b.put(going, one)
    eps = b.constant(float(np.finfo(dtype.numpy).eps), float64)

    def at(k: Any) -> None:
        near = b.add(b.abs(b.get(diagonal, (k,))), b.abs(b.get(diagonal, (b.add(k, one),))))
        # What is below eps ** 2 is nothing to the matrix.
        limit = b.mul(eps, b.maximum(near, eps))
        large = b.gt(b.abs(b.get(beside, (k,))), limit)
        b.put(start, b.select(large, k, b.get(start)))
        b.put(going, b.cast(large, int64))
        b.when(large, lambda: look(k))

    def row(t: Any) -> None:
        k = b.sub(b.sub(high, t), one)
        b.when(b.eq(b.get(going), one), lambda: at(k))

    b.loop(high, row)
    return b.get(start)


def settle(b: Any, count: Size, steps: int, work: Callable[[Any], Any]) -> None:
    """Until all rows are settled, at most `steps` times for each: work(last row that is not)
    transforms the block that ends there, and gives the block's first row; a check fails otherwise.
    """
    one = b.size(1)
    end = b.local((), int64)
    b.put(end, b.sub(b.size(count), one))

    def turn(_: Any) -> None:
        high = b.get(end)

        def act() -> None:
            b.when(b.eq(work(high), high), lambda: b.put(end, b.sub(high, one)))

        b.when(b.gt(high, b.size(0)), act)

    b.loop((steps + 1) * count, turn)
    b.check(b.le(b.get(end), b.size(0)))


def sort_values(b: Any, count: Size, values: Any, order: Any, descending: bool) -> None:
    """Sort float64 memory by exchanges; `order` becomes where each value was."""
    one, place = b.size(1), b.local((), int64)

    def swap(memory: Any, i: Any, j: Any) -> None:
        x, y = b.get(memory, (i,)), b.get(memory, (j,))
        b.put(memory, y, (i,))
        b.put(memory, x, (j,))

    def select(i: Any) -> None:
        b.put(place, i)

        def look(t: Any) -> None:
            j = b.add(b.add(i, one), t)
            x, best = b.get(values, (j,)), b.get(values, (b.get(place),))
            better = b.gt(x, best) if descending else b.lt(x, best)
            b.put(place, b.select(better, j, b.get(place)))

        b.loop(b.sub(b.sub(b.size(count), i), one), look)
        swap(values, i, b.get(place))
        swap(order, i, b.get(place))

    b.loop(count, lambda i: b.put(order, i, (i,)))
    b.loop(count, select)
