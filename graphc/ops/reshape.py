"""Reshapes (floor 2): the same elements in row-major order under another shape; memory is shared.

`reshape` is the one op; expand_dims and squeeze are reshapes by another name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Shape, Size, divide, product, shape_text
from graphc.base.dtypes import ALL, Array, DType
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, shape_error
from graphc.ops.axes import (
    Axes,
    as_shape,
    canonical_size,
    normalize_axes,
    normalize_axis,
    same_elements,
)
from graphc.ops.families import Reshape
from graphc.ops.promotion import TensorLike, as_tensor
from graphc.ops.sampling import draw, strided
from graphc.ops.sizes import computed_size, is_computed, size_tensor


def _reshape_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,), (shape,) = inputs, attrs
    assert isinstance(x, Tensor)
    if not same_elements(x.shape, shape):
        shape_error(
            f"reshape: {shape_text(x.shape)} has {x.size} elements, {shape_text(shape)} has "
            f"{product(shape)}",
            [x],
            "the number of elements must stay the same; one size may be -1 to be computed",
        )
    return TensorType(shape, x.dtype)


def _reshape_reference(x: Array, shape: tuple[int, ...]) -> Array:
    return np.reshape(x, shape)


def _reshape_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    return [RESHAPE(g, shape=node.inputs[0].shape)]


def _reshape_samples(dtype: DType) -> list[Sample]:
    cases: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((), (1, 1)),
        ((1,), ()),
        ((0, 3), (3, 0, 2)),
        ((6,), (2, 3)),
        ((4, 6), (3, 8)),
        ((2, 3, 5), (30,)),
    ]
    found = [Sample((draw(a, dtype),), {"shape": b}) for a, b in cases]
    return found + [Sample((strided(draw((4, 6), dtype)),), {"shape": (2, 12)})]


RESHAPE = REGISTRY.add(
    OpDef(
        "reshape",
        ("shape",),
        _reshape_type,
        _reshape_reference,
        _reshape_gradient,
        Reshape(),
        doc="The elements of x in row-major order, in another shape.",
        samples=_reshape_samples,
        dtypes=ALL,
    )
)


def to_shape(x: Tensor, shape: Shape) -> Tensor:
    """x reshaped; x itself where it has that shape already."""
    return x if x.shape == shape else RESHAPE(x, shape=shape)


def reshape(x: TensorLike, /, shape: Any, *, copy: bool | None = None) -> Tensor:
    """The elements of x in row-major order, in another shape of the same size; one size may be -1.

    Sizes are ints, dims or integer scalars of the graph (see `graphc.as_dim`); where sizes are
    computed, whether they fit is checked when the graph runs. `copy` says nothing to a graph, whose
    tensors never change; False and None are taken, True as well. Raises ShapeError where the sizes
    do not multiply to x.size, or cannot be shown to.

        flat = graphc.reshape(images, (images.shape[0], -1))
    """
    x = as_tensor(x)
    sizes = as_shape("reshape", shape, [x], negative=True)
    if any(isinstance(s, int) and s < -1 for s in sizes):
        shape_error(
            f"reshape: a size cannot be negative, got {shape_text(sizes)}",
            [x],
            "one size may be -1",
        )
    unknown = [i for i, s in enumerate(sizes) if isinstance(s, int) and s == -1]
    if len(unknown) > 1:
        shape_error(
            f"reshape: more than one -1 in {shape_text(sizes)}", [x], "only one size may be -1"
        )
    if unknown:
        known = product(s for i, s in enumerate(sizes) if i != unknown[0])
        fill = _missing_size(x, known, sizes)
        sizes = (*sizes[: unknown[0]], fill, *sizes[unknown[0] + 1 :])
    if not same_elements(x.shape, sizes) and is_computed((*x.shape, *sizes)):
        return checked_reshape(x, sizes)
    return to_shape(x, sizes)


def checked_reshape(x: Tensor, sizes: Shape) -> Tensor:
    """x reshaped to as many elements, which is checked when all sizes are known."""
    wanted, given = product(sizes), x.size
    # A start that is 0, or else no size at all: whether all is well is seen when it is bound.
    equal = size_tensor(wanted) == size_tensor(given)
    start = computed_size(
        REGISTRY["where"](equal, size_tensor(0), size_tensor(-1)),
        max=0,
        what=f"reshape: {shape_text(x.shape)} has not as many elements as {shape_text(sizes)}",
    )
    flat = to_shape(x, (given,))
    return to_shape(REGISTRY["slice"](flat, starts=(start,), steps=(1,), shape=(wanted,)), sizes)


def _missing_size(x: Tensor, known: Size, sizes: Shape) -> Size:
    if isinstance(known, int) and known == 0:
        shape_error(
            f"reshape: -1 stands for no single size in {shape_text(sizes)}: the others multiply to "
            f"0",
            [x],
            "write all sizes",
        )
    fill = divide(x.size, known)
    if canonical_size(fill * known) != canonical_size(x.size) and is_computed((x.size, known)):
        whole, part = size_tensor(x.size), size_tensor(known)
        fits = (part > 0) & (whole % REGISTRY["where"](part > 0, part, size_tensor(1)) == 0)
        return computed_size(
            REGISTRY["where"](fits, whole // part, size_tensor(-1)),
            what=f"reshape: {shape_text(x.shape)} cannot be divided into {shape_text(sizes)}",
        )
    if canonical_size(fill * known) != canonical_size(x.size):
        shape_error(
            f"reshape: {shape_text(x.shape)} with {x.size} elements cannot be divided into "
            f"{shape_text(sizes)}: "
            f"{x.size} is not surely a multiple of {known}",
            [x],
            f'declare the dim with graphc.Dim("n", multiple_of={known})'
            if not isinstance(x.size, int)
            else f"the sizes beside -1 must divide {x.size}",
        )
    return fill


def expand_dims(x: TensorLike, /, axis: Axes = 0) -> Tensor:
    """x with dims of size 1 at `axis` (an int, or several) of the result.

    Raises ShapeError for an axis out of bounds.
    """
    x = as_tensor(x)
    count = len(axis) if isinstance(axis, Sequence) else 1
    places = normalize_axes("expand_dims", x, axis, x.ndim + count)
    rest = iter(x.shape)
    return to_shape(x, tuple(1 if i in places else next(rest) for i in range(x.ndim + count)))


def squeeze(x: TensorLike, /, axis: Axes = None) -> Tensor:
    """x without the dims of size 1 at `axis` (None: all that are known to be 1).

    Raises ShapeError where a size is not 1.
    """
    x = as_tensor(x)
    if axis is None:
        places: tuple[int, ...] = tuple(i for i, s in enumerate(x.shape) if s == 1)
    else:
        places = normalize_axes("squeeze", x, axis)
    for i in places:
        if x.shape[i] != 1:
            shape_error(
                f"squeeze: dim {i} has size {x.shape[i]}, not 1",
                [x],
                "only dims of size 1 can be dropped",
            )
    return to_shape(x, tuple(s for i, s in enumerate(x.shape) if i not in places))


def split_axis(x: Tensor, axis: int, sizes: Shape) -> Tensor:
    """One axis of x as several of those sizes."""
    axis = normalize_axis("reshape", x, axis)
    return to_shape(x, (*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))
