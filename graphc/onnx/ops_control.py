"""Control flow (floor 8): If, Loop and Scan.

What is known when compiling is decided then: a branch is chosen, a short loop unrolled.  The rest
becomes graphc's own control flow, which keeps the types of what a loop carries; a loop whose
carries change their shapes, or that carries sequences, is unrolled, and its number of turns must be
known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import graphc
from graphc.base.dims import Size
from graphc.base.errors import GraphcError
from graphc.ir.node import Tensor
from graphc.onnx.context import Context, Result, op
from graphc.onnx.values import TensorValue, Value, of_array, of_tensor

UNROLLED = 4096  # turns that are unrolled at most
SHORT = 16  # turns up to which a loop is unrolled where it can be: constants fold then


# -- If -------------------------------------------------------------------------------------------


@op("If")
def if_(c: Context) -> Result:
    """The outputs of one of two graphs."""
    condition = c.value(0)
    if condition.known() is not None or condition.sizes is not None:
        branch = "then_branch" if c.number(0, "the condition") else "else_branch"
        return c.run(c.attribute(branch), [])

    def branch_of(name: str) -> list[Tensor]:
        found = c.run(c.attribute(name), [])
        if not all(isinstance(v, TensorValue) and v.plain for v in found):
            raise c.needed(condition, "the condition")
        return [v.tensor for v in found if isinstance(v, TensorValue)]

    try:
        results: list[Tensor] = graphc.cond(
            graphc.reshape(condition.tensor, ()),
            lambda: branch_of("then_branch"),
            lambda: branch_of("else_branch"),
        )
    except (graphc.ShapeError, graphc.DTypeError, graphc.GraphError):
        # Branches of different types: only one of them can be compiled.
        raise c.needed(condition, "the condition, whose branches differ,") from None
    return results


# -- Loop -----------------------------------------------------------------------------------------


class _Loop:
    """A Loop node: `Loop(count, going, carried…)` with a body (turn, going, carried…)."""

    def __init__(self, c: Context) -> None:
        self.c = c
        self.body = c.attribute("body")
        self.carried = [c.any_value(k) for k in range(2, len(c.inputs))]
        self.rows = len(self.body.output) - 1 - len(self.carried)
        if self.rows < 0:
            c.bad(f"a body of {len(self.body.output)} outputs for {len(self.carried)} carries")

    def known_count(self) -> int | None:
        """The number of turns where it is known when compiling; None where none is given."""
        return int(self.c.number(0, "the number of turns")) if self.c.has(0) else None

    def turn(self, k: Value, carried: Sequence[Value]) -> tuple[TensorValue, list[Value]]:
        """One turn: whether another one follows, and the other outputs."""
        found = self.c.run(self.body, [k, of_array(True, graphc.bool), *carried])
        return self.c.plain(found[0], "the condition"), found[1:]

    # -- unrolled ---------------------------------------------------------------------------------
    def unrolled(self) -> Result:
        """The turns one after the other. Raises InputNeeded where their number is not known."""
        c = self.c
        most = self.known_count()
        going = bool(c.number(1, "the condition")) if c.has(1) else True
        carried, count = list(self.carried), 0
        rows: list[list[Value]] = [[] for _ in range(self.rows)]
        while going and (most is None or count < most):
            if count >= UNROLLED:
                c.refuse(f"a loop of more than {UNROLLED} turns, which must be unrolled")
            again, found = self.turn(of_array(np.int64(count), graphc.int64), carried)
            going = bool(c.known_value(again, "the condition of the next turn").all())
            carried = found[: len(carried)]
            for row, value in zip(rows, found[len(carried) :]):
                row.append(value)
            count += 1
        return [*carried, *[self._stacked(row, k) for k, row in enumerate(rows)]]

    def _stacked(self, row: Sequence[Value], k: int) -> Value:
        """The values of one output of all turns, stacked."""
        if row:
            return of_tensor(graphc.stack([self.c.plain(v, "an output").tensor for v in row]))
        info = self.body.output[1 + len(self.carried) + k]
        kind = info.type.tensor_type
        dims = [d.dim_value for d in kind.shape.dim]
        dtype = self.c.dtype(kind.elem_type, f"the output {info.name!r} of no turns")
        return of_array(np.zeros((0, *dims), dtype.numpy), dtype)

    # -- compiled ---------------------------------------------------------------------------------
    def compiled(self) -> Result:
        """A loop of graphc. Raises GraphcError where the carries change their types."""
        c = self.c
        start = [c.plain(v, "a carry").tensor for v in self.carried]
        first = graphc.reshape(c.tensor(1), ()) if c.has(1) else None
        count = graphc.astype(graphc.reshape(c.tensor(0), ()), "int64") if c.has(0) else None
        if count is not None:
            result = self._counted(start, self._length(count, first))
            if result is not None:
                return result
        turns = self._turns(start, count, first)
        last, stacks = self._scan(start, graphc.as_dim(turns), [])
        return [*last, *stacks]

    def _length(self, count: Tensor, first: Tensor | None) -> Size:
        if first is None:
            if self.c.value(0).sizes is not None:
                return self.c.sizes(0, "the number of turns")[0]
            return graphc.as_dim(graphc.maximum(count, 0))
        return graphc.as_dim(graphc.where(first, graphc.maximum(count, 0), 0))

    def _counted(self, start: Sequence[Tensor], length: Size) -> Result:
        """A loop that no turn ends; None where a turn may end it."""
        always: list[bool] = []
        last, stacks = self._scan(start, length, always)
        return [*last, *stacks] if all(always) else None

    def _scan(
        self, start: Sequence[Tensor], length: Size, always: list[bool]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """So many turns. always: whether the body says for sure that another turn follows."""

        def body(carry: Any, _: Any) -> Any:
            k, *carried = carry
            again, found = self.turn(of_tensor(k), [of_tensor(t) for t in carried])
            known = again.known()
            always.append(known is not None and bool(known.all()))
            tensors = [self.c.plain(v, "an output").tensor for v in found]
            return [k + 1, *tensors[: len(carried)]], tensors[len(carried) :]

        zero = graphc.asarray(np.int64(0))
        (_, *last), stacks = graphc.scan(body, [zero, *start], None, length=length)
        return last, list(stacks)

    def _turns(self, start: Sequence[Tensor], count: Tensor | None, first: Tensor | None) -> Tensor:
        """How many turns the loop has: found by running it without its outputs."""

        def condition(carry: Any) -> Tensor:
            turn: Tensor = carry[0]
            going: Tensor = carry[1]
            return going if count is None else going & (turn < count)

        def body(carry: Any) -> Any:
            k, _, *carried = carry
            again, found = self.turn(of_tensor(k), [of_tensor(t) for t in carried])
            tensors = [self.c.plain(v, "a carry").tensor for v in found[: len(carried)]]
            return [k + 1, graphc.reshape(again.tensor, ()), *tensors]

        going = graphc.asarray(True) if first is None else first
        init = [graphc.asarray(np.int64(0)), going, *start]
        turns: Tensor = graphc.while_loop(condition, body, init)[0]
        return turns


@op("Loop")
def loop(c: Context) -> Result:
    """A graph run over and over: carried values, and outputs that are stacked."""
    node = _Loop(c)
    count = c.value(0).known() if c.has(0) else None
    short = count is not None and count.size == 1 and int(count.reshape(())) <= SHORT
    attempts = (node.unrolled, node.compiled) if short else (node.compiled, node.unrolled)
    try:
        return attempts[0]()
    except GraphcError as error:
        first = error
    try:
        return attempts[1]()
    except GraphcError as second:
        # The unrolled loop says which input decides; the compiled one what changes in it.
        raise (second if attempts[1] == node.unrolled else first) from None


# -- Scan -----------------------------------------------------------------------------------------


@op("Scan")
def scan_batches(c: Context) -> Result:
    """A graph run along an axis behind a batch axis (opset 8)."""
    if c.has(0):
        c.refuse("sequence lengths (opset 8)")
    count = int(c.attribute("num_scan_inputs"))
    values = [c.tensor(k) for k in range(1, len(c.inputs))]
    states = len(values) - count
    if count < 1 or states < 0:
        c.bad(f"num_scan_inputs is {count}, and there are {len(values)} operands")
    batch = values[-1].shape[0]
    if not isinstance(batch, int) or batch > UNROLLED:
        c.refuse(f"a batch of size {batch} (opset 8)")
    directions = c.attribute("directions", [0] * count)
    results = []
    for k in range(batch):
        own = [v[k] for v in values]
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

    def body(carry: Any, items: Any) -> Any:
        found = c.run(c.attribute("body"), [of_tensor(t) for t in (*carry, *items)])
        tensors = [c.plain(v, "an output").tensor for v in found]
        if len(tensors) < len(states):
            c.bad(f"a body of {len(tensors)} outputs for {len(states)} states")
        return tensors[: len(states)], tensors[len(states) :]

    last, stacks = graphc.scan(body, list(states), list(sequences))
    return [*last, *stacks]
