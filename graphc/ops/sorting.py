"""Sorting (floor 2): sort, argsort, top_k, searchsorted.

Stable (`sort_loops`), each line along the axis one serial program. NaN counts as larger than
everything, so it comes last in ascending order, as in NumPy, and first in descending order.
Gradients follow the permutation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.dims import Dim, Size
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
from graphc.ops.sort_loops import RANKED, Radix, sort_by_ranks


def _before(s: Any, a: Any, b: Any) -> Any:
    """Whether a comes strictly before b in ascending order, NaN last."""
    dtype = s.dtype_of(a)
    if dtype.is_bool:
        return s.bit_and(b, s.bit_not(a))
    less = s.lt(a, b)
    if dtype.is_float:
        return s.bit_or(less, s.bit_and(s.isnan(b), s.bit_not(s.isnan(a))))
    return less


def _lower(positions: bool) -> Callable[[Any, Tensor], None]:
    def lower(b: Any, node: Tensor) -> None:
        axis, descending = node.attr("axis"), node.attr("descending")
        size, dtype = node.shape[axis], node.inputs[0].dtype

        def line(index: tuple[Any, ...]) -> None:
            def read(k: Any) -> Any:
                return b.load(0, along(index, axis, k))

            def write(k: Any, value: Any) -> None:
                b.store(along(index, axis, k), b.cast(value, node.dtype))

            def ranked() -> None:
                most = size if isinstance(size, int) else RANKED
                found = sort_by_ranks(b, size, most, dtype, read, descending, positions)
                b.lanes(size, node.dtype, lambda k: write(k, b.get(found, (k,))))

            def by_digits() -> None:
                lines = Radix(b, size, dtype, positions, descending)
                lines.sort(b.size(size), read)
                b.lanes(size, node.dtype, lambda k: write(k, lines.get(k)))

            if isinstance(size, int):
                ranked() if size <= RANKED else by_digits()
                return
            b.when(b.le(b.size(size), b.size(RANKED)), ranked)
            b.when(b.gt(b.size(size), b.size(RANKED)), by_digits)

        b.parallel(line_extents(node, axis), line)

    return lower


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
