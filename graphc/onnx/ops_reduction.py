"""Reductions, cumulative operators, sorting and searching (floor 8)."""

from __future__ import annotations

from collections.abc import Callable

import graphc
from graphc.base.dims import Size
from graphc.base.dtypes import DType
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, Result, op

Axes = tuple[int, ...] | None


def _axes_attribute(c: Context) -> Axes:
    axes = c.attribute("axes")
    return None if axes is None else tuple(axes)


def _axes_input(c: Context) -> Axes:
    return c.ints(1, "the axes") if c.has(1) else None


def _reduced(c: Context, axes: Axes) -> Tensor:
    x = c.tensor(0)
    keep = bool(c.attribute("keepdims", 1))
    if not axes and c.attribute("noop_with_empty_axes", 0):
        return _without_axes(c.op, x)
    return REDUCTIONS[c.op](x, axes or None, keep)


def _without_axes(name: str, x: Tensor) -> Tensor:
    """What a reduction over no axis at all does to each element."""
    if name in ("ReduceL1", "ReduceL2"):
        return graphc.abs(x)
    if name == "ReduceSumSquare":
        return graphc.square(x)
    return graphc.log(x) if name == "ReduceLogSum" else x


def _sum(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return graphc.astype(graphc.sum(x, axis=axes, keepdims=keep), x.dtype)


def _prod(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return graphc.astype(graphc.prod(x, axis=axes, keepdims=keep), x.dtype)


def _mean(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return graphc.astype(graphc.mean(_float(x), axis=axes, keepdims=keep), x.dtype)


def _float(x: Tensor) -> Tensor:
    return x if x.dtype.is_float else graphc.astype(x, "float64")


def _extreme(function: Callable[..., Tensor], empty: Callable[[DType], float]) -> _Reduction:
    def reduced(x: Tensor, axes: Axes, keep: bool) -> Tensor:
        places = range(x.ndim) if axes is None else [a % x.ndim for a in axes if -x.ndim <= a]
        if any(x.shape[a] == 0 for a in places if a < x.ndim):
            sums = graphc.sum(graphc.zeros(x.shape, dtype="int32"), axis=axes, keepdims=keep)
            return graphc.full(sums.shape, empty(x.dtype), dtype=x.dtype)
        if x.dtype.is_bool:
            return graphc.astype(
                function(graphc.astype(x, "uint8"), axis=axes, keepdims=keep), "bool"
            )
        return function(x, axis=axes, keepdims=keep)

    return reduced


def _lowest(dtype: DType) -> float:
    if dtype.is_float:
        return -graphc.inf
    return False if dtype.is_bool else int(graphc.iinfo(dtype).min)


def _highest(dtype: DType) -> float:
    if dtype.is_float:
        return graphc.inf
    return True if dtype.is_bool else int(graphc.iinfo(dtype).max)


def _norm1(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return _sum(graphc.abs(x), axes, keep)


def _norm2(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return graphc.astype(
        graphc.sqrt(graphc.sum(graphc.square(_float(x)), axis=axes, keepdims=keep)), x.dtype
    )


def _sum_square(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return _sum(graphc.square(x), axes, keep)


def _log_sum(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return graphc.astype(graphc.log(graphc.sum(_float(x), axis=axes, keepdims=keep)), x.dtype)


def _log_sum_exp(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return graphc.astype(graphc.logsumexp(_float(x), axis=axes, keepdims=keep), x.dtype)


_Reduction = Callable[[Tensor, Axes, bool], Tensor]
REDUCTIONS: dict[str, _Reduction] = {
    "ReduceL1": _norm1,
    "ReduceL2": _norm2,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _extreme(graphc.max, _lowest),
    "ReduceMean": _mean,
    "ReduceMin": _extreme(graphc.min, _highest),
    "ReduceProd": _prod,
    "ReduceSum": _sum,
    "ReduceSumSquare": _sum_square,
}


@op(*REDUCTIONS)
def reduce_attribute(c: Context) -> Tensor:
    """A reduction over axes that are an attribute."""
    return _reduced(c, _axes_attribute(c))


def reduce_input(c: Context) -> Tensor:
    """A reduction over axes that are an operand."""
    return _reduced(c, _axes_input(c))


op(*(n for n in REDUCTIONS if n != "ReduceSum"), since=18)(reduce_input)
op("ReduceSum", since=13)(reduce_input)


@op("ArgMax", "ArgMin")
def arg_extreme(c: Context) -> Tensor:
    """The position of the largest or smallest element along an axis; of equal ones the first, or
    the last.
    """
    x = c.tensor(0)
    axis = c.attribute("axis", 0)
    keep = bool(c.attribute("keepdims", 1))
    function = graphc.argmax if c.op == "ArgMax" else graphc.argmin
    if not c.attribute("select_last_index", 0):
        return function(x, axis=axis, keepdims=keep)
    from_end = function(graphc.flip(x, axis=axis), axis=axis, keepdims=keep)
    return graphc.subtract(x.shape[axis] - 1, from_end)


@op("CumSum", "CumProd")
def cumulative(c: Context) -> Tensor:
    """Running sums or products along an axis, from either end, each with or without its own
    element.
    """
    x = c.tensor(0)
    axis = int(c.number(1, "the axis"))
    if not -x.ndim <= axis < x.ndim:
        c.bad(f"axis {axis} is out of bounds for {x.ndim} dims")
    reverse, exclusive = c.attribute("reverse"), c.attribute("exclusive")
    if reverse:
        x = graphc.flip(x, axis=axis)
    function = graphc.cumulative_sum if c.op == "CumSum" else graphc.cumulative_prod
    found = function(x, axis=axis, dtype=x.dtype, include_initial=bool(exclusive))
    if exclusive:
        found = _first(found, axis, x.shape[axis])
    return graphc.flip(found, axis=axis) if reverse else found


def _first(x: Tensor, axis: int, count: Size) -> Tensor:
    """The first elements along an axis."""
    index: list[slice] = [slice(None)] * x.ndim
    index[axis] = slice(0, count)
    return x[tuple(index)]


# -- sorting --------------------------------------------------------------------------------------


def _top(c: Context, k: int, largest: bool) -> Result:
    return graphc.top_k(c.tensor(0), k, axis=c.attribute("axis", -1), largest=largest)


@op("TopK")
def top_k_attribute(c: Context) -> Result:
    """The k largest elements along an axis; k is an attribute."""
    return _top(c, c.attribute("k"), True)


@op("TopK", since=10)
def top_k_input(c: Context) -> Result:
    """The k largest elements along an axis; k is an operand."""
    return _top(c, int(c.number(1, "k")), True)


@op("TopK", since=11)
def top_k(c: Context) -> Result:
    """The k largest or smallest elements along an axis, in order."""
    largest = bool(c.attribute("largest"))
    if c.value(1).known() is not None:
        return _top(c, int(c.number(1, "k")), largest)
    x, axis = c.tensor(0), int(c.attribute("axis", -1))
    sizes = c.sizes(1, "k")
    if len(sizes) != 1:
        c.bad(f"k has {len(sizes)} elements, expected one")
    count = sizes[0]
    places = _first(graphc.argsort(x, axis=axis, descending=largest), axis, count)
    return [graphc.take_along_axis(x, places, axis=axis), places]
