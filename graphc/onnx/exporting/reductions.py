"""Reductions, running reductions and sorts in ONNX (floor 8): an exporter for each op."""

from __future__ import annotations

import numpy as np

from graphc.base.dims import product
from graphc.base.dtypes import DType, bool_, int64
from graphc.ir.node import Tensor, TensorType
from graphc.onnx.exporting.table import REFUSED, Making, exports
from graphc.onnx.exporting.writer import Value
from graphc.ops.reduction import lowest

_REDUCTIONS = {
    "sum": "ReduceSum",
    "mean": "ReduceMean",
    "prod": "ReduceProd",
    "max": "ReduceMax",
    "min": "ReduceMin",
    "any": "ReduceMax",
    "all": "ReduceMin",
}


@exports(*_REDUCTIONS)
def _reduction(m: Making, node: Tensor, xs: list[Value]) -> Value:
    axes, keepdims = node.attrs
    (x,), w = xs, m.writer
    if not axes:  # ONNX would take no axes for all of them
        return x
    name, kept = node.op.name, int(keepdims)
    compute = None if name in ("max", "min", "any", "all") else x.dtype.compute
    op_type, extra = _REDUCTIONS[name], [w.ints(axes)]
    wide = w.compute_dtype(op_type, compute or x.dtype)
    found = w.op(op_type, w.cast(x, wide), *extra, dtype=wide, keepdims=kept)
    if name in ("max", "min") and wide is not x.dtype and x.dtype.is_integer:
        # Of nothing: the end of the dtype, not of the wider one.
        start = w.number(_start(f"cumulative_{name}", x.dtype), wide)
        found = w.op(op_type.replace("Reduce", ""), found, start, dtype=wide)
    return w.cast(found, x.dtype)


REFUSED["max_number"] = "ONNX leaves open what becomes of NaN in a maximum"


@exports("argmax", "argmin")
def _position(m: Making, node: Tensor, xs: list[Value]) -> Value:
    axes, keepdims = node.attrs
    (x,), w, source = xs, m.writer, node.inputs[0]
    name = "ArgMax" if node.op.name == "argmax" else "ArgMin"
    if len(axes) == 1:
        return w.apply(name, x, result=int64, axis=axes[0], keepdims=int(keepdims))
    # The row-major position within several axes: they become one, the last.
    rest = [a for a in range(source.ndim) if a not in axes]
    x = w.transpose(x, (*rest, *axes))
    shape = tuple(source.shape[a] for a in (*rest, *axes))
    flat = (*shape[: len(rest)], product(shape[len(rest) :]))
    x = m.sizes.reshape(x, shape, flat)
    found = w.apply(name, x, result=int64, axis=len(rest), keepdims=0)
    return m.sizes.reshape(found, flat[:-1], node.shape)


@exports("softmax", "log_softmax")
def _softmax(m: Making, node: Tensor, xs: list[Value]) -> Value:
    name = "Softmax" if node.op.name == "softmax" else "LogSoftmax"
    return m.writer.apply(name, xs[0], compute=node.dtype.compute, axis=node.attr("axis"))


# -- running reductions ---------------------------------------------------------------------------


@exports("cumulative_sum")
def _cumulative_sum(m: Making, node: Tensor, xs: list[Value]) -> Value:
    axis, reverse = node.attrs
    along = m.writer.number(axis, int64)
    compute = node.dtype.compute
    return m.writer.apply("CumSum", xs[0], extra=[along], compute=compute, reverse=int(reverse))


def _start(op: str, dtype: DType) -> bool | int | float:
    if op == "cumulative_max":
        return lowest(dtype)
    if op == "cumulative_min":
        if dtype.is_float:
            return np.inf
        return True if dtype.is_bool else int(np.iinfo(dtype.numpy).max)
    return 1 if op == "cumulative_prod" else 0


def _without_first(m: Making, factors: Value, node: Tensor) -> Value:
    """The factors with 0 for those of the first turn, which has nothing before it."""
    axis, reverse = node.attrs
    w, size = m.writer, node.shape[axis]
    first = m.sizes.vector(size - 1 if reverse else 0)
    here = w.op("Equal", m.sizes.arange(size), first, dtype=bool_)
    here = w.unsqueeze(here, range(1, node.ndim - axis))
    return w.op("Where", here, w.number(0, factors.dtype), factors, dtype=factors.dtype)


@exports("cumulative_prod", "cumulative_max", "cumulative_min", "linear_recurrence")
def _scan(m: Making, node: Tensor, xs: list[Value]) -> Value:
    """One turn of Scan per element of the axis."""
    axis, reverse = node.attrs
    w, op = m.writer, node.op.name
    dtype = node.dtype.compute
    wide = [w.cast(x, dtype) for x in xs]
    if op == "linear_recurrence":
        wide[0] = _without_first(m, wide[0], node)
    rest = tuple(n for a, n in enumerate(node.shape) if a != axis)
    start = w.number(_start(op, dtype), dtype)
    state = m.sizes.expand(start, rest)
    kind = TensorType(rest, dtype)
    types = [kind, *[kind] * len(xs)]
    inputs = [Value(w.unique(f"turn_{name}"), dtype) for name in ("state", "x", "y")[: len(types)]]

    def turn() -> list[tuple[Value, TensorType]]:
        before, *rows = inputs
        if op == "linear_recurrence":
            after = w.apply("Add", w.apply("Mul", rows[0], before), rows[1])
        elif dtype.is_bool:
            after = w.op("Or" if op == "cumulative_max" else "And", before, rows[0], dtype=bool_)
        else:
            names = {"cumulative_prod": "Mul", "cumulative_max": "Max", "cumulative_min": "Min"}
            after = w.apply(names[op], before, rows[0])
        return [(after, kind), (after, kind)]

    body = w.subgraph(f"{op}_turn", list(zip(inputs, types, strict=True)), turn)
    direction = int(reverse)
    _, found = w.nodes(
        "Scan",
        [state, *wide],
        [dtype, dtype],
        body=body,
        num_scan_inputs=len(xs),
        scan_input_axes=[axis] * len(xs),
        scan_output_axes=[axis],
        scan_input_directions=[direction] * len(xs),
        scan_output_directions=[direction],
    )
    return w.cast(found, node.dtype)


# -- sorting --------------------------------------------------------------------------------------


def top_k(m: Making, x: Value, axis: int, count: Value, descending: bool) -> tuple[Value, Value]:
    """The first `count` elements in order along an axis, and their positions."""
    w = m.writer
    wide = w.compute_dtype("TopK", x.dtype)
    inner = w.cast(x, wide)
    key = ("TopK", inner.name, axis, count.name, descending)
    known = w.scope.known
    values, places = known.get((*key, 0)), known.get((*key, 1))
    if values is None or places is None:
        values, places = w.nodes(
            "TopK", [inner, count], [wide, int64], axis=axis, largest=int(descending), sorted=1
        )
        known[(*key, 0)], known[(*key, 1)] = values, places
    return w.cast(values, x.dtype), places


@exports("sort", "argsort")
def _sort(m: Making, node: Tensor, xs: list[Value]) -> Value:
    axis, descending = node.attrs
    count = m.sizes.vector(node.shape[axis])
    values, places = top_k(m, xs[0], axis, count, descending)
    return values if node.op.name == "sort" else places


@exports("top_k_positions")
def _top_k_positions(m: Making, node: Tensor, xs: list[Value]) -> Value:
    axis, count, descending = node.attrs
    return top_k(m, xs[0], axis, m.writer.ints([count]), descending)[1]


@exports("searchsorted")
def _searchsorted(m: Making, node: Tensor, xs: list[Value]) -> Value:
    """How many entries of the table come before each element; NaN counts as the largest."""
    (table, x), w = xs, m.writer
    right = node.attr("side") == "right"
    x = w.unsqueeze(x, [node.ndim])
    before = w.apply("LessOrEqual" if right else "Less", table, x, result=bool_)
    if x.dtype.is_float:
        nan = w.apply("IsNaN", x, result=bool_)
        if not right:
            number = w.op("Not", w.apply("IsNaN", table, result=bool_), dtype=bool_)
            nan = w.op("And", nan, number, dtype=bool_)
        before = w.op("Or", before, nan, dtype=bool_)
    count = w.cast(before, int64)
    return w.op("ReduceSum", count, w.ints([node.ndim]), dtype=int64, keepdims=0)
