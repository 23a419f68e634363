"""Views (floor 2): elements of one tensor at other indices: transposes, broadcasts, flips, rolls,
diagonals.

Each is a `Map` whose index arithmetic is substituted into whatever reads it, so that none costs
memory. Each op's gradient is the transposed view, or a sum where elements are repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Shape, Size, shape_text
from graphc.base.dtypes import ALL, Array, DType
from graphc.base.errors import UnsupportedError
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, fail, shape_error
from graphc.ops.axes import Axes, as_shape, normalize_axes, normalize_axis, per_axis
from graphc.ops.families import Map
from graphc.ops.promotion import TensorLike, as_tensor, broadcast_shapes
from graphc.ops.reshape import to_shape
from graphc.ops.sampling import draw, strided

_EACH_ONCE = "axes is a permutation: each dim of x once, counted from 0 or from -1 backwards"

# -- permute_dims ---------------------------------------------------------------------------------


def _permute_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,), (axes,) = inputs, attrs
    assert isinstance(x, Tensor)
    return TensorType(tuple(x.shape[a] for a in axes), x.dtype)


def _permute_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    axes = node.attr("axes")
    return e.element(0, [index[axes.index(i)] for i in range(len(axes))])


def _permute_reference(x: Array, axes: tuple[int, ...]) -> Array:
    return np.transpose(x, axes)


def inverse_permutation(axes: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `axes`."""
    result = [0] * len(axes)
    for i, a in enumerate(axes):
        result[a] = i
    return tuple(result)


def _permute_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    return [PERMUTE_DIMS(g, axes=inverse_permutation(node.attr("axes")))]


def _permute_samples(dtype: DType) -> list[Sample]:
    cases: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((), ()),
        ((1,), (0,)),
        ((0, 3), (1, 0)),
        ((5, 7), (1, 0)),
        ((2, 3, 4), (2, 0, 1)),
        ((33, 65), (1, 0)),
    ]
    found = [Sample((draw(shape, dtype),), {"axes": axes}) for shape, axes in cases]
    return found + [Sample((strided(draw((4, 3), dtype)),), {"axes": (1, 0)})]


PERMUTE_DIMS = REGISTRY.add(
    OpDef(
        "permute_dims",
        ("axes",),
        _permute_type,
        _permute_reference,
        _permute_gradient,
        Map(_permute_element),
        doc="out[i...] = x[i permuted]: dim k of the result is dim axes[k] of x.",
        samples=_permute_samples,
        dtypes=ALL,
    )
)


def permuted(x: Tensor, axes: Sequence[int]) -> Tensor:
    """x with its dims in the order `axes` (non-negative); x itself for the identity."""
    return x if tuple(axes) == tuple(range(x.ndim)) else PERMUTE_DIMS(x, axes=tuple(axes))


def permute_dims(x: TensorLike, /, axes: Sequence[int]) -> Tensor:
    """Dim k of the result is dim axes[k] of x.

    Raises ShapeError unless `axes` is a permutation of x's dims.
    """
    x = as_tensor(x, op="permute_dims")
    given = tuple(axes)
    if len(given) != x.ndim:
        shape_error(
            f"permute_dims: axes {tuple(axes)} do not name all {x.ndim} dims", [x], _EACH_ONCE
        )
    return permuted(x, normalize_axes("permute_dims", x, given))


def matrix_transpose(x: TensorLike, /) -> Tensor:
    """The last two dims swapped. Raises ShapeError for fewer than two dims."""
    x = as_tensor(x, op="matrix_transpose")
    if x.ndim < 2:
        hint = "x[:, None] is a column of a vector, x[None] a row"
        shape_error(f"matrix_transpose: needs at least 2 dims, got {x.ndim}", [x], hint)
    return permuted(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def transpose(x: TensorLike, /, axes: Sequence[int] | None = None) -> Tensor:
    """NumPy's transpose: all dims reversed, or in the order `axes`."""
    x = as_tensor(x, op="transpose")
    return permute_dims(x, tuple(reversed(range(x.ndim))) if axes is None else axes)


def matrix_T(x: TensorLike, /) -> Tensor:
    """`x.T`: the transpose of a matrix. Raises ShapeError unless x has two dims."""
    x = as_tensor(x, op="T")
    if x.ndim != 2:
        hint = "use x.mT for stacks of matrices, graphc.permute_dims for any order"
        shape_error(f"T: needs exactly 2 dims, got {x.ndim}", [x], hint)
    return permuted(x, (1, 0))


def moveaxis(
    x: TensorLike, source: int | Sequence[int], destination: int | Sequence[int], /
) -> Tensor:
    """x with the dims `source` moved to the places `destination`, the others in their order."""
    x = as_tensor(x, op="moveaxis")
    origin = normalize_axes("moveaxis", x, source)
    goal = normalize_axes("moveaxis", x, destination)
    if len(origin) != len(goal):
        shape_error(
            f"moveaxis: {len(origin)} sources but {len(goal)} destinations",
            [x],
            "each source axis has one destination",
        )
    order = [a for a in range(x.ndim) if a not in origin]
    for place, axis in sorted(zip(goal, origin, strict=True)):
        order.insert(place, axis)
    return permuted(x, order)


def swapaxes(x: TensorLike, axis1: int, axis2: int, /) -> Tensor:
    """x with two dims exchanged."""
    x = as_tensor(x, op="swapaxes")
    a, b = normalize_axis("swapaxes", x, axis1), normalize_axis("swapaxes", x, axis2)
    order = list(range(x.ndim))
    order[a], order[b] = b, a
    return permuted(x, order)


# -- broadcast_to ---------------------------------------------------------------------------------


def _is_one(size: Size) -> bool:
    return isinstance(size, int) and size == 1


def _broadcast_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,), (shape,) = inputs, attrs
    assert isinstance(x, Tensor)
    extra = len(shape) - x.ndim
    fits = extra >= 0 and all(_is_one(a) or a == b for a, b in zip(x.shape, shape[max(extra, 0) :]))
    if not fits:
        shape_error(
            f"broadcast_to: {shape_text(x.shape)} does not broadcast to {shape_text(shape)}",
            [x],
            "dims are matched from the last one; each must be equal or 1",
        )
    return TensorType(shape, x.dtype)


def _broadcast_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    source = node.inputs[0]
    own = index[len(index) - source.ndim :]
    zero = e.size(0)
    return e.element(0, [zero if _is_one(s) else i for s, i in zip(source.shape, own, strict=True)])


def _broadcast_reference(x: Array, shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(x, shape)


def _broadcast_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    return [unbroadcast(g, node.inputs[0].shape)]


def unbroadcast(g: Tensor, shape: Shape) -> Tensor:
    """The transpose of broadcasting `shape` to g's: a sum over the dims that were repeated."""
    extra = g.ndim - len(shape)
    repeated = tuple(
        i
        for i in range(g.ndim)
        if i < extra or (_is_one(shape[i - extra]) and not _is_one(g.shape[i]))
    )
    if repeated:
        g = REGISTRY["sum"](g, axes=repeated, keepdims=False)
    return to_shape(g, shape)


def _broadcast_samples(dtype: DType) -> list[Sample]:
    cases: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((), ()),
        ((), (3,)),
        ((1,), (0,)),
        ((3,), (2, 3)),
        ((2, 1), (2, 5)),
        ((4, 1, 3), (2, 4, 7, 3)),
        ((1, 65), (33, 65)),
    ]
    return [Sample((draw(a, dtype),), {"shape": b}) for a, b in cases]


BROADCAST_TO = REGISTRY.add(
    OpDef(
        "broadcast_to",
        ("shape",),
        _broadcast_type,
        _broadcast_reference,
        _broadcast_gradient,
        Map(_broadcast_element),
        doc="x repeated along dims of size 1 and along new leading dims.",
        samples=_broadcast_samples,
        dtypes=ALL,
    )
)


def broadcasted(x: Tensor, shape: Shape) -> Tensor:
    """x broadcast to `shape`; x itself where it has it already."""
    return x if x.shape == shape else BROADCAST_TO(x, shape=shape)


def broadcast_to(x: TensorLike, /, shape: Any) -> Tensor:
    """x repeated to `shape` by NumPy's rules.

    Raises ShapeError where a size is neither equal nor 1.
    """
    x = as_tensor(x, op="broadcast_to")
    return broadcasted(x, as_shape("broadcast_to", shape, [x]))


def broadcast_arrays(*arrays: Any) -> tuple[Tensor, ...]:
    """The arrays, each broadcast to the common shape. Raises ShapeError where there is none."""
    tensors = tuple(as_tensor(a, op="broadcast_arrays") for a in arrays)
    if not tensors:
        return ()
    shape = broadcast_shapes("broadcast_arrays", [t.shape for t in tensors], tensors)
    return tuple(broadcasted(t, shape) for t in tensors)


# -- flip, roll -----------------------------------------------------------------------------------


def _same_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,) = inputs
    assert isinstance(x, Tensor)
    return x.type


def _flip_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    axes, shape = node.attr("axes"), node.shape
    return e.element(
        0, [e.sub(e.size(shape[k] - 1), i) if k in axes else i for k, i in enumerate(index)]
    )


def _flip_reference(x: Array, axes: tuple[int, ...]) -> Array:
    return np.flip(x, axes)


def _flip_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    return [FLIP(g, axes=node.attr("axes"))]


def _flip_samples(dtype: DType) -> list[Sample]:
    cases: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((1,), (0,)),
        ((0, 2), (0, 1)),
        ((5,), (0,)),
        ((3, 17), (1,)),
        ((2, 3, 5), (0, 2)),
    ]
    return [Sample((draw(shape, dtype),), {"axes": axes}) for shape, axes in cases]


FLIP = REGISTRY.add(
    OpDef(
        "flip",
        ("axes",),
        _same_type,
        _flip_reference,
        _flip_gradient,
        Map(_flip_element),
        doc="The order of elements reversed along `axes`.",
        traits=frozenset({"involution"}),
        samples=_flip_samples,
        dtypes=ALL,
    )
)


def flip(x: TensorLike, /, *, axis: Axes = None) -> Tensor:
    """The order of elements reversed along `axis` (None: all)."""
    x = as_tensor(x, op="flip")
    axes = tuple(sorted(normalize_axes("flip", x, axis)))
    return FLIP(x, axes=axes) if axes else x


def _roll_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    moves = dict(zip(node.attr("axes"), node.attr("shift"), strict=True))
    places = list(index)
    for axis, shift in moves.items():
        moved = e.sub(index[axis], e.size(shift))
        places[axis] = e.op("mod", moved, e.size(node.shape[axis]))
    return e.element(0, places)


def _roll_reference(x: Array, shift: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    return np.roll(x, shift, axes)


def _roll_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    return [ROLL(g, shift=tuple(-s for s in node.attr("shift")), axes=node.attr("axes"))]


def _roll_samples(dtype: DType) -> list[Sample]:
    cases: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = [
        ((1,), (3,), (0,)),
        ((0, 2), (1,), (0,)),
        ((5,), (-2,), (0,)),
        ((3, 17), (20,), (1,)),
        ((2, 3, 5), (1, -1), (0, 2)),
    ]
    return [Sample((draw(s, dtype),), {"shift": shift, "axes": axes}) for s, shift, axes in cases]


ROLL = REGISTRY.add(
    OpDef(
        "roll",
        ("shift", "axes"),
        _same_type,
        _roll_reference,
        _roll_gradient,
        Map(_roll_element),
        doc="Elements moved by `shift` places along `axes`, those beyond the end coming in at the "
        "start.",
        samples=_roll_samples,
        dtypes=ALL,
    )
)


def roll(x: TensorLike, /, shift: int | Sequence[int], *, axis: Axes = None) -> Tensor:
    """Elements moved by `shift` places along `axis`, around the end; None rolls the flattened x.

    Several shifts go with several axes, one each (one shift serves all, and so does one axis); the
    shifts of an axis given twice add up.
    """
    x = as_tensor(x, op="roll")
    if axis is None:
        flat = to_shape(x, (x.size,))
        return to_shape(
            ROLL(flat, shift=per_axis("roll", "shift", shift, 1, [x]), axes=(0,)), x.shape
        )
    given = list(axis) if isinstance(axis, Sequence) else [axis]
    if len(given) == 1 and isinstance(shift, Sequence):
        given *= len(shift)
    total: dict[int, int] = {}
    for places, a in zip(per_axis("roll", "shift", shift, len(given), [x]), given, strict=True):
        (found,) = normalize_axes("roll", x, a)
        total[found] = total.get(found, 0) + places
    return ROLL(x, shift=tuple(total.values()), axes=tuple(total)) if total else x


# -- diagonals ------------------------------------------------------------------------------------


def _diagonal_size(rows: Size, columns: Size, offset: int, x: Tensor) -> Size:
    if isinstance(rows, int) and isinstance(columns, int):
        return max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
    if rows == columns and offset == 0:
        return rows
    fail(
        UnsupportedError,
        f"diagonal: the length of diagonal {offset} of {rows} x {columns} is not known before the "
        f"function is called",
        [x],
        "use offset=0 of equal dims, or dims declared as ints",
    )


def _diagonal_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,), ((row, column), offset) = inputs, attrs
    assert isinstance(x, Tensor)
    rest = tuple(s for i, s in enumerate(x.shape) if i not in (row, column))
    return TensorType((*rest, _diagonal_size(x.shape[row], x.shape[column], offset, x)), x.dtype)


def _diagonal_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    (row, column), offset = node.attr("axes"), node.attr("offset")
    *rest, k = index
    outer = iter(rest)
    places = {row: e.add(k, e.size(max(0, -offset))), column: e.add(k, e.size(max(0, offset)))}
    return e.element(0, [places[i] if i in places else next(outer) for i in range(len(index) + 1)])


def _diagonal_reference(x: Array, axes: tuple[int, int], offset: int) -> Array:
    return np.diagonal(x, offset, *axes)


def _diagonal_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    (row, column), shape = node.attr("axes"), node.inputs[0].shape
    sizes = (shape[row], shape[column])
    return [EMBED_DIAGONAL(g, axes=node.attr("axes"), offset=node.attr("offset"), sizes=sizes)]


def _diagonal_samples(dtype: DType) -> list[Sample]:
    cases: list[tuple[tuple[int, ...], tuple[int, int], int]] = [
        ((1, 1), (0, 1), 0),
        ((0, 3), (0, 1), 0),
        ((4, 6), (0, 1), 1),
        ((6, 4), (0, 1), -2),
        ((3, 2, 3), (0, 2), 0),
        ((5, 5), (1, 0), 1),
    ]
    return [
        Sample((draw(s, dtype),), {"axes": axes, "offset": offset}) for s, axes, offset in cases
    ]


DIAGONAL = REGISTRY.add(
    OpDef(
        "diagonal",
        ("axes", "offset"),
        _diagonal_type,
        _diagonal_reference,
        _diagonal_gradient,
        Map(_diagonal_element),
        doc="The elements with column - row = offset of the dims `axes` = (row, column), as a last "
        "dim.",
        samples=_diagonal_samples,
        dtypes=ALL,
    )
)


def _embed_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,), (axes, offset, sizes) = inputs, attrs
    assert isinstance(x, Tensor)
    if x.ndim < 1 or x.shape[-1] != _diagonal_size(sizes[0], sizes[1], offset, x):
        shape_error(
            f"embed_diagonal: the last dim of {x.type} is not diagonal {offset} of {sizes[0]} x "
            f"{sizes[1]}",
            [x],
        )
    places = dict(zip(axes, sizes, strict=True))
    outer = iter(x.shape[:-1])
    return TensorType(
        tuple(places[i] if i in places else next(outer) for i in range(x.ndim + 1)), x.dtype
    )


def _embed_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    (row, column), offset = node.attr("axes"), node.attr("offset")
    on = e.eq(e.sub(index[column], index[row]), e.size(offset))
    rest = [i for k, i in enumerate(index) if k not in (row, column)]
    return e.element(0, [*rest, index[row] if offset >= 0 else index[column]], where=on, fill=0)


def _embed_reference(x: Array, axes: tuple[int, int], offset: int, sizes: tuple[int, int]) -> Array:
    result = np.zeros((*x.shape[:-1], *sizes), x.dtype)
    k = np.arange(x.shape[-1])
    result[..., k + max(0, -offset), k + max(0, offset)] = x
    return np.moveaxis(result, (-2, -1), axes)


def _embed_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    return [DIAGONAL(g, axes=node.attr("axes"), offset=node.attr("offset"))]


def _embed_samples(dtype: DType) -> list[Sample]:
    cases: list[tuple[tuple[int, ...], tuple[int, int], int, tuple[int, int]]] = [
        ((1,), (0, 1), 0, (1, 1)),
        ((0,), (0, 1), 0, (0, 3)),
        ((4,), (0, 1), 1, (4, 6)),
        ((2, 3), (0, 2), 0, (3, 4)),
        ((2,), (1, 0), -1, (3, 2)),
    ]
    return [
        Sample((draw(s, dtype),), {"axes": axes, "offset": offset, "sizes": sizes})
        for s, axes, offset, sizes in cases
    ]


EMBED_DIAGONAL = REGISTRY.add(
    OpDef(
        "embed_diagonal",
        ("axes", "offset", "sizes"),
        _embed_type,
        _embed_reference,
        _embed_gradient,
        Map(_embed_element),
        doc="Zeros with the last dim of x on the diagonal `offset` of two new dims `axes`: the "
        "transpose of `diagonal`.",
        samples=_embed_samples,
        dtypes=ALL,
    )
)


def diagonal(x: TensorLike, /, *, offset: int = 0, axis1: int = -2, axis2: int = -1) -> Tensor:
    """The diagonal `offset` of the dims (axis1, axis2), as the last dim.

    Raises ShapeError for fewer than two dims, UnsupportedError where its length depends on symbolic
    sizes.
    """
    x = as_tensor(x, op="diagonal")
    if x.ndim < 2:
        hint = "it takes matrices, or stacks of them"
        shape_error(f"diagonal: needs at least 2 dims, got {x.ndim}", [x], hint)
    axes = normalize_axes("diagonal", x, (axis1, axis2))
    return DIAGONAL(x, axes=axes, offset=int(offset))


def repeated_axis_view(x: Tensor, axes: Sequence[int]) -> Tensor:
    """The diagonal over several axes of equal size, as the last dim (what a repeated einsum letter
    means).
    """
    axes = list(axes)
    while len(axes) > 1:
        a, b = axes[0], axes.pop(1)
        if x.shape[a] != x.shape[b]:
            shape_error(
                f"einsum: a letter stands for sizes {x.shape[a]} and {x.shape[b]} of one operand",
                [x],
                "a repeated letter takes the diagonal of equal dims",
            )
        x = DIAGONAL(x, axes=(a, b), offset=0)
        axes = [x.ndim - 1, *(i - (i > a) - (i > b) for i in axes[1:])]
    return x
