"""Control flow (floor 2): calls of graph functions, branches and loops, with bodies as attributes.

A body is a closed `Graph`: its inputs are placeholders, everything that it needs from outside comes
in as an operand, it has no variables and no updates.  The node of such an op has a tuple type; each
result is a `get` node of it (one for every index that is used).

    call        body(*operands)                                   -> body's outputs
    cond        predicate, *operands                              -> outputs of one of two bodies
    while_loop  *carries, *captured                               -> last carries, number of turns
    scan        *carries, *sequences, *captured                   -> last carries, stacked outputs

The compiled form of each is native code: nothing returns to Python between turns.  Gradients are
declared on floor 3, which knows how to differentiate a body (`GRADIENTS`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.base.dims import Size
from graphc.base.dtypes import Array, bool_, int64
from graphc.base.errors import GraphError, message
from graphc.ir.bindings import Bindings, bindings_inside, computed_symbols
from graphc.ir.graph import Graph, interned
from graphc.ir.node import Node, Tensor, TensorType, TupleType, make
from graphc.ir.opdef import REGISTRY, OpDef, dtype_error, fail, shape_error
from graphc.ops.families import Control, Item

NESTING = 32  # levels of bodies inside each other: what is recursive in them is bounded
# A body with its sizes bound: arrays in, arrays out, in the order of its inputs and outputs.
Run = Callable[..., tuple[Array, ...]]
# By name of op: (cotangents of the results, None where there is none; node) -> cotangents of the
# operands. Filled by `autodiff`.
GRADIENTS: dict[str, Callable[[tuple[Tensor | None, ...], Node], Sequence[Tensor | None]]] = {}


def closed_body(
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    name: str,
    names: Mapping[str, Node] | None = None,
    sizes: Bindings | None = None,
) -> Graph:
    """The body of placeholders `inputs` and of `outputs` that depend on nothing else.

    Inputs are called `in_0 …`, outputs `out_0 …`; names: those of nodes inside; sizes: the counts
    of sizes that it computes, where it is a part of a body.  Equal bodies from the same lines are
    one object.  Raises GraphError where something else is needed, variables included.
    """
    named_inputs = tuple((f"in_{k}", t) for k, t in enumerate(inputs))
    named_outputs = tuple((f"out_{k}", t) for k, t in enumerate(outputs))
    # Inputs of the body that names come from may stand in other places, or be gone.
    kept = {k: n for k, n in (names or {}).items() if n.op.name != "placeholder" or k[:3] != "in_"}
    all_names = {**kept, **dict(named_inputs)}
    if sizes is None:
        sizes = bindings_inside((*inputs, *outputs), inputs)
    body = Graph.build(named_inputs, named_outputs, (), name, all_names, sizes)
    problem = body_problem(body)
    if problem:
        raise GraphError(message(f"{name}: {problem}"))
    return interned(body)


def body_problem(body: Graph) -> str | None:
    """What keeps a graph from being a body, None if nothing does."""
    listed = {id(t) for _, t in body.inputs}
    if body.updates:
        return "a body has no updates"
    bound = {s for s, _ in body.bindings}
    for name, t in body.outputs:
        if any(s in bound for s in computed_symbols(t.shape)):
            return (
                f"the size of {name} : {t.type} is computed inside, and sizes of results are not: "
                "pad it to a known size"
            )
    if body.nesting > NESTING:
        return f"bodies nest at most {NESTING} levels"
    for node in body.nodes:
        if node.op.name == "variable" or (node.op.name == "placeholder" and id(node) not in listed):
            return f"a body takes everything from outside as an operand, not from {node!r:.80}"
    return None


def body_types(body: Graph) -> tuple[tuple[TensorType, ...], tuple[TensorType, ...]]:
    """The types of the inputs and of the outputs of a body."""
    return tuple(t.type for _, t in body.inputs), tuple(t.type for _, t in body.outputs)


def _operand_types(inputs: Sequence[Node]) -> tuple[TensorType, ...]:
    return tuple(i.type for i in inputs if isinstance(i, Tensor))


def _listed(types: Sequence[TensorType]) -> str:
    return "(" + ", ".join(map(str, types)) + ")"


def _expect(op: str, what: str, found: Any, expected: Any, inputs: Sequence[Node]) -> None:
    if tuple(found) != tuple(expected):
        shape_error(f"{op}: {what} must be {_listed(expected)}, got {_listed(found)}", inputs)


# -- call -----------------------------------------------------------------------------------------


def _call_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TupleType:
    takes, gives = body_types(attrs[0])
    _expect("call", "the operands", _operand_types(inputs), takes, inputs)
    return TupleType(gives)


def _call_reference(*operands: Array, body: Run) -> tuple[Array, ...]:
    return body(*operands)


# -- cond -----------------------------------------------------------------------------------------


def _cond_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TupleType:
    then, otherwise = attrs
    if not inputs or inputs[0].type != TensorType((), bool_):
        dtype_error("cond: the predicate must be bool[]", inputs[:1])
    takes, gives = body_types(then)
    _expect("cond", "the operands", _operand_types(inputs[1:]), takes, inputs)
    other_takes, other_gives = body_types(otherwise)
    _expect("cond", "the operands of the other branch", other_takes, takes, inputs)
    _expect("cond", "the results of the other branch", other_gives, gives, inputs)
    return TupleType(gives)


def _cond_reference(
    predicate: Array, *operands: Array, then: Run, otherwise: Run
) -> tuple[Array, ...]:
    return (then if predicate else otherwise)(*operands)


# -- while_loop -----------------------------------------------------------------------------------


def _while_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TupleType:
    condition, body, carries = attrs
    if not 0 <= carries <= len(inputs):
        shape_error(f"while_loop: {carries} carries among {len(inputs)} operands", inputs)
    types = _operand_types(inputs)
    takes, gives = body_types(body)
    _expect("while_loop", "the operands", types, takes, inputs)
    _expect("while_loop", "the results of the body", gives, types[:carries], inputs)
    asks, answers = body_types(condition)
    _expect("while_loop", "the operands of the condition", asks, takes, inputs)
    _expect("while_loop", "the condition", answers, (TensorType((), bool_),), inputs)
    return TupleType((*types[:carries], TensorType((), int64)))


def _while_reference(
    *operands: Array, condition: Run, body: Run, carries: int
) -> tuple[Array, ...]:
    state, captured = operands[:carries], operands[carries:]
    turns = 0
    while condition(*state, *captured)[0]:
        state = body(*state, *captured)
        turns += 1
    return (*state, np.asarray(turns, np.int64))


# -- scan -----------------------------------------------------------------------------------------


def scan_parts(node: Node) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The carries, sequences and captured operands of a scan."""
    carries, sequences = node.attr("carries"), node.attr("sequences")
    return (
        node.inputs[:carries],
        node.inputs[carries : carries + sequences],
        node.inputs[carries + sequences :],
    )


def _scan_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TupleType:
    body, carries, sequences, length, _ = attrs
    if carries < 0 or sequences < 0 or carries + sequences > len(inputs):
        what = f"{carries} carries and {sequences} sequences among {len(inputs)} operands"
        shape_error(f"scan: {what}", inputs)
    types = _operand_types(inputs)
    for t in types[carries : carries + sequences]:
        if not t.shape or t.shape[0] != length:
            shape_error(f"scan: a sequence of {length} turns cannot be {t}", inputs)
    slices = tuple(TensorType(t.shape[1:], t.dtype) for t in types[carries : carries + sequences])
    takes, gives = body_types(body)
    expected = (*types[:carries], *slices, *types[carries + sequences :])
    _expect("scan", "the inputs of the body", takes, expected, inputs)
    _expect("scan", "the new carries", gives[:carries], types[:carries], inputs)
    return TupleType((*gives[:carries], *(stacked(t, length) for t in gives[carries:])))


def stacked(item: TensorType, length: Size) -> TensorType:
    """The type of `length` items in a row."""
    return TensorType((length, *item.shape), item.dtype)


def _scan_reference(
    *operands: Array, body: Run, carries: int, sequences: int, length: int, reverse: bool
) -> tuple[Array, ...]:
    state = operands[:carries]
    rows, captured = operands[carries : carries + sequences], operands[carries + sequences :]
    found: list[tuple[Array, ...]] = []
    for i in reversed(range(length)) if reverse else range(length):
        results = body(*state, *(r[i] for r in rows), *captured)
        state = results[:carries]
        found.append(results[carries:])
    if reverse:
        found.reverse()
    # Of no turns there is nothing to stack: the evaluator makes empty arrays of the type.
    columns = zip(*found, strict=True) if found else ()
    return (*state, *(np.stack(c) for c in columns))


# -- declarations ---------------------------------------------------------------------------------


def _gradient(op: str) -> Callable[[Any, Any], Sequence[Tensor | None]]:
    def gradient(g: Any, node: Any) -> Sequence[Tensor | None]:
        if op not in GRADIENTS:
            fail(GraphError, f"{op} is not differentiable", (node,))
        return GRADIENTS[op](g, node)

    return gradient


def _declare(
    name: str, attributes: tuple[str, ...], infer: Any, reference: Callable[..., Any], doc: str
) -> OpDef:
    return REGISTRY.add(
        OpDef(name, attributes, infer, reference, _gradient(name), Control(name), doc=doc)
    )


CALL = _declare("call", ("body",), _call_type, _call_reference, "The results of a graph function.")
COND = _declare(
    "cond", ("then", "otherwise"), _cond_type, _cond_reference, "The results of one of two bodies."
)
WHILE_LOOP = _declare(
    "while_loop",
    ("condition", "body", "carries"),
    _while_type,
    _while_reference,
    "The carries after the last turn, and the number of turns; the condition is asked before each.",
)
SCAN = _declare(
    "scan",
    ("body", "carries", "sequences", "length", "reverse"),
    _scan_type,
    _scan_reference,
    "The carries after `length` turns, and the other outputs of the body stacked, turn i in row i.",
)


def _item_type(inputs: tuple[Node, ...], attrs: tuple[Any, ...]) -> TensorType:
    index: int = attrs[0]
    whole = inputs[0].type
    if not isinstance(whole, TupleType) or not 0 <= index < len(whole.items):
        shape_error(f"get: no item {index} of {whole}", inputs)
    return whole.items[index]


def _item_reference(values: tuple[Array, ...], index: int) -> Array:
    return values[index]


GET = REGISTRY.add(
    OpDef(
        "get",
        ("index",),
        _item_type,
        _item_reference,
        None,
        Item(),
        doc="One result of an op that has several.",
    )
)


def results_of(op: OpDef, inputs: Sequence[Tensor], *attrs: Any) -> tuple[Tensor, ...]:
    """All results of a node of one of these ops, as tensors; attributes in their order."""
    return items(make(op, tuple(inputs), attrs))


def items(node: Node) -> tuple[Tensor, ...]:
    """The `get` nodes of a node with a tuple type."""
    assert isinstance(node.type, TupleType)
    return tuple([item(node, k) for k in range(len(node.type.items))])


def item(node: Node, index: int) -> Tensor:
    """One result of a node with a tuple type."""
    found = make(GET, (node,), (index,))
    assert isinstance(found, Tensor)
    return found
