"""Control flow (floor 8): If, Loop and Scan.

What is known when compiling is decided then: a branch is chosen, a short loop unrolled.  The rest
becomes graphc's own control flow, whose branches and turns keep the types of what they carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import graphc
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, Result, op
from graphc.onnx.values import SequenceValue, TensorValue, Value, of_array, of_tensor

UNROLLED = 4096  # turns that are unrolled at most


@op("If")
def if_(c: Context) -> Result:
    """The outputs of one of two graphs."""
    condition = c.value(0)
    if condition.known() is None:
        raise c.needed(condition, "the condition")
    branch = "then_branch" if c.number(0, "the condition") else "else_branch"
    return c.run(c.attribute(branch), [])


@op("Loop")
def loop(c: Context) -> Result:
    """A graph run over and over: carried values, and outputs that are stacked."""
    most = int(c.number(0, "the number of turns")) if c.has(0) else None
    going = bool(c.number(1, "the condition")) if c.has(1) else True
    body = c.attribute("body")
    carried = [c.any_value(k) for k in range(2, len(c.inputs))]
    rows: list[list[Value]] = [[] for _ in range(len(body.output) - 1 - len(carried))]
    turn = 0
    while going and (most is None or turn < most):
        if turn >= UNROLLED:
            c.refuse(f"a loop of more than {UNROLLED} turns, which must be unrolled")
        operands = [of_array(np.int64(turn), graphc.int64), of_array(True, graphc.bool)]
        found = c.run(body, [*operands, *carried])
        again = c.plain(found[0], "the condition")
        going = bool(c.known_value(again, "the condition of the next turn").all())
        carried = found[1 : 1 + len(carried)]
        for row, value in zip(rows, found[1 + len(carried) :]):
            row.append(value)
        turn += 1
    return [*carried, *[_stacked(c, row, body, k) for k, row in enumerate(rows)]]


def _stacked(c: Context, row: Sequence[Value], body: Any, k: int) -> Value:
    """The values of one output of all turns, stacked."""
    if row:
        return of_tensor(graphc.stack([c.plain(v, "an output").tensor for v in row]))
    info = body.output[len(body.output) - len(body.output) + len(body.input) - 1 + k]
    kind = info.type.tensor_type
    dims = [d.dim_value for d in kind.shape.dim]
    dtype = c.dtype(kind.elem_type, f"the output {info.name!r} of no turns")
    return of_array(np.zeros((0, *dims), dtype.numpy), dtype)


@op("Scan")
def scan_batches(c: Context) -> Result:
    """A graph run along an axis behind a batch axis (opset 8)."""
    if c.has(0):
        c.refuse("sequence lengths (opset 8)")
    count = int(c.attribute("num_scan_inputs"))
    values = [c.tensor(k) for k in range(1, len(c.inputs))]
    states = len(values) - count
    batch = values[-1].shape[0] if values else 0
    if not isinstance(batch, int):
        c.refuse("a batch of symbolic size (opset 8)")
    results = []
    for k in range(batch):
        own = [v[k] for v in values]
        directions = c.attribute("directions", [0] * count)
        results.append(_scan(c, own[:states], _directed(own[states:], [0] * count, directions)))
    return [graphc.stack(column) for column in zip(*results)]


def _directed(
    sequences: Sequence[Tensor], axes: Sequence[int], directions: Sequence[int]
) -> list[Tensor]:
    """Sequences along their first axis, in the order in which they are read."""
    found = []
    for x, axis, direction in zip(sequences, axes, directions):
        x = graphc.moveaxis(x, axis, 0) if axis else x
        found.append(graphc.flip(x, axis=0) if direction else x)
    return found


@op("Scan", since=9)
def scan(c: Context) -> Result:
    """A graph run along axes of its sequences: carried values, and outputs that are stacked."""
    count = int(c.attribute("num_scan_inputs"))
    values = c.tensors()
    states = len(values) - count
    if count < 1 or states < 0:
        c.bad(f"num_scan_inputs is {count}, and there are {len(values)} operands")
    outputs = len(c.attribute("body").output) - states
    axes = c.attribute("scan_input_axes") or [0] * count
    directions = c.attribute("scan_input_directions") or [0] * count
    found = _scan(c, values[:states], _directed(values[states:], axes, directions))
    out_axes = c.attribute("scan_output_axes") or [0] * outputs
    out_directions = c.attribute("scan_output_directions") or [0] * outputs
    stacks = []
    for x, axis, direction in zip(found[states:], out_axes, out_directions):
        x = graphc.flip(x, axis=0) if direction else x
        stacks.append(graphc.moveaxis(x, 0, axis) if axis else x)
    return [*found[:states], *stacks]


def _scan(c: Context, states: Sequence[Tensor], sequences: Sequence[Tensor]) -> list[Tensor]:
    """The last states and the stacked outputs."""
    body = c.attribute("body")
    length = sequences[0].shape[0]
    if not isinstance(length, int):
        c.refuse(f"a scan of the symbolic length {length}")
    carried: list[Value] = [of_tensor(s) for s in states]
    rows: list[list[Tensor]] = [[] for _ in range(len(body.output) - len(states))]
    for turn in range(length):
        items = [of_tensor(s[turn]) for s in sequences]
        found = c.run(body, [*carried, *items])
        carried = found[: len(carried)]
        for row, value in zip(rows, found[len(carried) :]):
            row.append(c.plain(value, "an output").tensor)
    if not length:
        c.refuse("a scan of no turns")
    return [*[c.plain(v, "a state").tensor for v in carried], *[graphc.stack(r) for r in rows]]


__all__ = ["SequenceValue", "TensorValue", "if_", "loop", "scan", "scan_batches"]
