"""The forms of ops with values: Map, Reduction and Opaque bodies run by NumPy, without a compiler.

What the loops mean is so held against what the references mean before any code is generated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from graphc.base.dims import evaluate
from graphc.base.dtypes import Array, DType, int64
from graphc.ir.node import Tensor
from graphc.ir.scalar_numpy import NumpyScalar, Value, value
from graphc.ops.families import Map, Opaque, Reduction


class OutOfBounds(AssertionError):
    """A body touched memory that it must not touch."""


class Elements(NumpyScalar):
    """`ElementLanguage` on whole index grids."""

    def __init__(self, arrays: Sequence[Array], node: Tensor) -> None:
        super().__init__()
        self.arrays, self.node, self.failed = arrays, node, False

    def size(self, size: Any) -> Value:
        """A size as an int64 value."""
        return value(evaluate(size, {}), int64)

    def element(
        self, operand: int, index: Sequence[Value], where: Value | None = None, fill: Any = 0
    ) -> Value:
        """Elements at index grids; every index that is read must be in bounds."""
        array, dtype = self.arrays[operand], self.node.inputs[operand].dtype
        assert len(index) == array.ndim
        assert all(i.dtype is int64 for i in index)
        places = np.broadcast_arrays(*(i.array for i in index)) if index else []
        ok = np.asarray(True)
        for i, n in zip(places, array.shape, strict=True):
            ok = ok & (i >= 0) & (i < n)
        wanted = np.asarray(True) if where is None else where.array
        if not np.all(ok | ~wanted):
            raise OutOfBounds(f"{self.node!r}: operand {operand}")
        shape = np.broadcast_shapes(ok.shape, wanted.shape)
        result = np.full(shape, fill, dtype.numpy)
        read = np.broadcast_to(wanted & ok, shape)
        spots = tuple(np.broadcast_to(i, shape)[read] for i in places)
        result[read] = array[spots]
        return Value(result, dtype)

    def check(self, ok: Value) -> None:
        """Note a failed check."""
        self.failed |= not np.all(ok.array)


def run_map(form: Map, arrays: Sequence[Array], node: Tensor) -> Array:
    """All elements of a Map at once."""
    shape = tuple(evaluate(s, {}) for s in node.shape)
    index = tuple(value(grid, int64) for grid in np.indices(shape))
    result = form.element(Elements(arrays, node), index, node)
    assert result.dtype is node.dtype
    return np.broadcast_to(result.array, shape)


def run_reduction(form: Reduction, x: Array, node: Tensor) -> Array:
    """A Reduction, elements combined in pairs in an order that is neither left to right nor right
    to left.
    """
    s = NumpyScalar()
    axes, dtype = node.attr("axes"), node.inputs[0].dtype
    rest = [i for i in range(x.ndim) if i not in axes]
    outer = [x.shape[i] for i in rest]
    lines = np.transpose(x, (*rest, *axes)).reshape(
        [*outer, int(np.prod([x.shape[a] for a in axes], dtype=int))]
    )
    count = lines.shape[-1]
    kinds = form.accumulators(dtype)
    identity: tuple[Value, ...] = tuple(
        value(np.full(outer, v, k.numpy), k)
        for v, k in zip(form.identity(dtype), kinds, strict=True)
    )
    parts = [identity]
    for i in range(count):
        entry = form.prepare(s, value(lines[..., i], dtype), value(np.int64(i), int64), dtype)
        assert tuple(v.dtype for v in entry) == kinds
        parts.append(form.combine(s, identity, entry))
    while len(parts) > 1:
        parts = [form.combine(s, parts[-1], parts[0]), *parts[1:-1]]
    result = form.finish(s, parts[0], value(np.int64(count), int64), node)
    assert result.dtype is node.dtype
    return np.broadcast_to(result.array, outer).reshape([int(n) for n in node.shape])


class Scratch(NamedTuple):
    """Scratch memory."""

    array: Array
    dtype: DType


class Loops(NumpyScalar):
    """`LoopBuilder` that runs at once; uninitialised results are marked by `written`."""

    def __init__(self, arrays: Sequence[Array], node: Tensor) -> None:
        super().__init__()
        self.arrays, self.node = arrays, node
        self.result = np.zeros([int(n) for n in node.shape], node.dtype.numpy)
        self.written = np.zeros(self.result.shape, np.bool_)

    def size(self, size: Any) -> Value:
        """A size as an int64 value."""
        return value(evaluate(size, {}), int64)

    def _place(self, index: Sequence[Value], shape: Sequence[int]) -> tuple[int, ...]:
        place = tuple(int(i.array) for i in index)
        assert len(place) == len(shape)
        if any(not 0 <= i < n for i, n in zip(place, shape, strict=True)):
            raise OutOfBounds(f"{self.node!r}: {place} of {tuple(shape)}")
        return place

    def load(self, operand: int, index: Sequence[Value]) -> Value:
        """An element of an operand."""
        array = self.arrays[operand]
        return value(array[self._place(index, array.shape)], self.node.inputs[operand].dtype)

    def store(self, index: Sequence[Value], element: Value) -> None:
        """Write an element of the result."""
        assert element.dtype is self.node.dtype
        place = self._place(index, self.result.shape)
        self.result[place], self.written[place] = element.array, True

    def read_result(self, index: Sequence[Value]) -> Value:
        """Read back an element of the result."""
        place = self._place(index, self.result.shape)
        assert self.written[place]
        return value(self.result[place], self.node.dtype)

    def parallel(self, extents: Sequence[Any], body: Callable[[tuple[Value, ...]], None]) -> None:
        """A grid of iterations."""
        for place in np.ndindex(*(evaluate(n, {}) for n in extents)):
            body(tuple(value(np.int64(i), int64) for i in place))

    def loop(self, extent: Any, body: Callable[[Value], None]) -> None:
        """A serial loop."""
        count = int(extent.array) if isinstance(extent, Value) else evaluate(extent, {})
        for i in range(count):
            body(value(np.int64(i), int64))

    def lanes(
        self, extent: Any, dtype: DType, body: Callable[[Value], None], vectors: int = 1
    ) -> None:
        """A loop of independent iterations."""
        self.loop(extent, body)

    def running(self, dtype: DType, how: str = "sum") -> list[Any]:
        """A value that grows."""
        return [value(np.zeros((), dtype.numpy), dtype), how]

    def accumulate(self, handle: list[Any], *values: Value) -> None:
        """Take in a value, or the factors of a product."""
        total, how = handle
        if how == "maximum":
            handle[0] = self.maximum(total, *values)
        else:
            handle[0] = self.add(total, self.mul(*values) if how == "products" else values[0])

    def total(self, handle: list[Any]) -> Value:
        """What a running value has come to."""
        found: Value = handle[0]
        return found

    def when(self, condition: Value, body: Callable[[], None]) -> None:
        """Run the body where the condition holds."""
        if condition.array:
            body()

    def local(self, shape: Sequence[Any], dtype: DType) -> Scratch:
        """Scratch memory, full of what nobody may use."""
        array = np.zeros([evaluate(n, {}) for n in shape], dtype.numpy)
        array[...] = np.nan if dtype.is_float else 77 % 2 if dtype.is_bool else 77
        return Scratch(array, dtype)

    def get(self, handle: Scratch, index: Sequence[Value] = ()) -> Value:
        """Read scratch."""
        array, dtype = handle
        return value(np.array(array[self._place(index, array.shape)]), dtype)

    def put(self, handle: Scratch, element: Value, index: Sequence[Value] = ()) -> None:
        """Write scratch."""
        array, dtype = handle
        assert element.dtype is dtype, (element.dtype, dtype)
        array[self._place(index, array.shape)] = element.array

    def check(self, ok: Value) -> None:
        """A check that fails is an error here."""
        assert ok.array


def run_opaque(form: Opaque, arrays: Sequence[Array], node: Tensor) -> Array:
    """An Opaque op's loops."""
    loops = Loops(arrays, node)
    form.lower(loops, node)
    assert np.all(loops.written), f"{node!r}: elements that are never written"
    return loops.result
