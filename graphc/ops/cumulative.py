"""Cumulative ops (floor 2): running sums, products, maxima along an axis, and linear recurrences.

Attributes: `axis` (non-negative) and `reverse` (from the last element to the first). Each line
along the axis is one serial loop. Float16 and bfloat16 accumulate in float32. Gradients run the
other way, in linear time, without a division, in any order of differentiation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.base.dims import product
from graphc.base.dtypes import ALL, FLOAT, NUMERIC, Array, DType, DTypeLike, bool_, int64, uint64
from graphc.ir.node import Node, Tensor, TensorType
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, shape_error
from graphc.ops import elementwise, logical
from graphc.ops.axes import normalize_axis
from graphc.ops.families import Opaque
from graphc.ops.joining import concat, padded, take_slice
from graphc.ops.promotion import TensorLike, as_tensor, cast, to_dtype
from graphc.ops.reduction import accurate
from graphc.ops.reshape import to_shape
from graphc.ops.sampling import draw, strided, with_nan
from graphc.ops.view import broadcasted

Step = Callable[[Any, Any, Any], Any]


# -- common parts ---------------------------------------------------------------------------------


def along(index: tuple[Any, ...], axis: int, place: Any) -> list[Any]:
    """The full index of `place` on the line `index` (which lacks `axis`)."""
    return [*index[:axis], place, *index[axis:]]


def line_extents(node: Tensor, axis: int) -> tuple[Any, ...]:
    """The shape without `axis`: one parallel iteration per line."""
    return (*node.shape[:axis], *node.shape[axis + 1 :])


def _place_in(b: Any, flat: Any, extents: tuple[Any, ...]) -> tuple[Any, ...]:
    """The index of the flat-th element of a grid."""
    index: list[Any] = []
    for extent in reversed(extents[1:]):
        index.insert(0, b.op("mod", flat, b.size(extent)))
        flat = b.op("floordiv", flat, b.size(extent))
    return (flat, *index) if extents else ()


def _lower(step: Step) -> Callable[[Any, Tensor], None]:
    """Loops that carry step(s, accumulator, element) along each line; the first element enters as
    it is.
    """

    def lower(b: Any, node: Tensor) -> None:
        axis, reverse = node.attr("axis"), node.attr("reverse")
        dtype = node.inputs[0].dtype
        size = node.shape[axis]

        def walk(indices: list[tuple[Any, ...]]) -> None:
            """The lines at the indices, an element of each in turn."""
            running = [b.local((), dtype.compute) for _ in indices]

            def visit(i: Any, following: bool) -> None:
                place = b.sub(b.size(size - 1), i) if reverse else i
                for index, total in zip(indices, running, strict=True):
                    at = along(index, axis, place)
                    x = b.cast(b.load(0, at), dtype.compute)
                    b.put(total, step(b, b.get(total), x) if following else x)
                    b.store(at, b.cast(b.get(total), node.dtype))

            def line() -> None:
                visit(b.size(0), False)
                b.loop(size - 1, lambda i: visit(b.add(i, b.size(1)), True))

            if not isinstance(size, int):
                b.when(b.gt(b.size(size), b.size(0)), line)
            elif size > 0:
                line()

        extents = line_extents(node, axis)
        if not all(isinstance(s, int) for s in extents) or product(extents) < 4 * _LINES:
            b.parallel(extents, lambda index: walk([index]))
            return
        last = product(extents) - 1

        def lines(index: tuple[Any, ...]) -> None:
            first = b.mul(index[0], b.size(_LINES))
            # The last step may walk the last line several times, to the same results.
            flat = [b.minimum(b.add(first, b.size(k)), b.size(last)) for k in range(_LINES)]
            walk([_place_in(b, line, extents) for line in flat])

        b.parallel((last // _LINES + 1,), lines)

    def either(b: Any, node: Tensor) -> None:
        last = node.attr("axis") == len(node.shape) - 1
        (lower if last or node.shape[-1] == 1 else columns)(b, node)

    columns = _lower_columns(step)
    return either


def _lower_columns(step: Step) -> Callable[[Any, Tensor], None]:
    """The same loops along another axis than the last, a block of lines side by side in vectors."""

    def lower(b: Any, node: Tensor) -> None:
        axis, reverse = node.attr("axis"), node.attr("reverse")
        dtype = node.inputs[0].dtype
        size, last = node.shape[axis], node.shape[-1]
        outer = (*node.shape[:axis], *node.shape[axis + 1 : -1])

        def block(index: tuple[Any, ...]) -> None:
            start = b.mul(index[-1], b.size(_COLUMNS))
            count = b.minimum(b.size(_COLUMNS), b.sub(b.size(last), start))
            running = b.local((_COLUMNS,), dtype.compute)

            def visit(i: Any) -> None:
                place = b.sub(b.size(size - 1), i) if reverse else i
                first = b.eq(i, b.size(0))

                def element(j: Any) -> None:
                    at = along((*index[:-1], b.add(start, j)), axis, place)
                    x = b.cast(b.load(0, at), dtype.compute)
                    total = b.select(first, x, step(b, b.get(running, (j,)), x))
                    b.put(running, total, (j,))
                    b.store(at, b.cast(total, node.dtype))

                b.lanes(count, dtype, element)

            nothing = b.constant(0 if not dtype.is_bool else False, dtype.compute)
            b.lanes(count, dtype, lambda j: b.put(running, nothing, (j,)))
            b.loop(size, visit)

        b.parallel((*outer, (last + (_COLUMNS - 1)) // _COLUMNS), block)

    return lower


# Lines of which one step takes an element each: while one waits for its addition the others add.
_LINES = 4
_COLUMNS = 256  # lines side by side: their running values stay in the first-level cache


def _same_type(name: str, dtypes: tuple[DType, ...]) -> Callable[..., TensorType]:
    def infer(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
        first = inputs[0]
        assert isinstance(first, Tensor)
        for x in inputs:
            if x.type != first.type:
                shape_error(f"{name}: operands {first.type} and {x.type} differ", inputs)
        if first.dtype not in dtypes:
            accepted = ", ".join(d.name for d in dtypes)
            dtype_error(f"{name}: expected {accepted}, got {first.dtype}", inputs)
        if not 0 <= attrs[0] < first.ndim:
            shape_error(f"{name}: axis {attrs[0]} is out of bounds for {first.type}", inputs)
        return first.type

    return infer


def _reference(accumulate: Callable[..., Any]) -> Callable[..., Array]:
    def reference(x: Array, axis: int, reverse: bool) -> Array:
        if reverse:
            return np.flip(reference(np.flip(x, axis), axis, False), axis)
        wide = accurate(x)
        return np.asarray(accumulate(wide, axis=axis, dtype=wide.dtype))

    return reference


def _samples(near_one: bool = False) -> Callable[[DType], list[Sample]]:
    def samples(dtype: DType) -> list[Sample]:
        cases: list[tuple[tuple[int, ...], int, bool]] = [
            ((1,), 0, False),
            ((0,), 0, False),
            ((3, 0), 1, True),
            ((0, 3), 1, False),
            ((7,), 0, True),
            ((3, 5), 0, False),
            ((3, 5), 1, True),
            ((2, 3, 4), 1, False),
            ((2, 70), 1, False),
        ]
        low, high = (0.7, 1.4) if near_one else (-3.0, 3.0)
        found = [
            Sample((draw(shape, dtype, low=low, high=high),), {"axis": axis, "reverse": reverse})
            for shape, axis, reverse in cases
        ]
        attrs = {"axis": 0, "reverse": False}
        found.append(Sample((strided(draw((4, 6), dtype, low=low, high=high)),), attrs))
        if dtype.is_float:
            found.append(Sample((with_nan(draw((5, 2), dtype), 4),), attrs))
        return found

    return samples


# -- sum ------------------------------------------------------------------------------------------


def _sum_step(s: Any, running: Any, x: Any) -> Any:
    return s.add(running, x)


def _sum_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    return [CUMULATIVE_SUM(g, axis=node.attr("axis"), reverse=not node.attr("reverse"))]


CUMULATIVE_SUM = REGISTRY.add(
    OpDef(
        "cumulative_sum",
        ("axis", "reverse"),
        _same_type("cumulative_sum", NUMERIC),
        _reference(np.cumsum),
        _sum_gradient,
        Opaque(_lower(_sum_step)),
        doc="Running sums along an axis.",
        samples=_samples(),
        dtypes=NUMERIC,
    )
)


# -- linear recurrence, product -------------------------------------------------------------------


def _recurrence_lower(b: Any, node: Tensor) -> None:
    axis, reverse = node.attr("axis"), node.attr("reverse")
    compute, size = node.dtype.compute, node.shape[axis]

    def line(index: tuple[Any, ...]) -> None:
        running = b.local((), compute)
        b.put(running, b.constant(0, compute))

        def visit(i: Any) -> None:
            place = along(index, axis, b.sub(b.size(size - 1), i) if reverse else i)
            a, x = b.cast(b.load(0, place), compute), b.cast(b.load(1, place), compute)
            following = b.add(b.mul(a, b.get(running)), x)
            # The first factor has nothing to multiply: an infinite one must not make NaN.
            b.put(running, b.select(b.eq(i, b.size(0)), x, following))
            b.store(place, b.cast(b.get(running), node.dtype))

        b.loop(size, visit)

    b.parallel(line_extents(node, axis), line)


def _recurrence_reference(a: Array, x: Array, axis: int, reverse: bool) -> Array:
    if reverse:
        flipped = _recurrence_reference(np.flip(a, axis), np.flip(x, axis), axis, False)
        return np.flip(flipped, axis)
    a, x = np.moveaxis(accurate(a), axis, 0), np.moveaxis(accurate(x), axis, 0)
    result = np.array(x)
    for i in range(1, len(x)):
        result[i] = a[i] * result[i - 1] + x[i]
    return np.moveaxis(result, 0, axis)


def shifted(x: Tensor, axis: int, places: int, value: float = 0.0) -> Tensor:
    """x moved by `places` along an axis, `value` coming in."""
    low = tuple(places if i == axis else 0 for i in range(x.ndim))
    return padded(x, low, tuple(-p for p in low), value=value)


def _recurrence_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    # x_i enters y_i, and y_i enters y_{i+1} times a_{i+1}: the same recurrence, run the other way.
    a, (axis, reverse) = node.inputs[0], node.attrs
    step = -1 if reverse else 1
    back = LINEAR_RECURRENCE(shifted(a, axis, -step), g, axis=axis, reverse=not reverse)
    before = shifted(node, axis, step)
    return [elementwise.chain_multiply(back, before), back]


def _recurrence_samples(dtype: DType) -> list[Sample]:
    found = []
    for sample in _samples(near_one=True)(dtype):
        x = sample.inputs[0]
        found.append(Sample((draw(x.shape, dtype, seed=5, low=-1.0, high=1.0), x), sample.attrs))
    return found


LINEAR_RECURRENCE = REGISTRY.add(
    OpDef(
        "linear_recurrence",
        ("axis", "reverse"),
        _same_type("linear_recurrence", FLOAT),
        _recurrence_reference,
        _recurrence_gradient,
        Opaque(_recurrence_lower),
        doc="y[i] = a[i] * y[i - 1] + x[i] along an axis, y[0] = x[0].",
        samples=_recurrence_samples,
        dtypes=FLOAT,
    )
)


def linear_recurrence(a: Any, x: Any, /, *, axis: int = -1, reverse: bool = False) -> Tensor:
    """y[i] = a[i] * y[i - 1] + x[i] along `axis`, with y[0] = x[0]; from the last element with
    `reverse`.

    Operands have one shape and one float dtype. Raises ShapeError, DTypeError otherwise.
    """
    factors, terms = as_tensor(a, op="linear_recurrence"), as_tensor(x, op="linear_recurrence")
    place = normalize_axis("linear_recurrence", terms, axis)
    return LINEAR_RECURRENCE(factors, terms, axis=place, reverse=bool(reverse))


def _prod_step(s: Any, running: Any, x: Any) -> Any:
    return s.mul(running, x)


def _prod_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    # x_j times left_j enters y_j; later y_i have it times x_{j+1} … x_i, which the recurrence sums
    # up.
    (x,), (axis, reverse) = node.inputs, node.attrs
    step = -1 if reverse else 1
    sums = LINEAR_RECURRENCE(shifted(x, axis, -step, 1.0), g, axis=axis, reverse=not reverse)
    return [elementwise.chain_multiply(sums, shifted(node, axis, step, 1.0))]


CUMULATIVE_PROD = REGISTRY.add(
    OpDef(
        "cumulative_prod",
        ("axis", "reverse"),
        _same_type("cumulative_prod", NUMERIC),
        _reference(np.cumprod),
        _prod_gradient,
        Opaque(_lower(_prod_step)),
        doc="Running products along an axis.",
        samples=_samples(near_one=True),
        dtypes=NUMERIC,
    )
)


# -- maximum, minimum -----------------------------------------------------------------------------


def _extreme_step(method: str, on_bool: str) -> Step:
    def step(s: Any, running: Any, x: Any) -> Any:
        return s.op(on_bool if s.dtype_of(x).is_bool else method, running, x)

    return step


def _extreme_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    """Each result came from the latest record: the first place that holds a new extreme."""
    axis, reverse = node.attrs
    step = -1 if reverse else 1
    # A record differs from the result before it; the first element of a line is always one.
    before = shifted(node, axis, step, np.nan)
    new = logical.not_equal(node, before)
    later = shifted(cast(new, g.dtype), axis, -step, 1.0)
    sums = LINEAR_RECURRENCE(elementwise.subtract(1.0, later), g, axis=axis, reverse=not reverse)
    return [elementwise.where(new, sums, 0.0)]


def _declare_extreme(name: str, accumulate: Callable[..., Any], step: Step, doc: str) -> OpDef:
    return REGISTRY.add(
        OpDef(
            name,
            ("axis", "reverse"),
            _same_type(name, ALL),
            _reference(accumulate),
            _extreme_gradient,
            Opaque(_lower(step)),
            doc=doc,
            samples=_samples(),
            dtypes=ALL,
        )
    )


CUMULATIVE_MAX = _declare_extreme(
    "cumulative_max",
    np.maximum.accumulate,
    _extreme_step("maximum", "bit_or"),
    "Running maxima along an axis; NaN from the first NaN on.",
)
CUMULATIVE_MIN = _declare_extreme(
    "cumulative_min",
    np.minimum.accumulate,
    _extreme_step("minimum", "bit_and"),
    "Running minima along an axis; NaN from the first NaN on.",
)


# -- public functions -----------------------------------------------------------------------------


def _axis_of(op: str, x: Tensor, axis: int | None) -> tuple[Tensor, int]:
    if axis is None:
        if x.ndim > 1:
            shape_error(
                f"{op}: needs an axis for a tensor of {x.ndim} dims", [x], "write axis=0, axis=-1 …"
            )
        axis = 0
        x = to_shape(x, (1,)) if not x.ndim else x
    return x, normalize_axis(op, x, axis)


def _cumulative(
    op: OpDef, x: Any, axis: int | None, dtype: DTypeLike | None, initial: int | None
) -> Tensor:
    tensor = as_tensor(x, op=op.name)
    if dtype is not None:
        tensor = cast(tensor, to_dtype(dtype, op.name, [tensor]))
    elif op in (CUMULATIVE_SUM, CUMULATIVE_PROD) and not tensor.dtype.is_float:
        tensor = cast(tensor, uint64 if tensor.dtype.kind == "u" else int64)
    tensor, place = _axis_of(op.name, tensor, axis)
    result = op(tensor, axis=place, reverse=False)
    if initial is None:
        return result
    shape = (*tensor.shape[:place], 1, *tensor.shape[place + 1 :])
    return concat([broadcasted(as_tensor(initial, like=tensor), shape), result], axis=place)


def cumulative_sum(
    x: TensorLike,
    /,
    *,
    axis: int | None = None,
    dtype: DTypeLike | None = None,
    include_initial: bool = False,
) -> Tensor:
    """Running sums along `axis` (which only a 1-d x may leave out); dtypes as in `sum`.

    include_initial: a 0 comes first, so that the axis is one longer. Raises ShapeError without a
    needed axis.
    """
    return _cumulative(CUMULATIVE_SUM, x, axis, dtype, 0 if include_initial else None)


def cumulative_prod(
    x: TensorLike,
    /,
    *,
    axis: int | None = None,
    dtype: DTypeLike | None = None,
    include_initial: bool = False,
) -> Tensor:
    """Running products along `axis`; dtypes as in `prod`. include_initial: a 1 comes first."""
    return _cumulative(CUMULATIVE_PROD, x, axis, dtype, 1 if include_initial else None)


def cumulative_max(x: TensorLike, /, *, axis: int | None = None) -> Tensor:
    """Running maxima along `axis`; NaN from the first NaN on.

    The first of equal elements takes the gradient.
    """
    return _cumulative(CUMULATIVE_MAX, x, axis, None, None)


def cumulative_min(x: TensorLike, /, *, axis: int | None = None) -> Tensor:
    """Running minima along `axis`; NaN from the first NaN on.

    The first of equal elements takes the gradient.
    """
    return _cumulative(CUMULATIVE_MIN, x, axis, None, None)


def diff(
    x: TensorLike, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None
) -> Tensor:
    """The differences of neighbours along `axis`, `n` times; of bool, whether they differ.

    `prepend` and `append` are joined to x first (a number stands for one element). Raises
    ShapeError for a negative n or a 0-d x.
    """
    x = as_tensor(x, op="diff")
    axis = normalize_axis("diff", x, axis)
    if n < 0:
        shape_error(f"diff: n must not be negative, got {n}", [x])
    edge = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    ends = []
    for end in (prepend, append):
        value = None if end is None else as_tensor(end, like=x, op="diff")
        ends.append(value if value is None or value.ndim else broadcasted(value, edge))
    x = concat([part for part in (ends[0], x, ends[1]) if part is not None], axis=axis)
    for _ in range(n):
        size = x.shape[axis]
        if size == 0:
            return x
        later, earlier = take_slice(x, axis, 1, size - 1), take_slice(x, axis, 0, size - 1)
        if x.dtype is bool_:
            x = logical.not_equal(later, earlier)
        else:
            x = elementwise.subtract(later, earlier)
    return x
