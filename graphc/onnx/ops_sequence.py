"""Sequences and optionals (floor 8): they exist while a model is imported, as Python values.

A compiled graph has tensors only, so the length of a sequence must be known when compiling.
"""

from __future__ import annotations

from collections.abc import Sequence

import graphc
from graphc.base.dims import Size
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, Result, op
from graphc.onnx.elements import DTYPES, FLOAT, name_of
from graphc.onnx.values import (
    ForeignValue,
    OptionalValue,
    SequenceValue,
    TensorValue,
    Value,
    object_array,
    of_array,
    of_sizes,
    of_tensor,
)


def _sequence(c: Context, k: int) -> SequenceValue:
    found = c.any_value(k)
    if isinstance(found, OptionalValue) and found.item is not None:
        found = found.item
    if isinstance(found, ForeignValue):
        c.refuse(f"operand {k} is of type {found.what}, which graphc does not have")
    if not isinstance(found, SequenceValue):
        c.bad(f"operand {k} is no sequence")
    return found


def _element(value: Value) -> int:
    return value.element if isinstance(value, TensorValue) else 0


def _checked(c: Context, items: Sequence[Value], element: int) -> SequenceValue:
    """A sequence of values of one element type. Raises FormatError."""
    for item in items:
        if isinstance(item, SequenceValue | OptionalValue):
            c.bad("a sequence holds tensors, no sequences and optionals")
        kind = _element(item)
        if element and kind and kind != element:
            c.bad(f"a sequence of {name_of(element)} cannot hold {name_of(kind)}")
        element = element or kind
    return SequenceValue(items, element)


@op("SequenceConstruct")
def construct(c: Context) -> Value:
    """A sequence of the operands."""
    return _checked(c, [c.any_value(k) for k in range(len(c.inputs))], 0)


@op("SequenceEmpty")
def empty(c: Context) -> Value:
    """A sequence of nothing."""
    return SequenceValue([], int(c.attribute("dtype", FLOAT)))


@op("SequenceLength")
def length(c: Context) -> Value:
    """The number of values."""
    return of_sizes(object_array(len(_sequence(c, 0).items)), graphc.int64)


def _place(c: Context, k: int, count: int, last: int) -> int:
    """An index, from -count to `last`, counted from the front. Raises FormatError."""
    place = int(c.number(k, "the position"))
    if not -count <= place <= last:
        c.bad(f"position {place} is outside a sequence of {count}")
    return place + count if place < 0 else place


@op("SequenceAt")
def at(c: Context) -> Value:
    """One value of a sequence."""
    items = _sequence(c, 0).items
    return items[_place(c, 1, len(items), len(items) - 1)]


@op("SequenceInsert")
def insert(c: Context) -> Value:
    """A sequence with one more value, at the end by default."""
    sequence = _sequence(c, 0)
    items = list(sequence.items)
    place = _place(c, 2, len(items), len(items)) if c.has(2) else len(items)
    items.insert(place, c.any_value(1))
    return _checked(c, items, sequence.element)


@op("SequenceErase")
def erase(c: Context) -> Value:
    """A sequence without one of its values, the last one by default."""
    sequence = _sequence(c, 0)
    items = list(sequence.items)
    if not items:
        c.bad("the sequence is empty")
    del items[_place(c, 1, len(items), len(items) - 1) if c.has(1) else -1]
    return SequenceValue(items, sequence.element)


@op("ConcatFromSequence")
def concat(c: Context) -> Tensor:
    """The tensors of a sequence, one after the other or stacked."""
    items = [c.plain(v, "a value of the sequence").tensor for v in _sequence(c, 0).items]
    if not items:
        c.bad("the sequence is empty")
    axis = int(c.attribute("axis"))
    return (graphc.stack if c.attribute("new_axis") else graphc.concat)(items, axis=axis)


@op("SplitToSequence")
def split(c: Context) -> Value:
    """The parts of a tensor along an axis: of given sizes, of one size, or of size 1."""
    x = c.tensor(0)
    axis = int(c.attribute("axis"))
    if not -x.ndim <= axis < x.ndim:
        c.bad(f"axis {axis} is out of bounds for {x.ndim} dims")
    axis %= x.ndim
    total = x.shape[axis]
    parts: list[Size]
    if c.has(1) and c.value(1).ndim == 1:
        parts = list(c.sizes(1, "the sizes"))
        if isinstance(total, int) and sum(parts) != total:
            c.bad(f"parts of {sum(parts)} elements together, axis {axis} has {total}")
    else:
        each = int(c.number(1, "the size")) if c.has(1) else 1
        if not isinstance(total, int):
            c.refuse(f"a split into an unknown number of parts: axis {axis} has size {total}")
        if each < 1:
            c.bad(f"parts of {each} elements")
        if -(-total // each) > c.importer.limits.operands:
            c.bad(f"a split into {-(-total // each)} parts (limit operands)")
        parts = [min(each, total - k) for k in range(0, total, each)]
    keep = bool(c.attribute("keepdims")) or c.has(1)
    return SequenceValue(_parts(x, axis, parts, keep), c.value(0).element)


def _parts(x: Tensor, axis: int, sizes: Sequence[Size], keep: bool) -> list[Value]:
    start: Size = 0
    found: list[Value] = []
    for size in sizes:
        index: list[slice | int] = [slice(None)] * x.ndim
        index[axis] = slice(start, start + size)
        part = x[tuple(index)]
        found.append(of_tensor(part if keep else graphc.squeeze(part, axis=axis)))
        start = start + size
    return found


@op("SequenceMap")
def sequence_map(c: Context) -> Result:
    """The outputs of a graph for each value of a sequence, as sequences."""
    first = _sequence(c, 0)
    results: list[list[Value]] = []
    for k, item in enumerate(first.items):
        operands: list[Value] = [item]
        for j in range(1, len(c.inputs)):
            other = c.any_value(j)
            if isinstance(other, SequenceValue):
                if len(other.items) != len(first.items):
                    c.bad(f"sequences of {len(first.items)} and {len(other.items)} values")
                other = other.items[k]
            operands.append(other)
        results.append(c.run(c.attribute("body"), operands))
    columns = len(c.attribute("body").output)
    return [_checked(c, [row[k] for row in results], 0) for k in range(columns)]


# -- optionals ------------------------------------------------------------------------------------


@op("Optional")
def optional(c: Context) -> Value:
    """The operand as an optional, an empty one without an operand."""
    return OptionalValue(c.any_value(0) if c.has(0) else None)


@op("OptionalHasElement")
def has_element(c: Context) -> Value:
    """Whether there is a value."""
    found = c.any_value(0) if c.has(0) else None
    there = found is not None and not (isinstance(found, OptionalValue) and found.item is None)
    return of_array(there, DTYPES[9])


@op("OptionalGetElement")
def get_element(c: Context) -> Value:
    """The value of an optional, which must have one."""
    found = c.any_value(0)
    if not isinstance(found, OptionalValue):
        return found
    if found.item is None:
        c.bad("the optional is empty")
    return found.item
