"""Joining and padding (floor 2): concat, pad, and the repetitions that are broadcasts and reshapes.

`concat` and `pad` are views: an element knows which operand it comes from by its index. `pad` may
also spread elements apart (`interior`), which is the transpose of a slice with a step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from graphc.base.dims import Dim, Shape, Size, bounds, shape_text
from graphc.base.dtypes import ALL, Array, DType
from graphc.ir.node import Node, Tensor, TensorType, as_index
from graphc.ir.opdef import REGISTRY, OpDef, Sample, dtype_error, shape_error
from graphc.ops.axes import as_size, is_count, normalize_axis
from graphc.ops.families import Map
from graphc.ops.gather import SLICE
from graphc.ops.promotion import TensorLike, as_tensor, promoted
from graphc.ops.reshape import expand_dims, to_shape
from graphc.ops.sampling import draw, strided
from graphc.ops.selection import repeated_positions
from graphc.ops.sizes import computed_size
from graphc.ops.view import broadcasted, flip

F = TypeVar("F", bound=Callable[..., Tensor])


def take_slice(x: Tensor, axis: int, start: Size, size: Size, step: int = 1) -> Tensor:
    """`size` elements of one axis from `start` on, every `step`-th."""
    starts: list[Size] = [0] * x.ndim
    steps = [1] * x.ndim
    shape = list(x.shape)
    starts[axis], steps[axis], shape[axis] = start, step, size
    if tuple(shape) == x.shape and step == 1:
        return x
    return SLICE(x, starts=tuple(starts), steps=tuple(steps), shape=tuple(shape))


# -- concat ---------------------------------------------------------------------------------------


def _concat_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (axis,) = attrs
    first = inputs[0]
    assert isinstance(first, Tensor)
    total: Size = 0
    for k, x in enumerate(inputs):
        assert isinstance(x, Tensor)
        if x.dtype is not first.dtype:
            dtype_error(
                f"concat: operands of different dtypes: {first.dtype} and {x.dtype}", inputs
            )
        fits = x.ndim == first.ndim and all(
            a == b for i, (a, b) in enumerate(zip(x.shape, first.shape)) if i != axis
        )
        if not fits:
            hint = f"all dims but the joined one, axis {axis}, must be equal"
            if x.ndim != first.ndim:
                hint = "graphc.expand_dims adds a dim of size 1; graphc.stack joins along a new one"
            shape_error(
                f"concat: operand {k} of shape {shape_text(x.shape)} does not fit "
                f"{shape_text(first.shape)} along axis {axis}",
                [first, x],
                hint,
            )
        total = total + x.shape[axis]
    return TensorType((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype)


def _concat_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    axis = node.attr("axis")
    i = index[axis]
    start: Size = 0
    result = None
    for k, x in enumerate(node.inputs):
        stop = start + x.shape[axis]
        inside = e.lt(i, e.size(stop))
        if k:
            inside = e.bit_and(e.ge(i, e.size(start)), inside)
        place = list(index)
        place[axis] = e.sub(i, e.size(start))
        only = len(node.inputs) == 1
        part = e.element(k, place, where=None if only else inside)
        result = part if result is None else e.select(inside, part, result)
        start = stop
    return result


def _concat_reference(*arrays: Array, axis: int) -> Array:
    return np.concatenate(arrays, axis)


def _concat_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    axis = node.attr("axis")
    start: Size = 0
    found: list[Tensor | None] = []
    for x in node.inputs:
        found.append(take_slice(g, axis, start, x.shape[axis]))
        start = start + x.shape[axis]
    return found


def _concat_samples(dtype: DType) -> list[Sample]:
    cases: list[tuple[list[tuple[int, ...]], int]] = [
        ([(1,)], 0),
        ([(0,), (3,)], 0),
        ([(2, 3), (2, 5)], 1),
        ([(2, 3), (1, 3), (4, 3)], 0),
        ([(0, 2), (0, 2)], 1),
        ([(3, 65, 2)] * 2, 1),
    ]
    found = [
        Sample(tuple(draw(s, dtype, k) for k, s in enumerate(shapes)), {"axis": a})
        for shapes, a in cases
    ]
    x = draw((4, 3), dtype)
    return found + [Sample((x, strided(x)), {"axis": 1})]


CONCAT = REGISTRY.add(
    OpDef(
        "concat",
        ("axis",),
        _concat_type,
        _concat_reference,
        _concat_gradient,
        Map(_concat_element),
        doc="The operands one after another along an axis.",
        samples=_concat_samples,
        dtypes=ALL,
    )
)


def _operands(op: str, arrays: Any) -> tuple[Tensor, ...]:
    if (
        isinstance(arrays, Tensor)
        or not isinstance(arrays, Sequence | np.ndarray)
        or not len(arrays)
    ):
        shape_error(
            f"{op}: expected a non-empty list or tuple of tensors",
            hint=f"it takes a sequence of at least one tensor: graphc.{op}([a, b])",
        )
    return promoted(op, *arrays)


def _of_one_sequence(function: F) -> F:
    """`function` takes one sequence and keywords; other calls raise an error that shows how."""

    @functools.wraps(function)
    def checked(*args: Any, **keywords: Any) -> Tensor:
        if len(args) != 1:
            op = function.__name__
            shape_error(
                f"{op}: expected one list or tuple of tensors, got {len(args)} arguments",
                [a for a in args if isinstance(a, Tensor)],
                f"graphc.{op}([a, b], axis=0): the tensors in a list, the axis by its name",
            )
        return function(*args, **keywords)

    return cast(F, checked)


@_of_one_sequence
def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> Tensor:
    """The arrays one after another along `axis` (None: all flattened first), promoted to one dtype.

    Raises ShapeError where other dims differ, or for an empty list.

        both = graphc.concat([a, b], axis=1)
    """
    tensors = _operands("concat", arrays)
    if axis is None:
        tensors, axis = tuple(to_shape(t, (t.size,)) for t in tensors), 0
    if not tensors[0].ndim:
        shape_error("concat: 0-d tensors have no axis to join", tensors, "use graphc.stack")
    axis = normalize_axis("concat", tensors[0], axis)
    return tensors[0] if len(tensors) == 1 else CONCAT(*tensors, axis=axis)


@_of_one_sequence
def stack(arrays: Sequence[Any], /, *, axis: int = 0) -> Tensor:
    """The arrays, all of one shape, along a new axis. Raises ShapeError where shapes differ."""
    tensors = _operands("stack", arrays)
    for t in tensors:
        if t.shape != tensors[0].shape:
            shape_error(
                f"stack: shapes {shape_text(tensors[0].shape)} and {shape_text(t.shape)} differ",
                [tensors[0], t],
                "stack needs equal shapes; graphc.concat joins along an existing axis",
            )
    axis = normalize_axis("stack", tensors[0], axis, tensors[0].ndim + 1)
    return concat([expand_dims(t, axis=axis) for t in tensors], axis=axis)


def unstack(x: TensorLike, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along `axis`, whose size must be known.

    Raises ShapeError where it is symbolic.
    """
    x = as_tensor(x, op="unstack")
    axis = normalize_axis("unstack", x, axis)
    count = x.shape[axis]
    if isinstance(count, Dim):
        shape_error(
            f"unstack: the size {count} of axis {axis} is not known before the function is called",
            [x],
            "unstack another axis, index x[k] for one slice, or declare the size as an int",
        )
    rest = (*x.shape[:axis], *x.shape[axis + 1 :])
    return tuple(to_shape(take_slice(x, axis, k, 1), rest) for k in range(count))


def split(x: TensorLike, sections: int | Sequence[int], /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """x cut along `axis`: into `sections` equal parts, or at the given indices, as NumPy's split.

    Raises ShapeError where the parts cannot be equal.
    """
    x = as_tensor(x, op="split")
    axis = normalize_axis("split", x, axis)
    size = x.shape[axis]
    count = as_index(sections)
    if count is not None:
        part = size // count if count > 0 else 0
        if count < 1 or part * count != size:
            shape_error(
                f"split: axis {axis} of size {size} does not split into {count} equal parts", [x]
            )
        return tuple(take_slice(x, axis, part * k, part) for k in range(count))
    assert isinstance(sections, Sequence)
    if isinstance(size, Dim):
        cuts: list[Size] = [*sections]
    else:
        cuts = [min(max(c + size if c < 0 else c, 0), size) for c in sections]
    starts: list[Size] = [0, *cuts]
    stops: list[Size] = [*cuts, size]
    return tuple(take_slice(x, axis, a, b - a) for a, b in zip(starts, stops, strict=True))


# -- pad ------------------------------------------------------------------------------------------


def _pad_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    (x,), (low, high, interior, _) = inputs, attrs
    assert isinstance(x, Tensor)
    shape: list[Size] = []
    for axis, (size, a, b, gap) in enumerate(zip(x.shape, low, high, interior, strict=True)):
        # One formula for every size, 0 included: symbolic and known sizes must agree.
        spread = size if gap == 0 else (size - 1) * (gap + 1) + 1
        total = spread + a + b
        most = bounds(total)[1]
        if most is not None and most < 0:
            shape_error(
                f"pad: the widths ({a}, {b}) leave a negative size of axis {axis} of size {size}",
                [x],
            )
        shape.append(total)
    return TensorType(tuple(shape), x.dtype)


def _pad_element(e: Any, index: tuple[Any, ...], node: Tensor) -> Any:
    x = node.inputs[0]
    inside = None
    places = []
    for i, size, a, b, gap in zip(
        index, x.shape, node.attr("low"), node.attr("high"), node.attr("interior"), strict=True
    ):
        place = e.sub(i, e.size(a))
        tests = []
        if not _surely(a, "<=0"):
            tests.append(e.ge(place, e.size(0)))
        if gap:
            step = e.size(gap + 1)
            tests.append(e.eq(e.op("mod", place, step), e.size(0)))
            place = e.op("floordiv", place, step)
        if not _surely(b, "<=0"):
            tests.append(e.lt(place, e.size(size)))
        for test in tests:
            inside = test if inside is None else e.bit_and(inside, test)
        places.append(place)
    return e.element(0, places, where=inside, fill=node.attr("value"))


def _surely(size: Size, what: str) -> bool:
    high = bounds(size)[1]
    return what == "<=0" and high is not None and high <= 0


def _pad_reference(
    x: Array, low: Sequence[int], high: Sequence[int], interior: Sequence[int], value: Any
) -> Array:
    spread = [(n - 1) * (gap + 1) + 1 for n, gap in zip(x.shape, interior, strict=True)]
    if not x.ndim:
        return x
    if not x.size:
        shape = [n + a + b for n, a, b in zip(spread, low, high, strict=True)]
        return np.full(shape, value, x.dtype)
    inner = np.full(spread, value, x.dtype)
    inner[tuple(slice(None, None, gap + 1) for gap in interior)] = x
    grown = np.pad(
        inner,
        [(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True)],
        constant_values=np.asarray(value, x.dtype),
    )
    return grown[
        tuple(
            slice(max(-a, 0), n - max(-b, 0))
            for a, b, n in zip(low, high, grown.shape, strict=True)
        )
    ]


def _pad_gradient(g: Tensor, node: Tensor) -> list[Tensor | None]:
    shape = node.inputs[0].shape
    low, high, interior = node.attr("low"), node.attr("high"), node.attr("interior")
    cropped = any(not isinstance(w, int) or w < 0 for w in (*low, *high))
    if cropped:
        # Elements cut off have gradient zero: undo the crop by padding, then take every step-th.
        # The gap is added so that no size is negative where x is empty.
        g = padded(
            g,
            tuple(-w for w in low),
            tuple(gap - w for w, gap in zip(high, interior, strict=True)),
        )
        starts: tuple[Size, ...] = (0,) * len(shape)
    else:
        starts = low
    steps = tuple(gap + 1 for gap in interior)
    if g.shape == shape and not any(starts) and not any(interior):
        return [g]
    return [SLICE(g, starts=starts, steps=steps, shape=shape)]


def _pad_samples(dtype: DType) -> list[Sample]:
    value = True if dtype.is_bool else 2 if dtype.is_integer else 0.5
    cases: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = [
        ((), (), (), ()),
        ((0,), (1,), (2,), (0,)),
        ((1,), (0,), (0,), (3,)),
        ((5,), (-1,), (-2,), (0,)),
        ((5,), (2,), (-3,), (1,)),
        ((3, 4), (1, 0), (0, 2), (0, 2)),
        ((2, 17, 3), (0, 3, 1), (0, 3, 1), (0, 0, 0)),
        ((0, 2), (3, 0), (0, 0), (2, 1)),
    ]
    return [
        Sample((draw(s, dtype),), {"low": a, "high": b, "interior": c, "value": v})
        for s, a, b, c in cases
        for v in ((value,) if a else (value, type(value)(0)))
    ]


PAD = REGISTRY.add(
    OpDef(
        "pad",
        ("low", "high", "interior", "value"),
        _pad_type,
        _pad_reference,
        _pad_gradient,
        Map(_pad_element),
        doc="x with `low` and `high` elements of `value` around each axis (negative: cut off) and "
        "`interior` between neighbours.",
        samples=_pad_samples,
        dtypes=ALL,
    )
)


def padded(
    x: Tensor,
    low: Shape,
    high: Shape,
    interior: tuple[int, ...] | None = None,
    value: bool | int | float = 0,
) -> Tensor:
    """x padded by constants; x itself where nothing is added."""
    gaps = interior or (0,) * x.ndim
    if not any(isinstance(w, Dim) or w for w in (*low, *high, *gaps)):
        return x
    if x.dtype.is_bool:
        value = bool(value)
    elif x.dtype.is_float:
        value = float(value)
    return PAD(x, low=low, high=high, interior=gaps, value=value)


PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def pad(
    x: TensorLike, widths: Any, /, *, mode: str = "constant", value: bool | int | float = 0
) -> Tensor:
    """x with elements added around it, as NumPy's pad.

    widths: one int for all sides, a pair (low, high) for all axes, or a pair per axis. mode:
    "constant" (of `value`), "edge", "reflect", "symmetric", "wrap". Raises ShapeError for widths
    that do not fit, and where a mode needs more elements than an axis has.
    """
    x = as_tensor(x, op="pad")
    if mode not in PAD_MODES:
        shape_error(f"pad: unknown mode {mode!r}", [x], f"use one of {', '.join(PAD_MODES)}")
    pairs = pad_widths("pad", widths, x)
    if mode == "constant":
        if (
            x.dtype.is_integer
            and (not isinstance(value, int) or isinstance(value, bool))
            and value != int(value)
        ):
            dtype_error(f"pad: the value {value} is not of dtype {x.dtype}", [x])
        fill = int(value) if x.dtype.is_integer else value
        return padded(x, tuple(a for a, _ in pairs), tuple(b for _, b in pairs), value=fill)
    for axis, (low, high) in enumerate(pairs):
        if not isinstance(low, int) or not isinstance(high, int):
            shape_error(
                f"pad: mode {mode!r} needs widths that are ints, got ({low}, {high}) at axis "
                f"{axis}",
                [x],
            )
        x = _pad_axis(x, axis, low, high, mode)
    return x


def pad_widths(op: str, widths: Any, x: Tensor) -> list[tuple[Size, Size]]:
    """One (low, high) pair per axis. Raises ShapeError."""
    if isinstance(widths, Dim) or as_index(widths) is not None:
        width = as_size(op, widths, [x])
        return [(width, width)] * x.ndim
    entries = list(widths)
    if len(entries) == 2 and all(isinstance(w, Dim) or as_index(w) is not None for w in entries):
        entries = [tuple(entries)] * x.ndim
    if len(entries) == 1 and x.ndim != 1:
        entries = entries * x.ndim
    if len(entries) != x.ndim:
        shape_error(
            f"{op}: widths for {len(entries)} axes, but x has {x.ndim}",
            [x],
            "give a (low, high) pair per axis",
        )
    pairs = []
    for entry in entries:
        low, high = entry if isinstance(entry, Sequence) and len(entry) == 2 else (entry, entry)
        pairs.append((as_size(op, low, [x]), as_size(op, high, [x])))
    return pairs


def _pad_axis(x: Tensor, axis: int, low: int, high: int, mode: str) -> Tensor:
    size = x.shape[axis]
    reach = {
        "edge": 1,
        "reflect": max(low, high) + 1,
        "symmetric": max(low, high),
        "wrap": max(low, high),
    }[mode]
    most = bounds(size)[1]
    if most is not None and most < reach and (low or high):
        shape_error(
            f"pad: mode {mode!r} with widths ({low}, {high}) needs {reach} elements along axis "
            f"{axis}, x has {size}",
            [x],
        )
    parts: list[Tensor] = []
    sides = (("low", low), ("high", high))
    for side, width in sides:
        if side == "high":
            parts.append(x)
        if not width:
            continue
        if mode == "edge":
            edge = take_slice(x, axis, 0 if side == "low" else size - 1, 1)
            parts.append(broadcasted(edge, (*x.shape[:axis], width, *x.shape[axis + 1 :])))
        elif mode == "wrap":
            parts.append(take_slice(x, axis, size - width if side == "low" else 0, width))
        else:
            skip = 1 if mode == "reflect" else 0
            start = skip if side == "low" else size - width - skip
            parts.append(flip(take_slice(x, axis, start, width), axis=axis))
    return concat(parts, axis=axis)


# -- repetition -----------------------------------------------------------------------------------


def tile(x: TensorLike, repetitions: Sequence[int] | int, /) -> Tensor:
    """x repeated as a whole, `repetitions` times along each axis (new axes lead).

    Raises ShapeError for a negative count.
    """
    x = as_tensor(x, op="tile")
    counts: list[Size] = [
        as_size("tile", r, [x])
        for r in (repetitions if isinstance(repetitions, Sequence) else (repetitions,))
    ]
    ndim = max(x.ndim, len(counts))
    counts = [*[1] * (ndim - len(counts)), *counts]
    shape = (1,) * (ndim - x.ndim) + x.shape
    if all(c == 1 for c in counts):
        return to_shape(x, shape)
    apart = to_shape(x, tuple(s for size in shape for s in (1, size)))
    wide = broadcasted(
        apart, tuple(s for c, size in zip(counts, shape, strict=True) for s in (c, size))
    )
    return to_shape(wide, tuple(c * size for c, size in zip(counts, shape, strict=True)))


def repeat(
    x: TensorLike, repeats: Size | Tensor | Sequence[int], /, *, axis: int | None = None
) -> Tensor:
    """Each element repeated along `axis` (None: of the flattened x), `repeats` times; a sequence or
    a vector gives one count per element.

    Counts that the graph computes give a dim that it computes; negative ones raise ExecutionError
    at the call. Raises ShapeError where counts do not fit.
    """
    x = as_tensor(x, op="repeat")
    if is_count(repeats):
        repeats = computed_size(repeats, what="repeat: a count cannot be negative")
    count = repeats if isinstance(repeats, Dim) else as_index(repeats)
    if isinstance(count, int) and count < 0:
        hint = "0 leaves the elements out, 1 leaves them as they are"
        shape_error(f"repeat: a count cannot be negative, got {count}", [x], hint)
    if axis is None:
        x, axis = to_shape(x, (x.size,)), 0
    axis = normalize_axis("repeat", x, axis)
    size = x.shape[axis]
    if count is None and isinstance(repeats, Tensor):
        places = repeated_positions(x, repeats, size, axis)
        return REGISTRY["gather"](x, places, axes=(axis,), position=axis)
    if count is None:
        counts = np.asarray(repeats, np.int64)
        if isinstance(size, Dim) or counts.shape not in ((size,), (1,)) or np.any(counts < 0):
            shape_error(
                f"repeat: needs one count that is not negative for each of the {size} elements of "
                f"axis {axis}",
                [x],
                "one count for all works for any size",
            )
        positions = np.repeat(np.arange(size), counts)
        return REGISTRY["gather"](x, as_tensor(positions), axes=(axis,), position=axis)
    apart = expand_dims(x, axis=axis + 1)
    wide = broadcasted(apart, (*x.shape[: axis + 1], count, *x.shape[axis + 1 :]))
    return to_shape(wide, (*x.shape[:axis], size * count, *x.shape[axis + 1 :]))
