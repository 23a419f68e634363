"""Reductions (floor 2): sum, prod, max, min, mean, any, all, argmax, argmin and what they compose.

Attributes of each op: `axes`, a sorted tuple of non-negative ints, and `keepdims`. Small floats
accumulate in float32, sums of float32 in float64 but for the first additions; integers are widened
by the public functions. An empty reduction gives the identity.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.dims import Shape, Size, shape_text
from graphc.base.dtypes import (
    ALL,
    FLOAT,
    NUMERIC,
    Array,
    DType,
    DTypeLike,
    bool_,
    dtype_of,
    float32,
    float64,
    int64,
    uint64,
)
from graphc.base.errors import ShapeError, message
from graphc.ir.node import OPERATORS, Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, dtype_error, shape_error
from graphc.ops import elementwise, logical
from graphc.ops.axes import Axes, normalize_axes, normalize_axis
from graphc.ops.families import Reduction
from graphc.ops.promotion import TensorLike, as_tensor, cast, to_dtype
from graphc.ops.reduction_samples import reduction_samples
from graphc.ops.reshape import to_shape
from graphc.ops.view import broadcasted

AxesTuple = tuple[int, ...]


# -- types, shapes --------------------------------------------------------------------------------


def reduced_shape(shape: Shape, axes: AxesTuple, keepdims: bool) -> Shape:
    """The shape after reducing `axes`."""
    if keepdims:
        return tuple(1 if i in axes else s for i, s in enumerate(shape))
    return tuple(s for i, s in enumerate(shape) if i not in axes)


def restored(x: Tensor, node: Tensor) -> Tensor:
    """`x`, shaped like a reduction's result, with the reduced dims as size 1."""
    return to_shape(x, reduced_shape(node.inputs[0].shape, node.attr("axes"), True))


def _type_rule(name: str, dtypes: tuple[DType, ...], result: DType | None) -> Callable[..., Any]:
    def infer(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
        (x,), (axes, keepdims) = inputs, attrs
        assert isinstance(x, Tensor)
        if x.dtype not in dtypes:
            accepted = ", ".join(d.name for d in dtypes)
            hint = 'convert it first: graphc.astype(x, "float32")'
            dtype_error(f"{name}: expected {accepted}, got {x.dtype}", [x], hint)
        if tuple(sorted(set(axes))) != axes or builtins.any(not 0 <= a < x.ndim for a in axes):
            shape_error(f"{name}: axes {axes} are not sorted axes of {x.type}", [x])
        return TensorType(reduced_shape(x.shape, axes, keepdims), result or x.dtype)

    return infer


def _accumulator(dtype: DType) -> tuple[DType, ...]:
    return (dtype.compute,)


def _own(dtype: DType) -> tuple[DType, ...]:
    return (dtype,)


def _widened(s: Any, x: Any, position: Any, dtype: DType) -> tuple[Any, ...]:
    return (s.cast(x, dtype.compute),)


def _entered(s: Any, x: Any, position: Any, dtype: DType) -> tuple[Any, ...]:
    return (x,)


def _combined(name: str, on_bool: str = "") -> Callable[..., tuple[Any, ...]]:
    def combine(s: Any, left: tuple[Any, ...], right: tuple[Any, ...]) -> tuple[Any, ...]:
        method = on_bool if on_bool and s.dtype_of(left[0]).is_bool else name
        return (s.op(method, left[0], right[0]),)

    return combine


def _rounded(s: Any, accumulators: tuple[Any, ...], count: Any, node: Tensor) -> Any:
    return s.cast(accumulators[0], node.dtype)


def _mean_finish(s: Any, accumulators: tuple[Any, ...], count: Any, node: Tensor) -> Any:
    (total,) = accumulators
    dtype = s.dtype_of(total)
    number = s.cast(count, dtype)
    if dtype is float64 and node.dtype is float32:
        # The reciprocal is the same for all rows, and its error far below the last rounding.
        return s.cast(s.mul(total, s.div(s.constant(1.0, dtype), number)), node.dtype)
    return s.cast(s.div(total, number), node.dtype)


def _constant_identity(value: bool | int | float) -> Callable[[DType], tuple[Any, ...]]:
    def identity(dtype: DType) -> tuple[bool | int | float, ...]:
        if dtype.is_float:
            return (float(value),)
        return (bool(value),) if dtype.is_bool else (int(value),)

    return identity


def lowest(dtype: DType) -> bool | int | float:
    """The identity of max: -inf, the smallest integer, False."""
    if dtype.is_float:
        return -np.inf
    return False if dtype.is_bool else int(np.iinfo(dtype.numpy).min)


def highest(dtype: DType) -> bool | int | float:
    """The identity of min: inf, the largest integer, True."""
    if dtype.is_float:
        return np.inf
    return True if dtype.is_bool else int(np.iinfo(dtype.numpy).max)


# -- references -----------------------------------------------------------------------------------


def accurate(x: Array) -> Array:
    """Floats in float64, so that the reference is better than what it judges."""
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _sum_reference(x: Array, axes: AxesTuple, keepdims: bool) -> Array:
    return np.sum(accurate(x), axis=axes, keepdims=keepdims, dtype=accurate(x).dtype)


def _prod_reference(x: Array, axes: AxesTuple, keepdims: bool) -> Array:
    return np.asarray(np.prod(accurate(x), axis=axes, keepdims=keepdims, dtype=accurate(x).dtype))


def _mean_reference(x: Array, axes: AxesTuple, keepdims: bool) -> Array:
    count = np.prod([x.shape[a] for a in axes], dtype=np.int64)
    return np.asarray(np.sum(accurate(x), axis=axes, keepdims=keepdims) / np.float64(count))


def _max_reference(x: Array, axes: AxesTuple, keepdims: bool) -> Array:
    return np.asarray(np.max(x, axis=axes, keepdims=keepdims, initial=lowest(dtype_of(x.dtype))))


def _max_number_reference(x: Array, axes: AxesTuple, keepdims: bool) -> Array:
    # Not np.fmax, which loses numbers beside signaling NaN.
    numbers = np.where(np.isnan(x), lowest(dtype_of(x.dtype)), x)
    return np.asarray(np.max(numbers, axis=axes, keepdims=keepdims, initial=-np.inf))


def _min_reference(x: Array, axes: AxesTuple, keepdims: bool) -> Array:
    return np.asarray(np.min(x, axis=axes, keepdims=keepdims, initial=highest(dtype_of(x.dtype))))


def _any_reference(x: Array, axes: AxesTuple, keepdims: bool) -> Array:
    return np.asarray(np.any(x, axis=axes, keepdims=keepdims))


def _all_reference(x: Array, axes: AxesTuple, keepdims: bool) -> Array:
    return np.asarray(np.all(x, axis=axes, keepdims=keepdims))


def _position_reference(find: Callable[..., Any]) -> Callable[..., Array]:
    def reference(x: Array, axes: AxesTuple, keepdims: bool) -> Array:
        rest = [i for i in range(x.ndim) if i not in axes]
        count = math.prod(x.shape[a] for a in axes)  # -1 cannot be found out where a dim is 0
        if not count:
            raise ShapeError(
                message(
                    f"{find.__name__}: there is no position among no elements: the operand is "
                    f"{shape_text(x.shape)}, the axes {list(axes)}",
                    hint="feed at least one element along them, or declare the size with "
                    "graphc.Dim(name, min=1)",
                )
            )
        flat = np.transpose(x, (*rest, *axes)).reshape(*(x.shape[i] for i in rest), count)
        found = np.asarray(find(flat, axis=-1))
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        return found.reshape(shape) if keepdims else found

    return reference


# -- gradients ------------------------------------------------------------------------------------


def _sum_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    return [broadcasted(restored(g, node), node.inputs[0].shape)]


def count_of(shape: Shape, axes: AxesTuple) -> Size:
    """The number of elements that a reduction of `axes` combines."""
    count: Size = 1
    for a in axes:
        count = count * shape[a]
    return count


def _mean_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    x = node.inputs[0]
    # The count may be beyond the range of a 16-bit float.
    wide = x.dtype.compute
    count = as_tensor(count_of(x.shape, node.attr("axes")), like=wide)
    share = cast(elementwise.divide(cast(restored(g, node), wide), count), x.dtype)
    return [broadcasted(share, x.shape)]


def _extreme_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    # Elements that tie share the cotangent equally; the count is at least 1 but where the result is
    # NaN.
    x, axes = node.inputs[0], node.attr("axes")
    mask = logical.equal(x, restored(node, node))
    ties = REGISTRY["sum"](cast(mask, x.dtype), axes=axes, keepdims=True)
    share = elementwise.divide(restored(g, node), elementwise.maximum(ties, 1.0))
    return [elementwise.where(mask, share, 0.0)]


def _prod_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    """The product of all other elements: no division, so that zeros are right, in any order."""
    x, axes = node.inputs[0], node.attr("axes")
    rest = tuple(i for i in range(x.ndim) if i not in axes)
    order = (*rest, *axes)
    lined = to_shape(
        REGISTRY["permute_dims"](x, axes=order),
        (*(x.shape[i] for i in rest), count_of(x.shape, axes)),
    )
    last = lined.ndim - 1
    sides = []
    for reverse in (False, True):
        running = REGISTRY["cumulative_prod"](lined, axis=last, reverse=reverse)
        low, high = (-1, 1) if reverse else (1, -1)
        zeros = (0,) * last
        # One place further, with a 1 where nothing has been multiplied yet: an exclusive product.
        sides.append(
            REGISTRY["pad"](
                running,
                low=(*zeros, low),
                high=(*zeros, high),
                interior=(0,) * (last + 1),
                value=1.0,
            )
        )
    others = to_shape(elementwise.multiply(*sides), tuple(x.shape[i] for i in order))
    back = tuple(order.index(i) for i in range(x.ndim))
    return [
        elementwise.chain_multiply(restored(g, node), REGISTRY["permute_dims"](others, axes=back))
    ]


def _larger_number(s: Any, left: tuple[Any, ...], right: tuple[Any, ...]) -> tuple[Any, ...]:
    # NaN is not greater than anything: one instruction on x86, where `maximum` takes three.
    return (s.select(s.gt(right[0], left[0]), right[0], left[0]),)


# -- argmax, argmin -------------------------------------------------------------------------------

_FAR = np.iinfo(np.int64).max


def _with_position(s: Any, x: Any, position: Any, dtype: DType) -> tuple[Any, ...]:
    return (x, position)


def _better(sign: str) -> Callable[..., tuple[Any, ...]]:
    """Of two (value, position): the more extreme value, NaN before all; the first of equal ones."""

    def combine(s: Any, left: tuple[Any, ...], right: tuple[Any, ...]) -> tuple[Any, ...]:
        (a, i), (b, j) = left, right
        if s.dtype_of(a).is_bool:
            a_key, b_key = s.cast(a, int64), s.cast(b, int64)
        else:
            a_key, b_key = a, b
        wins, same = s.op(sign, b_key, a_key), s.eq(b_key, a_key)
        if s.dtype_of(a).is_float:
            a_nan, b_nan = s.isnan(a), s.isnan(b)
            wins = s.bit_or(wins, s.bit_and(b_nan, s.bit_not(a_nan)))
            same = s.bit_or(same, s.bit_and(a_nan, b_nan))
        take = s.bit_or(wins, s.bit_and(same, s.lt(j, i)))
        return (s.select(take, b, a), s.select(take, j, i))

    return combine


def _position(s: Any, accumulators: tuple[Any, ...], count: Any, node: Tensor) -> Any:
    return accumulators[1]


def _positioned(
    extreme: Callable[[DType], bool | int | float],
) -> Callable[[DType], tuple[Any, ...]]:
    def identity(dtype: DType) -> tuple[bool | int | float, ...]:
        return (extreme(dtype), _FAR)

    return identity


def _two_accumulators(dtype: DType) -> tuple[DType, ...]:
    return (dtype, int64)


def _declare(
    name: str, doc: str, form: Reduction, reference: Callable[..., Array], **options: Any
) -> OpDef:
    dtypes = options.pop("dtypes", NUMERIC)
    samples = options.pop("samples", reduction_samples())
    gradient = options.pop("gradient", None)
    infer = _type_rule(name, dtypes, options.pop("result", None))
    assert not options, options
    return REGISTRY.add(
        OpDef(
            name,
            ("axes", "keepdims"),
            infer,
            reference,
            gradient,
            form,
            doc=doc,
            samples=samples,
            dtypes=dtypes,
        )
    )


def _folded(start: int, method: str, finish: Callable[..., Any] = _rounded) -> Reduction:
    identity, combine = _constant_identity(start), _combined(method)
    return Reduction(_accumulator, identity, _widened, combine, finish, method == "add")


SUM = _declare(
    "sum",
    "The sum over axes.",
    _folded(0, "add"),
    _sum_reference,
    gradient=_sum_gradient,
)
MEAN = _declare(
    "mean",
    "The mean over axes; NaN where there is nothing to average.",
    _folded(0, "add", _mean_finish),
    _mean_reference,
    gradient=_mean_gradient,
    dtypes=FLOAT,
)
PROD = _declare(
    "prod",
    "The product over axes.",
    _folded(1, "mul"),
    _prod_reference,
    gradient=_prod_gradient,
    samples=reduction_samples(near_one=True),
)


def _max_identity(dtype: DType) -> tuple[bool | int | float, ...]:
    return (lowest(dtype),)


def _min_identity(dtype: DType) -> tuple[bool | int | float, ...]:
    return (highest(dtype),)


MAX = _declare(
    "max",
    "The maximum over axes, NaN where one is; of nothing: -inf, the smallest integer.",
    Reduction(_own, _max_identity, _entered, _combined("maximum", "bit_or"), _rounded),
    _max_reference,
    gradient=_extreme_gradient,
    dtypes=ALL,
)
MAX_NUMBER = _declare(
    "max_number",
    "The maximum over axes of what is not NaN; -inf where there is nothing else.",
    Reduction(_own, _max_identity, _entered, _larger_number, _rounded),
    _max_number_reference,
    gradient=_extreme_gradient,
    dtypes=FLOAT,
)
MIN = _declare(
    "min",
    "The minimum over axes, NaN where one is; of nothing: inf, the largest integer.",
    Reduction(_own, _min_identity, _entered, _combined("minimum", "bit_and"), _rounded),
    _min_reference,
    gradient=_extreme_gradient,
    dtypes=ALL,
)
ANY = _declare(
    "any",
    "Whether any element over axes is true.",
    Reduction(_own, _constant_identity(False), _entered, _combined("bit_or"), _rounded),
    _any_reference,
    dtypes=(bool_,),
)
ALL_OF = _declare(
    "all",
    "Whether all elements over axes are true.",
    Reduction(_own, _constant_identity(True), _entered, _combined("bit_and"), _rounded),
    _all_reference,
    dtypes=(bool_,),
)
ARGMAX = _declare(
    "argmax",
    "The row-major position, within axes, of the first maximum; of the first NaN where one is.",
    Reduction(_two_accumulators, _positioned(lowest), _with_position, _better("gt"), _position),
    _position_reference(np.argmax),
    dtypes=ALL,
    result=int64,
    samples=reduction_samples(empty=False),
)
ARGMIN = _declare(
    "argmin",
    "The row-major position, within axes, of the first minimum; of the first NaN where one is.",
    Reduction(_two_accumulators, _positioned(highest), _with_position, _better("lt"), _position),
    _position_reference(np.argmin),
    dtypes=ALL,
    result=int64,
    samples=reduction_samples(empty=False),
)


# -- public functions -----------------------------------------------------------------------------


def _sorted_axes(op: str, x: Tensor, axis: Axes) -> AxesTuple:
    return tuple(sorted(normalize_axes(op, x, axis)))


def _summed_dtype(dtype: DType) -> DType:
    """NumPy's rule: sums of bool and integers are 64 bits wide."""
    if dtype.is_float:
        return dtype
    return uint64 if dtype.kind == "u" else int64


def _accumulating(op: OpDef, x: Any, axis: Axes, dtype: DTypeLike | None, keepdims: bool) -> Tensor:
    tensor = as_tensor(x, op=op.name)
    wanted = _summed_dtype(tensor.dtype) if dtype is None else to_dtype(dtype, op.name, [tensor])
    axes = _sorted_axes(op.name, tensor, axis)
    return op(cast(tensor, wanted), axes=axes, keepdims=bool(keepdims))


def sum(
    x: TensorLike, /, *, axis: Axes = None, dtype: DTypeLike | None = None, keepdims: bool = False
) -> Tensor:
    """The sum of elements over `axis` (an int, several, or None for all).

    bool and integers give int64, unsigned ones uint64; float16 and bfloat16 accumulate in float32.
    `dtype` converts x first. Raises ShapeError for an axis out of bounds.

        graphc.sum(x, axis=-1, keepdims=True)
    """
    return _accumulating(SUM, x, axis, dtype, keepdims)


def prod(
    x: TensorLike, /, *, axis: Axes = None, dtype: DTypeLike | None = None, keepdims: bool = False
) -> Tensor:
    """The product of elements over `axis`; dtypes as in `sum`.

    Gradients are right where x has zeros.
    """
    return _accumulating(PROD, x, axis, dtype, keepdims)


def as_float(op: str, x: Any) -> Tensor:
    """x as a tensor of floats: bool and integers give float64."""
    tensor = as_tensor(x, op=op)
    return tensor if tensor.dtype.is_float else cast(tensor, float64)


def mean(
    x: TensorLike, /, *, axis: Axes = None, dtype: DTypeLike | None = None, keepdims: bool = False
) -> Tensor:
    """The mean of elements over `axis`; bool and integers give float64.

    NaN where there is nothing.
    """
    x = as_float("mean", x) if dtype is None else cast(as_tensor(x), to_dtype(dtype, "mean"))
    return MEAN(x, axes=_sorted_axes("mean", x, axis), keepdims=bool(keepdims))


def _needs_elements(op: str, x: Tensor, axes: AxesTuple) -> None:
    if builtins.any(x.shape[a] == 0 for a in axes):
        shape_error(
            f"{op}: nothing to choose from: {x.type} has no elements along axis {axes}",
            [x],
            "reduce an axis that has elements",
        )


def _extreme(op: OpDef, x: Any, axis: Axes, keepdims: bool) -> Tensor:
    tensor = as_tensor(x, op=op.name)
    axes = _sorted_axes(op.name, tensor, axis)
    _needs_elements(op.name, tensor, axes)
    return op(tensor, axes=axes, keepdims=bool(keepdims))


def max(x: TensorLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The maximum over `axis`; NaN where an element is NaN. Elements that tie share the gradient.

    Raises ShapeError where an axis is known to be empty (a symbolic one that turns out empty gives
    -inf,
    or the smallest integer).
    """
    return _extreme(MAX, x, axis, keepdims)


def min(x: TensorLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The minimum over `axis`; NaN where an element is NaN. As `max` otherwise."""
    return _extreme(MIN, x, axis, keepdims)


def any(x: TensorLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether any element over `axis` is not zero (NaN is not)."""
    x = cast(as_tensor(x, op="any"), bool_)
    return ANY(x, axes=_sorted_axes("any", x, axis), keepdims=bool(keepdims))


def all(x: TensorLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over `axis` are not zero; True of nothing."""
    x = cast(as_tensor(x, op="all"), bool_)
    return ALL_OF(x, axes=_sorted_axes("all", x, axis), keepdims=bool(keepdims))


def count_nonzero(x: TensorLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """How many elements over `axis` are not zero, as int64."""
    x = as_tensor(x, op="count_nonzero")
    return sum(cast(cast(x, bool_), int64), axis=axis, keepdims=keepdims)


def argmax(x: TensorLike, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The int64 position of the first maximum along `axis` (None: in the flattened x); NaN counts
    as largest.

    Raises ShapeError where there are no elements. No gradient flows.
    """
    return _extreme(ARGMAX, x, _one_axis("argmax", x, axis), keepdims)


def argmin(x: TensorLike, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The int64 position of the first minimum along `axis` (None: in the flattened x).

    As `argmax`.
    """
    return _extreme(ARGMIN, x, _one_axis("argmin", x, axis), keepdims)


def _one_axis(op: str, x: Any, axis: int | None) -> int | None:
    return None if axis is None else normalize_axis(op, as_tensor(x, op=op), axis)


OPERATORS.update(sum=sum, mean=mean)
