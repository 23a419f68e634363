"""Calls, branches and loops in ONNX (floor 8): If, Loop and Scan; a call is written where it is.

A body of graphc is closed; in ONNX it reads what it captures from the graph around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.base.dtypes import bool_, int64
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, TensorType, TupleType
from graphc.onnx.exporting.table import Making, exports
from graphc.onnx.exporting.writer import Value


def _types(node: Node) -> tuple[TensorType, ...]:
    assert isinstance(node.type, TupleType)
    return node.type.items


def _operand_types(inputs: Sequence[Tensor]) -> list[TensorType]:
    return [x.type for x in inputs]


def _inner(m: Making, name: str, types: Sequence[TensorType]) -> list[tuple[Value, TensorType]]:
    """New names for the inputs of an ONNX body."""
    return [(Value(m.writer.unique(f"{name}_{k}"), t.dtype), t) for k, t in enumerate(types)]


@exports("call")
def _call(m: Making, node: Node, xs: list[Value]) -> tuple[Value, ...]:
    return tuple(m.body(node.attr("body"), xs))


@exports("cond")
def _cond(m: Making, node: Node, xs: list[Value]) -> tuple[Value, ...]:
    w = m.writer
    types = _types(node)

    def branch(body: Graph) -> Any:
        return w.subgraph(
            body.name, [], lambda: list(zip(m.body(body, xs[1:]), types, strict=True))
        )

    branches = {
        "then_branch": branch(node.attr("then")),
        "else_branch": branch(node.attr("otherwise")),
    }
    return tuple(w.nodes("If", [xs[0]], [t.dtype for t in types], **branches))


@exports("while_loop")
def _while(m: Making, node: Node, xs: list[Value]) -> tuple[Value, ...]:
    condition, body, carries = node.attrs
    w = m.writer
    *types, turns_type = _types(node)
    state, captured = xs[:carries], xs[carries:]
    (first,) = m.body(condition, xs)
    turn = _inner(m, "turn", [TensorType((), int64), TensorType((), bool_)])
    carried = _inner(m, "carry", types)

    def write() -> list[tuple[Value, TensorType]]:
        new = m.body(body, [*(v for v, _ in carried), *captured])
        (again,) = m.body(condition, [*new, *captured])
        count = w.op("Add", turn[0][0], w.number(1, int64), dtype=int64)
        results = [(again, TensorType((), bool_)), *zip(new, types, strict=True)]
        return [*results, (count, turns_type)]

    # The number of turns is one more value that is carried.
    counter = _inner(m, "turns", [turns_type])
    proto = w.subgraph(body.name, [*turn, *carried, *counter], write)
    operands = [None, first, *state, w.number(0, int64)]
    dtypes = [*(t.dtype for t in types), int64]
    return tuple(w.nodes("Loop", operands, dtypes, body=proto))


@exports("scan")
def _scan(m: Making, node: Node, xs: list[Value]) -> tuple[Value, ...]:
    body, carries, sequences, length, reverse = node.attrs
    w = m.writer
    results = _types(node)
    state, rows = xs[:carries], xs[carries : carries + sequences]
    captured = xs[carries + sequences :]
    operand_types = _operand_types(node.inputs)
    carried = _inner(m, "carry", operand_types[:carries])
    slices = [
        TensorType(t.shape[1:], t.dtype) for t in operand_types[carries : carries + sequences]
    ]
    row = _inner(m, "row", slices)
    inside = [
        *operand_types[:carries],
        *(TensorType(t.shape[1:], t.dtype) for t in results[carries:]),
    ]
    # A scan of no sequences counts turns over a sequence that it does not read.
    counter = [] if sequences else _inner(m, "turn", [TensorType((), int64)])

    def write() -> list[tuple[Value, TensorType]]:
        operands = [*(v for v, _ in (*carried, *row)), *captured]
        return list(zip(m.body(body, operands), inside, strict=True))

    proto = w.subgraph(body.name, [*carried, *row, *counter], write)
    turns = [] if sequences else [m.sizes.arange(length)]
    stacked = len(results) - carries
    count = sequences or 1
    found = w.nodes(
        "Scan",
        [*state, *rows, *turns],
        [t.dtype for t in results],
        body=proto,
        num_scan_inputs=count,
        scan_input_directions=[int(reverse)] * count,
        scan_output_directions=[int(reverse)] * stacked,
    )
    return tuple(found)
