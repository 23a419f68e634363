"""Tensors made of shapes and numbers (floor 8): constants, diagonals, ranges, triangles."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc
from graphc.base.dims import Size, product
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, Result, op
from graphc.onnx.values import object_array, of_array, of_sizes


@op("ConstantOfShape")
def constant_of_shape(c: Context) -> Result:
    """One number everywhere, in a shape that is an operand."""
    sizes = c.sizes(0, "the shape")
    value = c.attribute("value")
    if value is None:
        return graphc.zeros(sizes, dtype="float32")
    found = c.plain(value, "the value")
    number = c.known_value(found, "the value")
    if number.size != 1:
        c.bad(f"the value has {number.size} elements, expected one")
    if all(isinstance(s, int) for s in sizes) and found.dtype.is_integer and product(sizes) == 0:
        return of_array(np.zeros(tuple(map(int, sizes))), found.dtype)
    if found.dtype.is_integer and len(sizes) == 1 and isinstance(sizes[0], int) and sizes[0] <= 64:
        return of_sizes(object_array([number.reshape(()).item()] * sizes[0]), found.dtype)
    return graphc.full(sizes, graphc.reshape(found.tensor, ()), dtype=found.dtype)


@op("EyeLike")
def eye_like(c: Context) -> Tensor:
    """Ones on a diagonal of a matrix of the operand's shape."""
    x = c.tensor(0)
    if x.ndim != 2:
        c.bad(f"the operand has {x.ndim} dims, expected 2")
    element = c.attribute("dtype")
    dtype = x.dtype if element is None else c.dtype(element, "the dtype")
    return graphc.eye(*x.shape, k=c.attribute("k"), dtype=dtype)


@op("Range")
def range_(c: Context) -> Tensor:
    """Evenly spaced numbers from a start up to a limit."""
    values = [c.value(k) for k in range(3)]
    dtype = values[0].dtype
    known: list[Any] = [v.sizes.ravel()[0] for v in values if v.sizes is not None]
    if dtype.is_integer and len(known) == 3 and isinstance(known[2], int):
        start, stop, step = known
        if step == 0:
            c.bad("the step is 0")
        return graphc.arange(start, stop, step, dtype=dtype)
    numbers = [c.value(k).known() for k in range(3)]
    if any(n is None for n in numbers):
        return _range_by_data(c)
    first, limit, delta = (c.number(k, w) for k, w in enumerate(("start", "limit", "delta")))
    if delta == 0:
        c.bad("the delta is 0")
    return _evenly(c, max(0, int(np.ceil((limit - first) / delta))))


def _evenly(c: Context, count: Size) -> Tensor:
    """start + k delta, as the definition writes it, in the dtype of the operands."""
    start, delta = (graphc.reshape(c.tensor(k), ()) for k in (0, 2))
    return graphc.astype(graphc.arange(count), start.dtype) * delta + start


def _range_by_data(c: Context) -> Tensor:
    start, limit, delta = (graphc.reshape(c.tensor(k), ()) for k in range(3))
    if start.dtype.is_integer:
        distance = graphc.astype(limit, "int64") - graphc.astype(start, "int64")
        count = -graphc.floor_divide(-distance, graphc.astype(delta, "int64"))
    else:
        steps = (graphc.astype(limit, "float64") - start) / delta
        count = graphc.astype(graphc.ceil(steps), "int64")
    return _evenly(c, graphc.as_dim(graphc.maximum(count, 0)))


@op("Trilu")
def trilu(c: Context) -> Tensor:
    """A triangle of matrices, zeros in the other."""
    x, upper = c.tensor(0), bool(c.attribute("upper"))
    if not c.has(1) or c.is_known(1):
        k = int(c.number(1, "k")) if c.has(1) else 0
        return (graphc.triu if upper else graphc.tril)(x, k=k)
    if x.ndim < 2:
        c.bad(f"the operand has {x.ndim} dims, expected at least 2")
    rows = graphc.iota((x.shape[-2], 1), axis=0) + graphc.reshape(c.tensor(1), ())
    columns = graphc.iota((1, x.shape[-1]), axis=1)
    kept = (columns >= rows) if upper else (columns <= rows)
    return graphc.where(kept, x, graphc.zeros_like(x))
