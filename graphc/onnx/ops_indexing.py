"""Operators that read and write at computed places, and those that search (floor 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import graphc
from graphc.base.dims import Size
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, Result, op

_MODES = {"none": "set", "add": "add", "mul": "multiply", "max": "max", "min": "min"}


def _axis(c: Context, x: Tensor, default: int = 0) -> int:
    axis = int(c.attribute("axis", default))
    if not -x.ndim <= axis < x.ndim:
        c.bad(f"axis {axis} is out of bounds for {x.ndim} dims")
    return axis % x.ndim


@op("Gather")
def gather(c: Context) -> Tensor:
    """Slices at indices along an axis."""
    x = c.tensor(0)
    return graphc.take(x, c.tensor(1), axis=_axis(c, x))


def _grid(shape: Sequence[Size], axis: int) -> Tensor:
    """The index along one axis, in a shape that broadcasts to `shape`."""
    line = [1] * len(shape)
    return graphc.reshape(
        graphc.arange(shape[axis]), tuple(shape[axis] if a == axis else 1 for a in range(len(line)))
    )


def _along(c: Context, x: Tensor, index: Tensor, axis: int) -> tuple[Tensor, ...]:
    """Indices of all axes: `index` along one, the own place along the others."""
    if index.ndim != x.ndim:
        c.bad(f"indices of {index.ndim} dims for an operand of {x.ndim}")
    return tuple(index if a == axis else _grid(index.shape, a) for a in range(x.ndim))


@op("GatherElements")
def gather_elements(c: Context) -> Tensor:
    """One element per index, along an axis."""
    x, index = c.tensor(0), c.tensor(1)
    return x[_along(c, x, index, _axis(c, x))]


@op("GatherND")
def gather_nd(c: Context) -> Tensor:
    """Slices at index vectors, behind some batch axes."""
    x, index = c.tensor(0), c.tensor(1)
    return x[_vectors(c, x, index, int(c.attribute("batch_dims", 0)))]


def _vectors(c: Context, x: Tensor, index: Tensor, batch: int) -> tuple[Tensor, ...]:
    """The last axis of `index` as indices of the axes behind the batch axes."""
    if not index.ndim or not isinstance(index.shape[-1], int):
        c.bad("the indices need a last axis of known size")
    depth = index.shape[-1]
    if not 0 <= batch < min(index.ndim, x.ndim + 1) or depth + batch > x.ndim:
        c.bad(f"index vectors of {depth} behind {batch} axes, for an operand of {x.ndim} dims")
    lead = index.shape[:-1]
    own = [graphc.broadcast_to(_grid(lead, a), lead) for a in range(batch)]
    return (*own, *[index[..., k] for k in range(depth)])


def _written(x: Tensor, places: Any, updates: Tensor, mode: str) -> Tensor:
    if not places:  # vectors of no index: the whole
        return updates if mode == "none" else graphc.add(x, updates)
    written: Tensor = getattr(x.at[places], _MODES[mode])(updates)
    return written


def _mode(c: Context) -> str:
    mode = str(c.attribute("reduction", "none"))
    if mode not in _MODES:
        c.bad(f"the reduction {mode!r} is unknown")
    return mode


@op("Scatter", "ScatterElements")
def scatter_elements(c: Context) -> Tensor:
    """The operand with one element per index replaced or combined, along an axis."""
    x, index, updates = c.tensor(0), c.tensor(1), c.tensor(2)
    return _written(x, _along(c, x, index, _axis(c, x)), updates, _mode(c))


@op("ScatterND")
def scatter_nd(c: Context) -> Tensor:
    """The operand with slices at index vectors replaced or combined."""
    x, index, updates = c.tensor(0), c.tensor(1), c.tensor(2)
    return _written(x, _vectors(c, x, index, 0), updates, _mode(c))


@op("Compress")
def compress(c: Context) -> Tensor:
    """The slices along an axis (the elements without one) where a condition holds."""
    x, keep = c.tensor(0), c.tensor(1)
    axis = None if c.attribute("axis") is None else _axis(c, x)
    if axis is None:
        x, axis = graphc.reshape(x, (-1,)), 0
    known = c.value(1).known()
    if known is None:
        return graphc.compress(keep, x, axis=axis)
    size = x.shape[axis]
    if known.ndim != 1 or (isinstance(size, int) and known.size > size):
        c.bad(f"a condition of shape {list(known.shape)} for {size} elements")
    return graphc.take(x, np.flatnonzero(known), axis=axis)


@op("NonZero")
def non_zero(c: Context) -> Tensor:
    """The places of the elements that are not zero, one column each."""
    known = c.value(0).known()
    if known is not None:
        return graphc.asarray(np.array(np.nonzero(np.atleast_1d(known)), np.int64))
    x = c.tensor(0)
    return graphc.stack(graphc.nonzero(x if x.ndim else graphc.reshape(x, (1,))))


@op("Unique")
def unique(c: Context) -> Result:
    """The distinct elements or slices, where each stands first, which one each is, and counts."""
    axis = c.attribute("axis")
    value = c.value(0)
    if value.known() is None and (axis is None or value.ndim == 1):
        return _unique_elements(c.tensor(0), bool(c.attribute("sorted", 1)))
    x = c.known(0, "the operand")
    if axis is not None and not -x.ndim <= axis < x.ndim:
        c.bad(f"axis {axis} is out of bounds for {x.ndim} dims")
    found, first, inverse, counts = np.unique(
        x, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    inverse = inverse.ravel()
    if not c.attribute("sorted", 1):
        order = np.argsort(first)
        places = np.argsort(order)
        found = np.take(found, order, axis=0 if axis is None else axis)
        first, inverse, counts = first[order], places[inverse], counts[order]
    rest = [graphc.asarray(a.astype(np.int64)) for a in (first, inverse, counts)]
    return [graphc.asarray(found, dtype=value.dtype), *rest]


def _unique_elements(x: Tensor, in_order: bool) -> Result:
    values, first, inverse, counts = graphc.unique_all(graphc.reshape(x, (-1,)))
    if not in_order:
        order = graphc.argsort(first)
        values, first, counts = (graphc.take(v, order) for v in (values, first, counts))
        inverse = graphc.take(graphc.argsort(order), inverse)
    return [values, first, inverse, counts]


@op("OneHot")
def one_hot(c: Context) -> Tensor:
    """One value at the index, another elsewhere, along a new axis."""
    index, values = c.tensor(0), c.tensor(2)
    (depth,) = c.sizes(1, "the depth") or (0,)
    axis = int(c.attribute("axis", -1))
    if not -index.ndim - 1 <= axis <= index.ndim:
        c.bad(f"axis {axis} is out of bounds for {index.ndim + 1} dims")
    axis = axis % (index.ndim + 1)
    whole = graphc.astype(index, "int64")
    wrapped = graphc.where(whole < 0, whole + depth, whole)
    line = graphc.reshape(
        graphc.arange(depth), tuple(depth if a == axis else 1 for a in range(index.ndim + 1))
    )
    return graphc.where(
        graphc.equal(graphc.expand_dims(wrapped, axis=axis), line), values[1], values[0]
    )


@op("ReverseSequence")
def reverse_sequence(c: Context) -> Tensor:
    """The first elements of each sequence in reverse order."""
    x, lengths = c.tensor(0), c.tensor(1)
    time, batch = c.attribute("time_axis"), c.attribute("batch_axis")
    if x.ndim < 2 or {time, batch} != {0, 1}:
        c.bad(f"time_axis {time} and batch_axis {batch} must be 0 and 1")
    steps = _grid(x.shape, time)
    size = graphc.reshape(lengths, (x.shape[0], 1) if batch == 0 else (1, x.shape[1]))
    steps = graphc.reshape(steps, steps.shape[:2])
    places = graphc.where(steps < size, size - 1 - steps, steps)
    own = graphc.reshape(
        _grid(x.shape, batch), tuple(x.shape[a] if a == batch else 1 for a in (0, 1))
    )
    return x[(places, own) if time == 0 else (own, places)]


@op("TfIdfVectorizer")
def tf_idf(c: Context) -> Tensor:
    """How often each n-gram of a pool occurs in a row, with gaps of up to so many elements."""
    if c.attribute("pool_strings") is not None:
        c.refuse("a pool of strings")
    x = c.tensor(0)
    grams = _pool(c)
    rows = x if x.ndim == 2 else graphc.reshape(x, (1, -1))
    width = rows.shape[1]
    if not isinstance(width, int):
        c.refuse("rows of symbolic length")
    columns = 1 + max(c.attribute("ngram_indexes"), default=-1)
    counts: list[Any] = [graphc.zeros((rows.shape[0],), dtype="float32")] * columns
    weights = c.attribute("weights")
    for k, gram in enumerate(grams):
        if not c.attribute("min_gram_length") <= len(gram) <= c.attribute("max_gram_length"):
            continue
        found = _occurrences(
            rows, gram, width, 0 if len(gram) == 1 else c.attribute("max_skip_count")
        )
        counts[c.attribute("ngram_indexes")[k]] = _weighted(
            c.attribute("mode"), found, None if weights is None else weights[k]
        )
    result = graphc.stack(counts, axis=1)
    return result if x.ndim == 2 else graphc.reshape(result, (columns,))


def _pool(c: Context) -> list[list[int]]:
    """The n-grams of the pool, in order."""
    pool, starts = c.attribute("pool_int64s") or [], c.attribute("ngram_counts")
    grams: list[list[int]] = []
    for n, (start, end) in enumerate(zip(starts, [*starts[1:], len(pool)]), 1):
        if not 0 <= start <= end <= len(pool) or (end - start) % n:
            c.bad(f"ngram_counts {starts} do not fit a pool of {len(pool)}")
        grams += [pool[k : k + n] for k in range(start, end, n)]
    if len(c.attribute("ngram_indexes")) != len(grams):
        c.bad(f"{len(c.attribute('ngram_indexes'))} indexes for {len(grams)} n-grams")
    return grams


def _occurrences(rows: Tensor, gram: Sequence[int], width: int, skips: int) -> Tensor:
    total = graphc.zeros((rows.shape[0],), dtype="float32")
    for gap in range(1, skips + 2):
        places = width - (len(gram) - 1) * gap
        if places <= 0:
            break
        hit: Tensor | None = None
        for k, element in enumerate(gram):
            here = graphc.equal(rows[:, k * gap : k * gap + places], element)
            hit = here if hit is None else hit & here
        if hit is not None:
            total = total + graphc.sum(graphc.astype(hit, "float32"), axis=1)
    return total


def _weighted(mode: str, count: Tensor, weight: float | None) -> Tensor:
    if mode == "TF":
        return count
    factor = 1.0 if weight is None else weight
    if mode == "IDF":
        return graphc.where(count > 0, factor, graphc.zeros_like(count))
    return count * factor
