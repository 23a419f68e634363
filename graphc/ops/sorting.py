"""Sorting (floor 2): sort, argsort, top_k, searchsorted.

Stable (`sort_loops`), each line along the axis one serial program. NaN counts as larger than
everything, so it comes last in ascending order, as in NumPy, and first in descending order.
Gradients follow the permutation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Size, product
from graphc.base.dtypes import ALL, Array, DType, int64
from graphc.ir.node import Node, Tensor, TensorType, as_index
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, shape_error
from graphc.ops.axes import is_count, normalize_axis
from graphc.ops.cumulative import along, line_extents
from graphc.ops.families import Opaque
from graphc.ops.indexing import take_along_axis
from graphc.ops.joining import take_slice
from graphc.ops.promotion import TensorLike, as_tensor, promoted
from graphc.ops.sampling import distinct, draw, strided, with_nan
from graphc.ops.sizes import computed_size
from graphc.ops.sort_loops import RANKED, Candidates, Radix, sort_by_ranks, worth_choosing


def _before(s: Any, a: Any, b: Any) -> Any:
    """Whether a comes strictly before b in ascending order, NaN last."""
    dtype = s.dtype_of(a)
    if dtype.is_bool:
        return s.bit_and(b, s.bit_not(a))
    less = s.lt(a, b)
    if dtype.is_float:
        return s.bit_or(less, s.bit_and(s.isnan(b), s.bit_not(s.isnan(a))))
    return less


@dataclass(frozen=True)
class _Line:
    """One line of `x`, its sorting, and where the results go: elements or, with `positions`, where
    they were, `count` of them.
    """

    b: Any
    x: Tensor
    axis: int
    descending: bool
    positions: bool
    count: Size
    index: tuple[Any, ...]

    def read(self, k: Any) -> Any:
        """Element k."""
        return self.b.load(0, along(self.index, self.axis, k))

    def write(self, result: Callable[[Any], Any]) -> None:
        """Store result(k) for each k."""
        dtype = int64 if self.positions else self.x.dtype

        def one(k: Any) -> None:
            self.b.store(along(self.index, self.axis, k), self.b.cast(result(k), dtype))

        self.b.lanes(self.count, dtype, one)

    def sort(self) -> None:
        """By ranks or by radix; a symbolic size decides at the call."""
        b, size = self.b, self.x.shape[self.axis]
        self.sort_these(size, b.size(size), self.read, None)

    def sort_these(
        self, most: Size, size: Any, read: Callable[[Any], Any], place: Callable[[Any], Any] | None
    ) -> None:
        """Sort `size` <= `most` elements read(k), from place(k), which is k where None."""
        b, dtype = self.b, self.x.dtype
        few = most if isinstance(most, int) and most <= RANKED else RANKED

        def ranked() -> None:
            found = sort_by_ranks(b, size, few, dtype, read, self.descending, self.positions)

            def result(k: Any) -> Any:
                entry = b.get(found, (k,))
                return entry if place is None else place(b.cast(entry, int64))

            self.write(result)

        def by_digits() -> None:
            lines = Radix(b, most, dtype, self.positions, self.descending)
            lines.sort(size, read, place)
            self.write(lines.get)

        if few == most:
            ranked()
        elif place is None and isinstance(most, int):
            by_digits()
        else:
            b.when(b.le(size, b.size(RANKED)), ranked)
            b.when(b.gt(size, b.size(RANKED)), by_digits)

    def sort_first(self, count: int) -> None:
        """Sort only what may be among the first `count`."""
        size = self.x.shape[self.axis]
        if not worth_choosing(size, count):
            self.sort()
            return
        b = self.b
        among = Candidates(b, size, count, self.x.dtype, self.read, self.descending)
        among.find()

        def place(k: Any) -> Any:
            return b.cast(b.get(among.chosen, (k,)), int64)

        self.sort_these(size, b.get(among.total), lambda k: self.read(place(k)), place)


def _lower(positions: bool) -> Callable[[Any, Tensor], None]:
    def lower(b: Any, node: Tensor) -> None:
        (x,), (axis, descending) = node.inputs, node.attrs

        def line(index: tuple[Any, ...]) -> None:
            _Line(b, x, axis, descending, positions, x.shape[axis], index).sort()

        b.parallel(line_extents(node, axis), line)

    return lower


def _lower_first(b: Any, node: Tensor) -> None:
    (x,), (axis, count, descending) = node.inputs, node.attrs

    def line(index: tuple[Any, ...]) -> None:
        _Line(b, x, axis, descending, True, count, index).sort_first(count)

    b.parallel(line_extents(node, axis), line)


# -- sort, argsort --------------------------------------------------------------------------------


def _argsort_reference(x: Array, axis: int, descending: bool) -> Array:
    if not descending:
        return np.argsort(x, axis, kind="stable")
    # Reversed before and after, so that equal elements keep their order.
    back = np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    return np.asarray(x.shape[axis] - 1 - back)


def _sort_reference(x: Array, axis: int, descending: bool) -> Array:
    return np.take_along_axis(x, _argsort_reference(x, axis, descending), axis)


def _sort_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    # The inverse permutation brings each cotangent back: a gather, not a scatter.
    axis = node.attr("axis")
    order = ARGSORT(node.inputs[0], axis=axis, descending=node.attr("descending"))
    inverse = ARGSORT(order, axis=axis, descending=False)
    return [take_along_axis(g, inverse, axis=axis)]


def _sort_type(name: str, result: DType | None) -> Callable[..., TensorType]:
    def infer(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
        (x,) = inputs
        assert isinstance(x, Tensor)
        if not 0 <= attrs[0] < x.ndim:
            shape_error(f"{name}: axis {attrs[0]} is out of bounds for {x.type}", [x])
        return TensorType(x.shape, result or x.dtype)

    return infer


def _sort_samples(dtype: DType) -> list[Sample]:
    cases: list[tuple[tuple[int, ...], int]] = [
        ((1,), 0),
        ((0,), 0),
        ((3, 0), 1),
        ((0, 3), 1),
        ((8,), 0),
        ((13,), 0),
        ((5, 3), 0),
        ((2, 3, 4), 1),
        ((3, 70), 1),
        ((2, 300), 1),
    ]
    found = []
    for descending in (False, True):
        for shape, axis in cases:
            attrs = {"axis": axis, "descending": descending}
            # Many equal elements show whether the order is stable; distinct ones carry gradients.
            values = distinct(shape, dtype) if sum(shape) % 2 else draw(shape, dtype).round()
            found.append(Sample((values,), attrs))
        attrs = {"axis": 1, "descending": descending}
        found.append(Sample((strided(distinct((4, 6), dtype)),), attrs))
        if dtype.is_float:
            special = with_nan(distinct((2, 9), dtype), 0, 3, 12)
            special[1, 1:6] = [np.inf, -np.inf, 0.0, -0.0, np.inf]
            found.append(Sample((special,), attrs))
    return found


def _declare(
    name: str, reference: Callable[..., Array], gradient: Any, positions: bool, doc: str
) -> OpDef:
    return REGISTRY.add(
        OpDef(
            name,
            ("axis", "descending"),
            _sort_type(name, int64 if positions else None),
            reference,
            gradient,
            Opaque(_lower(positions)),
            doc=doc,
            samples=_sort_samples,
            dtypes=ALL,
        )
    )


ARGSORT = _declare(
    "argsort",
    _argsort_reference,
    None,
    True,
    "The positions that sort x along an axis, equal elements in their order.",
)
SORT = _declare(
    "sort",
    _sort_reference,
    _sort_gradient,
    False,
    "The elements of x in order along an axis; NaN counts as the largest.",
)


def _top_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    axis, count, _ = attrs
    whole = _sort_type("top_k_positions", int64)(inputs, (axis,))
    size = whole.shape[axis]
    if count < 0 or (isinstance(size, int) and count > size):
        shape_error(f"top_k_positions: {count} elements of an axis of size {size}", inputs)
    return TensorType((*whole.shape[:axis], count, *whole.shape[axis + 1 :]), int64)


def _top_reference(x: Array, axis: int, count: int, descending: bool) -> Array:
    order = _argsort_reference(x, axis, descending)
    return np.take(order, np.arange(count), axis)


def _top_samples(dtype: DType) -> list[Sample]:
    found = []
    for descending in (False, True):
        for shape, axis, count in (
            ((7,), 0, 0),
            ((7,), 0, 7),
            ((2, 700), 1, 3),
            ((700, 2), 0, 5),
            ((20000,), 0, 2),
        ):
            attrs = {"axis": axis, "count": count, "descending": descending}
            found.append(Sample((draw(shape, dtype).round(),), attrs))
        # One element repeated: all remain candidates.
        found.append(Sample((np.ones((600,), dtype.numpy),), attrs | {"axis": 0}))
        if dtype.is_float:
            special = with_nan(draw((2, 400), dtype), 0, 3, 712)
            found.append(Sample((special,), attrs | {"axis": 1}))
    return found


TOP_K_POSITIONS = REGISTRY.add(
    OpDef(
        "top_k_positions",
        ("axis", "count", "descending"),
        _top_type,
        _top_reference,
        None,
        Opaque(_lower_first, work=lambda node: product(node.inputs[0].shape) * 2),
        doc="The first `count` of the positions that sort x along an axis.",
        samples=_top_samples,
        dtypes=ALL,
    )
)


def sort(
    x: TensorLike, /, *, axis: int = -1, descending: bool = False, stable: bool = True
) -> Tensor:
    """The elements of x in order along `axis`; NaN counts as the largest. Always stable.

    Raises ShapeError for an axis out of bounds.
    """
    x = as_tensor(x, op="sort")
    return SORT(x, axis=normalize_axis("sort", x, axis), descending=bool(descending))


def argsort(
    x: TensorLike, /, *, axis: int = -1, descending: bool = False, stable: bool = True
) -> Tensor:
    """The int64 positions that sort x along `axis`, equal elements in their order.

    No gradient flows.
    """
    x = as_tensor(x, op="argsort")
    return ARGSORT(x, axis=normalize_axis("argsort", x, axis), descending=bool(descending))


def top_k(
    x: TensorLike, k: Size | Tensor, /, *, axis: int = -1, largest: bool = True
) -> tuple[Tensor, Tensor]:
    """The `k` largest elements along `axis` in order, and their int64 positions; the smallest with
    largest=False.

    k may be a dim, or an integer scalar of the graph. Of equal elements the first come first; NaN
    counts as the largest. Raises ShapeError where k is larger than the axis; a computed k that is
    raises ExecutionError at the call.
    """
    x = as_tensor(x, op="top_k")
    axis = normalize_axis("top_k", x, axis)
    size = x.shape[axis]
    if is_count(k):
        most = size if isinstance(size, int) else None
        k = computed_size(k, max=most, what=f"top_k: k does not fit axis {axis} of size {size}")
    count = k if isinstance(k, Dim) else as_index(k)
    if count is None or (
        isinstance(count, int) and (count < 0 or (isinstance(size, int) and count > size))
    ):
        shape_error(
            f"top_k: k does not fit axis {axis} of size {size}, got {k!r:.40}",
            [x],
            f"k is an int from 0 to {size}",
        )
    if isinstance(count, int) and isinstance(size, int):
        places = TOP_K_POSITIONS(x, axis=axis, count=count, descending=bool(largest))
    else:
        order = ARGSORT(x, axis=axis, descending=bool(largest))
        places = take_slice(order, axis, 0, count)
    return take_along_axis(x, places, axis=axis), places


# -- searchsorted ---------------------------------------------------------------------------------


def _search_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    table, x = inputs
    assert isinstance(table, Tensor)
    assert isinstance(x, Tensor)
    if table.ndim != 1:
        shape_error(
            f"searchsorted: the sorted operand must have 1 dim, got {table.ndim}",
            inputs,
            "x1 is one sorted vector, x2 the values to look up, of any shape",
        )
    if table.dtype is not x.dtype:
        dtype_error(
            f"searchsorted: operands of different dtypes: {table.dtype} and {x.dtype}", inputs
        )
    return TensorType(x.shape, int64)


def _search_reference(table: Array, x: Array, side: str) -> Array:
    return np.asarray(np.searchsorted(table, x, "right" if side == "right" else "left"))


def _search_lower(b: Any, node: Tensor) -> None:
    table, _ = node.inputs
    size = table.shape[0]
    right = node.attr("side") == "right"
    steps = size.bit_length() if isinstance(size, int) else 63

    def element(index: tuple[Any, ...]) -> None:
        low, high = b.local((), int64), b.local((), int64)
        x = b.load(1, index)
        b.put(low, b.size(0))
        b.put(high, b.size(size))

        def halve() -> None:
            start, stop = b.get(low), b.get(high)
            middle = b.op("floordiv", b.add(start, stop), b.size(2))
            entry = b.load(0, (middle,))
            after = b.bit_not(_before(b, x, entry)) if right else _before(b, entry, x)
            b.put(low, b.select(after, b.add(middle, b.size(1)), start))
            b.put(high, b.select(after, stop, middle))

        def step(_: Any) -> None:
            b.when(b.lt(b.get(low), b.get(high)), halve)

        b.loop(steps, step)
        b.store(index, b.get(low))

    b.parallel(node.shape, element)


def _search_samples(dtype: DType) -> list[Sample]:
    found = []
    for side in ("left", "right"):
        for count, shape in (
            (0, (3,)),
            (1, ()),
            (7, (2, 5)),
            (64, (9,)),
            (65, (0, 2)),
            (100, (40,)),
        ):
            table = np.sort(draw((count,), dtype, low=-9.0, high=9.0))
            queries = draw(shape, dtype, 1, low=-10.0, high=10.0)
            if count and shape == (40,):
                queries[:20] = table[::5]
            found.append(Sample((table, queries), {"side": side}))
    if dtype.is_float:
        table = np.array([-np.inf, 0.0, 1.0, np.inf, np.nan], dtype.numpy)
        found.append(Sample((table, table[::-1].copy()), {"side": "left"}))
        found.append(Sample((table, table[::-1].copy()), {"side": "right"}))
    return found


SEARCHSORTED = REGISTRY.add(
    OpDef(
        "searchsorted",
        ("side",),
        _search_type,
        _search_reference,
        None,
        Opaque(_search_lower),
        doc="Where elements of x belong in a sorted vector: before (left) or after (right) equal "
        "ones.",
        samples=_search_samples,
        dtypes=ALL,
    )
)


def searchsorted(
    x1: TensorLike, x2: TensorLike, /, *, side: str = "left", sorter: TensorLike | None = None
) -> Tensor:
    """The int64 positions at which elements of x2 keep the sorted vector x1 sorted, before (left)
    or after equal ones.

    `sorter`: positions that sort x1. NaN counts as the largest. No gradient flows. Raises
    ShapeError unless x1 has one dim and for an unknown side.
    """
    if side not in ("left", "right"):
        shape_error(f'searchsorted: side must be "left" or "right", got {side!r}')
    table, x = promoted("searchsorted", x1, x2)
    if sorter is not None:
        table = REGISTRY["gather"](
            table, as_tensor(sorter, op="searchsorted"), axes=(0,), position=0
        )
    return SEARCHSORTED(table, x, side=side)
