"""Products of sequences that a loop computes turn by turn (floor 5).

A recurrent layer multiplies the rows of all turns by a matrix before its loop: one large product,
whose result goes through memory and is read again a turn at a time.  Where a turn has rows enough
for register tiles, reads the result in parts, and the matrices of the loop fit the second-level
caches together, the same product in the turn runs as fast, and what it gives never leaves the core
(`lower.parts`).  Every element is the same chain of the same values, so not a bit changes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from graphc.autodiff.substitution import replaced, substitutes
from graphc.base.dims import bounds, product
from graphc.base.target import Target
from graphc.ir.bindings import children
from graphc.ir.graph import Graph
from graphc.ir.node import Node, Tensor, make
from graphc.ir.provenance import derived_from
from graphc.lower.contraction import is_dot, letters
from graphc.lower.panels import WORTH_PANELS
from graphc.ops.control import SCAN, closed_body
from graphc.ops.families import Contraction, Elementwise
from graphc.ops.reshape import to_shape
from graphc.ops.state import placeholder
from graphc.ops.view import permute_dims

# Rows of a turn from which a product of them runs at the speed of one of all turns' rows.
ROWS = 32

# Second-level caches that the matrices of a loop may fill together.
CACHES = 2

_Fed = tuple[Tensor, Tensor]  # a placeholder of a body, and what feeds it
_UNKNOWN = 1 << 62  # bytes of what has no known size
_OWN = ("in_", "out_")  # names of inputs and outputs, which a new body gives anew


def by_turns(graph: Graph, target: Target) -> Graph:
    """The graph, and the bodies inside, with products of sequences moved into the loops that alone
    read them.
    """
    if not any(SCAN in g.ops for g in (graph, *graph.bodies)):
        return graph
    changed: dict[Graph, Graph] = {}
    for body in graph.bodies:  # inner ones first
        changed[body] = _one(body, changed, target)
    return _one(graph, changed, target)


def _one(graph: Graph, changed: dict[Graph, Graph], target: Target) -> Graph:
    uses = Counter(id(i) for node in graph.nodes for i in children(node))
    uses.update(id(t) for _, t in (*graph.outputs, *graph.updates, *graph.bindings))

    def visit(node: Node, inputs: tuple[Tensor, ...]) -> Node:
        if not inputs:
            return node
        attrs = tuple(changed[a] if isinstance(a, Graph) else a for a in node.attrs)
        with derived_from(node):
            new = make(node.op, inputs, attrs)  # the same node where nothing changed
            return _with_products(new, node, uses, target) if new.op is SCAN else new

    return graph.map(visit)


@dataclass(frozen=True)
class _Turn:
    """A product of rows of a sequence, and elementwise work on it, as one turn computes it.

    value: over placeholders; row: the one for a row, and the sequence; others: those for what all
    turns read.
    """

    value: Tensor
    row: _Fed
    others: tuple[_Fed, ...]


def _with_products(node: Node, old: Node, uses: Counter[int], target: Target) -> Node:
    """The scan with the products of its sequences inside, itself where none moves. old: the node
    that it was made of, whose operands `uses` counts.
    """
    body: Graph = node.attr("body")
    carries, sequences = node.attr("carries"), node.attr("sequences")
    filled = 0 if body.bindings else _shared_bytes(body, carries + sequences)
    if not filled:
        return node
    turns: dict[int, _Turn] = {}
    for k in range(carries, carries + sequences):
        place = body.inputs[k][1]
        if _bytes(node.inputs[k]) <= target.l2_bytes or not _is_read_in_parts(place, body):
            continue  # it stays in a cache as it is, or a kernel of its own would make it
        found = _turn_of(node.inputs[k], old.inputs[k], uses)
        more = 0 if found is None else sum(_bytes(t) for _, t in found.others)
        if found is not None and filled + more <= CACHES * target.l2_bytes:
            turns[k] = found
            filled += more
    return _scan_of(node, turns) if turns else node


def _is_read_in_parts(place: Tensor, body: Graph) -> bool:
    """Whether only slices read a tensor, or elementwise work on all of it that is so read, beside
    a product of the same columns.
    """
    whole, slices, products = {id(place)}, 0, 0
    for node in body.nodes:
        products += isinstance(node.op.form, Contraction) and node.type == place.type
        if not any(id(i) in whole for i in node.inputs):
            continue
        if node.op.name == "slice":
            slices += 1
        elif isinstance(node.op.form, Elementwise) and node.type == place.type:
            whole.add(id(node))
        else:
            return False
    return slices > 1 and products > 0 and not any(id(t) in whole for _, t in body.outputs)


def _scan_of(node: Node, turns: dict[int, _Turn]) -> Node:
    """The scan that computes some of its sequences, by number of the operand."""
    body: Graph = node.attr("body")
    places, operands = [t for _, t in body.inputs], list(node.inputs)
    mapping: dict[int, Node] = {}
    for k, found in turns.items():
        mapping[id(places[k])] = found.value
        places[k], operands[k] = found.row
    for place, tensor in (fed for found in turns.values() for fed in found.others):
        places.append(place)
        operands.append(tensor)
    outputs = [t for _, t in body.outputs]
    names = {n: t for n, t in body.names.items() if not n.startswith(_OWN)}
    new = substitutes([*outputs, *names.values()], mapping)
    kept = {name: new.get(id(t), t) for name, t in names.items()}
    inside = closed_body(places, replaced(outputs, new), body.name, kept)
    return make(node.op, tuple(operands), tuple(inside if a is body else a for a in node.attrs))


def _turn_of(node: Tensor, old: Tensor, uses: Counter[int]) -> _Turn | None:
    """A sequence as one turn computes it, None where it is no product that moves."""
    length = node.shape[0]
    chain: list[tuple[Tensor, int]] = []  # elementwise nodes, and which operand has the turns
    while isinstance(node.op.form, Elementwise) and uses[id(old)] == 1 and length != 1:
        many = [k for k, i in enumerate(node.inputs) if i.ndim == node.ndim and i.shape[0] != 1]
        if len(many) != 1:
            return None
        chain.append((node, many[0]))
        node, old = node.inputs[many[0]], old.inputs[many[0]]
    found = _product(node) if uses[id(old)] == 1 else None
    if found is None:
        return None
    value, others = found.value, list(found.others)
    for user, number in reversed(chain):
        operands = []
        for k, operand in enumerate(user.inputs):
            if k != number:
                rest = operand.shape[1:] if operand.ndim == user.ndim else operand.shape
                others.append((placeholder(rest, operand.dtype), to_shape(operand, rest)))
            operands.append(value if k == number else others[-1][0])
        value = _tensor(make(user.op, tuple(operands), user.attrs))
    return _Turn(value, found.row, tuple(others))


def _product(node: Tensor) -> _Turn | None:
    """A product of many rows a turn by a large matrix; None for anything else."""
    if not isinstance(node.op.form, Contraction) or not node.dtype.is_float or is_dot(node):
        return None
    *specs, out = letters(node)
    turn = out[0]
    owners = [k for k in (0, 1) if turn in specs[k]]
    if len(owners) != 1:
        return None
    (k,) = owners
    sequence, matrix = node.inputs[k], node.inputs[1 - k]
    own = dict(zip(out[1:], node.shape[1:], strict=True))
    low, _ = bounds(product(s for c, s in own.items() if c in specs[k]))
    across = any(c not in specs[k] for c in own)
    if low is None or low < ROWS or not across or _bytes(matrix) < WORTH_PANELS:
        return None
    at = specs[k].index(turn)
    order = (at, *(d for d in range(sequence.ndim) if d != at))
    rows = permute_dims(sequence, order) if at else sequence
    places = [placeholder(rows.shape[1:], rows.dtype), placeholder(matrix.shape, matrix.dtype)]
    specs[k] = specs[k].replace(turn, "")
    operands = tuple(places if k == 0 else reversed(places))
    value = _tensor(make(node.op, operands, (f"{specs[0]},{specs[1]}->{out[1:]}",)))
    return _Turn(value, (places[0], rows), ((places[1], matrix),))


def _tensor(node: Node) -> Tensor:
    assert isinstance(node, Tensor)
    return node


def _shared_bytes(body: Graph, moving: int) -> int:
    """Bytes of what products of a body read and all turns share. moving: how many inputs change
    from turn to turn.
    """
    changing = {id(t) for _, t in body.inputs[:moving]}
    shared: dict[int, Tensor] = {}
    for node in body.nodes:
        if any(id(i) in changing for i in node.inputs):
            changing.add(id(node))
            if isinstance(node.op.form, Contraction):
                shared.update({id(i): i for i in node.inputs if id(i) not in changing})
    return sum(map(_bytes, shared.values()))


def _bytes(tensor: Tensor) -> int:
    size = product(tensor.shape)
    return size * tensor.dtype.itemsize if isinstance(size, int) else _UNKNOWN
