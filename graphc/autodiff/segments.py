"""Scans in segments (floor 3): less memory for the gradient, at one more forward computation.

A scan keeps for its gradient what every turn started from.  Cut into segments of k turns, an outer
scan keeps what every segment started from; on the way back each segment runs again.  What the body
of a segment computes stands behind barriers, which tells the gradient of the outer scan to keep
nothing of it (`autodiff/control.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.autodiff.substitution import BARRIER
from graphc.base.dims import Size, divide
from graphc.ir.graph import Graph
from graphc.ir.node import Tensor
from graphc.ops.control import SCAN, closed_body, results_of
from graphc.ops.joining import concat, take_slice
from graphc.ops.reshape import to_shape
from graphc.ops.state import placeholder


def scan_of(
    body: Graph,
    carries: Sequence[Tensor],
    sequences: Sequence[Tensor],
    captured: Sequence[Tensor],
    length: Size,
    reverse: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """The last carries and the stacked outputs of a scan."""
    operands = (*carries, *sequences, *captured)
    found = results_of(SCAN, operands, body, len(carries), len(sequences), length, reverse)
    return list(found[: len(carries)]), list(found[len(carries) :])


def segmented_scan(
    body: Graph,
    carries: Sequence[Tensor],
    sequences: Sequence[Tensor],
    captured: Sequence[Tensor],
    length: Size,
    reverse: bool,
    every: int,
) -> tuple[list[Tensor], list[Tensor]]:
    """`scan_of`, of which the gradient keeps the carries of every `every`-th turn only.

    The last turns, which do not fill a segment, keep their carries.
    """
    if isinstance(length, int) and length <= every:  # one segment, which is run once anyway
        return scan_of(body, carries, sequences, captured, length, reverse)
    segments = divide(length, every)
    full = segments * every
    rest = length - full
    first = rest if reverse else 0
    cut = [take_slice(s, 0, first, full) for s in sequences]
    rows = [to_shape(s, (segments, every, *s.shape[1:])) for s in cut]
    outer = _outer_body(body, carries, rows, captured, every, reverse)
    state, outputs = scan_of(outer, carries, rows, captured, segments, reverse)
    outputs = [to_shape(o, (full, *o.shape[2:])) for o in outputs]
    if rest == 0:
        return state, outputs
    last = [take_slice(s, 0, 0 if reverse else full, rest) for s in sequences]
    state, more = scan_of(body, state, last, captured, rest, reverse)
    pairs = zip(more, outputs, strict=True) if reverse else zip(outputs, more, strict=True)
    joined = [concat(pair, axis=0) for pair in pairs]
    return state, [to_shape(j, (length, *j.shape[1:])) for j in joined]


def _outer_body(
    body: Graph,
    carries: Sequence[Tensor],
    rows: Sequence[Tensor],
    captured: Sequence[Tensor],
    every: int,
    reverse: bool,
) -> Graph:
    formals = [placeholder(t.shape, t.dtype) for t in carries]
    slices = [placeholder(r.shape[1:], r.dtype) for r in rows]
    outer = [placeholder(t.shape, t.dtype) for t in captured]
    held = [BARRIER(t) for t in (*formals, *slices, *outer)]
    count, last = len(formals), len(formals) + len(slices)
    state, outputs = scan_of(body, held[:count], held[count:last], held[last:], every, reverse)
    return closed_body([*formals, *slices, *outer], [*state, *outputs], f"{body.name}_segment")
